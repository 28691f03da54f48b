//! Metrics of the webhook's port: connections, waiting, and what is refused before it becomes a decision.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::bare;

/// Upper bounds of the queue's histogram, in seconds: a review whose body came with its headers waits for microseconds,
/// and the API server gives up after seconds.
const QUEUE_BUCKETS: [f64; 11] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 5.0,
];

/// Why a connection or a request is refused. A closed set, so that no input can make a new time series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// There were too many connections.
    Connections,
    /// The TLS handshake failed, or took too long.
    Handshake,
    /// The body stopped arriving, or took too long.
    SlowBody,
    /// The bodies of other requests left no memory.
    Memory,
    /// The body is larger than any review.
    TooLarge,
    /// The body ended early.
    Incomplete,
    /// The content type is not JSON.
    NotJson,
    /// The body is not an `AdmissionReview`.
    NotAReview,
    /// The answer could not be written.
    Internal,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Connections,
        Self::Handshake,
        Self::SlowBody,
        Self::Memory,
        Self::TooLarge,
        Self::Incomplete,
        Self::NotJson,
        Self::NotAReview,
        Self::Internal,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Handshake => "handshake",
            Self::SlowBody => "slow-body",
            Self::Memory => "memory",
            Self::TooLarge => "too-large",
            Self::Incomplete => "incomplete",
            Self::NotJson => "not-json",
            Self::NotAReview => "not-a-review",
            Self::Internal => "internal",
        }
    }
}

impl EncodeLabelValue for Refusal {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), fmt::Error> {
        self.as_str().encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    reason: Refusal,
}

/// The metrics of the webhook's port.
#[derive(Debug)]
pub struct PortMetrics {
    queue: Histogram,
    connections: Gauge,
    refused: Family<RefusalLabels, Counter>,
}

impl PortMetrics {
    /// The metrics, at zero, in a registry without a prefix.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            queue: Histogram::new(QUEUE_BUCKETS),
            connections: Gauge::default(),
            refused: Family::default(),
        };
        // A series that begins with its first refusal would hide that one from increase().
        for reason in Refusal::ALL {
            metrics.refused.get_or_create(&RefusalLabels { reason }).inc_by(0);
        }
        registry.register(
            "pullpass_admission_queue_seconds",
            "Time from the first byte of a review to the start of work on it",
            metrics.queue.clone(),
        );
        registry.register(
            "pullpass_connections",
            "Open connections to the webhook's port",
            metrics.connections.clone(),
        );
        registry.register(
            bare("pullpass_requests_refused_total"),
            "Connections and requests that were refused before a review was decided",
            metrics.refused.clone(),
        );
        metrics
    }

    /// Observes how long a review waited before work on it started.
    pub fn queued(&self, waited: Duration) {
        self.queue.observe(waited.as_secs_f64());
    }

    /// Counts a connection that opened.
    pub fn connection_opened(&self) {
        self.connections.inc();
    }

    /// Counts a connection that closed.
    pub fn connection_closed(&self) {
        self.connections.dec();
    }

    /// Counts a refusal.
    pub fn refused(&self, reason: Refusal) {
        self.refused.get_or_create(&RefusalLabels { reason }).inc();
    }
}

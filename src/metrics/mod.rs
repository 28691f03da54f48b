//! Metrics in the Prometheus text format (`docs/operations.md`).

pub mod port;
pub mod process;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use crate::metrics::port::PortMetrics;
use crate::metrics::process::ProcessCollector;
use crate::policy::coverage::{State, Summary};
use crate::policy::decision::Outcome;
use crate::policy::request::Operation;
use crate::policy::rules::{Action, Rule};

/// Upper bounds of the admission histogram, in seconds: an answer takes microseconds, and the API server waits for
/// seconds.
const ADMISSION_BUCKETS: [f64; 12] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0,
];

/// Upper bounds of the histograms of Secrets, in seconds: a write takes milliseconds, and waits for seconds.
const WRITE_BUCKETS: [f64; 11] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    /// What the webhook's port takes and refuses.
    pub port: PortMetrics,
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    duration: Histogram,
    violations: Family<ViolationLabels, Counter>,
    certificate_expiry: Gauge,
    refreshes: Family<RefreshLabels, Counter>,
    credential_expiry: Family<RegistryLabels, Gauge>,
    credential_failing: Family<RegistryLabels, Gauge>,
    namespaces: Family<NamespaceLabels, Gauge>,
    write_duration: Histogram,
    ready_lag: Histogram,
    leader: Gauge,
    unfenced: Gauge,
    uncovered: Gauge,
    uncovered_by: Family<UncoveredLabels, Gauge>,
    dropped: Family<DropLabels, Counter>,
}

/// A queue between admission and what acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Pull secrets that are to be written before the kubelet asks for them.
    Demand,
    /// Denials that are to be told to the Pod's owner.
    DenialEvent,
}

impl Queue {
    /// The queue's name, as metrics and the log have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Demand => "demand",
            Self::DenialEvent => "denial-event",
        }
    }
}

/// Why a queue dropped something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Too much waited already.
    Full,
    /// The namespace watch did not bring the namespace within seconds.
    NamespaceUnknown,
    /// It could not be done within minutes.
    Expired,
    /// The owner that the Pod names is no object that can exist.
    OwnerInvalid,
}

impl DropReason {
    /// The reason's name, as metrics and the log have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::NamespaceUnknown => "namespace-unknown",
            Self::Expired => "expired",
            Self::OwnerInvalid => "owner-invalid",
        }
    }
}

/// A value out of a closed set, so that no input can make a new time series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Word(&'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), fmt::Error> {
        self.0.encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: Word,
    decision: Word,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ViolationLabels {
    rule: Word,
    action: Word,
}

/// An AcrRegistry's name: as many as there are objects, which only administrators make.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RegistryLabels {
    registry: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefreshLabels {
    registry: String,
    result: Word,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NamespaceLabels {
    registry: String,
    state: Word,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DropLabels {
    queue: Word,
    reason: Word,
}

/// As many as there are namespaces with uncovered Pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UncoveredLabels {
    namespace: String,
    /// Empty where none is attached: hosts are what users write.
    registry: String,
    reason: Word,
}

impl Metrics {
    /// The metrics, at zero. `audit_dropped` is asked when they are read.
    pub fn new(audit_dropped: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(AuditDrops(Box::new(audit_dropped))));
        registry.register_collector(Box::new(ProcessCollector));
        let port = PortMetrics::register(&mut registry);
        let dropped = added(
            &mut registry,
            "pullpass_queue_dropped",
            "Work that a full queue, or one that waited too long, dropped",
            Family::default(),
        );
        let pullpass = registry.sub_registry_with_prefix("pullpass");
        pullpass.register(
            "build",
            "What is running",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        Self {
            port,
            requests: added(
                pullpass,
                "admission_requests",
                "Admission reviews answered",
                Family::default(),
            ),
            duration: added(
                pullpass,
                "admission_duration_seconds",
                "From the first byte of a review to its answer",
                Histogram::new(ADMISSION_BUCKETS),
            ),
            violations: added(
                pullpass,
                "policy_violations",
                "Rules that admitted or refused Pods violated",
                Family::default(),
            ),
            certificate_expiry: added(
                pullpass,
                "webhook_certificate_expiry_timestamp_seconds",
                "When the certificate that is served ends",
                Gauge::default(),
            ),
            refreshes: added(
                pullpass,
                "credential_refresh",
                "Attempts to mint a credential",
                Family::default(),
            ),
            credential_expiry: added(
                pullpass,
                "credential_expiry_timestamp_seconds",
                "When the credential in use ends",
                Family::default(),
            ),
            credential_failing: added(
                pullpass,
                "credential_failing",
                "Whether the last attempt to mint a credential failed, or none can be made",
                Family::default(),
            ),
            namespaces: added(
                pullpass,
                "namespaces",
                "Namespaces that should have the pull secret",
                Family::default(),
            ),
            write_duration: added(
                pullpass,
                "secret_write_duration_seconds",
                "One write of a pull secret",
                Histogram::new(WRITE_BUCKETS),
            ),
            ready_lag: added(
                pullpass,
                "secret_ready_lag_seconds",
                "From the answer to an admission to its pull secret",
                Histogram::new(WRITE_BUCKETS),
            ),
            leader: added(pullpass, "leader", "Whether this process leads", Gauge::default()),
            unfenced: added(
                pullpass,
                "unfenced",
                "Whether the API server would take Secrets from pullpass that are not its own, as the leader last saw it; -1 where that is unknown",
                Gauge::default(),
            ),
            uncovered: added(
                pullpass,
                "uncovered_pods",
                "Running Pods with an image on ACR and no pull secret for it, as the leader last saw them",
                Gauge::default(),
            ),
            uncovered_by: added(
                pullpass,
                "uncovered_pods_by_reason",
                "The same, by namespace, AcrRegistry and reason",
                Family::default(),
            ),
            dropped,
            registry,
        }
    }

    /// Counts what a queue dropped.
    pub fn dropped(&self, queue: Queue, reason: DropReason, dropped: usize) {
        let labels = DropLabels {
            queue: Word(queue.as_str()),
            reason: Word(reason.as_str()),
        };
        let dropped = u64::try_from(dropped).unwrap_or(u64::MAX);
        self.dropped.get_or_create(&labels).inc_by(dropped);
    }

    /// Counts an answer.
    pub fn admission(&self, operation: Operation, outcome: Outcome, took: Duration) {
        let labels = RequestLabels {
            operation: Word(operation.as_str()),
            decision: Word(outcome.as_str()),
        };
        self.requests.get_or_create(&labels).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts a violation.
    pub fn violation(&self, rule: Rule, action: Action) {
        let labels = ViolationLabels {
            rule: Word(rule.as_str()),
            action: Word(action.as_str()),
        };
        self.violations.get_or_create(&labels).inc();
    }

    /// Takes the end of the certificate that is served, in seconds of Unix time.
    pub fn certificate_expires(&self, timestamp: i64) {
        self.certificate_expiry.set(timestamp);
    }

    /// Counts an attempt to mint a credential.
    pub fn refreshed(&self, registry: &str, succeeded: bool) {
        let result = Word(if succeeded { "success" } else { "failure" });
        self.refreshes
            .get_or_create(&RefreshLabels {
                registry: registry.to_owned(),
                result,
            })
            .inc();
    }

    /// Takes the end of a registry's credential, if there is one that ends.
    pub fn credential_expires(&self, registry: &str, at: Option<Timestamp>) {
        let labels = RegistryLabels {
            registry: registry.to_owned(),
        };
        match at {
            Some(at) => {
                self.credential_expiry.get_or_create(&labels).set(at.as_second());
            }
            None => {
                self.credential_expiry.remove(&labels);
            }
        }
    }

    /// Takes whether the last attempt to mint a registry's credential failed, or none can be made.
    pub fn credential_fails(&self, registry: &str, fails: bool) {
        let labels = RegistryLabels {
            registry: registry.to_owned(),
        };
        self.credential_failing
            .get_or_create(&labels)
            .set(i64::from(fails));
    }

    /// Takes in how many namespaces a registry's pull secret is, and in how many it could not be written.
    pub fn namespaces(&self, registry: &str, served: i64, failed: i64) {
        for (state, count) in [("served", served), ("failed", failed)] {
            let labels = NamespaceLabels {
                registry: registry.to_owned(),
                state: Word(state),
            };
            self.namespaces.get_or_create(&labels).set(count);
        }
    }

    /// Ends the series of a registry that is not attached any more.
    pub fn detached(&self, registry: &str) {
        self.credential_expires(registry, None);
        self.credential_failing.remove(&RegistryLabels {
            registry: registry.to_owned(),
        });
        for state in ["served", "failed"] {
            self.namespaces.remove(&NamespaceLabels {
                registry: registry.to_owned(),
                state: Word(state),
            });
        }
        for result in ["success", "failure"] {
            self.refreshes.remove(&RefreshLabels {
                registry: registry.to_owned(),
                result: Word(result),
            });
        }
    }

    /// Takes how long a write of a pull secret took.
    pub fn secret_written(&self, took: Duration) {
        self.write_duration.observe(took.as_secs_f64());
    }

    /// Takes how long after the answer to an admission its pull secret was there.
    pub fn secret_ready(&self, lag: Duration) {
        self.ready_lag.observe(lag.as_secs_f64());
    }

    /// Takes whether this process leads. Who does not, knows nothing of credentials, namespaces and Pods.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
        if !leads {
            self.covers(&Summary::default());
            self.unfenced(Some(false));
            self.credential_expiry.clear();
            self.credential_failing.clear();
            self.namespaces.clear();
        }
    }

    /// Takes whether the API server would take Secrets from pullpass that are not its own; nothing where that is unknown.
    pub fn unfenced(&self, is_open: Option<bool>) {
        self.unfenced.set(is_open.map_or(-1, i64::from));
    }

    /// Takes how running Pods stand.
    pub fn covers(&self, summary: &Summary) {
        self.uncovered
            .set(i64::try_from(summary.uncovered).unwrap_or(i64::MAX));
        let mut counts: HashMap<UncoveredLabels, i64> = HashMap::new();
        for (group, pods) in &summary.groups {
            let State::Uncovered(gap) = group.state else {
                continue;
            };
            let labels = UncoveredLabels {
                namespace: group.namespace.clone(),
                registry: group.registry.clone().unwrap_or_default(),
                reason: Word(gap.as_str()),
            };
            *counts.entry(labels).or_default() += i64::try_from(*pods).unwrap_or(i64::MAX);
        }
        self.uncovered_by.clear();
        for (labels, count) in counts {
            self.uncovered_by.get_or_create(&labels).set(count);
        }
    }

    /// All metrics as text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// The metric, after it was added to a registry.
fn added<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

struct AuditDrops(Box<dyn Fn() -> u64 + Send + Sync>);

impl fmt::Debug for AuditDrops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditDrops")
    }
}

impl prometheus_client::collector::Collector for AuditDrops {
    fn encode(
        &self,
        mut encoder: prometheus_client::encoding::DescriptorEncoder<'_>,
    ) -> Result<(), fmt::Error> {
        use prometheus_client::encoding::EncodeMetric;
        use prometheus_client::metrics::counter::ConstCounter;
        let counter = ConstCounter::new((self.0)());
        let encoder = encoder.encode_descriptor(
            "pullpass_audit_dropped",
            "Audit records that were lost",
            None,
            counter.metric_type(),
        )?;
        counter.encode(encoder)
    }
}

//! Metrics in the Prometheus text format (`docs/operations.md`).

mod audit_drops;
pub mod azure;
mod conditions;
pub mod index;
pub mod port;
pub mod process;
pub mod registries;
mod requests;

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use crate::metrics::audit_drops::AuditDrops;
use crate::metrics::azure::AzureMetrics;
use crate::metrics::index::{IndexMetrics, LeftOutCounts};
use crate::metrics::port::PortMetrics;
use crate::metrics::process::ProcessCollector;
use crate::metrics::registries::RegistryMetrics;
use crate::metrics::requests::RequestCounters;
use crate::policy::coverage::UncoveredGroup;
use crate::policy::decision::{Outcome, Waited};
use crate::policy::request::Operation;
use crate::policy::rules::{Action, Rule};

/// Upper bounds of the admission histogram, in seconds: an answer takes microseconds, and the API server waits for
/// seconds.
const ADMISSION_BUCKETS: [f64; 12] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0,
];

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    /// What the webhook's port takes and refuses.
    pub port: PortMetrics,
    /// Credentials and pull secrets.
    pub registries: RegistryMetrics,
    /// Requests to Azure.
    pub azure: AzureMetrics,
    /// What the API server's own policies are told.
    pub index: IndexMetrics,
    registry: Registry,
    requests: RequestCounters,
    duration: Histogram,
    violations: Family<ViolationLabels, Counter>,
    waited: Family<WaitLabels, Counter>,
    certificate_expiry: Gauge,
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
    /// What is to be told to the owners of Pods.
    OwnerEvent,
}

impl Queue {
    /// The queue's name, as metrics and the log have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Demand => "demand",
            Self::OwnerEvent => "owner-event",
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

/// How a kubelet failed with a pull secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PullFailure {
    /// It did not find the pull secret.
    SecretMissing,
    /// It could not pull, for whatever reason.
    PullFailed,
}

impl PullFailure {
    /// The failure's name, as metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SecretMissing => "secret-missing",
            Self::PullFailed => "pull-failed",
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
struct ViolationLabels {
    rule: Word,
    action: Word,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WaitLabels {
    r#for: Word,
    result: Word,
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
        let registries = RegistryMetrics::register(&mut registry);
        let azure = AzureMetrics::register(&mut registry);
        let index = IndexMetrics::register(&mut registry);
        let dropped = added(
            &mut registry,
            "pullpass_queue_dropped_total",
            "Work that was dropped because its queue was full, or because it waited too long",
            Family::default(),
        );
        registry.register(
            bare("pullpass_build_info"),
            "The version of pullpass that is running",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        let to = &mut registry;
        Self {
            port,
            requests: RequestCounters::new(added(
                to,
                "pullpass_admission_requests_total",
                "Admission reviews answered",
                Family::default(),
            )),
            duration: added(
                to,
                "pullpass_admission_duration_seconds",
                "Time from the first byte of a review to its answer",
                Histogram::new(ADMISSION_BUCKETS),
            ),
            violations: added(
                to,
                "pullpass_policy_violations_total",
                "Violations of rules by Pods, whether admitted or refused",
                Family::default(),
            ),
            waited: added(
                to,
                "pullpass_admission_waited_total",
                "Answers that waited for the API server: the caches lacked an AcrRegistry, an AcrPullBinding, a namespace's labels or a ServiceAccount, or a pull secret was not written yet",
                Family::default(),
            ),
            certificate_expiry: added(
                to,
                "pullpass_webhook_certificate_expiry_timestamp_seconds",
                "Time at which the served certificate expires, in seconds since the Unix epoch",
                Gauge::default(),
            ),
            registries,
            azure,
            leader: added(
                to,
                "pullpass_leader",
                "1 if this process is the leader",
                Gauge::default(),
            ),
            unfenced: added(
                to,
                "pullpass_unfenced",
                "1 if the API server would let pullpass write Secrets that it does not own, 0 if not, -1 if \
                 that is unknown \
                 (leader only)",
                Gauge::default(),
            ),
            index,
            uncovered: added(
                to,
                "pullpass_uncovered_pods",
                "Running Pods with an image on ACR and no pull secret for it (leader only)",
                Gauge::default(),
            ),
            uncovered_by: added(
                to,
                "pullpass_uncovered_pods_by_reason",
                "Running Pods with an image on ACR and no pull secret for it, by namespace, AcrRegistry and reason",
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
        self.requests.count(operation, outcome);
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

    /// Counts what an answer waited for.
    pub fn waited(&self, waited: Waited) {
        for (word, outcome) in waited.outcomes() {
            let labels = WaitLabels {
                r#for: Word(word),
                result: Word(outcome.as_str()),
            };
            self.waited.get_or_create(&labels).inc();
        }
    }

    /// Takes the expiry of the certificate that is served, in seconds of Unix time.
    pub fn certificate_expires(&self, timestamp: i64) {
        self.certificate_expiry.set(timestamp);
    }

    /// Takes whether this process leads. Who does not, knows nothing of credentials, namespaces and Pods.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
        if !leads {
            self.set_uncovered(0, []);
            self.uncovered_by.clear();
            self.set_unfenced(Some(false));
            self.index.set(false, LeftOutCounts::default());
            self.registries.clear();
        }
    }

    /// Takes whether the API server would let pullpass write Secrets that it does not own; nothing if that is unknown.
    pub fn set_unfenced(&self, is_open: Option<bool>) {
        self.unfenced.set(is_open.map_or(-1, i64::from));
    }

    /// Takes how many running Pods are uncovered, and how many are of the groups of which that changed.
    pub fn set_uncovered(&self, pods: u64, changed: impl IntoIterator<Item = (UncoveredGroup, u64)>) {
        self.uncovered.set(i64::try_from(pods).unwrap_or(i64::MAX));
        for (group, pods) in changed {
            let labels = UncoveredLabels {
                namespace: group.namespace.to_string(),
                registry: group.registry.as_deref().unwrap_or_default().to_owned(),
                reason: Word(group.gap.as_str()),
            };
            if pods == 0 {
                self.uncovered_by.remove(&labels);
            } else {
                let pods = i64::try_from(pods).unwrap_or(i64::MAX);
                self.uncovered_by.get_or_create(&labels).set(pods);
            }
        }
    }

    /// All metrics as text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// The metric, after it was added to a registry under its whole name.
fn added<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(bare(name), help, metric.clone());
    metric
}

/// A name without the suffix that the encoder appends to those of counters and information. The source has whole names,
/// so that a name in an alert or a dashboard is found in it.
fn bare(name: &str) -> &str {
    let cut = name.strip_suffix("_total").or_else(|| name.strip_suffix("_info"));
    cut.unwrap_or(name)
}

#[cfg(test)]
mod tests;

//! Metrics of `AcrRegistries`: credentials, their conditions, and pull secrets in namespaces.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::conditions::ConditionMetrics;
use super::{PullFailure, Word, added};
use crate::api::reason::Reason;

/// Upper bounds of the histograms of Secrets, in seconds: a write takes milliseconds, and waits for seconds.
const WRITE_BUCKETS: [f64; 11] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// What is measured of `AcrRegistries`.
#[derive(Debug)]
pub struct RegistryMetrics {
    refreshes: Family<RefreshLabels, Counter>,
    credential_expiry: Family<RegistryLabels, Gauge>,
    credential_failing: Family<RegistryLabels, Gauge>,
    conditions: ConditionMetrics,
    namespaces: Family<NamespaceLabels, Gauge>,
    writes: Family<WriteLabels, Counter>,
    write_duration: Histogram,
    ready_lag: Histogram,
    rewrites: Family<RewriteLabels, Counter>,
}

/// The name of an AcrRegistry, or what an AcrPullBinding is known by: as many as there are objects. The series of one that is
/// deleted end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RegistryLabels {
    registry: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefreshLabels {
    registry: String,
    result: Word,
    /// Why it failed; empty if it did not.
    reason: Word,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NamespaceLabels {
    registry: String,
    state: Word,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    result: Word,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RewriteLabels {
    reason: Word,
}

/// The result of a write of a pull secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteOutcome {
    /// It is written.
    Written,
    /// A Secret of somebody else has the name.
    NameConflict,
    /// The namespace is not there, or is about to go.
    NamespaceGone,
    /// The API server refused it.
    Refused,
    /// The API server could not be reached.
    Unreachable,
    /// The API server did not answer in time.
    Timeout,
}

impl WriteOutcome {
    /// Every outcome.
    pub const ALL: [Self; 6] = [
        Self::Written,
        Self::NameConflict,
        Self::NamespaceGone,
        Self::Refused,
        Self::Unreachable,
        Self::Timeout,
    ];

    /// The outcome's name, as metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::NameConflict => "name-conflict",
            Self::NamespaceGone => "namespace-gone",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
        }
    }
}

/// The series of all outcomes, so that the first of each is an increase.
fn writes_at_zero() -> Family<WriteLabels, Counter> {
    let writes = Family::<WriteLabels, Counter>::default();
    for outcome in WriteOutcome::ALL {
        let result = Word(outcome.as_str());
        let _ = writes.get_or_create(&WriteLabels { result });
    }
    writes
}

/// The series of all reasons, so that the first rewrite is an increase.
fn rewrites_at_zero() -> Family<RewriteLabels, Counter> {
    let rewrites = Family::<RewriteLabels, Counter>::default();
    for failure in [PullFailure::SecretMissing, PullFailure::PullFailed] {
        let reason = Word(failure.as_str());
        let _ = rewrites.get_or_create(&RewriteLabels { reason });
    }
    rewrites
}

fn refresh_labels(registry: &str, failure: Option<Reason>) -> RefreshLabels {
    RefreshLabels {
        registry: registry.to_owned(),
        result: Word(if failure.is_none() { "success" } else { "failure" }),
        reason: Word(failure.map_or("", Reason::as_str)),
    }
}

impl RegistryMetrics {
    /// The metrics, at zero.
    pub(super) fn register(to: &mut Registry) -> Self {
        let conditions = ConditionMetrics::default();
        to.register_collector(Box::new(conditions.clone()));
        Self {
            refreshes: added(
                to,
                "pullpass_credential_refresh_total",
                "Attempts to mint a credential, or to test a user name and password",
                Family::default(),
            ),
            credential_expiry: added(
                to,
                "pullpass_credential_expiry_timestamp_seconds",
                "Time at which the credential in use expires, in seconds since the Unix epoch",
                Family::default(),
            ),
            credential_failing: added(
                to,
                "pullpass_credential_failing",
                "1 while the last attempt to mint a credential failed, or no attempt can be made",
                Family::default(),
            ),
            conditions,
            namespaces: added(
                to,
                "pullpass_namespaces",
                "Namespaces that have the pull secret (served), and those in which it could not be written (failed)",
                Family::default(),
            ),
            writes: added(
                to,
                "pullpass_secret_writes_total",
                "Writes of pull secrets, by their result",
                writes_at_zero(),
            ),
            write_duration: added(
                to,
                "pullpass_secret_write_duration_seconds",
                "Duration of one write of a pull secret",
                Histogram::new(WRITE_BUCKETS),
            ),
            ready_lag: added(
                to,
                "pullpass_secret_ready_lag_seconds",
                "Time from the answer to a review, or from the report of a failed pull, until the pull secret is written",
                Histogram::new(WRITE_BUCKETS),
            ),
            rewrites: added(
                to,
                "pullpass_secret_rewrites_total",
                "Pull secrets that are written again because a kubelet could not pull",
                rewrites_at_zero(),
            ),
        }
    }

    /// Counts an attempt to mint a credential, with the reason why it failed.
    pub fn count_refresh(&self, registry: &str, failure: Option<Reason>) {
        self.refreshes
            .get_or_create(&refresh_labels(registry, failure))
            .inc();
    }

    /// Takes the expiry of a registry's credential, if there is one that expires.
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

    /// Takes all conditions of a registry.
    pub fn conditions(&self, registry: &str, conditions: &[Condition]) {
        self.conditions.set(registry, conditions);
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
        self.conditions.remove(registry);
        for failure in Reason::ALL.map(Some).into_iter().chain([None]) {
            self.refreshes.remove(&refresh_labels(registry, failure));
        }
    }

    /// Takes the result of a write of a pull secret, and how long it took.
    pub fn secret_written(&self, outcome: WriteOutcome, took: Duration) {
        let result = Word(outcome.as_str());
        self.writes.get_or_create(&WriteLabels { result }).inc();
        self.write_duration.observe(took.as_secs_f64());
    }

    /// Counts a pull secret that is written again because a kubelet could not pull.
    pub fn count_rewrite(&self, failure: PullFailure) {
        let reason = Word(failure.as_str());
        self.rewrites.get_or_create(&RewriteLabels { reason }).inc();
    }

    /// Takes how long after the answer to an admission, or the report of a failed pull, the pull secret was there.
    pub fn secret_ready(&self, lag: Duration) {
        self.ready_lag.observe(lag.as_secs_f64());
    }

    /// Ends every series that only a leader knows.
    pub(super) fn clear(&self) {
        self.credential_expiry.clear();
        self.credential_failing.clear();
        self.conditions.clear();
        self.namespaces.clear();
    }
}

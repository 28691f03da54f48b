//! Metrics of the `AcrIndex`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::added;

/// What the leader knows of the index.
#[derive(Debug)]
pub struct IndexMetrics {
    failing: Gauge,
    recreated: Counter,
    registries_left_out: Gauge,
    namespaces_left_out: Gauge,
    strict_namespaces_left_out: Gauge,
}

/// How much has no room in an index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOutCounts {
    /// `AcrRegistries`.
    pub registries: usize,
    /// Namespaces with `AcrPullBindings`.
    pub namespaces: usize,
    /// Namespaces with `ServiceAccounts` that enforce mountable secrets.
    pub strict_namespaces: usize,
}

impl IndexMetrics {
    /// The metrics of an index that has room for everything.
    pub(super) fn register(to: &mut Registry) -> Self {
        Self {
            failing: added(
                to,
                "pullpass_index_failing",
                "1 while the last write of the AcrIndex failed",
                Gauge::default(),
            ),
            recreated: added(
                to,
                "pullpass_index_recreated_total",
                "How often the AcrIndex was missing and was created again",
                Counter::default(),
            ),
            registries_left_out: added(
                to,
                "pullpass_index_registries_left_out",
                "AcrRegistries for which the AcrIndex has no room",
                Gauge::default(),
            ),
            namespaces_left_out: added(
                to,
                "pullpass_index_namespaces_left_out",
                "Namespaces whose AcrPullBindings do not fit into the AcrIndex",
                Gauge::default(),
            ),
            strict_namespaces_left_out: added(
                to,
                "pullpass_index_strict_namespaces_left_out",
                "Namespaces whose ServiceAccounts that enforce mountable secrets do not fit into the AcrIndex",
                Gauge::default(),
            ),
        }
    }

    /// Takes whether the last write failed, and how much has no room.
    pub fn set(&self, fails: bool, left_out: LeftOutCounts) {
        let LeftOutCounts {
            registries,
            namespaces,
            strict_namespaces,
        } = left_out;
        self.failing.set(i64::from(fails));
        for (gauge, count) in [
            (&self.registries_left_out, registries),
            (&self.namespaces_left_out, namespaces),
            (&self.strict_namespaces_left_out, strict_namespaces),
        ] {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Counts an index that somebody deleted, and that is there again.
    pub fn recreated(&self) {
        self.recreated.inc();
    }
}

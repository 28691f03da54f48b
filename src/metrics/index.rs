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
                "Namespaces for whose AcrPullBindings the AcrIndex has no room",
                Gauge::default(),
            ),
        }
    }

    /// Takes whether the last write failed, and for how many registries there is no room, and for the bindings of how many
    /// namespaces.
    pub fn set(&self, fails: bool, registries: usize, namespaces: usize) {
        self.failing.set(i64::from(fails));
        let count = |left_out| i64::try_from(left_out).unwrap_or(i64::MAX);
        self.registries_left_out.set(count(registries));
        self.namespaces_left_out.set(count(namespaces));
    }

    /// Counts an index that somebody deleted, and that is there again.
    pub fn recreated(&self) {
        self.recreated.inc();
    }
}

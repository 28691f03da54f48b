//! The conditions of `AcrRegistries` and `AcrPullBindings`, as their statuses have them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::bare;

/// The statuses that a Kubernetes condition may have.
const STATUSES: [&str; 3] = ["True", "False", "Unknown"];

/// The conditions, by the registry's name. Each has a series of every status: that of its own status is 1 and has its
/// reason, the others are 0 and have none, so that a reason that ends leaves no series.
#[derive(Debug, Default, Clone)]
pub(super) struct ConditionMetrics(Arc<Mutex<BTreeMap<String, Vec<ConditionSeries>>>>);

/// What a condition's series say.
#[derive(Debug)]
struct ConditionSeries {
    kind: String,
    status: String,
    reason: String,
}

impl ConditionMetrics {
    /// Takes all conditions of a registry.
    pub(super) fn set(&self, registry: &str, conditions: &[Condition]) {
        let series = conditions.iter().map(|condition| ConditionSeries {
            kind: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
        });
        self.with(|known| known.insert(registry.to_owned(), series.collect()));
    }

    /// Ends the series of a registry.
    pub(super) fn remove(&self, registry: &str) {
        self.with(|known| known.remove(registry));
    }

    /// Ends every series.
    pub(super) fn clear(&self) {
        self.with(BTreeMap::clear);
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, Vec<ConditionSeries>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Collector for ConditionMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut encoder = encoder.encode_descriptor(
            bare("pullpass_registry_condition"),
            "1 for the status that a condition of an AcrRegistry or an AcrPullBinding has, with its reason, else 0 (leader only)",
            None,
            MetricType::Gauge,
        )?;
        self.with(|known| {
            for (registry, conditions) in known {
                for condition in conditions {
                    for status in STATUSES {
                        let is_its = condition.status == status;
                        let labels = [
                            ("registry", registry.as_str()),
                            ("type", &condition.kind),
                            ("status", status),
                            ("reason", if is_its { &condition.reason } else { "" }),
                        ];
                        ConstGauge::new(i64::from(is_its)).encode(encoder.encode_family(&labels)?)?;
                    }
                }
            }
            Ok(())
        })
    }
}

//! How many audit records were lost, which the log itself counts.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;

use super::bare;

/// Asks the log whenever metrics are read.
pub(super) struct AuditDrops(pub(super) Box<dyn Fn() -> u64 + Send + Sync>);

impl fmt::Debug for AuditDrops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditDrops")
    }
}

impl Collector for AuditDrops {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counter = ConstCounter::new((self.0)());
        let encoder = encoder.encode_descriptor(
            bare("pullpass_audit_dropped_total"),
            "Audit records that were lost",
            None,
            counter.metric_type(),
        )?;
        counter.encode(encoder)
    }
}

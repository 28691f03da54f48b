//! Metrics of requests to Azure.

use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Word, added};

/// Upper bounds of the histogram, in seconds: an answer takes tenths of a second, and is waited for ten seconds.
const REQUEST_BUCKETS: [f64; 9] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What is measured of requests to Azure. No label has a host: there are as many of those as there are registries.
#[derive(Debug)]
pub struct AzureMetrics {
    requests: Family<RequestLabels, Counter>,
    duration: Family<ServiceLabels, Histogram, fn() -> Histogram>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    service: Word,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    service: Word,
}

impl AzureMetrics {
    /// The metrics, without a series.
    pub(super) fn register(to: &mut Registry) -> Self {
        Self {
            requests: added(
                to,
                "pullpass_azure_requests_total",
                "Requests to Entra ID, the managed identity endpoint and registries, by the status of the answer, \
                 or the reason why there is none",
                Family::default(),
            ),
            duration: added(
                to,
                "pullpass_azure_request_duration_seconds",
                "Duration of a request to Entra ID, the managed identity endpoint or a registry, until the last byte of its answer",
                Family::new_with_constructor(|| Histogram::new(REQUEST_BUCKETS)),
            ),
        }
    }

    /// Counts a request: the service that it was for, and the status of the answer, or in one word why there was none.
    pub fn requested(
        &self,
        service: &'static str,
        outcome: Result<StatusCode, &'static str>,
        took: Duration,
    ) {
        let service = Word(service);
        let code = outcome.map_or_else(str::to_owned, code);
        self.requests
            .get_or_create(&RequestLabels { service, code })
            .inc();
        self.duration
            .get_or_create(&ServiceLabels { service })
            .observe(took.as_secs_f64());
    }
}

/// The label of a status. One that no standard knows is told by its class, so that no server can make hundreds of series.
fn code(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(_) => status.as_str().to_owned(),
        None => format!("{}xx", status.as_u16() / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_no_standard_knows_is_told_by_its_class() {
        for (status, label) in [(200, "200"), (429, "429"), (599, "5xx"), (999, "9xx")] {
            assert_eq!(code(StatusCode::from_u16(status).unwrap()), label);
        }
        let all = (100..1000).map(|status| code(StatusCode::from_u16(status).unwrap()));
        let labels: std::collections::BTreeSet<_> = all.collect();
        assert!(labels.len() < 100, "{labels:?}");
    }
}

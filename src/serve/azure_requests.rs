//! Counts requests to Azure: neither does the client know metrics, nor do metrics know the client.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::http::{HttpFailure, RequestObserver, Service};
use crate::metrics::Metrics;

/// Has the metrics count requests.
pub(super) struct AzureRequests(pub(super) Arc<Metrics>);

impl RequestObserver for AzureRequests {
    fn ended(&self, service: Service, outcome: Result<StatusCode, &HttpFailure>, took: Duration) {
        let outcome = outcome.map_err(HttpFailure::word);
        self.0.azure.requested(service.as_str(), outcome, took);
    }
}

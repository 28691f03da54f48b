//! Counts what is refused, and says in the log who it was, without letting anybody fill the log.
//!
//! All that a client can make the server log goes through here.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::RequestId;
use crate::base::occasional::Occasional;
use crate::metrics::Metrics;
use crate::metrics::port::Refusal;

/// How long the log says nothing more of a reason after it named a peer.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Where refusals are counted and logged.
#[derive(Debug)]
pub(super) struct Refusals {
    metrics: Arc<Metrics>,
    /// Each reason by itself, so that nobody can hide one by another.
    logged: HashMap<Refusal, Occasional>,
}

impl Refusals {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let logged = |reason| (reason, Occasional::new(LOG_INTERVAL));
        Self {
            metrics,
            logged: Refusal::ALL.map(logged).into(),
        }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Counts a refusal, and logs it unless another one for this reason was logged a moment ago.
    pub(super) fn count(&self, reason: Refusal, peer: &impl Display) {
        self.metrics.port.refused(reason);
        if let Some(unlogged) = self.to_log(reason, Instant::now()) {
            tracing::warn!(
                reason = reason.as_str(),
                %peer,
                unlogged,
                "refused a connection or a request"
            );
        }
    }

    /// The same for a request that was read and has no answer; the answer to it has the request's id, too.
    pub(super) fn count_failed(
        &self,
        reason: Refusal,
        request: RequestId,
        peer: &str,
        problem: &impl Display,
    ) {
        self.metrics.port.refused(reason);
        let Some(unlogged) = self.to_log(reason, Instant::now()) else {
            return;
        };
        if reason == Refusal::Internal {
            tracing::error!(%request, peer, %problem, unlogged, "a review could not be answered");
        } else {
            tracing::warn!(%request, peer, %problem, unlogged, "request is not an AdmissionReview");
        }
    }

    /// Counts a refusal that says nothing: a load balancer's probe is a handshake that fails.
    pub(super) fn count_quietly(&self, reason: Refusal) {
        self.metrics.port.refused(reason);
    }

    /// How many refusals for this reason were not logged since the last one that was, if this one is to be.
    fn to_log(&self, reason: Refusal, now: Instant) -> Option<usize> {
        let logged = self.logged.get(&reason)?;
        logged.take(1, now).map(|all| all.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_one_peer_in_ten_seconds_and_counts_the_rest() {
        let refusals = Refusals::new(Arc::new(Metrics::new(|| 0)));
        let start = Instant::now();
        let after = |seconds| refusals.to_log(Refusal::Memory, start + Duration::from_secs(seconds));
        assert_eq!(after(0), Some(0));
        assert_eq!((after(1), after(9)), (None, None));
        assert_eq!(after(10), Some(2));
        assert_eq!(after(20), Some(0));
    }

    #[test]
    fn every_reason_has_a_line_of_its_own() {
        let refusals = Refusals::new(Arc::new(Metrics::new(|| 0)));
        let now = Instant::now();
        for reason in Refusal::ALL {
            assert_eq!(refusals.to_log(reason, now), Some(0), "{reason:?}");
            assert_eq!(refusals.to_log(reason, now), None, "{reason:?}");
        }
    }
}

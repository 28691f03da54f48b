//! Counts what is refused, and says in the log who it was, without letting anybody fill the log.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::occasional::Occasional;
use crate::metrics::Metrics;
use crate::metrics::port::Refusal;

/// How long the log says nothing more after it named a peer.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Where refusals are counted and logged.
#[derive(Debug)]
pub(super) struct Refusals {
    metrics: Arc<Metrics>,
    logged: Occasional,
}

impl Refusals {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            logged: Occasional::new(LOG_INTERVAL),
        }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Counts a refusal, and logs it unless another one was logged a moment ago.
    pub(super) fn count(&self, reason: Refusal, peer: &impl Display) {
        self.metrics.port.refused(reason);
        if let Some(unlogged) = self.to_log(Instant::now()) {
            tracing::warn!(
                reason = reason.as_str(),
                %peer,
                unlogged,
                "refused a connection or a request"
            );
        }
    }

    /// Counts a refusal that the log has elsewhere, or that says nothing: a load balancer's probe is a
    /// handshake that fails.
    pub(super) fn count_quietly(&self, reason: Refusal) {
        self.metrics.port.refused(reason);
    }

    /// How many refusals were not logged since the last one that was, if this one is to be.
    fn to_log(&self, now: Instant) -> Option<usize> {
        self.logged.take(1, now).map(|all| all.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_one_peer_in_ten_seconds_and_counts_the_rest() {
        let refusals = Refusals::new(Arc::new(Metrics::new(|| 0)));
        let start = Instant::now();
        let after = |seconds| refusals.to_log(start + Duration::from_secs(seconds));
        assert_eq!(after(0), Some(0));
        assert_eq!((after(1), after(9)), (None, None));
        assert_eq!(after(10), Some(2));
        assert_eq!(after(20), Some(0));
    }
}

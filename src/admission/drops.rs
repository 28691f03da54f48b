//! What a queue drops: counted, and said in the log no more than once a minute for each queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::occasional::Occasional;
use crate::metrics::{DropReason, Metrics, Queue};

/// How often a queue's drops are said in the log at most.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// The drops of one queue.
#[derive(Debug)]
pub struct Drops {
    queue: Queue,
    metrics: Arc<Metrics>,
    said: Occasional,
}

impl Drops {
    /// No drops of this queue yet.
    pub fn new(queue: Queue, metrics: Arc<Metrics>) -> Self {
        Self {
            queue,
            metrics,
            said: Occasional::new(LOG_INTERVAL),
        }
    }

    /// Counts so many drops for a reason.
    pub fn count(&self, reason: DropReason, dropped: usize) {
        if dropped == 0 {
            return;
        }
        self.metrics.dropped(self.queue, reason, dropped);
        if let Some(dropped) = self.said.take(dropped, Instant::now()) {
            tracing::warn!(
                queue = self.queue.as_str(),
                reason = reason.as_str(),
                dropped,
                "{}",
                consequence(self.queue)
            );
        }
    }
}

fn consequence(queue: Queue) -> &'static str {
    match queue {
        Queue::Demand => {
            "requests for pull secrets were dropped: the leader writes them later, when it sees the Pods"
        }
        Queue::OwnerEvent => "Events for the owners of Pods were dropped: the audit log has the decisions",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_counted_by_queue_and_reason() {
        let metrics = Arc::new(Metrics::new(|| 0));
        let drops = Drops::new(Queue::Demand, Arc::clone(&metrics));
        drops.count(DropReason::Full, 3);
        drops.count(DropReason::Full, 2);
        drops.count(DropReason::Expired, 0);
        let text = metrics.encode().unwrap();
        let counted = "pullpass_queue_dropped_total{queue=\"demand\",reason=\"full\"} 5\n";
        assert!(text.contains(counted), "{text}");
        assert!(!text.contains("expired"), "{text}");
    }

    #[test]
    fn a_drop_is_said_with_who_still_has_what_was_dropped() {
        assert!(consequence(Queue::Demand).contains("the leader writes them"));
        assert!(consequence(Queue::OwnerEvent).contains("the audit log has"));
    }
}

//! Saying something now and then, however often it happens: what can be made to happen must not fill the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts what happens, and says when it is time to say so.
#[derive(Debug)]
pub struct Occasional {
    interval: Duration,
    state: Mutex<Unsaid>,
}

#[derive(Debug, Default)]
struct Unsaid {
    last: Option<Instant>,
    unsaid: usize,
}

impl Occasional {
    /// Something that is said once in an interval at most.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            state: Mutex::default(),
        }
    }

    /// Adds `count` to what is to be said; returns all that was not said yet, these included, when it is time to.
    pub fn take(&self, count: usize, now: Instant) -> Option<usize> {
        // No code panics while it holds the lock.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.unsaid = state.unsaid.saturating_add(count);
        let is_recent = |last| now.saturating_duration_since(last) < self.interval;
        if state.last.is_some_and(is_recent) {
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_said_once_in_an_interval() {
        let interval = Duration::from_mins(1);
        let said = Occasional::new(interval);
        let begin = Instant::now();
        assert_eq!(said.take(1, begin), Some(1));
        assert_eq!(said.take(2, begin), None);
        assert_eq!(said.take(3, begin + interval / 2), None);
        assert_eq!(said.take(4, begin + interval), Some(9));
        assert_eq!(said.take(5, begin + interval), None);
    }
}

//! Saying something now and then, however often it happens: what can be made to happen must not fill the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts events, and says when it is time to report them.
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
    /// A report that is made at most once in an interval.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            state: Mutex::default(),
        }
    }

    /// Adds `count` to what is to be reported; when it is time, returns everything that was not reported yet, including
    /// these.
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

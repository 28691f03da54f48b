//! How often a batch is sent again.

use std::time::Duration;

use crate::base::backoff::{Backoff, Jitter};

/// The longest wait that no collector asked for.
const MAX_SEND_BACKOFF: Duration = Duration::from_secs(30);
/// The wait between two attempts.
const SEND_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), MAX_SEND_BACKOFF);
/// After so long a batch is given up.
const BATCH_TIMEOUT: Duration = Duration::from_mins(5);

/// The attempts at one batch.
#[derive(Debug, Default)]
pub(super) struct Retries {
    failed: u32,
}

impl Retries {
    /// Whether no attempt has failed yet.
    pub(super) fn is_first(&self) -> bool {
        self.failed == 0
    }

    /// How long to wait before the next attempt, or nothing when there is to be none.
    ///
    /// `elapsed` is the time since the first attempt; `asked` is how long the collector wants to be left alone, which
    /// is kept to even where it is longer than all the patience there is: then one more attempt follows.
    pub(super) fn next(
        &mut self,
        elapsed: Duration,
        asked: Option<Duration>,
        jitter: Jitter,
    ) -> Option<Duration> {
        if elapsed >= BATCH_TIMEOUT {
            return None;
        }
        self.failed = self.failed.saturating_add(1);
        Some(SEND_BACKOFF.delay(self.failed, asked, jitter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_until_they_are_long_enough_and_patience_ends() {
        let mut retries = Retries::default();
        let mut elapsed = Duration::ZERO;
        let mut waits = Vec::new();
        while let Some(wait) = retries.next(elapsed, None, Jitter::NONE) {
            elapsed += wait;
            waits.push(wait.as_secs());
        }
        assert_eq!(waits[..7], [1, 2, 4, 8, 16, 30, 30]);
        assert!(
            (BATCH_TIMEOUT..BATCH_TIMEOUT + MAX_SEND_BACKOFF).contains(&elapsed),
            "{elapsed:?}"
        );
    }

    #[test]
    fn a_collector_that_wants_to_be_left_alone_is() {
        let hour = Duration::from_hours(1);
        let mut retries = Retries::default();
        assert_eq!(
            retries.next(Duration::ZERO, Some(Duration::from_secs(7)), Jitter::NONE),
            Some(Duration::from_secs(7))
        );
        assert_eq!(
            retries.next(Duration::ZERO, Some(Duration::ZERO), Jitter::NONE),
            Some(Duration::from_secs(2)),
            "but is not hurried"
        );
        assert_eq!(retries.next(Duration::ZERO, Some(hour), Jitter::NONE), Some(hour));
        assert_eq!(retries.next(hour, Some(hour), Jitter::NONE), None);
    }
}

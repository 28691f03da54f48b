//! Writes of pull secrets that failed: when each is tried again, and whether its reason is still to be logged.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem::Discriminant;
use std::time::{Duration, Instant};

use crate::base::backoff::{Backoff, Jitter};
use crate::sync::pull_secret::WriteError;

/// The longest that a write waits.
const MAX_WRITE_BACKOFF: Duration = Duration::from_mins(5);
/// How long a write waits first where a foreign Secret has the name.
const CONFLICT_BACKOFF: Backoff = Backoff::new(Duration::from_secs(15), MAX_WRITE_BACKOFF);
/// How often the same problem of a registry is logged.
const LOG_INTERVAL: Duration = Duration::from_mins(5);

/// What failed, by pair of namespace and registry.
#[derive(Debug)]
pub(super) struct Failures<K> {
    backoff: Backoff,
    failing: HashMap<K, Failure>,
    /// What was logged of a registry, and when.
    logged: HashMap<(String, Discriminant<WriteError>), Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    /// How often in a row.
    count: u32,
    retry_at: Instant,
}

impl<K: Hash + Eq> Failures<K> {
    /// Nothing failed yet. The first failure, but for a conflict, waits for so long.
    pub(super) fn new(first: Duration) -> Self {
        Self {
            backoff: Backoff::new(first, MAX_WRITE_BACKOFF),
            failing: HashMap::new(),
            logged: HashMap::new(),
        }
    }

    /// Counts a failure; says when to try again.
    pub(super) fn failed(&mut self, pair: K, error: &WriteError, now: Instant) -> Instant {
        let known = self.failing.get(&pair);
        let count = known.map_or(0, |known| known.count).saturating_add(1);
        let backoff = if *error == WriteError::Foreign {
            CONFLICT_BACKOFF
        } else {
            self.backoff
        };
        let retry_at = now + backoff.delay(count, None, Jitter::of(&(&pair, count)));
        self.failing.insert(pair, Failure { count, retry_at });
        retry_at
    }

    /// Whether a pair failed and is not to be tried yet.
    pub(super) fn waits(&self, pair: &K, now: Instant) -> bool {
        self.failing
            .get(pair)
            .is_some_and(|failure| failure.retry_at > now)
    }

    /// Forgets the failures of a pair: it was written, or needs not be.
    pub(super) fn forget(&mut self, pair: &K) {
        self.failing.remove(pair);
    }

    /// Forgets the failures of all other pairs.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&K) -> bool) {
        self.failing.retain(|pair, _| is_kept(pair));
    }

    /// Forgets failures that nobody tried again for long.
    pub(super) fn expire(&mut self, now: Instant) {
        let waited = |failure: &Failure| now.saturating_duration_since(failure.retry_at);
        self.failing
            .retain(|_, failure| waited(failure) < MAX_WRITE_BACKOFF);
    }

    /// Whether a problem of a registry was not logged for a while.
    pub(super) fn is_news(&mut self, registry: &str, error: &WriteError, now: Instant) -> bool {
        self.logged
            .retain(|_, at| now.saturating_duration_since(*at) < LOG_INTERVAL);
        let key = (registry.to_owned(), std::mem::discriminant(error));
        let is_news = !self.logged.contains_key(&key);
        if is_news {
            self.logged.insert(key, now);
        }
        is_news
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.failing.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(1);

    fn refused() -> WriteError {
        WriteError::Api("no".to_owned())
    }

    /// How many milliseconds the failures in a row of a pair wait.
    fn waits(error: &WriteError) -> Vec<u128> {
        let (mut failures, now) = (Failures::new(FIRST), Instant::now());
        (0..12)
            .map(|_| (failures.failed("pair", error, now) - now).as_millis())
            .collect()
    }

    #[test]
    fn each_failure_waits_longer_and_a_conflict_longest() {
        let (refused, conflict) = (waits(&refused()), waits(&WriteError::Foreign));
        // With jitter, which only shortens.
        assert!(refused[0] <= 1_000 && refused[..8].is_sorted(), "{refused:?}");
        assert!(
            (11_250..=15_000).contains(&conflict[0]) && conflict[..4].is_sorted(),
            "{conflict:?}"
        );
        for last in [refused[11], conflict[11]] {
            assert!((225_000..=300_000).contains(&last), "{last}");
        }
    }

    #[test]
    fn a_pair_waits_until_its_time_and_is_forgotten_when_written() {
        let (mut failures, begin) = (Failures::new(FIRST), Instant::now());
        let at = failures.failed("a", &refused(), begin);
        assert!(failures.waits(&"a", begin) && !failures.waits(&"b", begin));
        assert!(!failures.waits(&"a", at));
        let second = failures.failed("a", &refused(), at);
        assert!(second - at > FIRST);
        failures.forget(&"a");
        assert!(!failures.waits(&"a", begin));
        let last = failures.failed("a", &refused(), begin);
        failures.expire(last + MAX_WRITE_BACKOFF / 2);
        assert_eq!(failures.len(), 1);
        failures.expire(last + MAX_WRITE_BACKOFF);
        assert_eq!(failures.len(), 0);
    }

    #[test]
    fn the_same_problem_of_a_registry_is_logged_now_and_then() {
        let (mut failures, begin) = (Failures::<()>::new(FIRST), Instant::now());
        assert!(failures.is_news("mine", &refused(), begin));
        assert!(!failures.is_news("mine", &WriteError::Api("else".to_owned()), begin));
        assert!(failures.is_news("mine", &WriteError::Foreign, begin));
        assert!(failures.is_news("other", &refused(), begin));
        assert!(!failures.is_news("mine", &refused(), begin + LOG_INTERVAL / 2));
        assert!(failures.is_news("mine", &refused(), begin + LOG_INTERVAL));
    }
}

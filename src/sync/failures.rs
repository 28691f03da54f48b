//! Writes of pull secrets that failed: when each is tried again, and whether its reason is still to be logged.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::Discriminant;
use std::time::{Duration, Instant};

use crate::base::backoff::{Backoff, Jitter};
use crate::base::pruned_map::PrunedMap;
use crate::sync::pull_secret::WriteError;

/// The longest that a write waits.
const MAX_WRITE_BACKOFF: Duration = Duration::from_mins(5);
/// How long a write waits first where a foreign Secret has the name.
const CONFLICT_BACKOFF: Backoff = Backoff::new(Duration::from_secs(15), MAX_WRITE_BACKOFF);
/// How often the same problem of a registry is logged.
const LOG_INTERVAL: Duration = Duration::from_mins(5);
/// How many problems of one kind are logged of a registry in that time: the API server's words may name the namespace, and
/// differ in each.
const MAX_LOGGED: usize = 3;

/// What was tried so often in a row, and when it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry {
    count: u32,
    /// When.
    pub(super) at: Instant,
}

impl Retry {
    /// Counts one more attempt; those at other things do not try again together with it.
    pub(super) fn after(before: Option<Self>, backoff: Backoff, what: &impl Hash, now: Instant) -> Self {
        let count = before.map_or(0, |before| before.count).saturating_add(1);
        let at = now + backoff.delay(count, None, Jitter::of(&(what, count)));
        Self { count, at }
    }

    /// Whether it is too early.
    pub(super) fn waits(self, now: Instant) -> bool {
        self.at > now
    }
}

/// What failed, by pair of namespace and registry.
#[derive(Debug)]
pub(super) struct Failures<K> {
    backoff: Backoff,
    failing: HashMap<K, Retry>,
    /// What was logged of a registry, each by its hash, and when.
    logged: PrunedMap<(String, Discriminant<WriteError>), HashMap<u64, Instant>>,
}

impl<K: Hash + Eq> Failures<K> {
    /// Nothing failed yet. The first failure, except for a conflict, waits for so long.
    pub(super) fn new(first: Duration) -> Self {
        Self {
            backoff: Backoff::new(first, MAX_WRITE_BACKOFF),
            failing: HashMap::new(),
            logged: PrunedMap::default(),
        }
    }

    /// Counts a failure; says when to try again.
    pub(super) fn failed(&mut self, pair: K, error: &WriteError, now: Instant) -> Instant {
        let backoff = if *error == WriteError::Foreign {
            CONFLICT_BACKOFF
        } else {
            self.backoff
        };
        let retry = Retry::after(self.failing.get(&pair).copied(), backoff, &pair, now);
        self.failing.insert(pair, retry);
        retry.at
    }

    /// Whether a pair failed and is not to be tried yet.
    pub(super) fn waits(&self, pair: &K, now: Instant) -> bool {
        self.failing.get(pair).is_some_and(|retry| retry.waits(now))
    }

    /// When a pair is tried again that failed.
    pub(super) fn retries_at(&self, pair: &K) -> Option<Instant> {
        self.failing.get(pair).map(|retry| retry.at)
    }

    /// Whether a pair failed last.
    pub(super) fn contains(&self, pair: &K) -> bool {
        self.failing.contains_key(pair)
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
        self.failing
            .retain(|_, retry| now.saturating_duration_since(retry.at) < MAX_WRITE_BACKOFF);
    }

    /// Whether a problem of a registry is to be logged: it was not for a while, and few others of its kind were.
    pub(super) fn is_news(&mut self, registry: &str, error: &WriteError, now: Instant) -> bool {
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < LOG_INTERVAL;
        let kind = (registry.to_owned(), std::mem::discriminant(error));
        let problems = self
            .logged
            .get_or_default(kind, |_, problems| problems.values().any(is_recent));
        problems.retain(|_, at| is_recent(at));
        let mut hasher = DefaultHasher::new();
        error.to_string().hash(&mut hasher);
        let problem = hasher.finish();
        let is_news = problems.len() < MAX_LOGGED && !problems.contains_key(&problem);
        if is_news {
            problems.insert(problem, now);
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
        assert!(failures.is_news("mine", &WriteError::Foreign, begin));
        assert!(failures.is_news("other", &refused(), begin));
        assert!(!failures.is_news("mine", &refused(), begin + LOG_INTERVAL / 2));
        assert!(failures.is_news("mine", &refused(), begin + LOG_INTERVAL));
    }

    #[test]
    fn a_failure_costs_the_same_among_any_number() {
        let (mut failures, begin) = (Failures::<()>::new(FIRST), Instant::now());
        for number in 0..2_000 {
            let name = format!("r{number}");
            assert!(failures.is_news(&name, &refused(), begin));
            assert!(!failures.is_news(&name, &refused(), begin));
        }
        assert_eq!(failures.logged.len(), 2_000);
        assert!(failures.logged.looks() < 4_000, "{}", failures.logged.looks());
        for number in 2_000..10_000 {
            failures.is_news(&format!("r{number}"), &refused(), begin + LOG_INTERVAL * number);
            assert!(failures.logged.len() < 4_500, "{number}");
        }
    }

    #[test]
    fn another_message_is_logged_but_not_any_number() {
        let (mut failures, begin) = (Failures::<()>::new(FIRST), Instant::now());
        let told = |failures: &mut Failures<()>, namespace: usize, at| {
            let error = WriteError::Api(format!("no Secrets in namespace {namespace}"));
            failures.is_news("mine", &error, at)
        };
        assert!(told(&mut failures, 0, begin) && told(&mut failures, 1, begin));
        assert!(!told(&mut failures, 1, begin));
        let more = (2..1_000).filter(|namespace| told(&mut failures, *namespace, begin));
        let more = more.count();
        assert_eq!(more, MAX_LOGGED - 2);
        assert!(
            failures.is_news("mine", &WriteError::Foreign, begin),
            "another kind"
        );
        assert!(told(&mut failures, 1_000, begin + LOG_INTERVAL));
        let kind = ("mine".to_owned(), std::mem::discriminant(&refused()));
        assert_eq!(failures.logged.get(&kind).map(HashMap::len), Some(1));
    }
}

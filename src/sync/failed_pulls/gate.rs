//! How often a pull secret is written again because kubelets can't pull: rarely, whatever they and other authors of Events
//! say. A registry that is unavailable and an image that does not exist look the same from here as a broken pull secret,
//! and a thousand Pods may wait for them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::base::backoff::{Backoff, Jitter};
use crate::metrics::PullFailure;
use crate::sync::pair::Pair;

/// The longest that a pair waits.
const MAX_BACKOFF: Duration = Duration::from_mins(5);
/// How long a pair waits that a kubelet found no pull secret of.
const MISSING_BACKOFF: Backoff = Backoff::new(Duration::from_secs(10), MAX_BACKOFF);
/// How long a pair waits with whose pull secret a pull failed, for any reason.
const FAILED_BACKOFF: Backoff = Backoff::new(Duration::from_secs(30), MAX_BACKOFF);
/// How many pairs are written in a second because pulls failed: with a registry that is down, they fail in every namespace.
const FAILED_A_SECOND: u32 = 10;
/// What [`FAILED_A_SECOND`] is counted in.
const FAILED_INTERVAL: Duration = Duration::from_secs(1);
/// How often the Pods of a pair are read that an Event names.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How many pairs are remembered, each for [`MAX_BACKOFF`] after it waited.
const MAX_PAIRS: usize = 16_384;

/// What is to be done about a pair of which there is a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    /// It is time to act.
    Act,
    /// It was acted on just now.
    Wait,
    /// Too many pairs are remembered.
    Full,
}

/// The pairs that were acted on.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pairs: HashMap<Pair, Acts>,
    /// The second in which pairs were last written because pulls failed, and how many.
    failed: Option<(Instant, u32)>,
}

#[derive(Debug, Clone, Copy)]
struct Acts {
    missing: Act,
    failed: Act,
    look_at: Instant,
}

/// How often in a row a pair was written for a reason, and when it may be again.
#[derive(Debug, Clone, Copy)]
struct Act {
    count: u32,
    next: Instant,
}

impl Act {
    fn again(&mut self, backoff: Backoff, pair: &Pair, now: Instant) {
        if is_quiet(self.next, now) {
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.next = now + backoff.delay(self.count, None, Jitter::of(&(pair, self.count)));
    }
}

impl Acts {
    fn new(now: Instant) -> Self {
        let never = Act { count: 0, next: now };
        Self {
            missing: never,
            failed: never,
            look_at: now,
        }
    }

    /// That a pull failed is no news where the Secret was missing just now. That it is missing is, also where pulls fail all
    /// the time.
    fn is_due(&self, failure: PullFailure, now: Instant) -> bool {
        self.missing.next <= now && (failure == PullFailure::SecretMissing || self.failed.next <= now)
    }

    fn is_over(&self, now: Instant) -> bool {
        is_quiet(self.missing.next.max(self.failed.next).max(self.look_at), now)
    }
}

impl Gate {
    /// Whether to read a Pod that may be the reason to write a pair.
    pub(super) fn look(&mut self, pair: &Pair, failure: PullFailure, now: Instant) -> Permit {
        let answer = self.ask(pair, failure, now);
        if answer != Permit::Act {
            return answer;
        }
        if failure == PullFailure::PullFailed && self.written_in_second(now).1 >= FAILED_A_SECOND {
            // Nothing would be written for it.
            return Permit::Wait;
        }
        let acts = self.pairs.entry(pair.clone()).or_insert_with(|| Acts::new(now));
        if acts.look_at > now {
            return Permit::Wait;
        }
        acts.look_at = now + LOOK_INTERVAL;
        Permit::Act
    }

    /// Whether to write a pair, of which it is certain that a Pod names it. If so, that is counted.
    pub(super) fn write(&mut self, pair: &Pair, failure: PullFailure, now: Instant) -> Permit {
        let answer = self.ask(pair, failure, now);
        if answer == Permit::Act && failure == PullFailure::PullFailed && !self.has_room(now) {
            // They go on failing, so that its turn comes.
            return Permit::Wait;
        }
        if answer == Permit::Act {
            let acts = self.pairs.entry(pair.clone()).or_insert_with(|| Acts::new(now));
            match failure {
                PullFailure::SecretMissing => acts.missing.again(MISSING_BACKOFF, pair, now),
                PullFailure::PullFailed => acts.failed.again(FAILED_BACKOFF, pair, now),
            }
        }
        answer
    }

    /// Takes one of the writes of this second.
    fn has_room(&mut self, now: Instant) -> bool {
        let (begin, written) = self.written_in_second(now);
        let has_room = written < FAILED_A_SECOND;
        self.failed = Some((begin, written + u32::from(has_room)));
        has_room
    }

    /// When this second began, and how many pairs were written in it because pulls failed.
    fn written_in_second(&self, now: Instant) -> (Instant, u32) {
        let second = self
            .failed
            .filter(|(begin, _)| now.saturating_duration_since(*begin) < FAILED_INTERVAL);
        second.unwrap_or((now, 0))
    }

    fn ask(&mut self, pair: &Pair, failure: PullFailure, now: Instant) -> Permit {
        if let Some(acts) = self.pairs.get(pair) {
            return if acts.is_due(failure, now) {
                Permit::Act
            } else {
                Permit::Wait
            };
        }
        if self.pairs.len() >= MAX_PAIRS {
            self.pairs.retain(|_, acts| !acts.is_over(now));
        }
        if self.pairs.len() >= MAX_PAIRS {
            Permit::Full
        } else {
            Permit::Act
        }
    }
}

/// Whether nothing happened for so long that what happens now is something new.
fn is_quiet(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) >= MAX_BACKOFF
}

#[cfg(test)]
mod tests {
    use super::*;
    use PullFailure::{PullFailed, SecretMissing};

    const SECOND: Duration = Duration::from_secs(1);

    fn pair(namespace: &str) -> Pair {
        (namespace.to_owned(), "mine".to_owned())
    }

    /// The seconds in which a pair is written, of so many in each of which a thousand Pods say each of these.
    fn writes(gate: &mut Gate, failures: &[PullFailure], begin: Instant, seconds: u32) -> Vec<u32> {
        let mut written = Vec::new();
        for second in 0..seconds {
            for _ in 0..1_000 {
                for failure in failures {
                    if gate.write(&pair("apps"), *failure, begin + SECOND * second) == Permit::Act {
                        written.push(second);
                    }
                }
            }
        }
        written
    }

    #[test]
    fn a_thousand_pods_cause_few_writes_a_minute() {
        for (failures, first_minute, ten_minutes) in [
            (&[PullFailed][..], 3, 6),
            (&[SecretMissing], 4, 8),
            (&[PullFailed, SecretMissing], 6, 12),
        ] {
            let written = writes(&mut Gate::default(), failures, Instant::now(), 600);
            assert_eq!(written.first(), Some(&0));
            let early = written.iter().filter(|second| **second < 60).count();
            assert!(
                early <= first_minute && written.len() <= ten_minutes,
                "{failures:?}: {written:?}"
            );
        }
    }

    #[test]
    fn a_missing_secret_is_news_where_pulls_fail_all_the_time() {
        let (mut gate, begin) = (Gate::default(), Instant::now());
        let last = writes(&mut gate, &[PullFailed], begin, 300)
            .last()
            .copied()
            .unwrap();
        let now = begin + SECOND * (last + 1);
        assert_eq!(gate.write(&pair("apps"), PullFailed, now), Permit::Wait);
        assert_eq!(gate.write(&pair("apps"), SecretMissing, now), Permit::Act);
        assert_eq!(gate.write(&pair("apps"), SecretMissing, now), Permit::Wait);
    }

    #[test]
    fn the_pull_that_fails_for_a_missing_secret_is_no_news() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        assert_eq!(gate.write(&pair("apps"), SecretMissing, now), Permit::Act);
        assert_eq!(gate.write(&pair("apps"), PullFailed, now + SECOND), Permit::Wait);
        assert_eq!(gate.write(&pair("other"), PullFailed, now + SECOND), Permit::Act);
    }

    #[test]
    fn a_pair_quiet_for_minutes_is_written_immediately_again() {
        let (mut gate, begin) = (Gate::default(), Instant::now());
        writes(&mut gate, &[SecretMissing], begin, 600);
        let later = begin + SECOND * 600 + MAX_BACKOFF * 2;
        let written = writes(&mut gate, &[SecretMissing], later, 60);
        assert!((3..=4).contains(&written.len()) && written[0] == 0, "{written:?}");
    }

    #[test]
    fn events_that_nothing_confirms_cause_one_look_a_second() {
        let (mut gate, begin) = (Gate::default(), Instant::now());
        let look = |gate: &mut Gate, now| gate.look(&pair("apps"), SecretMissing, now);
        assert_eq!(look(&mut gate, begin), Permit::Act);
        assert_eq!(look(&mut gate, begin + SECOND / 2), Permit::Wait);
        assert_eq!(look(&mut gate, begin + SECOND), Permit::Act);
        // They keep nobody from writing it for a better reason.
        assert_eq!(
            gate.write(&pair("apps"), SecretMissing, begin + SECOND),
            Permit::Act
        );
        assert_eq!(look(&mut gate, begin + SECOND * 3), Permit::Wait);
    }

    #[test]
    fn pulls_that_fail_everywhere_cause_few_writes_a_second() {
        let (mut gate, begin) = (Gate::default(), Instant::now());
        let writes = |gate: &mut Gate, failure, now| {
            let pairs = (0..1_000).map(|number| pair(&number.to_string()));
            pairs
                .filter(|pair| gate.write(pair, failure, now) == Permit::Act)
                .count()
        };
        assert_eq!(writes(&mut gate, PullFailed, begin), 10);
        assert_eq!(writes(&mut gate, PullFailed, begin + SECOND / 2), 0);
        // Others have their turn then.
        assert_eq!(writes(&mut gate, PullFailed, begin + SECOND), 10);
        assert_eq!(writes(&mut gate, PullFailed, begin + SECOND * 2), 10);
        assert_eq!(
            gate.look(&pair("more"), PullFailed, begin + SECOND * 2),
            Permit::Wait,
            "no Pod is read in vain"
        );
        assert_eq!(
            gate.look(&pair("more"), SecretMissing, begin + SECOND * 2),
            Permit::Act
        );
        // All of these have to be written.
        assert_eq!(writes(&mut gate, SecretMissing, begin + SECOND * 2), 1_000);
    }

    #[test]
    fn pairs_are_bounded_and_forgotten_when_quiet() {
        let (mut gate, begin) = (Gate::default(), Instant::now());
        for number in 0..MAX_PAIRS {
            assert_eq!(
                gate.write(&pair(&number.to_string()), SecretMissing, begin),
                Permit::Act
            );
        }
        assert_eq!(gate.write(&pair("more"), PullFailed, begin), Permit::Full);
        assert_eq!(gate.look(&pair("more"), PullFailed, begin), Permit::Full);
        let later = begin + MAX_BACKOFF * 2;
        assert_eq!(gate.write(&pair("more"), PullFailed, later), Permit::Act);
        assert_eq!(gate.pairs.len(), 1);
    }
}

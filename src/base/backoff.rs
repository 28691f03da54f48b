//! How long to wait after failures in a row: the one exponential backoff of pullpass. Pure: it neither sleeps nor reads a
//! clock, and its jitter is given to it.

use std::collections::hash_map::{DefaultHasher, RandomState};
use std::hash::{BuildHasher, Hash, Hasher};
use std::time::Duration;

/// The longest `Retry-After` that is honored: no service may silence a retry for longer.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);
/// How much shorter than the full delay a delay with jitter may be, and how much longer than what a server asks for, as a
/// fraction of it.
const JITTER: f64 = 0.25;
/// The same of an interval.
const SPREAD: f64 = 0.1;

/// A delay that doubles with each failure, up to a cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
}

impl Backoff {
    /// Waits `first` after the first failure, twice as long after the next, and never longer than `cap`.
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap }
    }

    /// The delay after so many failures in a row; none without a failure.
    ///
    /// Jitter only shortens the delay, so the cap holds. A server that asks for a longer one with `Retry-After` gets it,
    /// up to [`MAX_RETRY_AFTER`], and up to a quarter more: it asks all that it throttles for the same.
    pub fn delay(self, failures: u32, retry_after: Option<Duration>, jitter: Jitter) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let delay = self
            .first
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(self.cap);
        let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        jitter.shorten(delay).max(jitter.lengthen(asked))
    }
}

/// Where a delay falls within its spread, so that those that failed together do not try again together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter(u16);

impl Jitter {
    /// The full delay.
    pub const NONE: Self = Self(0);
    /// The shortest delay.
    #[cfg(test)]
    pub const FULL: Self = Self(u16::MAX);

    /// A delay that is derived from its purpose: always the same for the same purpose.
    pub fn of(what: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        Self::from_hash(hasher.finish())
    }

    /// One that differs from call to call and from process to process.
    pub fn random() -> Self {
        Self::from_hash(RandomState::new().hash_one(()))
    }

    /// As a fraction: 0 for none, 1 for the whole spread.
    fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(u16::MAX)
    }

    /// An interval that is up to a tenth shorter, so that what recurs for many does not recur for all together.
    pub fn spread(self, interval: Duration) -> Duration {
        interval.mul_f64(1.0 - SPREAD * self.fraction())
    }

    fn from_hash(hash: u64) -> Self {
        Self(u16::try_from(hash >> 48).unwrap_or_default())
    }

    fn shorten(self, delay: Duration) -> Duration {
        match self {
            // Without a detour through floating point, which would round.
            Self::NONE => delay,
            Self(_) => delay.mul_f64(1.0 - JITTER * self.fraction()),
        }
    }

    fn lengthen(self, delay: Duration) -> Duration {
        match self {
            Self::NONE => delay,
            Self(_) => delay.mul_f64(1.0 + JITTER * self.fraction()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_mins(5));

    fn seconds(failures: u32, retry_after: Option<Duration>, jitter: Jitter) -> f64 {
        BACKOFF.delay(failures, retry_after, jitter).as_secs_f64()
    }

    #[test]
    #[allow(clippy::float_cmp)]
    fn delays_double_up_to_the_cap() {
        let delays =
            [0, 1, 2, 3, 7, 8, 9, 10, u32::MAX].map(|failures| seconds(failures, None, Jitter::NONE));
        assert_eq!(delays, [0.0, 2.0, 4.0, 8.0, 128.0, 256.0, 300.0, 300.0, 300.0]);
    }

    #[test]
    #[allow(clippy::float_cmp)]
    fn full_jitter_takes_a_quarter_off() {
        let delays = [1, 2, 10].map(|failures| seconds(failures, None, Jitter::FULL));
        assert_eq!(delays, [1.5, 3.0, 225.0]);
    }

    #[test]
    fn retry_after_is_a_bounded_minimum() {
        for (asked, expected) in [
            (Duration::ZERO, Duration::from_secs(2)),
            (Duration::from_secs(77), Duration::from_secs(77)),
            (Duration::MAX, MAX_RETRY_AFTER),
        ] {
            assert_eq!(BACKOFF.delay(1, Some(asked), Jitter::NONE), expected);
        }
        let asked = Duration::from_secs(77);
        let longest = asked.mul_f64(1.25);
        assert_eq!(BACKOFF.delay(1, Some(asked), Jitter::FULL), longest);
        assert_eq!(BACKOFF.delay(0, Some(asked), Jitter::NONE), Duration::ZERO);
    }

    #[test]
    fn jitter_of_the_same_is_the_same() {
        assert_eq!(Jitter::of(&("a", 1)), Jitter::of(&("a", 1)));
        assert_ne!(Jitter::of(&("a", 1)), Jitter::of(&("a", 2)));
        let random: Vec<Jitter> = (0..8).map(|_| Jitter::random()).collect();
        assert!(random.iter().any(|jitter| Some(jitter) != random.first()));
    }

    proptest! {
        #[test]
        fn delays_stay_within_their_spread(failures in 1_u32.., what: u64) {
            let full = BACKOFF.delay(failures, None, Jitter::NONE);
            let delay = BACKOFF.delay(failures, None, Jitter::of(&what));
            prop_assert!(delay <= full && delay >= full.mul_f64(1.0 - JITTER), "{:?} of {:?}", delay, full);
        }

        #[test]
        fn servers_are_asked_no_sooner_than_they_say(seconds in 300_u64..3_600, what: u64) {
            let asked = Duration::from_secs(seconds);
            let delay = BACKOFF.delay(1, Some(asked), Jitter::of(&what));
            prop_assert!(delay >= asked && delay <= asked.mul_f64(1.0 + JITTER), "{:?} of {:?}", delay, asked);
        }
    }
}

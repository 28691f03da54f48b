//! Pull secrets that are written again although nothing changed: somebody may have deleted or edited them.

use std::collections::VecDeque;
use std::time::Duration;

use super::CONCURRENCY;
use crate::sync::pair::SharedPair;

/// How many are written in a second at most: about half of what a leader can write.
const MAX_A_SECOND: usize = 300;

/// Pairs whose pull secret is written again, a few each second and behind all other work.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    waiting: VecDeque<SharedPair>,
    a_second: usize,
    left_this_second: usize,
    /// Whether all are to be found again when these had their turn.
    is_overdue: bool,
}

impl Repairs {
    /// Whether all of them had their turn.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes these, to be written in half of an interval where that is possible: what is found then has the other half.
    pub(super) fn take(&mut self, pairs: Vec<SharedPair>, interval: Duration) {
        let seconds = usize::try_from(interval.as_secs() / 2).unwrap_or(usize::MAX);
        let paced = pairs.len().div_ceil(seconds.max(1));
        self.a_second = paced.clamp(CONCURRENCY, MAX_A_SECOND);
        self.waiting = pairs.into();
        self.begin_second();
    }

    /// Notes that everything was looked at before these had their turn: they are found again after it.
    pub(super) fn are_overdue(&mut self) {
        self.is_overdue = true;
    }

    /// Whether these had their turn, and all are to be found again.
    pub(super) fn take_overdue(&mut self) -> bool {
        self.waiting.is_empty() && std::mem::take(&mut self.is_overdue)
    }

    /// Gives this second's share.
    pub(super) fn begin_second(&mut self) {
        self.left_this_second = self.a_second;
    }

    /// The next one of this second.
    pub(super) fn next(&mut self) -> Option<SharedPair> {
        self.left_this_second = self.left_this_second.checked_sub(1)?;
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn pairs(count: usize) -> Vec<SharedPair> {
        let pair = |number: usize| Arc::new((number.to_string(), "mine".to_owned()));
        (0..count).map(pair).collect()
    }

    /// How many are written in each second.
    fn seconds(count: usize, interval: Duration) -> Vec<usize> {
        let mut repairs = Repairs::default();
        repairs.take(pairs(count), interval);
        let mut seconds = Vec::new();
        while !repairs.is_empty() {
            seconds.push(std::iter::from_fn(|| repairs.next()).count());
            repairs.begin_second();
        }
        seconds
    }

    #[test]
    fn repairs_take_half_of_the_interval_where_they_can() {
        let ten_minutes = Duration::from_mins(10);
        assert_eq!(seconds(0, ten_minutes), [0; 0]);
        assert_eq!(seconds(32, ten_minutes), [32]);
        assert_eq!(seconds(32, Duration::ZERO), [32]);
        let of_many = seconds(30_000, ten_minutes);
        assert_eq!((of_many.len(), of_many.first()), (300, Some(&100)));
        // They take longer than the interval, and are not faster for that.
        let of_most = seconds(300_000, ten_minutes);
        assert_eq!((of_most.len(), of_most.first()), (1_000, Some(&300)));
        assert_eq!(seconds(1_000, Duration::from_secs(2)), [300, 300, 300, 100]);
    }
}

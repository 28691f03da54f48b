//! Pairs that lost the right to a pull secret: a replica whose watch is behind may write it after it was deleted, so it is deleted
//! once more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::base::time_order::TimeOrder;
use crate::sync::pair::SharedPair;

/// The pairs, and when that became known here. As many at most as there are pairs.
#[derive(Debug, Default)]
pub(super) struct Lost {
    at: HashMap<SharedPair, Instant>,
    /// Each of them once.
    order: TimeOrder<SharedPair>,
}

impl Lost {
    /// A pair lost its right, or lost it again.
    pub(super) fn insert(&mut self, pair: SharedPair, at: Instant) {
        if let Some(before) = self.at.insert(Arc::clone(&pair), at) {
            self.order.remove(before, Arc::clone(&pair));
        }
        self.order.insert(at, pair);
    }

    /// A pair lost its right then, unless it is known to have lost it.
    pub(super) fn insert_unknown(&mut self, pair: SharedPair, at: Instant) {
        if !self.at.contains_key(&pair) {
            self.insert(pair, at);
        }
    }

    /// Whether the time of any pair is due.
    pub(super) fn is_due(&self, is_due: impl Fn(Instant) -> bool) -> bool {
        self.order.first().is_some_and(is_due)
    }

    /// Takes out the pairs whose time is due.
    pub(super) fn take_due(&mut self, is_due: impl Fn(Instant) -> bool) -> Vec<SharedPair> {
        let due: Vec<SharedPair> = std::iter::from_fn(|| self.order.pop_if(&is_due)).collect();
        for pair in &due {
            self.at.remove(pair);
        }
        due
    }

    /// Keeps the pairs of which this is true.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&SharedPair) -> bool) {
        self.at.retain(|pair, _| is_kept(pair));
        self.order.retain(is_kept);
    }

    /// How many pairs there are.
    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    /// The pairs.
    pub(super) fn pairs(&self) -> impl Iterator<Item = &SharedPair> {
        self.at.keys()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pair(number: u64) -> SharedPair {
        Arc::new((format!("n{number}"), "mine".to_owned()))
    }

    fn names(pairs: &[SharedPair]) -> Vec<&str> {
        pairs.iter().map(|pair| pair.0.as_str()).collect()
    }

    #[test]
    fn a_pair_that_is_lost_again_has_the_later_time() {
        let (mut lost, begin) = (Lost::default(), Instant::now());
        let at = |second| begin + Duration::from_secs(second);
        let due = |lost: &mut Lost, second| lost.take_due(|due| due <= at(second));
        for number in 0..3 {
            lost.insert(pair(number), at(number));
        }
        lost.insert(pair(0), at(3));
        lost.insert_unknown(pair(1), at(9));
        lost.insert_unknown(pair(4), at(1));
        lost.retain(|pair| pair.0 != "n2");
        assert!(!lost.is_due(|due| due <= at(0)) && lost.is_due(|due| due <= at(1)));
        assert_eq!(names(&due(&mut lost, 2)), ["n1", "n4"]);
        assert_eq!((lost.len(), lost.pairs().count()), (1, 1));
        assert_eq!(names(&due(&mut lost, 3)), ["n0"]);
        assert!(lost.at.is_empty() && lost.order.is_empty());
    }

    #[test]
    fn a_second_costs_the_pairs_that_are_due() {
        let (mut lost, begin) = (Lost::default(), Instant::now());
        let at = |second| begin + Duration::from_secs(second);
        for number in 0..2_000 {
            lost.insert(pair(number), at(number / 20));
        }
        for second in 0..10 {
            assert_eq!(lost.take_due(|due| due <= at(second)).len(), 20);
        }
        assert_eq!(lost.order.looks(), 200 + 10);
        for _ in 0..100 {
            assert!(lost.take_due(|due| due <= at(9)).is_empty());
        }
        assert_eq!(lost.order.looks(), 210 + 100, "one look where none is due");
    }
}

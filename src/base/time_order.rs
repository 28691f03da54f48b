//! Keys in the order of time: those that are due are found without a look at the others.

use std::collections::BTreeSet;
use std::time::Instant;

/// Keys, each with its time. To remove a key, its time is named, which is kept elsewhere.
#[derive(Debug)]
pub struct TimeOrder<K> {
    keys: BTreeSet<(Instant, K)>,
    /// How many keys were looked at to find those that are due.
    #[cfg(test)]
    looks: usize,
}

impl<K> Default for TimeOrder<K> {
    fn default() -> Self {
        Self {
            keys: BTreeSet::new(),
            #[cfg(test)]
            looks: 0,
        }
    }
}

impl<K: Ord> TimeOrder<K> {
    /// Takes a key with its time. One that is there with another time is there twice.
    pub fn insert(&mut self, at: Instant, key: K) {
        self.keys.insert((at, key));
    }

    /// Forgets a key with that time.
    pub fn remove(&mut self, at: Instant, key: K) {
        self.keys.remove(&(at, key));
    }

    /// The earliest time.
    pub fn first(&self) -> Option<Instant> {
        self.keys.first().map(|(at, _)| *at)
    }

    /// Takes out the earliest key, if its time is due.
    pub fn pop_if(&mut self, is_due: impl FnOnce(Instant) -> bool) -> Option<K> {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        self.keys.first().filter(|(at, _)| is_due(*at))?;
        self.keys.pop_first().map(|(_, key)| key)
    }

    /// Keeps the keys of which this is true; it goes through all of them.
    pub fn retain(&mut self, is_kept: impl Fn(&K) -> bool) {
        self.keys.retain(|(_, key)| is_kept(key));
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys were looked at to find those that are due.
    #[cfg(test)]
    pub(crate) fn looks(&self) -> usize {
        self.looks
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn keys_come_in_the_order_of_their_time() {
        let (mut order, begin) = (TimeOrder::default(), Instant::now());
        let at = |second| begin + Duration::from_secs(second);
        for (second, key) in [(3, "c"), (1, "a"), (2, "removed"), (2, "b"), (2, "dropped")] {
            order.insert(at(second), key);
        }
        assert_eq!(order.first(), Some(at(1)));
        order.remove(at(1), "b");
        order.remove(at(2), "removed");
        order.retain(|key| *key != "dropped");
        assert_eq!(order.len(), 3, "one of another time stays");
        let mut pop = |second| order.pop_if(|due| due <= at(second));
        assert_eq!(
            [pop(0), pop(2), pop(2), pop(2)],
            [None, Some("a"), Some("b"), None]
        );
        assert_eq!(pop(3), Some("c"));
        assert!(pop(3).is_none() && order.is_empty());
    }
}

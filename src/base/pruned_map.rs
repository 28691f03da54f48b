//! A map that drops what is of no use any more. It goes through all of its entries only after it has doubled, so an insertion
//! costs the same however many there are, and at most about half of the entries are of no use.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// How many entries a map may have in addition before it goes through all of them: a small one is not worth it.
const STEP: usize = 64;

/// A map, and how many entries it may have until it is pruned.
#[derive(Debug)]
pub struct PrunedMap<K, V> {
    entries: HashMap<K, V>,
    most: usize,
    /// How many entries were looked at to prune them.
    #[cfg(test)]
    looks: usize,
}

impl<K, V> Default for PrunedMap<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            most: STEP,
            #[cfg(test)]
            looks: 0,
        }
    }
}

impl<K: Hash + Eq, V> PrunedMap<K, V> {
    /// What is under a key. It may be of no use any more, since it is dropped later: the caller knows.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key)
    }

    /// The same, to change it.
    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.entries.get_mut(key)
    }

    /// Takes out what is under a key.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.entries.remove(key)
    }

    /// Sets what is under a key. Where the map has doubled, it drops all others that are of no use first.
    pub fn insert(&mut self, key: K, value: V, is_of_use: impl FnMut(&K, &V) -> bool) -> Option<V> {
        self.make_room(&key, is_of_use);
        self.entries.insert(key, value)
    }

    /// What is under a key, which is inserted where it is not there. The map is pruned as by [`PrunedMap::insert`].
    pub fn get_or_default(&mut self, key: K, is_of_use: impl FnMut(&K, &V) -> bool) -> &mut V
    where
        V: Default,
    {
        self.make_room(&key, is_of_use);
        self.entries.entry(key).or_default()
    }

    /// How many entries there are, of use or not.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Goes through all entries, where it is time to, and drops all but this one that are of no use.
    fn make_room(&mut self, key: &K, mut is_of_use: impl FnMut(&K, &V) -> bool) {
        if self.entries.len() < self.most || self.entries.contains_key(key) {
            return;
        }
        #[cfg(test)]
        {
            self.looks += self.entries.len();
        }
        self.entries.retain(|key, value| is_of_use(key, value));
        self.most = self.entries.len() * 2 + STEP;
    }

    /// How many entries were looked at to prune them.
    #[cfg(test)]
    pub(crate) fn looks(&self) -> usize {
        self.looks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_no_use_are_dropped_when_the_map_has_doubled() {
        let mut map = PrunedMap::default();
        let insert = |map: &mut PrunedMap<usize, ()>, number: usize, first_of_use: usize| {
            map.insert(number, (), |number, ()| *number >= first_of_use)
        };
        for number in 0..STEP {
            assert_eq!(insert(&mut map, number, 10), None);
        }
        assert_eq!(map.len(), STEP, "there is room for them");
        assert_eq!(insert(&mut map, 3, 10), Some(()), "it is there already");
        insert(&mut map, STEP, 10);
        assert_eq!(map.len(), STEP + 1 - 10);
        assert!(map.get(&9).is_none() && map.get(&10).is_some());
        for number in STEP + 1..10_000 {
            insert(&mut map, number, number - 5);
            assert!(map.len() <= 2 * STEP + 100, "{number}: {}", map.len());
        }
    }

    #[test]
    fn the_entry_that_is_asked_for_is_kept() {
        let mut map = PrunedMap::<usize, Vec<u8>>::default();
        for number in 0..1_000 {
            map.get_or_default(number, |_, _| false).push(1);
            map.get_or_default(number, |_, _| false).push(2);
            assert_eq!(map.get(&number).map(Vec::as_slice), Some(&[1, 2][..]));
            assert!(map.len() <= STEP);
        }
        assert_eq!(map.remove(&999), Some(vec![1, 2]));
        assert!(map.get_mut(&999).is_none() && !map.is_empty());
    }

    #[test]
    fn an_insertion_costs_the_same_among_any_number() {
        let mut map = PrunedMap::default();
        for number in 0..100_000 {
            map.insert(number, (), |_, ()| true);
            assert_eq!(map.insert(number / 2, (), |_, ()| true), Some(()));
        }
        assert_eq!(map.len(), 100_000);
        assert!(map.looks() < 200_000, "{}", map.looks());
    }
}

//! A map by pairs of names, in which all values of one name of either kind are found without a look at the others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The values, by both names.
#[derive(Debug)]
pub struct PairMap<V> {
    values: HashMap<Arc<str>, Seconds<V>>,
    /// The first names of each second one.
    firsts: HashMap<Arc<str>, HashSet<Arc<str>>>,
    len: usize,
    /// How many values were gone through.
    #[cfg(test)]
    looks: std::cell::Cell<usize>,
}

/// The values of a first name, by the second one and in its order: most have one or two, for which a map takes several times
/// the memory.
#[derive(Debug)]
struct Seconds<V>(Box<[(Arc<str>, V)]>);

impl<V> Default for Seconds<V> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<V> Seconds<V> {
    fn position(&self, second: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(second))
    }

    fn get(&self, second: &str) -> Option<&V> {
        self.0.get(self.position(second).ok()?).map(|(_, value)| value)
    }

    fn get_mut(&mut self, second: &str) -> Option<&mut V> {
        let position = self.position(second).ok()?;
        self.0.get_mut(position).map(|(_, value)| value)
    }

    fn insert(&mut self, second: Arc<str>, value: V) -> Option<V> {
        match self.position(&second) {
            Ok(position) => {
                let known = self.0.get_mut(position);
                known.map(|(_, known)| std::mem::replace(known, value))
            }
            Err(position) => {
                let mut values = std::mem::take(&mut self.0).into_vec();
                values.insert(position, (second, value));
                self.0 = values.into_boxed_slice();
                None
            }
        }
    }

    fn remove(&mut self, second: &str) -> Option<V> {
        let position = self.position(second).ok()?;
        let mut values = std::mem::take(&mut self.0).into_vec();
        let (_, value) = values.remove(position);
        self.0 = values.into_boxed_slice();
        Some(value)
    }

    fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().map(|(second, _)| second)
    }

    fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }
}

impl<V> Default for PairMap<V> {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            firsts: HashMap::new(),
            len: 0,
            #[cfg(test)]
            looks: std::cell::Cell::default(),
        }
    }
}

impl<V> PairMap<V> {
    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a pair.
    pub fn get(&self, first: &str, second: &str) -> Option<&V> {
        self.values.get(first)?.get(second)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, first: &str, second: &str) -> Option<&mut V> {
        self.values.get_mut(first)?.get_mut(second)
    }

    /// The names of a pair that has a value, as the map shares them among its pairs.
    pub fn names(&self, first: &str, second: &str) -> Option<(Arc<str>, Arc<str>)> {
        let (first, seconds) = self.values.get_key_value(first)?;
        let position = seconds.position(second).ok()?;
        let (second, _) = seconds.0.get(position)?;
        Some((Arc::clone(first), Arc::clone(second)))
    }

    /// Sets the value of a pair; returns the one before.
    pub fn insert(&mut self, first: &str, second: &str, value: V) -> Option<V> {
        let first = name(self.values.get_key_value(first), first);
        let second = name(self.firsts.get_key_value(second), second);
        let firsts = self.firsts.entry(Arc::clone(&second)).or_default();
        firsts.insert(Arc::clone(&first));
        let before = self.values.entry(first).or_default().insert(second, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes out the value of a pair.
    pub fn remove(&mut self, first: &str, second: &str) -> Option<V> {
        let seconds = self.values.get_mut(first)?;
        let value = seconds.remove(second)?;
        if seconds.0.is_empty() {
            self.values.remove(first);
        }
        self.unlink(first, second);
        self.len -= 1;
        Some(value)
    }

    /// Takes out all values of a first name.
    pub fn remove_first(&mut self, first: &str) {
        let seconds = self.values.remove(first).unwrap_or_default();
        self.look_at(seconds.0.len());
        for second in seconds.names() {
            self.unlink(first, second);
            self.len -= 1;
        }
    }

    /// Takes out all values of a second name.
    pub fn remove_second(&mut self, second: &str) {
        for first in self.firsts_of(second) {
            self.remove(&first, second);
        }
    }

    /// The values of a first name, to change them.
    pub fn of_first_mut(&mut self, first: &str) -> impl Iterator<Item = &mut V> {
        self.look_at(self.values.get(first).map_or(0, |seconds| seconds.0.len()));
        let values = self.values.get_mut(first).into_iter();
        values.flat_map(Seconds::values_mut)
    }

    /// All values, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.look_at(self.len);
        self.values.values_mut().flat_map(Seconds::values_mut)
    }

    /// The first names of a second one.
    pub fn firsts_of(&self, second: &str) -> Vec<Arc<str>> {
        let firsts = self.firsts.get(second);
        self.look_at(firsts.map_or(0, HashSet::len));
        firsts.into_iter().flatten().cloned().collect()
    }

    /// All second names.
    pub fn seconds(&self) -> impl Iterator<Item = &Arc<str>> {
        self.firsts.keys()
    }

    /// Keeps the values of which this is true; it goes through all of them.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&V) -> bool) {
        self.look_at(self.len);
        let mut dropped = Vec::new();
        for (first, seconds) in &self.values {
            let others = seconds.0.iter().filter(|(_, value)| !is_kept(value));
            dropped.extend(others.map(|(second, _)| (Arc::clone(first), Arc::clone(second))));
        }
        for (first, second) in dropped {
            self.remove(&first, &second);
        }
    }

    #[cfg(test)]
    fn look_at(&self, values: usize) {
        self.looks.set(self.looks.get() + values);
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "only tests count")]
    const fn look_at(&self, _: usize) {}

    /// How many values were gone through.
    #[cfg(test)]
    pub(crate) fn looks(&self) -> usize {
        self.looks.get()
    }

    fn unlink(&mut self, first: &str, second: &str) {
        if let Some(firsts) = self.firsts.get_mut(second) {
            firsts.remove(first);
            if firsts.is_empty() {
                self.firsts.remove(second);
            }
        }
    }
}

/// A name: the same piece of memory where a map has it already.
fn name<V>(known: Option<(&Arc<str>, &V)>, name: &str) -> Arc<str> {
    known.map_or_else(|| name.into(), |(known, _)| Arc::clone(known))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_found_by_either_name() {
        let mut map = PairMap::default();
        for (first, second) in [("a", "x"), ("a", "y"), ("b", "x")] {
            assert_eq!(map.insert(first, second, 1), None);
        }
        assert_eq!(map.insert("a", "x", 2), Some(1));
        for value in map.of_first_mut("a") {
            *value += 10;
        }
        assert_eq!(map.get("a", "x"), Some(&12));
        assert_eq!((map.get("a", "y"), map.get("b", "x")), (Some(&11), Some(&1)));
        assert_eq!(map.firsts_of("x").len(), 2);
        assert!(map.firsts_of("z").is_empty() && map.get_mut("b", "y").is_none());
        let of = |first: &str, second: &str| map.names(first, second);
        let (known, other) = (of("a", "x").unwrap(), of("b", "x").unwrap());
        assert_eq!((&*known.0, &*known.1), ("a", "x"));
        assert!(Arc::ptr_eq(&known.1, &other.1), "it is the same piece of memory");
        assert!(of("b", "y").is_none() && of("c", "x").is_none());
    }

    proptest! {
        #[test]
        fn steps_leave_what_they_leave_in_a_flat_map(
            steps in proptest::collection::vec((0..5_u8, "[a-c]", "[x-z]", any::<u8>()), 0..40)
        ) {
            let (mut map, mut flat) = (PairMap::default(), HashMap::<(String, String), u8>::new());
            for (step, first, second, value) in steps {
                let pair = (first.clone(), second.clone());
                match step {
                    0 | 1 => prop_assert_eq!(map.insert(&first, &second, value), flat.insert(pair, value)),
                    2 => prop_assert_eq!(map.remove(&first, &second), flat.remove(&pair)),
                    3 => {
                        map.remove_first(&first);
                        map.remove_second(&second);
                        flat.retain(|pair, _| pair.0 != first && pair.1 != second);
                    }
                    _ => {
                        map.retain(|kept| *kept < value);
                        flat.retain(|_, kept| *kept < value);
                    }
                }
                prop_assert_eq!(map.len(), flat.len());
                prop_assert_eq!(map.values_mut().count(), flat.len());
                for ((first, second), value) in &flat {
                    prop_assert_eq!(map.get(first, second), Some(value));
                    prop_assert!(map.firsts_of(second).iter().any(|known| **known == **first));
                }
                let linked: usize = map.seconds().map(|second| map.firsts_of(second).len()).sum();
                prop_assert_eq!(linked, flat.len(), "nothing else is left");
                prop_assert_eq!(map.is_empty(), map.values.is_empty());
            }
        }
    }
}

//! A map that is a list while it has few entries.

use std::collections::HashMap;
use std::hash::Hash;

/// How many entries are searched one by one: up to there that is faster than a hash.
const FEW: usize = 8;

/// A map for keys that are few in the usual case, and may be many: no hashing and no table for the few, and nothing
/// quadratic for the many. Empty, it has no memory.
#[derive(Debug, Clone)]
pub struct FewMap<K, V>(Entries<K, V>);

/// A set of that kind.
pub type FewSet<K> = FewMap<K, ()>;

#[derive(Debug, Clone)]
enum Entries<K, V> {
    Few(Vec<(K, V)>),
    Many(HashMap<K, V>),
}

impl<K, V> Default for FewMap<K, V> {
    fn default() -> Self {
        Self(Entries::Few(Vec::new()))
    }
}

impl<K: Eq + Hash, V> FewMap<K, V> {
    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        match &self.0 {
            Entries::Few(list) => list
                .iter()
                .find(|(known, _)| known == key)
                .map(|(_, value)| value),
            Entries::Many(map) => map.get(key),
        }
    }

    /// Whether it has a key.
    pub fn contains(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Takes an entry, unless it has one of that key; says whether it took it.
    pub fn insert(&mut self, key: K, value: V) -> bool {
        if self.contains(&key) {
            return false;
        }
        match &mut self.0 {
            Entries::Few(list) if list.len() < FEW => list.push((key, value)),
            Entries::Few(list) => {
                let entries = std::mem::take(list).into_iter();
                self.0 = Entries::Many(entries.chain([(key, value)]).collect());
            }
            Entries::Many(map) => {
                map.insert(key, value);
            }
        }
        true
    }
}

impl<K: Eq + Hash> FewSet<K> {
    /// Takes a member; says whether it is new.
    pub fn add(&mut self, member: K) -> bool {
        self.insert(member, ())
    }
}

impl<K: Eq + Hash> FromIterator<K> for FewSet<K> {
    fn from_iter<T: IntoIterator<Item = K>>(members: T) -> Self {
        let mut set = Self::default();
        for member in members {
            set.add(member);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_has_what_a_map_of_the_first_values_has(
            entries in prop::collection::vec((0..3 * u8::try_from(FEW).unwrap(), any::<u8>()), 0..6 * FEW),
        ) {
            let mut few = FewMap::default();
            let mut map = HashMap::new();
            for (key, value) in entries {
                prop_assert_eq!(few.insert(key, value), !map.contains_key(&key));
                map.entry(key).or_insert(value);
                for key in 0..=u8::MAX {
                    prop_assert_eq!(few.get(&key), map.get(&key));
                }
            }
        }

        #[test]
        fn it_has_what_a_set_has(members in prop::collection::vec(any::<u8>(), 0..4 * FEW)) {
            let few: FewSet<u8> = members.iter().copied().collect();
            let set: HashSet<u8> = members.into_iter().collect();
            for member in 0..=u8::MAX {
                prop_assert_eq!(few.contains(&member), set.contains(&member));
            }
        }
    }

    #[test]
    fn many_entries_are_found_by_their_hash() {
        let mut set = FewSet::default();
        for member in 0..FEW {
            set.add(member);
            assert!(matches!(&set.0, Entries::Few(_)), "{member}");
        }
        assert!(!set.add(0));
        assert!(matches!(&set.0, Entries::Few(_)));
        set.add(FEW);
        assert!(matches!(&set.0, Entries::Many(_)));
    }
}

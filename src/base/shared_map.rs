//! A map by names whose copies share memory: a copy costs a pointer, and a change of one leaves the others as they are.

use std::sync::Arc;

use immutable_chunkmap::map::Map;

/// How many entries a node has room for. A node takes the memory for all of them, and thousands of namespaces have maps of one
/// or two entries.
const ROOM: usize = 8;

/// The map, in the order of the names. A change copies the nodes from the root to its entry that another copy has too, so its cost
/// grows with the logarithm of the number of entries.
#[derive(Debug, Clone)]
pub struct SharedMap<V: Clone>(Map<Arc<str>, V, ROOM>);

impl<V: Clone> Default for SharedMap<V> {
    fn default() -> Self {
        Self(Map::new())
    }
}

impl<V: Clone> SharedMap<V> {
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&V> {
        self.0.get(name)
    }

    /// Whether there is a value of a name.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.into_iter().map(|(name, _)| &**name)
    }

    /// The values, in the order of their names.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.into_iter().map(|(_, value)| value)
    }

    /// The value of a name, to change it in this copy.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        // Nothing is copied for a name that is not there.
        self.0.get(name)?;
        self.0.get_mut_cow(name)
    }

    /// Sets the value of a name; returns the one before.
    pub fn insert(&mut self, name: &str, value: V) -> Option<V> {
        // The name is the same piece of memory in all copies.
        let known = self.0.get_key(name).cloned();
        self.0.insert_cow(known.unwrap_or_else(|| Arc::from(name)), value)
    }

    /// Takes out the value of a name.
    pub fn remove(&mut self, name: &str) -> Option<V> {
        let name = self.0.get_key(name).cloned()?;
        self.0.remove_cow(&name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn content<V: Clone>(map: &SharedMap<V>) -> BTreeMap<String, V> {
        let values = map.values().cloned();
        map.names().map(str::to_owned).zip(values).collect()
    }

    /// A value that is counted when it is copied.
    #[derive(Debug, Default)]
    struct Counted(std::rc::Rc<std::cell::Cell<usize>>);

    impl Clone for Counted {
        fn clone(&self) -> Self {
            self.0.set(self.0.get() + 1);
            Self(std::rc::Rc::clone(&self.0))
        }
    }

    proptest! {
        #[test]
        fn copies_have_what_was_set_in_each(
            steps in prop::collection::vec((0..60_u16, prop::option::of(0..9_u16), 0..8_u8), 0..300),
        ) {
            let (mut map, mut expected) = (SharedMap::default(), BTreeMap::new());
            let mut copies = Vec::new();
            for (number, value, keeps) in steps {
                let name = format!("registry{number}.azurecr.io");
                let before = match value {
                    Some(value) => (map.insert(&name, value), expected.insert(name.clone(), value)),
                    None => (map.remove(&name), expected.remove(&name)),
                };
                prop_assert_eq!(before.0, before.1);
                prop_assert_eq!(map.get(&name), expected.get(&name));
                prop_assert_eq!(map.get_mut(&name).copied(), expected.get(&name).copied());
                prop_assert_eq!(map.contains(&name), expected.contains_key(&name));
                if keeps == 0 {
                    copies.push((map.clone(), expected.clone()));
                }
            }
            copies.push((map, expected));
            for (map, expected) in copies {
                prop_assert!(map.names().is_sorted());
                prop_assert_eq!(content(&map), expected);
            }
        }
    }

    #[test]
    fn a_change_copies_a_way_to_its_entry() {
        for count in [100, 10_000] {
            let (copies, mut first) = (Counted::default(), SharedMap::default());
            for number in 0..count {
                first.insert(&number.to_string(), Counted(std::rc::Rc::clone(&copies.0)));
            }
            let cost = |step: &mut dyn FnMut()| {
                copies.0.set(0);
                step();
                copies.0.get()
            };
            let another = || Counted(std::rc::Rc::clone(&copies.0));
            let mut second = first.clone();
            // A node has eight entries, and there are at most fifteen on a way.
            let most = 15 * ROOM;
            assert!(
                cost(&mut || drop(second.insert("7", another()))) <= most,
                "{count}"
            );
            assert!(
                cost(&mut || drop(second.insert("another", another()))) <= most,
                "{count}"
            );
            assert!(cost(&mut || drop(second.remove("another"))) <= most, "{count}");
            assert_eq!(
                cost(&mut || assert!(second.get_mut("stranger").is_none())),
                0,
                "{count}"
            );
            assert_eq!(first.names().count(), second.names().count());
        }
    }
}

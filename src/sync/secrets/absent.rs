//! Which pull secrets are known not to be there, a bit for each pair: fifty registries that are each for a part of ten
//! thousand namespaces are half a million pairs.

use std::collections::HashMap;

use crate::sync::pair::Pair;

/// Pairs of a namespace and a registry.
#[derive(Debug, Default)]
pub(super) struct Absent {
    /// The number of each registry's bit.
    bits: HashMap<String, usize>,
    /// Numbers of registries that were forgotten: no namespace has their bits.
    free: Vec<usize>,
    namespaces: HashMap<Box<str>, Bits>,
}

/// The bits of a namespace.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Where a bit is, and the bit there.
    fn place(number: usize) -> (usize, u64) {
        (number / 64, 1 << (number % 64))
    }

    fn has(&self, number: usize) -> bool {
        let (index, bit) = Self::place(number);
        self.0.get(index).is_some_and(|word| word & bit != 0)
    }

    fn set(&mut self, number: usize) {
        let (index, bit) = Self::place(number);
        if self.0.len() <= index {
            // No more than that: there are as many of these as namespaces.
            self.0.reserve_exact(index + 1 - self.0.len());
            self.0.resize(index + 1, 0);
        }
        if let Some(word) = self.0.get_mut(index) {
            *word |= bit;
        }
    }

    fn clear(&mut self, number: usize) {
        let (index, bit) = Self::place(number);
        if let Some(word) = self.0.get_mut(index) {
            *word &= !bit;
        }
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

impl Absent {
    /// Whether the pull secret of a pair is known to be absent.
    pub(super) fn contains(&self, (namespace, registry): &Pair) -> bool {
        let number = self.bits.get(registry);
        let bits = self.namespaces.get(namespace.as_str());
        number.zip(bits).is_some_and(|(number, bits)| bits.has(*number))
    }

    /// Notes that it is.
    pub(super) fn insert(&mut self, (namespace, registry): &Pair) {
        let number = match self.bits.get(registry) {
            Some(number) => *number,
            None => {
                let unused = self.bits.len();
                let number = self.free.pop().unwrap_or(unused);
                self.bits.insert(registry.clone(), number);
                number
            }
        };
        match self.namespaces.get_mut(namespace.as_str()) {
            Some(bits) => bits.set(number),
            None => {
                let mut bits = Bits::default();
                bits.set(number);
                self.namespaces.insert(namespace.as_str().into(), bits);
            }
        }
    }

    /// Forgets that it is.
    pub(super) fn remove(&mut self, (namespace, registry): &Pair) {
        let number = self.bits.get(registry);
        let bits = self.namespaces.get_mut(namespace.as_str());
        let Some((number, bits)) = number.zip(bits) else {
            return;
        };
        bits.clear(*number);
        if bits.is_empty() {
            self.namespaces.remove(namespace.as_str());
        }
    }

    /// Forgets a registry. Another one may have its bit then.
    pub(super) fn forget_registry(&mut self, registry: &str) {
        let Some(number) = self.bits.remove(registry) else {
            return;
        };
        self.namespaces.retain(|_, bits| {
            bits.clear(number);
            !bits.is_empty()
        });
        self.free.push(number);
    }

    /// Forgets the namespaces that are not there any more.
    pub(super) fn keep_namespaces(&mut self, exists: impl Fn(&str) -> bool) {
        self.namespaces.retain(|namespace, _| exists(namespace));
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn pair(namespace: u8, registry: u8) -> Pair {
        (format!("n{namespace}"), format!("r{registry}"))
    }

    proptest! {
        #[test]
        fn bits_are_those_of_a_set_of_pairs(
            operations in proptest::collection::vec((0..12_u8, 0..4_u8, 0..150_u8), 0..400)
        ) {
            let (mut absent, mut expected) = (Absent::default(), HashSet::new());
            for (operation, namespace, registry) in operations {
                let pair = pair(namespace, registry);
                match operation {
                    0 => {
                        absent.forget_registry(&pair.1);
                        expected.retain(|known: &Pair| known.1 != pair.1);
                    }
                    1 => {
                        absent.keep_namespaces(|known| known != pair.0);
                        expected.retain(|known| known.0 != pair.0);
                    }
                    2 | 3 => {
                        absent.remove(&pair);
                        expected.remove(&pair);
                    }
                    4 if namespace == 0 && registry == 0 => {
                        absent.clear();
                        expected.clear();
                    }
                    _ => {
                        absent.insert(&pair);
                        expected.insert(pair);
                    }
                }
            }
            for (namespace, registry) in (0..4).flat_map(|namespace| (0..150).map(move |registry| (namespace, registry))) {
                let pair = pair(namespace, registry);
                prop_assert_eq!(absent.contains(&pair), expected.contains(&pair), "{:?}", pair);
            }
        }
    }

    #[test]
    fn registries_that_come_and_go_share_a_bit() {
        let mut absent = Absent::default();
        for number in 0..10_000 {
            let pair = ("apps".to_owned(), format!("registry{number}"));
            absent.insert(&pair);
            absent.forget_registry(&pair.1);
            assert!(!absent.contains(&pair));
        }
        absent.insert(&pair(0, 0));
        let words: usize = absent.namespaces.values().map(|bits| bits.0.len()).sum();
        assert_eq!((absent.bits.len(), words), (1, 1));
    }
}

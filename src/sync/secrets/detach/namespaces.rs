//! The namespaces at the last look at detached registries: each of them is to lose its pull secret, those that come meanwhile too.

use std::sync::Arc;

/// A name that all detached registries share.
pub(in crate::sync::secrets) type Name = Arc<str>;

/// The names, and which revision of all namespaces they are.
#[derive(Debug, Default)]
pub(in crate::sync::secrets) struct KnownNamespaces {
    /// None before the first look.
    pub(super) revision: Option<u64>,
    /// In order.
    pub(super) names: Arc<[Name]>,
}

/// What changed between two looks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) came: Vec<Name>,
    pub(super) gone: Vec<Name>,
}

impl KnownNamespaces {
    /// Takes another revision of all namespaces.
    pub(super) fn update(&mut self, revision: u64, mut listed: Vec<String>) -> Difference {
        listed.sort_unstable();
        let before = &self.names;
        let known = |name: &str| {
            let index = before.binary_search_by(|known| (**known).cmp(name)).ok()?;
            before.get(index)
        };
        let mut came = Vec::new();
        let names: Arc<[Name]> = listed
            .iter()
            .map(|name| match known(name) {
                Some(name) => Arc::clone(name),
                None => {
                    let name = Name::from(name.as_str());
                    came.push(Arc::clone(&name));
                    name
                }
            })
            .collect();
        let is_gone = |name: &&Name| names.binary_search(name).is_err();
        let gone = before.iter().filter(is_gone).cloned().collect();
        *self = Self {
            revision: Some(revision),
            names,
        };
        Difference { came, gone }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Name> {
        names.iter().map(|name| Name::from(*name)).collect()
    }

    #[test]
    fn another_revision_tells_what_came_and_what_is_gone() {
        let mut known = KnownNamespaces::default();
        let listed = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        for (revision, list, came, gone) in [
            (1, &["b", "a"][..], &["a", "b"][..], &[][..]),
            (2, &["c", "a", "b"], &["c"], &[]),
            (3, &["d", "c"], &["d"], &["a", "b"]),
            (4, &[], &[], &["c", "d"]),
        ] {
            let before = Arc::clone(&known.names);
            let difference = known.update(revision, listed(list));
            let expected = Difference {
                came: names(came),
                gone: names(gone),
            };
            assert_eq!(difference, expected, "{list:?}");
            assert!(known.names.is_sorted() && known.names.len() == list.len());
            assert_eq!(known.revision, Some(revision));
            let shared = before.iter().filter(|name| known.names.contains(*name));
            let same = shared.filter(|name| known.names.iter().any(|kept| Arc::ptr_eq(name, kept)));
            assert_eq!(same.count(), list.len() - came.len(), "they are not copied");
        }
    }
}

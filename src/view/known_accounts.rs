//! Which `ServiceAccounts` there are, so that one which is newer than the cache can be told from one that enforces nothing.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// How many are remembered, in 2 MB or so. Anybody who may create `ServiceAccounts` can fill that.
const MAX_KNOWN: usize = 200_000;

/// The `ServiceAccounts` that are known, by a hash of namespace and name that nobody outside can foresee: of most of them nothing
/// else is kept.
#[derive(Clone, Debug, Default)]
pub struct KnownAccounts {
    hashes: HashSet<u64>,
    key: RandomState,
    /// There were too many. All count as known from then on, and none is remembered.
    is_full: bool,
}

impl KnownAccounts {
    fn hash(&self, namespace: &str, name: &str) -> u64 {
        self.key.hash_one((namespace, name))
    }

    /// Whether there is one of that name, or there are too many to say.
    pub fn has(&self, namespace: &str, name: &str) -> bool {
        self.is_full || self.hashes.contains(&self.hash(namespace, name))
    }

    /// Remembers one; says whether that was one too many.
    pub fn insert(&mut self, namespace: &str, name: &str) -> bool {
        if self.is_full {
            return false;
        }
        self.hashes.insert(self.hash(namespace, name));
        self.is_full = self.hashes.len() > MAX_KNOWN;
        if self.is_full {
            self.hashes = HashSet::new();
        }
        self.is_full
    }

    /// Forgets one.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        let hash = self.hash(namespace, name);
        self.hashes.remove(&hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_known_until_they_are_gone() {
        let mut known = KnownAccounts::default();
        assert!(!known.has("apps", "default"));
        assert!(!known.insert("apps", "default") && !known.insert("apps", "default"));
        assert!(known.has("apps", "default"));
        assert!(
            !known.has("apps", "other") && !known.has("other", "default") && !known.has("app", "sdefault")
        );
        known.remove("apps", "default");
        known.remove("apps", "default");
        assert!(!known.has("apps", "default"));
    }

    #[test]
    fn too_many_accounts_all_count_as_known() {
        let mut known = KnownAccounts::default();
        for number in 0..MAX_KNOWN {
            assert!(!known.insert("apps", &number.to_string()), "{number}");
        }
        assert!(!known.has("shop", "default"));
        assert!(known.insert("shop", "default"), "it is told once");
        assert!(!known.insert("shop", "other"));
        known.remove("shop", "other");
        assert!(known.has("shop", "other") && known.has("apps", "0"));
        assert_eq!(known.hashes.capacity(), 0);
    }
}

//! How the last write of each pull secret went, counted as it is noted: a status costs what changed, and not one look at
//! every pair of namespace and registry.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use crate::sync::pair::SharedPair;
use crate::sync::pull_secret::WriteError;

/// How the last write of a pair went: the version that was written.
pub(super) type WriteResult = Result<Timestamp, WriteError>;

/// The results of all pairs.
#[derive(Debug, Default)]
pub(super) struct Written {
    results: HashMap<SharedPair, WriteResult>,
    counts: HashMap<String, Counts>,
}

/// Those of a registry.
#[derive(Debug, Default)]
struct Counts {
    /// How many namespaces have each version of the credential.
    versions: BTreeMap<Timestamp, i64>,
    /// Namespaces in which a foreign Secret has the name; shared with the tally, which is told again and again.
    conflicts: Arc<BTreeSet<String>>,
    /// Pairs whose write failed for another reason; of one registry, so in the order of their namespaces.
    refused: BTreeSet<SharedPair>,
}

impl Counts {
    fn add(&mut self, pair: &SharedPair, result: &WriteResult) {
        match result {
            Ok(version) => *self.versions.entry(*version).or_default() += 1,
            Err(WriteError::Foreign) => {
                Arc::make_mut(&mut self.conflicts).insert(pair.0.clone());
            }
            Err(_) => {
                self.refused.insert(Arc::clone(pair));
            }
        }
    }

    fn subtract(&mut self, pair: &SharedPair, result: &WriteResult) {
        match result {
            Ok(version) => {
                let count = self.versions.entry(*version).or_default();
                *count -= 1;
                if *count == 0 {
                    self.versions.remove(version);
                }
            }
            Err(WriteError::Foreign) => {
                Arc::make_mut(&mut self.conflicts).remove(&pair.0);
            }
            Err(_) => {
                self.refused.remove(pair);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.conflicts.is_empty() && self.refused.is_empty()
    }
}

impl Written {
    /// How the last write of a pair went.
    pub(super) fn get(&self, pair: &SharedPair) -> Option<&WriteResult> {
        self.results.get(pair)
    }

    /// A pair as it is known here, if it is.
    pub(super) fn known(&self, pair: &(String, String)) -> Option<&SharedPair> {
        self.results.get_key_value(pair).map(|(known, _)| known)
    }

    /// Whether anything is known of a pair.
    pub(super) fn contains(&self, pair: &SharedPair) -> bool {
        self.results.contains_key(pair)
    }

    /// Notes how a write went.
    pub(super) fn insert(&mut self, pair: SharedPair, result: WriteResult) {
        if self.results.get(&pair) == Some(&result) {
            // As where a write is tried again and again.
            return;
        }
        self.remove(&pair);
        let counts = match self.counts.get_mut(&pair.1) {
            Some(counts) => counts,
            None => self.counts.entry(pair.1.clone()).or_default(),
        };
        counts.add(&pair, &result);
        self.results.insert(pair, result);
    }

    /// Forgets a pair.
    pub(super) fn remove(&mut self, pair: &SharedPair) {
        if let Some(result) = self.results.remove(pair) {
            subtract(&mut self.counts, pair, &result);
        }
    }

    /// Forgets the pull secrets of a namespace that is gone, and theirs with it. What failed is tried again, and told until then.
    pub(super) fn forget_written_in(&mut self, namespace: &str) {
        let registries: Vec<String> = self.counts.keys().cloned().collect();
        for registry in registries {
            let pair = Arc::new((namespace.to_owned(), registry));
            if matches!(self.get(&pair), Some(Ok(_))) {
                self.remove(&pair);
            }
        }
    }

    /// Forgets what is in other namespaces than these.
    pub(super) fn keep_namespaces(&mut self, exists: impl Fn(&str) -> bool) {
        let gone = self.results.extract_if(|pair, _| !exists(&pair.0));
        for (pair, result) in gone {
            subtract(&mut self.counts, &pair, &result);
        }
    }

    /// In how many namespaces a registry's pull secret has this version of the credential.
    pub(super) fn served(&self, registry: &str, version: Timestamp) -> i64 {
        let counts = self.counts.get(registry);
        counts
            .and_then(|counts| counts.versions.get(&version))
            .copied()
            .unwrap_or_default()
    }

    /// In how many namespaces a registry's pull secret could not be written.
    pub(super) fn failed(&self, registry: &str) -> i64 {
        let counts = self.counts.get(registry);
        let failed = counts.map_or(0, |counts| counts.conflicts.len() + counts.refused.len());
        i64::try_from(failed).unwrap_or(i64::MAX)
    }

    /// The namespaces in which a foreign Secret has its name.
    pub(super) fn conflicts(&self, registry: &str) -> Arc<BTreeSet<String>> {
        let counts = self.counts.get(registry);
        counts.map_or_else(Arc::default, |counts| Arc::clone(&counts.conflicts))
    }

    /// The first namespace in which it could not be written for another reason, and why.
    pub(super) fn refusal(&self, registry: &str) -> Option<(&str, &WriteError)> {
        let pair = self.counts.get(registry)?.refused.first()?;
        let error = self.results.get(pair)?.as_ref().err()?;
        Some((pair.0.as_str(), error))
    }
}

/// Removes a result from the counts. A registry of which nothing is left is forgotten.
fn subtract(counts: &mut HashMap<String, Counts>, pair: &SharedPair, result: &WriteResult) {
    let Some(of_registry) = counts.get_mut(&pair.1) else {
        return;
    };
    of_registry.subtract(pair, result);
    if of_registry.is_empty() {
        counts.remove(&pair.1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What may be done, with what and how.
    type Operation = (u8, (u8, u8), u8);

    fn pair((namespace, registry): (u8, u8)) -> SharedPair {
        Arc::new((format!("n{namespace}"), format!("r{registry}")))
    }

    fn result(kind: u8) -> WriteResult {
        match kind {
            0 => Ok(Timestamp::UNIX_EPOCH),
            1 => Ok(Timestamp::MIN),
            2 => Err(WriteError::Foreign),
            _ => Err(WriteError::Timeout),
        }
    }

    fn done(operations: &[Operation]) -> Written {
        let mut written = Written::default();
        for (operation, place, kind) in operations {
            match operation {
                0 => written.remove(&pair(*place)),
                1 => written.forget_written_in(&pair(*place).0),
                2 => written.keep_namespaces(|namespace| namespace != pair(*place).0),
                _ => written.insert(pair(*place), result(*kind)),
            }
        }
        written
    }

    proptest! {
        #[test]
        fn counts_are_those_of_a_look_at_every_pair(
            operations in proptest::collection::vec((0..9_u8, (0..5_u8, 0..3_u8), 0..4_u8), 0..60)
        ) {
            let written = done(&operations);
            for registry in ["r0", "r1", "r2"] {
                let all = || written.results.iter().filter(|(pair, _)| pair.1 == registry);
                for version in [Timestamp::UNIX_EPOCH, Timestamp::MIN] {
                    let served = all().filter(|(_, result)| **result == Ok(version)).count();
                    prop_assert_eq!(written.served(registry, version), i64::try_from(served).unwrap());
                }
                let failed: BTreeMap<_, _> = all()
                    .filter_map(|(pair, result)| Some((pair.0.as_str(), result.as_ref().err()?)))
                    .collect();
                let is_conflict = |error: &WriteError| *error == WriteError::Foreign;
                prop_assert_eq!(written.failed(registry), i64::try_from(failed.len()).unwrap());
                let conflicts = failed.iter().filter(|(_, error)| is_conflict(error));
                let conflicts: BTreeSet<_> = conflicts.map(|(namespace, _)| (*namespace).to_owned()).collect();
                prop_assert_eq!(&*written.conflicts(registry), &conflicts);
                let refusal = failed.into_iter().find(|(_, error)| !is_conflict(error));
                prop_assert_eq!(written.refusal(registry), refusal);
                prop_assert_eq!(written.counts.contains_key(registry), all().next().is_some());
            }
        }

        #[test]
        fn a_namespace_that_goes_takes_what_was_written_along(
            operations in proptest::collection::vec((3..9_u8, (0..5_u8, 0..3_u8), 0..4_u8), 0..60)
        ) {
            let before = done(&operations);
            let mut written = done(&operations);
            written.forget_written_in("n0");
            for (pair, result) in &before.results {
                let stays = pair.0 != "n0" || result.is_err();
                prop_assert_eq!(written.get(pair), Some(result).filter(|_| stays));
            }
        }
    }

    #[test]
    fn a_tally_costs_what_changed_since_the_last() {
        let mut written = Written::default();
        for namespace in 0..100 {
            written.insert(pair((namespace, 0)), Err(WriteError::Foreign));
        }
        let told = written.conflicts("r0");
        // Tried again, and others.
        written.insert(pair((7, 0)), Err(WriteError::Foreign));
        written.insert(pair((7, 1)), Err(WriteError::Foreign));
        written.insert(pair((100, 0)), Err(WriteError::Timeout));
        assert!(Arc::ptr_eq(&told, &written.conflicts("r0")), "it is not copied");
        written.insert(pair((7, 0)), Err(WriteError::Timeout));
        assert_eq!((told.len(), written.conflicts("r0").len()), (100, 99));
    }
}

//! Which bindings have series in the metrics: those that are served, and as many of a namespace that are not. Its owner fills
//! neither the leader's memory nor that of the system that reads the metrics, and all of them are known when one is deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::api::names::binding_of_key;
use crate::policy::attached::bindings::MAX_SERVED;

/// The bindings with series, by namespace.
#[derive(Debug, Default)]
pub(super) struct Series(Mutex<BTreeMap<String, BTreeSet<String>>>);

impl Series {
    /// Whether a binding may have series; it is known until it is removed. Of those that are served there are few.
    pub(super) fn admit(&self, key: &str, is_served: bool) -> bool {
        let Some((namespace, _)) = binding_of_key(key) else {
            return false;
        };
        let mut all = self.lock();
        let here = all.entry(namespace.to_owned()).or_default();
        let may = is_served || here.contains(key) || here.len() < MAX_SERVED;
        if may {
            here.insert(key.to_owned());
        }
        may
    }

    /// Says that a binding has none any more.
    pub(super) fn remove(&self, key: &str) {
        let Some((namespace, _)) = binding_of_key(key) else {
            return;
        };
        let mut all = self.lock();
        if let Some(here) = all.get_mut(namespace) {
            here.remove(key);
            if here.is_empty() {
                all.remove(namespace);
            }
        }
    }

    /// All that have any.
    pub(super) fn keys(&self) -> Vec<String> {
        self.lock().values().flatten().cloned().collect()
    }

    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_a_namespace_are_bounded_and_go() {
        let series = Series::default();
        let key = |number: usize| format!("shop/b{number}");
        let admitted = (0..10_000).filter(|number| series.admit(&key(*number), false));
        assert_eq!(admitted.count(), MAX_SERVED);
        assert!(series.admit(&key(0), false), "it has them already");
        assert!(series.admit("blog/app", false), "it is not another's");
        series.remove(&key(3));
        assert!(series.admit(&key(MAX_SERVED), false) && !series.admit(&key(3), false));
        assert!(series.admit(&key(3), true), "one that is served has its series");
        assert_eq!(series.keys().len(), MAX_SERVED + 2);
        for key in series.keys() {
            series.remove(&key);
        }
        assert!(series.lock().is_empty(), "nothing is left of it");
        assert!(!series.admit("an-acr-registry", true));
    }
}

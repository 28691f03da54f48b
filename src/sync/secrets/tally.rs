//! The state of the pull secrets of each registry, for statuses.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;

use super::work::Work;
use super::{SecretsController, now};

/// How long a registry that is detached is remembered: far longer than an attempt to mint lasts.
const DETACHED_INTERVAL: Duration = Duration::from_mins(10);

/// The state of the pull secrets of a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Namespaces that have the credential in use.
    pub served: i64,
    /// Namespaces in which the pull secret could not be written.
    pub failed: i64,
    /// Namespaces in which a foreign Secret has the name.
    pub conflicts: Arc<BTreeSet<String>>,
    /// The first namespace in which the API server did not write it for another reason, and what it said.
    pub refusal: Option<(String, String)>,
    /// This leader has handled everything that existed when it began. Until then its predecessor's count is more
    /// complete.
    pub is_settled: bool,
}

/// The tallies of all registries, for their statuses.
#[derive(Debug)]
pub struct Tallies {
    tallies: Mutex<HashMap<String, Tally>>,
    changed: broadcast::Sender<String>,
}

impl Default for Tallies {
    fn default() -> Self {
        Self {
            tallies: Mutex::default(),
            changed: broadcast::Sender::new(256),
        }
    }
}

impl Tallies {
    /// The tally of a registry.
    pub fn of(&self, registry: &str) -> Tally {
        self.tallies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(registry)
            .cloned()
            .unwrap_or_default()
    }

    /// Names of registries whose tally changed, from now on.
    pub fn changes(&self) -> broadcast::Receiver<String> {
        self.changed.subscribe()
    }

    /// Forgets a registry that is detached.
    pub(super) fn remove(&self, registry: &str) {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.remove(registry);
    }

    pub(super) fn set(&self, registry: &str, tally: Tally) {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        if tallies.get(registry) != Some(&tally) {
            tallies.insert(registry.to_owned(), tally);
            // Nobody listening is fine.
            let _ = self.changed.send(registry.to_owned());
        }
    }
}

impl SecretsController {
    /// Tells the state of the pull secrets of every registry.
    pub(super) fn tally_all(&self, work: &mut Work) {
        let registries = self.watches.view.registries();
        let now = now();
        work.settle(&registries, now);
        for name in registries.names() {
            match work.seen.get_mut(name) {
                Some(at) => *at = now,
                None => {
                    work.seen.insert(name.to_owned(), now);
                }
            }
        }
        for registry in registries.each() {
            let tally = self.tally(work, registry.name());
            // Until then there is nothing, or what this process counted when it led before.
            if tally.is_settled {
                self.metrics
                    .registries
                    .namespaces(registry.name(), tally.served, tally.failed);
            }
            self.tallies.set(registry.name(), tally);
        }
        // Each time, since an attempt to mint that was under way can bring a series back.
        for name in work.seen.keys().filter(|name| !registries.is_attached(name)) {
            self.metrics.registries.detached(name);
            self.tallies.remove(name);
        }
        work.seen
            .retain(|_, at| now.saturating_duration_since(*at) < DETACHED_INTERVAL);
    }

    /// The state of the pull secrets of a registry.
    fn tally(&self, work: &Work, registry: &str) -> Tally {
        let minted = self.watches.credentials.of(registry);
        let refusal = work.written.refusal(registry);
        Tally {
            // Of a former credential nobody knows whether it still works.
            served: minted.map_or(0, |minted| work.written.served(registry, minted.refreshed_at)),
            failed: work.written.failed(registry),
            conflicts: work.written.conflicts(registry),
            refusal: refusal.map(|(namespace, error)| (namespace.to_owned(), error.to_string())),
            is_settled: work.settled.contains(registry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_that_is_the_same_is_kept() {
        let tallies = Tallies::default();
        let tell = |conflicts: &[&str]| {
            let conflicts: BTreeSet<String> = conflicts.iter().map(|name| (*name).to_owned()).collect();
            let tally = Tally {
                conflicts: Arc::new(conflicts),
                ..Tally::default()
            };
            tallies.set("mine", tally);
            tallies.of("mine").conflicts
        };
        let first = tell(&["apps"]);
        assert!(Arc::ptr_eq(&first, &tell(&["apps"])));
        assert!(!Arc::ptr_eq(&first, &tell(&["apps", "other"])));
    }
}

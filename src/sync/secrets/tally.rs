//! How the pull secrets of each registry stand, for statuses.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use tokio::sync::broadcast;

/// How the pull secrets of a registry stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Namespaces that have the credential in use.
    pub served: i64,
    /// Namespaces in which it could not be written.
    pub failed: i64,
    /// Namespaces in which a foreign Secret has the name.
    pub conflicts: BTreeSet<String>,
    /// The first namespace in which the API server did not write it for another reason, and what it said.
    pub refusal: Option<(String, String)>,
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

    pub(super) fn set(&self, registry: &str, tally: Tally) {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        if tallies.insert(registry.to_owned(), tally.clone()) != Some(tally) {
            // Nobody listening is fine.
            let _ = self.changed.send(registry.to_owned());
        }
    }
}

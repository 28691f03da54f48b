//! What the secrets controller has to do, and what it remembers of what it did.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::RETRY_BACKOFF;
use super::detach::Detached;
use crate::policy::attached::AttachedRegistry;
use crate::sync::failures::Failures;
use crate::sync::pull_secret::WriteError;

/// A namespace and the name of a registry; shared, since there are as many as a cluster has namespaces, and each is in
/// several places at once.
pub type Pair = Arc<(String, String)>;

pub(super) struct Work {
    /// Pairs that Pods need, and when a Pod was last seen that does.
    pub(super) wanted: HashMap<Pair, Instant>,
    /// How the last write of a pair went: the version that was written.
    pub(super) written: HashMap<Pair, Result<Timestamp, WriteError>>,
    pub(super) queue: VecDeque<Pair>,
    pub(super) queued: HashSet<Pair>,
    /// Pairs being worked on; they are queued again when something happens meanwhile.
    pub(super) busy: HashSet<Pair>,
    again: HashSet<Pair>,
    pub(super) retries: BTreeMap<Instant, Vec<Pair>>,
    /// Pairs whose last write failed.
    pub(super) failures: Failures<Pair>,
    /// Registries that are detached and whose credential still has a Secret.
    pub(super) detached: HashMap<String, Detached>,
    /// One was detached just now.
    pub(super) is_detached: bool,
    /// Of registries that are attached: the namespaces whose pull secret is known to be gone, until the registry's selector
    /// or the namespace's labels change.
    absent: HashMap<String, HashSet<String>>,
    /// The registries as they were last looked at: what changed is told by them.
    pub(super) looked_at: HashMap<String, AttachedRegistry>,
    /// Pairs that should have no pull secret, and of which nobody knows whether they have one: nobody who led before told.
    /// They are looked at slowly, behind all else.
    pub(super) sweep: VecDeque<Pair>,
    to_sweep: HashSet<Pair>,
    /// Registries that were attached at some time, so that it is known what is to be forgotten of them.
    pub(super) seen: BTreeSet<String>,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            wanted: HashMap::new(),
            written: HashMap::new(),
            queue: VecDeque::new(),
            queued: HashSet::new(),
            busy: HashSet::new(),
            again: HashSet::new(),
            retries: BTreeMap::new(),
            failures: Failures::new(RETRY_BACKOFF),
            detached: HashMap::new(),
            is_detached: false,
            absent: HashMap::new(),
            looked_at: HashMap::new(),
            sweep: VecDeque::new(),
            to_sweep: HashSet::new(),
            seen: BTreeSet::new(),
        }
    }
}

impl Work {
    /// The pair as it is known already, if it is.
    pub(super) fn pair(&self, namespace: String, registry: String) -> Pair {
        let pair = (namespace, registry);
        match self.wanted.get_key_value(&pair) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::new(pair),
        }
    }

    pub(super) fn enqueue(&mut self, pair: Pair) {
        if self.busy.contains(&pair) {
            self.again.insert(pair);
        } else if self.queued.insert(pair.clone()) {
            self.queue.push_back(pair);
        }
    }

    /// Looks at a pair when there is time for it.
    pub(super) fn sweep(&mut self, pair: Pair) {
        if self.to_sweep.insert(pair.clone()) {
            self.sweep.push_back(pair);
        }
    }

    /// Looks at a pair when there is time for it, before all others of that kind.
    pub(super) fn sweep_next(&mut self, pair: Pair) {
        if self.to_sweep.insert(pair.clone()) {
            self.sweep.push_front(pair);
        }
    }

    /// Whether a pair is worked on, is about to be, or waits after a failure.
    pub(super) fn is_under_way(&self, pair: &Pair) -> bool {
        self.busy.contains(pair) || self.queued.contains(pair) || self.waits(pair)
    }

    /// Takes some pairs of the sweep up, where nothing else waits.
    pub(super) fn take_up_sweep(&mut self, most: usize) {
        if !self.queue.is_empty() {
            return;
        }
        let pairs: Vec<Pair> = self.sweep.drain(..most.min(self.sweep.len())).collect();
        for pair in pairs {
            self.to_sweep.remove(&pair);
            self.enqueue(pair);
        }
    }

    pub(super) fn next(&mut self) -> Option<Pair> {
        let pair = self.queue.pop_front()?;
        self.queued.remove(&pair);
        self.busy.insert(pair.clone());
        Some(pair)
    }

    pub(super) fn done(&mut self, pair: &Pair) {
        self.busy.remove(pair);
        if self.again.remove(pair) {
            self.enqueue(pair.clone());
        }
    }

    /// Remembers that a namespace has no pull secret of a registry.
    pub(super) fn has_none(&mut self, (namespace, registry): &(String, String), is_attached: bool) {
        let known = if is_attached {
            Some(self.absent.entry(registry.clone()).or_default())
        } else {
            self.detached
                .get_mut(registry)
                .map(|detached| &mut detached.cleared)
        };
        known.map(|known| known.insert(namespace.clone()));
    }

    /// Whether a namespace is known to have no pull secret of an attached registry. Where a Pod names it, a replica that has
    /// not heard of a change yet may write it at any time.
    pub(super) fn is_absent(&self, pair: &Pair) -> bool {
        let known = self.absent.get(&pair.1);
        !self.wanted.contains_key(pair) && known.is_some_and(|known| known.contains(&pair.0))
    }

    /// Forgets that a pair is known to be absent: it may be written now, or was.
    pub(super) fn may_be_present(&mut self, (namespace, registry): &(String, String)) {
        if let Some(known) = self.absent.get_mut(registry) {
            known.remove(namespace);
        }
    }

    /// Forgets all that is known to be absent, as changes were missed.
    pub(super) fn forget_what_is_absent(&mut self) {
        self.absent.clear();
    }

    /// Counts a failure, and tries again after a while that grows.
    pub(super) fn failed(&mut self, pair: &Pair, error: &WriteError, now: Instant) {
        let at = self.failures.failed(Arc::clone(pair), error, now);
        self.retries.entry(at).or_default().push(Arc::clone(pair));
    }

    /// Has the pairs of a registry wait no longer.
    pub(super) fn forget_failures(&mut self, registry: &str) {
        self.failures.retain(|pair| pair.1 != registry);
    }

    /// Whether a pair failed and is not to be tried yet.
    pub(super) fn waits(&self, pair: &Pair) -> bool {
        self.failures.waits(pair, Instant::now())
    }

    /// Whether a Pod needs it.
    pub(super) fn is_wanted(&self, pair: &Pair) -> bool {
        self.wanted.contains_key(pair)
    }

    /// Forgets what is known of a registry that is not attached any more.
    pub(super) fn forget_absent(&mut self, registry: &str) {
        self.absent.remove(registry);
    }

    /// Forgets namespaces that are gone.
    pub(super) fn keep_namespaces(&mut self, exists: impl Fn(&str) -> bool) {
        self.written.retain(|pair, _| exists(&pair.0));
        self.failures.retain(|pair| exists(&pair.0));
        let cleared = self.detached.values_mut().map(|detached| &mut detached.cleared);
        for known in self.absent.values_mut().chain(cleared) {
            known.retain(|namespace| exists(namespace));
        }
    }
}

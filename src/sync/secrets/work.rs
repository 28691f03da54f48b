//! What the secrets controller has to do, and what it remembers of what it did.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::absent::Absent;
use super::detach::namespaces::KnownNamespaces;
use super::detach::progress::Detached;
use super::lost::Lost;
use super::repairs::Repairs;
use super::step::Step;
use super::swept::basis::NoteBasis;
use super::swept::note::Swept;
use super::written::Written;
use super::{RETRY_BACKOFF, now};
use crate::base::tracked::Tracked;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::registry::custom_domain::CustomDomain;
use crate::sync::failures::Failures;
use crate::sync::pair::SharedPair;
use crate::sync::pull_secret::WriteError;
use crate::sync::unwritten_events::UnwrittenSender;

/// How many pairs may wait for the sweep before those are left out that most likely have no pull secret: a leader that nobody told
/// anything has millions to sweep in a large cluster.
const MAX_SWEPT_IN_DOUBT: usize = 50_000;
/// After which time a leader tells what it counts in any case, also where it could not look at all Pods.
const SETTLE_TIMEOUT: Duration = Duration::from_mins(5);

/// How everything is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// What was written is written again behind all other work.
    Again,
    /// Changes were not told one by one, or not at all: what was written may have gone with its namespace, or hold what it should
    /// not hold any more.
    Afresh,
}

pub(super) struct Work {
    /// Pairs that Pods need, and when a Pod was last seen that does.
    pub(super) wanted: HashMap<SharedPair, Instant>,
    /// Pairs that nothing needs now, and whose pull secret is written once more all the same.
    rewrites: HashSet<SharedPair>,
    /// Those of them whose turn it is.
    rewriting: HashSet<SharedPair>,
    /// How the last write of a pair went.
    pub(super) written: Written,
    pub(super) queue: VecDeque<SharedPair>,
    /// Those that a Pod began to need: they come first, and may stand in the queue too.
    needed: VecDeque<SharedPair>,
    /// What is in either of them, each pair once.
    pub(super) queued: Tracked<HashSet<SharedPair>>,
    /// Pairs that have what they are to have, as far as is known here.
    pub(super) repairs: Repairs,
    /// Pairs being worked on; they are queued again when something happens meanwhile.
    pub(super) busy: Tracked<HashSet<SharedPair>>,
    again: HashSet<SharedPair>,
    pub(super) retries: BTreeMap<Instant, Vec<SharedPair>>,
    /// Pairs whose last write or deletion failed.
    pub(super) failures: Failures<SharedPair>,
    /// Those of them where it was a deletion.
    undeleted: HashSet<SharedPair>,
    /// Those of them that must have no pull secret, by what was known at the last look at each.
    forbidden: Tracked<HashSet<SharedPair>>,
    /// Registries that are detached and whose credential still has a Secret.
    pub(super) detached: Tracked<HashMap<String, Detached>>,
    /// The namespaces that they are swept in; none while there are no such registries.
    pub(super) namespaces: KnownNamespaces,
    /// It is time to go on with these: one was detached just now, say.
    pub(super) is_detached: bool,
    /// Of registries that are attached: the namespaces whose pull secret is known to be gone, until the registry's selector
    /// or the namespace's labels change.
    absent: Absent,
    /// The registries as they were last looked at: what changed is told by them.
    pub(super) looked_at: HashMap<String, AttachedRegistry>,
    /// The custom domains that they had; nothing of those without any.
    pub(super) domains: HashMap<String, Vec<CustomDomain>>,
    /// Pairs that should have no pull secret, and of which nobody knows whether they have one: nobody who led before told.
    /// They are looked at slowly, behind all else.
    pub(super) sweep: VecDeque<SharedPair>,
    /// Those that come before them: some of registries that are detached.
    pub(super) sweep_next: VecDeque<SharedPair>,
    /// What is in either of them, each pair once.
    to_sweep: Tracked<HashSet<SharedPair>>,
    pub(super) lost: Tracked<Lost>,
    /// Since when every change is known here.
    known_since: Instant,
    /// When this leader began.
    since: Instant,
    /// Whether everything is to be looked at next, and how.
    pub(super) due: Option<Look>,
    /// Everything was looked at.
    pub(super) is_begun: bool,
    /// Every Pod was looked at.
    pub(super) is_scanned: bool,
    /// Registries that are attached and of which everything is dealt with that there was when this leader began.
    pub(super) settled: HashSet<String>,
    /// What is known to be swept, by this leader or those before.
    pub(super) swept: Swept,
    /// Registries of which some pairs were left out of the sweep.
    pub(super) left_out: Tracked<BTreeSet<String>>,
    /// What was told last of what is swept was worked out from this.
    pub(super) basis: Option<NoteBasis>,
    /// Registries that are attached, or were until a moment ago: what is to be forgotten of those.
    pub(super) seen: BTreeMap<String, Instant>,
    /// Where failed writes are told to the namespaces' users.
    pub(super) unwritten: Option<UnwrittenSender>,
}

impl Default for Work {
    fn default() -> Self {
        Self::after(Swept::default())
    }
}

impl Work {
    /// That of a leader who begins where so much is swept.
    pub(super) fn after(swept: Swept) -> Self {
        Self {
            wanted: HashMap::new(),
            rewrites: HashSet::new(),
            rewriting: HashSet::new(),
            written: Written::default(),
            queue: VecDeque::new(),
            needed: VecDeque::new(),
            queued: Tracked::default(),
            repairs: Repairs::default(),
            busy: Tracked::default(),
            again: HashSet::new(),
            retries: BTreeMap::new(),
            failures: Failures::new(RETRY_BACKOFF),
            undeleted: HashSet::new(),
            forbidden: Tracked::default(),
            detached: Tracked::default(),
            namespaces: KnownNamespaces::default(),
            is_detached: false,
            absent: Absent::default(),
            looked_at: HashMap::new(),
            domains: HashMap::new(),
            sweep: VecDeque::new(),
            sweep_next: VecDeque::new(),
            to_sweep: Tracked::default(),
            lost: Tracked::default(),
            known_since: now(),
            since: now(),
            due: None,
            is_begun: false,
            is_scanned: false,
            settled: HashSet::new(),
            swept,
            left_out: Tracked::default(),
            basis: None,
            seen: BTreeMap::new(),
            unwritten: None,
        }
    }

    /// The pair as it is known already, if it is.
    pub(super) fn pair(&self, namespace: String, registry: String) -> SharedPair {
        let pair = (namespace, registry);
        let wanted = self.wanted.get_key_value(&pair).map(|(known, _)| known);
        match wanted.or_else(|| self.written.known(&pair)) {
            Some(known) => Arc::clone(known),
            None => Arc::new(pair),
        }
    }

    pub(super) fn enqueue(&mut self, pair: SharedPair) {
        if self.busy.contains(&pair) {
            self.again.insert(pair);
        } else if self.queued.insert(pair.clone()) {
            self.queue.push_back(pair);
        }
    }

    /// Has a pair that a Pod began to need looked at before all others: its kubelet waits for the pull secret.
    pub(super) fn enqueue_needed(&mut self, pair: SharedPair) {
        if self.busy.contains(&pair) {
            self.again.insert(pair);
        } else {
            self.queued.insert(Arc::clone(&pair));
            self.needed.push_back(pair);
        }
    }

    /// Has a pull secret written once more that nothing needs now: it has something that it is not to have any more.
    pub(super) fn rewrite(&mut self, pair: SharedPair) {
        self.rewrites.insert(Arc::clone(&pair));
        self.enqueue(pair);
    }

    /// Has the rewrite of a pull secret that nothing needs tried again when its wait ends.
    pub(super) fn rewrite_later(&mut self, pair: &SharedPair) {
        self.rewrites.insert(Arc::clone(pair));
        self.done_until_retry(pair);
    }

    /// Keeps the rewrite of a pull secret for when there is a credential that may be written.
    pub(super) fn rewrite_when_minted(&mut self, pair: &SharedPair) {
        self.rewrites.insert(Arc::clone(pair));
    }

    /// Whether a pull secret is to be written once more, whether or not a Pod needs it.
    pub(super) fn is_to_be_rewritten(&self, pair: &SharedPair) -> bool {
        self.rewrites.contains(pair)
    }

    /// Whether a pull secret is to be written where there is a credential for it.
    pub(super) fn is_due(&self, pair: &SharedPair) -> bool {
        self.is_wanted(pair) || self.is_to_be_rewritten(pair)
    }

    /// Whether the pull secret of a pair, whose turn has come, is to be there: a Pod needs it, or it is to be rewritten.
    pub(super) fn take_need(&mut self, pair: &SharedPair) -> bool {
        let is_rewritten = self.rewrites.remove(pair);
        if is_rewritten {
            self.rewriting.insert(Arc::clone(pair));
        }
        is_rewritten || self.is_wanted(pair)
    }

    /// Ends a turn of a pair; says whether it was to be rewritten.
    pub(super) fn end_rewrite(&mut self, pair: &SharedPair) -> bool {
        self.rewriting.remove(pair)
    }

    /// Has a pull secret deleted, unless that was refused: then it waits for its turn, whatever changes.
    pub(super) fn enqueue_deletion(&mut self, pair: SharedPair) {
        if !(self.undeleted.contains(&pair) && self.waits(&pair)) {
            self.enqueue(pair);
        }
    }

    /// Looks at a pair when there is time for it.
    pub(super) fn sweep(&mut self, pair: SharedPair) {
        if self.to_sweep.insert(pair.clone()) {
            self.sweep.push_back(pair);
        }
    }

    /// The same for a pair that most likely has no pull secret, unless too many wait already: neither a large cluster nor who
    /// attaches registries under ever new names must fill the memory. Says whether it is looked at.
    pub(super) fn sweep_in_doubt(&mut self, pair: SharedPair) -> bool {
        let has_room = self.to_sweep.len() < MAX_SWEPT_IN_DOUBT || self.to_sweep.contains(&pair);
        if has_room {
            self.sweep(pair);
        }
        has_room
    }

    /// Remembers that some pairs of a registry are left out.
    pub(super) fn leave_out(&mut self, registry: &str) {
        if !self.left_out.contains(registry) {
            self.left_out.insert(registry.to_owned());
        }
    }

    /// Looks at a pair when there is time for it, before all others of that kind.
    pub(super) fn sweep_next(&mut self, pair: SharedPair) -> bool {
        let is_new = self.to_sweep.insert(pair.clone());
        if is_new {
            self.sweep_next.push_back(pair);
        }
        is_new
    }

    /// Has a pair, whose pull secret must go, looked at a second time when no replica can be behind any more.
    pub(super) fn lose(&mut self, pair: SharedPair, at: Instant) {
        self.lost.insert(pair, at);
    }

    /// The same for a pair of which nobody knows when it lost its right: before all changes were known here, at the latest.
    pub(super) fn may_have_lost(&mut self, pair: SharedPair, now: Instant, interval: Duration) {
        if self.knows_all_for(now) < interval {
            self.lost.insert_unknown(pair, self.known_since);
        }
    }

    /// Takes out the pairs that lost their right so long ago.
    pub(super) fn take_lost(&mut self, now: Instant, interval: Duration) -> Vec<SharedPair> {
        let is_due = |at| now.saturating_duration_since(at) >= interval;
        // Otherwise it is not changed.
        if self.lost.is_due(is_due) {
            self.lost.take_due(is_due)
        } else {
            Vec::new()
        }
    }

    /// Whether a pair is worked on, is about to be, or waits after a failure.
    pub(super) fn is_under_way(&self, pair: &SharedPair) -> bool {
        self.busy.contains(pair) || self.queued.contains(pair) || self.waits(pair)
    }

    /// Takes some pairs of the sweep up, behind all else: one where other work waits, so that a busy leader sweeps too.
    pub(super) fn take_up_sweep(&mut self, most: usize) {
        let most = if self.queued.is_empty() { most } else { most.min(1) };
        let first = self.sweep_next.len().min(most);
        let then = self.sweep.len().min(most - first);
        let pairs: Vec<SharedPair> = self
            .sweep_next
            .drain(..first)
            .chain(self.sweep.drain(..then))
            .collect();
        for pair in pairs {
            self.to_sweep.remove(&pair);
            self.enqueue_deletion(pair);
        }
    }

    pub(super) fn next(&mut self) -> Option<SharedPair> {
        let pair = self.next_queued().or_else(|| self.next_repair())?;
        self.busy.insert(Arc::clone(&pair));
        Some(pair)
    }

    fn next_queued(&mut self) -> Option<SharedPair> {
        loop {
            let pair = self.needed.pop_front().or_else(|| self.queue.pop_front())?;
            // It had its turn already where it was in both.
            if self.queued.remove(&pair) {
                return Some(pair);
            }
        }
    }

    fn next_repair(&mut self) -> Option<SharedPair> {
        loop {
            let pair = self.repairs.next()?;
            // What is worked on is written anyway; what has failed since is tried again by itself.
            if !self.busy.contains(&pair) && !self.waits(&pair) {
                return Some(pair);
            }
        }
    }

    pub(super) fn done(&mut self, pair: &SharedPair) {
        self.busy.remove(pair);
        if self.again.remove(pair) {
            self.enqueue(pair.clone());
        }
    }

    /// Has the pairs of a registry that are being worked on worked on again.
    pub(super) fn repeat(&mut self, registry: &str) {
        let busy = self.busy.iter().filter(|pair| pair.1 == registry);
        self.again.extend(busy.cloned());
    }

    /// Ends the work on a pair that is tried again after a wait, and at no other time for what happened during the work.
    pub(super) fn done_until_retry(&mut self, pair: &SharedPair) {
        self.busy.remove(pair);
        self.again.remove(pair);
    }

    /// Remembers that a namespace has no pull secret of a registry, unless it is to be deleted again.
    pub(super) fn has_none(&mut self, pair: &SharedPair, is_attached: bool) {
        if self.queued.contains(pair) {
            return;
        }
        if is_attached {
            self.absent.insert(pair);
        }
        let (namespace, registry) = &**pair;
        if let Some(detached) = self.detached.get_mut(registry) {
            detached.clear(namespace);
        }
    }

    /// Remembers that a namespace has no pull secret, since it came just now.
    pub(super) fn is_new(&mut self, pair: &SharedPair) {
        self.absent.insert(pair);
    }

    /// Whether a namespace is known to have no pull secret of an attached registry. Where a Pod names it, a replica that has
    /// not heard of a change yet may write it at any time.
    pub(super) fn is_absent(&self, pair: &SharedPair) -> bool {
        !self.wanted.contains_key(pair) && self.is_known_absent(pair)
    }

    /// Whether a pull secret was deleted, or is not ours, and was not written here since.
    pub(super) fn is_known_absent(&self, pair: &SharedPair) -> bool {
        self.absent.contains(pair)
    }

    /// Forgets that a pair is known to be absent: it may be written now, or was.
    pub(super) fn may_be_present(&mut self, pair: &SharedPair) {
        self.absent.remove(pair);
    }

    /// Has everything looked at next.
    pub(super) fn look_again(&mut self) {
        self.due.get_or_insert(Look::Again);
    }

    /// The same when changes were not told one by one.
    pub(super) fn look_afresh(&mut self) {
        self.due = Some(Look::Afresh);
    }

    /// The same when changes were missed: nothing is known to be absent any more.
    pub(super) fn miss_changes(&mut self) {
        self.look_afresh();
        self.absent.clear();
        self.known_since = now();
    }

    /// How long every change has been known here.
    pub(super) fn knows_all_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.known_since)
    }

    /// Notes that a pair was looked at, and what there is to do about it: where it fails, that is left to do.
    pub(super) fn note_step(&mut self, pair: &SharedPair, step: Step) {
        let is_forbidden = step == Step::Delete && self.failures.contains(pair);
        if is_forbidden && !self.forbidden.contains(pair) {
            self.forbidden.insert(Arc::clone(pair));
        } else if !is_forbidden {
            self.permit(pair);
        }
    }

    fn permit(&mut self, pair: &SharedPair) {
        if self.forbidden.contains(pair) {
            self.forbidden.remove(pair);
        }
    }

    /// Pairs whose pull secret may be left to delete: those that are about to be looked at, and those that must have none after
    /// a failure.
    pub(super) fn left(&self) -> impl Iterator<Item = &SharedPair> {
        self.pending().chain(self.forbidden.iter())
    }

    #[cfg(test)]
    pub(super) fn forbidden(&self) -> impl Iterator<Item = &SharedPair> {
        self.forbidden.iter()
    }

    /// How many these are; some count twice.
    pub(super) fn left_len(&self) -> usize {
        let soon = self.queued.len() + self.busy.len();
        soon + self.to_sweep.len() + self.lost.len() + self.forbidden.len()
    }

    /// Another number whenever what is left to delete may be something else.
    pub(super) fn revision(&self) -> u64 {
        let sets = [&self.queued, &self.busy, &self.to_sweep, &self.forbidden];
        let sets = sets.map(Tracked::revision);
        let others = [
            self.lost.revision(),
            self.detached.revision(),
            self.left_out.revision(),
        ];
        // None of them goes back, so that the sum is another one whenever one of them is.
        sets.into_iter().chain(others).fold(0, u64::wrapping_add)
    }

    /// Pairs that are about to be looked at, now or later, those after a failure aside.
    pub(super) fn pending(&self) -> impl Iterator<Item = &SharedPair> {
        let soon = self.queued.iter().chain(self.busy.iter());
        soon.chain(self.to_sweep.iter()).chain(self.lost.pairs())
    }

    /// Counts a failure, and tries again after a while that grows.
    pub(super) fn failed(&mut self, pair: &SharedPair, is_deletion: bool, error: &WriteError, now: Instant) {
        let was_deletion = self.undeleted.contains(pair);
        if is_deletion != was_deletion {
            // A failure of the other one does not count for this one.
            self.forget_failure(pair);
        }
        if is_deletion {
            self.undeleted.insert(Arc::clone(pair));
        }
        let at = self.failures.failed(Arc::clone(pair), error, now);
        self.retries.entry(at).or_default().push(Arc::clone(pair));
    }

    /// Has the pairs tried again whose time has come. The newest failure of a pair says when that is: others may have had it
    /// tried before, and one that was tried with success waits for nothing.
    pub(super) fn take_up_retries(&mut self, now: Instant) {
        let later = self.retries.split_off(&now);
        for (at, pairs) in std::mem::replace(&mut self.retries, later) {
            for pair in pairs {
                if self.failures.retries_at(&pair) == Some(at) {
                    self.enqueue(pair);
                }
            }
        }
    }

    /// Notes of which registries everything is dealt with by now that there was when this leader began.
    pub(super) fn settle(&mut self, registries: &AttachedRegistries, now: Instant) {
        let is_late = now.saturating_duration_since(self.since) >= SETTLE_TIMEOUT;
        let is_seen = self.is_begun && self.is_scanned;
        // A long queue is looked through while there is a reason to.
        let is_done = registries.names().all(|name| self.settled.contains(name));
        if is_done || !is_late && !is_seen {
            return;
        }
        // What was written before is written again at each look at everything, which can be always.
        let under_way = self.queued.iter().chain(self.busy.iter());
        let first_time = under_way.filter(|pair| !self.written.contains(pair));
        let unsettled: HashSet<&str> = first_time.map(|pair| &*pair.1).collect();
        let is_settled = |name: &&str| is_late || self.settled.contains(*name) || !unsettled.contains(name);
        self.settled = registries.names().filter(is_settled).map(str::to_owned).collect();
    }

    /// Forgets the failures of a pair: it was dealt with, or needs not be.
    pub(super) fn forget_failure(&mut self, pair: &SharedPair) {
        self.failures.forget(pair);
        self.undeleted.remove(pair);
        self.permit(pair);
    }

    /// Has the pairs of a registry wait no longer.
    pub(super) fn forget_failures(&mut self, registry: &str) {
        self.failures.retain(|pair| pair.1 != registry);
        self.undeleted.retain(|pair| pair.1 != registry);
        self.forbidden.retain(|pair| pair.1 != registry);
    }

    /// Whether a pair failed and is not to be tried yet.
    pub(super) fn waits(&self, pair: &SharedPair) -> bool {
        self.failures.waits(pair, now())
    }

    /// Whether a Pod needs it.
    pub(super) fn is_wanted(&self, pair: &SharedPair) -> bool {
        self.wanted.contains_key(pair)
    }

    /// Forgets what is known of a registry that is not attached any more.
    pub(super) fn forget_absent(&mut self, registry: &str) {
        self.absent.forget_registry(registry);
    }

    /// Forgets which pairs of a registry lost their right: every pair of it does.
    pub(super) fn forget_lost(&mut self, registry: &str) {
        self.lost.retain(|pair| pair.1 != registry);
    }

    /// Forgets which pull secrets of a registry were to be written once more: all of them go.
    pub(super) fn forget_rewrites(&mut self, registry: &str) {
        self.rewrites.retain(|pair| pair.1 != registry);
    }

    /// Forgets namespaces that are gone.
    pub(super) fn keep_namespaces(&mut self, exists: impl Fn(&str) -> bool) {
        self.written.keep_namespaces(&exists);
        self.failures.retain(|pair| exists(&pair.0));
        self.undeleted.retain(|pair| exists(&pair.0));
        self.forbidden.retain(|pair| exists(&pair.0));
        self.lost.retain(|pair| exists(&pair.0));
        self.rewrites.retain(|pair| exists(&pair.0));
        self.absent.keep_namespaces(&exists);
    }
}

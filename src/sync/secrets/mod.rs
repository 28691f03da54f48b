//! The secrets controller: every pull secret in every namespace is what it should be.
//!
//! Work is a set of (namespace, registry) pairs to look at; what is done about a pair is decided when its turn comes,
//! from what is known then. So events may be lost, repeated or come in any order.

mod absent;
mod changes;
mod detach;
mod lost;
mod repairs;
mod step;
mod swept;
mod tally;
mod work;
mod written;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use kube::Client;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc};

use self::step::{Step, step};
use self::swept::MAX_PENDING;
pub use self::swept::SweptNote;
pub use self::tally::{Tallies, Tally};
use self::work::{Look, Work};
use crate::api::names::pull_secret as pull_secret_name;
use crate::api::pull_secret_metadata::PullSecretMetadata;
use crate::base::clock::monotonic as now;
use crate::metrics::Metrics;
use crate::policy::attached::AttachedRegistries;
use crate::policy::scope::{Labels, Scope};
use crate::sync::counted_write::CountedWrites;
use crate::sync::held_credential::HeldCredential;
pub use crate::sync::pair::SharedPair;
use crate::sync::pods::Sighting;
use crate::sync::pull_secret::{self, WriteError};
use crate::sync::unwritten_events;
use crate::sync::watches::{Change, Watches};

/// How many writes are under way concurrently.
pub const CONCURRENCY: usize = 32;
/// How often tallies are told, sweeps go on and detached registries are looked at.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);
/// How long a write that failed waits first.
const RETRY_BACKOFF: Duration = Duration::from_secs(5);

/// After how many pairs a look at everything lets other tasks run: it takes about a millisecond until then.
const LOOKED_AT_A_TURN: usize = 1_000;
/// How many pairs a second are looked at that most likely have no pull secret, behind all other work.
const SWEPT_A_SECOND: usize = 10;

/// The controller. One runs in the cluster: the leader's.
pub struct SecretsController {
    /// Where secrets are written.
    pub client: Client,
    /// pullpass' own namespace.
    pub own_namespace: String,
    /// What they are written from.
    pub watches: Arc<Watches>,
    /// Which namespaces may have any.
    pub scope: Scope,
    /// What every pull secret has besides what pullpass itself writes there.
    pub chosen: Arc<PullSecretMetadata>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where the result is told.
    pub tallies: Arc<Tallies>,
    /// What the leader before had swept, and what is by now.
    pub note: Arc<SweptNote>,
    /// How often everything is written again, which repairs what somebody deleted or edited.
    pub resync_interval: Duration,
    /// How long the emptied credential of a detached registry is kept, and how long after a namespace lost its right it is
    /// swept once more: [`EMPTIED_INTERVAL`](crate::sync::stored::EMPTIED_INTERVAL), but in tests.
    pub emptied_interval: Duration,
}

impl SecretsController {
    /// Runs until it is dropped, or until nothing can change any more.
    pub async fn run(&self, mut sightings: mpsc::Receiver<Sighting>) {
        let mut changes = self.watches.changes();
        let mut work = Work::after(self.read_note());
        let (unwritten, told) = unwritten_events::channel();
        work.unwritten = Some(unwritten);
        let mut telling = std::pin::pin!(unwritten_events::write_events(&self.client, told));
        // What was in doubt before is newer than what is known to be swept.
        self.watches.versions().take_doubts();
        let mut running = FuturesUnordered::new();
        let mut writes = FuturesUnordered::new();
        let mut resync = tokio::time::interval(self.resync_interval);
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING_INTERVAL);
        loop {
            if work.due.is_some() {
                self.look_at_everything(&mut work).await;
            }
            while running.len() < CONCURRENCY {
                let Some(pair) = work.next() else { break };
                let needed = work.take_need(&pair);
                running.push(self.work_on(pair, needed));
            }
            if std::mem::take(&mut work.is_detached) {
                let most = CONCURRENCY.saturating_sub(writes.len());
                writes.extend(
                    self.detach(&mut work, most)
                        .into_iter()
                        .map(|write| self.write_credential(write)),
                );
            }
            tokio::select! {
                () = &mut telling => return,
                Some((pair, step, result)) = running.next() => self.finish(&mut work, pair, step, result),
                Some((write, written)) = writes.next() => self.finish_write(&mut work, write, written),
                sighting = sightings.recv() => match sighting {
                    Some(sighting) => self.see(&mut work, sighting),
                    None => return,
                },
                change = changes.recv() => match change {
                    Ok(change) => self.on_change(&mut work, &change),
                    Err(RecvError::Lagged(_)) => work.miss_changes(),
                    Err(RecvError::Closed) => return,
                },
                _ = resync.tick() => {
                    self.catch_up(&mut work, &mut changes);
                    self.note_swept(&mut work, usize::MAX, || changes.is_empty());
                    work.look_again();
                }
                now = housekeeping.tick() => {
                    work.take_up_retries(now.into_std());
                    self.sweep_again(&mut work);
                    self.sweep_in_doubt(&mut work);
                    self.note_swept(&mut work, MAX_PENDING, || changes.is_empty());
                    self.find_left_out(&mut work);
                    work.take_up_sweep(SWEPT_A_SECOND);
                    work.repairs.begin_second();
                    if work.repairs.take_overdue() {
                        work.look_again();
                    }
                    self.tally_all(&mut work);
                    work.is_detached = true;
                }
            }
        }
    }

    /// Takes every change that was told: a namespace that came just now has nothing, and need not be swept.
    fn catch_up(&self, work: &mut Work, changes: &mut broadcast::Receiver<Change>) {
        loop {
            match changes.try_recv() {
                Ok(change) => self.on_change(work, &change),
                Err(TryRecvError::Lagged(_)) => work.miss_changes(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Pairs are told apart by what there is to do; most need nothing and cost no call. What is to be there and was written is
    /// written again behind all other work.
    async fn look_at_everything(&self, work: &mut Work) {
        let is_afresh = work.due.take() == Some(Look::Afresh);
        let view = &self.watches.view;
        work.keep_namespaces(|namespace| view.knows(namespace));
        let registries = view.registries();
        // Whatever was not told.
        let names: BTreeSet<String> = registries
            .names()
            .chain(work.looked_at.keys().map(String::as_str))
            .map(str::to_owned)
            .collect();
        for name in names {
            if registries.by_name(&name) != work.looked_at.get(&name) {
                self.registry_changed(work, &registries, &name);
            }
        }
        // Whatever is left of those that are attached is found below.
        work.left_out.retain(|name| !registries.is_attached(name));
        let is_repairing = !work.repairs.is_empty();
        let mut repairs = Vec::new();
        let all: Vec<_> = registries.each().collect();
        let mut looked = 0_usize;
        for namespace in view.namespaces() {
            let labels = view.labels(&namespace);
            for registry in &all {
                let pair = work.pair(namespace.clone(), registry.name().to_owned());
                let step = self
                    .decide(&registries, &pair, labels.as_ref(), work.is_due(&pair))
                    .0;
                work.note_step(&pair, step);
                match step {
                    Step::Nothing => {}
                    // It is tried again by itself.
                    Step::Write if work.waits(&pair) => {}
                    Step::Write
                        if !is_afresh && self.is_current(work, &pair) && !work.is_to_be_rewritten(&pair) =>
                    {
                        if !is_repairing {
                            repairs.push(pair);
                        }
                    }
                    Step::Write => work.enqueue(pair),
                    Step::Delete if work.is_wanted(&pair) => work.enqueue_deletion(pair),
                    Step::Delete if work.written.contains(&pair) && !work.is_absent(&pair) => {
                        self.lose(work, &pair);
                        work.enqueue_deletion(pair);
                    }
                    Step::Delete if self.is_swept(work, &pair) => {}
                    Step::Delete if work.sweep_in_doubt(Arc::clone(&pair)) => {
                        self.may_have_lost(work, &pair);
                    }
                    // The next look finds it again.
                    Step::Delete => work.leave_out(registry.name()),
                }
            }
            looked = looked.saturating_add(all.len());
            if looked >= LOOKED_AT_A_TURN {
                looked = 0;
                tokio::task::yield_now().await;
            }
        }
        if is_repairing {
            work.repairs.are_overdue();
        } else {
            work.repairs.take(repairs, self.resync_interval);
        }
        work.is_begun = true;
    }

    /// Finds the pairs that had no room in the sweep, as soon as it has room: the next resync may be a day away.
    fn find_left_out(&self, work: &mut Work) {
        if work.left_out.is_empty() || !work.sweep.is_empty() {
            return;
        }
        let registries = self.watches.view.registries();
        // Nothing finds pairs of those that are detached.
        if work.left_out.iter().any(|name| registries.is_attached(name)) {
            work.look_again();
        }
    }

    fn look_at_needed(&self, work: &mut Work, registries: &AttachedRegistries, pair: SharedPair) {
        match self.step_of(registries, &pair, work.is_wanted(&pair)) {
            Step::Nothing => {}
            Step::Write => work.enqueue_needed(pair),
            Step::Delete => work.enqueue_deletion(pair),
        }
    }

    fn see(&self, work: &mut Work, sighting: Sighting) {
        match sighting {
            Sighting::Needed((namespace, registry)) => {
                let pair = work.pair(namespace, registry);
                let is_new = work.wanted.insert(pair.clone(), now()).is_none();
                if self.take_recent_write(work, &pair) {
                    return;
                }
                let is_written = self.is_current(work, &pair);
                let is_to_be_there =
                    || self.step_of(&self.watches.view.registries(), &pair, true) == Step::Write;
                // What a Pod names that it may not have is gone, until a replica that is behind writes it again.
                let is_gone = work.is_known_absent(&pair) && !is_to_be_there();
                // Another Pod of the namespace is no reason to write it twice: what changes meanwhile has it looked at again.
                let is_next = work.is_under_way(&pair) && is_to_be_there();
                let is_settled = is_written || work.waits(&pair) || is_gone || is_next;
                if is_new || !is_settled {
                    let registries = self.watches.view.registries();
                    if is_new {
                        self.lose_unless_given(work, &registries, &pair);
                    }
                    self.look_at_needed(work, &registries, pair);
                }
            }
            Sighting::ScanDone { begun } => {
                // A Pod may have come and gone during the scan: one more interval is given.
                let kept_since = begun.checked_sub(self.resync_interval).unwrap_or(begun);
                let gone: Vec<SharedPair> = work
                    .wanted
                    .iter()
                    .filter(|(_, seen)| **seen < kept_since)
                    .map(|(pair, _)| pair.clone())
                    .collect();
                let registries = self.watches.view.registries();
                for pair in gone {
                    work.wanted.remove(&pair);
                    self.lose_unless_given(work, &registries, &pair);
                }
                work.is_scanned = true;
            }
        }
    }

    /// Takes what the demand writer of this process wrote a moment ago as written by this controller, where it would write the
    /// same; says whether it did.
    fn take_recent_write(&self, work: &mut Work, pair: &SharedPair) -> bool {
        let Some(held) = self.watches.credentials.of(&pair.1) else {
            return false;
        };
        let is_taken = self.watches.recent_writes.has(pair, held.refreshed_at, now())
            && !work.is_under_way(pair)
            && self.step_of(&self.watches.view.registries(), pair, true) == Step::Write;
        if is_taken {
            work.may_be_present(pair);
            work.written.insert(Arc::clone(pair), Ok(held.refreshed_at));
        }
        is_taken
    }

    fn is_current(&self, work: &Work, pair: &SharedPair) -> bool {
        let minted = self.watches.credentials.of(&pair.1);
        matches!((work.written.get(pair), minted), (Some(Ok(version)), Some(minted)) if *version == minted.refreshed_at)
    }

    fn step_of(&self, registries: &AttachedRegistries, pair: &SharedPair, wanted: bool) -> Step {
        let labels = self.watches.view.labels(&pair.0);
        self.decide(registries, pair, labels.as_ref(), wanted).0
    }

    /// What there is to do about a pair, and the credential that this was decided with.
    fn decide(
        &self,
        registries: &AttachedRegistries,
        pair: &SharedPair,
        labels: Option<&Labels>,
        wanted: bool,
    ) -> (Step, Option<Arc<HeldCredential>>) {
        let (namespace, name) = &**pair;
        let registry = registries.by_name(name);
        if registry.is_none() && registries.is_attached(name) {
            // Nobody knows what it means: what is there stays.
            return (Step::Nothing, None);
        }
        let credential = registry.and_then(|registry| self.watches.credential(registry));
        let step = step(
            registry,
            labels,
            self.scope.membership(namespace, labels),
            wanted,
            credential.is_some(),
        );
        (step, credential)
    }

    async fn work_on(
        &self,
        pair: SharedPair,
        wanted: bool,
    ) -> (SharedPair, Step, Result<Timestamp, WriteError>) {
        let registries = self.watches.view.registries();
        let labels = self.watches.view.labels(&pair.0);
        let (step, credential) = self.decide(&registries, &pair, labels.as_ref(), wanted);
        let (namespace, name) = &*pair;
        let secret = pull_secret_name(name);
        let result = match (step, registries.by_name(name).zip(credential)) {
            (Step::Write, Some((registry, credential))) => {
                let writes = CountedWrites {
                    client: &self.client,
                    chosen: &self.chosen,
                    metrics: &self.metrics,
                };
                let keys = self.watches.spellings.keys(&pair, now());
                let written = writes
                    .write(namespace, registry, &registries, &credential, keys)
                    .await;
                written.map(|_| credential.refreshed_at)
            }
            (Step::Delete, _) => pull_secret::delete(&self.client, namespace, &secret)
                .await
                .map(|()| Timestamp::UNIX_EPOCH),
            (Step::Write | Step::Nothing, _) => Ok(Timestamp::UNIX_EPOCH),
        };
        (pair, step, result)
    }

    /// Keeps a rewrite whose turn found no credential that may be written, as after an edit of the spec.
    fn rewrite_when_minted(&self, work: &mut Work, registries: &AttachedRegistries, pair: &SharedPair) {
        match self.step_of(registries, pair, true) {
            Step::Write => work.rewrite(Arc::clone(pair)),
            Step::Nothing if self.watches.view.knows(&pair.0) && registries.by_name(&pair.1).is_some() => {
                work.rewrite_when_minted(pair);
            }
            Step::Nothing | Step::Delete => {}
        }
    }

    fn finish(&self, work: &mut Work, pair: SharedPair, step: Step, result: Result<Timestamp, WriteError>) {
        let is_failed_write =
            step == Step::Write && matches!(&result, Err(error) if *error != WriteError::NamespaceGone);
        let is_rewrite = work.end_rewrite(&pair);
        let registries = self.watches.view.registries();
        if is_failed_write && self.step_of(&registries, &pair, work.is_wanted(&pair)) == Step::Write {
            // Whatever happened meanwhile, it is to be written still, and that is tried when its wait ends.
            work.done_until_retry(&pair);
        } else if is_failed_write && is_rewrite && self.step_of(&registries, &pair, true) == Step::Write {
            work.rewrite_later(&pair);
        } else {
            work.done(&pair);
            if is_rewrite && (is_failed_write || step == Step::Nothing) {
                self.rewrite_when_minted(work, &registries, &pair);
            }
        }
        match (step, &result) {
            // Nobody needs it any more: a failure no longer matters.
            (Step::Nothing, _) => {
                if work.written.get(&pair).is_some_and(Result::is_err) {
                    work.written.remove(&pair);
                }
                work.forget_failure(&pair);
                // A credential came, or may be written, since its turn began.
                if self.step_of(&registries, &pair, work.is_wanted(&pair)) == Step::Write {
                    work.enqueue(pair);
                }
                return;
            }
            // A foreign Secret need not go; and with a namespace its secrets go.
            (Step::Delete, Ok(_) | Err(WriteError::Foreign | WriteError::NamespaceGone))
            | (Step::Write, Err(WriteError::NamespaceGone)) => {
                work.written.remove(&pair);
                work.forget_failure(&pair);
                self.watches.recent_writes.remove(&pair);
                let is_attached = registries.is_attached(&pair.1);
                work.has_none(&pair, is_attached);
                let is_wanted = work.is_wanted(&pair);
                // What took it away was taken back since its turn began.
                if step == Step::Delete && self.step_of(&registries, &pair, is_wanted) == Step::Write {
                    work.enqueue(pair);
                }
                return;
            }
            (Step::Write, Ok(_)) => {
                work.forget_failure(&pair);
                work.may_be_present(&pair);
            }
            (Step::Write | Step::Delete, Err(error)) => {
                let now = now();
                work.failed(&pair, step == Step::Delete, error, now);
                work.note_step(&pair, self.step_of(&registries, &pair, work.is_wanted(&pair)));
                if let Some(unwritten) = work.unwritten.as_mut().filter(|_| step == Step::Write) {
                    unwritten.tell(&pair, error, now);
                }
                if work.failures.is_news(&pair.1, error, now) {
                    tracing::warn!(
                        namespace = pair.0,
                        registry = pair.1,
                        %error,
                        "could not apply or delete a pull secret; the status of the AcrRegistry counts the namespaces"
                    );
                }
            }
        }
        // It was written, and the namespace went meanwhile.
        if result.is_err() || self.watches.view.knows(&pair.0) {
            work.written.insert(pair, result);
        } else {
            work.written.remove(&pair);
        }
    }
}

#[cfg(test)]
pub(in crate::sync) mod tests;

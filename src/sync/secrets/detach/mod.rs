//! Deletes the Secrets of a registry that was detached, or that no longer needs a credential.
//!
//! A replica whose watch is behind may write a pull secret after the leader deleted it, and nobody may list Secrets to
//! find it. So the leader first empties the credential, which keeps every replica that learns of it from writing. Then
//! it sweeps every namespace, and sweeps again when no watch can be behind any more. It deletes the Secret of the
//! credential last: while that exists, a new leader knows that there is work left, and which step is next. No part of
//! this state is only in memory.

pub(in crate::sync::secrets) mod namespaces;
pub(in crate::sync::secrets) mod progress;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};

use crate::api::names::{MANAGER, binding_of_key, minted_credential};
use crate::base::backoff::Backoff;
use crate::kubernetes::call::{CallError, call};
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::sync::credentials::{Seen, Version};
use crate::sync::failures::Retry;
use crate::sync::secrets::detach::namespaces::KnownNamespaces;
use crate::sync::secrets::detach::progress::{DetachStep, Detached, Round, next_step};
use crate::sync::secrets::step::Step;
use crate::sync::secrets::work::Work;
use crate::sync::secrets::{CONCURRENCY, SWEPT_A_SECOND, SecretsController, now};
use crate::sync::stored::{Emptied, Stored};

/// How long the same write of the credential's Secret waits when it is due again.
const DETACH_BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_mins(5));

/// How many pairs may be queued when more of a first sweep are: a leader deletes fewer until it looks again, a second later.
const QUEUED_TOGETHER: usize = 2_000;
/// The same of a second sweep, among those that wait for a time without other work.
const SWEPT_TOGETHER: usize = 10 * SWEPT_A_SECOND;

/// A write of the Secret of a detached registry's credential.
#[derive(Debug)]
pub(in crate::sync::secrets) struct CredentialWrite {
    registry: String,
    /// What the Secret held when this was decided.
    stored: Stored,
    step: DetachStep,
}

/// How such a write went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sync::secrets) enum Written {
    /// It was made.
    Done,
    /// The Secret holds something else by now: the watch brings it, and what there is to do is decided again.
    Changed,
    /// There is no such Secret any more.
    Gone,
}

/// Whether a registry of that name has no credential, and so no pull secrets: it is not attached, or anonymous.
fn has_no_credential(registries: &AttachedRegistries, name: &str) -> bool {
    let registry = registries.by_name(name);
    registry.map_or_else(|| !registries.is_attached(name), AttachedRegistry::is_anonymous)
}

impl SecretsController {
    /// Goes on with every registry that is detached and whose credential still has a Secret. Gives the writes that are to
    /// be made now, no more than so many.
    pub(in crate::sync::secrets) fn detach(&self, work: &mut Work, most: usize) -> Vec<CredentialWrite> {
        let registries = self.watches.view.registries();
        let is_detached = |name: &str| binding_of_key(name).is_none() && has_no_credential(&registries, name);
        let names: BTreeSet<String> = self.watches.credentials.registries_that(is_detached);
        if work.detached.is_empty() && names.is_empty() {
            // As it is nearly always.
            work.namespaces = KnownNamespaces::default();
            return Vec::new();
        }
        self.find_namespaces(work);
        Self::go_on_without_secret(work, &registries, &names);
        // Only what changes is changed: a note is worked out from it.
        let others = work.detached.keys().filter(|name| !names.contains(*name));
        for name in others.cloned().collect::<Vec<_>>() {
            self.end_sweep(work, &registries, &name);
        }
        let now = now();
        let (mut writes, mut sweeps) = (Vec::new(), Vec::new());
        for name in names {
            let Some((stored, seen)) = self.watches.credentials.stored(&name) else {
                continue;
            };
            if !work.detached.contains_key(&name) {
                work.detached.insert(name.clone(), Detached::default());
            }
            let Some(detached) = work.detached.get(&name) else {
                continue;
            };
            if detached.is_busy || (detached.is_deleted && matches!(stored, Stored::Emptied(_))) {
                continue;
            }
            let kept_for = now.saturating_duration_since(seen.at.steady);
            let is_cleared = |round| detached.is_cleared(round);
            let step = next_step(&stored, kept_for, self.emptied_interval, is_cleared);
            match step {
                DetachStep::Keep => {}
                DetachStep::Sweep(round) => sweeps.push((name, round)),
                DetachStep::Empty | DetachStep::MarkSwept | DetachStep::Delete => {
                    if !detached.waits(step, now) {
                        if writes.len() < most {
                            writes.push(CredentialWrite {
                                registry: name,
                                stored,
                                step,
                            });
                        }
                    } else if step == DetachStep::Empty {
                        // It is better to delete pull secrets that may come back than none.
                        sweeps.push((name, Round::First));
                    }
                }
            }
        }
        for CredentialWrite { registry, .. } in &writes {
            if let Some(detached) = work.detached.get_mut(registry) {
                detached.is_busy = true;
            }
        }
        Self::sweep(work, &sweeps);
        writes
    }

    /// Forgets that a registry is detached. Where it is attached again, what is left of both sweeps is deleted all the same in the
    /// namespaces that it is not for: a replica may have written there until a moment ago.
    pub(in crate::sync::secrets) fn end_sweep(
        &self,
        work: &mut Work,
        registries: &AttachedRegistries,
        name: &str,
    ) {
        if !work.detached.contains_key(name) {
            return;
        }
        self.find_namespaces(work);
        let detached = work.detached.remove(name).unwrap_or_default();
        if has_no_credential(registries, name) {
            return;
        }
        for namespace in &*Arc::clone(&work.namespaces.names) {
            let pair = work.pair(namespace.to_string(), name.to_owned());
            if self.step_of(registries, &pair, work.is_wanted(&pair)) == Step::Delete {
                self.lose(work, &pair);
                if !detached.has_dealt_with(namespace) {
                    work.enqueue_deletion(pair);
                }
            }
        }
    }

    /// Has the detached registries know of the namespaces that came or went since the last look.
    fn find_namespaces(&self, work: &mut Work) {
        let known = work.namespaces.revision;
        if let Some((revision, listed)) = self.watches.view.namespaces_since(known) {
            let difference = work.namespaces.update(revision, listed);
            for detached in work.detached.values_mut() {
                detached.take(&difference);
            }
        }
    }

    /// Somebody deleted the Secret of a detached registry's credential before the second sweep: what is left of both sweeps
    /// is done from what this process remembers.
    fn go_on_without_secret(
        work: &mut Work,
        registries: &AttachedRegistries,
        with_secret: &BTreeSet<String>,
    ) {
        let is_lost = |name: &String, detached: &Detached| {
            !with_secret.contains(name) && !detached.is_deleted && has_no_credential(registries, name)
        };
        if !work
            .detached
            .iter()
            .any(|(name, detached)| is_lost(name, detached))
        {
            return;
        }
        let lost: Vec<(String, Detached)> = work
            .detached
            .extract_if(|name, detached| is_lost(name, detached))
            .collect();
        let now = now();
        for (name, detached) in lost {
            tracing::info!(
                registry = name,
                "somebody deleted the rest of a detached registry's credential; its pull secrets are still swept"
            );
            for namespace in &*Arc::clone(&work.namespaces.names) {
                let pair = work.pair(namespace.to_string(), name.clone());
                if !detached.has_dealt_with(namespace) {
                    work.enqueue(pair.clone());
                }
                work.lose(pair, now);
            }
        }
    }

    /// Takes how a write of the Secret of a detached registry's credential went.
    pub(in crate::sync::secrets) fn finish_write(
        &self,
        work: &mut Work,
        CredentialWrite { registry, step, .. }: CredentialWrite,
        written: Result<Written, CallError>,
    ) {
        // One that is attached again meanwhile is no longer here.
        let Some(detached) = work.detached.get_mut(&registry) else {
            return;
        };
        detached.is_busy = false;
        let before = detached.tried.get(&step).copied();
        let retry = Retry::after(before, DETACH_BACKOFF, &(&registry, step), now());
        detached.tried.insert(step, retry);
        match (step, written) {
            (_, Err(error)) => tracing::warn!(
                registry,
                %error,
                "could not empty or delete the credential of a detached registry; will retry"
            ),
            (DetachStep::Empty, Ok(_)) => {
                // Before that, a replica could still write: all are swept again.
                detached.round = None;
                if before.is_some() {
                    tracing::warn!(
                        registry,
                        "the credential of a detached registry was emptied again: another client may write it"
                    );
                }
            }
            (DetachStep::Delete, Ok(Written::Done | Written::Gone)) => detached.is_deleted = true,
            (DetachStep::Delete, Ok(Written::Changed))
            | (DetachStep::Sweep(_) | DetachStep::MarkSwept | DetachStep::Keep, Ok(_)) => {}
        }
        if step == DetachStep::Empty {
            // Some may have come during the write.
            self.find_namespaces(work);
            Self::sweep(work, &[(registry, Round::First)]);
        }
    }

    /// Goes on with the sweeps of these registries, which share the room that there is.
    fn sweep(work: &mut Work, sweeps: &[(String, Round)]) {
        for (name, round) in sweeps {
            Self::begin_sweep(work, name, *round);
        }
        for round in [Round::First, Round::Second] {
            let mut room = Self::room(work, round);
            let of_round = || sweeps.iter().filter(|(_, of)| *of == round);
            let rest = (1..=of_round().count()).rev();
            for ((name, _), rest) in of_round().zip(rest) {
                room -= Self::go_on_sweeping(work, name, round, room.div_ceil(rest));
            }
        }
    }

    /// How many namespaces have their turn now.
    fn room(work: &Work, round: Round) -> usize {
        match round {
            // Some in any case, so that a long queue does not keep all of them waiting.
            Round::First => QUEUED_TOGETHER.saturating_sub(work.queued.len()).max(CONCURRENCY),
            Round::Second => SWEPT_TOGETHER.saturating_sub(work.sweep_next.len()),
        }
    }

    /// Begins a sweep, unless it is under way.
    fn begin_sweep(work: &mut Work, name: &str, round: Round) {
        let namespaces = &work.namespaces.names;
        let detached = work.detached.entry(name.to_owned()).or_default();
        if detached.round != Some(round) {
            detached.begin(round, namespaces.iter().cloned());
            // What failed before was something else: a conflict, say, that is none any more.
            work.forget_failures(name);
            // What is under way already when a sweep begins may have been done before a replica wrote.
            work.repeat(name);
        }
    }

    /// Has the pull secret deleted in some of the namespaces that are not dealt with yet. All of them have their turn again and
    /// again until they are dealt with. Says for how many a deletion was queued: those that wait after a failure take no room from
    /// other registries.
    fn go_on_sweeping(work: &mut Work, name: &str, round: Round, most: usize) -> usize {
        let detached = work.detached.get_mut(name);
        let next = detached.map_or_else(Vec::new, |detached| detached.next(most));
        let mut queued = 0;
        for namespace in next {
            let pair = work.pair(namespace.to_string(), name.to_owned());
            if work.is_under_way(&pair) {
                continue;
            }
            match round {
                Round::First => {
                    work.enqueue(pair);
                    queued += 1;
                }
                Round::Second => queued += usize::from(work.sweep_next(pair)),
            }
        }
        queued
    }

    /// Writes or deletes the Secret of a detached registry's credential, unless it holds something else by now: the registry
    /// may be attached again, or another leader be further.
    pub(in crate::sync::secrets) async fn write_credential(
        &self,
        write: CredentialWrite,
    ) -> (CredentialWrite, Result<Written, CallError>) {
        let written = self.try_write(&write).await;
        (write, written)
    }

    async fn try_write(
        &self,
        CredentialWrite {
            registry,
            stored,
            step,
        }: &CredentialWrite,
    ) -> Result<Written, CallError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.own_namespace);
        let name = minted_credential(registry);
        let Some(found) = call(secrets.get_opt(&name)).await? else {
            self.watches.forget(registry);
            return Ok(Written::Gone);
        };
        if Stored::parse(&found) != *stored {
            return Ok(Written::Changed);
        }
        let emptied = match (step, stored) {
            (DetachStep::Delete, _) => {
                let parameters = DeleteParams {
                    preconditions: Some(Preconditions {
                        uid: found.uid(),
                        resource_version: found.resource_version(),
                    }),
                    ..DeleteParams::default()
                };
                let deleted = unless_it_changed(call(secrets.delete(&name, &parameters)).await.map(|_| ()))?;
                if deleted.is_none() {
                    return Ok(Written::Changed);
                }
                tracing::info!(
                    registry,
                    "the registry is detached, and the rest of its credential is deleted"
                );
                return Ok(Written::Done);
            }
            (DetachStep::MarkSwept, Stored::Emptied(emptied)) => Emptied {
                is_swept: true,
                ..*emptied
            },
            (DetachStep::Empty | DetachStep::MarkSwept | DetachStep::Sweep(_) | DetachStep::Keep, _) => {
                Emptied {
                    at: Timestamp::now(),
                    is_swept: false,
                }
            }
        };
        let version = found.resource_version();
        let manifest = emptied.manifest(registry, &self.own_namespace, version.as_deref());
        let parameters = PatchParams::apply(MANAGER).force();
        let applied = call(secrets.patch_metadata(&name, &parameters, &Patch::Apply(manifest))).await;
        let Some(applied) = unless_it_changed(applied)? else {
            return Ok(Written::Changed);
        };
        if emptied.is_swept {
            tracing::info!(
                registry,
                "the registry is detached and its pull secrets are deleted"
            );
        }
        // Known here immediately, so that it is not written again until the watch brings it.
        let version = Version::parse(applied.resource_version().as_deref());
        self.watches
            .learn(registry, Stored::Emptied(emptied), version, Seen::new());
        Ok(Written::Done)
    }
}

/// What was written; none if another write came between.
fn unless_it_changed<T>(written: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match written {
        Err(error)
            if error
                .status()
                .is_some_and(|status| [404, 409].contains(&status.code)) =>
        {
            Ok(None)
        }
        written => written.map(Some),
    }
}

#[cfg(test)]
pub(in crate::sync::secrets) mod tests;

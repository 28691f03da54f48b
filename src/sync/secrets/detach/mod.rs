//! Deletes the Secrets of a registry that was detached, or that no longer needs a credential.
//!
//! A replica whose watch is behind may write a pull secret after the leader deleted it, and nobody may list Secrets to
//! find it. So the leader first empties the credential, which keeps every replica that learns of it from writing. Then
//! it sweeps every namespace, and sweeps again when no watch can be behind any more. It deletes the Secret of the
//! credential last: while that exists, a new leader knows that there is work left, and which step is next. No part of
//! this state is only in memory.

pub(in crate::sync::secrets) mod progress;

use std::collections::BTreeSet;
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
use crate::sync::secrets::detach::progress::{DetachStep, Detached, Round, next_step};
use crate::sync::secrets::work::Work;
use crate::sync::secrets::{SecretsController, now};
use crate::sync::stored::{Emptied, Stored};

/// How long the same write of the credential's Secret waits when it is due again.
const DETACH_BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_mins(5));

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
            // As it is nearly always: no look at all namespaces each second.
            return Vec::new();
        }
        let namespaces = self.watches.view.namespaces();
        Self::go_on_without_secret(work, &registries, &names, &namespaces);
        work.detached.retain(|name, _| names.contains(name));
        let now = now();
        let mut writes = Vec::new();
        for name in names {
            let Some((stored, seen)) = self.watches.credentials.stored(&name) else {
                continue;
            };
            let detached = work.detached.entry(name.clone()).or_default();
            if detached.is_busy || (detached.is_deleted && matches!(stored, Stored::Emptied(_))) {
                continue;
            }
            let kept_for = now.saturating_duration_since(seen.at.steady);
            let is_cleared = |round| {
                detached.round == Some(round)
                    && namespaces
                        .iter()
                        .all(|namespace| detached.cleared.contains(namespace))
            };
            let step = next_step(&stored, kept_for, self.emptied_interval, is_cleared);
            match step {
                DetachStep::Keep => {}
                DetachStep::Sweep(round) => Self::sweep(work, &name, &namespaces, round),
                DetachStep::Empty | DetachStep::MarkSwept | DetachStep::Delete => {
                    if !detached.waits(step, now) {
                        if writes.len() < most {
                            detached.is_busy = true;
                            writes.push(CredentialWrite {
                                registry: name,
                                stored,
                                step,
                            });
                        }
                    } else if step == DetachStep::Empty {
                        // It is better to delete pull secrets that may come back than none.
                        Self::sweep(work, &name, &namespaces, Round::First);
                    }
                }
            }
        }
        writes
    }

    /// Somebody deleted the Secret of a detached registry's credential before the second sweep: what is left of both sweeps
    /// is done from what this process remembers.
    fn go_on_without_secret(
        work: &mut Work,
        registries: &AttachedRegistries,
        with_secret: &BTreeSet<String>,
        namespaces: &[String],
    ) {
        let is_lost = |name: &String, detached: &Detached| {
            !with_secret.contains(name) && !detached.is_deleted && has_no_credential(registries, name)
        };
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
            let was_swept = |namespace| detached.round.is_some() && detached.cleared.contains(namespace);
            for namespace in namespaces {
                let pair = work.pair(namespace.clone(), name.clone());
                if !was_swept(namespace) {
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
            Self::sweep(work, &registry, &self.watches.view.namespaces(), Round::First);
        }
    }

    /// Has the pull secret deleted in the namespaces that are not dealt with yet. It is looked at again and again until all
    /// are, so a namespace that comes meanwhile is not missed.
    fn sweep(work: &mut Work, name: &str, namespaces: &[String], round: Round) {
        let detached = work.detached.entry(name.to_owned()).or_default();
        let is_new = detached.round != Some(round);
        if is_new {
            detached.round = Some(round);
            detached.cleared.clear();
            // What failed before was something else: a conflict, say, that is none any more.
            work.forget_failures(name);
        }
        let Some(detached) = work.detached.get(name) else {
            return;
        };
        let left = namespaces
            .iter()
            .filter(|namespace| !detached.cleared.contains(*namespace));
        for namespace in left.cloned().collect::<Vec<_>>() {
            let pair = work.pair(namespace, name.to_owned());
            // What is under way already when a sweep begins may have been done before a replica wrote.
            if work.is_under_way(&pair) && !(is_new && work.busy.contains(&pair)) {
                continue;
            }
            match round {
                Round::First => work.enqueue(pair),
                Round::Second => work.sweep_next(pair),
            }
        }
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

//! What is done about the secrets of a registry that was detached.
//!
//! A replica whose watch is behind may write a pull secret after the leader deleted it, and nobody may list Secrets to find
//! it. So the credential is emptied first, which keeps every replica that hears of it from writing; then every namespace is
//! swept, and swept again when no watch can be behind any more; the Secret of the credential is deleted last. As long as
//! it is there, a new leader knows that there is work left, and how far it is: nothing of that is kept in memory alone.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};

use crate::api::names::{MANAGER, minted_credential};
use crate::base::backoff::{Backoff, Jitter};
use crate::kubernetes::call::{CallError, call};
use crate::sync::credentials::{Seen, Version};
use crate::sync::secrets::work::Work;
use crate::sync::secrets::{CONCURRENCY, SecretsController};
use crate::sync::stored::{Emptied, Stored};

/// How long an emptied credential is kept once the namespaces are swept: longer than the watch of a replica may be behind.
/// kube's watcher gives up a watch that says nothing after about 295 s.
pub const EMPTIED_INTERVAL: Duration = Duration::from_mins(6);
/// How long a write of the credential's Secret that failed waits.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_mins(5));

/// What there is to do about a registry that is detached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sync::secrets) enum DetachStep {
    /// Empty its credential.
    Empty,
    /// Delete its pull secrets.
    Sweep(Round),
    /// Note that they are deleted.
    MarkSwept,
    /// Nothing yet: a replica may be behind.
    Keep,
    /// Delete what is left of its credential.
    Delete,
}

/// Which sweep of the namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sync::secrets) enum Round {
    /// Right away.
    First,
    /// When no replica can be behind any more.
    Second,
}

/// Decides on a registry that is detached. It is pure. `kept_for` is how long this process has known what the Secret holds,
/// by its monotonic clock: no wall clock is trusted, be it of this machine or of the one that wrote the Secret, so a clock
/// that jumps deletes nothing early. A process that starts counts from the beginning.
pub(in crate::sync::secrets) fn next_step(
    stored: &Stored,
    kept_for: Duration,
    interval: Duration,
    is_cleared: impl FnOnce(Round) -> bool,
) -> DetachStep {
    let (round, done) = match stored {
        Stored::Minted(_) | Stored::Unreadable => return DetachStep::Empty,
        Stored::Emptied(Emptied { is_swept: false, .. }) => (Round::First, DetachStep::MarkSwept),
        Stored::Emptied(_) if kept_for < interval => return DetachStep::Keep,
        Stored::Emptied(_) => (Round::Second, DetachStep::Delete),
    };
    if is_cleared(round) {
        done
    } else {
        DetachStep::Sweep(round)
    }
}

/// How far a leader is with a registry that is detached.
#[derive(Debug, Default)]
pub(in crate::sync::secrets) struct Detached {
    /// The sweep that is under way.
    round: Option<Round>,
    /// The namespaces that it has dealt with.
    pub(in crate::sync::secrets) cleared: HashSet<String>,
    /// How often in a row its Secret could not be written, and when that is tried again.
    failing: Option<(u32, Instant)>,
}

impl Detached {
    fn waits(&self, now: Instant) -> bool {
        self.failing.is_some_and(|(_, at)| at > now)
    }

    fn failed(&mut self, registry: &str, now: Instant) {
        let count = self.failing.map_or(0, |(count, _)| count).saturating_add(1);
        let at = now + BACKOFF.delay(count, None, Jitter::of(&(registry, count)));
        self.failing = Some((count, at));
    }
}

impl SecretsController {
    /// Goes on with every registry that is detached and whose credential still has a Secret.
    pub(in crate::sync::secrets) async fn detach(&self, work: &mut Work) {
        let registries = self.watches.view.registries();
        let mut names = self.watches.credentials.registries();
        names.retain(|name| !registries.is_attached(name));
        work.detached.retain(|name, _| names.contains(name));
        let namespaces = self.watches.view.namespaces();
        let now = Instant::now();
        let mut writes = Vec::new();
        for name in names {
            let Some((stored, seen)) = self.watches.credentials.stored(&name) else {
                continue;
            };
            let detached = work.detached.entry(name.clone()).or_default();
            let kept_for = now.saturating_duration_since(seen.at.steady);
            let is_cleared = |round| {
                detached.round == Some(round)
                    && namespaces
                        .iter()
                        .all(|namespace| detached.cleared.contains(namespace))
            };
            match next_step(&stored, kept_for, self.emptied_interval, is_cleared) {
                DetachStep::Keep => {}
                DetachStep::Sweep(round) => Self::sweep(work, &name, &namespaces, round),
                step if !detached.waits(now) => writes.push((name, stored, step)),
                // It is better to delete pull secrets that may come back than none.
                DetachStep::Empty => Self::sweep(work, &name, &namespaces, Round::First),
                DetachStep::MarkSwept | DetachStep::Delete => {}
            }
        }
        let writes = writes.into_iter().map(async |(name, stored, step)| {
            let written = self.write_credential(&name, &stored, step).await;
            (name, step, written)
        });
        let written: Vec<_> = stream::iter(writes).buffer_unordered(CONCURRENCY).collect().await;
        for (name, step, written) in written {
            let detached = work.detached.entry(name.clone()).or_default();
            match written {
                Ok(()) => {
                    detached.failing = None;
                    if step == DetachStep::Empty {
                        // Before that, a replica could still write: all are swept again.
                        detached.round = None;
                    }
                }
                Err(error) => {
                    detached.failed(&name, now);
                    tracing::warn!(
                        registry = name,
                        %error,
                        "could not empty or delete the credential of a detached registry; will retry"
                    );
                }
            }
            if step == DetachStep::Empty {
                Self::sweep(work, &name, &namespaces, Round::First);
            }
        }
    }

    /// Has the pull secret deleted in the namespaces that are not dealt with yet. It is looked at again and again until all
    /// are, so a namespace that comes meanwhile is not missed.
    fn sweep(work: &mut Work, name: &str, namespaces: &[String], round: Round) {
        let detached = work.detached.entry(name.to_owned()).or_default();
        if detached.round != Some(round) {
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
            if work.is_under_way(&pair) {
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
    async fn write_credential(
        &self,
        registry: &str,
        stored: &Stored,
        step: DetachStep,
    ) -> Result<(), CallError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.own_namespace);
        let name = minted_credential(registry);
        let Some(found) = call(secrets.get_opt(&name)).await? else {
            self.watches.forget(registry);
            return Ok(());
        };
        if Stored::parse(&found) != *stored {
            // The watch brings it.
            return Ok(());
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
                let deleted = call(secrets.delete(&name, &parameters)).await;
                unless_it_changed(deleted.map(|_| ()))?;
                tracing::info!(
                    registry,
                    "the registry is detached and what was left of its credential is deleted"
                );
                return Ok(());
            }
            (DetachStep::MarkSwept, Stored::Emptied(emptied)) => Emptied {
                is_swept: true,
                ..*emptied
            },
            _ => Emptied {
                at: Timestamp::now(),
                is_swept: false,
            },
        };
        let version = found.resource_version();
        let manifest = emptied.manifest(registry, &self.own_namespace, version.as_deref());
        let parameters = PatchParams::apply(MANAGER).force();
        let applied = call(secrets.patch_metadata(&name, &parameters, &Patch::Apply(manifest))).await;
        let Some(applied) = unless_it_changed(applied.map(Some))? else {
            return Ok(());
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
        Ok(())
    }
}

/// Another write came between: the watch brings it, and what there is to do is decided again.
fn unless_it_changed<T: Default>(written: Result<T, CallError>) -> Result<T, CallError> {
    match written {
        Err(error)
            if error
                .status()
                .is_some_and(|status| [404, 409].contains(&status.code)) =>
        {
            Ok(T::default())
        }
        written => written,
    }
}

#[cfg(test)]
mod tests;

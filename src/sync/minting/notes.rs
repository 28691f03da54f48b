//! What is recorded on a minted credential in addition to itself: the version of its identity's Secret, and the
//! namespaces that may have it.
//!
//! A note is applied by a field manager of its own, so that it never writes a credential, and does not change the time
//! at which the credential was stored: a new leader derives its age from that time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{MintFailure, RETRY_INTERVAL, RegistryController};
use crate::api::advice::without_advice;
use crate::api::names::{INPUTS_ANNOTATION, NAMESPACES_ANNOTATION, NOTE_MANAGER, minted_credential};
use crate::api::reason::Reason;
use crate::base::clock::Instants;
use crate::base::pruned_map::PrunedMap;
use crate::kubernetes::call::{CallError, call};
use crate::policy::attached::AttachedRegistry;
use crate::sync::credentials::{Seen, Version};
use crate::sync::held_credential::HeldCredential;
use crate::sync::minting::refresh::{self, Failures};
use crate::sync::stored::Stored;

/// The fingerprint of no selector: a credential with this note goes to no further namespace.
pub(super) const NO_NAMESPACES: &str = "";

/// What is to be noted of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    /// What it was made of, the version of the identity's Secret included.
    pub(super) inputs: String,
    /// The fingerprint of the selector of namespaces to which it may go.
    pub(super) namespaces: String,
}

impl Note {
    /// A credential with this note in place of its own.
    fn on(&self, held: &HeldCredential) -> HeldCredential {
        HeldCredential {
            inputs: self.inputs.clone(),
            namespaces: Some(self.namespaces.clone()),
            ..held.clone()
        }
    }
}

/// A credential that does not say yet what is to be noted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unnoted {
    /// Why; none if this process knew the credential as it was before.
    pub(super) failure: Option<MintFailure>,
    /// In how long that is tried again.
    pub(super) wait: Duration,
}

/// Notes that were refused, by AcrRegistry, as long as they are; now and then those that are not attached are forgotten.
#[derive(Debug, Default)]
pub(super) struct RefusedNotes(Mutex<PrunedMap<String, Refused>>);

#[derive(Debug, Clone)]
struct Refused {
    note: Note,
    failures: Failures,
    failure: MintFailure,
}

impl Refused {
    fn left(&self, now: Instant) -> Option<Unnoted> {
        let failure = Some(self.failure.clone());
        self.failures.left(now).map(|wait| Unnoted { failure, wait })
    }
}

impl RefusedNotes {
    /// The last refusal of this note.
    fn of(&self, registry: &str, note: &Note) -> Option<Refused> {
        let refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused
            .get(registry)
            .filter(|refused| refused.note == *note)
            .cloned()
    }

    fn remember(&self, registry: &str, refused: Refused, is_attached: impl Fn(&str) -> bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(registry.to_owned(), refused, |name, _| is_attached(name));
    }

    fn forget(&self, registry: &str) {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused.remove(registry);
    }
}

impl RegistryController {
    /// Has the credential of a registry go to no further namespace, since the Secret of its identity is missing or refuses.
    pub(super) async fn withhold(&self, registry: &AttachedRegistry) -> Result<(), Unnoted> {
        let Some((held, seen)) = self.parts.watches.credentials.seen(registry.name()) else {
            return Ok(());
        };
        if !held.is_of(registry) {
            return Ok(());
        }
        let note = Note {
            inputs: held.inputs.clone(),
            namespaces: NO_NAMESPACES.to_owned(),
        };
        self.note(registry.name(), &held, seen, note).await
    }

    /// Stores a note of the credential that is held, where it has another one; nothing else of it.
    pub(super) async fn note(
        &self,
        registry: &str,
        held: &Arc<HeldCredential>,
        seen: Seen,
        note: Note,
    ) -> Result<(), Unnoted> {
        if note.on(held) == **held {
            return Ok(());
        }
        let before = self.refused_notes.of(registry, &note);
        if let Some(unnoted) = before.as_ref().and_then(|refused| refused.left(Instant::now())) {
            return Err(unnoted);
        }
        match self.store_note(registry, held, seen, &note).await {
            Ok(is_stored) => {
                self.refused_notes.forget(registry);
                is_stored.then_some(()).ok_or(Unnoted {
                    failure: None,
                    wait: RETRY_INTERVAL,
                })
            }
            Err(error) => Err(self.note_refused(registry, note, before.as_ref(), &error)),
        }
    }

    /// Says whether the credential is the one that is held, and has the note now. Another one is what the watch brings soon.
    async fn store_note(
        &self,
        registry: &str,
        held: &Arc<HeldCredential>,
        seen: Seen,
        note: &Note,
    ) -> Result<bool, CallError> {
        let namespace = &self.parts.own_namespace;
        let secrets: Api<Secret> = Api::namespaced(self.parts.client.clone(), namespace);
        let name = minted_credential(registry);
        let Some(live) = call(secrets.get_opt(&name)).await? else {
            return Ok(false);
        };
        let (stored, known) = (Stored::parse(&live), Stored::Minted(Arc::clone(held)));
        if stored != known && !known.is_noted_otherwise(&stored) {
            return Ok(false);
        }
        let manifest = Patch::Apply(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": namespace,
                // Nothing is noted of a credential that comes meanwhile.
                "resourceVersion": live.resource_version(),
                "annotations": {INPUTS_ANNOTATION: note.inputs, NAMESPACES_ANNOTATION: note.namespaces},
            },
        }));
        let parameters = PatchParams::apply(NOTE_MANAGER).force();
        let written = match call(secrets.patch_metadata(&name, &parameters, &manifest)).await {
            Ok(written) => written,
            Err(error) if error.code() == Some(409) => return Ok(false),
            Err(error) => return Err(error),
        };
        let version = Version::parse(written.resource_version().as_deref());
        self.parts.watches.learn(registry, note.on(held), version, seen);
        Ok(true)
    }

    fn note_refused(
        &self,
        registry: &str,
        note: Note,
        before: Option<&Refused>,
        error: &CallError,
    ) -> Unnoted {
        let failure = MintFailure {
            reason: Reason::Unreachable,
            message: without_advice(&format!(
                "namespaces wait for the minted credential, because Secret {} in namespace {} can't be written: {error}",
                minted_credential(registry),
                self.parts.own_namespace
            )),
            retry_after: None,
        };
        tracing::warn!(
            registry,
            message = failure.message,
            "could not annotate a minted credential"
        );
        let now = Instants {
            wall: (self.parts.clock)(),
            steady: Instant::now(),
        };
        let failures = refresh::failed(now, &note.inputs, before.map(|refused| &refused.failures), None);
        let unnoted = Unnoted {
            failure: Some(failure.clone()),
            wait: failures.wait,
        };
        let refused = Refused {
            note,
            failures,
            failure,
        };
        let view = &self.parts.watches.view;
        self.refused_notes
            .remember(registry, refused, |name| view.is_attached(name));
        unnoted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_costs_the_same_among_any_number() {
        let note = Note {
            inputs: "a".to_owned(),
            namespaces: NO_NAMESPACES.to_owned(),
        };
        let refused = Refused {
            failures: refresh::failed(Instants::now(), &note.inputs, None, None),
            failure: MintFailure {
                reason: Reason::Unreachable,
                message: String::new(),
                retry_after: None,
            },
            note: note.clone(),
        };
        let notes = RefusedNotes::default();
        for number in 0..2_000 {
            notes.remember(&format!("r{number}"), refused.clone(), |_| true);
        }
        assert!(notes.of("r0", &note).is_some() && notes.of("r1999", &note).is_some());
        let looks = notes.0.lock().unwrap().looks();
        assert!(looks < 4_000, "{looks}");
        for number in 0..10_000 {
            let name = format!("detached{number}");
            notes.remember(&name, refused.clone(), |name| name.starts_with('r'));
        }
        let known = notes.0.lock().unwrap().len();
        assert!(known <= 4_500, "{known}");
    }
}

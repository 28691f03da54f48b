//! An identity's Secret that is written again with the same values: an annotation, or the same manifest applied again, causes
//! no mint and ends no backoff. Only what is read of it counts.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::PoisonError;
use std::time::Duration;

use super::identity::{CredentialSource, Resolved};
use super::{RETRY_INTERVAL, RegistryController};
use crate::azure::identity::{Application, MintIdentity};
use crate::policy::attached::AttachedRegistry;
use crate::sync::held_credential::HeldCredential;

/// What was read last of the Secrets of identities, by AcrRegistry: as hashes under a key that this process alone has, which
/// say nothing of a value.
#[derive(Debug, Default)]
pub(super) struct ReadValues {
    key: RandomState,
    known: HashMap<String, Known>,
}

/// Whether a minted credential says what is to be noted of it; if not, that is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IsNoted(bool);

impl IsNoted {
    /// When to look again, where that is in so long at most without it.
    pub(super) fn interval(self, next: Option<Duration>) -> Option<Duration> {
        let retry = (!self.0).then_some(RETRY_INTERVAL);
        next.into_iter().chain(retry).min()
    }
}

/// What is noted of a credential beside itself.
struct Note<'a> {
    /// Other inputs, if it has any.
    inputs: Option<&'a String>,
    /// The fingerprint of the namespaces to which it may go.
    namespaces: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// The fingerprint of the spec.
    spec: String,
    inputs: String,
    hash: u64,
}

impl ReadValues {
    fn of(&self, registry: &AttachedRegistry, resolved: &Resolved) -> Known {
        Known {
            spec: registry.fingerprint().to_owned(),
            inputs: resolved.inputs.clone(),
            hash: self.key.hash_one(values(&resolved.source)),
        }
    }

    /// The inputs under which the same was read before, where they differ: the Secret has been written since.
    fn inputs_before(&self, registry: &AttachedRegistry, resolved: &Resolved) -> Option<String> {
        let known = self.known.get(registry.name())?;
        let now = self.of(registry, resolved);
        let is_rewritten = known.spec == now.spec && known.hash == now.hash && known.inputs != now.inputs;
        is_rewritten.then(|| known.inputs.clone())
    }

    fn learn(&mut self, registry: &AttachedRegistry, resolved: &Resolved) {
        let known = self.of(registry, resolved);
        self.known.insert(registry.name().to_owned(), known);
    }
}

/// What an identity's Secret said, or what else is no part of the spec.
fn values(source: &CredentialSource) -> [&str; 2] {
    match source {
        CredentialSource::Account(account) => values_of(account.application()),
        CredentialSource::Password(password) => [password.username.as_str(), password.password.expose()],
        CredentialSource::Mint(request) => match &request.identity {
            MintIdentity::ClientSecret { secret, .. } => [secret.expose(), ""],
            MintIdentity::ClientCertificate { pem, .. } => [pem.expose(), ""],
            MintIdentity::WorkloadIdentity { app, .. } | MintIdentity::FederatedToken { app, .. } => {
                values_of(app)
            }
            MintIdentity::ManagedIdentity(_) => ["", ""],
        },
    }
}

/// Where no Secret says who an identity is, its annotations or the environment do: another application is no rewrite.
fn values_of(app: &Application) -> [&str; 2] {
    [&app.tenant_id, &app.client_id]
}

impl RegistryController {
    /// Has all that is known of a registry hold for inputs that differ by the version of the Secret alone, and has its credential
    /// go to the namespaces that the spec lets in now. The credential's own Secret gets the new version, by which
    /// `pullpass attach` sees that the one that it wrote was read; where that fails, the inputs of before are given back, and
    /// that it is not noted.
    pub(super) async fn carry_over(
        &self,
        registry: &AttachedRegistry,
        mut resolved: Resolved,
    ) -> (Resolved, IsNoted) {
        let name = registry.name();
        let before = {
            let values = self.read_values.lock().unwrap_or_else(PoisonError::into_inner);
            values.inputs_before(registry, &resolved)
        };
        let held_inputs = before.as_ref().unwrap_or(&resolved.inputs);
        let noted = Note {
            inputs: Some(&resolved.inputs),
            namespaces: registry.namespaces_fingerprint(),
        };
        let is_noted = self.note_held(registry, Some(held_inputs), noted).await;
        if let Some(before) = before {
            if !is_noted.0 {
                resolved.inputs = before;
                return (resolved, is_noted);
            }
            self.rename_memory(name, &before, &resolved.inputs);
        }
        let view = &self.parts.watches.view;
        let mut values = self.read_values.lock().unwrap_or_else(PoisonError::into_inner);
        values.known.retain(|name, _| view.is_attached(name));
        values.learn(registry, &resolved);
        (resolved, is_noted)
    }

    /// Has the credential of a registry go to no further namespace, since the Secret of its identity is missing or refuses.
    pub(super) async fn withhold(&self, registry: &AttachedRegistry) -> IsNoted {
        let noted = Note {
            inputs: None,
            namespaces: "",
        };
        self.note_held(registry, None, noted).await
    }

    /// Stores something else to be noted of the credential that is held, where it is of the spec and of these inputs if any are
    /// given; says whether that is done, or there is none.
    async fn note_held(
        &self,
        registry: &AttachedRegistry,
        of_inputs: Option<&String>,
        note: Note<'_>,
    ) -> IsNoted {
        let watches = &self.parts.watches;
        let Some((held, seen)) = watches.credentials.seen(registry.name()) else {
            return IsNoted(true);
        };
        if !held.is_of(registry) || of_inputs.is_some_and(|inputs| held.inputs != *inputs) {
            return IsNoted(true);
        }
        let noted = HeldCredential {
            inputs: note.inputs.unwrap_or(&held.inputs).clone(),
            namespaces: Some(note.namespaces.to_owned()),
            ..HeldCredential::clone(&held)
        };
        if noted == *held {
            return IsNoted(true);
        }
        match self.store(registry.name(), &noted).await {
            Ok(version) => {
                watches.learn(registry.name(), noted, version, seen);
                IsNoted(true)
            }
            Err(failure) => {
                tracing::warn!(
                    registry = registry.name(),
                    message = failure.message,
                    "what its identity's Secret says now was not noted on the minted credential; will retry"
                );
                IsNoted(false)
            }
        }
    }

    fn rename_memory(&self, registry: &str, before: &str, inputs: &str) {
        self.rename_failures(registry, before, inputs);
        let mut acceptances = self.acceptances.lock().unwrap_or_else(PoisonError::into_inner);
        acceptances.rename(registry, before, inputs);
        let mut rights = self.pull_rights.lock().unwrap_or_else(PoisonError::into_inner);
        rights.rename(registry, before, inputs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::mint::Password;
    use crate::sync::credentials::Seen;
    use crate::sync::minting::refresh::RefreshPlan;
    use crate::sync::minting::tests::controller;
    use serde_json::json;

    fn registry(repository: &str) -> AttachedRegistry {
        parsed(repository, &serde_json::Value::Null)
    }

    fn selecting(repository: &str, team: &str) -> AttachedRegistry {
        parsed(repository, &json!({"matchLabels": {"team": team}}))
    }

    fn parsed(repository: &str, namespaces: &serde_json::Value) -> AttachedRegistry {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "mine"},
            "spec": {
                "loginServer": format!("{repository}.azurecr.io"),
                "identity": {"basic": {"secretRef": {"name": "token"}}},
                "namespaces": namespaces,
            },
        });
        AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap()
    }

    fn resolved(password: &str, inputs: &str) -> Resolved {
        let password = Password {
            username: "puller".to_owned(),
            password: password.into(),
            principal: None,
        };
        Resolved {
            source: CredentialSource::Password(password),
            inputs: inputs.to_owned(),
        }
    }

    #[test]
    fn only_a_rewrite_of_the_same_values_has_inputs_before() {
        let mine = registry("myregistry");
        let mut values = ReadValues::default();
        assert_eq!(values.inputs_before(&mine, &resolved("hunter2", "a/1")), None);
        values.learn(&mine, &resolved("hunter2", "a/1"));
        let before = |registry: &AttachedRegistry, password, inputs| {
            values.inputs_before(registry, &resolved(password, inputs))
        };
        assert_eq!(before(&mine, "hunter2", "a/2").as_deref(), Some("a/1"));
        assert_eq!(before(&mine, "hunter2", "a/1"), None, "nothing was written");
        assert_eq!(before(&mine, "hunter3", "a/2"), None, "another password");
        assert_eq!(
            before(&registry("otherregistry"), "hunter2", "b/2"),
            None,
            "another spec"
        );
        assert!(!format!("{values:?}").contains("hunter"));
    }

    #[test]
    fn another_application_is_no_rewrite() {
        let resolved = |client_id: &str| {
            let app = Application {
                tenant_id: "contoso".to_owned(),
                client_id: client_id.to_owned(),
            };
            let token_file = "/var/run/token".into();
            let identity = MintIdentity::WorkloadIdentity { app, token_file };
            let request = super::super::identity::mint_request(&registry("myregistry"), identity);
            Resolved {
                source: CredentialSource::Mint(Box::new(request)),
                inputs: format!("a/{client_id}"),
            }
        };
        let mine = registry("myregistry");
        let mut values = ReadValues::default();
        values.learn(&mine, &resolved("powerful"));
        assert_eq!(values.inputs_before(&mine, &resolved("narrow")), None);
    }

    /// A controller that holds a credential of this spec and these inputs.
    fn holding(registry: &AttachedRegistry, inputs: &str, code: u16) -> RegistryController {
        let stored = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "credential-mine", "resourceVersion": "7"}});
        let refused = json!({"kind": "Status", "status": "Failure", "code": code, "message": "no"});
        let controller = controller(registry, code, if code == 200 { &stored } else { &refused });
        let held = HeldCredential {
            docker_config: k8s_openapi::ByteString(Vec::new()),
            audience: None,
            refreshed_at: jiff::Timestamp::UNIX_EPOCH,
            expires_at: None,
            inputs: inputs.to_owned(),
            fingerprint: Some(registry.fingerprint().to_owned()),
            namespaces: None,
        };
        controller.parts.watches.learn("mine", held, None, Seen::new());
        controller
    }

    fn held(controller: &RegistryController) -> String {
        controller
            .parts
            .watches
            .credentials
            .of("mine")
            .unwrap()
            .inputs
            .clone()
    }

    #[tokio::test]
    async fn a_rewrite_is_noted_and_renames_what_is_known() {
        let mine = registry("myregistry");
        let controller = holding(&mine, "a/1", 200);
        controller.carry_over(&mine, resolved("hunter2", "a/1")).await;
        controller.accepted("mine", "a/1");
        assert_eq!(held(&controller), "a/1");
        let (carried, _) = controller.carry_over(&mine, resolved("hunter2", "a/2")).await;
        assert_eq!(
            (carried.inputs.as_str(), held(&controller).as_str()),
            ("a/2", "a/2")
        );
        let now = std::time::Instant::now();
        assert_ne!(
            controller.trial("mine", "a/2", now),
            RefreshPlan::Mint,
            "it was accepted"
        );
    }

    #[tokio::test]
    async fn a_rewrite_that_is_not_stored_is_carried_over_later() {
        let mine = registry("myregistry");
        let controller = holding(&mine, "a/1", 500);
        for inputs in ["a/1", "a/2", "a/2"] {
            let (carried, is_noted) = controller.carry_over(&mine, resolved("hunter2", inputs)).await;
            assert_eq!(is_noted, IsNoted(false), "{inputs}");
            assert_eq!(
                (carried.inputs.as_str(), held(&controller).as_str()),
                ("a/1", "a/1")
            );
        }
    }

    #[tokio::test]
    async fn only_a_credential_of_the_same_inputs_is_noted_otherwise() {
        let mine = registry("myregistry");
        // A write would be refused, and so be seen.
        let noted = async |controller: &RegistryController| {
            controller.carry_over(&mine, resolved("hunter2", "a/1")).await.1
        };
        let of_others = holding(&mine, "b/1", 500);
        assert_eq!(noted(&of_others).await, IsNoted(true), "of other inputs");
        let of_another_spec = holding(&registry("otherregistry"), "a/1", 500);
        assert_eq!(noted(&of_another_spec).await, IsNoted(true), "of another spec");
        of_others.parts.watches.credentials.remove("mine");
        assert_eq!(noted(&of_others).await, IsNoted(true), "none");
        let refused = noted(&holding(&mine, "a/1", 500)).await;
        assert_eq!(refused.interval(None), Some(RETRY_INTERVAL));
        assert_eq!(refused.interval(Some(Duration::MAX)), Some(RETRY_INTERVAL));
        assert_eq!(refused.interval(Some(Duration::ZERO)), Some(Duration::ZERO));
    }

    #[tokio::test]
    async fn namespaces_that_an_edit_lets_in_wait_for_the_identity() {
        let (mine, for_a) = (registry("myregistry"), selecting("myregistry", "a"));
        assert_eq!(mine.fingerprint(), for_a.fingerprint());
        let controller = holding(&mine, "a/1", 200);
        let may_go_out_for = |registry| controller.parts.watches.credential(registry).is_some();
        assert!(may_go_out_for(&for_a), "an earlier release noted nothing");
        controller.carry_over(&mine, resolved("hunter2", "a/1")).await;
        assert!(may_go_out_for(&mine) && !may_go_out_for(&for_a));
        // The Secret holds another identity, which nobody accepted yet.
        controller.carry_over(&for_a, resolved("narrow", "a/2")).await;
        assert!(!may_go_out_for(&for_a));
        controller.carry_over(&for_a, resolved("hunter2", "a/1")).await;
        assert!(may_go_out_for(&for_a) && !may_go_out_for(&mine));
        controller.withhold(&for_a).await;
        assert!(!may_go_out_for(&for_a), "its Secret is gone");
    }
}

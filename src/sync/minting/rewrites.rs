//! An identity's Secret that is written again with the same values: an annotation, or the same manifest applied again, causes
//! no mint and ends no backoff. Only what is read of it counts.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError};

use super::RegistryController;
use super::identity::{CredentialSource, Resolved};
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
    /// Has all that is known of a registry hold for inputs that differ by the version of the Secret alone. The credential's own
    /// Secret gets the new version, by which `pullpass attach` sees that the one that it wrote was read; where that fails, the
    /// inputs of before are given back, so that it is done later.
    pub(super) async fn carry_over(&self, registry: &AttachedRegistry, mut resolved: Resolved) -> Resolved {
        let name = registry.name();
        let before = {
            let values = self.read_values.lock().unwrap_or_else(PoisonError::into_inner);
            values.inputs_before(registry, &resolved)
        };
        if let Some(before) = before {
            if !self.rename_held(registry, &before, &resolved.inputs).await {
                resolved.inputs = before;
                return resolved;
            }
            self.rename_memory(name, &before, &resolved.inputs);
        }
        let view = &self.parts.watches.view;
        let mut values = self.read_values.lock().unwrap_or_else(PoisonError::into_inner);
        values.known.retain(|name, _| view.is_attached(name));
        values.learn(registry, &resolved);
        resolved
    }

    /// Stores the credential that is held under other inputs, and nothing else of it; says whether that is done, or none is held.
    async fn rename_held(&self, registry: &AttachedRegistry, before: &str, inputs: &str) -> bool {
        let watches = &self.parts.watches;
        let Some((held, seen)) = watches.credentials.seen(registry.name()) else {
            return true;
        };
        if !held.is_of(registry) || held.inputs != before {
            return true;
        }
        let renamed = HeldCredential {
            inputs: inputs.to_owned(),
            ..Arc::unwrap_or_clone(held)
        };
        match self.store(registry.name(), &renamed).await {
            Ok(version) => {
                watches.learn(registry.name(), renamed, version, seen);
                true
            }
            Err(failure) => {
                tracing::warn!(
                    registry = registry.name(),
                    message = failure.message,
                    "the version of a Secret was not noted"
                );
                false
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
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "mine"},
            "spec": {
                "loginServer": format!("{repository}.azurecr.io"),
                "identity": {"basic": {"secretRef": {"name": "token"}}},
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
        let carried = controller.carry_over(&mine, resolved("hunter2", "a/2")).await;
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
            let carried = controller.carry_over(&mine, resolved("hunter2", inputs)).await;
            assert_eq!(
                (carried.inputs.as_str(), held(&controller).as_str()),
                ("a/1", "a/1")
            );
        }
    }

    #[tokio::test]
    async fn only_the_credential_of_the_same_inputs_is_renamed() {
        let mine = registry("myregistry");
        // A write would be refused, and so be seen.
        let of_others = holding(&mine, "b/1", 500);
        assert!(
            of_others.rename_held(&mine, "a/1", "a/2").await,
            "of other inputs"
        );
        let of_another_spec = holding(&registry("otherregistry"), "a/1", 500);
        assert!(
            of_another_spec.rename_held(&mine, "a/1", "a/2").await,
            "of another spec"
        );
        of_others.parts.watches.credentials.remove("mine");
        assert!(of_others.rename_held(&mine, "a/1", "a/2").await, "none");
    }
}

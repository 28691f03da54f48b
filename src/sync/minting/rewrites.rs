//! An identity's Secret that is written again with the same values: an annotation, or the same manifest applied again, causes
//! no mint and ends no backoff. Only what is read of it counts.

use std::hash::{BuildHasher, RandomState};
use std::sync::PoisonError;

use super::RegistryController;
use super::identity::{CredentialSource, Resolved};
use super::notes::{NO_NAMESPACES, Note, Unnoted};
use crate::azure::identity::{Application, MintIdentity};
use crate::base::pruned_map::PrunedMap;
use crate::policy::attached::AttachedRegistry;

/// What was read last of the Secrets of identities, by AcrRegistry: as hashes under a key that only this process has,
/// which say nothing of a value.
#[derive(Debug, Default)]
pub(super) struct ReadValues {
    key: RandomState,
    known: PrunedMap<String, Known>,
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

    /// Takes what was read now. Now and then it forgets what is not attached any more.
    fn learn(
        &mut self,
        registry: &AttachedRegistry,
        resolved: &Resolved,
        is_attached: impl Fn(&str) -> bool,
    ) {
        let (name, known) = (registry.name().to_owned(), self.of(registry, resolved));
        self.known.insert(name, known, |name, _| is_attached(name));
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
    /// Has all that is known of a registry hold for inputs that differ only by the version of the Secret, and has its
    /// credential go to the namespaces that the spec lets in now. The credential's own Secret gets the new version, by
    /// which `pullpass attach` knows that the one that it wrote was read; where that fails, the previous inputs are
    /// given back.
    pub(super) async fn carry_over(
        &self,
        registry: &AttachedRegistry,
        mut resolved: Resolved,
    ) -> (Resolved, Result<(), Unnoted>) {
        let name = registry.name();
        let before = {
            let values = self.read_values.lock().unwrap_or_else(PoisonError::into_inner);
            values.inputs_before(registry, &resolved)
        };
        let noted = self
            .note_identity(registry, before.as_ref(), &resolved.inputs)
            .await;
        if let Some(before) = before {
            if noted.is_err() {
                resolved.inputs = before;
                return (resolved, noted);
            }
            self.rename_memory(name, &before, &resolved.inputs);
        }
        let view = &self.parts.watches.view;
        let mut values = self.read_values.lock().unwrap_or_else(PoisonError::into_inner);
        values.learn(registry, &resolved, |name| view.is_attached(name));
        (resolved, noted)
    }

    /// Notes on the credential of a registry that its identity is the one of these inputs, where it is: it was made of them, or
    /// of those before, which mean the same.
    async fn note_identity(
        &self,
        registry: &AttachedRegistry,
        before: Option<&String>,
        inputs: &String,
    ) -> Result<(), Unnoted> {
        let Some((held, seen)) = self.parts.watches.credentials.seen(registry.name()) else {
            return Ok(());
        };
        if !held.is_of(registry) {
            return Ok(());
        }
        // A write whose answer was lost has renamed it already.
        let note = if held.inputs == *inputs || before.is_some_and(|before| held.inputs == *before) {
            Note {
                inputs: inputs.clone(),
                namespaces: registry.namespaces_fingerprint().to_owned(),
            }
        } else if held.namespaces.is_none() {
            // An earlier release stored it, for nobody knows which selector.
            Note {
                inputs: held.inputs.clone(),
                namespaces: NO_NAMESPACES.to_owned(),
            }
        } else {
            return Ok(());
        };
        self.note(registry.name(), &held, seen, note).await
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
    use crate::api::reason::Reason;
    use crate::azure::mint::Password;
    use crate::policy::invalid_spec::InvalidSpec;
    use crate::sync::credentials::Seen;
    use crate::sync::held_credential::HeldCredential;
    use crate::sync::minting::MintFailure;
    use crate::sync::minting::refresh::RefreshPlan;
    use crate::sync::minting::tests::controller_of;
    use serde_json::json;
    use std::time::Duration;

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
        values.learn(&mine, &resolved("hunter2", "a/1"), |_| true);
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

    #[tokio::test]
    async fn a_reconcile_costs_the_same_among_any_number() {
        const ALL: usize = 2_000;
        let named = |number: usize| crate::sync::minting::pull_right::tests::registry(&format!("r{number}"));
        let controller = controller_of(&named(0), |_| (500, String::new()));
        let view = &controller.parts.watches.view;
        view.set_registries((0..ALL).map(named).collect());
        for number in (0..ALL).chain(ALL / 2..ALL) {
            let (_, noted) = controller
                .carry_over(&named(number), resolved("hunter2", "a/1"))
                .await;
            assert_eq!(noted, Ok(()), "none is held");
        }
        let values = controller.read_values.lock().unwrap();
        assert_eq!(values.known.len(), ALL);
        assert!(values.known.looks() < 2 * ALL, "{}", values.known.looks());
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
        values.learn(&mine, &resolved("powerful"), |_| true);
        assert_eq!(values.inputs_before(&mine, &resolved("narrow")), None);
    }

    /// A controller that holds a credential of this spec and these inputs, which is stored; a write has this answer.
    fn holding(registry: &AttachedRegistry, inputs: &str, code: u16) -> RegistryController {
        let held = HeldCredential {
            docker_config: k8s_openapi::ByteString(b"{}".to_vec()),
            audience: None,
            refreshed_at: jiff::Timestamp::UNIX_EPOCH,
            expires_at: None,
            inputs: inputs.to_owned(),
            fingerprint: Some(registry.fingerprint().to_owned()),
            namespaces: None,
        };
        let mut stored = held.manifest("mine", "own");
        stored["metadata"]["resourceVersion"] = json!("7");
        let refused = json!({"kind": "Status", "status": "Failure", "code": code, "message": "no"});
        let written = if code == 200 { stored.clone() } else { refused };
        let missing = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"});
        let controller = controller_of(registry, move |request| match *request.method() {
            http::Method::GET if request.uri().path().ends_with("/credential-mine") => {
                (200, stored.to_string())
            }
            // The identity's.
            http::Method::GET => (404, missing.to_string()),
            _ => (code, written.to_string()),
        });
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
        let (_, noted) = controller.carry_over(&mine, resolved("hunter2", "a/1")).await;
        assert_eq!(noted, Ok(()));
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
            let (carried, noted) = controller.carry_over(&mine, resolved("hunter2", inputs)).await;
            let unnoted = noted.unwrap_err();
            assert!(unnoted.failure.unwrap().message.contains(": no"), "{inputs}");
            assert!(unnoted.wait <= Duration::from_secs(2), "{inputs}");
            assert_eq!(
                (carried.inputs.as_str(), held(&controller).as_str()),
                ("a/1", "a/1")
            );
        }
    }

    #[tokio::test]
    async fn a_note_that_is_refused_is_not_repeated_before_its_turn() {
        let mine = registry("myregistry");
        let controller = holding(&mine, "a/1", 403);
        let (_, first) = controller.carry_over(&mine, resolved("hunter2", "a/1")).await;
        let (_, second) = controller.carry_over(&mine, resolved("hunter2", "a/1")).await;
        let (first, second) = (first.unwrap_err(), second.unwrap_err());
        assert_eq!(first.failure, second.failure);
        assert!(second.wait < first.wait, "it is the same wait");
    }

    #[tokio::test]
    async fn a_rename_whose_answer_was_lost_is_known_by_its_inputs() {
        let mine = registry("myregistry");
        let controller = holding(&mine, "a/2", 200);
        let mut values = ReadValues::default();
        values.learn(&mine, &resolved("hunter2", "a/1"), |_| true);
        *controller.read_values.lock().unwrap() = values;
        let (_, noted) = controller.carry_over(&mine, resolved("hunter2", "a/2")).await;
        assert_eq!(noted, Ok(()));
        let held = controller.parts.watches.credentials.of("mine").unwrap();
        assert_eq!(held.namespaces.as_deref(), Some(mine.namespaces_fingerprint()));
    }

    #[tokio::test]
    async fn only_a_credential_of_the_same_inputs_is_noted_otherwise() {
        let mine = registry("myregistry");
        let noted = async |controller: &RegistryController| {
            controller.carry_over(&mine, resolved("hunter2", "a/1")).await.1
        };
        let of_another_spec = holding(&registry("otherregistry"), "a/1", 500);
        assert_eq!(noted(&of_another_spec).await, Ok(()), "of another spec");
        let of_others = holding(&mine, "b/1", 200);
        assert_eq!(noted(&of_others).await, Ok(()));
        let watches = &of_others.parts.watches;
        let withheld = watches.credentials.of("mine").unwrap();
        assert_eq!(
            (withheld.inputs.as_str(), withheld.namespaces.as_deref()),
            ("b/1", Some("")),
            "nobody knows to which namespaces an earlier release would let it go"
        );
        watches.credentials.remove("mine");
        assert_eq!(noted(&of_others).await, Ok(()), "none");
    }

    #[tokio::test]
    async fn a_credential_that_came_meanwhile_is_not_noted() {
        let mine = registry("myregistry");
        let controller = holding(&mine, "a/1", 500);
        let watches = &controller.parts.watches;
        let newer = HeldCredential {
            refreshed_at: jiff::Timestamp::MAX,
            ..HeldCredential::clone(&watches.credentials.of("mine").unwrap())
        };
        watches.learn("mine", newer, None, Seen::new());
        // A write would be refused, and so be seen.
        let (_, noted) = controller.carry_over(&mine, resolved("hunter2", "a/1")).await;
        assert_eq!(noted.unwrap_err().failure, None);
    }

    #[tokio::test]
    async fn namespaces_that_an_edit_lets_in_wait_for_the_identity() {
        let (mine, for_a) = (registry("myregistry"), selecting("myregistry", "a"));
        assert_eq!(mine.fingerprint(), for_a.fingerprint());
        let controller = holding(&mine, "a/1", 200);
        let read = async |registry, password, inputs| {
            let (_, noted) = controller.carry_over(registry, resolved(password, inputs)).await;
            assert_eq!(noted, Ok(()));
        };
        let may_go_out_for = |registry| controller.parts.watches.credential(registry).is_some();
        assert!(may_go_out_for(&for_a), "an earlier release noted nothing");
        read(&mine, "hunter2", "a/1").await;
        assert!(may_go_out_for(&mine) && !may_go_out_for(&for_a));
        // The Secret holds another identity, which nobody accepted yet.
        read(&for_a, "narrow", "a/2").await;
        assert!(!may_go_out_for(&for_a));
        read(&for_a, "hunter2", "a/1").await;
        assert!(may_go_out_for(&for_a) && !may_go_out_for(&mine));
        assert_eq!(controller.withhold(&for_a).await, Ok(()));
        assert!(!may_go_out_for(&for_a), "its Secret is gone");
    }
    #[tokio::test]
    async fn a_spec_that_is_unusable_evades_no_withdrawal() {
        let mine = registry("myregistry");
        let controller = holding(&mine, "a/1", 200);
        let failure = MintFailure {
            reason: Reason::InvalidSpec,
            message: String::new(),
            retry_after: None,
        };
        let unusable = Err(InvalidSpec::NoRegistry);
        let withheld = controller
            .withhold_where_missing("mine", &unusable, &failure)
            .await;
        assert_eq!(withheld, Ok(()));
        assert!(
            controller.parts.watches.credential(&mine).is_none(),
            "its Secret is gone"
        );
    }
}

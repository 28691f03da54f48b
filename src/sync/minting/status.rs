//! The status of an AcrRegistry, as a pure function of what is known: the same facts give the same text, so that no
//! write of it leads to another.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::Value;

use super::credential_state::CredentialState;
use super::domains::Domains;
use super::pull_right::PullRight;
use crate::api::acr_registry::{AcrRegistryStatus, CredentialStatus, NamespacesStatus};
use crate::api::advice::with_advice;
use crate::api::condition::{CUSTOM_DOMAINS, DISTRIBUTED, PULL_AUTHORIZED, READY, RECONCILING, STALLED};
use crate::api::names::binding_of_key;
use crate::api::reason::Reason;
use crate::api::undistributed::of_undistributed;
use crate::base::abridged::abridged;
use crate::base::clock::whole_seconds;
use crate::base::remedy::joined;
use crate::sync::held_credential::HeldCredential;
use crate::sync::secrets::Tally;

/// How many namespaces a message names.
const MAX_NAMED: usize = 5;
/// How many characters of the API server's own words a message holds.
const MAX_SAID: usize = 500;

/// All that a status tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct StatusFacts<'a> {
    /// The AcrRegistry's name, or what an AcrPullBinding is known by.
    pub(super) registry: &'a str,
    pub(super) pull_secret: &'a str,
    pub(super) own_namespace: &'a str,
    pub(super) credential: &'a CredentialState,
    pub(super) tally: &'a Tally,
    pub(super) pull_right: &'a PullRight,
    pub(super) domains: &'a Domains,
}

/// What a condition says.
struct ConditionState {
    status: &'static str,
    reason: String,
    message: String,
}

impl ConditionState {
    fn new(is_true: bool, reason: &str, message: String) -> Self {
        Self {
            status: if is_true { "True" } else { "False" },
            reason: reason.to_owned(),
            message,
        }
    }
}

impl From<(bool, String, String)> for ConditionState {
    fn from((is_true, reason, message): (bool, String, String)) -> Self {
        Self::new(is_true, &reason, message)
    }
}

/// The status that follows from the state of a registry.
pub(super) fn next_status(
    before: &AcrRegistryStatus,
    generation: Option<i64>,
    facts: &StatusFacts<'_>,
    now: Timestamp,
) -> AcrRegistryStatus {
    let known = |kind: &str| before.conditions.iter().find(|known| known.type_ == kind);
    let condition = |kind: &str, verdict: ConditionState| {
        let known = known(kind).filter(|known| known.status == verdict.status);
        Condition {
            type_: kind.to_owned(),
            status: verdict.status.to_owned(),
            reason: verdict.reason,
            message: verdict.message,
            last_transition_time: known.map_or_else(
                || Time(whole_seconds(now)),
                |known| known.last_transition_time.clone(),
            ),
            observed_generation: generation,
        }
    };
    let credential = facts.credential;
    let pull_authorized = match facts.pull_right {
        PullRight::NotNeeded => None,
        PullRight::Untold | PullRight::NotNamed => known(PULL_AUTHORIZED)
            .filter(|known| known.observed_generation == generation)
            .filter(|known| *facts.pull_right == PullRight::Untold || known.status != "False")
            .cloned()
            .or_else(|| Some(condition(PULL_AUTHORIZED, untold()))),
        PullRight::Allowed(repositories) => {
            let message = format!(
                "the credential may pull from {}",
                abridged(repositories, MAX_NAMED)
            );
            Some(condition(
                PULL_AUTHORIZED,
                ConditionState::new(true, "Authorized", message),
            ))
        }
        PullRight::Denied(message) => {
            let verdict = ConditionState::new(false, Reason::PullDenied.as_str(), message.clone());
            Some(condition(PULL_AUTHORIZED, verdict))
        }
    };
    let ready = match known(READY).filter(|_| credential.is_undecided) {
        Some(known) => known.clone(),
        None if credential.is_undecided && credential.failure.is_none() => condition(READY, waits()),
        None => condition(READY, verdict(credential, now).into()),
    };
    // A leader that began just now has counted little: its predecessor's count holds until it has.
    let is_counted = facts.tally.is_settled || before.namespaces.is_none();
    let distributed = known(DISTRIBUTED).filter(|_| !is_counted).cloned();
    let distributed = distributed.unwrap_or_else(|| condition(DISTRIBUTED, distribution(facts).into()));
    let health = health(&ready).map(|kind| Condition {
        observed_generation: ready.observed_generation,
        ..condition(
            kind,
            ConditionState::new(true, &ready.reason, ready.message.clone()),
        )
    });
    let mut conditions = vec![ready, distributed];
    conditions.extend(pull_authorized);
    conditions.extend(facts.domains.verdict().map(|(status, reason, message)| {
        let reason = reason.to_owned();
        condition(
            CUSTOM_DOMAINS,
            ConditionState {
                status,
                reason,
                message,
            },
        )
    }));
    conditions.extend(health);
    AcrRegistryStatus {
        observed_generation: if credential.is_undecided {
            before.observed_generation
        } else {
            generation
        },
        login_server: credential
            .login_server
            .clone()
            .or_else(|| before.login_server.clone()),
        conditions,
        credential: credential.held.as_ref().map(|held| CredentialStatus {
            audience: held.audience.clone(),
            issued_at: Some(whole_seconds(held.refreshed_at).to_string()),
            expires_at: held.expires_at.map(|at| whole_seconds(at).to_string()),
            next_refresh: credential.next_refresh.map(|at| whole_seconds(at).to_string()),
        }),
        namespaces: before
            .namespaces
            .clone()
            .filter(|_| !is_counted)
            .or(Some(NamespacesStatus {
                served: facts.tally.served,
                failed: facts.tally.failed,
            })),
    }
}

/// The condition that says what becomes of an object that is not ready.
fn health(ready: &Condition) -> Option<&'static str> {
    match &*ready.status {
        "True" => None,
        "False" if !Reason::named(&ready.reason).is_some_and(Reason::is_transient) => Some(STALLED),
        _ => Some(RECONCILING),
    }
}

/// What is reported about a change that was not tried, where nothing was said before.
fn waits() -> ConditionState {
    ConditionState {
        status: "Unknown",
        reason: "NotTried".to_owned(),
        message: "the change is queued: pullpass tries it within 30 seconds".to_owned(),
    }
}

/// What is reported about a credential that was not tried on any repository.
fn untold() -> ConditionState {
    ConditionState {
        status: "Unknown",
        reason: "NotTried".to_owned(),
        message: "not checked yet: pullpass checks this when a Pod names an image of the registry".to_owned(),
    }
}

fn verdict(credential: &CredentialState, now: Timestamp) -> (bool, String, String) {
    if !credential.is_needed {
        let message = "pulls need no credential, and no pull secret is injected";
        return (true, "Anonymous".to_owned(), message.to_owned());
    }
    if let Some(failure) = &credential.failure {
        let rest = match credential.held.as_ref().map(|held| held.expires_at) {
            None => String::new(),
            Some(None) => ". Pods keep using the previous credential".to_owned(),
            Some(Some(end)) if end > now => {
                format!(
                    ". Pods keep using the previous credential, which expires at {}",
                    whole_seconds(end)
                )
            }
            Some(Some(end)) => format!(". The previous credential expired at {}", whole_seconds(end)),
        };
        return (
            false,
            failure.reason.as_str().to_owned(),
            format!("{}{rest}", failure.message),
        );
    }
    let message = match credential.held.as_deref() {
        Some(HeldCredential { expires_at: None, .. }) => {
            "the registry accepts the credential, which has no expiry"
        }
        _ => "the credential is fresh",
    };
    (true, "Minted".to_owned(), message.to_owned())
}

/// Whether the pull secrets are where they should be. What one namespace's owner does there is no fault of the credential.
fn distribution(facts: &StatusFacts<'_>) -> (bool, String, String) {
    let tally = facts.tally;
    let (reason, cause) = if let Some((namespace, said)) = &tally.refusal {
        let said: String = said.chars().take(MAX_SAID).collect();
        let count = tally
            .failed
            .saturating_sub(i64::try_from(tally.conflicts.len()).unwrap_or(i64::MAX));
        let cause = if binding_of_key(facts.registry).is_some() {
            format!("the pull secret could not be written: {said}")
        } else {
            format!(
                "pull secrets could not be written in {count} namespaces, for example in {namespace}: {said}"
            )
        };
        (Reason::SecretsRefused, cause)
    } else if tally.conflicts.is_empty() {
        let message = "each namespace that needs the pull secret has it";
        return (true, DISTRIBUTED.to_owned(), message.to_owned());
    } else {
        let cause = format!(
            "a Secret that is not pullpass' has the pull secret's name in namespace {}",
            abridged(&*tally.conflicts, MAX_NAMED)
        );
        (Reason::NameConflict, cause)
    };
    let namespace = binding_of_key(facts.registry).map(|(namespace, _)| namespace);
    let remedies = of_undistributed(reason, facts.pull_secret, facts.own_namespace, namespace);
    let advice = joined(remedies);
    let message = with_advice(&cause, advice.as_deref());
    (false, reason.as_str().to_owned(), message)
}

/// The status as a merge patch: what is absent is taken away.
pub(super) fn as_patch(status: &AcrRegistryStatus) -> Value {
    let mut patch = serde_json::to_value(status).unwrap_or_default();
    if let Some(fields) = patch.as_object_mut() {
        fields.entry("credential").or_insert(Value::Null);
        if let Some(credential) = fields.get_mut("credential").and_then(Value::as_object_mut) {
            for field in ["audience", "issuedAt", "expiresAt", "nextRefresh"] {
                credential.entry(field).or_insert(Value::Null);
            }
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::advice::parted;
    use crate::policy::attached::AttachedRegistry;
    use crate::sync::minting::MintFailure;
    use k8s_openapi::ByteString;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn credential(failure: Option<Reason>, held: bool) -> CredentialState {
        CredentialState {
            is_needed: true,
            login_server: Some("myregistry.azurecr.io".to_owned()),
            held: held.then(|| {
                Arc::new(HeldCredential {
                    docker_config: ByteString(b"hush".to_vec()),
                    audience: None,
                    refreshed_at: at(0),
                    expires_at: Some(at(10_800)),
                    inputs: String::new(),
                    fingerprint: None,
                    namespaces: None,
                })
            }),
            failure: failure.map(|reason| MintFailure {
                reason,
                message: "AADSTS7000215".to_owned(),
                retry_after: None,
            }),
            next_refresh: None,
            is_undecided: false,
        }
    }

    fn facts<'a>(credential: &'a CredentialState, tally: &'a Tally) -> StatusFacts<'a> {
        StatusFacts {
            registry: "mine",
            pull_secret: "pullpass-mine",
            own_namespace: "own",
            credential,
            tally,
            pull_right: &PullRight::Untold,
            domains: &Domains::None,
        }
    }

    fn next(
        before: &AcrRegistryStatus,
        generation: Option<i64>,
        credential: &CredentialState,
        tally: &Tally,
        now: Timestamp,
    ) -> AcrRegistryStatus {
        let pull_right = if credential.is_needed {
            PullRight::Untold
        } else {
            PullRight::NotNeeded
        };
        let facts = StatusFacts {
            pull_right: &pull_right,
            ..facts(credential, tally)
        };
        next_status(before, generation, &facts, now)
    }

    #[test]
    fn a_registry_without_credentials_is_ready() {
        let object = serde_json::json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "free"},
            "spec": {"loginServer": "freeregistry.azurecr.io", "identity": {"anonymous": {}}},
        });
        let registry = AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap();
        let credential = CredentialState::anonymous(&registry);
        let before = AcrRegistryStatus::default();
        let status = next(&before, Some(1), &credential, &Tally::default(), at(5));
        assert_eq!(status.login_server.as_deref(), Some("freeregistry.azurecr.io"));
        let ready = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == READY)
            .unwrap();
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_str()),
            ("True", "Anonymous")
        );
        assert_eq!(status.credential, None);
    }

    #[test]
    fn a_bindings_owner_is_told_what_to_do_in_the_namespace() {
        let credential = credential(None, true);
        let told = |tally: &Tally| {
            let facts = StatusFacts {
                registry: "shop/app",
                pull_secret: "pullpass-binding-app",
                ..facts(&credential, tally)
            };
            let status = next_status(&AcrRegistryStatus::default(), Some(1), &facts, at(1));
            status.conditions[1].message.clone()
        };
        let mut tally = Tally {
            is_settled: true,
            failed: 1,
            ..Tally::default()
        };
        tally.conflicts = Arc::new(["shop".to_owned()].into());
        let said = told(&tally);
        assert!(
            said.ends_with("`kubectl delete secret pullpass-binding-app --namespace shop`"),
            "{said}"
        );
        tally.conflicts = Arc::default();
        tally.refusal = Some(("shop".to_owned(), "exceeded quota".to_owned()));
        let said = told(&tally);
        assert!(
            said.starts_with("the pull secret could not be written: exceeded quota."),
            "{said}"
        );
        assert!(
            said.ends_with("`kubectl describe resourcequotas --namespace shop`"),
            "{said}"
        );
    }

    #[test]
    fn pull_rights_hold_until_the_spec_changes() {
        let credential = credential(None, true);
        let tally = Tally::default();
        let told = |before: &AcrRegistryStatus, generation, pull_right: &PullRight| {
            let facts = StatusFacts {
                pull_right,
                ..facts(&credential, &tally)
            };
            next_status(before, Some(generation), &facts, at(1))
        };
        let said = |status: &AcrRegistryStatus| {
            let condition = status.conditions.last().unwrap();
            assert_eq!(condition.type_, PULL_AUTHORIZED);
            (
                condition.status.clone(),
                condition.reason.clone(),
                condition.message.clone(),
            )
        };
        let first = told(&AcrRegistryStatus::default(), 1, &PullRight::Untold);
        assert_eq!(said(&first).0, "Unknown");
        let repositories: Vec<String> = (0..8).map(|number| format!("app{number}")).collect();
        let allowed = told(&first, 1, &PullRight::Allowed(repositories));
        assert_eq!(said(&allowed).0, "True");
        assert!(
            said(&allowed).2.ends_with("app4 and 3 more"),
            "{}",
            said(&allowed).2
        );
        let denied = told(&allowed, 1, &PullRight::Denied("why".to_owned()));
        let expected = ("False".to_owned(), "PullDenied".to_owned(), "why".to_owned());
        assert_eq!(said(&denied), expected);
        assert_eq!(said(&told(&denied, 1, &PullRight::Untold)), expected);
        assert_eq!(said(&told(&denied, 2, &PullRight::Untold)).0, "Unknown");
        assert_eq!(said(&told(&denied, 1, &PullRight::NotNamed)).0, "Unknown");
        assert_eq!(said(&told(&allowed, 1, &PullRight::NotNamed)).0, "True");
        assert_eq!(told(&denied, 2, &PullRight::NotNeeded).conditions.len(), 2);
    }

    #[test]
    fn a_change_that_was_not_tried_is_not_said_to_be_ready() {
        let tally = Tally::default();
        let good = credential(None, true);
        let refused = credential(Some(Reason::EntraRejected), true);
        for before in [&good, &refused] {
            let first = next(&AcrRegistryStatus::default(), Some(1), before, &tally, at(1));
            for failure in [None, Some(Reason::Unreachable)] {
                let waits = CredentialState {
                    is_undecided: true,
                    ..credential(failure, true)
                };
                let second = next(&first, Some(2), &waits, &tally, at(2));
                assert_eq!(second.conditions[0], first.conditions[0]);
                assert_eq!(second.observed_generation, Some(1));
                // Nothing was said before.
                let only = next(&AcrRegistryStatus::default(), Some(2), &waits, &tally, at(2));
                assert_ne!(only.conditions[0].status, "True");
                assert_eq!(only.observed_generation, None);
            }
            let tried = next(&first, Some(2), &good, &tally, at(3));
            assert_eq!(tried.conditions[0].observed_generation, Some(2));
            assert_eq!(
                (&*tried.conditions[0].status, tried.observed_generation),
                ("True", Some(2))
            );
        }
    }

    #[test]
    fn a_failure_is_stalled_unless_it_passes_by_itself() {
        for (failure, kind) in [
            (None, None),
            (Some(Reason::InvalidSpec), Some(STALLED)),
            (Some(Reason::EntraRejected), Some(STALLED)),
            (Some(Reason::NotGranted), Some(STALLED)),
            (Some(Reason::Throttled), Some(RECONCILING)),
            (Some(Reason::Unreachable), Some(RECONCILING)),
        ] {
            let credential = credential(failure, true);
            let before = AcrRegistryStatus::default();
            let status = next(&before, Some(1), &credential, &Tally::default(), at(1));
            let said: Vec<_> = status
                .conditions
                .iter()
                .filter(|known| matches!(&*known.type_, STALLED | RECONCILING))
                .collect();
            assert_eq!(said.len(), usize::from(kind.is_some()), "{failure:?}");
            if let Some(condition) = said.first() {
                assert_eq!(Some(&*condition.type_), kind, "{failure:?}");
                let ready = &status.conditions[0];
                assert_eq!((&*condition.status, &condition.reason), ("True", &ready.reason));
                assert_eq!(condition.message, ready.message);
            }
        }
    }

    #[test]
    fn the_same_facts_give_the_same_status_whenever_they_are_told() {
        for credential in [
            credential(None, true),
            credential(Some(Reason::EntraRejected), true),
            credential(Some(Reason::Throttled), false),
        ] {
            let first = next(
                &AcrRegistryStatus::default(),
                Some(1),
                &credential,
                &Tally::default(),
                at(5),
            );
            let second = next(&first, Some(1), &credential, &Tally::default(), at(500));
            assert_eq!(first, second);
            assert!(!serde_json::to_string(&first).unwrap().contains("hush"));
        }
    }

    #[test]
    fn a_failed_refresh_says_what_goes_on_working() {
        let told = |held, now| {
            let credential = credential(Some(Reason::Unreachable), held);
            let status = next(
                &AcrRegistryStatus::default(),
                None,
                &credential,
                &Tally::default(),
                at(now),
            );
            (
                status.conditions[0].reason.clone(),
                status.conditions[0].message.clone(),
            )
        };
        assert_eq!(told(false, 1).1, "AADSTS7000215");
        assert_eq!(told(true, 1).0, "Unreachable");
        assert!(
            told(true, 1).1.ends_with("expires at 1970-01-01T03:00:00Z"),
            "{}",
            told(true, 1).1
        );
        assert!(
            told(true, 10_801).1.contains("expired at"),
            "{}",
            told(true, 10_801).1
        );
    }

    #[test]
    fn conflicts_are_named_but_not_all_of_a_thousand() {
        let conflicts = (0..1000).map(|number| format!("ns-{number:04}"));
        let tally = Tally {
            served: 1,
            failed: 1000,
            conflicts: Arc::new(conflicts.collect()),
            ..Tally::default()
        };
        let status = next(
            &AcrRegistryStatus::default(),
            None,
            &credential(None, true),
            &tally,
            at(1),
        );
        assert_eq!(
            status.conditions[0].status, "True",
            "no tenant makes it False for all"
        );
        let condition = &status.conditions[1];
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_str()),
            ("False", "NameConflict")
        );
        assert!(
            condition.message.contains("ns-0004 and 995 more. What to do: "),
            "{}",
            condition.message
        );
        assert!(
            condition
                .message
                .contains("`kubectl delete secret pullpass-mine --namespace NAMESPACE`"),
            "{}",
            condition.message
        );
    }

    #[test]
    fn the_count_of_before_holds_until_a_leader_has_counted() {
        let credential = credential(None, true);
        let told =
            |before: &AcrRegistryStatus, tally: &Tally| next(before, Some(1), &credential, tally, at(1));
        let counted = Tally {
            served: 3,
            failed: 1,
            conflicts: Arc::new(["apps".to_owned()].into()),
            is_settled: true,
            ..Tally::default()
        };
        let first = told(&AcrRegistryStatus::default(), &counted);
        assert_eq!(first.conditions[1].status, "False");
        // The next leader has counted nothing yet, and then a part.
        for served in [0, 2] {
            let counting = Tally {
                served,
                ..Tally::default()
            };
            assert_eq!(told(&first, &counting), first);
        }
        let recounted = Tally {
            served: 4,
            is_settled: true,
            ..Tally::default()
        };
        let second = told(&first, &recounted);
        assert_eq!(second.conditions[1].status, "True");
        assert_eq!(second.namespaces.map(|namespaces| namespaces.served), Some(4));
        let new = told(&AcrRegistryStatus::default(), &Tally::default());
        assert!(new.namespaces.is_some(), "nothing was told about it before");
    }

    #[test]
    fn refused_writes_are_counted_with_the_api_servers_words() {
        let tally = Tally {
            failed: 104,
            refusal: Some(("apps".to_owned(), "denied by policy".to_owned())),
            ..Tally::default()
        };
        let credential = credential(None, true);
        let (is_true, reason, message) = distribution(&facts(&credential, &tally));
        assert_eq!((is_true, reason.as_str()), (false, "SecretsRefused"));
        assert!(
            message.contains("in 104 namespaces, for example in apps: denied by policy. What to do: "),
            "{message}"
        );
        assert!(message.contains("serviceaccount:own:pullpass"), "{message}");
        let hostile = "no. What to do: grant access: `kubectl create clusterrolebinding x`".to_owned();
        let tally = Tally {
            refusal: Some(("apps".to_owned(), hostile)),
            ..tally
        };
        let (_, _, message) = distribution(&facts(&credential, &tally));
        let (cause, advice) = parted(&message);
        assert!(cause.contains("clusterrolebinding"), "{message}");
        assert!(advice.is_some_and(|advice| advice.starts_with("check whether pullpass has its rights: ")));
        assert!(distribution(&facts(&credential, &Tally::default())).0);
    }
}

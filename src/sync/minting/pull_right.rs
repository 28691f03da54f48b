//! What a registry's credential may pull: an identity that may do nothing gets a token of a registry with Entra repository
//! permissions all the same, so the registry is asked about repositories that Pods name.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::credential_state::CredentialState;
use super::identity::{CredentialSource, resolve};
use super::{Parsed, RegistryController};
use crate::api::acr_registry::CredentialKind;
use crate::api::advice::with_advice;
use crate::api::reason::Reason;
use crate::azure::mint::denied_pull_advice;
use crate::base::backoff::{Backoff, Jitter};
use crate::base::pruned_map::PrunedMap;
use crate::policy::attached::AttachedRegistry;
use crate::registry::docker_config::credential_of;
use crate::sync::held_credential::HeldCredential;

/// How often a registry is asked about repositories that its credential may pull from.
const QUESTION_INTERVAL: Duration = Duration::from_hours(1);
/// How long another repository waits for the question before.
const NEW_REPOSITORY_INTERVAL: Duration = Duration::from_mins(5);
/// The least time between two questions to a registry, however often its spec is edited.
const MIN_QUESTION_INTERVAL: Duration = Duration::from_secs(30);
/// How long an answer is remembered: what was not asked for so long is not attached any more, or no Pod names it.
const ANSWER_INTERVAL: Duration = Duration::from_hours(2);
/// When a registry is asked again that denied a pull, or did not answer: a role takes minutes to act.
const QUESTION_BACKOFF: Backoff = Backoff::new(Duration::from_mins(2), QUESTION_INTERVAL);

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PullRight {
    /// Pulls need no credential.
    NotNeeded,
    /// Nobody was asked, or nobody answered. What was found out of the same spec still holds.
    Untold,
    /// It may pull from these repositories.
    Allowed(Vec<String>),
    /// It may not pull from one; which, and what to do.
    Denied(String),
    /// No Pod names a repository: what was denied is denied to nobody.
    NotNamed,
}

/// The last question to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    /// What the credential was made of: other inputs are another question.
    inputs: String,
    generation: i64,
    repositories: Vec<String>,
    /// The repository that it may not pull from.
    denied: Option<String>,
    at: Instant,
    /// How often in a row the answer was none, or not the hoped one.
    failures: u32,
    answer: PullRight,
}

/// A question to a registry.
pub(super) struct Question {
    registry: AttachedRegistry,
    held: Arc<HeldCredential>,
    inputs: String,
    generation: i64,
    repositories: Vec<String>,
}

/// What a registry says of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PullAnswer {
    Allowed,
    /// From which repository it may not pull, and what is reported about that.
    Denied(String, String),
}

/// What this process asked, by AcrRegistry and by what an AcrPullBinding is known by. Losing it costs one question for each.
#[derive(Debug, Default)]
pub(super) struct PullRights(PrunedMap<String, Asked>);

impl PullRights {
    /// How long a question has to wait; none if it is to be asked now.
    fn left(&self, question: &Question, now: Instant) -> Option<Duration> {
        let asked = self.0.get(question.registry.name())?;
        let wait = if asked.inputs == question.inputs {
            asked.wait(question)
        } else {
            MIN_QUESTION_INTERVAL
        };
        let left = wait.checked_sub(now.saturating_duration_since(asked.at))?;
        (!left.is_zero()).then_some(left)
    }

    /// The same for other inputs that mean the same.
    pub(super) fn rename(&mut self, registry: &str, before: &str, inputs: &str) {
        let asked = self.0.get_mut(registry);
        if let Some(asked) = asked.filter(|asked| asked.inputs == before) {
            inputs.clone_into(&mut asked.inputs);
        }
    }

    /// The last question of the same inputs.
    fn asked(&self, question: &Question, now: Instant) -> Option<&Asked> {
        let asked = self.0.get(question.registry.name());
        asked.filter(|asked| asked.inputs == question.inputs && asked.is_recent(now))
    }

    /// What it was answered.
    fn answer(&self, question: &Question, now: Instant) -> PullRight {
        let asked = self.asked(question, now);
        asked.map_or(PullRight::Untold, |asked| asked.answer.clone())
    }

    /// Takes an answer; where there is none, the last one still holds.
    fn take(&mut self, question: &Question, answer: Option<PullAnswer>, now: Instant) {
        let name = question.registry.name();
        let before = self.asked(question, now);
        let failures = match answer {
            Some(PullAnswer::Allowed) => 0,
            Some(PullAnswer::Denied(..)) | None => before.map_or(0, |asked| asked.failures).saturating_add(1),
        };
        let (answer, denied) = match answer {
            Some(PullAnswer::Allowed) => (PullRight::Allowed(question.repositories.clone()), None),
            Some(PullAnswer::Denied(repository, message)) => (PullRight::Denied(message), Some(repository)),
            None => (
                self.answer(question, now),
                before.and_then(|asked| asked.denied.clone()),
            ),
        };
        let asked = Asked {
            inputs: question.inputs.clone(),
            generation: question.generation,
            repositories: question.repositories.clone(),
            denied,
            at: now,
            failures,
            answer,
        };
        self.0
            .insert(name.to_owned(), asked, |_, asked| asked.is_recent(now));
    }
}

impl Asked {
    fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < ANSWER_INTERVAL
    }

    /// How long after it a question of the same inputs is asked.
    fn wait(&self, question: &Question) -> Duration {
        let jitter = Jitter::of(&(question.registry.name(), &self.repositories));
        let mut wait = match self.failures {
            0 => jitter.spread(QUESTION_INTERVAL),
            failures => QUESTION_BACKOFF.delay(failures, None, jitter),
        };
        let is_known = |repository: &String| self.repositories.contains(repository);
        let is_gone = |repository: &String| !question.repositories.contains(repository);
        if !question.repositories.iter().all(is_known) || self.denied.as_ref().is_some_and(is_gone) {
            wait = wait.min(NEW_REPOSITORY_INTERVAL);
        }
        // Who edits the spec of what is denied waits for the answer.
        if self.failures > 0 && self.generation != question.generation {
            wait = MIN_QUESTION_INTERVAL;
        }
        wait
    }
}

impl RegistryController {
    /// What is known of the credential of an AcrRegistry, or of an AcrPullBinding by what it is known by, in this generation; and
    /// what its registry would have to be asked.
    pub(super) fn pull_right(
        &self,
        (name, generation): (&str, Option<i64>),
        parsed: &Parsed,
        state: &CredentialState,
    ) -> (PullRight, Option<Question>) {
        if !state.is_needed {
            return (PullRight::NotNeeded, None);
        }
        let registry = parsed.as_ref().ok();
        if let Some(registry) = registry.filter(|registry| registry.kind() == CredentialKind::AccessToken) {
            return (of_access_token(registry, state), None);
        }
        let question = registry.and_then(|registry| self.question(generation, registry, state));
        let right = match &question {
            Some(question) => self.pull_rights().answer(question, Instant::now()),
            None if self.parts.watches.repositories.has_none(name) => PullRight::NotNamed,
            None => PullRight::Untold,
        };
        (right, question)
    }

    fn question(
        &self,
        generation: Option<i64>,
        registry: &AttachedRegistry,
        state: &CredentialState,
    ) -> Option<Question> {
        let held = state.held.as_ref().filter(|held| held.is_of(registry))?;
        let repositories = self.parts.watches.repositories.of(registry.name());
        let is_asked = state.failure.is_none() && !repositories.is_empty();
        is_asked.then(|| Question {
            inputs: held.inputs.clone(),
            generation: generation.unwrap_or_default(),
            held: Arc::clone(held),
            repositories,
            registry: registry.clone(),
        })
    }

    /// How long a question has to wait; none if it is to be asked now.
    pub(super) fn question_waits(&self, question: &Question) -> Option<Duration> {
        self.pull_rights().left(question, Instant::now())
    }

    /// Asks a registry, and remembers what it answered.
    pub(super) async fn ask(&self, question: &Question) {
        let login_server = question.registry.login_server();
        let Some((username, password)) = credential_of(&question.held.docker_config.0, login_server) else {
            return;
        };
        let repositories = &question.repositories;
        let asked = self
            .parts
            .minter
            .denied_pull(login_server, &username, &password, repositories);
        let answer = match asked.await {
            Ok(None) => Some(PullAnswer::Allowed),
            Ok(Some(repository)) => {
                let message = self.denial(question, &username, &repository).await;
                Some(PullAnswer::Denied(repository, message))
            }
            Err(error) => {
                let registry = question.registry.name();
                tracing::debug!(registry, %error, "could not check what the credential may pull");
                None
            }
        };
        self.pull_rights().take(question, answer, Instant::now());
    }

    async fn denial(&self, question: &Question, username: &str, repository: &str) -> String {
        let parts = &self.parts;
        let (client, env) = (&parts.client, &parts.workload_identity);
        let resolved = resolve(client, &parts.own_namespace, &question.registry, env).await;
        // By now its Secret may name the next one, whose right nobody asked about.
        let resolved = resolved
            .ok()
            .filter(|resolved| resolved.inputs == question.inputs);
        let identity = match resolved.map(|resolved| resolved.source) {
            Some(CredentialSource::Mint(request)) => Some(request.identity),
            Some(CredentialSource::Password(password)) => password.principal,
            Some(CredentialSource::Account(account)) => Some(account.without_token()),
            None => None,
        };
        let login_server = question.registry.login_server();
        let advice = denied_pull_advice(login_server, identity.as_ref(), username, repository);
        let denied = format!("the credential may not pull from {repository}");
        with_advice(&denied, advice.as_deref())
    }

    fn pull_rights(&self) -> MutexGuard<'_, PullRights> {
        self.pull_rights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A token that names its repositories is only minted where it may pull from all of them.
fn of_access_token(registry: &AttachedRegistry, state: &CredentialState) -> PullRight {
    if state.is_undecided {
        return PullRight::Untold;
    }
    match (&state.failure, &state.held) {
        (Some(failure), _) if failure.reason == Reason::ExchangeRejected => {
            PullRight::Denied(failure.message.clone())
        }
        (None, Some(held)) if held.is_of(registry) => PullRight::Allowed(registry.repositories().to_vec()),
        (Some(_) | None, _) => PullRight::Untold,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::acr_registry::AcrRegistry;
    use crate::sync::minting::MintFailure;
    use crate::sync::minting::tests::controller;
    use jiff::Timestamp;
    use k8s_openapi::ByteString;
    use serde_json::json;

    pub(in crate::sync::minting) fn object(name: &str, credential: &serde_json::Value) -> AcrRegistry {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name, "generation": 3},
            "spec": {
                "loginServer": "myregistry.azurecr.io", "identity": {"managedIdentity": {}}, "credential": credential,
            },
        });
        serde_json::from_value(object).unwrap()
    }

    pub(in crate::sync::minting) fn registry(name: &str) -> AttachedRegistry {
        AttachedRegistry::parse(&object(name, &serde_json::Value::Null)).unwrap()
    }

    fn question(generation: i64, repositories: &[&str]) -> Question {
        let held = HeldCredential {
            docker_config: ByteString(Vec::new()),
            audience: None,
            refreshed_at: Timestamp::UNIX_EPOCH,
            expires_at: None,
            inputs: String::new(),
            fingerprint: None,
            namespaces: None,
        };
        Question {
            registry: registry("mine"),
            held: Arc::new(held),
            inputs: "a".to_owned(),
            generation,
            repositories: repositories.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    fn allowed(question: &Question) -> PullRight {
        PullRight::Allowed(question.repositories.clone())
    }

    #[test]
    fn registries_are_asked_hourly_what_may_be_pulled() {
        let begin = Instant::now();
        let after = |minutes| begin + Duration::from_mins(minutes);
        let (one, two) = (question(1, &["app"]), question(1, &["app", "web"]));
        let mut rights = PullRights::default();
        assert_eq!(rights.left(&one, begin), None);
        rights.take(&one, Some(PullAnswer::Allowed), begin);
        assert_eq!(rights.answer(&one, begin), allowed(&one));
        let left = rights.left(&one, begin).unwrap();
        assert!(
            left > Duration::from_mins(50) && left <= QUESTION_INTERVAL,
            "{left:?}"
        );
        assert_eq!(rights.left(&one, after(60)), None);
        assert_eq!(rights.left(&two, begin), Some(NEW_REPOSITORY_INTERVAL));
        assert_eq!(rights.left(&two, after(5)), None);
        assert!(rights.left(&question(1, &[]), after(50)).is_some(), "one went");
        let edited = question(2, &["app"]);
        assert_eq!(rights.left(&edited, begin), Some(left), "the same credential");
        assert_eq!(rights.answer(&edited, begin), allowed(&one));
        rights.rename("mine", "a", "b");
        assert_eq!(rights.answer(&one, begin), PullRight::Untold, "other inputs");
        assert_eq!(rights.left(&one, begin), Some(MIN_QUESTION_INTERVAL));
        assert_eq!(rights.left(&one, begin + MIN_QUESTION_INTERVAL), None);
        rights.rename("mine", "b", "a");
        assert_eq!(rights.answer(&one, begin), allowed(&one));
    }

    #[test]
    fn questions_no_longer_asked_are_forgotten_after_two_hours() {
        let begin = Instant::now();
        let (mine, mut other) = (question(1, &["app"]), question(1, &["app"]));
        other.registry = registry("other");
        let mut rights = PullRights::default();
        rights.take(&mine, Some(PullAnswer::Allowed), begin);
        let forgotten = begin + 2 * QUESTION_INTERVAL;
        let nearly = forgotten.checked_sub(Duration::from_nanos(1)).unwrap();
        rights.take(&other, Some(PullAnswer::Allowed), nearly);
        assert_eq!(rights.answer(&mine, nearly), allowed(&mine));
        rights.take(&other, Some(PullAnswer::Allowed), forgotten);
        assert_eq!(rights.answer(&mine, forgotten), PullRight::Untold);
        assert_eq!(rights.answer(&other, forgotten), allowed(&other));
    }

    #[test]
    fn an_answer_costs_the_same_among_any_number() {
        let (begin, mut rights) = (Instant::now(), PullRights::default());
        let mut take = |number: u32, now| {
            let mut question = question(1, &["app"]);
            question.registry = registry(&format!("r{number}"));
            rights.take(&question, Some(PullAnswer::Allowed), now);
            (rights.0.len(), rights.0.looks())
        };
        for number in 0..2_000 {
            take(number, begin);
        }
        let (known, looks) = take(0, begin);
        assert!(known == 2_000 && looks < 4_000, "{known} {looks}");
        for number in 2_000..6_000 {
            let (known, _) = take(number, begin + ANSWER_INTERVAL * number);
            assert!(known < 4_500, "{number}: {known}");
        }
    }

    fn denies(repository: &str) -> PullAnswer {
        PullAnswer::Denied(repository.to_owned(), "why".to_owned())
    }

    #[test]
    fn a_denied_repository_that_goes_is_asked_about_soon() {
        let begin = Instant::now();
        let (both, rest) = (question(1, &["app", "gone"]), question(1, &["app"]));
        let mut rights = PullRights::default();
        for _ in 0..20 {
            rights.take(&both, Some(denies("gone")), begin);
        }
        rights.take(&both, None, begin);
        assert!(rights.left(&both, begin).unwrap() > Duration::from_mins(40));
        assert_eq!(rights.left(&rest, begin), Some(NEW_REPOSITORY_INTERVAL));
        rights.take(&rest, Some(PullAnswer::Allowed), begin);
        assert!(rights.left(&rest, begin).unwrap() > Duration::from_mins(50));
    }

    #[test]
    fn edits_in_a_loop_lead_to_few_questions() {
        let begin = Instant::now();
        let mut rights = PullRights::default();
        let mut questions = 0;
        for second in 0..600_u32 {
            let now = begin + Duration::from_secs(second.into());
            let mut edited = question(second.into(), &["app"]);
            edited.inputs = (second % 3).to_string();
            if rights.left(&edited, now).is_none() {
                questions += 1;
                rights.take(&edited, Some(denies("app")), now);
            }
        }
        assert!((10..=20).contains(&questions), "{questions}");
    }

    #[test]
    fn an_edit_of_what_is_denied_is_answered_soon() {
        let begin = Instant::now();
        let mut rights = PullRights::default();
        for _ in 0..20 {
            rights.take(&question(1, &["app"]), Some(denies("app")), begin);
        }
        let left = rights.left(&question(2, &["app"]), begin);
        assert_eq!(left, Some(MIN_QUESTION_INTERVAL));
    }

    #[test]
    fn a_denied_pull_is_asked_about_ever_more_rarely() {
        let begin = Instant::now();
        let asked = question(1, &["app"]);
        let mut rights = PullRights::default();
        let denied = PullRight::Denied("why".to_owned());
        rights.take(&asked, Some(denies("app")), begin);
        let first = rights.left(&asked, begin).unwrap();
        assert!(first <= Duration::from_mins(2) && first >= Duration::from_secs(90));
        for _ in 0..20 {
            // Without an answer the last one holds.
            rights.take(&asked, None, begin);
            assert_eq!(rights.answer(&asked, begin), denied);
        }
        let last = rights.left(&asked, begin).unwrap();
        assert!(
            last > Duration::from_mins(40) && last <= QUESTION_INTERVAL,
            "{last:?}"
        );
        rights.take(&asked, Some(PullAnswer::Allowed), begin);
        assert!(rights.left(&asked, begin).unwrap() > Duration::from_mins(50));
    }

    #[test]
    fn a_token_that_names_repositories_needs_no_question() {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "mine"},
            "spec": {
                "loginServer": "myregistry.azurecr.io",
                "identity": {"managedIdentity": {}},
                "credential": {"kind": "AccessToken", "repositories": ["app"]},
            },
        });
        let registry = AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap();
        let with_of = |reason: Option<Reason>, is_held: bool, fingerprint: &str| {
            let held = HeldCredential {
                fingerprint: Some(fingerprint.to_owned()),
                ..(*question(1, &[]).held).clone()
            };
            let state = CredentialState {
                is_needed: true,
                login_server: None,
                held: is_held.then(|| Arc::new(held)),
                failure: reason.map(|reason| MintFailure {
                    reason,
                    message: "why".to_owned(),
                    retry_after: None,
                }),
                next_refresh: None,
                is_undecided: false,
            };
            of_access_token(&registry, &state)
        };
        let with = |reason, is_held| with_of(reason, is_held, registry.fingerprint());
        assert_eq!(with_of(None, true, "another"), PullRight::Untold);
        assert_eq!(with(None, true), PullRight::Allowed(vec!["app".to_owned()]));
        let denied = PullRight::Denied("why".to_owned());
        assert_eq!(with(Some(Reason::ExchangeRejected), true), denied);
        assert_eq!(with(Some(Reason::Unreachable), true), PullRight::Untold);
        assert_eq!(with(None, false), PullRight::Untold);
    }

    /// A registry with a credential of its own spec.
    fn minted(registry: &AttachedRegistry) -> CredentialState {
        let held = HeldCredential {
            fingerprint: Some(registry.fingerprint().to_owned()),
            ..(*question(1, &[]).held).clone()
        };
        CredentialState {
            is_needed: true,
            login_server: None,
            held: Some(Arc::new(held)),
            failure: None,
            next_refresh: None,
            is_undecided: false,
        }
    }

    fn pod(image: &str) -> crate::policy::pod::Pod {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "apps"},
            "spec": {
                "containers": [{"name": "web", "image": image}],
                "imagePullSecrets": [{"name": "pullpass-mine"}],
            },
        });
        serde_json::from_value(pod).unwrap()
    }

    #[tokio::test]
    async fn a_registry_is_asked_where_a_pod_names_it_and_all_is_well() {
        let registry = registry("mine");
        let mine = object("mine", &serde_json::Value::Null);
        let controller = controller(&registry, 404, &serde_json::Value::Null);
        let state = minted(&registry);
        let right = |object: &AcrRegistry, state: &CredentialState| {
            let name = ("mine", object.metadata.generation);
            let (right, question) = controller.pull_right(name, &AttachedRegistry::parse(object), state);
            (right, question.map(|question| question.repositories))
        };
        assert_eq!(
            right(&mine, &state),
            (PullRight::Untold, None),
            "Pods are not all seen"
        );
        let watches = &controller.parts.watches;
        let attached = watches.view.registries();
        watches.repositories.scanned(attached.names());
        assert_eq!(right(&mine, &state), (PullRight::NotNamed, None));
        let labels = std::collections::BTreeMap::new();
        let pod = pod("myregistry.azurecr.io/team/app:1");
        watches.repositories.see(
            &crate::policy::pod::PodNames::of(&pod, "apps"),
            &attached,
            Some(&labels),
            &crate::policy::scope::Scope::default(),
        );
        let named = Some(vec!["team/app".to_owned()]);
        assert_eq!(right(&mine, &state), (PullRight::Untold, named));
        let with = |change: &dyn Fn(&mut CredentialState)| {
            let mut state = state.clone();
            change(&mut state);
            right(&mine, &state)
        };
        assert_eq!(
            with(&|state| state.is_needed = false),
            (PullRight::NotNeeded, None)
        );
        assert_eq!(with(&|state| state.held = None), (PullRight::Untold, None));
        let failed = with(&|state| {
            state.failure = Some(MintFailure {
                reason: Reason::Unreachable,
                message: String::new(),
                retry_after: None,
            });
        });
        assert_eq!(failed, (PullRight::Untold, None), "the credential may be no good");
        let scoped = object("mine", &json!({"kind": "AccessToken", "repositories": ["app"]}));
        let state = minted(&AttachedRegistry::parse(&scoped).unwrap());
        let allowed = PullRight::Allowed(vec!["app".to_owned()]);
        assert_eq!(right(&scoped, &state), (allowed, None), "the token names them");
    }

    #[tokio::test]
    async fn a_question_waits_after_it_was_asked() {
        let asked = question(1, &["app"]);
        let controller = controller(&asked.registry, 404, &serde_json::Value::Null);
        assert_eq!(controller.question_waits(&asked), None);
        controller
            .pull_rights()
            .take(&asked, Some(PullAnswer::Allowed), Instant::now());
        let left = controller.question_waits(&asked).unwrap();
        assert!(left > Duration::from_mins(50), "{left:?}");
    }

    #[tokio::test]
    async fn a_denial_names_the_repository_whatever_else_can_be_read() {
        let asked = question(1, &["app"]);
        let controller = controller(&asked.registry, 404, &serde_json::Value::Null);
        let said = controller.denial(&asked, "puller", "team/app").await;
        assert!(said.contains("may not pull from team/app"), "{said}");
    }

    #[tokio::test]
    async fn advice_about_a_denial_is_not_for_the_next_identity() {
        const CLIENT: &str = "11111111-1111-4111-8111-111111111111";
        let mut mine = object("mine", &serde_json::Value::Null);
        mine.spec.identity =
            serde_json::from_value(json!({"managedIdentity": {"clientId": CLIENT}})).unwrap();
        let registry = AttachedRegistry::parse(&mine).unwrap();
        let controller = controller(&registry, 404, &serde_json::Value::Null);
        for (inputs, is_named) in [(registry.fingerprint(), true), ("of another version", false)] {
            let asked = Question {
                registry: registry.clone(),
                inputs: inputs.to_owned(),
                ..question(1, &["app"])
            };
            let said = controller.denial(&asked, "puller", "team/app").await;
            assert_eq!(said.contains(CLIENT), is_named, "{said}");
        }
    }
}

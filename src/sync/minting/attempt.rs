//! When a registry's credential is minted, and what is remembered of attempts that failed.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};

use super::credential_state::CredentialState;
use super::identity::{self, Resolved, resolve};
use super::notes::Unnoted;
use super::{MintFailure, Parsed, RETRY_INTERVAL, RegistryController, after};
use crate::api::advice::without_advice;
use crate::api::names::{MANAGER, minted_credential};
use crate::api::reason::Reason;
use crate::base::clock::Instants;
use crate::kubernetes::call::call;
use crate::policy::attached::AttachedRegistry;
use crate::sync::credentials::{Seen, Version};
use crate::sync::held_credential::HeldCredential;
use crate::sync::minting::refresh::{self, Failures, LastAttempt, RefreshPlan, plan};

/// How many inputs are remembered of a registry for which a service asked to wait.
const MAX_ASKED: usize = 8;

/// Failures in a row with the same inputs, and what is reported about the last one.
#[derive(Debug, Clone)]
struct Memory {
    failures: Failures,
    failure: MintFailure,
}

/// What the leader remembers of a registry that fails. Losing it costs one attempt for each of these, and nothing else.
#[derive(Debug, Default)]
pub(super) struct Memories {
    /// Of the last attempt, unless it minted.
    last: Option<Memory>,
    /// Of attempts before, with other inputs, for which a service asked to wait with `Retry-After`: who sets those again before
    /// that time is over does not ask it again.
    asked_to_wait: Vec<Memory>,
}

impl Memories {
    /// Takes how the last attempt failed, if it did.
    fn take(&mut self, last: Option<Memory>, now: Instant) {
        let before = std::mem::replace(&mut self.last, last);
        let last = self.last.as_ref().map(|last| &*last.failures.inputs);
        let asked = before.into_iter().chain(self.asked_to_wait.drain(..));
        let asked = asked.filter(|memory| {
            let is_asked = memory.failure.retry_after.is_some() && memory.failures.left(now).is_some();
            is_asked && last != Some(&*memory.failures.inputs)
        });
        self.asked_to_wait = asked.take(MAX_ASKED).collect();
    }

    /// What an attempt with these inputs may have to wait for.
    fn of(&self, inputs: &str, now: Instant) -> Option<&Memory> {
        let last = self.last.as_ref().filter(|last| last.failures.inputs == inputs);
        let mut asked = self.asked_to_wait.iter();
        last.or_else(|| {
            asked.find(|memory| memory.failures.inputs == inputs && memory.failures.left(now).is_some())
        })
    }

    fn rename(&mut self, before: &str, inputs: &str) {
        let all = self.last.iter_mut().chain(&mut self.asked_to_wait);
        let failures = all.map(|memory| &mut memory.failures);
        for failures in failures.filter(|failures| failures.inputs == before) {
            inputs.clone_into(&mut failures.inputs);
        }
    }
}

/// Why nothing is held of a registry whose last mint was moments ago, as where its credential was deleted.
fn too_soon() -> MintFailure {
    MintFailure {
        reason: Reason::Throttled,
        message: "there is no credential, and the last one was minted moments ago: the next one is minted \
                  within 30 seconds"
            .to_owned(),
        retry_after: None,
    }
}

/// Whether it is other inputs that wait for their turn, and not a repetition: what is held, or failed last, was made of
/// others.
fn is_a_change(inputs: &str, held: Option<&HeldCredential>, last_failure: Option<&Memory>) -> bool {
    let failed = last_failure.map(|memory| &*memory.failures.inputs);
    failed != Some(inputs)
        && held
            .map(|held| &*held.inputs)
            .or(failed)
            .is_some_and(|before| before != inputs)
}

impl RegistryController {
    /// Mints if it is time to; says what state it is in, and when to look again.
    pub(super) async fn reconcile_credential(
        &self,
        name: &str,
        fraction: f64,
        parsed: &Parsed,
        now: Timestamp,
    ) -> (CredentialState, Option<Duration>) {
        if let Some(registry) = parsed.as_ref().ok().filter(|registry| registry.is_anonymous()) {
            self.forget(name);
            return (CredentialState::anonymous(registry), None);
        }
        let held = || self.parts.watches.credentials.seen(name);
        match self.identify(parsed).await {
            Ok((registry, resolved)) => {
                let (resolved, noted) = self.carry_over(registry, resolved).await;
                let (mut credential, next) =
                    self.keep_fresh(registry, fraction, &resolved, held(), now).await;
                let Err(unnoted) = noted else {
                    return (credential, next);
                };
                let waits = |held: &Arc<HeldCredential>| !held.may_go_out_for(registry);
                if credential.failure.is_none() && credential.held.as_ref().is_some_and(waits) {
                    credential.failure = unnoted.failure;
                }
                (credential, next.into_iter().chain([unnoted.wait]).min())
            }
            Err(failure) => {
                self.parts
                    .metrics
                    .registries
                    .count_refresh(name, Some(failure.reason));
                // A Secret or a spec that changes leads here again by itself; an API server that did not answer does not.
                let retry = (failure.reason == Reason::Unreachable).then_some(RETRY_INTERVAL);
                let withheld = self.withhold_where_missing(name, parsed, &failure).await;
                let again = retry
                    .into_iter()
                    .chain(withheld.err().map(|unnoted| unnoted.wait))
                    .min();
                let held = held().map(|(held, _)| held);
                let is_good =
                    |held: &&Arc<HeldCredential>| self.is_good(name, fraction, parsed, held, &failure, now);
                let good = held.as_ref().filter(|_| retry.is_some()).filter(is_good);
                let credential = CredentialState {
                    is_needed: true,
                    login_server: None,
                    is_undecided: good.is_some(),
                    // What still holds is refreshed when it was to be: the retry is of the API server's answer.
                    next_refresh: match good {
                        Some(held) => refresh::due(held, fraction),
                        None => retry.map(|wait| after(now, wait)),
                    },
                    held,
                    failure: Some(failure),
                };
                (credential, again)
            }
        }
    }

    /// Has a credential go to no further namespace where the Secret of its identity is missing or refuses. A spec that can't be
    /// acted on leaves what was in force before: its identity counts.
    pub(super) async fn withhold_where_missing(
        &self,
        name: &str,
        parsed: &Parsed,
        failure: &MintFailure,
    ) -> Result<(), Unnoted> {
        let is_missing = |failure: &MintFailure| failure.reason == Reason::CredentialSecretMissing;
        if let Ok(registry) = parsed {
            return if is_missing(failure) {
                self.withhold(registry).await
            } else {
                Ok(())
            };
        }
        let registries = self.parts.watches.view.registries_with(name);
        let Some(registry) = registries
            .by_name(name)
            .filter(|registry| !registry.is_anonymous())
        else {
            return Ok(());
        };
        let parts = &self.parts;
        let (client, env) = (&parts.client, &parts.workload_identity);
        match resolve(client, &parts.own_namespace, registry, env).await {
            Ok(resolved) => self.carry_over(registry, resolved).await.1,
            Err(failure) if is_missing(&failure) => self.withhold(registry).await,
            Err(failure) if failure.reason == Reason::Unreachable => Err(Unnoted {
                failure: None,
                wait: RETRY_INTERVAL,
            }),
            Err(_) => Ok(()),
        }
    }

    /// Whether a credential is as good as it was while the API server does not say what the spec's Secret holds: it is of this
    /// spec, and its refresh, or the next question to the registry about it, is not due.
    fn is_good(
        &self,
        name: &str,
        fraction: f64,
        parsed: &Parsed,
        held: &HeldCredential,
        failure: &MintFailure,
        now: Timestamp,
    ) -> bool {
        let is_of_spec = parsed.as_ref().is_ok_and(|registry| held.is_of(registry));
        is_of_spec
            && match refresh::due(held, fraction) {
                Some(due) => due > now,
                None => self.is_accepted(name, &held.inputs, failure),
            }
    }

    /// What the spec means, with what the Secrets that it names hold.
    async fn identify<'p>(
        &self,
        parsed: &'p Parsed,
    ) -> Result<(&'p AttachedRegistry, Resolved), MintFailure> {
        let registry = parsed.as_ref().map_err(|error| MintFailure {
            reason: Reason::InvalidSpec,
            message: error.to_string(),
            retry_after: None,
        })?;
        let resolved = resolve(
            &self.parts.client,
            &self.parts.own_namespace,
            registry,
            &self.parts.workload_identity,
        )
        .await?;
        Ok((registry, resolved))
    }

    async fn keep_fresh(
        &self,
        registry: &AttachedRegistry,
        fraction: f64,
        resolved: &Resolved,
        held: Option<(Arc<HeldCredential>, Seen)>,
        now: Timestamp,
    ) -> (CredentialState, Option<Duration>) {
        // What failed with other inputs says nothing about these.
        let (last_failure, memory) = self.recall(registry.name(), &resolved.inputs);
        let failures = memory.as_ref().map(|memory| &memory.failures);
        // One that an earlier release made does not record its spec: it goes to no other namespace, so it is minted again.
        let current = held.as_ref().filter(|(held, _)| held.is_of(registry));
        let clocks = Instants {
            wall: now,
            steady: Instant::now(),
        };
        let inputs = &resolved.inputs;
        let planned = plan(
            clocks,
            inputs,
            current.map(|(held, seen)| (&**held, *seen)),
            fraction,
            failures,
        );
        // Whatever the reason is: nothing may mint over and over.
        let last = self.last_attempt(registry.name());
        let left = refresh::interval_left(last.as_ref(), clocks.steady, inputs);
        let is_due = planned == RefreshPlan::Mint;
        let planned = match planned.not_before(left) {
            RefreshPlan::Wait(None) if resolved.is_static() => {
                self.trial(registry.name(), inputs, clocks.steady)
            }
            planned @ (RefreshPlan::Mint | RefreshPlan::Wait(_)) => planned,
        };
        // What is held goes on as it is where the registry accepts it once more.
        let kept =
            current.and_then(|(held, seen)| seen.age(held.refreshed_at, clocks).map(|_| Arc::clone(held)));
        let held = held.map(|(held, _)| held);
        if let RefreshPlan::Wait(wait) = planned {
            let is_undecided = is_due && is_a_change(inputs, held.as_deref(), last_failure.as_ref());
            let next_refresh = match (failures, &held) {
                // The wait may be longer than its own backoff, where it came early.
                (Some(failures), _) => wait.map(|wait| after(now, wait).max(failures.retry_at)),
                (None, Some(held)) => refresh::due(held, fraction),
                (None, None) => wait.map(|wait| after(now, wait)),
            };
            let failure = match &memory {
                Some(memory) => Some(memory.failure.clone())
                    .filter(|failure| !self.outlasts(registry.name(), inputs, held.as_deref(), failure)),
                // While a change has to wait for its turn, what was tried last has failed still.
                None => last_failure.filter(|_| is_due).map(|memory| memory.failure),
            };
            return (
                CredentialState {
                    is_needed: true,
                    login_server: Some(registry.login_server().to_string()),
                    failure: failure.or_else(|| held.is_none().then(too_soon)),
                    held,
                    next_refresh,
                    is_undecided,
                },
                wait,
            );
        }
        self.refresh(registry, resolved, held, kept, failures, fraction)
            .await
    }

    /// Mints, and returns the resulting state and when the next attempt is.
    async fn refresh(
        &self,
        registry: &AttachedRegistry,
        resolved: &Resolved,
        held: Option<Arc<HeldCredential>>,
        kept: Option<Arc<HeldCredential>>,
        failures: Option<&Failures>,
        fraction: f64,
    ) -> (CredentialState, Option<Duration>) {
        let inputs = &resolved.inputs;
        let minted = self.mint(registry, resolved, held.as_deref(), kept).await;
        self.parts.metrics.registries.count_refresh(
            registry.name(),
            minted.as_ref().err().map(|failure| failure.reason),
        );
        let (held, failure, next_refresh, wait) = match minted {
            Ok(minted) => {
                self.forget(registry.name());
                let wait = match refresh::wait(&minted, fraction) {
                    None if resolved.is_static() => self.accepted(registry.name(), inputs),
                    wait => wait,
                };
                let next = refresh::due(&minted, fraction);
                (Some(minted), None, next, wait)
            }
            Err(failure) => {
                let (next, wait) = self.note_failure(registry.name(), inputs, failures, &failure);
                let failure = Some(failure)
                    .filter(|failure| !self.outlasts(registry.name(), inputs, held.as_deref(), failure));
                (held, failure, Some(next), Some(wait))
            }
        };
        (
            CredentialState {
                is_needed: true,
                login_server: Some(registry.login_server().to_string()),
                held,
                failure,
                next_refresh,
                is_undecided: false,
            },
            wait,
        )
    }

    /// Logs and remembers a failure; returns when the next attempt is, and in how long.
    fn note_failure(
        &self,
        registry: &str,
        inputs: &str,
        before: Option<&Failures>,
        failure: &MintFailure,
    ) -> (Timestamp, Duration) {
        tracing::warn!(
            registry,
            reason = %failure.reason,
            message = failure.message,
            "no credential was minted"
        );
        let now = Instants {
            wall: (self.parts.clock)(),
            steady: Instant::now(),
        };
        let failures = refresh::failed(now, inputs, before, failure.retry_after);
        let next = (failures.retry_at, failures.wait);
        let failure = failure.clone();
        self.remember(registry, Memory { failures, failure });
        next
    }

    async fn mint(
        &self,
        registry: &AttachedRegistry,
        resolved: &Resolved,
        held: Option<&HeldCredential>,
        kept: Option<Arc<HeldCredential>>,
    ) -> Result<Arc<HeldCredential>, MintFailure> {
        let remembered = held.and_then(|held| held.audience.clone());
        self.note_attempt(registry.name(), &resolved.inputs, false);
        let minted = match &resolved.source {
            identity::CredentialSource::Mint(request) => {
                let mut request = (**request).clone();
                request.remembered_audience = remembered;
                self.parts.minter.mint(&request).await
            }
            identity::CredentialSource::Account(account) => {
                let mut request = identity::request_as(&self.parts.client, registry, account).await?;
                request.remembered_audience = remembered;
                self.parts.minter.mint(&request).await
            }
            identity::CredentialSource::Password(password) => {
                let login_server = registry.login_server();
                self.parts.minter.try_password(login_server, password).await
            }
        };
        let credential = minted.map_err(|error| MintFailure {
            reason: error.reason(),
            message: error.to_string(),
            retry_after: error.retry_after(),
        })?;
        self.note_attempt(registry.name(), &resolved.inputs, true);
        let minted = HeldCredential::of(&credential, registry, resolved.inputs.clone());
        if let Some(kept) = kept.filter(|kept| resolved.is_static() && kept.is_as_good_as(&minted)) {
            return Ok(kept);
        }
        let seen = Seen::new();
        let version = self.store(registry.name(), &minted).await?;
        tracing::info!(
            registry = registry.name(),
            expires_at = minted.expires_at.map(tracing::field::display),
            "a credential was minted"
        );
        // Known here immediately, so that nothing is minted twice until the watch brings it.
        let watches = &self.parts.watches;
        watches.learn(registry.name(), minted.clone(), version, seen);
        Ok(Arc::new(minted))
    }

    pub(super) async fn store(
        &self,
        registry: &str,
        minted: &HeldCredential,
    ) -> Result<Option<Version>, MintFailure> {
        let secrets: Api<Secret> = Api::namespaced(self.parts.client.clone(), &self.parts.own_namespace);
        let manifest = Patch::Apply(minted.manifest(registry, &self.parts.own_namespace));
        let parameters = PatchParams::apply(MANAGER).force();
        let name = minted_credential(registry);
        let write = secrets.patch_metadata(&name, &parameters, &manifest);
        let written = call(write).await.map_err(|problem| MintFailure {
            reason: Reason::Unreachable,
            message: without_advice(&format!(
                "the minted credential could not be stored in namespace {}: {problem}",
                self.parts.own_namespace
            )),
            retry_after: None,
        })?;
        Ok(Version::parse(written.resource_version().as_deref()))
    }

    fn last_attempt(&self, name: &str) -> Option<LastAttempt> {
        let last = self.last_attempts.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(name).cloned()
    }

    fn note_attempt(&self, name: &str, inputs: &str, is_minted: bool) {
        let now = Instant::now();
        let mut last = self.last_attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let next = LastAttempt::next(last.get(name), now, inputs, is_minted);
        last.insert(name.to_owned(), next, |_, attempt| attempt.is_of_use(now));
    }

    /// Has failures and the last attempt count for other inputs, which mean the same.
    pub(super) fn rename_failures(&self, name: &str, before: &str, inputs: &str) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memories) = memory.get_mut(name) {
            memories.rename(before, inputs);
        }
        let mut last = self.last_attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(attempt) = last.get_mut(name) {
            attempt.rename(before, inputs);
        }
    }

    /// The last failure, and the one that an attempt with these inputs may have to wait for.
    fn recall(&self, name: &str, inputs: &str) -> (Option<Memory>, Option<Memory>) {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let memories = memory.get(name);
        let of_inputs = memories.and_then(|memories| memories.of(inputs, Instant::now()));
        let last = memories.and_then(|memories| memories.last.clone());
        (last, of_inputs.cloned())
    }

    /// Remembers a failure, and now and then forgets those of registries that are not attached any more.
    fn remember(&self, name: &str, memory: Memory) {
        let view = &self.parts.watches.view;
        let mut failing = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let memories = failing.get_or_default(name.to_owned(), |name, _| view.is_attached(name));
        memories.take(Some(memory), Instant::now());
    }

    /// Forgets the last failure; what a service asked for still holds.
    fn forget(&self, name: &str) {
        let mut failing = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memories) = failing.get_mut(name) {
            memories.take(None, Instant::now());
            if memories.asked_to_wait.is_empty() {
                failing.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;
    use crate::sync::minting::pull_right::tests::registry;
    use crate::sync::minting::refresh::DEFAULT_FRACTION;
    use crate::sync::minting::tests::controller;

    /// A failure for which a service asked to wait so long, if it did.
    fn failure(asked: Option<Duration>) -> MintFailure {
        MintFailure {
            reason: if asked.is_some() {
                Reason::Throttled
            } else {
                Reason::EntraRejected
            },
            message: String::new(),
            retry_after: asked,
        }
    }

    #[tokio::test]
    async fn a_service_that_asked_to_wait_is_not_asked_for_a_flip() {
        let registry = registry("mine");
        let controller = controller(&registry, 404, &serde_json::Value::Null);
        let parsed = Ok(registry.clone());
        let (_, resolved) = controller.identify(&parsed).await.unwrap();
        let asked = failure(Some(Duration::from_mins(10)));
        controller.note_failure("mine", &resolved.inputs, None, &asked);
        controller.note_failure("mine", "others", None, &failure(None));
        for _ in 0..2 {
            let now = Timestamp::now();
            let (state, wait) = controller
                .reconcile_credential("mine", DEFAULT_FRACTION, &parsed, now)
                .await;
            assert!(wait.is_some_and(|wait| wait > Duration::from_mins(9)), "{wait:?}");
            assert_eq!(state.failure.as_ref(), Some(&asked));
            // With the others one is minted then.
            controller.forget("mine");
        }
    }

    #[test]
    fn a_wait_that_a_service_asked_for_is_kept_while_it_lasts() {
        let begin = Instants::now();
        let of = |inputs: &str, asked: Option<u64>| {
            let failure = failure(asked.map(Duration::from_secs));
            let failures = refresh::failed(begin, inputs, None, failure.retry_after);
            Memory { failures, failure }
        };
        let mut memories = Memories::default();
        memories.take(Some(of("a", Some(600))), begin.steady);
        memories.take(Some(of("b", None)), begin.steady);
        memories.take(Some(of("c", Some(60))), begin.steady);
        memories.take(None, begin.steady);
        let minutes = |minutes| begin.steady + Duration::from_mins(minutes);
        for (inputs, at, is_known) in [
            ("a", 0, true),
            ("b", 0, false),
            ("c", 0, true),
            ("a", 9, true),
            // A wait is up to a quarter longer.
            ("c", 2, false),
            ("a", 13, false),
        ] {
            assert_eq!(
                memories.of(inputs, minutes(at)).is_some(),
                is_known,
                "{inputs} {at}"
            );
        }
        memories.rename("a", "d");
        assert!(memories.of("d", begin.steady).is_some());
        memories.take(Some(of("d", None)), begin.steady);
        assert_eq!(memories.asked_to_wait.len(), 1, "the last one says it all");
        for number in 0..100 {
            memories.take(Some(of(&number.to_string(), Some(600))), begin.steady);
        }
        assert_eq!(memories.asked_to_wait.len(), MAX_ASKED);
        memories.take(None, minutes(13));
        assert!(memories.asked_to_wait.is_empty());
    }

    #[tokio::test]
    async fn an_attempt_costs_the_same_among_any_number() {
        const ALL: usize = 2_000;
        let name = |number: usize| format!("r{number}");
        let controller = controller(&registry("mine"), 404, &serde_json::Value::Null);
        let view = &controller.parts.watches.view;
        view.set_registries((0..ALL).map(|number| registry(&name(number))).collect());
        for number in 0..ALL {
            controller.note_attempt(&name(number), "a", true);
            controller.note_failure(&name(number), "a", None, &failure(None));
        }
        let counts = || {
            let (memory, last) = (&controller.memory, &controller.last_attempts);
            let (memory, last) = (memory.lock().unwrap(), last.lock().unwrap());
            ([memory.len(), last.len()], [memory.looks(), last.looks()])
        };
        let (known, looks) = counts();
        assert_eq!(known, [ALL, ALL]);
        assert!(looks.iter().all(|looks| *looks < 2 * ALL), "{looks:?}");
        for number in 0..5 * ALL {
            controller.note_failure(&format!("detached{number}"), "a", None, &failure(None));
        }
        let ([known, _], _) = counts();
        assert!(known < 3 * ALL, "{known}");
    }

    #[tokio::test]
    async fn an_outage_leaves_the_next_refresh_where_it_was() {
        let object = serde_json::json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "mine"},
            "spec": {
                "loginServer": "myregistry.azurecr.io",
                "identity": {"servicePrincipal": {
                    "tenantId": "t", "clientId": "c", "clientSecretRef": {"name": "identity-mine", "key": "password"},
                }},
            },
        });
        let object: crate::api::acr_registry::AcrRegistry = serde_json::from_value(object).unwrap();
        let registry = AttachedRegistry::parse(&object).unwrap();
        let now = Timestamp::now();
        for (hours_ago, is_good) in [(0, true), (2, false)] {
            let controller = controller(&registry, 500, &serde_json::Value::Null);
            let refreshed_at = now - jiff::SignedDuration::from_hours(hours_ago);
            let held = HeldCredential {
                docker_config: ByteString(Vec::new()),
                audience: None,
                refreshed_at,
                expires_at: Some(refreshed_at + jiff::SignedDuration::from_hours(3)),
                inputs: "a".to_owned(),
                fingerprint: Some(registry.fingerprint().to_owned()),
                namespaces: None,
            };
            let watches = &controller.parts.watches;
            watches.learn("mine", held.clone(), None, Seen::new());
            let parsed = Ok(registry.clone());
            let (state, wait) = controller
                .reconcile_credential("mine", DEFAULT_FRACTION, &parsed, now)
                .await;
            assert_eq!(state.is_undecided, is_good);
            let retry = after(now, RETRY_INTERVAL);
            let due = refresh::due(&held, DEFAULT_FRACTION).unwrap();
            assert_eq!(state.next_refresh, Some(if is_good { due } else { retry }));
            assert_eq!(wait, Some(RETRY_INTERVAL), "the API server is asked again soon");
        }
    }

    #[test]
    fn a_change_is_told_from_a_repetition() {
        let held = HeldCredential {
            docker_config: ByteString(Vec::new()),
            audience: None,
            refreshed_at: Timestamp::UNIX_EPOCH,
            expires_at: None,
            inputs: "a".to_owned(),
            fingerprint: None,
            namespaces: None,
        };
        let clocks = Instants {
            wall: Timestamp::UNIX_EPOCH,
            steady: Instant::now(),
        };
        let failed = |inputs| Memory {
            failures: refresh::failed(clocks, inputs, None, None),
            failure: too_soon(),
        };
        for (inputs, held, failed, expected) in [
            ("b", Some(&held), None, true),
            ("a", Some(&held), None, false),
            ("b", None, Some(failed("a")), true),
            ("c", Some(&held), Some(failed("b")), true),
            ("b", Some(&held), Some(failed("b")), false),
            // It was deleted, and nothing else is known.
            ("a", None, None, false),
        ] {
            assert_eq!(is_a_change(inputs, held, failed.as_ref()), expected, "{inputs}");
        }
    }
}

//! When a registry last took a static credential: a user name and a password that nothing renews, and that may be withdrawn
//! at any time. They are tried again now and then.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::refresh::RefreshPlan;
use super::{MintFailure, RegistryController};
use crate::api::reason::Reason;
use crate::base::backoff::Jitter;
use crate::base::pruned_map::PrunedMap;
use crate::sync::held_credential::HeldCredential;

/// How often a registry is asked whether it still takes a static credential.
const TRIAL_INTERVAL: Duration = Duration::from_hours(1);

/// A static credential that the registry took.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Acceptance {
    inputs: String,
    at: Instant,
}

/// What this process knows of static credentials, by AcrRegistry. Losing it costs one call for each.
#[derive(Debug, Default)]
pub(super) struct Acceptances(PrunedMap<String, Acceptance>);

impl Acceptances {
    /// The registry took a credential that was made of these inputs. Now and then, what is known of others that are not
    /// attached any more is forgotten.
    pub(super) fn accepted(
        &mut self,
        registry: &str,
        inputs: &str,
        now: Instant,
        is_attached: impl Fn(&str) -> bool,
    ) {
        let inputs = inputs.to_owned();
        let acceptance = Acceptance { inputs, at: now };
        self.0
            .insert(registry.to_owned(), acceptance, |name, _| is_attached(name));
    }

    /// The same for other inputs that mean the same.
    pub(super) fn rename(&mut self, registry: &str, before: &str, inputs: &str) {
        let known = self.0.get_mut(registry);
        if let Some(known) = known.filter(|known| known.inputs == before) {
            inputs.clone_into(&mut known.inputs);
        }
    }

    /// The registry refused one.
    pub(super) fn refused(&mut self, registry: &str) {
        self.0.remove(registry);
    }

    /// How long it is until the registry is asked again; none if it is time, or where it never took these inputs.
    pub(super) fn left(&self, registry: &str, inputs: &str, now: Instant) -> Option<Duration> {
        let known = self.0.get(registry).filter(|known| known.inputs == inputs)?;
        let wait = Jitter::of(&(registry, inputs)).spread(TRIAL_INTERVAL);
        let left = wait.checked_sub(now.saturating_duration_since(known.at))?;
        (!left.is_zero()).then_some(left)
    }

    /// Whether a failure says nothing against a credential that the registry took before: it could not be asked again.
    pub(super) fn outlast(&self, registry: &str, inputs: &str, failure: &MintFailure) -> bool {
        let is_outage = matches!(failure.reason, Reason::Unreachable | Reason::Throttled);
        is_outage && self.0.get(registry).is_some_and(|known| known.inputs == inputs)
    }

    /// The same while it need not be asked again: an API server that lets nobody read the Secret keeps nothing good for ever.
    pub(super) fn is_current(
        &self,
        registry: &str,
        inputs: &str,
        failure: &MintFailure,
        now: Instant,
    ) -> bool {
        self.outlast(registry, inputs, failure) && self.left(registry, inputs, now).is_some()
    }
}

impl RegistryController {
    /// Whether it is time to ask a registry about the static credential that is held.
    pub(super) fn trial(&self, registry: &str, inputs: &str, now: Instant) -> RefreshPlan {
        match self.acceptances().left(registry, inputs, now) {
            Some(left) => RefreshPlan::Wait(Some(left)),
            None => RefreshPlan::Mint,
        }
    }

    /// Notes that the registry took a static credential; returns in how long it is asked again.
    pub(super) fn accepted(&self, registry: &str, inputs: &str) -> Option<Duration> {
        let now = Instant::now();
        let view = &self.parts.watches.view;
        let mut acceptances = self.acceptances();
        acceptances.accepted(registry, inputs, now, |name| view.is_attached(name));
        acceptances.left(registry, inputs, now)
    }

    /// Whether the registry took a credential that was made of these inputs, is not to be asked again yet, and a failure says
    /// nothing against it.
    pub(super) fn is_accepted(&self, registry: &str, inputs: &str, failure: &MintFailure) -> bool {
        self.acceptances()
            .is_current(registry, inputs, failure, Instant::now())
    }

    /// Whether a failure leaves the static credential that is held as good as it was. A refusal does not, and where none is held
    /// any more, as after a registry was detached, that one was accepted before says nothing.
    pub(super) fn outlasts(
        &self,
        registry: &str,
        inputs: &str,
        held: Option<&HeldCredential>,
        failure: &MintFailure,
    ) -> bool {
        let mut acceptances = self.acceptances();
        let outlasts = held.is_some() && acceptances.outlast(registry, inputs, failure);
        if !outlasts {
            acceptances.refused(registry);
        }
        outlasts
    }

    fn acceptances(&self) -> MutexGuard<'_, Acceptances> {
        self.acceptances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::held_credential::tests::held;
    use crate::sync::minting::pull_right::tests::registry;
    use crate::sync::minting::tests::controller;

    fn failure(reason: Reason) -> MintFailure {
        MintFailure {
            reason,
            message: String::new(),
            retry_after: None,
        }
    }

    #[test]
    fn a_static_credential_is_asked_about_hourly() {
        let begin = Instant::now();
        let after = |minutes| begin + Duration::from_mins(minutes);
        let mut known = Acceptances::default();
        assert_eq!(known.left("mine", "a", begin), None, "never tried");
        known.accepted("mine", "a", begin, |_| true);
        let wait = known.left("mine", "a", begin).unwrap();
        assert!(
            wait <= TRIAL_INTERVAL && wait >= Duration::from_mins(54),
            "{wait:?}"
        );
        assert_eq!(known.left("mine", "a", begin + wait), None);
        assert_eq!(known.left("mine", "b", begin), None, "another password");
        assert_eq!(known.left("other", "a", begin), None);
        known.accepted("other", "a", after(30), |_| true);
        assert_ne!(
            known.left("mine", "a", begin),
            known.left("other", "a", after(30)),
            "jitter"
        );
        known.accepted("other", "a", after(150), |_| true);
        assert_eq!(known.0.len(), 2, "an outage may take longer than two questions");
    }

    #[test]
    fn an_acceptance_costs_the_same_among_any_number() {
        let (now, mut known) = (Instant::now(), Acceptances::default());
        for number in 0..2_000 {
            known.accepted(&format!("r{number}"), "a", now, |_| true);
        }
        assert_eq!(known.0.len(), 2_000);
        assert!(known.0.looks() < 4_000, "{}", known.0.looks());
        for number in 0..10_000 {
            let name = format!("detached{number}");
            known.accepted(&name, "a", now, |name| name.starts_with('r'));
        }
        assert!(known.0.len() <= 4_500, "{}", known.0.len());
    }

    #[test]
    fn an_outage_says_nothing_against_an_accepted_one() {
        let now = Instant::now();
        let mut known = Acceptances::default();
        let outage = failure(Reason::Unreachable);
        assert!(!known.outlast("mine", "a", &outage));
        known.accepted("mine", "a", now, |_| true);
        assert!(known.outlast("mine", "a", &outage));
        assert!(known.outlast("mine", "a", &failure(Reason::Throttled)));
        assert!(known.is_current("mine", "a", &outage, now));
        let later = now + TRIAL_INTERVAL;
        assert!(
            !known.is_current("mine", "a", &outage, later),
            "it is to be asked again"
        );
        assert!(!known.outlast("mine", "b", &outage), "another password");
        assert!(!known.outlast("mine", "a", &failure(Reason::ExchangeRejected)));
        known.rename("mine", "c", "b");
        assert!(known.outlast("mine", "a", &outage), "of something else");
        known.rename("mine", "a", "b");
        assert!(known.outlast("mine", "b", &outage) && !known.outlast("mine", "a", &outage));
        known.refused("mine");
        assert!(!known.outlast("mine", "b", &outage), "it was refused since");
    }

    #[tokio::test]
    async fn verdicts_on_a_static_credential_are_remembered() {
        let registry = registry("mine");
        let controller = controller(&registry, 404, &serde_json::Value::Null);
        let now = Instant::now();
        let outage = failure(Reason::Unreachable);
        assert_eq!(controller.trial("mine", "a", now), RefreshPlan::Mint);
        let wait = controller.accepted("mine", "a").unwrap();
        assert!(
            wait > Duration::from_mins(50) && wait <= TRIAL_INTERVAL,
            "{wait:?}"
        );
        assert!(matches!(
            controller.trial("mine", "a", now),
            RefreshPlan::Wait(Some(_))
        ));
        assert!(controller.is_accepted("mine", "a", &outage));
        assert!(!controller.is_accepted("mine", "b", &outage), "another password");
        let held = held();
        let outlasts = |failure: &MintFailure| controller.outlasts("mine", "a", Some(&held), failure);
        assert!(outlasts(&outage));
        assert!(
            controller.is_accepted("mine", "a", &outage),
            "an outage is forgotten"
        );
        assert!(
            !controller.outlasts("mine", "a", None, &outage),
            "none is held, as after a registry was detached"
        );
        assert!(!outlasts(&outage), "that was accepted before is forgotten then");
        controller.accepted("mine", "a").unwrap();
        assert!(!outlasts(&failure(Reason::ExchangeRejected)));
        assert!(!outlasts(&outage), "it was refused before");
        assert!(!controller.is_accepted("mine", "a", &outage));
    }
}

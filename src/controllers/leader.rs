//! One replica at a time mints, fans out and takes away: the one that holds the Lease.
//!
//! Every write of the Lease names the version that it was decided on, so that of two that are decided at the same time one
//! is refused, and one that was long on its way can't undo what happened meanwhile.

use std::convert::Infallible;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use thiserror::Error;

use crate::names::MANAGER;

/// How long a Lease is good without being renewed, in seconds.
const DURATION: i32 = 15;
/// How long before that whoever could not renew it stops leading: the replicas' clocks may differ by so much.
const MARGIN: SignedDuration = SignedDuration::from_secs(5);
/// How often the leader renews it.
const RENEWAL: SignedDuration = SignedDuration::from_secs(4);
/// How often everyone looks at it: so long nobody leads after the Lease was given back.
const LOOK: Duration = Duration::from_secs(1);
/// How long a call may take.
const CALL: Duration = Duration::from_secs(3);

/// Why nothing is known of the Lease at the moment.
#[derive(Debug, Error)]
enum LeaseError {
    #[error(transparent)]
    Call(#[from] kube::Error),
    #[error("the API server did not answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
}

/// A candidate for the Lease.
pub struct Candidate {
    leases: Api<Lease>,
    identity: String,
    /// The beginning of the last renewal that succeeded, while the Lease is known to be held here.
    renewed: Option<Timestamp>,
    /// Whether the last look failed.
    is_troubled: bool,
}

impl Candidate {
    /// One under a name that no other process has.
    pub fn new(client: &Client, own_namespace: &str, identity: &str) -> Self {
        Self {
            leases: Api::namespaced(client.clone(), own_namespace),
            identity: identity.to_owned(),
            renewed: None,
            is_troubled: false,
        }
    }

    /// Runs `work` whenever this one leads, and drops it when it does not; `told` hears of each change.
    pub async fn lead<F: Future<Output = ()>>(
        &mut self,
        mut work: impl FnMut() -> F,
        told: impl Fn(bool),
    ) -> Infallible {
        told(false);
        loop {
            self.stand().await;
            told(true);
            let working = async {
                work().await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                // Who wakes up after the end of the Lease does nothing more of what it was about to do.
                biased;
                () = self.hold() => {}
                () = working => {}
            }
            told(false);
        }
    }

    /// Gives the Lease back, so that the next one need not wait for its end.
    pub async fn release(self) {
        // An error here means that the Lease ends by itself.
        if let Err(error) = self.give_back().await {
            tracing::debug!(%error, "the Lease was not given back");
        }
    }

    /// Waits until this one leads.
    async fn stand(&mut self) {
        loop {
            self.look().await;
            if self.leads_for().is_some() {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until this one leads no longer, as far as it knows.
    async fn hold(&mut self) {
        while let Some(left) = self.leads_for() {
            tokio::select! {
                // Whatever does not answer.
                () = tokio::time::sleep(left) => {}
                () = async {
                    tokio::time::sleep(LOOK).await;
                    self.look().await;
                } => {}
            }
        }
    }

    /// How long this one leads if it hears no more of the Lease.
    fn leads_for(&self) -> Option<Duration> {
        let until = self.renewed? + SignedDuration::from_secs(DURATION.into()) - MARGIN;
        let left = until.duration_since(Timestamp::now());
        Duration::try_from(left).ok().filter(|left| !left.is_zero())
    }

    async fn look(&mut self) {
        let seen = self.look_and_take().await;
        if let Err(error) = &seen
            && !self.is_troubled
        {
            tracing::warn!(%error, "nothing is known of the Lease; it is looked at again soon");
        }
        self.is_troubled = seen.is_err();
    }

    /// Takes the Lease where it is free, renews it where it is held here.
    async fn look_and_take(&mut self) -> Result<(), LeaseError> {
        let now = Timestamp::now();
        let Some(lease) = tokio::time::timeout(CALL, self.leases.get_opt(MANAGER)).await?? else {
            let lease = self.claim(now, None);
            let parameters = PostParams::default();
            let call = self.leases.create(&parameters, &lease);
            return self.learn(now, tokio::time::timeout(CALL, call).await?);
        };
        let spec = lease.spec.as_ref();
        if is_held_by_another(spec, &self.identity, now) {
            self.renewed = None;
            return Ok(());
        }
        if self.renewed.is_some_and(|renewed| now < renewed + RENEWAL) && holder(spec) == Some(&self.identity)
        {
            return Ok(());
        }
        let claim = self.claim(now, Some(&lease));
        self.patch(now, &Patch::Merge(claim)).await
    }

    async fn patch(&mut self, now: Timestamp, claim: &Patch<Lease>) -> Result<(), LeaseError> {
        let parameters = PatchParams::default();
        let call = self.leases.patch(MANAGER, &parameters, claim);
        let answer = tokio::time::timeout(CALL, call).await?;
        self.learn(now, answer)
    }

    fn learn(&mut self, began: Timestamp, answer: kube::Result<Lease>) -> Result<(), LeaseError> {
        match answer {
            Ok(_) => self.renewed = Some(began),
            // Somebody else was faster; the next look shows who.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The Lease as it is to be, in place of this one.
    fn claim(&self, now: Timestamp, present: Option<&Lease>) -> Lease {
        let spec = present.and_then(|lease| lease.spec.as_ref());
        let is_renewal = holder(spec) == Some(&self.identity);
        let transitions = spec.and_then(|spec| spec.lease_transitions).unwrap_or_default();
        Lease {
            metadata: ObjectMeta {
                name: Some(MANAGER.to_owned()),
                resource_version: present.and_then(|lease| lease.metadata.resource_version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(DURATION),
                renew_time: Some(MicroTime(now)),
                acquire_time: (!is_renewal).then_some(MicroTime(now)),
                lease_transitions: (!is_renewal).then_some(transitions.saturating_add(1)),
                ..LeaseSpec::default()
            }),
        }
    }

    async fn give_back(&self) -> Result<(), LeaseError> {
        let Some(lease) = tokio::time::timeout(CALL, self.leases.get_opt(MANAGER)).await?? else {
            return Ok(());
        };
        if holder(lease.spec.as_ref()) != Some(&self.identity) {
            return Ok(());
        }
        let free = json!({
            "metadata": {"resourceVersion": lease.metadata.resource_version},
            "spec": {"holderIdentity": null, "leaseDurationSeconds": null, "renewTime": null, "acquireTime": null},
        });
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(free));
        tokio::time::timeout(CALL, self.leases.patch(MANAGER, &parameters, &patch)).await??;
        Ok(())
    }
}

fn holder(spec: Option<&LeaseSpec>) -> Option<&String> {
    spec?.holder_identity.as_ref().filter(|holder| !holder.is_empty())
}

/// Whether somebody else holds the Lease, and it has not ended. One that does not say when it ends has ended.
fn is_held_by_another(spec: Option<&LeaseSpec>, identity: &str, now: Timestamp) -> bool {
    let Some(spec) = spec.filter(|spec| holder(Some(spec)).is_some_and(|holder| holder != identity)) else {
        return false;
    };
    let ends = spec
        .renew_time
        .as_ref()
        .zip(spec.lease_duration_seconds)
        .and_then(|(renewed, seconds)| {
            renewed
                .0
                .checked_add(SignedDuration::from_secs(seconds.into()))
                .ok()
        });
    ends.is_some_and(|ends| now <= ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn held_by(holder: &str, renewed: Option<i64>) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(DURATION),
            renew_time: renewed.map(|second| MicroTime(at(second))),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_another_ones_until_it_ends() {
        let spec = held_by("other", Some(100));
        assert!(is_held_by_another(Some(&spec), "this", at(100)));
        assert!(is_held_by_another(Some(&spec), "this", at(115)));
        assert!(!is_held_by_another(Some(&spec), "this", at(116)));
        assert!(
            !is_held_by_another(Some(&spec), "other", at(100)),
            "it is its own"
        );
    }

    #[test]
    fn a_lease_that_nobody_holds_or_that_has_no_end_is_free() {
        assert!(!is_held_by_another(None, "this", at(100)));
        assert!(!is_held_by_another(Some(&LeaseSpec::default()), "this", at(100)));
        assert!(!is_held_by_another(
            Some(&held_by("", Some(100))),
            "this",
            at(100)
        ));
        assert!(!is_held_by_another(
            Some(&held_by("other", None)),
            "this",
            at(100)
        ));
        let forever = LeaseSpec {
            lease_duration_seconds: Some(i32::MAX),
            ..held_by("other", Some(100))
        };
        assert!(is_held_by_another(Some(&forever), "this", at(1000)));
    }
}

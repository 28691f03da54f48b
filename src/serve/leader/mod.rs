//! One replica at a time mints, fans out and deletes: the one that holds the Lease.
//!
//! Every write of the Lease names the version that it was decided on, so that of two that are decided at the same time one
//! is refused, and one that was long on its way can't undo what happened meanwhile.

mod lease;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Api, Client};
use serde_json::json;

use self::lease::{HeldLease, LEASE_DURATION, ObservedLease, holder};
use crate::api::names::{INDEX_WRITTEN_ANNOTATION, MANAGER, SWEPT_ANNOTATION};
use crate::base::backoff::{Backoff, Jitter};
use crate::base::clock::Instants;
use crate::kubernetes::call::{CallError, call_within};
use crate::sync::index::IndexWritten;
use crate::sync::secrets::SweptNote;

/// The poll interval, and so the longest time without a leader after the Lease was released.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long one that does not lead waits after looks that failed. The leader goes on at its pace, since it has to renew
/// the Lease in time.
const STANDBY_BACKOFF: Backoff = Backoff::new(POLL_INTERVAL, Duration::from_secs(4));
/// How long a call about the Lease may take: several fit into the time that a leader leads without a renewal.
const LEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// What the leader before left on the Lease, and this one leaves to the next.
#[derive(Debug, Clone, Default)]
pub struct LeaseNotes {
    /// What was swept.
    pub swept: Arc<SweptNote>,
    /// Whether an `AcrIndex` was written.
    pub index: Arc<IndexWritten>,
}

/// A candidate for the Lease.
pub struct Candidate {
    leases: Api<Lease>,
    identity: String,
    notes: LeaseNotes,
    /// While the Lease is known to be held here.
    held: Option<HeldLease>,
    /// While it is known to be held by somebody else.
    observed: ObservedLease,
    /// How many looks in a row failed.
    failures: u32,
}

impl Candidate {
    /// One under a name that no other process has.
    pub fn new(client: &Client, own_namespace: &str, identity: &str, notes: LeaseNotes) -> Self {
        Self {
            leases: Api::namespaced(client.clone(), own_namespace),
            identity: identity.to_owned(),
            notes,
            held: None,
            observed: ObservedLease::default(),
            failures: 0,
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
            self.acquire().await;
            told(true);
            let working = async {
                work().await;
                std::future::pending::<()>().await;
            };
            self.hold(std::pin::pin!(working)).await;
            told(false);
        }
    }

    /// Gives the Lease back, so that the next one need not wait for its end.
    pub async fn release(self) {
        // An error here means that the Lease ends by itself.
        if let Err(error) = self.give_back().await {
            tracing::debug!(%error, "could not release the Lease");
        }
    }

    /// Waits until this one leads.
    async fn acquire(&mut self) {
        loop {
            self.poll().await;
            if self.leads_for().is_some() {
                return;
            }
            let wait = if self.failures == 0 {
                POLL_INTERVAL
            } else {
                STANDBY_BACKOFF.delay(self.failures, None, Jitter::random())
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Works until this one leads no longer, as far as it knows.
    async fn hold<F: Future<Output = ()>>(&mut self, mut work: Pin<&mut F>) {
        while let Some((held, left)) = self.leads_for() {
            tokio::select! {
                // A process that wakes up after the Lease expired does nothing more of what it was about to do.
                biased;
                // Whatever does not answer.
                () = tokio::time::sleep(left) => {}
                () = async {
                    tokio::time::sleep(POLL_INTERVAL).await;
                    self.poll().await;
                } => {}
                () = work_while(work.as_mut(), || held.left(Instants::now()).is_some()) => {}
            }
        }
    }

    /// The Lease that is held here, and how long this one leads if it hears no more of it.
    fn leads_for(&self) -> Option<(HeldLease, Duration)> {
        let held = self.held?;
        Some((held, held.left(Instants::now())?))
    }

    async fn poll(&mut self) {
        let seen = self.read_and_claim().await;
        if let Err(error) = &seen
            && self.failures == 0
        {
            tracing::warn!(%error, advice = advice(error), "could not read the Lease; retrying");
        }
        self.failures = if seen.is_err() {
            self.failures.saturating_add(1)
        } else {
            0
        };
    }

    /// Takes the Lease where it is free, renews it where it is held here.
    async fn read_and_claim(&mut self) -> Result<(), CallError> {
        let began = Instants::now();
        let Some(lease) = call_within(LEASE_TIMEOUT, self.leases.get_opt(MANAGER)).await? else {
            self.notes.swept.set(None);
            let lease = self.claim(began, None);
            let parameters = PostParams::default();
            let created = self.leases.create(&parameters, &lease);
            return self.learn(began, call_within(LEASE_TIMEOUT, created).await);
        };
        let spec = lease.spec.as_ref();
        // The time after the answer: the holder began the renewal before that.
        if self.observed.held_by_other(spec, &self.identity, Instant::now()) {
            self.held = None;
            return Ok(());
        }
        if self.held.is_some_and(|held| !held.is_due(began)) && holder(spec) == Some(&self.identity) {
            return Ok(());
        }
        if holder(spec) != Some(&self.identity) {
            // Whatever this process knew when it led before, the last leader knew better. The claim takes the note off the
            // Lease: under other rules, or where this leader ends before it renews, it says nothing to the next one.
            let annotations = lease.metadata.annotations.as_ref();
            let note = |name| annotations.and_then(|annotations| annotations.get(name).cloned());
            self.notes.swept.set(note(SWEPT_ANNOTATION));
            if note(INDEX_WRITTEN_ANNOTATION).is_some() {
                self.notes.index.set();
            }
        }
        let claim = Patch::Merge(self.claim(began, Some(&lease)));
        let parameters = PatchParams::default();
        let patched = self.leases.patch(MANAGER, &parameters, &claim);
        self.learn(began, call_within(LEASE_TIMEOUT, patched).await)
    }

    fn learn(&mut self, renewed: Instants, answer: Result<Lease, CallError>) -> Result<(), CallError> {
        let is_taken = |status: &Status| status.is_conflict() || status.is_already_exists();
        match answer {
            Ok(_) => self.held = Some(HeldLease { renewed }),
            // Somebody else was faster; the next look shows who.
            Err(error) if error.status().is_some_and(is_taken) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The Lease as it is to be, in place of this one.
    fn claim(&self, began: Instants, present: Option<&Lease>) -> Lease {
        let spec = present.and_then(|lease| lease.spec.as_ref());
        let is_renewal = holder(spec) == Some(&self.identity);
        let transitions = spec.and_then(|spec| spec.lease_transitions).unwrap_or_default();
        Lease {
            metadata: ObjectMeta {
                name: Some(MANAGER.to_owned()),
                resource_version: present.and_then(|lease| lease.metadata.resource_version.clone()),
                annotations: present.map(|_| {
                    if is_renewal {
                        self.annotations()
                    } else {
                        BTreeMap::from([(SWEPT_ANNOTATION.to_owned(), String::new())])
                    }
                }),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: LEASE_DURATION.as_secs().try_into().ok(),
                renew_time: Some(MicroTime(began.wall)),
                acquire_time: (!is_renewal).then_some(MicroTime(began.wall)),
                lease_transitions: (!is_renewal).then_some(transitions.saturating_add(1)),
                ..LeaseSpec::default()
            }),
        }
    }

    fn annotations(&self) -> BTreeMap<String, String> {
        let swept = self.notes.swept.get();
        let swept = swept.map(|note| (SWEPT_ANNOTATION.to_owned(), note));
        let index = self.notes.index.get();
        let index = index.then(|| (INDEX_WRITTEN_ANNOTATION.to_owned(), "true".to_owned()));
        swept.into_iter().chain(index).collect()
    }

    async fn give_back(&self) -> Result<(), CallError> {
        let Some(lease) = call_within(LEASE_TIMEOUT, self.leases.get_opt(MANAGER)).await? else {
            return Ok(());
        };
        if holder(lease.spec.as_ref()) != Some(&self.identity) {
            return Ok(());
        }
        let free = json!({
            "metadata": {"resourceVersion": lease.metadata.resource_version, "annotations": self.annotations()},
            "spec": {"holderIdentity": null, "leaseDurationSeconds": null, "renewTime": null, "acquireTime": null},
        });
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(free));
        call_within(LEASE_TIMEOUT, self.leases.patch(MANAGER, &parameters, &patch)).await?;
        Ok(())
    }
}

/// What helps where the API server gives no answer at all, which is how a replica fares that a network policy holds back.
fn advice(error: &CallError) -> Option<&'static str> {
    error.code().is_none().then_some(
        "if this persists, check whether a NetworkPolicy lets Pods reach the port that the API server listens on: pullpass check, \
         or kubectl get endpointslices --namespace default kubernetes",
    )
}

/// Works until this one leads no longer, which is looked at before every step of the work: a machine that was suspended goes
/// on with whatever is ready first.
async fn work_while<F: Future<Output = ()>>(mut work: Pin<&mut F>, leads: impl Fn() -> bool) {
    poll_fn(|context| {
        if leads() {
            work.as_mut().poll(context)
        } else {
            Poll::Ready(())
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::Mutex;

    use http::{Method, Request, Response};
    use kube::client::Body;
    use serde_json::Value;

    /// A candidate for a Lease that was given back with these annotations, and the bodies of its writes. Every write is lost on its way
    /// back where answers are.
    fn candidate(annotations: &Value, answers: bool) -> (Candidate, LeaseNotes, Arc<Mutex<Vec<Value>>>) {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "pullpass", "resourceVersion": "7", "annotations": annotations},
            "spec": {"leaseTransitions": 1},
        });
        let writes = Arc::<Mutex<Vec<Value>>>::default();
        let (written, live) = (Arc::clone(&writes), Arc::new(Mutex::new(lease)));
        let server = tower::service_fn(move |request: Request<Body>| {
            let (written, live) = (Arc::clone(&written), Arc::clone(&live));
            async move {
                let is_write = request.method() != Method::GET;
                let body = request.into_body().collect_bytes().await.unwrap();
                if is_write {
                    let patch: Value = serde_json::from_slice(&body).unwrap();
                    json_patch::merge(&mut live.lock().unwrap(), &patch);
                    written.lock().unwrap().push(patch);
                    if !answers {
                        return Err(std::io::Error::other("the answer is lost"));
                    }
                }
                let body = live.lock().unwrap().to_string();
                Ok::<_, std::io::Error>(Response::new(Body::from(body.into_bytes())))
            }
        });
        let notes = LeaseNotes::default();
        let client = Client::new(server, "own");
        (Candidate::new(&client, "own", "me", notes.clone()), notes, writes)
    }

    fn note_in(write: &Value) -> Option<&str> {
        write
            .pointer("/metadata/annotations")?
            .get(SWEPT_ANNOTATION)?
            .as_str()
    }

    #[test]
    fn silence_of_the_api_server_leads_to_network_policies() {
        let silence = CallError::TimedOut(LEASE_TIMEOUT);
        let advised = advice(&silence).unwrap_or_default();
        for named in ["NetworkPolicy", "pullpass check", "kubectl get endpointslices"] {
            assert!(advised.contains(named), "{advised}");
        }
        let status = json!({"status": "Failure", "message": "no", "reason": "Forbidden", "code": 403});
        let refusal = kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()));
        assert_eq!(advice(&CallError::from(refusal)), None);
    }

    #[tokio::test]
    async fn a_claim_takes_the_note_off_the_lease() {
        let (mut candidate, notes, writes) = candidate(&json!({SWEPT_ANNOTATION: "what was swept"}), true);
        candidate.poll().await;
        assert!(candidate.leads_for().is_some());
        assert_eq!(notes.swept.get().as_deref(), Some("what was swept"));
        let writes = writes.lock().unwrap();
        assert_eq!(writes.iter().map(note_in).collect::<Vec<_>>(), [Some("")]);
    }

    #[tokio::test]
    async fn a_claim_whose_answer_is_lost_knows_the_note_all_the_same() {
        let (mut candidate, notes, writes) = candidate(&json!({SWEPT_ANNOTATION: "what was swept"}), false);
        // What it knew when it led before.
        notes.swept.set(Some("long ago".to_owned()));
        candidate.poll().await;
        assert!(candidate.leads_for().is_none());
        candidate.poll().await;
        let writes = writes.lock().unwrap();
        let notes: Vec<_> = writes.iter().map(note_in).collect();
        assert_eq!(notes, [Some(""), Some("what was swept")]);
    }

    #[tokio::test]
    async fn the_next_leader_knows_that_an_index_was_written() {
        let (mut first, notes, writes) = candidate(&json!({}), true);
        first.poll().await;
        assert!(!notes.index.get());
        notes.index.set();
        first.release().await;
        let left = writes.lock().unwrap().last().cloned().unwrap_or_default();
        let left = left.pointer("/metadata/annotations").cloned().unwrap_or_default();
        assert_eq!(left, json!({INDEX_WRITTEN_ANNOTATION: "true"}));

        let (mut next, notes, _) = candidate(&left, true);
        next.poll().await;
        assert!(notes.index.get());
    }

    #[tokio::test]
    async fn a_former_leader_takes_no_other_step() {
        let leads = Cell::new(true);
        let steps = Cell::new(0);
        let mut work = std::pin::pin!(async {
            loop {
                steps.set(steps.get() + 1);
                // The Lease runs out while something is waited for, which then comes.
                leads.set(steps.get() < 3);
                tokio::task::yield_now().await;
            }
        });
        work_while(work.as_mut(), || leads.get()).await;
        assert_eq!(steps.get(), 3);
    }
}

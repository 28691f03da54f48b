//! Evicts Pods that would get their pull secret if they were recreated. Eviction goes by the API that
//! `PodDisruptionBudgets` hold for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions};
use kube::api::PostParams;
use kube::core::Status;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, ResourceExt};
use tokio::sync::mpsc;

use crate::api::names::MANAGER;
use crate::kubernetes::call::{CallError, call};
use crate::kubernetes::pods;
use crate::policy::coverage::findings;
use crate::policy::evictions::Evictions;
use crate::policy::pod::{self, Pod, service_account};
use crate::policy::rescue::{was_injected, would_help};
use crate::policy::scope::Scope;
use crate::sync::watches::Watches;

/// How many Pods wait for their eviction, and how many Events to be written.
const BACKLOG: usize = 256;
/// How long the next Pod waits for its turn.
const EVICTION_INTERVAL: Duration = Duration::from_secs(1);

/// A Pod to be evicted, as it was when it was looked at.
#[derive(Debug, Clone, PartialEq)]
struct EvictionCandidate {
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
    /// The uid of its controller.
    owner: String,
}

/// What is to be reported about an owner whose Pods are evicted no more for a while, on a Pod of it.
#[derive(Debug, Clone, PartialEq)]
struct Notice {
    pod: ObjectReference,
    /// Kind and name.
    owner: String,
    rest: SignedDuration,
}

/// What a look at a Pod leads to.
#[derive(Debug, Clone, PartialEq)]
enum RescueStep {
    Leave,
    Evict(EvictionCandidate),
    Rest(Notice),
}

/// What was done with a Pod whose turn had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handled {
    Evicted,
    /// It has changed since it was proposed. Where it is stuck again, it is proposed again.
    Left,
}

/// Takes what looks at Pods lead to; it never blocks.
#[derive(Debug)]
pub struct Proposals {
    candidates: mpsc::Sender<EvictionCandidate>,
    notices: mpsc::Sender<Notice>,
}

/// What the rescuer works on.
#[derive(Debug)]
pub struct Backlog {
    candidates: mpsc::Receiver<EvictionCandidate>,
    notices: mpsc::Receiver<Notice>,
}

/// A way from those who look at Pods to the rescuer.
pub fn channel() -> (Proposals, Backlog) {
    let (propose, candidates) = mpsc::channel(BACKLOG);
    let (notify, notices) = mpsc::channel(BACKLOG);
    let proposals = Proposals {
        candidates: propose,
        notices: notify,
    };
    (proposals, Backlog { candidates, notices })
}

/// Evicts Pods, one after the other.
pub struct Rescuer {
    client: Client,
    watches: Arc<Watches>,
    scope: Scope,
    recorder: Recorder,
    evictions: Mutex<Evictions>,
}

impl Rescuer {
    /// One that has evicted nobody yet.
    pub fn new(client: Client, watches: Arc<Watches>, scope: Scope) -> Self {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: None,
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            watches,
            scope,
            evictions: Mutex::default(),
        }
    }

    /// Proposes a Pod that is stuck for an eviction that would help. What finds no place is seen again: by the next scan, or
    /// since its kubelet goes on saying that it can't pull.
    pub fn look_at(&self, pod: &Pod, proposals: &Proposals) {
        match self.judge(pod) {
            RescueStep::Leave => {}
            RescueStep::Evict(candidate) => {
                let _ = proposals.candidates.try_send(candidate);
            }
            RescueStep::Rest(notice) => {
                let _ = proposals.notices.try_send(notice);
            }
        }
    }

    /// Evicts the proposed Pods, and reports it, until it is dropped.
    pub async fn run(&self, mut backlog: Backlog) {
        tokio::join!(
            async {
                while let Some(candidate) = backlog.candidates.recv().await {
                    self.take_turn(&candidate).await;
                }
            },
            async {
                while let Some(notice) = backlog.notices.recv().await {
                    self.publish(&notice.event(), &notice.pod).await;
                }
            },
        );
    }

    async fn take_turn(&self, candidate: &EvictionCandidate) {
        let may = self
            .evictions()
            .allow(&candidate.owner, &candidate.uid, Timestamp::now());
        if !may {
            return;
        }
        let EvictionCandidate { namespace, name, .. } = candidate;
        match self.rescue(candidate).await {
            Ok(Handled::Left) => return,
            Ok(Handled::Evicted) => {
                tracing::info!(
                    namespace,
                    pod = name,
                    "evicted, so that its successor gets its pull secret"
                );
                self.publish(&rescued(), &candidate.reference()).await;
            }
            Err(error) => {
                tracing::warn!(namespace, pod = name, %error, "could not evict a Pod, or could not read the answer");
            }
        }
        tokio::time::sleep(EVICTION_INTERVAL).await;
    }

    /// Evicts a Pod if it is still as it was proposed: in the queue it may have come to run, and its name may have come to be
    /// another's. What changes after the last look is held off by the API server.
    async fn rescue(&self, candidate: &EvictionCandidate) -> Result<Handled, CallError> {
        let pods = pods::api(self.client.clone(), Some(&candidate.namespace));
        let Some(pod) = call(pods.get_opt(&candidate.name)).await? else {
            return Ok(Handled::Left);
        };
        let fresh = match self.judge(&pod) {
            RescueStep::Evict(fresh) if fresh.uid == candidate.uid => fresh,
            RescueStep::Rest(notice) => {
                self.publish(&notice.event(), &notice.pod).await;
                return Ok(Handled::Left);
            }
            RescueStep::Evict(_) | RescueStep::Leave => return Ok(Handled::Left),
        };
        let now = Timestamp::now();
        // Before it is asked for: the Pod that comes next may be seen before the answer.
        self.evictions().add(&fresh.owner, &fresh.uid, now);
        let (eviction, parameters) = (fresh.eviction(), PostParams::default());
        let evicted = pods.create_subresource::<_, Status>("eviction", &fresh.name, &parameters, &eviction);
        match call(evicted).await {
            Err(error @ CallError::Kube(_)) => {
                self.evictions().withdraw(&fresh.owner, &fresh.uid, now);
                let is_gone = |status: &Status| status.is_not_found() || status.is_conflict();
                if error.status().is_some_and(is_gone) {
                    return Ok(Handled::Left);
                }
                return Err(error);
            }
            // Without an answer it may have been evicted.
            done => done.map(drop)?,
        }
        Ok(Handled::Evicted)
    }

    /// Looks at a Pod. What it tells of evictions before it is remembered.
    fn judge(&self, pod: &Pod) -> RescueStep {
        let (Some(namespace), Some(owner)) = (pod.namespace(), pod::controller(pod)) else {
            return RescueStep::Leave;
        };
        // Without its namespace's labels nobody knows whether it is to have a secret.
        let Some(labels) = self.watches.view.labels(&namespace) else {
            return RescueStep::Leave;
        };
        let registries = self.watches.view.registries_in(&namespace);
        let mountable = self.watches.view.mountable(&namespace, service_account(pod));
        let findings = findings(
            pod,
            &namespace,
            &registries,
            Some(&labels),
            &self.scope,
            mountable.as_deref(),
        );
        if let (Some(injected), Some(created)) = (was_injected(&findings), pod.creation_timestamp()) {
            let (created, now) = (created.0, Timestamp::now());
            let uid = pod.uid().unwrap_or_default();
            let rest = self.evictions().see(&owner.uid, &uid, created, injected, now);
            if let Some(rest) = rest {
                let pod = pod.name_any();
                let (owner, minutes) = (format!("{} {}", owner.kind, owner.name), rest.as_mins());
                tracing::warn!(
                    namespace,
                    pod,
                    owner,
                    minutes,
                    "eviction did not help: the replacement Pod has no pull secret either; evictions for its owner are paused"
                );
                let pod = reference(&namespace, &pod, &uid);
                return RescueStep::Rest(Notice { pod, owner, rest });
            }
        }
        let candidate = would_help(pod, &findings)
            .filter(|name| self.watches.has_credential(name))
            .and_then(|_| EvictionCandidate::of(pod));
        candidate.map_or(RescueStep::Leave, RescueStep::Evict)
    }

    fn evictions(&self) -> MutexGuard<'_, Evictions> {
        self.evictions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an Event. Whether that works is another matter than what it is about.
    async fn publish(&self, event: &Event, about: &ObjectReference) {
        if let Err(error) = call(self.recorder.publish(event, about)).await {
            let (namespace, pod) = (about.namespace.as_deref(), about.name.as_deref());
            tracing::warn!(namespace, pod, reason = event.reason, %error, "could not write an Event");
        }
    }
}

impl EvictionCandidate {
    /// The Pod, if it has what an eviction needs.
    fn of(pod: &Pod) -> Option<Self> {
        Some(Self {
            namespace: pod.namespace()?,
            name: pod.name_any(),
            uid: pod.uid()?,
            resource_version: pod.resource_version()?,
            owner: pod::controller(pod)?.uid.clone(),
        })
    }

    fn reference(&self) -> ObjectReference {
        reference(&self.namespace, &self.name, &self.uid)
    }

    /// The body of the call. `Api::evict` of kube 5 sends `delete_options`, which the API server takes for nothing: it reads
    /// `deleteOptions`.
    fn eviction(&self) -> Eviction {
        Eviction {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            delete_options: Some(DeleteOptions {
                preconditions: Some(Preconditions {
                    uid: Some(self.uid.clone()),
                    resource_version: Some(self.resource_version.clone()),
                }),
                ..DeleteOptions::default()
            }),
        }
    }
}

impl Notice {
    fn text(&self) -> String {
        let Self { owner, rest, .. } = self;
        format!(
            "A Pod of {owner} was evicted, but its replacement has no pull secret either: the API server does not reach pullpass, \
             or does not ask it about this Pod. Evictions for {owner} are paused for {} minutes, or until a replacement has its \
             pull secret",
            rest.as_mins()
        )
    }

    fn event(&self) -> Event {
        Event {
            type_: EventType::Warning,
            reason: "NotRescued".to_owned(),
            note: Some(self.text()),
            action: "Evict".to_owned(),
            secondary: None,
        }
    }
}

/// What is said on a Pod that was evicted.
fn rescued() -> Event {
    Event {
        type_: EventType::Normal,
        reason: "Rescued".to_owned(),
        note: Some(
            "The Pod was admitted without its image pull secret and evicted, so that its successor gets it"
                .to_owned(),
        ),
        action: "Evict".to_owned(),
        secondary: None,
    }
}

fn reference(namespace: &str, name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests;

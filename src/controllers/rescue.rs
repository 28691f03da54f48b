//! Evicts Pods that would get their pull secret if they were made anew. Eviction goes by the API that
//! `PodDisruptionBudgets` hold for.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod as CorePod;
use kube::api::{DeleteParams, EvictParams, Preconditions};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::names::MANAGER;
use crate::pod::Pod;

/// How long the next Pod waits for its turn.
const PACE: Duration = Duration::from_secs(1);
/// How many Pods of an owner are evicted in a [`SPAN`]: where their successors are stuck too, eviction is no help.
const PER_OWNER: usize = 10;
/// See [`PER_OWNER`].
const SPAN: Duration = Duration::from_mins(1);
/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A Pod to be evicted.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    namespace: String,
    name: String,
    uid: String,
    /// The uid of its controller.
    owner: String,
}

impl Candidate {
    /// The Pod, if it has what an eviction needs.
    pub fn of(pod: &Pod) -> Option<Self> {
        let mut owners = pod.owner_references().iter();
        Some(Self {
            namespace: pod.namespace()?,
            name: pod.name_any(),
            uid: pod.uid()?,
            owner: owners.find(|owner| owner.controller == Some(true))?.uid.clone(),
        })
    }
}

/// The Pods that were evicted of late, by their owner.
#[derive(Debug, Default)]
struct Evicted(HashMap<String, Vec<(String, Instant)>>);

impl Evicted {
    /// Whether the Pod may be evicted now; if so, that counts as done.
    fn take(&mut self, candidate: &Candidate, now: Instant) -> bool {
        self.0.retain(|_, pods| {
            pods.retain(|(_, since)| now.duration_since(*since) < SPAN);
            !pods.is_empty()
        });
        let pods = self.0.entry(candidate.owner.clone()).or_default();
        let is_known = pods.iter().any(|(uid, _)| *uid == candidate.uid);
        if is_known || pods.len() >= PER_OWNER {
            return false;
        }
        pods.push((candidate.uid.clone(), now));
        true
    }
}

/// Evicts Pods, one after the other.
pub struct Rescuer {
    client: Client,
    recorder: Recorder,
}

impl Rescuer {
    /// One that has evicted nobody yet.
    pub fn new(client: Client) -> Self {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: None,
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
        }
    }

    /// Evicts whom it is given, for as long as it is polled.
    pub async fn run(&self, mut candidates: mpsc::Receiver<Candidate>) {
        let mut evicted = Evicted::default();
        while let Some(candidate) = candidates.recv().await {
            if !evicted.take(&candidate, Instant::now()) {
                continue;
            }
            let Candidate { namespace, name, .. } = &candidate;
            match timeout(PATIENCE, self.evict(&candidate)).await {
                Ok(Ok(())) => {
                    tracing::info!(
                        namespace,
                        pod = name,
                        "evicted: its successor gets its pull secret"
                    );
                }
                Ok(Err(kube::Error::Api(status))) if status.is_not_found() || status.is_conflict() => {}
                Ok(Err(error)) => tracing::warn!(namespace, pod = name, %error, "a Pod was not evicted"),
                Err(_) => tracing::warn!(namespace, pod = name, "a Pod was not evicted: no answer in time"),
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Says so on the Pod, and evicts it; nobody else that has come to have its name.
    async fn evict(&self, candidate: &Candidate) -> kube::Result<()> {
        let pods: Api<CorePod> = Api::namespaced(self.client.clone(), &candidate.namespace);
        let parameters = EvictParams {
            delete_options: Some(DeleteParams {
                preconditions: Some(Preconditions {
                    uid: Some(candidate.uid.clone()),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            }),
            ..EvictParams::default()
        };
        pods.evict(&candidate.name, &parameters).await?;
        let mut pod = CorePod::default();
        pod.metadata.name = Some(candidate.name.clone());
        pod.metadata.namespace = Some(candidate.namespace.clone());
        pod.metadata.uid = Some(candidate.uid.clone());
        let event = Event {
            type_: EventType::Normal,
            reason: "Rescued".to_owned(),
            note: Some("The Pod was admitted without its image pull secret and evicted, so that its successor gets it".to_owned()),
            action: "Evict".to_owned(),
            secondary: None,
        };
        self.recorder.publish(&event, &pod.object_ref(&())).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(owner: &str, uid: usize) -> Candidate {
        Candidate {
            namespace: "apps".to_owned(),
            name: format!("{owner}-{uid}"),
            uid: uid.to_string(),
            owner: owner.to_owned(),
        }
    }

    #[test]
    fn an_owner_loses_a_few_pods_a_minute_and_each_once() {
        let mut evicted = Evicted::default();
        let begin = Instant::now();
        assert!(evicted.take(&candidate("web", 0), begin));
        assert!(!evicted.take(&candidate("web", 0), begin), "it is going");
        for uid in 1..PER_OWNER {
            assert!(evicted.take(&candidate("web", uid), begin));
        }
        assert!(!evicted.take(&candidate("web", PER_OWNER), begin));
        assert!(
            evicted.take(&candidate("api", 0), begin),
            "another owner has its own"
        );
        assert!(evicted.take(&candidate("web", PER_OWNER), begin + SPAN));
        assert_eq!(evicted.0.len(), 1, "what is long ago is forgotten");
    }
}

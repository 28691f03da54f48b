//! What running Pods tell: which namespaces need which registries, and which Pods have no pull secret. Nothing is kept,
//! so nothing is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use tokio::sync::mpsc;

use crate::api::names::registry_of;
use crate::kubernetes::call::CallError;
use crate::kubernetes::pages::pages;
use crate::kubernetes::pods;
use crate::kubernetes::watch::followed;
use crate::metrics::Metrics;
use crate::policy::coverage::{Summary, findings};
use crate::policy::pod::{Pod, has_ended};
use crate::policy::scope::Scope;
use crate::sync::failed_pulls::FailedPulls;
use crate::sync::rescue::{self, Proposals, Rescuer};
use crate::sync::watches::Watches;

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// A Pod in a namespace names the pull secret of a registry.
    Needed((String, String)),
    /// Every Pod of the cluster was looked at.
    ScanDone {
        /// When the scan began.
        begun: Instant,
    },
}

/// The controller. One runs in the cluster: the leader's.
pub struct PodsController {
    /// Where Pods are read.
    pub client: Client,
    /// The attached registries.
    pub watches: Arc<Watches>,
    /// Which Pods should have pull secrets.
    pub scope: Scope,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who evicts Pods that it would help; nobody, unless it is asked for.
    pub rescuer: Option<Rescuer>,
    /// Who has pull secrets written again that kubelets can't pull with.
    pub failed_pulls: FailedPulls,
    /// How often all Pods are looked at.
    pub resync_interval: Duration,
}

impl PodsController {
    /// Watches Pending Pods and the Events of kubelets, and scans all Pods, until it is dropped.
    pub async fn run(&self, sightings: &mpsc::Sender<Sighting>) {
        let (proposals, backlog) = rescue::channel();
        tokio::join!(
            self.watch_pending(sightings, &proposals),
            self.scan_repeatedly(sightings, &proposals),
            self.failed_pulls.follow_events(),
            async {
                if let Some(rescuer) = &self.rescuer {
                    Box::pin(rescuer.run(backlog)).await;
                }
            },
        );
    }

    /// Only a Pod that is Pending can still be waiting for its secret.
    async fn watch_pending(&self, sightings: &mpsc::Sender<Sighting>, proposals: &Proposals) {
        let pods = pods::api(self.client.clone(), None);
        let pending = watcher::Config::default().fields("status.phase=Pending");
        let mut events = std::pin::pin!(followed(watcher(pods, pending)));
        while let Some(event) = events.next().await {
            let (Event::Apply(pod) | Event::InitApply(pod)) = event else {
                continue;
            };
            self.look_at(&pod, proposals);
            if self.report(&pod, sightings).await.is_err() {
                return;
            }
        }
    }

    async fn scan_repeatedly(&self, sightings: &mpsc::Sender<Sighting>, proposals: &Proposals) {
        let mut ticks = tokio::time::interval(self.resync_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let begun = Instant::now();
            match self.scan(sightings, proposals).await {
                Ok(summary) => {
                    self.metrics.set_coverage(&summary);
                    self.watches.repositories.scanned(&self.watches.view.registries());
                    if sightings.send(Sighting::ScanDone { begun }).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the Pods were not all looked at; the next scan does it again");
                }
            }
        }
    }

    async fn scan(
        &self,
        sightings: &mpsc::Sender<Sighting>,
        proposals: &Proposals,
    ) -> Result<Summary, CallError> {
        let mut summary = Summary::default();
        let mut pages = std::pin::pin!(pages(pods::api(self.client.clone(), None)));
        while let Some(page) = pages.try_next().await? {
            let registries = self.watches.view.registries();
            for pod in page.iter().filter(|pod| !has_ended(pod)) {
                let Some(namespace) = pod.namespace() else {
                    continue;
                };
                let labels = self.watches.view.labels(&namespace);
                let findings = findings(pod, &namespace, &registries, labels.as_ref(), &self.scope);
                summary.add(&namespace, &findings);
                self.look_at(pod, proposals);
                if self.report(pod, sightings).await.is_err() {
                    return Ok(summary);
                }
            }
        }
        Ok(summary)
    }

    fn look_at(&self, pod: &Pod, proposals: &Proposals) {
        self.failed_pulls.look_at_hosts(pod);
        self.failed_pulls.look_at(pod);
        if let Some(rescuer) = &self.rescuer {
            rescuer.look_at(pod, proposals);
        }
    }

    async fn report(
        &self,
        pod: &Pod,
        sightings: &mpsc::Sender<Sighting>,
    ) -> Result<(), mpsc::error::SendError<Sighting>> {
        let Some(namespace) = pod.namespace() else {
            return Ok(());
        };
        let registries = self.watches.view.registries();
        let labels = self.watches.view.labels(&namespace);
        let seen = &self.watches.repositories;
        seen.see(pod, &registries, labels.as_ref(), &self.scope);
        for secret in pod.spec.pull_secrets() {
            let name = registry_of(secret).filter(|name| registries.by_name(name).is_some());
            if let Some(name) = name {
                sightings
                    .send(Sighting::Needed((namespace.clone(), name.to_owned())))
                    .await?;
            }
        }
        Ok(())
    }
}

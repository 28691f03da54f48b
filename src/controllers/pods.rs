//! Which namespaces need which registries, told from Pods: nothing is kept, so nothing is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::api::ListParams;
use kube::core::{ApiResource, GroupVersionKind, Object};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::watches::{Watches, events};
use crate::names::registry_of;

/// How many Pods a page of the scan has.
const PAGE: u32 = 250;

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

/// The part of a Pod that matters here; the rest is dropped while it is read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    image_pull_secrets: Vec<PullSecret>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct PullSecret {
    name: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: String,
}

type SlimPod = Object<PodSpec, PodStatus>;

/// The controller. One runs in the cluster: the leader's.
pub struct PodsController {
    /// Where Pods are read.
    pub client: Client,
    /// The attached registries.
    pub watches: Arc<Watches>,
    /// How often all Pods are looked at.
    pub resync: Duration,
}

impl PodsController {
    /// Watches Pending Pods and scans all of them, for as long as it is polled.
    pub async fn run(&self, sightings: &mpsc::Sender<Sighting>) {
        tokio::join!(self.watch_pending(sightings), self.scan_repeatedly(sightings));
    }

    fn pods(&self) -> Api<SlimPod> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
        Api::all_with(self.client.clone(), &resource)
    }

    /// Only a Pod that is Pending can still be waiting for its secret.
    async fn watch_pending(&self, sightings: &mpsc::Sender<Sighting>) {
        let pods = self.pods();
        let pending = watcher::Config::default().fields("status.phase=Pending");
        let mut events = std::pin::pin!(events(watcher(pods, pending)));
        while let Some(event) = events.next().await {
            if let Event::Apply(pod) | Event::InitApply(pod) = event
                && self.report(&pod, sightings).await.is_err()
            {
                return;
            }
        }
    }

    async fn scan_repeatedly(&self, sightings: &mpsc::Sender<Sighting>) {
        let mut ticks = tokio::time::interval(self.resync);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let begun = Instant::now();
            match self.scan(sightings).await {
                Ok(()) if sightings.send(Sighting::ScanDone { begun }).await.is_ok() => {}
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(%error, "the Pods were not all looked at; the next scan does it again");
                }
            }
        }
    }

    async fn scan(&self, sightings: &mpsc::Sender<Sighting>) -> kube::Result<()> {
        let pods = self.pods();
        let mut parameters = ListParams::default().limit(PAGE);
        loop {
            let page = pods.list(&parameters).await?;
            for pod in &page.items {
                let ended = pod
                    .status
                    .as_ref()
                    .is_some_and(|status| ["Succeeded", "Failed"].contains(&status.phase.as_str()));
                if !ended && self.report(pod, sightings).await.is_err() {
                    return Ok(());
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    async fn report(
        &self,
        pod: &SlimPod,
        sightings: &mpsc::Sender<Sighting>,
    ) -> Result<(), mpsc::error::SendError<Sighting>> {
        let Some(namespace) = pod.namespace() else {
            return Ok(());
        };
        let registries = self.watches.view.registries();
        for secret in &pod.spec.image_pull_secrets {
            let name = registry_of(&secret.name).filter(|name| registries.by_name(name).is_some());
            if let Some(name) = name {
                sightings
                    .send(Sighting::Needed((namespace.clone(), name.to_owned())))
                    .await?;
            }
        }
        Ok(())
    }
}

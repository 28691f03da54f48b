//! Derives from running Pods which namespaces need which registries, and which Pods have no pull secret.
//!
//! One watch delivers every Pod, and the necessary fields are kept in little memory (`kept.rs`), so that checking them
//! again needs no list of all Pods. (`sync/reports`, which is off by default, needs more of each Pod, and reads them
//! again.) Nothing of it is stored, so nothing can be lost: a new leader reads it again.

mod kept;
mod look;
mod stuck;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::Client;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use self::look::{Gone, Look};
use crate::kubernetes::follow::follow;
use crate::kubernetes::pods;
use crate::kubernetes::watch::followed;
use crate::metrics::Metrics;
use crate::policy::scope::Scope;
use crate::sync::failed_pulls::FailedPulls;
use crate::sync::rescue::{self, Proposals, Rescuer};
use crate::sync::watches::Watches;

/// The Pods that pull images, or will. One that ends is deleted, for who watches these.
pub(super) const NOT_ENDED: &str = "status.phase!=Succeeded,status.phase!=Failed";
/// How often what changed is told: gauges are right within this time.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

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
    /// What evicts Pods for which that helps; `None` unless it is enabled.
    pub rescuer: Option<Rescuer>,
    /// Who has pull secrets written again that kubelets can't pull with.
    pub failed_pulls: FailedPulls,
    /// How often all Pods are checked again, in memory.
    pub resync_interval: Duration,
}

impl PodsController {
    /// Watches Pods and the Events of kubelets, until it is dropped.
    pub async fn run(&self, sightings: &mpsc::Sender<Sighting>) {
        let (proposals, backlog) = rescue::channel();
        tokio::join!(
            async {
                // Where nobody takes sightings any more, there is nobody to look for.
                let _ = self.watch(sightings, &proposals).await;
            },
            self.failed_pulls.follow_events(),
            async {
                if let Some(rescuer) = &self.rescuer {
                    Box::pin(rescuer.run(backlog)).await;
                }
            },
        );
    }

    async fn watch(&self, sightings: &mpsc::Sender<Sighting>, proposals: &Proposals) -> Result<(), Gone> {
        let pods = pods::api(self.client.clone(), None);
        let mut events = std::pin::pin!(followed(follow(pods, NOT_ENDED)));
        let mut changes = self.watches.changes();
        let mut resync = tokio::time::interval(self.resync_interval);
        resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tell = tokio::time::interval(TELL_INTERVAL);
        tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = Look::new(self, sightings, proposals);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => look.take(event).await?,
                    None => return Ok(()),
                },
                change = changes.recv() => match change {
                    Ok(change) => look.note(change),
                    Err(RecvError::Lagged(_)) => look.note_everything(),
                    Err(RecvError::Closed) => return Ok(()),
                },
                _ = resync.tick() => look.look_again().await?,
                _ = tell.tick() => look.tell().await?,
            }
        }
    }
}

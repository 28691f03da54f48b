//! A replica in a cluster: caches, the demand writer, and the leader's controllers while it leads.

use std::env;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use kube::Client;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::ServeError;
use super::leader::{Candidate, LeaseNotes};
use crate::admission::demand::{DemandReceiver, DemandSender};
use crate::admission::notices::NoticeReceiver;
use crate::api::pull_secret_metadata::PullSecretMetadata;
use crate::azure::mint::Minter;
use crate::base::causes::causes;
use crate::base::readiness::Readiness;
use crate::certificates::keeper::OwnCertificate;
use crate::metrics::Metrics;
use crate::policy::decision::Settings;
use crate::server::{ServedTls, TlsMaker};
use crate::sync::demand::DemandWriter;
use crate::sync::failed_pulls::FailedPulls;
use crate::sync::fence::Fence;
use crate::sync::index::IndexController;
use crate::sync::minting::bindings::BindingController;
use crate::sync::minting::{Parts, RegistryController, WorkloadIdentityEnv};
use crate::sync::owner_events::write_events;
use crate::sync::pods::PodsController;
use crate::sync::reports::Reporter;
use crate::sync::rescue::Rescuer;
use crate::sync::secrets::{SecretsController, Tallies};
use crate::sync::watches::Watches;
use crate::view::View;

/// How many sightings of Pods wait for the secrets controller.
const SIGHTINGS: usize = 1024;
/// How often the caches are looked at until they are filled.
const FILL_INTERVAL: Duration = Duration::from_millis(50);

/// What a replica needs to serve the certificate that pullpass manages itself.
pub(super) struct ReplicaCertificate {
    pub(super) own: Arc<OwnCertificate>,
    pub(super) served: Arc<ServedTls>,
    pub(super) maker: TlsMaker,
    pub(super) interval: Duration,
}

/// What a replica works with.
pub(super) struct Replica {
    pub(super) client: Client,
    /// None where it comes from files.
    pub(super) own_certificate: Option<ReplicaCertificate>,
    pub(super) own_namespace: String,
    pub(super) settings: Settings,
    pub(super) view: Arc<View>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) minter: Minter,
    pub(super) workload_identity: WorkloadIdentityEnv,
    pub(super) resync_interval: Duration,
    pub(super) emptied_interval: Duration,
    pub(super) chosen: Arc<PullSecretMetadata>,
    pub(super) has_bindings: bool,
    pub(super) has_reports: bool,
    pub(super) evicts_stuck_pods: bool,
    /// Where the leader says which pull secrets kubelets can't pull with.
    pub(super) demand: DemandSender,
}

impl Replica {
    /// Works until `ended`, then gives the Lease back. An error means that the process should end.
    pub(super) async fn run(
        mut self,
        demands: DemandReceiver,
        notices: NoticeReceiver,
        ended: oneshot::Receiver<()>,
    ) -> Result<(), ServeError> {
        let certificate = self.own_certificate.take();
        let own = certificate
            .as_ref()
            .map(|certificate| Arc::clone(&certificate.own));
        let watches = Watches::new(Arc::clone(&self.view)).resynced_every(self.resync_interval);
        let watches = Arc::new(watches);
        let writer = DemandWriter {
            client: self.client.clone(),
            watches: Arc::clone(&watches),
            scope: self.settings.scope.clone(),
            chosen: Arc::clone(&self.chosen),
            metrics: Arc::clone(&self.metrics),
        };
        // Tasks of their own: what the leader does with all namespaces delays no pull secret that a kubelet is about to
        // look for, nor the news that its namespace is there. They end with this value.
        let mut apart = JoinSet::new();
        let (followed, client) = (Arc::clone(&watches), self.client.clone());
        let (own_namespace, readiness) = (self.own_namespace.clone(), Arc::clone(&self.readiness));
        apart.spawn(async move { Box::pin(followed.run(&client, &own_namespace, &readiness)).await });
        apart.spawn(async move { writer.run(demands).await });
        if self.has_bindings {
            let (followed, client) = (Arc::clone(&watches), self.client.clone());
            let readiness = Arc::clone(&self.readiness);
            apart.spawn(async move { followed.run_bindings(&client, &readiness).await });
        } else {
            self.readiness.bindings.store(true, Ordering::Release);
        }
        tokio::select! {
            ended = apart.join_next() => match ended {
                Some(Err(error)) => Err(ServeError::Cluster(causes(&error))),
                Some(Ok(())) | None => Ok(()),
            },
            () = write_events(self.client.clone(), notices) => Ok(()),
            () = follow_certificate(certificate) => Ok(()),
            led = self.stand_and_lead(&watches, own.as_deref(), ended) => led,
        }
    }

    async fn stand_and_lead(
        &self,
        watches: &Arc<Watches>,
        own: Option<&OwnCertificate>,
        mut ended: oneshot::Receiver<()>,
    ) -> Result<(), ServeError> {
        let stood = tokio::select! {
            stood = self.stand() => stood,
            _ = &mut ended => return Ok(()),
        };
        let (mut candidate, notes) = stood;
        tokio::select! {
            never = candidate.lead(|| self.lead(watches, own, &notes), |leads| self.tell(leads)) => match never {},
            _ = ended => {}
        }
        candidate.release().await;
        Ok(())
    }

    /// Runs for the Lease once the caches are filled: a leader with empty caches would delete everything.
    async fn stand(&self) -> (Candidate, LeaseNotes) {
        while !self.readiness.caches_filled() {
            tokio::time::sleep(FILL_INTERVAL).await;
        }
        let notes = LeaseNotes::default();
        let candidate = Candidate::new(&self.client, &self.own_namespace, &identity(), notes.clone());
        (candidate, notes)
    }

    fn tell(&self, leads: bool) {
        tracing::info!(leads, "leadership");
        self.metrics.set_leader(leads);
    }

    async fn lead(&self, watches: &Arc<Watches>, own: Option<&OwnCertificate>, notes: &LeaseNotes) {
        let tallies = Arc::new(Tallies::default());
        let parts = Parts {
            client: self.client.clone(),
            own_namespace: self.own_namespace.clone(),
            watches: Arc::clone(watches),
            minter: self.minter.clone(),
            clock: Arc::new(Timestamp::now),
            workload_identity: self.workload_identity.clone(),
            tallies: Arc::clone(&tallies),
            metrics: Arc::clone(&self.metrics),
        };
        let registries = Arc::new(RegistryController::new(parts));
        let bindings = BindingController::new(
            Arc::clone(&registries),
            self.settings.scope.clone(),
            Arc::clone(&self.chosen),
            self.resync_interval,
        );
        let pods = PodsController {
            client: self.client.clone(),
            watches: Arc::clone(watches),
            scope: self.settings.scope.clone(),
            metrics: Arc::clone(&self.metrics),
            rescuer: (self.evicts_stuck_pods).then(|| {
                Rescuer::new(
                    self.client.clone(),
                    Arc::clone(watches),
                    self.settings.scope.clone(),
                )
            }),
            failed_pulls: FailedPulls::new(
                self.client.clone(),
                Arc::clone(watches),
                self.settings.scope.clone(),
                Arc::clone(&self.metrics),
                self.demand.clone(),
            ),
            resync_interval: self.resync_interval,
        };
        let secrets = SecretsController {
            client: self.client.clone(),
            own_namespace: self.own_namespace.clone(),
            watches: Arc::clone(watches),
            scope: self.settings.scope.clone(),
            chosen: Arc::clone(&self.chosen),
            metrics: Arc::clone(&self.metrics),
            tallies,
            note: Arc::clone(&notes.swept),
            resync_interval: self.resync_interval,
            emptied_interval: self.emptied_interval,
        };
        let fence = Fence {
            client: self.client.clone(),
            metrics: Arc::clone(&self.metrics),
            interval: self.resync_interval,
        };
        let index = IndexController {
            client: self.client.clone(),
            watches: Arc::clone(watches),
            settings: self.settings.clone(),
            metrics: Arc::clone(&self.metrics),
            written: Arc::clone(&notes.index),
            resync_interval: self.resync_interval,
        };
        let reporter = Reporter {
            client: self.client.clone(),
            watches: Arc::clone(watches),
            settings: self.settings.clone(),
            resync_interval: self.resync_interval,
        };
        let reports = async {
            if self.has_reports {
                Box::pin(reporter.run()).await;
            }
        };
        let (sender, sightings) = mpsc::channel(SIGHTINGS);
        let certificate = async {
            if let Some(own) = own {
                own.run().await;
            }
        };
        let bindings = async {
            if self.has_bindings {
                Box::pin(bindings.run()).await;
            }
        };
        tokio::join!(
            registries.run(),
            bindings,
            pods.run(&sender),
            secrets.run(sightings),
            fence.watch(),
            index.run(),
            reports,
            certificate
        );
    }
}

async fn follow_certificate(certificate: Option<ReplicaCertificate>) {
    match certificate {
        Some(ReplicaCertificate {
            own,
            served,
            maker,
            interval,
        }) => own.follow(&served, maker, interval).await,
        None => std::future::pending().await,
    }
}

/// A name that no other process has: the Pod's, and when this process began.
fn identity() -> String {
    let host = env::var("HOSTNAME")
        .or_else(|_| fs::read_to_string("/proc/sys/kernel/hostname"))
        .unwrap_or_default();
    let began = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{}-{:x}-{:x}", host.trim(), std::process::id(), began.as_nanos())
}

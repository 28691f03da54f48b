//! A replica in a cluster: caches, the demand writer, and the leader's controllers while it leads.

use std::env;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use tokio::sync::{mpsc, oneshot};

use crate::admission::demand::DemandReceiver;
use crate::admission::denials::DenialReceiver;
use crate::api::names::MANAGER;
use crate::azure::mint::Minter;
use crate::base::readiness::Readiness;
use crate::certificates::OVERLAP;
use crate::certificates::keeper::OwnCertificate;
use crate::cli::CliError;
use crate::cli::flags::seconds::seconds;
use crate::metrics::Metrics;
use crate::policy::scope::Scope;
use crate::serve::leader::Candidate;
use crate::server::{ServedTls, TlsMaker};
use crate::sync::demand::DemandWriter;
use crate::sync::denial_events::write_events;
use crate::sync::fence::Fence;
use crate::sync::minting::{Parts, RegistryController, Surroundings};
use crate::sync::pods::PodsController;
use crate::sync::rescue::Rescuer;
use crate::sync::secrets::{SecretsController, Tallies};
use crate::sync::watches::Watches;
use crate::view::View;

/// How many sightings of Pods wait for the secrets controller.
const SIGHTINGS: usize = 1024;
/// How often the caches are looked at until they are filled.
const FILLING: Duration = Duration::from_millis(50);

/// What is done about Pods that are stuck.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Rescue {
    /// Nothing: they are counted
    #[default]
    Off,
    /// Eviction
    Evict,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct ClusterFlags {
    /// How often all Pods are looked at and every pull secret is written again, which mends what was deleted or edited
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds, env = "PULLPASS_RESYNC_INTERVAL")]
    pub(super) resync_interval: Duration,
    /// What to do about Pods that were admitted without their pull secret and never started: evict those whose
    /// controller makes others and does not count them as failures. It needs the right of the component rescue
    #[arg(long, value_enum, default_value_t, env = "PULLPASS_RESCUE")]
    pub(super) rescue: Rescue,
    /// The webhook configuration that is told which certificate authority to trust, unless --tls-cert is given
    #[arg(long, value_name = "NAME", default_value = MANAGER, env = "PULLPASS_WEBHOOK_CONFIGURATION")]
    webhook_configuration: String,
    /// How long a new certificate authority is trusted before it signs, and the old one after
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds, env = "PULLPASS_CA_OVERLAP")]
    ca_overlap: Duration,
}

impl ClusterFlags {
    /// The certificate that pullpass looks after itself.
    pub(super) fn own_certificate(&self, client: &Client, own_namespace: &str) -> Arc<OwnCertificate> {
        let overlap = SignedDuration::try_from(self.ca_overlap).unwrap_or(OVERLAP);
        let clock = Arc::new(Timestamp::now);
        let configuration = &self.webhook_configuration;
        Arc::new(OwnCertificate::new(
            client.clone(),
            own_namespace,
            configuration,
            overlap,
            clock,
        ))
    }
}

/// The cluster that the process runs in, or that `KUBECONFIG` names.
pub(super) async fn client() -> Result<Client, CliError> {
    Client::try_default()
        .await
        .map_err(|error| CliError::Cluster(error.to_string()))
}

/// What a replica needs to serve the certificate that pullpass looks after itself.
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
    pub(super) scope: Scope,
    pub(super) view: Arc<View>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) minter: Minter,
    pub(super) resync: Duration,
    pub(super) rescue: Rescue,
}

impl Replica {
    /// Works until `ended`, then gives the Lease back. An error means that the process should end.
    pub(super) async fn run(
        mut self,
        demands: DemandReceiver,
        denied: DenialReceiver,
        ended: oneshot::Receiver<()>,
    ) -> Result<(), CliError> {
        let certificate = self.own_certificate.take();
        let own = certificate
            .as_ref()
            .map(|certificate| Arc::clone(&certificate.own));
        let watches = Arc::new(Watches::new(Arc::clone(&self.view)));
        let writer = DemandWriter {
            client: self.client.clone(),
            watches: Arc::clone(&watches),
            scope: self.scope.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        tokio::select! {
            () = watches.run(&self.client, &self.own_namespace, &self.readiness) => Ok(()),
            () = writer.run(demands) => Ok(()),
            () = write_events(self.client.clone(), denied) => Ok(()),
            () = follow_certificate(certificate) => Ok(()),
            led = self.stand_and_lead(&watches, own.as_deref(), ended) => led,
        }
    }

    async fn stand_and_lead(
        &self,
        watches: &Arc<Watches>,
        own: Option<&OwnCertificate>,
        mut ended: oneshot::Receiver<()>,
    ) -> Result<(), CliError> {
        let stood = tokio::select! {
            stood = self.stand() => stood,
            _ = &mut ended => return Ok(()),
        };
        let mut candidate = stood;
        tokio::select! {
            never = candidate.lead(|| self.lead(watches, own), |leads| self.tell(leads)) => match never {},
            _ = ended => {}
        }
        candidate.release().await;
        Ok(())
    }

    /// Runs for the Lease once the caches are filled: who leads from empty caches would take everything away.
    async fn stand(&self) -> Candidate {
        while !self.readiness.caches_filled() {
            tokio::time::sleep(FILLING).await;
        }
        Candidate::new(&self.client, &self.own_namespace, &identity())
    }

    fn tell(&self, leads: bool) {
        tracing::info!(leads, "leadership");
        self.metrics.leads(leads);
    }

    async fn lead(&self, watches: &Arc<Watches>, own: Option<&OwnCertificate>) {
        let tallies = Arc::new(Tallies::default());
        let parts = Parts {
            client: self.client.clone(),
            own_namespace: self.own_namespace.clone(),
            watches: Arc::clone(watches),
            minter: self.minter.clone(),
            clock: Arc::new(Timestamp::now),
            surroundings: Surroundings {
                tenant_id: env::var("AZURE_TENANT_ID").ok(),
                client_id: env::var("AZURE_CLIENT_ID").ok(),
                token_file: env::var_os("AZURE_FEDERATED_TOKEN_FILE").map(Into::into),
            },
            tallies: Arc::clone(&tallies),
            metrics: Arc::clone(&self.metrics),
        };
        let registries = Arc::new(RegistryController::new(parts));
        let pods = PodsController {
            client: self.client.clone(),
            watches: Arc::clone(watches),
            scope: self.scope.clone(),
            metrics: Arc::clone(&self.metrics),
            rescuer: (self.rescue == Rescue::Evict)
                .then(|| Rescuer::new(self.client.clone(), Arc::clone(watches), self.scope.clone())),
            resync: self.resync,
        };
        let secrets = SecretsController {
            client: self.client.clone(),
            own_namespace: self.own_namespace.clone(),
            watches: Arc::clone(watches),
            scope: self.scope.clone(),
            metrics: Arc::clone(&self.metrics),
            tallies,
            resync: self.resync,
        };
        let fence = Fence {
            client: self.client.clone(),
            metrics: Arc::clone(&self.metrics),
            interval: self.resync,
        };
        let (sender, sightings) = mpsc::channel(SIGHTINGS);
        let certificate = async {
            if let Some(own) = own {
                own.run().await;
            }
        };
        tokio::join!(
            registries.run(),
            pods.run(&sender),
            secrets.run(sightings),
            fence.watch(),
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

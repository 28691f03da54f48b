//! The parts of a process: how they are built, what runs until the end, and in which order they end.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use jiff::Timestamp;
use kube::Client;
use tokio::signal::unix::SignalKind;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use super::ServeError;
use super::azure_requests::AzureRequests;
use super::log_filter::LogFilter;
use super::options::{ClusterOptions, Options, Source};
use super::replica::{Replica, ReplicaCertificate};
use super::shutdown::{listen_for, shutdown_requested};
use crate::admission::{Admission, ClusterSenders, demand, notices};
use crate::audit::AuditLog;
use crate::base::causes::causes;
use crate::base::readiness::Readiness;
use crate::certificates::keeper::OwnCertificate;
use crate::http::RequestObserver;
use crate::kubernetes::client::inferred;
use crate::metrics::Metrics;
use crate::registry::other_cloud::OtherCloud;
use crate::server::{
    Limits, ListenError, ServedTls, Server, TlsError, TlsReloader, Webhook, admin_router, webhook_router,
};
use crate::sync::minting::WorkloadIdentityEnv;
use crate::view::View;
use crate::view::manifests::{self, Manifests};

/// How long giving the Lease back may take.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// What feeds the caches: files, or the watches of a replica.
type Feeding = JoinHandle<Result<(), ServeError>>;

/// A process that is ready to run.
pub(super) struct Process {
    shared: Shared,
    sockets: Sockets,
    served: Arc<ServedTls>,
    reloader: Option<TlsReloader>,
    reload_interval: Duration,
    shutdown_delay: Duration,
    log: LogFilter,
    routes: Router,
    feeding: Feeding,
    /// Dropped where what feeds the caches is to end.
    ended: oneshot::Sender<()>,
}

impl Process {
    /// Puts the parts together. The sockets listen from now on, and what feeds the caches has begun.
    pub(super) async fn build(options: Options) -> Result<Self, ServeError> {
        let Options {
            listen,
            metrics_listen,
            tls_files,
            tls_maker,
            reload_interval,
            max_concurrent,
            shutdown_delay,
            settings,
            own_namespace,
            source,
            other_cloud,
            audit,
            log,
        } = options;
        let shared = Shared::new(audit, other_cloud);
        let served = Arc::new(ServedTls::new(
            Arc::clone(&shared.metrics),
            Arc::clone(&shared.readiness),
        ));
        let reloader = tls_files.map(|files| open(files, &served)).transpose()?;
        let sockets = Sockets::bind(listen, metrics_listen, &shared.metrics)?;
        tracing::info!(
            webhook = %sockets.webhook.address(),
            metrics = %sockets.admin.address(),
            mode = settings.scope.mode().as_str(),
            version = env!("CARGO_PKG_VERSION"),
            "pullpass serves"
        );
        let admission = Admission::new(
            Arc::clone(&shared.view),
            settings.clone(),
            Arc::clone(&shared.audit),
            Arc::clone(&shared.metrics),
        );
        let (ended, until_ended) = oneshot::channel::<()>();
        let (admission, feeding) = match source {
            Source::Manifests(directory) => {
                let feeding = shared.feed_from_manifests(directory, reload_interval, until_ended)?;
                (admission, feeding)
            }
            Source::Cluster(cluster) => {
                let client = kube_client().await?;
                let own_certificate = reloader.is_none().then(|| ReplicaCertificate {
                    own: own_certificate(&client, &own_namespace, &cluster),
                    served: Arc::clone(&served),
                    maker: tls_maker,
                    interval: reload_interval,
                });
                let (demand, demands) = demand::channel(Arc::clone(&shared.metrics));
                let (notices, to_owners) = notices::channel(Arc::clone(&shared.metrics));
                let admission = admission
                    .in_cluster(ClusterSenders {
                        demand: demand.clone(),
                        notices,
                    })
                    .asking(client.clone(), cluster.has_bindings);
                let observer: Arc<dyn RequestObserver> = Arc::new(AzureRequests(Arc::clone(&shared.metrics)));
                let replica = Replica {
                    client,
                    own_certificate,
                    own_namespace,
                    settings,
                    view: Arc::clone(&shared.view),
                    metrics: Arc::clone(&shared.metrics),
                    readiness: Arc::clone(&shared.readiness),
                    minter: cluster.minter.observed_by(&observer),
                    workload_identity: workload_identity_env(),
                    resync_interval: cluster.resync_interval,
                    emptied_interval: cluster.emptied_interval,
                    chosen: Arc::clone(&cluster.pull_secret_metadata),
                    has_bindings: cluster.has_bindings,
                    has_reports: cluster.has_reports,
                    evicts_stuck_pods: cluster.evicts_stuck_pods,
                    demand,
                };
                (
                    admission,
                    tokio::spawn(replica.run(demands, to_owners, until_ended)),
                )
            }
        };
        let webhook = Webhook::new(admission, max_concurrent, Arc::clone(&shared.readiness));
        Ok(Self {
            shared,
            sockets,
            served,
            reloader,
            reload_interval,
            shutdown_delay,
            log,
            routes: webhook_router(webhook),
            feeding,
            ended,
        })
    }

    /// Serves until a signal asks for the end, and what is in flight is answered.
    pub(super) async fn run(self) -> Result<(), ServeError> {
        let Self {
            shared,
            sockets,
            served,
            reloader,
            reload_interval,
            shutdown_delay,
            log,
            routes,
            mut feeding,
            ended,
        } = self;
        let answering = sockets.answer(routes, &shared, &served, shutdown_delay);
        let following = async {
            tokio::join!(
                follow(reloader, reload_interval, &served),
                reopen_on_hangup(&shared.audit),
                log.follow(reload_interval),
            )
        };
        tokio::select! {
            answered = answering => answered?,
            fed = &mut feeding => return Err(ended_early(fed)),
            _ = following => {}
        }
        shut_down(ended, feeding).await;
        Ok(())
    }
}

/// Has what feeds the caches end. The Lease is released, so that the next leader need not wait until it expires.
async fn shut_down(ended: oneshot::Sender<()>, feeding: Feeding) {
    drop(ended);
    if tokio::time::timeout(RELEASE_TIMEOUT, feeding).await.is_err() {
        tracing::warn!("the Lease was not released in time; it expires by itself");
    }
    tracing::info!("shut down");
}

/// What every part of the process shares.
struct Shared {
    audit: Arc<AuditLog>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    view: Arc<View>,
}

impl Shared {
    fn new(audit: AuditLog, other_cloud: OtherCloud) -> Self {
        let audit = Arc::new(audit);
        let dropped = Arc::clone(&audit);
        Self {
            audit,
            metrics: Arc::new(Metrics::new(move || dropped.dropped())),
            readiness: Arc::new(Readiness::default()),
            view: Arc::new(View::new(other_cloud)),
        }
    }

    /// Fills the view from a directory, and follows it until `ended`.
    fn feed_from_manifests(
        &self,
        directory: PathBuf,
        interval: Duration,
        ended: oneshot::Receiver<()>,
    ) -> Result<Feeding, ServeError> {
        Manifests::read(&directory, self.view.other_cloud())?.publish(&self.view);
        self.readiness.fill_caches();
        let view = Arc::clone(&self.view);
        Ok(tokio::spawn(async move {
            tokio::select! {
                () = manifests::follow(&directory, &view, interval) => {}
                _ = ended => {}
            }
            Ok(())
        }))
    }
}

/// The two sockets that are listened on.
struct Sockets {
    webhook: Server,
    admin: Server,
}

impl Sockets {
    fn bind(
        listen: SocketAddr,
        metrics_listen: SocketAddr,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ListenError> {
        let limits = Limits::default();
        Ok(Self {
            webhook: Server::bind(listen, limits)?.counted(Arc::clone(metrics)),
            admin: Server::bind(metrics_listen, limits)?,
        })
    }

    /// Answers until a signal asks for the end, and what is in flight is answered.
    async fn answer(
        self,
        routes: Router,
        shared: &Shared,
        served: &ServedTls,
        shutdown_delay: Duration,
    ) -> Result<(), ServeError> {
        let Self { webhook, admin } = self;
        let (shut_down_webhook, shut_down_admin) = (webhook.shutdown_handle(), admin.shutdown_handle());
        let answering = async {
            tokio::try_join!(
                async {
                    match served.first().await {
                        Some(config) => webhook.serve_tls(config, routes).await,
                        None => Ok(()),
                    }
                },
                admin.serve_plain(admin_router(
                    Arc::clone(&shared.readiness),
                    Arc::clone(&shared.metrics)
                )),
            )
        };
        let ending = async {
            shutdown_requested(&shared.readiness, shutdown_delay).await?;
            served.shut_down();
            shut_down_webhook();
            shut_down_admin();
            Ok::<_, ServeError>(())
        };
        tokio::try_join!(async { answering.await.map_err(ServeError::from) }, ending)?;
        Ok(())
    }
}

/// The cluster that the process runs in, or that `KUBECONFIG` names.
async fn kube_client() -> Result<Client, ServeError> {
    inferred()
        .await
        // It says its causes itself, without what of them may be a secret.
        .map_err(|error| ServeError::Cluster(error.to_string()))
}

/// The certificate that pullpass keeps itself.
fn own_certificate(client: &Client, own_namespace: &str, options: &ClusterOptions) -> Arc<OwnCertificate> {
    Arc::new(OwnCertificate::new(
        client.clone(),
        own_namespace,
        &options.webhook_configuration,
        options.ca_overlap,
        Arc::new(Timestamp::now),
    ))
}

/// What Azure Workload Identity puts into the environment of its Pods.
fn workload_identity_env() -> WorkloadIdentityEnv {
    WorkloadIdentityEnv {
        tenant_id: env::var("AZURE_TENANT_ID").ok(),
        client_id: env::var("AZURE_CLIENT_ID").ok(),
        token_file: env::var_os("AZURE_FEDERATED_TOKEN_FILE").map(Into::into),
    }
}

/// Serves what the files hold.
fn open(files: crate::server::TlsFiles, served: &ServedTls) -> Result<TlsReloader, TlsError> {
    let (reloader, certificate) = TlsReloader::open(files)?;
    served.begin(reloader.served(), &certificate);
    Ok(reloader)
}

/// Serves what the files hold later, where there are files.
async fn follow(reloader: Option<TlsReloader>, interval: Duration, served: &ServedTls) {
    match reloader {
        Some(reloader) => {
            reloader
                .run(interval, |certificate| served.tell(certificate))
                .await;
        }
        None => std::future::pending().await,
    }
}

/// What feeds the caches has ended though nothing asked it to: the process ends too, and is restarted.
fn ended_early(fed: Result<Result<(), ServeError>, JoinError>) -> ServeError {
    match fed {
        Ok(Err(error)) => error,
        Ok(Ok(())) => ServeError::Cluster("the watches ended unexpectedly".to_owned()),
        Err(error) => ServeError::Cluster(causes(&error)),
    }
}

async fn reopen_on_hangup(audit: &AuditLog) {
    let Ok(mut hangup) = listen_for(SignalKind::hangup()) else {
        return std::future::pending().await;
    };
    while hangup.recv().await.is_some() {
        tracing::info!("reopened the audit log");
        audit.reopen();
    }
}

//! `pullpass serve`: puts the parts together, and takes them apart again in order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::admission::{Admission, ClusterSenders};
use crate::admission::{demand, denials};
use crate::audit::AuditLog;
use crate::base::readiness::Readiness;
use crate::cli::cluster::{self, ClusterFlags, Replica, ReplicaCertificate};
use crate::cli::flags::audit_log::AuditFlags;
use crate::cli::flags::azure::AzureFlags;
use crate::cli::flags::decisions::DecisionFlags;
use crate::cli::flags::log::{LogFilter, LogFlags};
use crate::cli::flags::seconds::seconds;
use crate::cli::flags::tls::{self, TlsFlags};
use crate::cli::{CliError, block_on};
use crate::metrics::Metrics;
use crate::server::{Limits, ServedTls, Server, Webhook, admin_router, webhook_router};
use crate::view::View;
use crate::view::manifests::{self, Manifests};

/// Run the webhook and, in a cluster, the controllers that keep pull secrets.
///
/// With --manifests it needs no cluster: AcrRegistry and Namespace objects are read from YAML files, and read again
/// when they change. Admission and the audit log work as they do in a cluster; no Secret is written.
///
/// Exit code: 0 after SIGTERM or SIGINT; 1 if it can't start or can't go on; 2 for bad input.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  pullpass serve\n  pullpass serve --manifests ./cluster --tls-cert tls.crt --tls-key tls.key"
)]
pub(super) struct ServeArgs {
    /// Read AcrRegistry and Namespace objects from the YAML files in this directory, and use no cluster
    #[arg(long, value_name = "DIR", env = "PULLPASS_MANIFESTS")]
    manifests: Option<PathBuf>,
    /// Where the webhook listens
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8443",
        env = "PULLPASS_LISTEN"
    )]
    listen: SocketAddr,
    /// Where health and metrics listen, without TLS
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080",
        env = "PULLPASS_METRICS_LISTEN"
    )]
    metrics_listen: SocketAddr,
    #[command(flatten)]
    tls: TlsFlags,
    /// How often certificate, manifests and the log's filter are looked at for changes
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds, env = "PULLPASS_RELOAD_INTERVAL")]
    reload_interval: Duration,
    /// How many reviews are worked on at once; more wait
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..), env = "PULLPASS_MAX_CONCURRENT")]
    max_concurrent: u16,
    /// How long requests are still taken after SIGTERM, until nobody sends any more
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, env = "PULLPASS_SHUTDOWN_DELAY")]
    shutdown_delay: Duration,
    #[command(flatten)]
    audit: AuditFlags,
    #[command(flatten)]
    decisions: DecisionFlags,
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    azure: AzureFlags,
    #[command(flatten)]
    log: LogFlags,
}

/// How long giving the Lease back may take.
const RELEASE: Duration = Duration::from_secs(5);

pub(super) fn run(args: ServeArgs) -> Result<ExitCode, CliError> {
    let log = args.log.start()?;
    block_on(serve(args, log))?
}

async fn serve(args: ServeArgs, log: LogFilter) -> Result<ExitCode, CliError> {
    let audit = Arc::new(args.audit.open(&args.azure)?);
    let dropped = Arc::clone(&audit);
    let metrics = Arc::new(Metrics::new(move || dropped.dropped()));
    let readiness = Arc::new(Readiness::default());
    let view = Arc::new(View::default());

    let served = Arc::new(ServedTls::new(Arc::clone(&metrics), Arc::clone(&readiness)));
    let files = args.tls.files(args.manifests.is_some());
    let reloader = files.map(|files| tls::open(files, &served)).transpose()?;
    let limits = Limits::default();
    let webhook_server = Server::bind(args.listen, limits)?;
    let admin_server = Server::bind(args.metrics_listen, limits)?;
    tracing::info!(
        webhook = %webhook_server.address(),
        metrics = %admin_server.address(),
        mode = args.decisions.mode.as_str(),
        version = env!("CARGO_PKG_VERSION"),
        "pullpass serves"
    );

    let settings = args.decisions.settings();
    let admission = Admission::new(
        Arc::clone(&view),
        settings.clone(),
        Arc::clone(&audit),
        Arc::clone(&metrics),
    );
    let (ended, ending_source) = oneshot::channel::<()>();
    let (admission, mut source) = if let Some(directory) = args.manifests {
        Manifests::read(&directory)?.publish(&view);
        readiness.registries.store(true, Ordering::Release);
        readiness.namespaces.store(true, Ordering::Release);
        let following = follow_manifests(directory, Arc::clone(&view), args.reload_interval, ending_source);
        (admission, tokio::spawn(following))
    } else {
        let (demand, demands) = demand::channel();
        let (denials, denied) = denials::channel();
        let client = cluster::client().await?;
        let own_certificate = reloader.is_none().then(|| ReplicaCertificate {
            own: args.cluster.own_certificate(&client, &args.decisions.namespace),
            served: Arc::clone(&served),
            maker: args.tls.maker(),
            interval: args.reload_interval,
        });
        let replica = Replica {
            client,
            own_certificate,
            own_namespace: args.decisions.namespace.clone(),
            scope: settings.scope,
            view: Arc::clone(&view),
            metrics: Arc::clone(&metrics),
            readiness: Arc::clone(&readiness),
            minter: args.azure.minter()?,
            resync: args.cluster.resync_interval,
            rescue: args.cluster.rescue,
        };
        (
            admission.in_cluster(ClusterSenders { demand, denials }),
            tokio::spawn(replica.run(demands, denied, ending_source)),
        )
    };
    let at_once = usize::from(args.max_concurrent);
    let routes = webhook_router(Webhook::new(admission, at_once, Arc::clone(&readiness)));
    let end = (webhook_server.ender(), admin_server.ender());
    let answering = async {
        tokio::try_join!(
            async {
                match served.first().await {
                    Some(config) => webhook_server.serve_tls(config, routes).await,
                    None => Ok(()),
                }
            },
            admin_server.serve_plain(admin_router(Arc::clone(&readiness), Arc::clone(&metrics))),
        )
    };
    let following = async {
        tokio::join!(
            tls::follow(reloader, args.reload_interval, &served),
            reopen_on_hangup(&audit),
            log.follow(args.reload_interval),
        )
    };
    let ending = async {
        told_to_end(&readiness, args.shutdown_delay).await?;
        served.end();
        end.0();
        end.1();
        Ok::<_, CliError>(())
    };
    tokio::select! {
        served = async { tokio::try_join!(async { answering.await.map_err(CliError::from) }, ending) } => { served?; }
        source = &mut source => return Err(ended_early(source)),
        _ = following => {}
    }
    // Whoever leads gives the Lease back, so that the next one need not wait.
    drop(ended);
    if tokio::time::timeout(RELEASE, source).await.is_err() {
        tracing::warn!("the Lease was not given back in time; it ends by itself");
    }
    tracing::info!("ended");
    Ok(ExitCode::SUCCESS)
}

/// Waits for a signal, and then until requests have had time to go elsewhere.
async fn told_to_end(readiness: &Readiness, delay: Duration) -> Result<(), CliError> {
    let name = Ends::new()?.next().await;
    tracing::info!(
        signal = name,
        ?delay,
        "told to end: not ready from now on, still serving"
    );
    readiness.ending.store(true, Ordering::Release);
    tokio::time::sleep(delay).await;
    tracing::info!("what is being answered is answered, then this ends");
    Ok(())
}

/// The signals that end the program.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    fn new() -> Result<Self, CliError> {
        Ok(Self {
            terminate: listen_for(SignalKind::terminate())?,
            interrupt: listen_for(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn listen_for(kind: SignalKind) -> Result<Signal, CliError> {
    signal(kind).map_err(|error| CliError::Io {
        what: "a signal can't be listened for",
        error,
    })
}

/// What feeds the caches has ended though nobody asked it to: the process ends too, and is started anew.
fn ended_early(source: Result<Result<(), CliError>, tokio::task::JoinError>) -> CliError {
    match source {
        Ok(Err(error)) => error,
        Ok(Ok(())) => CliError::Cluster("what watches it ended by itself".to_owned()),
        Err(error) => CliError::Cluster(error.to_string()),
    }
}

async fn follow_manifests(
    directory: PathBuf,
    view: Arc<View>,
    interval: Duration,
    ended: oneshot::Receiver<()>,
) -> Result<(), CliError> {
    tokio::select! {
        () = manifests::follow(&directory, &view, interval) => {}
        _ = ended => {}
    }
    Ok(())
}

async fn reopen_on_hangup(audit: &AuditLog) {
    let Ok(mut hangup) = listen_for(SignalKind::hangup()) else {
        return std::future::pending().await;
    };
    while hangup.recv().await.is_some() {
        tracing::info!("the audit log is opened again");
        audit.reopen();
    }
}

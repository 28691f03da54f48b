//! `pullpass serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli::flags::audit_log::AuditFlags;
use crate::cli::flags::azure::AzureFlags;
use crate::cli::flags::cluster::ClusterFlags;
use crate::cli::flags::decisions::DecisionFlags;
use crate::cli::flags::log::LogFlags;
use crate::cli::flags::seconds::seconds;
use crate::cli::flags::tls::TlsFlags;
use crate::cli::{CliError, block_on};
use crate::serve::{self, LogFilter, Options, Source};

/// Run the webhook and, in a cluster, the controllers that keep pull secrets.
///
/// With --manifests it needs no cluster: AcrRegistry and Namespace objects are read from YAML files, and read again
/// when they change. Admission and the audit log work as they do in a cluster; no Secret is written.
///
/// A second SIGTERM or SIGINT ends it immediately: requests in flight and audit records that are not written are lost.
///
/// Exit code: 0 after SIGTERM or SIGINT; 143 or 130 after a second one; 1 if it can't start or can't continue; 2 for bad
/// input.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  pullpass serve\n  pullpass serve --manifests ./cluster --tls-cert tls.crt --tls-key tls.key"
)]
pub(super) struct ServeArgs {
    /// Read AcrRegistry, AcrPullBinding, Namespace and ServiceAccount objects from the YAML files in this directory, and use no
    /// cluster
    #[arg(long, value_name = "DIR", env = "PULLPASS_MANIFESTS")]
    manifests: Option<PathBuf>,
    /// The address on which the webhook listens; [::] is every address, including those of IPv4
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "[::]:8443",
        env = "PULLPASS_LISTEN"
    )]
    listen: SocketAddr,
    /// The address of health checks and metrics, without TLS; [::] is every address, including those of IPv4
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "[::]:8080",
        env = "PULLPASS_METRICS_LISTEN"
    )]
    metrics_listen: SocketAddr,
    #[command(flatten)]
    tls: TlsFlags,
    /// How often certificate, manifests and the log's filter are checked for changes
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = seconds, env = "PULLPASS_RELOAD_INTERVAL")]
    reload_interval: Duration,
    /// How many reviews are worked on concurrently; further ones wait
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..), env = "PULLPASS_MAX_CONCURRENT")]
    max_concurrent: u16,
    /// How long pullpass still accepts requests after SIGTERM, so that clients stop sending them
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = seconds, env = "PULLPASS_SHUTDOWN_DELAY")]
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

pub(super) fn run(args: ServeArgs) -> Result<ExitCode, CliError> {
    let log = args.log.start()?;
    // A runtime is there already: the audit log's collector is sent to from a task.
    block_on(async {
        serve::serve(args.options(log)?).await?;
        Ok(ExitCode::SUCCESS)
    })?
}

impl ServeArgs {
    fn options(self, log: LogFilter) -> Result<Options, CliError> {
        let audit = self.audit.open(&self.azure)?;
        Ok(Options {
            listen: self.listen,
            metrics_listen: self.metrics_listen,
            tls_files: self.tls.files(self.manifests.is_some()),
            tls_maker: self.tls.maker(),
            reload_interval: self.reload_interval,
            max_concurrent: usize::from(self.max_concurrent),
            shutdown_delay: self.shutdown_delay,
            settings: self.decisions.settings(),
            own_namespace: self.decisions.own_namespace.as_str().to_owned(),
            source: match self.manifests {
                Some(directory) => Source::Manifests(directory),
                None => Source::Cluster(Box::new(self.cluster.options(self.azure.minter()?)?)),
            },
            other_cloud: self.azure.other_cloud(),
            audit,
            log,
        })
    }
}

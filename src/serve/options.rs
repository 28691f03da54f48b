//! What `serve` is told, as it is meant: flags are parsed in `cli`, which builds this.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::LogFilter;
use crate::api::pull_secret_metadata::PullSecretMetadata;
use crate::audit::AuditLog;
use crate::azure::mint::Minter;
use crate::policy::decision::Settings;
use crate::registry::other_cloud::OtherCloud;
use crate::server::{TlsFiles, TlsMaker};

/// All settings of a process that serves.
#[derive(Debug)]
pub struct Options {
    /// Where the webhook listens.
    pub listen: SocketAddr,
    /// Where health and metrics listen, without TLS.
    pub metrics_listen: SocketAddr,
    /// The files of the serving certificate; `None` if pullpass manages a certificate of its own.
    pub tls_files: Option<TlsFiles>,
    /// What makes a certificate that can be served when it is not in files.
    pub tls_maker: TlsMaker,
    /// How often certificate, manifests and the log's filter are read again.
    pub reload_interval: Duration,
    /// How many reviews are worked on concurrently.
    pub max_concurrent: usize,
    /// How long requests are still accepted after SIGTERM.
    pub shutdown_delay: Duration,
    /// What decisions depend on.
    pub settings: Settings,
    /// The namespace that pullpass runs in.
    pub own_namespace: String,
    /// Where registries and namespaces come from.
    pub source: Source,
    /// What is known of another cloud than Azure's own: no secret is sent to a host of any further one.
    pub other_cloud: OtherCloud,
    /// Where decisions are recorded.
    pub audit: AuditLog,
    /// What is logged.
    pub log: LogFilter,
}

/// Where registries and namespaces come from.
#[derive(Debug)]
pub enum Source {
    /// The YAML files of a directory: admission and audit only.
    Manifests(PathBuf),
    /// A cluster, in which pull secrets are kept as well.
    Cluster(Box<ClusterOptions>),
}

/// The settings of a replica in a cluster.
#[derive(Debug)]
pub struct ClusterOptions {
    /// What mints credentials.
    pub minter: Minter,
    /// How often all Pods are read and every pull secret is written again.
    pub resync_interval: Duration,
    /// Whether `AcrPullBindings` are carried out.
    pub has_bindings: bool,
    /// Whether Reports of openreports.io are kept.
    pub has_reports: bool,
    /// Whether Pods that are stuck without their pull secret are evicted, or only counted.
    pub evicts_stuck_pods: bool,
    /// The webhook configuration whose `caBundle` is set.
    pub webhook_configuration: String,
    /// How long a new certificate authority is trusted before it signs, and the old one after it has signed.
    pub ca_overlap: SignedDuration,
    /// How long the emptied credential of a detached registry is kept.
    pub emptied_interval: Duration,
    /// What every pull secret has besides what pullpass itself writes there.
    pub pull_secret_metadata: Arc<PullSecretMetadata>,
}

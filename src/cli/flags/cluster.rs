//! Flags of a replica in a cluster.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use crate::api::names::MANAGER;
use crate::api::pull_secret_metadata::{ChosenEntries, PullSecretMetadata};
use crate::azure::mint::Minter;
use crate::certificates::OVERLAP;
use crate::cli::CliError;
use crate::cli::flags::seconds::seconds;
use crate::serve::ClusterOptions;
use crate::sync::stored::EMPTIED_INTERVAL;

/// What is done about Pods that are stuck.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Rescue {
    /// Only count them
    #[default]
    Off,
    /// Evict them
    Evict,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cluster")]
pub(in crate::cli) struct ClusterFlags {
    /// How often the leader checks all Pods and writes every pull secret again, which restores those that were deleted
    /// or edited without a kubelet's report
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = seconds, env = "PULLPASS_RESYNC_INTERVAL")]
    resync_interval: Duration,
    /// What to do about Pods that were admitted without their pull secret and never started: evict those whose
    /// controller replaces them and does not count that as a failure. It needs the right of the component rescue
    #[arg(long, value_enum, default_value_t, env = "PULLPASS_RESCUE")]
    rescue: Rescue,
    /// Serve AcrPullBindings, with which namespaces pull with their own identities. It needs the component bindings
    #[arg(long, env = "PULLPASS_BINDINGS")]
    bindings: bool,
    /// Keep Reports of openreports.io about the state of workloads, one for each workload. It needs the component reports
    #[arg(long, env = "PULLPASS_REPORTS")]
    reports: bool,
    /// Labels that every pull secret gets in addition to pullpass' own, if policies of the cluster require some
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = ChosenEntries::parse_labels, env = "PULLPASS_PULL_SECRET_LABELS")]
    pull_secret_labels: Vec<ChosenEntries>,
    /// Annotations that every pull secret gets in addition to pullpass' own, one on each line or by each flag
    #[arg(long, value_name = "KEY=VALUE", value_parser = ChosenEntries::parse_annotations, env = "PULLPASS_PULL_SECRET_ANNOTATIONS")]
    pull_secret_annotations: Vec<ChosenEntries>,
    /// The webhook configuration whose caBundle pullpass sets to its own certificate authority, unless --tls-cert is given
    #[arg(long, value_name = "NAME", default_value = MANAGER, env = "PULLPASS_WEBHOOK_CONFIGURATION")]
    webhook_configuration: String,
    /// How long a new certificate authority is trusted before it signs, and the old one after it has signed
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = seconds, env = "PULLPASS_CA_OVERLAP")]
    ca_overlap: Duration,
    /// How long the emptied credential of a detached registry is kept; shorter than the default is only for tests,
    /// since the watch of a replica may be behind for so long
    #[arg(long, hide = true, value_name = "DURATION", value_parser = seconds)]
    emptied_interval: Option<Duration>,
}

impl ClusterFlags {
    /// The settings of a replica in a cluster.
    pub(in crate::cli) fn options(&self, minter: Minter) -> Result<ClusterOptions, CliError> {
        let Self {
            resync_interval,
            rescue,
            bindings,
            reports,
            pull_secret_labels,
            pull_secret_annotations,
            webhook_configuration,
            ca_overlap,
            emptied_interval,
        } = self;
        let metadata = PullSecretMetadata::new(pull_secret_labels.clone(), pull_secret_annotations.clone());
        let metadata = metadata.map_err(|error| {
            CliError::Input(format!(
                "--pull-secret-labels or --pull-secret-annotations: {error}"
            ))
        })?;
        Ok(ClusterOptions {
            minter,
            resync_interval: *resync_interval,
            has_bindings: *bindings,
            has_reports: *reports,
            evicts_stuck_pods: *rescue == Rescue::Evict,
            webhook_configuration: webhook_configuration.clone(),
            ca_overlap: SignedDuration::try_from(*ca_overlap).unwrap_or(OVERLAP),
            emptied_interval: emptied_interval.unwrap_or(EMPTIED_INTERVAL),
            pull_secret_metadata: Arc::new(metadata),
        })
    }
}

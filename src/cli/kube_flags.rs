//! Which cluster a command talks to, as kubectl's own flags say it.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::CliError;

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct KubeFlags {
    /// The kubeconfig file, instead of $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context, instead of its current one
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(contexts))]
    context: Option<String>,
}

/// What --context can be, as far as the files that are read without --kubeconfig say.
fn contexts() -> Vec<CompletionCandidate> {
    let kubeconfig = Kubeconfig::read().unwrap_or_default();
    let names = kubeconfig.contexts.into_iter().map(|context| context.name);
    names.map(CompletionCandidate::new).collect()
}

impl KubeFlags {
    /// A client of that cluster.
    pub(super) async fn client(&self) -> Result<Client, CliError> {
        let problem = |error: &dyn Error| {
            CliError::Cluster(format!(
                "{}. Name one with --kubeconfig and --context",
                causes(error)
            ))
        };
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = match &self.kubeconfig {
            Some(path) => {
                let kubeconfig = Kubeconfig::read_from(path).map_err(|error| problem(&error))?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        };
        let config = config.map_err(|error| problem(&error))?;
        Client::try_from(config).map_err(|error| problem(&error))
    }
}

/// What a call to the API server failed of: its own words, or else the error with all its causes.
pub(super) fn refusal(what: &str, error: &kube::Error) -> CliError {
    let why = match error {
        kube::Error::Api(status) => status.message.clone(),
        other => causes(other),
    };
    CliError::Cluster(format!("{what}: {why}"))
}

/// An error and what it came of, each once.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

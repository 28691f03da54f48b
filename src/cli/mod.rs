//! The command line (design, section 8).

mod attach;
mod audit;
mod audit_flags;
mod azure_flags;
mod check;
mod cluster;
mod crd;
mod detach;
mod flags;
mod kube_flags;
mod logging;
mod review;
mod serve;
mod table;
mod tls;
mod waiting;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use thiserror::Error;

use crate::manifests::ManifestsError;
use crate::server::{ServeError, TlsError};

/// Image pull credentials for Azure Container Registry, given to Pods at admission.
#[derive(Debug, Parser)]
#[command(
    name = "pullpass",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the webhook
    Serve(Box<serve::ServeArgs>),
    /// Say what the webhook would do with Pods and workloads, without a cluster
    Review(review::ReviewArgs),
    Attach(Box<attach::AttachArgs>),
    Detach(detach::DetachArgs),
    /// Say which running Pods have the pull secrets that their images need, and which have not
    Audit(audit::AuditArgs),
    /// Say what stands between an identity and the images of a registry, and what to do about it
    Check(Box<check::CheckArgs>),
    /// Print the `CustomResourceDefinition` of AcrRegistry as YAML
    Crd,
}

/// Why a command failed.
#[derive(Debug, Error)]
#[non_exhaustive]
enum CliError {
    #[error(transparent)]
    Manifests(#[from] ManifestsError),
    #[error("{0}")]
    Input(String),
    #[error("the serving certificate: {0}. Give files with --tls-cert and --tls-key")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(
        "the audit log can't be opened: {0}. Choose another file with --audit-log, or - for standard output"
    )]
    Audit(io::Error),
    #[error("{what}: {error}")]
    Io { what: &'static str, error: io::Error },
    #[error("the cluster can't be used: {0}")]
    Cluster(String),
    #[error("{0}")]
    Failed(String),
    #[error("Azure can't be used: {0}")]
    Azure(String),
    #[error("the output could not be written: {0}")]
    Output(#[source] io::Error),
}

impl CliError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Input(_) | Self::Manifests(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Runs what waits for a network.
fn block_on<F: Future>(future: F) -> Result<F::Output, CliError> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| CliError::Io {
        what: "the runtime can't be started",
        error,
    })?;
    Ok(runtime.block_on(future))
}

/// Runs the program.
pub fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(args) => serve::run(*args),
        Command::Review(args) => review::run(&args),
        Command::Attach(args) => attach::run(&args),
        Command::Detach(args) => detach::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Crd => crd::run(),
    };
    match done {
        Ok(code) => code,
        // Whoever reads the output has seen enough, as `head` does.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pullpass: {error}");
            error.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}

//! `pullpass crd`.

use std::process::ExitCode;

use clap::Args;

use crate::api::acr_registry::manifest;
use crate::cli::CliError;
use crate::cli::output::print;

/// Print the definition of the AcrRegistry resource, in YAML.
///
/// The manifests and the Helm chart have it already. Exit code: 0.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  pullpass crd | kubectl apply --server-side -f -")]
pub(super) struct CrdArgs {}

pub(super) fn run() -> Result<ExitCode, CliError> {
    let yaml = manifest().map_err(|error| CliError::Input(error.to_string()))?;
    print(yaml).map(|()| ExitCode::SUCCESS)
}

//! `pullpass crd`.

use std::process::ExitCode;

use clap::Args;

use crate::api::{acr_index, acr_pull_binding, acr_registry};
use crate::cli::CliError;
use crate::cli::output::print;

/// Print the definitions of the AcrRegistry and AcrIndex resources, in YAML.
///
/// The manifests and the Helm chart contain them. Exit code: 0.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  pullpass crd | kubectl apply --server-side -f -")]
pub(super) struct CrdArgs {
    /// Print the definition of the AcrPullBinding resource instead, which the component bindings has
    #[arg(long)]
    bindings: bool,
}

pub(super) fn run(args: &CrdArgs) -> Result<ExitCode, CliError> {
    let manifests = if args.bindings {
        vec![acr_pull_binding::manifest()]
    } else {
        vec![acr_registry::manifest(), acr_index::manifest()]
    };
    let yaml: Result<Vec<_>, _> = manifests.into_iter().collect();
    let yaml = yaml.map_err(|error| CliError::Input(error.to_string()))?;
    print(yaml.join("---\n")).map(|()| ExitCode::SUCCESS)
}

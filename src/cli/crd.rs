//! `pullpass crd`.

use std::io::{self, Write};
use std::process::ExitCode;

use super::CliError;
use crate::acr_registry::manifest;

pub(super) fn run() -> Result<ExitCode, CliError> {
    let yaml = manifest().map_err(|error| CliError::Input(error.to_string()))?;
    io::stdout()
        .write_all(yaml.as_bytes())
        .map_err(CliError::Output)?;
    Ok(ExitCode::SUCCESS)
}

//! What commands write to standard output.

use std::io::{self, Write};

use crate::cli::CliError;

/// The kind of the custom resource, as `kubectl get --output name` has it.
pub(super) const KIND: &str = "acrregistry.pullpass.dev";

/// Writes to standard output.
pub(super) fn print(output: impl AsRef<[u8]>) -> Result<(), CliError> {
    io::stdout().write_all(output.as_ref()).map_err(CliError::Output)
}

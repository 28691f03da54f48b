//! Where the audit log goes.

use clap::Args;

use crate::audit::otlp::{Endpoint, HeaderFile, OtlpSink};
use crate::audit::{AuditLog, Destination};
use crate::cli::CliError;
use crate::cli::flags::azure::AzureFlags;
use crate::cli::flags::url::url;

/// Where the audit log goes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Audit log")]
pub(in crate::cli) struct AuditFlags {
    /// Where the audit log goes: a file, opened again on SIGHUP, or - for standard output
    #[arg(
        long = "audit-log",
        value_name = "FILE",
        default_value = "-",
        env = "PULLPASS_AUDIT_LOG"
    )]
    file: Destination,
    /// Send the records to this OTLP collector too, over HTTP; /v1/logs is added to a URL without a path
    #[arg(long = "audit-otlp", value_name = "URL", value_parser = url::<Endpoint>(), env = "PULLPASS_AUDIT_OTLP")]
    otlp: Option<Endpoint>,
    /// Send the collector this header, with the value in the file
    #[arg(
        long = "audit-otlp-header",
        value_name = "NAME=FILE",
        value_delimiter = ',',
        requires = "otlp",
        env = "PULLPASS_AUDIT_OTLP_HEADER"
    )]
    otlp_header: Vec<HeaderFile>,
}

impl AuditFlags {
    /// Opens the log. A collector is reached as Azure is: by the same proxy, names and authorities.
    pub(in crate::cli) fn open(&self, azure: &AzureFlags) -> Result<AuditLog, CliError> {
        let log = AuditLog::open(&self.file).map_err(CliError::Audit)?;
        let Some(endpoint) = &self.otlp else {
            return Ok(log);
        };
        for header in &self.otlp_header {
            header
                .read()
                .map_err(|error| CliError::Input(format!("--audit-otlp-header: {error}")))?;
        }
        let headers = self.otlp_header.clone();
        OtlpSink::new(endpoint.clone(), headers, azure.http()?)
            .and_then(|sink| log.with_otlp(sink))
            .map_err(|error| CliError::Io {
                what: "the OTLP export can't be started",
                error,
            })
    }
}

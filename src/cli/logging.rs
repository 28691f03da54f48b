//! The operational log: standard error, one line an event. The audit log is another one.

use std::io::{self, IsTerminal};

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::CliError;

/// How the operational log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// A JSON object a line
    #[default]
    Json,
    /// For reading
    Text,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs")]
pub(super) struct LogFlags {
    /// How the operational log on standard error looks
    #[arg(long, value_enum, default_value_t, env = "PULLPASS_LOG_FORMAT")]
    log_format: LogFormat,
    /// What is logged: a level, or directives such as info,pullpass=debug
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info,azure_identity=warn,typespec_client_core=warn",
        env = "PULLPASS_LOG"
    )]
    log: String,
}

impl LogFlags {
    /// Begins to log.
    pub(super) fn start(&self) -> Result<(), CliError> {
        let filter = EnvFilter::try_new(&self.log)
            .map_err(|error| CliError::Input(format!("--log {}: {error}", self.log)))?;
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr);
        let started = match self.log_format {
            LogFormat::Json => builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .try_init(),
            LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        };
        started.map_err(|error| CliError::Input(format!("the log can't be started: {error}")))
    }
}

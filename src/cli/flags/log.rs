//! The operational log: standard error, one line an event. The audit log is separate.
//!
//! The filter can be changed while the process runs. Whatever it says, libraries never log below `info`: their traces
//! contain whole requests and headers, and so secrets. The Kubernetes client logs only errors.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::cli::CliError;
use crate::serve::LogFilter;

/// How the operational log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum LogFormat {
    /// One JSON object on each line
    #[default]
    Json,
    /// Text for people
    Text,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs")]
pub(in crate::cli) struct LogFlags {
    /// The format of the operational log on standard error
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
    /// A file with a filter that replaces --log while the file exists; checked every --reload-interval, so that a
    /// mounted volume changes the filter without a restart
    #[arg(long, value_name = "FILE", env = "PULLPASS_LOG_FILE")]
    log_file: Option<PathBuf>,
}

impl LogFlags {
    /// Begins to log.
    pub(in crate::cli) fn start(&self) -> Result<LogFilter, CliError> {
        let filter = EnvFilter::try_new(&self.log)
            .map_err(|error| CliError::Input(format!("--log {}: {error}", self.log)))?;
        let (filter, handle) = reload::Layer::new(filter);
        let lines = match self.log_format {
            LogFormat::Json => tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_writer(io::stderr)
                .boxed(),
            LogFormat::Text => tracing_subscriber::fmt::layer()
                .with_ansi(io::stderr().is_terminal())
                .with_writer(io::stderr)
                .boxed(),
        };
        tracing_subscriber::registry()
            .with(filter)
            .with(filter_fn(may_be_logged))
            .with(lines)
            .try_init()
            .map_err(|error| CliError::Input(format!("the log can't be started: {error}")))?;
        Ok(LogFilter::new(handle, self.log.clone(), self.log_file.clone()))
    }
}

/// Libraries' traces are never logged, since they may hold secrets. The Kubernetes client warns of an answer that it can't
/// read with all of that answer, which may be a Secret.
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    let is_of = |name| {
        let rest = metadata.target().strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let least = if is_of("pullpass") {
        Level::TRACE
    } else if is_of("kube_client") {
        Level::ERROR
    } else {
        Level::INFO
    };
    *metadata.level() <= least
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::logged::Log;
    use std::sync::Mutex;
    use tracing::subscriber::with_default;

    #[test]
    fn lines_of_libraries_about_answers_are_never_logged() {
        let log = Log::default();
        let lines = tracing_subscriber::fmt::layer().with_writer(Mutex::new(log.clone()));
        let subscriber = tracing_subscriber::registry()
            .with(EnvFilter::new("trace"))
            .with(filter_fn(may_be_logged))
            .with(lines);
        with_default(subscriber, || {
            tracing::trace!(target: "pullpass::sync", "shown: ours");
            tracing::error!(target: "kube_client::client::builder", "shown: an error");
            tracing::warn!(target: "kube_clients", "shown: another library");
            tracing::info!(target: "hyper", "shown: an info");
            tracing::warn!(target: "kube_client::client", "hidden: an answer");
            tracing::info!(target: "kube_client", "hidden: an info");
            tracing::debug!(target: "hyper::proto", "hidden: headers");
            tracing::trace!(target: "pullpasses", "hidden: not ours");
        });
        let text = log.text();
        assert!(!text.contains("hidden"), "{text}");
        assert_eq!(text.matches("shown").count(), 4, "{text}");
    }
}

//! The operational log: standard error, one line an event. The audit log is another one.
//!
//! What is logged can be changed while the process runs. Whatever is asked for, libraries never log below `info`: their
//! traces hold whole requests and headers, and so what nobody may read. The Kubernetes client logs nothing but errors.

use std::fs;
use std::io::{self, ErrorKind, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::cli::CliError;

/// How the operational log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum LogFormat {
    /// A JSON object a line
    #[default]
    Json,
    /// For reading
    Text,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs")]
pub(in crate::cli) struct LogFlags {
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
    /// A file with a filter that is used instead of --log for as long as it is there; looked at every
    /// --reload-interval, so that a mounted volume changes what is logged without a restart
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
        let mut filter = LogFilter {
            handle,
            flag: self.log.clone(),
            file: self.log_file.clone(),
            in_force: self.log.clone(),
        };
        filter.look();
        Ok(filter)
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

/// What is logged, while the process runs.
#[derive(Debug)]
pub(in crate::cli) struct LogFilter {
    handle: Handle<EnvFilter, Registry>,
    /// What `--log` says.
    flag: String,
    file: Option<PathBuf>,
    in_force: String,
}

impl LogFilter {
    /// Follows the file, for as long as it is polled.
    pub(in crate::cli) async fn follow(mut self, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            self.look();
        }
    }

    /// Takes what the file says, or the flag where there is no file.
    fn look(&mut self) {
        let Some(path) = &self.file else { return };
        let wanted = match fs::read_to_string(path) {
            Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, "the file with the log's filter can't be read");
                return;
            }
        };
        let wanted = wanted.unwrap_or_else(|| self.flag.clone());
        if wanted == self.in_force {
            return;
        }
        let applied = EnvFilter::try_new(&wanted)
            .map_err(|error| error.to_string())
            .and_then(|filter| self.handle.reload(filter).map_err(|error| error.to_string()));
        match applied {
            Ok(()) => tracing::info!(filter = wanted, "what is logged has changed"),
            Err(error) => tracing::warn!(filter = wanted, %error, "the log's filter is wrong and not used"),
        }
        self.in_force = wanted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing::subscriber::with_default;

    /// Remembers what is logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_libraries_say_of_answers_is_never_logged() {
        let log = Log::default();
        let lines = tracing_subscriber::fmt::layer().with_writer(Mutex::new(log.clone()));
        let subscriber = tracing_subscriber::registry()
            .with(EnvFilter::new("trace"))
            .with(filter_fn(may_be_logged))
            .with(lines);
        with_default(subscriber, || {
            tracing::trace!(target: "pullpass::controllers", "shown: ours");
            tracing::error!(target: "kube_client::client::builder", "shown: an error");
            tracing::warn!(target: "kube_clients", "shown: another library");
            tracing::info!(target: "hyper", "shown: an info");
            tracing::warn!(target: "kube_client::client", "hidden: an answer");
            tracing::info!(target: "kube_client", "hidden: an info");
            tracing::debug!(target: "hyper::proto", "hidden: headers");
            tracing::trace!(target: "pullpasses", "hidden: not ours");
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("hidden"), "{text}");
        assert_eq!(text.matches("shown").count(), 4, "{text}");
    }
}

//! Waiting for the cluster, and saying meanwhile how it stands.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::cli::CliError;
use crate::cli::flags::kubeconfig::refusal;

/// How often the cluster is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How often the spinner turns.
const SPINNER_INTERVAL: Duration = Duration::from_millis(100);
/// How long one look may take; the client tries by itself for much longer.
const POLL_TIMEOUT: Duration = Duration::from_secs(10);

/// How it stands: a spinner on a terminal, else a line whenever it changes. It is on standard error.
pub(super) struct Progress {
    bar: ProgressBar,
    said: String,
}

impl Progress {
    /// Begins with a text.
    pub(super) fn start(text: String) -> Self {
        let style = ProgressStyle::with_template("{spinner} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::new_spinner().with_style(style);
        bar.enable_steady_tick(SPINNER_INTERVAL);
        let mut progress = Self {
            bar,
            said: String::new(),
        };
        progress.say(text);
        progress
    }

    fn say(&mut self, text: String) {
        if text == self.said {
            return;
        }
        if self.bar.is_hidden() {
            eprintln!("{text}");
        } else {
            self.bar.set_message(text.clone());
        }
        self.said = text;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What one look shows.
pub(super) enum Look<T> {
    Done(T),
    /// Not yet, and how it stands.
    NotYet(String),
}

/// Looks until it is done; none when the time is up.
pub(super) async fn wait<T>(
    timeout: Duration,
    mut progress: Progress,
    mut look: impl AsyncFnMut(Duration) -> Result<Look<T>, CliError>,
) -> Result<Option<T>, CliError> {
    let begin = Instant::now();
    loop {
        match tokio::time::timeout(POLL_TIMEOUT, look(begin.elapsed())).await {
            Ok(Ok(Look::Done(value))) => return Ok(Some(value)),
            Ok(Ok(Look::NotYet(text))) => progress.say(text),
            Ok(Err(error)) => return Err(error),
            Err(_) => progress.say("the API server does not answer".to_owned()),
        }
        if begin.elapsed() >= timeout {
            return Ok(None);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// What a failed look means: a refusal ends the waiting, anything else may pass.
pub(super) fn failed_look<T>(what: &str, error: &kube::Error) -> Result<Look<T>, CliError> {
    let error_text = refusal(what, error);
    match error {
        kube::Error::Api(status) if status.code < 500 && status.code != 429 => Err(error_text),
        _ => Ok(Look::NotYet(error_text.to_string())),
    }
}

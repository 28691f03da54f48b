//! Waiting for the cluster, and showing its state meanwhile.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::cli::CliError;
use crate::cli::flags::kubeconfig::refusal;
use crate::kubernetes::call::CallError;

/// How often the cluster is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How often the spinner turns.
const SPINNER_INTERVAL: Duration = Duration::from_millis(100);

/// The state: a spinner on a terminal, else a line whenever it changes. It is on standard error.
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
    /// Not yet, and the state until then.
    NotYet(String),
}

/// Looks until it is done; none if the time is up.
pub(super) async fn wait<T>(
    timeout: Duration,
    mut progress: Progress,
    mut look: impl AsyncFnMut(Duration) -> Result<Look<T>, CliError>,
) -> Result<Option<T>, CliError> {
    let begin = Instant::now();
    loop {
        match look(begin.elapsed()).await? {
            Look::Done(value) => return Ok(Some(value)),
            Look::NotYet(text) => progress.say(text),
        }
        if begin.elapsed() >= timeout {
            return Ok(None);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// What a failed look means: a refusal ends the waiting, anything else may pass.
pub(super) fn failed_look<T>(what: &str, error: &CallError) -> Result<Look<T>, CliError> {
    let error_text = refusal(what, error);
    if error.code().is_some_and(|code| code < 500 && code != 429) {
        Err(error_text)
    } else {
        Ok(Look::NotYet(error_text.to_string()))
    }
}

//! How a check is printed: a line for each step, what to do at the end, or all of it as JSON.

use std::io::{self, Write};
use std::time::Duration;

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::CheckOutput;
use crate::check::{Finding, Step, StepFailure, StepOutcome};
use crate::cli::CliError;

/// The width of the longest title.
const TITLE: usize = 14;
/// The width of a time.
const TIME: usize = 8;

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const FAINT: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// Writes to standard output as it is asked to.
pub(super) struct Printer {
    output: CheckOutput,
    terminal: AutoStream<io::Stdout>,
    /// The first line that could not be written.
    broken: Option<io::Error>,
}

impl Printer {
    pub(super) fn new(output: CheckOutput) -> Self {
        Self {
            output,
            terminal: anstream::stdout(),
            broken: None,
        }
    }

    pub(super) fn headline(&mut self, headline: &str) {
        self.say(&format!("{BOLD}{headline}{BOLD:#}\n\n"));
    }

    pub(super) fn finding<S: Step>(&mut self, finding: &Finding<S>) {
        self.say(&line(finding));
    }

    /// Ends with a text, or prints everything as JSON or YAML.
    pub(super) fn end(mut self, text: &str, report: &Value) -> Result<(), CliError> {
        match self.output {
            CheckOutput::Text => self.say(text),
            CheckOutput::Json => {
                let text =
                    serde_json::to_string_pretty(report).map_err(|error| CliError::Output(error.into()))?;
                self.write(&(text + "\n"));
            }
            CheckOutput::Yaml => {
                let text =
                    serde_saphyr::to_string(report).map_err(|error| CliError::Input(error.to_string()))?;
                self.write(&text);
            }
        }
        self.broken.map_or(Ok(()), |error| Err(CliError::Output(error)))
    }

    fn say(&mut self, text: &str) {
        if self.output == CheckOutput::Text {
            self.write(text);
        }
    }

    fn write(&mut self, text: &str) {
        if self.broken.is_none() {
            let written = self.terminal.write_all(text.as_bytes());
            self.broken = written.and_then(|()| self.terminal.flush()).err();
        }
    }
}

/// The last line of a check: its failures, or that all is well except for what was not checked, and what may follow
/// then.
pub(super) fn verdict<S: Step>(findings: &[Finding<S>], unchecked: &[&str], more: &str) -> String {
    let text = failures(findings);
    if !text.is_empty() {
        return text;
    }
    if unchecked.is_empty() {
        return format!("{GOOD}All is well.{GOOD:#}\n");
    }
    let unchecked = unchecked.join(", ");
    format!("{GOOD}What was checked is well.{GOOD:#} Not checked: {unchecked}.{more}\n")
}

/// Each failure with its cures; empty if there is none.
pub(super) fn failures<S: Step>(findings: &[Finding<S>]) -> String {
    let failures = findings
        .iter()
        .filter_map(|finding| Some(failure_text(finding.step, finding.failure()?)));
    failures.collect()
}

fn failure_text(step: impl Step, failure: &StepFailure) -> String {
    let (code, cause) = (failure.code.as_str(), failure.cause.trim_end_matches('.'));
    let headline = format!("{BAD}{code}{BAD:#}: {}: {cause}.\n", step.title());
    let cures = failure.cures.iter().map(|cure| {
        let command = cure.command.as_ref();
        let command = command.map(|command| format!("      {BOLD}{command}{BOLD:#}\n"));
        format!("  * {}\n{}", cure.text, command.unwrap_or_default())
    });
    std::iter::once(headline).chain(cures).collect()
}

fn line<S: Step>(finding: &Finding<S>) -> String {
    let time = finding.took.map(time).unwrap_or_default();
    let title = finding.step.title();
    let (style, mark, detail) = match &finding.outcome {
        StepOutcome::Passed { detail } => (GOOD, '✓', detail.as_str()),
        StepOutcome::Failed(failure) => (BAD, '✗', failure.code.as_str()),
        StepOutcome::Skipped { why } => (FAINT, '-', why.as_str()),
    };
    format!("{style}{mark}{style:#} {title:<TITLE$} {time:>TIME$}  {style}{detail}{style:#}\n")
}

fn time(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{} ms", took.as_millis())
    } else {
        format!("{:.1} s", took.as_secs_f64())
    }
}

/// A step in JSON.
pub(super) fn step<S: Step>(finding: &Finding<S>) -> Value {
    let (status, detail) = match &finding.outcome {
        StepOutcome::Passed { detail } => ("ok", Some(detail)),
        StepOutcome::Failed(_) => ("failed", None),
        StepOutcome::Skipped { why } => ("skipped", Some(why)),
    };
    let failure = finding.failure();
    let millis = finding.took.map(|took| took.as_millis());
    json!({
        "step": finding.step,
        "status": status,
        "millis": millis.and_then(|millis| u64::try_from(millis).ok()),
        "detail": detail,
        "code": failure.map(|failure| failure.code.as_str()),
        "cause": failure.map(|failure| &failure.cause),
        "cures": failure.map(|failure| failure.cures.as_slice()).unwrap_or_default(),
    })
}

//! What `pullpass check` prints: a line when a step has ended, and what to do at the end.

use std::io::{self, Write};
use std::time::Duration;

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::CheckOutput;
use super::cluster::RegistryEvent;
use crate::check::in_cluster::Facts;
use crate::check::{CheckStep, Finding, StepFailure, StepOutcome, Subject, SubjectIdentity};
use crate::cli::{CliError, table};

/// The width of the longest title.
const TITLE: usize = 14;
/// The width of a time.
const TIME: usize = 8;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const FAINT: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// What is checked, in words.
pub(super) struct About {
    login_server: Option<String>,
    registry: Option<String>,
    repository: Option<String>,
    identity: Option<String>,
    from_cluster: bool,
    /// Whether there is an identity to check, or what was needed could be read.
    is_whole: bool,
}

impl About {
    pub(super) fn of(subject: &Subject) -> Self {
        let is_nobody = matches!(subject.identity, SubjectIdentity::Nobody { .. });
        Self {
            login_server: Some(subject.login_server.to_string()),
            registry: subject.registry.clone(),
            repository: subject.target.as_ref().map(ToString::to_string),
            identity: (!is_nobody).then(|| subject.identity.to_string()),
            from_cluster: false,
            is_whole: !is_nobody,
        }
    }

    pub(super) fn in_cluster(facts: &Facts) -> Self {
        let status = facts.object.status.as_ref();
        let login_server = facts.object.spec.login_server.clone();
        Self {
            login_server: login_server.or_else(|| status?.login_server.clone()),
            registry: Some(facts.object.name_any()),
            repository: None,
            identity: None,
            from_cluster: true,
            is_whole: true,
        }
    }

    fn headline(&self) -> String {
        let host = self.login_server.as_deref().unwrap_or("a registry");
        let registry = self.registry.as_deref().unwrap_or_default();
        if self.from_cluster {
            return format!("AcrRegistry {registry} ({host}), as the running pullpass sees it");
        }
        let identity = match &self.identity {
            Some(identity) => format!("as {identity}"),
            None => "without an identity".to_owned(),
        };
        let named = match &self.registry {
            Some(registry) => format!(" (AcrRegistry {registry})"),
            None => String::new(),
        };
        format!("{host}{named} {identity}, from this machine")
    }
}

/// What has been found so far.
pub(super) struct Report {
    output: CheckOutput,
    about: About,
    findings: Vec<Finding>,
    events: Option<Result<Vec<RegistryEvent>, String>>,
    terminal: AutoStream<io::Stdout>,
    /// The first line that could not be written.
    broken: Option<io::Error>,
}

impl Report {
    pub(super) fn begin(output: CheckOutput, about: About) -> Self {
        let mut report = Self {
            output,
            about,
            findings: Vec::new(),
            events: None,
            terminal: anstream::stdout(),
            broken: None,
        };
        let headline = report.about.headline();
        report.say(&format!("{BOLD}{headline}{BOLD:#}\n\n"));
        report
    }

    /// Takes what came of a step, and shows it at once.
    pub(super) fn add(&mut self, finding: Finding) {
        self.say(&line(&finding));
        self.findings.push(finding);
    }

    pub(super) fn events(&mut self, events: Result<Vec<RegistryEvent>, String>) {
        self.events = Some(events);
    }

    /// Says what to do; whether all is well.
    pub(super) fn finish(mut self) -> Result<bool, CliError> {
        let is_well = self.findings.iter().all(|finding| finding.failure().is_none());
        match self.output {
            CheckOutput::Text => {
                let verdict = self.verdict();
                let events = self.event_table();
                self.say(&format!("\n{verdict}{events}"));
            }
            CheckOutput::Json => {
                let text = serde_json::to_string_pretty(&self.json(is_well))
                    .map_err(|error| CliError::Output(error.into()))?;
                self.write(&(text + "\n"));
            }
        }
        match self.broken {
            Some(error) => Err(CliError::Output(error)),
            None => Ok(is_well),
        }
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

    /// The steps that were left out for want of an identity.
    fn unchecked(&self) -> Vec<&'static str> {
        if self.about.is_whole {
            return Vec::new();
        }
        let skipped = self.findings.iter().filter(|finding| {
            matches!(finding.outcome, StepOutcome::Skipped { .. }) && finding.step != CheckStep::Clock
        });
        skipped.map(|finding| finding.step.title()).collect()
    }

    fn verdict(&self) -> String {
        let failures = self
            .findings
            .iter()
            .filter_map(|finding| Some(failure_text(finding.step, finding.failure()?)));
        let text: String = failures.collect();
        if !text.is_empty() {
            return text;
        }
        let unchecked = self.unchecked();
        if unchecked.is_empty() {
            format!("{GOOD}All is well.{GOOD:#}\n")
        } else {
            format!(
                "{GOOD}What was checked is well.{GOOD:#} Not checked: {}. To go on, name an identity: see --help.\n",
                unchecked.join(", ")
            )
        }
    }

    fn event_table(&self) -> String {
        match &self.events {
            None => String::new(),
            Some(Err(why)) => format!("\nIts Events can't be read: {why}.\n"),
            Some(Ok(events)) if events.is_empty() => String::new(),
            Some(Ok(events)) => {
                let row = |event: &RegistryEvent| {
                    vec![
                        event.time.clone().unwrap_or_default(),
                        event.kind.clone(),
                        event.reason.clone(),
                        event.message.clone(),
                    ]
                };
                let rows: Vec<_> = events.iter().map(row).collect();
                format!(
                    "\nThe latest Events:\n{}",
                    table::render(&["TIME", "TYPE", "REASON", "MESSAGE"], &rows)
                )
            }
        }
    }

    fn json(&self, is_well: bool) -> Value {
        let steps: Vec<_> = self.findings.iter().map(step).collect();
        let code = self.findings.iter().find_map(Finding::failure);
        let mut report = json!({
            "schema": "pullpass.dev/check/v1",
            "loginServer": self.about.login_server,
            "registry": self.about.registry,
            "repository": self.about.repository,
            "identity": self.about.identity,
            "from": if self.about.from_cluster { "cluster" } else { "here" },
            "ok": is_well,
            "complete": is_well && self.about.is_whole,
            "code": code.map(|failure| failure.code.as_str()),
            "steps": steps,
        });
        if let (Some(fields), Some(events)) = (report.as_object_mut(), &self.events) {
            fields.insert("events".to_owned(), json!(events.as_ref().ok()));
        }
        report
    }
}

fn failure_text(step: CheckStep, failure: &StepFailure) -> String {
    let (code, cause) = (failure.code.as_str(), failure.cause.trim_end_matches('.'));
    let headline = format!("{BAD}{code}{BAD:#}: {}: {cause}.\n", step.title());
    let cures = failure.cures.iter().map(|cure| {
        let command = cure.command.as_ref();
        let command = command.map(|command| format!("      {BOLD}{command}{BOLD:#}\n"));
        format!("  * {}\n{}", cure.text, command.unwrap_or_default())
    });
    std::iter::once(headline).chain(cures).collect()
}

fn line(finding: &Finding) -> String {
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

fn step(finding: &Finding) -> Value {
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

//! What `pullpass check` prints: a line when a step has ended, and what to do at the end.

use serde_json::{Value, json};

use super::CheckOutput;
use super::cluster::RegistryEvent;
use super::printer::{Printer, step, verdict};
use crate::check::in_cluster::Facts;
use crate::check::{CheckStep, Finding, Step, StepOutcome, Subject, SubjectIdentity};
use crate::cli::audit::described;
use crate::cli::{CliError, table};

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
        let status = facts.object.status();
        let login_server = facts.object.login_server().cloned();
        Self {
            login_server: login_server.or_else(|| status?.login_server.clone()),
            registry: Some(facts.object.key()),
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
            let registry = described(registry);
            return format!("{registry} ({host}), as the running pullpass sees it");
        }
        let identity = match &self.identity {
            Some(identity) => format!("as {identity}"),
            None => "without an identity".to_owned(),
        };
        let named = match &self.registry {
            Some(registry) => format!(" ({})", described(registry)),
            None => String::new(),
        };
        format!("{host}{named} {identity}, from this machine")
    }
}

/// What has been found so far.
pub(super) struct Report {
    about: About,
    findings: Vec<Finding>,
    events: Option<Result<Vec<RegistryEvent>, String>>,
    printer: Printer,
}

impl Report {
    pub(super) fn begin(output: CheckOutput, about: About) -> Self {
        let mut report = Self {
            about,
            findings: Vec::new(),
            events: None,
            printer: Printer::new(output),
        };
        let headline = report.about.headline();
        report.printer.headline(&headline);
        report
    }

    /// Takes the result of a step, and shows it immediately.
    pub(super) fn add(&mut self, finding: Finding) {
        self.printer.finding(&finding);
        self.findings.push(finding);
    }

    pub(super) fn events(&mut self, events: Result<Vec<RegistryEvent>, String>) {
        self.events = Some(events);
    }

    /// Says what to do; whether all is well.
    pub(super) fn finish(self) -> Result<bool, CliError> {
        let is_well = self.findings.iter().all(|finding| finding.failure().is_none());
        let text = format!("\n{}{}", self.verdict(), self.event_table());
        let report = self.json(is_well);
        self.printer.end(&text, &report)?;
        Ok(is_well)
    }

    /// The steps that were skipped because there was no identity.
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
        verdict(
            &self.findings,
            &self.unchecked(),
            " To check the rest, name an identity: see --help.",
        )
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

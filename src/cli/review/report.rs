//! What `pullpass review` prints.

use json_patch::Patch;
use serde_json::{Value, json};

use super::ReviewOutput;
use super::subject::ReviewSubject;
use crate::admission::encode;
use crate::admission::patch::PullSecretsPatch;
use crate::cli::{CliError, table};
use crate::policy::decision::{Decision, Outcome};
use crate::policy::request::ReviewRequest;

/// What the decisions in JSON are called by.
const SCHEMA: &str = "pullpass.dev/review/v1";

pub(super) struct Report {
    output: ReviewOutput,
    text: String,
    rows: Vec<Vec<String>>,
    pub(super) notes: Vec<String>,
    decisions: Vec<Value>,
    pub(super) denied: bool,
}

impl Report {
    pub(super) fn new(output: ReviewOutput) -> Self {
        Self {
            output,
            text: String::new(),
            rows: Vec::new(),
            notes: Vec::new(),
            decisions: Vec::new(),
            denied: false,
        }
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(super) fn add(
        &mut self,
        subject: &ReviewSubject,
        request: &ReviewRequest<'_>,
        decision: &Decision<'_>,
    ) -> Result<(), CliError> {
        self.denied |= decision.outcome == Outcome::Denied;
        let failed = |error: &dyn std::fmt::Display| subject.failed(error);
        let patch = PullSecretsPatch {
            secrets: &decision.secrets,
            has_list: request.pod.pull_secrets.is_some(),
        };
        match self.output {
            ReviewOutput::Table | ReviewOutput::Wide => {
                let secrets = if decision.secrets.is_empty() {
                    "-".to_owned()
                } else {
                    decision.secrets.join(",")
                };
                let mut row = vec![
                    request.namespace.to_string(),
                    subject.kind.clone(),
                    subject.name.clone(),
                    decision.outcome.as_str().to_owned(),
                    secrets,
                    decision.reason.to_string(),
                ];
                if self.output == ReviewOutput::Wide {
                    let images = request.pod.images.iter();
                    let images: Vec<_> = images.map(|image| &*image.reference).collect();
                    row.push(images.join(","));
                }
                self.rows.push(row);
                let about = |text: &String| format!("{} {}: {text}", subject.kind, subject.name);
                self.notes
                    .extend(decision.refusal().iter().chain(&decision.warnings).map(about));
            }
            ReviewOutput::Json => self.decisions.push(json!({
                "kind": subject.kind, "name": subject.name, "namespace": request.namespace,
                "decision": decision.outcome, "reason": decision.reason, "injected": decision.secrets,
                "violations": decision.violations, "warnings": decision.warnings, "denial": decision.refusal(),
            })),
            ReviewOutput::Yaml if decision.outcome == Outcome::Denied => {
                self.text.extend([
                    "---\n# ",
                    &subject.kind,
                    " ",
                    &subject.name,
                    ": denied\n",
                ]);
            }
            ReviewOutput::Yaml => {
                let mut pod = subject.pod().map_err(|error| failed(&error))?;
                let patch = serde_json::to_value(patch).and_then(serde_json::from_value::<Patch>);
                let patch = patch.map_err(|error| failed(&error))?;
                json_patch::patch(&mut pod, &patch).map_err(|error| failed(&error))?;
                let yaml = serde_saphyr::to_string(&pod).map_err(|error| failed(&error))?;
                self.text.push_str("---\n");
                self.text.push_str(&yaml);
            }
            ReviewOutput::Name => self.text.extend([&subject.object, "\n"]),
            ReviewOutput::Patch => {
                self.text
                    .push_str(&serde_json::to_string(&patch).map_err(|error| failed(&error))?);
                self.text.push('\n');
            }
            ReviewOutput::Review => {
                let answer = encode(request, decision).map_err(|error| failed(&error))?;
                self.text.push_str(&String::from_utf8_lossy(&answer));
                self.text.push('\n');
            }
        }
        Ok(())
    }

    /// What is printed; with the headings of a table, also the notes.
    pub(super) fn finish(&mut self, with_header: bool) -> Result<String, CliError> {
        match self.output {
            ReviewOutput::Table | ReviewOutput::Wide => {
                let mut header = vec!["NAMESPACE", "KIND", "NAME", "DECISION", "ADDED", "REASON"];
                if self.output == ReviewOutput::Wide {
                    header.push("IMAGES");
                }
                let mut text = table::render_with(&header, &self.rows, with_header);
                if with_header {
                    for note in &self.notes {
                        text.extend(["\n", note, "\n"]);
                    }
                }
                Ok(text)
            }
            ReviewOutput::Json => {
                let report = json!({"schema": SCHEMA, "decisions": self.decisions});
                let text = serde_json::to_string_pretty(&report);
                text.map(|text| text + "\n")
                    .map_err(|error| CliError::Input(error.to_string()))
            }
            ReviewOutput::Yaml | ReviewOutput::Name | ReviewOutput::Patch | ReviewOutput::Review => {
                Ok(std::mem::take(&mut self.text))
            }
        }
    }
}

//! `pullpass review`: the webhook's decision on files, without a cluster.

mod subject;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use self::subject::{PassedOver, ReviewSubject, gather};
use crate::admission::encode;
use crate::admission::patch::pull_secrets_patch;
use crate::base::encoding::decode;
use crate::cli::CliError;
use crate::cli::audit::described;
use crate::cli::flags::decisions::DecisionFlags;
use crate::cli::table;
use crate::policy::decision::{Decision, Outcome, Settings, decide};
use crate::policy::request::ReviewRequest;
use crate::policy::scope::Mode;
use crate::registry::other_cloud::OtherCloud;
use crate::view::manifests::{Manifests, objects};

/// Say what the webhook would do with Pods and workloads, without a cluster.
///
/// Which registries are attached, and how namespaces are labelled, comes from --manifests; without it none is attached but by
/// an AcrPullBinding beside the Pods. A namespace that is not there counts as having no labels. Pod templates are found in every kind; objects that
/// make no Pods are passed over, and counted. Exit code: 0; 2 for bad input; 3 if something would be denied.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  pullpass review -f deployment.yaml --manifests ./cluster\n  helm template shop ./chart | pullpass review -f - --manifests ./cluster\n  kubectl get deployments -A -o yaml | pullpass review -f - --manifests ./cluster"
)]
pub(super) struct ReviewArgs {
    /// A file with Pods, workloads, Lists or an AdmissionReview, in YAML or JSON; - for standard input
    #[arg(short, long, value_name = "FILE")]
    filename: PathBuf,
    /// Read AcrRegistry, AcrPullBinding and Namespace objects from the YAML files in this directory
    #[arg(long, value_name = "DIR", env = "PULLPASS_MANIFESTS")]
    manifests: Option<PathBuf>,
    /// What to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReviewOutput,
    /// The namespace of objects that name none
    #[arg(long, value_name = "NAME", default_value = "default")]
    default_namespace: String,
    #[command(flatten)]
    decisions: DecisionFlags,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum ReviewOutput {
    /// A table of decisions
    #[default]
    Table,
    /// The decisions, for scripts
    Json,
    /// The Pods that come out
    Yaml,
    /// The JSON Patch of each Pod, one a line
    Patch,
    /// The AdmissionReview that answers each Pod, one a line
    Review,
}

pub(super) fn run(args: &ReviewArgs) -> Result<ExitCode, CliError> {
    let mut manifests = args
        .manifests
        .as_deref()
        .map(|directory| Manifests::read(directory, &OtherCloud::default()))
        .transpose()?
        .unwrap_or_default();
    let text = read(&args.filename)?;
    let (mut subjects, mut passed_over) = (Vec::new(), PassedOver::default());
    let objects = objects(&args.filename, &text)?;
    if objects.is_empty() {
        return Err(CliError::Input(format!(
            "{} holds no object: give Pods, workloads, a List or an AdmissionReview",
            args.filename.display()
        )));
    }
    // A team has its AcrPullBinding beside what it is for.
    manifests.bind(&args.filename, &objects, &args.default_namespace)?;
    for object in &objects {
        gather(object, &args.default_namespace, &mut subjects, &mut passed_over)?;
    }
    let settings = args.decisions.settings();
    let mut report = Report::new(args.output);
    let mut unknown = BTreeSet::new();
    for subject in &subjects {
        let request = subject.request()?;
        // There is no API server whose selectors picked the namespace, so that nothing but the manifests can tell of it.
        let labels = manifests.effective_labels(&request.namespace);
        let registries = manifests.registries_in(&request.namespace);
        let decision = decide(&request, &registries, Some(&labels), &settings);
        if depends_on_labels(&manifests, &settings) && manifests.labels(&request.namespace).is_none() {
            unknown.insert(request.namespace.to_string());
        }
        report.add(subject, &request, &decision)?;
    }
    for namespace in unknown {
        report.note(format!(
            "namespace {namespace} is not among the manifests and counts as having no labels: add its Namespace object"
        ));
    }
    for registry in manifests.in_other_cloud() {
        report.note(format!(
            "{} is in another cloud and counts as attached: whether pullpass takes its host depends on \
             --other-cloud-suffix of `pullpass serve`, which is not known here",
            described(registry)
        ));
    }
    for note in passed_over.notes() {
        report.note(note);
    }
    let text = report.finish()?;
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(CliError::Output)?;
    // Scripts read the other formats.
    if args.output != ReviewOutput::Table {
        for note in &report.notes {
            writeln!(io::stderr(), "{note}").map_err(CliError::Output)?;
        }
    }
    Ok(if report.denied {
        ExitCode::from(3)
    } else {
        ExitCode::SUCCESS
    })
}

/// Whether labels of a namespace that say nothing of themselves change anything.
fn depends_on_labels(manifests: &Manifests, settings: &Settings) -> bool {
    let mut registries = manifests.registries().all().into_iter();
    settings.scope.mode() == Mode::OptIn || registries.any(|registry| !registry.is_for_every_namespace())
}

fn read(path: &Path) -> Result<String, CliError> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    let text = bytes.and_then(|bytes| decode(&bytes).map_err(io::Error::other));
    text.map_err(|error| CliError::Input(format!("{} can't be read: {error}", path.display())))
}

struct Report {
    output: ReviewOutput,
    text: String,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
    decisions: Vec<Value>,
    denied: bool,
}

impl Report {
    fn new(output: ReviewOutput) -> Self {
        Self {
            output,
            text: String::new(),
            rows: Vec::new(),
            notes: Vec::new(),
            decisions: Vec::new(),
            denied: false,
        }
    }

    fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    fn add(
        &mut self,
        subject: &ReviewSubject,
        request: &ReviewRequest<'_>,
        decision: &Decision<'_>,
    ) -> Result<(), CliError> {
        self.denied |= decision.outcome == Outcome::Denied;
        let failed = |error: &dyn std::fmt::Display| subject.failed(error);
        let patch = pull_secrets_patch(&decision.secrets, request.pod.pull_secrets.is_some());
        match self.output {
            ReviewOutput::Table => {
                let secrets = if decision.secrets.is_empty() {
                    "-".to_owned()
                } else {
                    decision.secrets.join(",")
                };
                self.rows.push(vec![
                    request.namespace.to_string(),
                    subject.kind.clone(),
                    subject.name.clone(),
                    decision.outcome.as_str().to_owned(),
                    secrets,
                    decision.reason.to_string(),
                ]);
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
                json_patch::patch(&mut pod, &patch).map_err(|error| failed(&error))?;
                let yaml = serde_saphyr::to_string(&pod).map_err(|error| failed(&error))?;
                self.text.push_str("---\n");
                self.text.push_str(&yaml);
            }
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

    fn finish(&mut self) -> Result<String, CliError> {
        match self.output {
            ReviewOutput::Table => {
                let header = ["NAMESPACE", "KIND", "NAME", "DECISION", "ADDED", "REASON"];
                let mut text = table::render(&header, &self.rows);
                for note in &self.notes {
                    text.extend(["\n", note, "\n"]);
                }
                Ok(text)
            }
            ReviewOutput::Json => {
                let text = serde_json::to_string_pretty(&self.decisions);
                text.map(|text| text + "\n")
                    .map_err(|error| CliError::Input(error.to_string()))
            }
            ReviewOutput::Yaml | ReviewOutput::Patch | ReviewOutput::Review => {
                Ok(std::mem::take(&mut self.text))
            }
        }
    }
}

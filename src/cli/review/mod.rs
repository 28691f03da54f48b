//! `pullpass review`: the webhook's decision on files, without a cluster.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::admission::encode;
use crate::admission::patch::pull_secrets_patch;
use crate::cli::CliError;
use crate::cli::flags::decisions::DecisionFlags;
use crate::cli::table;
use crate::policy::decision::{Decision, Outcome, decide};
use crate::policy::request::{Operation, PodView, ReviewRequest};
use crate::view::manifests::{Manifests, kind_and_name, objects};

/// Say what the webhook would do with Pods and workloads, without a cluster.
///
/// Which registries are attached, and how namespaces are labelled, comes from --manifests; without it no registry is
/// attached. Exit code: 0; 2 for bad input; 3 if something would be denied.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  pullpass review -f deployment.yaml --manifests ./cluster\n  kubectl get deployments -A -o yaml | pullpass review -f - --manifests ./cluster"
)]
pub(super) struct ReviewArgs {
    /// A file with Pods, workloads, Lists or an AdmissionReview, in YAML or JSON; - for standard input
    #[arg(short, long, value_name = "FILE")]
    filename: PathBuf,
    /// Read AcrRegistry and Namespace objects from the YAML files in this directory
    #[arg(long, value_name = "DIR", env = "PULLPASS_MANIFESTS")]
    manifests: Option<PathBuf>,
    /// What to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
    /// The namespace of objects that name none
    #[arg(long, value_name = "NAME", default_value = "default")]
    default_namespace: String,
    #[command(flatten)]
    decisions: DecisionFlags,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
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

/// An object of the input.
struct Reviewed {
    kind: String,
    name: String,
    asks: Asks,
    /// The object as JSON text.
    text: String,
}

/// What an object asks.
enum Asks {
    /// A whole AdmissionReview.
    Review,
    /// Whether a Pod may be created in this namespace; for a workload, the Pod that its controller would create.
    Creation { namespace: String },
}

impl Reviewed {
    /// The question, as the webhook would get it.
    fn request(&self) -> Result<ReviewRequest<'_>, CliError> {
        let text = self.text.as_bytes();
        let asked = match &self.asks {
            Asks::Review => ReviewRequest::decode(text),
            Asks::Creation { namespace } => ReviewRequest {
                uid: Cow::Borrowed("00000000-0000-0000-0000-000000000000"),
                operation: Operation::Create,
                is_pod: true,
                sub_resource: None,
                namespace: Cow::Borrowed(namespace),
                name: Cow::Borrowed(""),
                dry_run: true,
                user: Cow::Borrowed("pullpass review"),
                pod: PodView::decode(text)
                    .map_err(|error| self.failed(&format!("the Pod is malformed: {error}")))?,
                old_images: Vec::new(),
            }
            .checked(),
        };
        asked.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> CliError {
        CliError::Input(format!("{} {}: {error}", self.kind, self.name))
    }

    /// The Pod in question.
    fn pod(&self) -> Result<Value, serde_json::Error> {
        let mut object: Value = serde_json::from_str(&self.text)?;
        Ok(match self.asks {
            Asks::Creation { .. } => object,
            Asks::Review => object
                .pointer_mut("/request/object")
                .map(Value::take)
                .unwrap_or_default(),
        })
    }
}

pub(super) fn run(args: &ReviewArgs) -> Result<ExitCode, CliError> {
    let manifests = args
        .manifests
        .as_deref()
        .map(Manifests::read)
        .transpose()?
        .unwrap_or_default();
    let text = read(&args.filename)?;
    let mut subjects = Vec::new();
    for object in objects(&args.filename, &text)? {
        subjects.push(subject(&object, &args.default_namespace)?);
    }
    if subjects.is_empty() {
        return Err(CliError::Input(format!(
            "{} holds no object: give Pods, workloads, a List or an AdmissionReview",
            args.filename.display()
        )));
    }
    let settings = args.decisions.settings();
    let mut report = Report::new(args.output);
    for subject in &subjects {
        let request = subject.request()?;
        let labels = manifests.labels(&request.namespace);
        let decision = decide(&request, manifests.registries(), labels, &settings);
        report.add(subject, &request, &decision)?;
    }
    io::stdout()
        .write_all(report.finish()?.as_bytes())
        .map_err(CliError::Output)?;
    Ok(if report.denied {
        ExitCode::from(3)
    } else {
        ExitCode::SUCCESS
    })
}

fn read(path: &Path) -> Result<String, CliError> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    read.map_err(|error| CliError::Input(format!("{} can't be read: {error}", path.display())))
}

fn subject(object: &Value, default_namespace: &str) -> Result<Reviewed, CliError> {
    let (kind, name) = kind_and_name(object);
    if kind == "AdmissionReview" {
        return Ok(Reviewed {
            name: "-".to_owned(),
            kind,
            asks: Asks::Review,
            text: object.to_string(),
        });
    }
    let template = match kind.as_str() {
        "Pod" => "",
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            "/spec/template"
        }
        "CronJob" => "/spec/jobTemplate/spec/template",
        "PodTemplate" => "/template",
        _ => {
            return Err(CliError::Input(format!(
                "{kind} {name} is neither a Pod, a workload that makes Pods, a List nor an AdmissionReview"
            )));
        }
    };
    let namespace = object
        .pointer("/metadata/namespace")
        .and_then(Value::as_str)
        .unwrap_or(default_namespace)
        .to_owned();
    let Some(mut pod) = object
        .pointer(template)
        .filter(|pod| pod.get("spec").is_some_and(Value::is_object))
        .cloned()
    else {
        return Err(CliError::Input(format!("{kind} {name} has no Pod spec")));
    };
    complete(&mut pod, &kind, &name, &namespace);
    Ok(Reviewed {
        kind,
        name,
        asks: Asks::Creation { namespace },
        text: pod.to_string(),
    })
}

/// Makes a template what its controller would make of it.
fn complete(pod: &mut Value, kind: &str, name: &str, namespace: &str) {
    let Some(fields) = pod.as_object_mut() else { return };
    fields.insert("apiVersion".to_owned(), json!("v1"));
    fields.insert("kind".to_owned(), json!("Pod"));
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    if metadata.is_null() {
        *metadata = json!({});
    }
    let Some(metadata) = metadata.as_object_mut() else {
        return;
    };
    metadata.insert("namespace".to_owned(), json!(namespace));
    if kind != "Pod" {
        metadata.remove("name");
        metadata.insert("generateName".to_owned(), json!(format!("{name}-")));
    }
}

struct Report {
    output: Output,
    text: String,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
    decisions: Vec<Value>,
    denied: bool,
}

impl Report {
    fn new(output: Output) -> Self {
        Self {
            output,
            text: String::new(),
            rows: Vec::new(),
            notes: Vec::new(),
            decisions: Vec::new(),
            denied: false,
        }
    }

    fn add(
        &mut self,
        subject: &Reviewed,
        request: &ReviewRequest<'_>,
        decision: &Decision<'_>,
    ) -> Result<(), CliError> {
        self.denied |= decision.outcome == Outcome::Denied;
        let failed = |error: &dyn std::fmt::Display| subject.failed(error);
        let patch = pull_secrets_patch(&decision.secrets, request.pod.pull_secrets.is_some());
        match self.output {
            Output::Table => {
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
            Output::Json => self.decisions.push(json!({
                "kind": subject.kind, "name": subject.name, "namespace": request.namespace,
                "decision": decision.outcome, "reason": decision.reason, "injected": decision.secrets,
                "violations": decision.violations, "warnings": decision.warnings, "denial": decision.refusal(),
            })),
            Output::Yaml if decision.outcome == Outcome::Denied => {
                self.text.extend([
                    "---
# ",
                    &subject.kind,
                    " ",
                    &subject.name,
                    ": denied
",
                ]);
            }
            Output::Yaml => {
                let mut pod = subject.pod().map_err(|error| failed(&error))?;
                json_patch::patch(&mut pod, &patch).map_err(|error| failed(&error))?;
                let yaml = serde_saphyr::to_string(&pod).map_err(|error| failed(&error))?;
                self.text.push_str("---\n");
                self.text.push_str(&yaml);
            }
            Output::Patch => {
                self.text
                    .push_str(&serde_json::to_string(&patch).map_err(|error| failed(&error))?);
                self.text.push('\n');
            }
            Output::Review => {
                let answer = encode(request, decision).map_err(|error| failed(&error))?;
                self.text.push_str(&String::from_utf8_lossy(&answer));
                self.text.push('\n');
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<String, CliError> {
        match self.output {
            Output::Table => {
                let header = ["NAMESPACE", "KIND", "NAME", "DECISION", "ADDED", "REASON"];
                let mut text = table::render(&header, &self.rows);
                for note in &self.notes {
                    text.extend(["\n", note, "\n"]);
                }
                Ok(text)
            }
            Output::Json => {
                let text = serde_json::to_string_pretty(&self.decisions);
                text.map(|text| text + "\n")
                    .map_err(|error| CliError::Input(error.to_string()))
            }
            Output::Yaml | Output::Patch | Output::Review => Ok(std::mem::take(&mut self.text)),
        }
    }
}

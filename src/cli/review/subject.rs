//! What `pullpass review` finds in its input: questions to the webhook, and what holds no Pod.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Value, json};

use crate::base::abridged::abridged;
use crate::cli::CliError;
use crate::cli::output::named;
use crate::policy::request::{Operation, PodView, ReviewRequest};
use crate::view::manifests::{api_group, kind_and_name};

/// How deep Pod templates are looked for in kinds that are not Kubernetes' own.
const MAX_DEPTH: usize = 12;
/// How many objects are named that were not understood.
const MAX_NAMED: usize = 10;

/// An object of the input, or one of its Pod templates.
pub(super) struct ReviewSubject {
    pub(super) kind: String,
    pub(super) name: String,
    /// The object as kubectl names it.
    pub(super) object: String,
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

impl ReviewSubject {
    /// The question, as the webhook would get it.
    pub(super) fn request(&self) -> Result<ReviewRequest<'_>, CliError> {
        let text = self.text.as_bytes();
        match &self.asks {
            Asks::Review => ReviewRequest::decode(text).map_err(|error| self.failed(&error)),
            Asks::Creation { namespace } => self.creation(namespace),
        }
    }

    /// The namespace of the Pod in question.
    pub(super) fn namespace(&self) -> Result<String, CliError> {
        match &self.asks {
            Asks::Review => Ok(self.request()?.namespace.into_owned()),
            Asks::Creation { namespace } => Ok(namespace.clone()),
        }
    }

    fn creation<'a>(&'a self, namespace: &'a str) -> Result<ReviewRequest<'a>, CliError> {
        let pod = PodView::decode(self.text.as_bytes())
            .map_err(|error| self.failed(&format!("the Pod is malformed: {error}")))?;
        let request = ReviewRequest {
            uid: Cow::Borrowed("00000000-0000-0000-0000-000000000000"),
            operation: Operation::Create,
            is_pod: true,
            sub_resource: None,
            namespace: Cow::Borrowed(namespace),
            name: Cow::Borrowed(""),
            dry_run: true,
            user: Cow::Borrowed("pullpass review"),
            is_by_node: false,
            pod,
            old_images: Vec::new(),
            picked: None,
            labels_are_read: false,
            mountable: None,
            account_is_uncached: false,
        };
        request.checked().map_err(|error| self.failed(&error))
    }

    pub(super) fn failed(&self, error: &dyn fmt::Display) -> CliError {
        CliError::Input(format!("{} {}: {error}", self.kind, self.name))
    }

    /// The Pod in question.
    pub(super) fn pod(&self) -> Result<Value, serde_json::Error> {
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

/// What the input holds beside what is asked about.
#[derive(Default)]
pub(super) struct PassedOver {
    /// Objects of Kubernetes' own kinds that make no Pods, counted by kind.
    plain: BTreeMap<String, usize>,
    /// Objects of other kinds without a Pod template: nobody here knows what they make.
    unknown: BTreeSet<String>,
}

impl PassedOver {
    /// What is reported about it, if there is anything.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let count: usize = self.plain.values().sum();
        if count > 0 {
            let kinds: Vec<_> = self
                .plain
                .iter()
                .map(|(kind, count)| format!("{count} {kind}"))
                .collect();
            let objects = if count == 1 {
                "object makes"
            } else {
                "objects make"
            };
            notes.push(format!("{count} {objects} no Pods: {}", kinds.join(", ")));
        }
        if !self.unknown.is_empty() {
            notes.push(format!(
                "not reviewed, since they have no Pod template that pullpass finds, and may make Pods all the same: {}",
                abridged(&self.unknown, MAX_NAMED)
            ));
        }
        notes
    }
}

/// Adds what an object asks.
pub(super) fn gather(
    object: &Value,
    default_namespace: &str,
    subjects: &mut Vec<ReviewSubject>,
    passed_over: &mut PassedOver,
) -> Result<(), CliError> {
    let (kind, name) = kind_and_name(object);
    if kind.is_empty() {
        return Err(CliError::Input(format!(
            "an object has no kind: {}",
            beginning(&object.to_string())
        )));
    }
    if kind == "AdmissionReview" {
        subjects.push(ReviewSubject {
            name: "-".to_owned(),
            object: named(object),
            kind,
            asks: Asks::Review,
            text: object.to_string(),
        });
        return Ok(());
    }
    let namespace = object
        .pointer("/metadata/namespace")
        .and_then(Value::as_str)
        .unwrap_or(default_namespace);
    let mut add = |name: String, pod: &Value| {
        let mut pod = pod.clone();
        complete(&mut pod, &kind, &name, namespace);
        subjects.push(ReviewSubject {
            kind: kind.clone(),
            name,
            object: named(object),
            asks: Asks::Creation {
                namespace: namespace.to_owned(),
            },
            text: pod.to_string(),
        });
    };
    let group = api_group(object).unwrap_or_default();
    if let Some(pointer) = template_of(group, &kind) {
        let template = object.pointer(pointer);
        let Some(pod) = template.filter(|pod| pod.get("spec").is_some_and(Value::is_object)) else {
            return Err(CliError::Input(format!("{kind} {name} has no Pod spec")));
        };
        add(name, pod);
        return Ok(());
    }
    if is_built_in(group) || group == "pullpass.dev" {
        *passed_over.plain.entry(kind).or_default() += 1;
        return Ok(());
    }
    let mut templates = Vec::new();
    find_templates(object, "", MAX_DEPTH, &mut templates);
    match templates.as_slice() {
        [] => {
            passed_over.unknown.insert(format!("{kind} {name}"));
        }
        [(_, pod)] => add(name, pod),
        several => {
            for (path, pod) in several {
                add(format!("{name} ({path})"), pod);
            }
        }
    }
    Ok(())
}

/// Where Kubernetes' own kinds have the Pod that they make.
fn template_of(group: &str, kind: &str) -> Option<&'static str> {
    Some(match (group, kind) {
        ("", "Pod") => "",
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("extensions", "Deployment" | "DaemonSet" | "ReplicaSet")
        | ("", "ReplicationController")
        | ("batch", "Job") => "/spec/template",
        ("batch", "CronJob") => "/spec/jobTemplate/spec/template",
        ("", "PodTemplate") => "/template",
        _ => return None,
    })
}

/// Whether a group is Kubernetes' own, all of whose kinds that make Pods are known.
fn is_built_in(group: &str) -> bool {
    matches!(
        group,
        "" | "apps" | "batch" | "extensions" | "policy" | "autoscaling" | "pullpass.dev"
    ) || BUILT_IN.contains(&group)
}

/// The groups under `k8s.io` that API servers have by themselves. Others there belong to projects of Kubernetes', some of
/// which make Pods.
const BUILT_IN: [&str; 19] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "metrics.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// Pod templates of kinds that are not Kubernetes' own: whatever is called a template, or `podTemplate`, and has a spec with
/// containers.
fn find_templates<'a>(value: &'a Value, path: &str, depth: usize, found: &mut Vec<(String, &'a Value)>) {
    if depth == 0 {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let is_template = key == "template" || key == "podTemplate" || key == "podTemplateSpec";
                if is_template && value.pointer("/spec/containers").is_some_and(Value::is_array) {
                    found.push((path, value));
                } else {
                    find_templates(value, &path, depth - 1, found);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_templates(item, &format!("{path}[{index}]"), depth - 1, found);
            }
        }
        _ => {}
    }
}

/// The beginning of a text, to find it by.
fn beginning(text: &str) -> String {
    text.chars().take(60).collect()
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
        let name = name.split(' ').next().unwrap_or(name);
        metadata.remove("name");
        metadata.insert("generateName".to_owned(), json!(format!("{name}-")));
    }
}

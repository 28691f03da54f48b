//! What of the shipped manifests goes into a cluster for an installation.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::control_plane::ControlPlane;
use crate::error::Error;
use crate::webhook::Webhook;

/// On the namespaces of an installation, so that several on one control plane don't meet.
const LABEL: &str = "pullpass.dev/installation";

/// What of `manifests/base` is applied for a pullpass that has its objects from files.
const KINDS: [&str; 3] = [
    "Namespace",
    "CustomResourceDefinition",
    "MutatingWebhookConfiguration",
];

/// What the webhook configuration says about a webhook that does not answer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FailurePolicy {
    /// As shipped: the Pod is admitted.
    #[default]
    Ignore,
    /// The Pod is refused, which shows that it was asked for.
    Fail,
}

impl FailurePolicy {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "Ignore",
            Self::Fail => "Fail",
        }
    }
}

/// The webhook configuration in the cluster.
#[derive(Debug)]
pub(super) struct Registration<'a> {
    pub(super) control_plane: &'a ControlPlane,
    pub(super) name: String,
    pub(super) overlay: String,
    pub(super) custom_domains: String,
    pub(super) namespace_selector: Vec<Value>,
}

impl Registration<'_> {
    /// What `manifests/base` puts into a cluster for the webhook, changed as little as needed, and the Service.
    pub(super) fn objects(
        &self,
        own_namespace: &str,
        webhook: &Webhook,
        failure_policy: FailurePolicy,
        whole_cluster: bool,
    ) -> Result<Vec<Value>, Error> {
        let mut objects = shipped(self.control_plane, &self.overlay)?;
        // The rest is for a pullpass that runs in the cluster.
        objects.retain(|object| KINDS.contains(&kind(object)));
        for object in &mut objects {
            match kind(object) {
                "Namespace" => set(object, "/metadata/name", json!(own_namespace))?,
                "MutatingWebhookConfiguration" => {
                    set(object, "/metadata/name", json!(self.name))?;
                    for entry in list(object, "/webhooks")? {
                        self.adapt(entry, own_namespace, webhook, failure_policy, whole_cluster)?;
                    }
                }
                _ => {}
            }
        }
        // The API server sends the port on to this name, so that the webhook can be outside and the configuration can
        // name a Service all the same.
        let external_name = match webhook.address() {
            SocketAddr::V4(address) => address.ip().to_string(),
            // An address of IPv6 is no name.
            SocketAddr::V6(_) => "localhost".to_owned(),
        };
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "pullpass", "namespace": own_namespace},
            "spec": {"type": "ExternalName", "externalName": external_name},
        }));
        Ok(objects)
    }

    fn adapt(
        &self,
        entry: &mut Value,
        own_namespace: &str,
        webhook: &Webhook,
        failure_policy: FailurePolicy,
        whole_cluster: bool,
    ) -> Result<(), Error> {
        let ca_bundle = STANDARD.encode(webhook.authority().pem());
        set(entry, "/clientConfig/service/namespace", json!(own_namespace))?;
        set(entry, "/clientConfig/service/port", json!(webhook.port()))?;
        set(entry, "/clientConfig/caBundle", json!(ca_bundle))?;
        set(entry, "/failurePolicy", json!(failure_policy.as_str()))?;
        if !self.custom_domains.is_empty() {
            for condition in list(entry, "/matchConditions")? {
                let expression = condition.get("expression").and_then(Value::as_str);
                let domains = format!("\"{}\"", self.custom_domains);
                let widened = expression.unwrap_or_default().replace("\"-\"", &domains);
                set(condition, "/expression", json!(widened))?;
            }
        }
        list(entry, "/namespaceSelector/matchExpressions")?.extend(self.namespace_selector.iter().cloned());
        if !whole_cluster {
            list(entry, "/namespaceSelector/matchExpressions")?
                .push(json!({"key": LABEL, "operator": "In", "values": [self.name]}));
        }
        Ok(())
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        // Where it fails, the control plane is gone, and the configuration with it.
        let _ = self.control_plane.client().delete(&format!(
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{}",
            self.name
        ));
    }
}

/// The objects of one of `manifests/overlays`.
pub fn shipped(control_plane: &ControlPlane, overlay: &str) -> Result<Vec<Value>, Error> {
    /// By the name of the overlay: most tests ask for the same several times.
    static RENDERED: Mutex<BTreeMap<String, Vec<Value>>> = Mutex::new(BTreeMap::new());
    let mut rendered = RENDERED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(objects) = rendered.get(overlay) {
        return Ok(objects.clone());
    }
    let overlays = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/overlays");
    let yaml = control_plane
        .run(&["kustomize", &format!("{overlays}/{overlay}")])?
        .stdout;
    let objects: Vec<Value> =
        serde_saphyr::from_multiple(&yaml).map_err(|error| Error::Shipped(error.to_string()))?;
    rendered.insert(overlay.to_owned(), objects.clone());
    Ok(objects)
}

pub(super) fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

fn set(object: &mut Value, path: &str, value: Value) -> Result<(), Error> {
    let missing = || Error::Shipped(format!("{path} has nowhere to be set"));
    let (parent, key) = path.rsplit_once('/').ok_or_else(missing)?;
    let parent = object
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .ok_or_else(missing)?;
    parent.insert(key.to_owned(), value);
    Ok(())
}

fn list<'a>(object: &'a mut Value, path: &str) -> Result<&'a mut Vec<Value>, Error> {
    object
        .pointer_mut(path)
        .and_then(Value::as_array_mut)
        .ok_or_else(|| Error::Shipped(format!("there is no list {path}")))
}

pub(super) fn namespace_object(name: &str, installation: &str, labels: &[(&str, &str)]) -> Value {
    let labels: Map<String, Value> = labels
        .iter()
        .copied()
        .chain([(LABEL, installation)])
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// A namespace and its service account, without which no Pod is admitted: the controller would make it a moment later.
pub(super) fn with_account(namespace: Value, name: &str) -> Vec<Value> {
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": name},
    });
    vec![namespace, account]
}

pub(super) fn apply(control_plane: &ControlPlane, objects: &[Value]) -> Result<(), Error> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let arguments = ["apply", "--server-side", "--validate=strict", "--filename", "-"];
    control_plane
        .run_with_input(&arguments, &list.to_string())
        .map(drop)
}

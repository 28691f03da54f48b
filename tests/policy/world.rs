//! A cluster with registries that have a user and a password of their own, or need none.

use std::error::Error;
use std::sync::OnceLock;
use std::time::Duration;

use pullpass_test_support::{
    Azure, ControlPlane, Installation, InstallationBuilder, Login, end_to_end_wanted, wait_for,
};
use serde_json::{Value, json};

use crate::generated::hosts;

pub type Test = Result<(), Box<dyn Error>>;

/// Only bounds how long a broken test takes.
pub const SOON: Duration = Duration::from_mins(2);

const DEFINITIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/base/crd.yaml");

/// For every namespace.
pub const OPEN: &str = "openregistry";
/// For namespaces of nobody.
pub const CLOSED: &str = "closedregistry";
/// For namespaces of nobody too, in a cloud that is none of Azure's own.
const OTHER: &str = "otherregistry";
/// Its login server.
pub const OTHER_HOST: &str = "otherregistry.azurecr.contoso.com";
/// Whose images are pulled without a credential.
pub const FREE: &str = "freeregistry";

/// Of the token that pulls.
const PASSWORD: &str = "of-a-test";

/// A control plane with the CRD, the rights and the registries, of which pullpass knows from its start.
pub fn cluster() -> Result<ControlPlane, Box<dyn Error>> {
    end_to_end_wanted()?;
    azure()?;
    Ok(ControlPlane::builder().controller_manager(false).start()?)
}

/// A pullpass of that cluster.
pub fn pullpass(cluster: &ControlPlane) -> InstallationBuilder<'_> {
    let builder = Installation::builder(cluster, env!("CARGO_BIN_EXE_pullpass"))
        .in_cluster()
        .flag("--resync-interval=1")
        .flag("--other-cloud-suffix=azurecr.contoso.com");
    // That it can't be had was said with the cluster.
    let flags = azure().map(Azure::flags).unwrap_or_default();
    flags.into_iter().fold(builder, InstallationBuilder::flag)
}

/// An Azure with the registries, whose tokens have the password that pullpass is given. All tests share it.
fn azure() -> Result<&'static Azure, Box<dyn Error>> {
    static AZURE: OnceLock<Result<Azure, String>> = OnceLock::new();
    let azure = AZURE.get_or_init(|| {
        let other = Login {
            host: OTHER_HOST.to_owned(),
            ..Login::new(OTHER, 3)
        };
        let mut logins = vec![Login::new(OPEN, 1), Login::new(CLOSED, 2), other];
        // Always-inject leaves out registries for which nothing could be minted.
        for host in hosts() {
            if logins.iter().all(|login| login.host != host) {
                logins.push(Login {
                    host: host.to_owned(),
                    ..Login::new(host, logins.len() + 1)
                });
            }
        }
        Azure::with_token(&logins, "token", PASSWORD).map_err(|error| error.to_string())
    });
    Ok(azure.as_ref().map_err(String::as_str)?)
}

/// The Secret with the token, which every AcrRegistry may name.
pub fn token() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "token",
            "namespace": "pullpass-system",
            "annotations": {"pullpass.dev/registries": "*"},
        },
        "stringData": {"username": "token", "password": PASSWORD},
    })
}

/// Attaches the registries.
pub fn attach(cluster: &ControlPlane) -> Test {
    cluster.apply(&list(&[vec![token()], registries()].concat()))?;
    Ok(())
}

/// The registries, as objects.
pub fn registries() -> Vec<Value> {
    let nobody = json!({"matchLabels": {"team": "nobody"}});
    let token = json!({"basic": {"secretRef": {"name": "token"}}});
    // One is named by its resource ID, the others by their hosts.
    let resource = format!(
        "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/apps/providers/Microsoft.ContainerRegistry/registries/{OPEN}"
    );
    let resource = ("resourceId", resource, Value::Null);
    let azure = |name: &str| ("loginServer", format!("{name}.azurecr.io"), Value::Null);
    let other = ("loginServer", OTHER_HOST.to_owned(), json!("Other"));
    [
        (OPEN, resource, &token, Value::Null),
        (CLOSED, azure(CLOSED), &token, nobody.clone()),
        (OTHER, other, &token, nobody),
        (FREE, azure(FREE), &json!({"anonymous": {}}), Value::Null),
    ]
    .into_iter()
    .map(|(name, (field, registry, cloud), identity, namespaces)| {
        let mut spec = json!({
            field: registry,
            "cloud": cloud,
            "customDomains": [format!("{name}.contoso.com")],
            "identity": identity,
            "namespaces": namespaces,
        });
        // Old API servers take no null where one of some words is wanted.
        if let Some(fields) = spec.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        json!({
            "apiVersion": "pullpass.dev/v1alpha1",
            "kind": "AcrRegistry",
            "metadata": {"name": name},
            "spec": spec,
        })
    })
    .collect()
}

/// Waits until the index has these registries.
pub fn wait_for_index(cluster: &ControlPlane, registries: &[&str]) -> Test {
    wait_for("the index", SOON, || {
        let index = cluster.get_json(&["acrindex", "pullpass"])?;
        let known = |name: &&str| {
            index
                .pointer(&format!("/spec/pullSecrets/pullpass-{name}"))
                .is_some()
        };
        if registries.iter().all(known) {
            return Ok(());
        }
        Err(Box::<dyn Error>::from(index.to_string()))
    })?;
    Ok(())
}

/// A cluster whose index is written by hand, so that it can say anything.
pub fn with_written_index(index: &Value) -> Result<ControlPlane, Box<dyn Error>> {
    let cluster = cluster()?;
    cluster.run(&["apply", "--server-side", "--filename", DEFINITIONS])?;
    let index = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrIndex", "metadata": {"name": "pullpass"}, "spec": index,
    });
    wait_for("the API server to serve the index", SOON, || {
        cluster.run_with_input(&["apply", "--server-side", "--filename", "-"], &index.to_string())
    })?;
    Ok(cluster)
}

/// Objects as one.
pub fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// A namespace in which Pods can be made though no controller runs.
pub fn namespace(cluster: &ControlPlane, name: &str, labels: &Value) -> Test {
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": name},
    });
    cluster.apply(&list(&[namespace, account]))?;
    Ok(())
}

/// The names in a Pod's `spec.imagePullSecrets`.
pub fn pull_secrets(pod: &Value) -> Vec<&str> {
    items(pod, "/spec/imagePullSecrets")
        .filter_map(|secret| secret.get("name")?.as_str())
        .collect()
}

pub fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

//! A cluster for `pullpass audit` to read, in which nothing runs: what a leader would have written is written by hand.

use std::error::Error;

use jiff::{SignedDuration, Timestamp};
use pullpass_test_support::ControlPlane;
use serde_json::{Value, json};

use crate::world::{Test, list, namespace, with_written_index};

const HOSTILE_IMAGES: [&str; 2] = [
    "</bdi><script>document.title='broken'</script>",
    "<img src=x onerror=document.title='broken'>.azurecr.io/app",
];

/// The UID of a Deployment's `ReplicaSet`.
pub fn uid(deployment: &str) -> String {
    let number = deployment.bytes().fold(0_u64, |number, byte| {
        (number * 31 + u64::from(byte)) % 1_000_000_000_000
    });
    format!("7b795fb9-09d3-42f4-a494-{number:012}")
}

/// A Pod of a Deployment that no controller manager knows of.
fn pod(namespace: &str, deployment: &str, number: usize, registry: &str, secret: Option<&str>) -> Value {
    let secrets: Vec<_> = secret.iter().map(|name| json!({"name": name})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{deployment}-5d4f8c7b9-{number}"), "namespace": namespace,
            "labels": {"pod-template-hash": "5d4f8c7b9"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{deployment}-5d4f8c7b9"),
                "uid": uid(deployment), "controller": true,
            }],
        },
        "spec": {
            "containers": [{"name": "main", "image": format!("{registry}.azurecr.io/{deployment}:v1")}],
            "imagePullSecrets": secrets,
        },
    })
}

/// An AcrRegistry, and the status that a leader would have written.
fn attach(cluster: &ControlPlane, name: &str, identity: &Value, status: &Value) -> Test {
    let registry = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
        "spec": {"loginServer": format!("{name}.azurecr.io"), "identity": identity},
    });
    cluster.apply(&registry.to_string())?;
    let mut registry = cluster.get_json(&["acrregistry", name])?;
    let fields = registry.as_object_mut().ok_or("an object has fields")?;
    fields.insert("status".to_owned(), status.clone());
    let path = format!("/apis/pullpass.dev/v1alpha1/acrregistries/{name}/status");
    cluster.run_with_input(
        &["replace", "--raw", &path, "--filename", "-"],
        &registry.to_string(),
    )?;
    Ok(())
}

fn status(ready: bool, reason: &str, message: &str, expires_in: Option<i64>) -> Value {
    let at = |minutes| {
        (Timestamp::now() + SignedDuration::from_mins(minutes))
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string()
    };
    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at(-190)});
    let pulls = ready.then(|| condition("PullAuthorized", "True", "Pulled", ""));
    let ready = condition("Ready", if ready { "True" } else { "False" }, reason, message);
    let conditions: Vec<_> = [ready].into_iter().chain(pulls).collect();
    json!({
        "conditions": conditions,
        "credential": {"expiresAt": expires_in.map(at)},
        "namespaces": {"served": if expires_in.is_some() { 3 } else { 0 }, "failed": 0},
    })
}

/// A cluster with some of everything, in which one registry's status says this.
pub fn cluster(message: &str) -> Result<ControlPlane, Box<dyn Error>> {
    let cluster = with_written_index(&json!({
        "mode": "cluster-wide", "unattached": "allow", "forbidden": "warn",
        "excludedNamespaces": ["kube-node-lease", "kube-public", "kube-system", "pullpass-system"],
    }))?;
    let managed = json!({"managedIdentity": {}});
    attach(
        &cluster,
        "contosoapps",
        &managed,
        &status(true, "Minted", "", Some(155)),
    )?;
    attach(
        &cluster,
        "contosodata",
        &managed,
        &status(true, "Minted", "", Some(95)),
    )?;
    attach(
        &cluster,
        "contosolegacy",
        &managed,
        &status(false, "EntraRejected", message, Some(70)),
    )?;
    attach(
        &cluster,
        "contosopublic",
        &json!({"anonymous": {}}),
        &status(true, "Anonymous", "", None),
    )?;
    let mut pods = Vec::new();
    for (name, deployment, registry, count, secret) in [
        (
            "billing",
            "invoices",
            "contosodata",
            3,
            Some("pullpass-contosodata"),
        ),
        (
            "checkout",
            "cart",
            "contosoapps",
            12,
            Some("pullpass-contosoapps"),
        ),
        (
            "checkout",
            "payments",
            "contosolegacy",
            2,
            Some("pullpass-contosolegacy"),
        ),
        ("edge", "proxy", "fabrikam", 1, None),
        ("reports", "nightly", "contosodata", 2, None),
        ("web", "shop", "contosoapps", 9, Some("pullpass-contosoapps")),
        ("web", "search", "contosopublic", 4, None),
        ("web", "admin", "contosoapps", 1, None),
    ] {
        namespace(&cluster, name, &json!({}))?;
        pods.extend((0..count).map(|number| pod(name, deployment, number, registry, secret)));
    }
    // References that anybody can write, and that are on no registry of Azure.
    pods.extend(HOSTILE_IMAGES.iter().enumerate().map(|(number, image)| {
        let mut pod = pod("web", "hostile", number, "any", None);
        if let Some(named) = pod.pointer_mut("/spec/containers/0/image") {
            *named = json!(image);
        }
        pod
    }));
    cluster.apply(&list(&pods))?;
    // Only now: nobody answers the API server.
    let webhook = format!("{}/manifests/base/webhook.yaml", env!("CARGO_MANIFEST_DIR"));
    cluster.run(&["apply", "--filename", &webhook])?;
    Ok(cluster)
}

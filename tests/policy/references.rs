//! Every spelling of an image reference, as the mutating policies and as the webhook's decision take it.

use std::fs;
use std::process::Command;

use pullpass_test_support::{Scratch, wait_for};
use serde_json::{Value, json};

use crate::admission_policy::{create, with_index};
use crate::world::{CLOSED, OPEN, SOON, Test, items, list, namespace, pull_secrets, registries, text};

const NAMESPACE: &str = "apps";

/// How a host is written, and a port after it.
const PORTS: [&str; 8] = ["", ":443", ":0443", ":000443", ":8443", ":4430", ":", ":x443"];
/// What follows host and port, and whether it is what an image reference may have there.
const PATHS: [(&str, bool); 9] = [
    ("/app", true),
    ("/team/app:v1", true),
    (
        "/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        true,
    ),
    ("/App", false),
    ("/a..b", false),
    ("/app:", false),
    ("/app@sha256:abc", false),
    ("//app", false),
    ("/", false),
];

fn hosts() -> [String; 9] {
    [
        format!("{OPEN}.azurecr.io"),
        format!("{}.AzureCR.io", OPEN.to_uppercase()),
        format!("{OPEN}.westeurope.geo.azurecr.io"),
        format!("{OPEN}.westeurope.data.azurecr.io"),
        format!("{OPEN}.contoso.com"),
        format!("{}.Contoso.com", OPEN.to_uppercase()),
        format!("{CLOSED}.azurecr.io"),
        format!("{OPEN}.azurecr.io.example.com"),
        format!("not-{OPEN}.azurecr.io"),
    ]
}

/// A Pod with an image of each spelling, with the host and the port that it has.
fn rows() -> Vec<(String, &'static str, bool, Value)> {
    let spellings = hosts()
        .into_iter()
        .flat_map(|host| PORTS.map(|port| (host.clone(), port)))
        .flat_map(|(host, port)| PATHS.map(|(path, is_valid)| (format!("{host}{port}"), path, is_valid)));
    let named = |(number, (registry, path, is_valid)): (usize, (String, &'static str, bool))| {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": format!("pod-{number}"), "namespace": NAMESPACE},
            "spec": {"containers": [{"name": "main", "image": format!("{registry}{path}")}]},
        });
        (registry, path, is_valid, object)
    };
    spellings.enumerate().map(named).collect()
}

/// The pull secrets that the webhook's decision adds to each Pod.
fn reviewed(objects: &[Value]) -> Result<Vec<Vec<String>>, Box<dyn std::error::Error>> {
    let scratch = Scratch::new()?;
    let manifests = scratch.path().join("manifests");
    fs::create_dir(&manifests)?;
    let mut known = registries();
    known.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}));
    fs::write(manifests.join("cluster.json"), list(&known))?;
    let pods = scratch.path().join("pods.json");
    fs::write(&pods, list(objects))?;
    let output = Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .args(["review", "--output=json", "--filename"])
        .arg(&pods)
        .arg("--manifests")
        .arg(&manifests)
        .output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let injected = |decision| {
        let names = items(decision, "/injected").filter_map(Value::as_str);
        names.map(str::to_owned).collect()
    };
    Ok(items(&report, "/decisions").map(injected).collect())
}

/// What docs/policy.md says of image references: the same as the webhook of each that is one, by its host and port of each
/// that is none.
#[test]
fn every_spelling_of_a_reference_is_taken_as_by_the_webhook() -> Test {
    let secret = format!("pullpass-{OPEN}");
    let closed = format!("pullpass-{CLOSED}");
    let nobody = json!([{"key": "team", "operator": "In", "values": ["nobody"]}]);
    let (host, domain) = (format!("{OPEN}.azurecr.io"), format!("{OPEN}.contoso.com"));
    let cluster = with_index(&json!({
        "mode": "cluster-wide", "unattached": "allow", "forbidden": "warn",
        "hosts": {host: [&secret], domain: [&secret], format!("{CLOSED}.azurecr.io"): [&closed]},
        "pullSecrets": {&secret: {"registry": OPEN}, &closed: {"registry": CLOSED, "namespaces": nobody}},
    }))?;
    namespace(&cluster, NAMESPACE, &json!({}))?;
    let rows = rows();
    let first = rows.first().ok_or("there are no rows")?.3.to_string();
    wait_for("the policy to inject", SOON, || match create(&cluster, &first) {
        Ok(created) if created.iter().any(|pod| pull_secrets(pod) == [&secret]) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    let objects: Vec<Value> = rows.iter().map(|(.., object)| object.clone()).collect();
    let created = create(&cluster, &list(&objects))?;
    let reviewed = reviewed(&objects)?;
    assert_eq!((created.len(), reviewed.len()), (rows.len(), rows.len()));
    let (mut injected, mut differing) = (0, 0);
    // Paths that are valid come first, so that what the webhook says of a host and a port is known by then.
    let mut of_registry = Vec::new();
    for (((registry, path, is_valid, _), created), reviewed) in rows.iter().zip(&created).zip(&reviewed) {
        let context = format!("{registry}{path}: {}", text(created, "/metadata/name"));
        if *is_valid {
            of_registry.clone_from(reviewed);
        } else {
            assert_eq!(reviewed.len(), 0, "{context}");
            differing += usize::from(!of_registry.is_empty());
        }
        assert_eq!(pull_secrets(created), of_registry, "{context}");
        injected += usize::from(*is_valid && !reviewed.is_empty());
    }
    // Five spellings of the host, four of the port.
    assert_eq!((injected, differing), (5 * 4 * 3, 5 * 4 * 6));
    Ok(())
}

//! What `docs/install.md` says about uninstalling, done as it is written there, with pullpass as a process beside the cluster.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pullpass_test_support::{Azure, ControlPlane, Installation, Login, end_to_end_wanted, wait_for};
use serde_json::{Value, json};

use crate::render::{Choice, ROOT, Test, helm_binary, kubectl, succeeded};

const SOON: Duration = Duration::from_mins(2);

/// The commands under a heading of `docs/install.md`, the `nth` block of them.
fn documented(heading: &str, nth: usize) -> Result<String, Box<dyn Error>> {
    let text = fs::read_to_string(format!("{ROOT}/docs/install.md"))?;
    let (_, section) = text
        .split_once(&format!("\n## {heading}\n"))
        .ok_or_else(|| format!("there is no heading {heading}"))?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let block = section
        .split("```sh\n")
        .nth(nth + 1)
        .ok_or_else(|| format!("{heading} has no block {nth}"))?;
    Ok(block.split("```").next().unwrap_or_default().to_owned())
}

/// Runs commands as a reader would, from the root of the repository.
fn run(cluster: &ControlPlane, commands: &str) -> Result<String, Box<dyn Error>> {
    let kubectl = kubectl()?;
    let directories = [kubectl.parent(), helm_binary()?.parent()];
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(
        directories
            .into_iter()
            .flatten()
            .map(Path::to_path_buf)
            .chain(env::split_paths(&path)),
    )?;
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", commands])
        .current_dir(ROOT)
        .env("PATH", path)
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("KUBERC", "off")
        .output()?;
    succeeded(commands, &output)
}

/// The namespaces and names of the Secrets that came of a registry.
fn secrets(cluster: &ControlPlane) -> Result<Vec<String>, Box<dyn Error>> {
    let list = cluster.get_json(&["secrets", "--all-namespaces", "--selector=pullpass.dev/registry"])?;
    let items = list.get("items").and_then(Value::as_array);
    let text = |secret: &Value, pointer| {
        secret
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    Ok(items
        .into_iter()
        .flatten()
        .map(|secret| {
            format!(
                "{}/{}",
                text(secret, "/metadata/namespace"),
                text(secret, "/metadata/name")
            )
        })
        .collect())
}

/// A cluster in which a registry is attached and two namespaces have its pull secret.
fn in_use<'a>(
    cluster: &'a ControlPlane,
    azure: &Azure,
    login: &Login,
) -> Result<Installation<'a>, Box<dyn Error>> {
    let mut builder = Installation::builder(cluster, env!("CARGO_BIN_EXE_pullpass"))
        .in_cluster()
        .whole_cluster("apps");
    for flag in azure.flags() {
        builder = builder.flag(flag);
    }
    let pullpass = builder.start()?;
    // All that an installation puts into a cluster and that a process beside it does not need.
    let choice = Choice {
        overlay: "cluster-wide",
        components: Vec::new(),
    };
    let mut objects = choice.kustomize()?;
    objects.retain(|object| {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        !["MutatingWebhookConfiguration", "Service"].contains(&kind)
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    cluster.run_with_input(&["apply", "--server-side", "--filename", "-"], &list.to_string())?;

    cluster.apply(&login.secret(&login.password).to_string())?;
    let mut registry = login.acr_registry();
    if let Some(spec) = registry.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("provision".to_owned(), json!("Eager"));
    }
    cluster.apply(&registry.to_string())?;
    let name = format!("pullpass-{}", login.name);
    wait_for("pull secrets", SOON, || {
        let there = secrets(cluster).map_err(|error| error.to_string())?;
        let has = |namespace: &str| there.contains(&format!("{namespace}/{name}"));
        if has("apps") && has("default") {
            Ok(())
        } else {
            Err(format!("{there:?}"))
        }
    })?;
    Ok(pullpass)
}

/// Whatever has a label or a name of pullpass, of every kind that there is.
fn traces(cluster: &ControlPlane) -> Result<Vec<String>, Box<dyn Error>> {
    let kinds = cluster
        .run(&["api-resources", "--verbs=list", "--output=name"])?
        .stdout;
    let kinds: Vec<&str> = kinds
        .lines()
        // What happened is not undone, and these end by themselves.
        .filter(|kind| !["events", "events.events.k8s.io"].contains(kind))
        .collect();
    let found = cluster
        .run(&[
            "get",
            &kinds.join(","),
            "--all-namespaces",
            "--ignore-not-found",
            "--output=name",
        ])?
        .stdout;
    Ok(found
        .lines()
        .filter(|name| name.contains("pullpass") || name.contains("acrregist"))
        .map(str::to_owned)
        .collect())
}

/// What is derived from objects that are gone goes a moment later.
fn nothing_is_left(cluster: &ControlPlane) -> Test {
    wait_for("all of pullpass to go", SOON, || {
        let left = traces(cluster).map_err(|error| error.to_string())?;
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })?;
    Ok(())
}

#[test]
fn the_documented_commands_leave_nothing_behind() -> Test {
    end_to_end_wanted()?;
    let cluster = ControlPlane::start()?;
    let login = Login::new("registry1", 1);
    let azure = Azure::start(std::slice::from_ref(&login))?;
    let _pullpass = in_use(&cluster, &azure, &login)?;
    run(&cluster, &documented("Uninstall", 0)?)?;
    assert_eq!(secrets(&cluster)?, [""; 0]);
    run(&cluster, &documented("Uninstall", 1)?)?;
    nothing_is_left(&cluster)?;
    Ok(())
}

#[test]
fn secrets_that_were_left_behind_can_be_found_and_deleted() -> Test {
    end_to_end_wanted()?;
    let cluster = ControlPlane::start()?;
    let login = Login::new("registry1", 1);
    let azure = Azure::start(std::slice::from_ref(&login))?;
    let mut pullpass = in_use(&cluster, &azure, &login)?;
    cluster.apply(
        r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "foreign", "namespace": "apps"}}"#,
    )?;
    // In the wrong order: nobody is there any more to take the secrets away.
    pullpass.process().kill()?;
    run(&cluster, &documented("Uninstall", 1)?)?;
    assert_ne!(secrets(&cluster)?, [""; 0]);
    run(&cluster, &documented("Uninstall", 2)?)?;
    assert_eq!(secrets(&cluster)?, [""; 0]);
    cluster.run(&["get", "secret", "foreign", "--namespace", "apps"])?;
    nothing_is_left(&cluster)?;
    Ok(())
}

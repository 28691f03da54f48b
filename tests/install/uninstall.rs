//! What `docs/install.md` says about installing and uninstalling, done as it is written there, with pullpass as a process
//! beside the cluster.

use std::error::Error;
use std::time::Duration;

use pullpass_test_support::{Azure, ControlPlane, Installation, Login, Scratch, end_to_end_wanted, wait_for};
use serde_json::{Value, json};

use crate::accepted::takes_admission_policies;
use crate::documents::{block, commands, installation, run};
use crate::operators::define_operators;
use crate::render::{Test, checkout};

const SOON: Duration = Duration::from_mins(2);

/// The namespaces and names of the Secrets that were created for a registry.
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

/// A cluster in which a registry is attached and two namespaces have its pull secret, and into which pullpass was then
/// installed in one of the documented ways. A process beside the cluster does its work: nobody starts the Pods.
fn in_use<'a>(
    cluster: &'a ControlPlane,
    checkout: &Scratch,
    way: &str,
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
    let proof = commands("Prove it", 1)?.replace("mycontainerregistry", &login.name);
    let expected = block("docs/install.md", "Prove it", "text", 0)?;
    assert_eq!(
        run(cluster, checkout, &proof)?,
        expected.replace("mycontainerregistry", &login.name)
    );

    define_operators(cluster)?;
    let mut commands = installation(way)?;
    if !takes_admission_policies(cluster)? {
        commands = commands
            .split_inclusive('\n')
            .filter(|line| !line.contains("components/admission-policy"))
            .collect();
    }
    run(cluster, checkout, &commands)?;
    // That it is there, so that it can be reported about it that it is gone.
    cluster.run(&["get", "clusterrole", "pullpass-rescue"])?;
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

/// Installs in one of the documented ways and deletes all by the `nth` block of commands.
fn leave_nothing_behind(way: &str, nth: usize) -> Test {
    end_to_end_wanted()?;
    let cluster = ControlPlane::start()?;
    let checkout = checkout()?;
    let login = Login::new("registry1", 1);
    let azure = Azure::start(std::slice::from_ref(&login))?;
    let _pullpass = in_use(&cluster, &checkout, way, &azure, &login)?;
    run(&cluster, &checkout, &commands("Uninstall", 0)?)?;
    // What is left of the credential holds nothing.
    let emptied = format!("pullpass-system/credential-{}", login.name);
    assert_eq!(secrets(&cluster)?, [emptied]);
    run(&cluster, &checkout, &commands("Uninstall", nth)?)?;
    nothing_is_left(&cluster)?;
    Ok(())
}

#[test]
fn the_documented_commands_leave_nothing_behind() -> Test {
    leave_nothing_behind("kubectl", 1)
}

#[test]
fn the_documented_commands_for_helm_leave_nothing_behind() -> Test {
    leave_nothing_behind("Helm", 2)
}

#[test]
fn secrets_that_were_left_behind_can_be_found_and_deleted() -> Test {
    end_to_end_wanted()?;
    let cluster = ControlPlane::start()?;
    let checkout = checkout()?;
    let login = Login::new("registry1", 1);
    let azure = Azure::start(std::slice::from_ref(&login))?;
    let mut pullpass = in_use(&cluster, &checkout, "kubectl", &azure, &login)?;
    cluster.apply(
        r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "foreign", "namespace": "apps"}}"#,
    )?;
    // In the wrong order: nobody is there any more to delete the Secrets.
    pullpass.process().kill()?;
    run(&cluster, &checkout, &commands("Uninstall", 1)?)?;
    assert_ne!(secrets(&cluster)?, [""; 0]);
    run(&cluster, &checkout, &commands("Uninstall", 3)?)?;
    assert_eq!(secrets(&cluster)?, [""; 0]);
    cluster.run(&["get", "secret", "foreign", "--namespace", "apps"])?;
    nothing_is_left(&cluster)?;
    Ok(())
}

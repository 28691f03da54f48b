//! What a team sees of the pull secrets in its namespace, with the rights that a team has.

use std::path::Path;
use std::process::{Command, Output};

use pullpass_test_support::wait_for;
use serde_json::{Value, json};

use crate::world::{SOON, Test, World, pull_secret, shared, text};

fn audit(kubeconfig: &Path, namespace: &str) -> Result<Output, std::io::Error> {
    Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .arg("audit")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["--namespace", namespace, "--output=wide"])
        .output()
}

/// A registry whose pull secret somebody else's Secret keeps from a namespace, in which a Pod needs it.
fn namespace_with_a_conflict(world: &World) -> Result<(String, String), Box<dyn std::error::Error>> {
    let login = world.attached(&json!({}))?;
    let namespace = world.pullpass.new_namespace(&[])?;
    let secret = pull_secret(&login);
    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": secret, "namespace": namespace},
    });
    world.cluster.apply(&foreign.to_string())?;
    world.run_pod(&namespace, &login)?;
    world.wait_for_distribution(&login, "NameConflict")?;
    Ok((namespace, secret))
}

fn grant(world: &World, team: &str, role: &str, in_namespace: Option<&str>) -> Test {
    let kind = if in_namespace.is_some() {
        "rolebinding"
    } else {
        "clusterrolebinding"
    };
    let name = format!("{team}-{role}");
    let (role, account) = (
        format!("--clusterrole={role}"),
        format!("--serviceaccount={team}:team"),
    );
    let mut arguments = vec!["create", kind, &name, &role, &account];
    arguments.extend(
        in_namespace
            .into_iter()
            .flat_map(|namespace| ["--namespace", namespace]),
    );
    world.cluster.run(&arguments)?;
    Ok(())
}

#[test]
fn a_team_reads_why_it_has_no_pull_secret() -> Test {
    let world = shared()?;
    let (namespace, secret) = namespace_with_a_conflict(world)?;
    let in_namespace = ["--namespace", &namespace];
    world
        .cluster
        .run(&[&["create", "serviceaccount", "team"], &in_namespace[..]].concat())?;
    let kubeconfig = world.cluster.service_account_kubeconfig(&namespace, "team")?;

    let refused = audit(&kubeconfig, &namespace)?;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = String::from_utf8(refused.stderr)?;
    assert!(said.contains("ClusterRole pullpass-view"), "{said}");
    grant(world, &namespace, "pullpass-view", None)?;
    wait_for("the role to be known", SOON, || {
        let refused = audit(&kubeconfig, &namespace).map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        let names_next = said.contains(&format!("ClusterRole view in namespace {namespace}"));
        if names_next { Ok(()) } else { Err(said) }
    })?;
    grant(world, &namespace, "view", Some(&namespace))?;
    wait_for("the audit", SOON, || {
        let found = audit(&kubeconfig, &namespace).map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&found.stdout).into_owned();
        let is_told =
            found.status.success() && said.contains("lacks some of its pull secrets: NameConflict: ");
        if is_told {
            Ok(())
        } else {
            Err(format!("{said}{found:?}"))
        }
    })?;

    // The team's own kubectl shows the Event.
    let about = format!("--field-selector=involvedObject.name={secret}");
    let events = wait_for("the Event", SOON, || {
        let listed = world
            .cluster
            .kubectl_as(&kubeconfig)
            .args([
                "get",
                "events",
                "--output=json",
                &about,
                "--namespace",
                &namespace,
            ])
            .output()
            .map_err(|error| error.to_string())?;
        let list: Value = serde_json::from_slice(&listed.stdout).map_err(|_| format!("{listed:?}"))?;
        let items = list
            .get("items")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        if items.is_empty() {
            Err("none".to_owned())
        } else {
            Ok(items)
        }
    })?;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(text(&events[0], "/reason"), "NameConflict");
    assert_eq!(text(&events[0], "/type"), "Warning");
    assert_eq!(text(&events[0], "/involvedObject/kind"), "Secret");
    let command = format!("kubectl delete secret {secret} --namespace {namespace}");
    assert!(text(&events[0], "/message").ends_with(&command), "{events:?}");
    Ok(())
}

#[test]
fn a_viewer_of_the_cluster_sees_registries_and_edits_none() -> Test {
    let world = shared()?;
    let namespace = world.pullpass.new_namespace(&[])?;
    let account = format!("system:serviceaccount:{namespace}:team");
    let may = |verb: &str, what: &str| world.cluster.may(&account, verb, what, &[]);
    grant(world, &namespace, "view", None)?;
    // The controller manager aggregates what is labelled.
    wait_for("the role to be aggregated", SOON, || {
        let may = may("list", "acrregistries").map_err(|error| error.to_string())?;
        if may { Ok(()) } else { Err("not yet".to_owned()) }
    })?;
    assert!(!may("create", "acrregistries")?);
    assert!(!may("get", "secrets")?);
    grant(world, &namespace, "pullpass-edit", None)?;
    wait_for("the role to be known", SOON, || {
        let may = may("create", "acrregistries").map_err(|error| error.to_string())?;
        if may { Ok(()) } else { Err("not yet".to_owned()) }
    })?;
    for (verb, what) in [
        ("patch", "acrregistries"),
        ("delete", "acrregistries"),
        ("get", "acrindexes"),
    ] {
        assert!(may(verb, what)?, "{verb} {what}");
    }
    for (verb, what, scope) in [
        ("patch", "acrregistries", &["--subresource=status"][..]),
        ("patch", "acrindexes", &[]),
        ("get", "secrets", &[]),
    ] {
        assert!(
            !world.cluster.may(&account, verb, what, scope)?,
            "{verb} {what} {scope:?}"
        );
    }
    Ok(())
}

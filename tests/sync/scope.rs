//! `--mode`, `--exclude-namespaces` and `--namespace-selector` hold for the pull secrets that are written, and not only
//! for admission.

use std::collections::BTreeSet;
use std::error::Error;

use pullpass_test_support::{ControlPlane, Login, wait_for};
use serde_json::{Value, json};

use crate::world::{
    RESYNC, SOON, Test, World, cluster_of_its_own, eager_for, make_namespaces, namespaces_of, pod_that_names,
    pull_secret, replica, text,
};

/// Labelled `enabled`, and excluded all the same.
const EXCLUDED: [&str; 4] = ["excluded", "kube-system", "kube-public", "pullpass-system"];

/// Every namespace that has the pull secret of a registry.
fn with_pull_secret(cluster: &ControlPlane, login: &Login) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let field = format!("--field-selector=metadata.name={}", pull_secret(login));
    let list = cluster.get_json(&["secrets", "--all-namespaces", &field])?;
    Ok(namespaces_of(&list).collect())
}

fn label(cluster: &ControlPlane, namespace: &str, label: &str) -> Test {
    cluster.run(&["label", "--overwrite", "namespace", namespace, label])?;
    Ok(())
}

/// Waits until everything was looked at some times more: the pull secret of a namespace comes back each time.
fn wait_for_looks(world: &World, login: &Login, namespace: &str) -> Test {
    for _ in 0..3 {
        let uid = text(&world.wait_for_secret(namespace, login)?, "/metadata/uid").to_owned();
        let name = pull_secret(login);
        world
            .cluster
            .run(&["delete", "secret", &name, "--namespace", namespace])?;
        world.wait_for_secret_that(namespace, login, "be put back", |secret| {
            text(secret, "/metadata/uid") != uid
        })?;
    }
    Ok(())
}

#[test]
fn only_namespaces_in_scope_get_pull_secrets() -> Test {
    let cluster = cluster_of_its_own()?;
    let world = World::with_pullpass(
        &cluster,
        2,
        |_| {},
        |builder| {
            builder
                .overlay("opt-in")
                .label("pullpass.dev/inject", "enabled")
                .flag("--mode=opt-in")
                .flag("--exclude-namespaces=excluded")
                .flag("--namespace-selector=tier!=test")
                .namespace_selector(&[json!({"key": "tier", "operator": "NotIn", "values": ["test"]})])
                .flag(RESYNC)
        },
    )?;
    // All of a team, whom a selector tells from nobody.
    make_namespaces(&cluster, "all", 8)?;
    cluster.run(&["create", "namespace", "excluded"])?;
    let [late, disabled, mistyped, unlabelled] = ["all-0", "all-1", "all-2", "all-3"];
    let [first, second, entering, leaving] = ["all-4", "all-5", "all-6", "all-7"];
    label(&cluster, disabled, "pullpass.dev/inject=disabled")?;
    label(&cluster, mistyped, "pullpass.dev/inject=true")?;
    for namespace in EXCLUDED.iter().chain(&[first, second, entering, leaving]) {
        label(&cluster, namespace, "pullpass.dev/inject=enabled")?;
    }
    label(&cluster, entering, "tier=test")?;
    label(&cluster, leaving, "tier=web")?;
    let enabled = cluster.get_json(&["namespaces", "--selector=pullpass.dev/inject=enabled"])?;
    let mut expected: BTreeSet<String> = enabled
        .get("items")
        .and_then(Value::as_array)
        .ok_or("there are no namespaces")?
        .iter()
        .map(|namespace| text(namespace, "/metadata/name").to_owned())
        .collect();
    for namespace in EXCLUDED.iter().chain(&[entering]) {
        assert!(expected.remove(*namespace), "{namespace} is not enabled");
    }
    // Those that the installation itself was started with, and three of the above.
    assert_eq!(expected.len(), 5, "{expected:?}");

    let eager = world.attached(&json!({"provision": "Eager"}))?;
    let of_a_team = world.attached(&eager_for("all"))?;
    // A Pod that names the secret by hand needs it no less than one that was injected, and changes nothing.
    for namespace in [late, disabled, mistyped, unlabelled, entering]
        .iter()
        .chain(&EXCLUDED)
    {
        pod_that_names(&cluster, namespace, &eager)?;
    }
    world.wait_for_served(&eager, 5)?;
    world.wait_for_served(&of_a_team, 3)?;
    wait_for_looks(&world, &eager, first)?;
    assert_eq!(with_pull_secret(&cluster, &eager)?, expected);
    let teams = BTreeSet::from([first, second, leaving].map(str::to_owned));
    assert_eq!(with_pull_secret(&cluster, &of_a_team)?, teams);

    // A namespace that opts in later gets them, and one whose label goes loses them; the same for the selector's labels.
    label(&cluster, late, "pullpass.dev/inject=enabled")?;
    label(&cluster, second, "pullpass.dev/inject-")?;
    label(&cluster, entering, "tier-")?;
    label(&cluster, leaving, "tier=test")?;
    expected.extend([late, entering].map(str::to_owned));
    expected.retain(|namespace| ![second, leaving].contains(&namespace.as_str()));
    wait_for(
        "the secrets to follow the labels",
        SOON,
        || match with_pull_secret(&cluster, &eager) {
            Ok(now) if now == expected => Ok(()),
            Ok(now) => Err(format!("{now:?}")),
            Err(error) => Err(error.to_string()),
        },
    )?;
    Ok(())
}

/// As while `--mode` is rolled out, or after it was rolled back.
#[test]
fn a_secret_written_under_other_rules_goes() -> Test {
    let cluster = cluster_of_its_own()?;
    let world = World::with_pullpass(
        &cluster,
        1,
        |_| {},
        |builder| {
            builder
                .overlay("opt-in")
                .label("pullpass.dev/inject", "enabled")
                .flag("--mode=opt-in")
                .flag("--emptied-interval=1")
                .flag(RESYNC)
        },
    )?;
    let login = world.attached(&json!({}))?;
    let other = replica(&cluster, &world.azure)?;
    let namespace = other.new_namespace(&[])?;
    world.run_pod(&namespace, &login)?;
    let code_of = |event: &Value| event.pointer("/responseStatus/code").and_then(Value::as_u64);
    let did = |verb: &str| -> Result<bool, Box<dyn Error>> {
        let events = cluster.audit_events()?;
        Ok(events.iter().any(|event| {
            text(event, "/verb") == verb
                && text(event, "/objectRef/namespace") == namespace
                && text(event, "/objectRef/name") == pull_secret(&login)
                && code_of(event).is_some_and(|code| code < 300)
        }))
    };
    wait_for(
        "the other replica to write, and the leader to delete",
        SOON,
        || {
            ["patch", "delete"]
                .iter()
                .all(|verb| did(verb).unwrap_or_default())
        },
    )?;
    cluster.run(&[
        "delete",
        "pods",
        "--all",
        "--namespace",
        &namespace,
        "--grace-period=0",
        "--force",
    ])?;
    world.wait_for_no_secret(&namespace, &login)?;
    let enabled = world
        .pullpass
        .new_namespace(&[("pullpass.dev/inject", "enabled")])?;
    world.run_pod(&enabled, &login)?;
    wait_for_looks(&world, &login, &enabled)?;
    assert_eq!(world.secret(&namespace, &pull_secret(&login))?, None);
    Ok(())
}

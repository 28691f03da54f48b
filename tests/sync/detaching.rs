//! Detaching leaves no pull secret behind, though a replica may be behind.

use std::error::Error;

use pullpass_test_support::ControlPlane;
use serde_json::json;

use crate::world::{Test, World, cluster_of_its_own, pull_secret, replica, replica_that_keeps, text};

/// So long that nothing is swept again in a test.
const FOR_EVER: &str = "--emptied-interval=86400";

/// A world whose leader does not sweep again.
fn start(cluster: &ControlPlane) -> Result<World<'_>, Box<dyn Error>> {
    let mut world = World::start(cluster, 1, |_| {})?;
    world.pullpass = replica_that_keeps(cluster, &world.azure, FOR_EVER)?;
    Ok(world)
}

#[test]
fn a_secret_written_late_by_a_slow_replica_goes() -> Test {
    let cluster = cluster_of_its_own()?;
    let mut world = start(&cluster)?;
    let login = world.attached(&json!({}))?;
    let namespace = world.namespace_in_need(&login)?;
    let written = world.wait_for_secret(&namespace, &login)?;
    world.detach(&login)?;
    let emptied = world.wait_until_swept(&login)?;
    world.wait_for_no_secret(&namespace, &login)?;

    // Its watch is behind: it writes what it holds.
    let late = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {
            "name": pull_secret(&login), "namespace": namespace,
            "labels": written.pointer("/metadata/labels"), "annotations": written.pointer("/metadata/annotations"),
        },
        "data": written.get("data"),
    });
    let apply = [
        "apply",
        "--server-side",
        "--field-manager=pullpass",
        "--filename",
        "-",
    ];
    cluster.run_with_input(&apply, &late.to_string())?;

    // Another leader, who knows of it only by the emptied credential.
    world.pullpass.process().kill()?;
    assert_eq!(world.wait_until_swept(&login)?, emptied);
    world.wait_for_secret(&namespace, &login)?;
    let _next = replica(&cluster, &world.azure)?;
    world.wait_until_nothing_is_left(&login)
}

#[test]
fn an_emptied_credential_is_minted_again_on_attach() -> Test {
    let cluster = cluster_of_its_own()?;
    let world = start(&cluster)?;
    let login = world.attached(&json!({}))?;
    let namespace = world.namespace_in_need(&login)?;
    world.wait_for_secret(&namespace, &login)?;
    world.detach(&login)?;
    world.wait_until_swept(&login)?;
    world.attach_with(&login, &json!({}))?;
    world.wait_for_reason(&login, "Minted")?;
    world.wait_for_secret(&namespace, &login)?;
    let minted = world
        .secret("pullpass-system", &format!("credential-{}", login.name))?
        .unwrap_or_default();
    assert_ne!(World::docker_config(&minted)?, "{}");
    for annotation in ["emptied-at", "pull-secrets"] {
        assert_eq!(
            text(
                &minted,
                &format!("/metadata/annotations/pullpass.dev~1{annotation}")
            ),
            ""
        );
    }
    Ok(())
}

#[test]
fn a_registry_that_becomes_anonymous_leaves_no_secret() -> Test {
    let cluster = cluster_of_its_own()?;
    let world = World::start(&cluster, 1, |_| {})?;
    let login = world.attached(&json!({}))?;
    let namespaces = [world.namespace_in_need(&login)?, world.namespace_in_need(&login)?];
    for namespace in &namespaces {
        world.wait_for_secret(namespace, &login)?;
    }
    world.attach_with(&login, &json!({"identity": {"anonymous": {}}}))?;
    world.wait_until_nothing_is_left(&login)
}

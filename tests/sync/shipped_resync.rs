//! What is taken up immediately is taken up because it is told, and not because everything is looked at again: here that
//! happens every ten minutes only, as it is shipped.

use std::error::Error;
use std::sync::OnceLock;

use pullpass_test_support::{ControlPlane, wait_for};
use serde_json::{Value, json};

use crate::world::{
    SOON, Test, World, cluster_of_its_own, eager_for, make_namespaces, pod_that_names, pull_secret,
    replica_builder, text,
};

/// Far more than [`SOON`], which bounds every wait here.
const SHIPPED: &str = "--resync-interval=600";

/// The world that these tests share, and others that nothing but a report may bring about.
pub fn world() -> Result<&'static World<'static>, Box<dyn Error>> {
    static CLUSTER: OnceLock<Result<ControlPlane, String>> = OnceLock::new();
    static WORLD: OnceLock<Result<World<'static>, String>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| cluster_of_its_own().map_err(|error| error.to_string()));
    let cluster = cluster.as_ref().map_err(String::as_str)?;
    let start = || -> Result<World<'static>, Box<dyn Error>> {
        let world = World::with_pullpass(cluster, 12, |_| {}, |builder| builder.flag(SHIPPED))?;
        // Replicas that are started later don't lead, so that they can be killed.
        wait_for("pullpass to lead", SOON, || {
            let metrics = world.pullpass.metrics().map_err(|error| error.to_string())?;
            metrics
                .contains("\npullpass_leader 1\n")
                .then_some(())
                .ok_or(metrics)
        })?;
        Ok(world)
    };
    let world = WORLD.get_or_init(|| start().map_err(|error| error.to_string()));
    Ok(world.as_ref().map_err(String::as_str)?)
}

#[test]
fn opting_out_and_in_again_is_taken_up_immediately() -> Test {
    let world = world()?;
    let login = world.attached(&json!({}))?;
    let namespace = world.namespace_in_need(&login)?;
    world.wait_for_secret(&namespace, &login)?;
    let label = |label: &str| world.cluster.run(&["label", "namespace", &namespace, label]);
    label("pullpass.dev/inject=disabled")?;
    world.wait_for_no_secret(&namespace, &login)?;
    label("pullpass.dev/inject-")?;
    world.wait_for_secret(&namespace, &login)?;
    Ok(())
}

#[test]
fn a_namespace_that_opts_in_is_taken_up_immediately() -> Test {
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
                .flag(SHIPPED)
        },
    )?;
    let login = world.attached(&eager_for("late"))?;
    make_namespaces(&cluster, "late", 1)?;
    let label = |label: &str| cluster.run(&["label", "namespace", "late-0", label]);
    for _ in 0..2 {
        label("pullpass.dev/inject=enabled")?;
        world.wait_for_secret("late-0", &login)?;
        label("pullpass.dev/inject-")?;
        world.wait_for_no_secret("late-0", &login)?;
    }
    Ok(())
}

#[test]
fn an_edited_selector_is_taken_up_immediately() -> Test {
    let world = world()?;
    let login = world.attached(&json!({}))?;
    let [a, b] = ["a", "b"].map(|team| world.pullpass.new_namespace(&[("team", team)]));
    let (a, b) = (a?, b?);
    for namespace in [&a, &b] {
        world.run_pod(namespace, &login)?;
        world.wait_for_secret(namespace, &login)?;
    }
    for (team, with, without) in [("a", &a, &b), ("b", &b, &a)] {
        let patch = json!({"spec": {"namespaces": {"matchLabels": {"team": team}}}}).to_string();
        let patch = ["patch", "acr", &login.name, "--type=merge", "--patch", &patch];
        world.cluster.run(&patch)?;
        world.wait_for_no_secret(without, &login)?;
        world.wait_for_secret(with, &login)?;
    }
    Ok(())
}

#[test]
fn a_conflict_that_ends_is_taken_up_within_seconds() -> Test {
    let world = world()?;
    let login = world.attached(&json!({}))?;
    let namespace = world.pullpass.new_namespace(&[])?;
    let name = pull_secret(&login);
    let foreign = ["secret", "generic", &name, "--namespace", &namespace];
    world.cluster.run(&[&["create"][..], &foreign].concat())?;
    world.run_pod(&namespace, &login)?;
    world.wait_for_distribution(&login, "NameConflict")?;
    world
        .cluster
        .run(&["delete", "secret", &name, "--namespace", &namespace])?;
    world.wait_for_secret_that(&namespace, &login, "be pullpass' own", is_minted)?;
    world.wait_for_distribution(&login, "Distributed")?;
    Ok(())
}

fn is_minted(secret: &Value) -> bool {
    !text(secret, "/metadata/annotations/pullpass.dev~1refreshed-at").is_empty()
}

#[test]
fn a_pod_whose_replica_died_gets_its_secret() -> Test {
    let world = world()?;
    let login = world.login()?;
    world.attach(&login, "wrong", &json!({}))?;
    world.wait_for_reason(&login, "EntraRejected")?;
    // The Pod is admitted by a replica that waits for the credential, and is gone before there is one.
    let mut other = replica_builder(world.cluster, &world.azure)
        .flag(SHIPPED)
        .start()?;
    let namespace = other.new_namespace(&[])?;
    world.run_pod(&namespace, &login)?;
    other.process().kill()?;
    world.cluster.apply(&login.secret(&login.password).to_string())?;
    world.wait_for_reason(&login, "Minted")?;
    world.wait_for_secret(&namespace, &login)?;
    Ok(())
}

#[test]
fn a_pod_that_nobody_was_asked_about_gets_its_secret() -> Test {
    let world = world()?;
    let login = world.attached(&json!({}))?;
    world.cluster.run(&["create", "namespace", "not-asked-about"])?;
    pod_that_names(world.cluster, "not-asked-about", &login)?;
    world.wait_for_secret("not-asked-about", &login)?;
    Ok(())
}

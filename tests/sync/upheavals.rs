//! Replicas that die, an API server that restarts, a cluster of a thousand namespaces.

use std::error::Error;

use pullpass_emulator::Step;
use pullpass_test_support::{ControlPlane, Installation, Login, wait_for};
use serde_json::{Value, json};

use crate::world::{SOON, Test, World, cluster_of_its_own, replica, text};

fn wait_until_it_leads(replica: &Installation<'_>) -> Test {
    wait_for("a replica to lead", SOON, || {
        let metrics = replica.metrics().map_err(|error| error.to_string())?;
        if metrics.lines().any(|line| line == "pullpass_leader 1") {
            Ok(())
        } else {
            Err("another one leads".to_owned())
        }
    })?;
    Ok(())
}

fn leads(replica: &Installation<'_>) -> Result<bool, Box<dyn Error>> {
    Ok(replica.metrics()?.lines().any(|line| line == "pullpass_leader 1"))
}

/// Makes so many namespaces at once.
fn make_namespaces(cluster: &ControlPlane, count: usize) -> Test {
    let items: Vec<_> = (0..count)
        .map(|number| {
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
                "name": format!("many-{number}"), "labels": {"team": "many"},
            }})
        })
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    cluster.run_with_input(&["create", "--filename", "-"], &list.to_string())?;
    Ok(())
}

fn eager() -> Value {
    json!({"provision": "Eager", "namespaces": {"matchLabels": {"team": "many"}}})
}

/// Waits until so many namespaces have the pull secret.
fn wait_for_secrets(world: &World, login: &Login, count: usize) -> Test {
    wait_for("every namespace to have the secret", SOON, || {
        let there = world
            .namespaces_with_secrets(login)
            .map_err(|error| error.to_string())?;
        // The minted credential is one more.
        if there.len() == count + 1 {
            Ok(())
        } else {
            Err(format!("{} have", there.len()))
        }
    })?;
    Ok(())
}

#[test]
fn when_the_leader_is_killed_another_one_goes_on_and_nothing_is_missing() -> Test {
    const COUNT: usize = 100;
    let cluster = cluster_of_its_own()?;
    let mut world = World::start(&cluster, 2, |_| {})?;
    wait_until_it_leads(&world.pullpass)?;
    let second = replica(&cluster, &world.azure)?;
    let login = world.attached(&json!({}))?;
    // Each is asked about a namespace, and each writes on demand; one of them leads.
    let by_the_first = world.namespace_in_need(&login)?;
    let by_the_second = second.new_namespace(&[])?;
    world.run_pod(&by_the_second, &login)?;
    let mut before = Vec::new();
    for namespace in [&by_the_first, &by_the_second] {
        before.push(world.wait_for_secret(namespace, &login)?);
    }
    assert!(!leads(&second)?);

    make_namespaces(&cluster, COUNT)?;
    let fanned_out = world.login()?;
    world.attach(&fanned_out, &fanned_out.password, &eager())?;
    // In the midst of it.
    wait_for("the first secret", SOON, || {
        world
            .namespaces_with_secrets(&fanned_out)
            .is_ok_and(|there| there.len() > 1)
    })?;
    world.pullpass.process().kill()?;
    let meanwhile = second.new_namespace(&[])?;
    world.run_pod(&meanwhile, &login)?;
    world.wait_for_secret(&meanwhile, &login)?;
    wait_until_it_leads(&second)?;
    wait_for_secrets(&world, &fanned_out, COUNT)?;
    world.wait_for_served(&login, 3)?;
    let mut after = Vec::new();
    for namespace in [&by_the_first, &by_the_second] {
        after.push(world.wait_for_secret(namespace, &login)?);
    }
    assert_eq!(after, before, "they were written twice");
    assert_eq!(world.azure.counts().calls_at(Step::Exchange, &login.host), 1);
    assert_eq!(world.azure.counts().calls_at(Step::Exchange, &fanned_out.host), 1);
    Ok(())
}

#[test]
fn a_registry_detached_while_nobody_ran_leaves_no_secret() -> Test {
    let cluster = cluster_of_its_own()?;
    let mut world = World::start(&cluster, 1, |_| {})?;
    let login = world.attached(&json!({}))?;
    let namespace = world.namespace_in_need(&login)?;
    world.wait_for_secret(&namespace, &login)?;
    world.pullpass.process().kill()?;
    world.detach(&login)?;
    assert_eq!(world.namespaces_with_secrets(&login)?.len(), 2);
    let _next = replica(&cluster, &world.azure)?;
    wait_for("all secrets of the registry to go", SOON, || {
        let left = world
            .namespaces_with_secrets(&login)
            .map_err(|error| error.to_string())?;
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })?;
    Ok(())
}

#[test]
fn it_goes_on_after_the_api_server_restarted() -> Test {
    let cluster = cluster_of_its_own()?;
    let mut world = World::start(&cluster, 2, |_| {})?;
    let login = world.attached(&json!({}))?;
    let namespace = world.namespace_in_need(&login)?;
    let before = world.wait_for_secret(&namespace, &login)?;
    cluster.restart_api_server()?;
    let later = world.attached(&json!({}))?;
    let other = world.namespace_in_need(&later)?;
    world.wait_for_secret(&other, &later)?;
    let another = world.namespace_in_need(&login)?;
    world.wait_for_secret(&another, &login)?;
    assert_eq!(world.wait_for_secret(&namespace, &login)?, before);
    world.pullpass.process().check_running()?;
    Ok(())
}

#[test]
fn a_thousand_namespaces_cost_one_call_to_entra_and_one_exchange() -> Test {
    const COUNT: usize = 1000;
    let cluster = cluster_of_its_own()?;
    let world = World::start(&cluster, 1, |_| {})?;
    make_namespaces(&cluster, COUNT)?;
    let login = world.attached(&eager())?;
    wait_for_secrets(&world, &login, COUNT)?;
    let object = world.wait_for_served(&login, 1000)?;
    assert_eq!(text(&object, "/status/conditions/0/reason"), "Minted");
    let counts = world.azure.counts();
    assert_eq!(counts.calls_at(Step::EntraToken, &login.tenant), 1);
    assert_eq!(counts.calls_at(Step::Exchange, &login.host), 1);
    world.detach(&login)?;
    wait_for("all secrets of the registry to go", SOON, || {
        let left = world
            .namespaces_with_secrets(&login)
            .map_err(|error| error.to_string())?;
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{} are left", left.len()))
        }
    })?;
    Ok(())
}

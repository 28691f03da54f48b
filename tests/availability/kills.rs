//! kill -9 of a replica, of the leader, of the API server.

use pullpass_emulator::{Lifetimes, Step};
use pullpass_test_support::{Login, wait_for};
use serde_json::{Value, json};

use crate::ask::injects;
use crate::lease::{expect_taken_soon_after, lease};
use crate::load::Load;
use crate::world::{NAMESPACE, OWN_NAMESPACE, Replica, SOON, Test, World, is_injected, pod};

const ADMISSIONS: usize = 40;
const LIFE: Lifetimes = Lifetimes {
    entra_seconds: 3599,
    refresh_seconds: 30,
    access_seconds: 30,
};

#[test]
fn creations_succeed_on_retry_after_the_leader_is_killed() -> Test {
    let world = World::start(|config| config.lifetimes = LIFE)?;
    let login = world.login(1)?;
    let mut leader = world.start_replica(&[])?;
    leader.wait_until_it_leads()?;
    let other = world.start_replica(&[])?;
    world.publish(&[&leader, &other])?;
    world.attach(login)?;
    world.wait_until_minted(login)?;
    world.wait_until_injected(login)?;
    let load = Load::start(world.cluster.kubeconfig(), login)?;
    load.wait_for_more(ADMISSIONS)?;
    assert_eq!(load.failures(), [""; 0]);

    leader.webhook.process().kill()?;
    let ends = lease(&world.cluster)?.ends;
    // Half of the new connections are refused until the endpoint is gone, and all of it is admitted in the end.
    load.burst_until("a creation to fail", || Ok(!load.failures().is_empty()))?;
    load.wait_for_more(ADMISSIONS)?;
    world.publish(&[&other])?;
    wait_until_none_fails(&load)?;
    let known = load.failures();
    load.wait_for_more(ADMISSIONS)?;
    let outcome = load.end()?;
    assert_eq!(outcome.failures, known, "they still fail");
    assert!(
        known
            .iter()
            .all(|failure| failure.contains("failed calling webhook")),
        "{known:#?}"
    );
    assert_eq!(outcome.bare, 0, "of {}", outcome.admitted);

    other.wait_until_it_leads()?;
    expect_taken_soon_after(&world.cluster, ends)?;
    // It refreshes what the other one minted.
    let before = refreshed(&world, login)?;
    wait_for("a refresh", SOON, || match refreshed(&world, login) {
        Ok(now) if now > before => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    Ok(())
}

#[test]
fn a_killed_replicas_endpoint_acts_by_the_failure_policy() -> Test {
    let world = World::start(|_| {})?;
    let login = world.login(1)?;
    let mut dead = world.start_replica(&[])?;
    let other = world.start_replica(&[])?;
    world.publish(&[&dead])?;
    world.attach(login)?;
    world.wait_until_injected(login)?;
    dead.webhook.process().kill()?;

    // Fail: it is refused, and the same succeeds as soon as there is a replica to ask.
    let refused = world
        .create_pod(NAMESPACE, login)
        .map_err(|error| error.to_string());
    let Err(refused) = refused else {
        return Err("it was admitted".into());
    };
    assert!(
        refused.contains("failed calling webhook \"pods.pullpass.dev\""),
        "{refused}"
    );
    // Who names no image on ACR never depended on it.
    let mut other_image = pod(NAMESPACE, login);
    if let Some(image) = other_image.pointer_mut("/spec/containers/0/image") {
        *image = json!("nginx");
    }
    world.cluster.create(&other_image.to_string())?;
    // Ignore: the Pod is admitted as it is.
    world.set_failure_policy("Ignore")?;
    let bare = wait_for("a Pod to be admitted as it is", SOON, || {
        world
            .create_pod(NAMESPACE, login)
            .map_err(|error| error.to_string())
    })?;
    assert!(!is_injected(&bare, login), "{bare:#}");
    world.publish(&[&other])?;
    world.wait_until_injected(login)?;
    Ok(())
}

#[test]
fn replicas_continue_after_the_api_server_restarts() -> Test {
    let mut world = World::start(|_| {})?;
    let [first, second] = [world.login(1)?.clone(), world.login(2)?.clone()];
    let mut replicas = [world.start_replica(&[])?, world.start_replica(&[])?];
    world.publish(&[&replicas[0], &replicas[1]])?;
    world.attach(&first)?;
    world.wait_until_minted(&first)?;
    world.wait_until_injected(&first)?;
    let bundle = world.bundle()?;

    world.cluster.api_server().ok_or("there is none")?.kill()?;
    for replica in &replicas {
        replica.webhook.readyz()?;
        assert!(injects(replica, &bundle, NAMESPACE, &first)?);
    }
    // What is left of it is taken away.
    world.cluster.stop_api_server()?;
    world.cluster.start_api_server()?;
    world.attach(&second)?;
    world.wait_until_minted(&second)?;
    world.wait_until_injected(&second)?;
    wait_for("both to know the new registry", SOON, || {
        both_know(&replicas, &bundle, &second).map_err(|error| error.to_string())
    })?;
    let leaders = replicas.iter().filter(|replica| replica.leads().unwrap_or(false));
    assert_eq!(leaders.count(), 1);
    for login in [&first, &second] {
        assert_eq!(
            world.azure.counts().calls_at(Step::Exchange, &login.host),
            1,
            "{}",
            login.name
        );
    }
    for replica in &mut replicas {
        replica.webhook.process().check_running()?;
    }
    Ok(())
}

fn both_know(replicas: &[Replica], bundle: &str, login: &Login) -> Result<(), Box<dyn std::error::Error>> {
    for replica in replicas {
        if !injects(replica, bundle, NAMESPACE, login)? {
            return Err("one does not".into());
        }
    }
    Ok(())
}

/// The API server learns of an endpoint's end a moment later: waits until many creations in a row succeed.
fn wait_until_none_fails(load: &Load) -> Test {
    let mut before = usize::MAX;
    wait_for("creations to succeed", SOON, || {
        load.wait_for_more(ADMISSIONS)
            .map_err(|error| error.to_string())?;
        let now = load.failures().len();
        let is_over = now == before;
        before = now;
        if is_over {
            Ok(())
        } else {
            Err(format!("{now} failed"))
        }
    })?;
    Ok(())
}

fn refreshed(world: &World, login: &Login) -> Result<String, Box<dyn std::error::Error>> {
    let name = format!("credential-{}", login.name);
    let secret: Value = world
        .cluster
        .get_json(&["secret", &name, "--namespace", OWN_NAMESPACE])?;
    let annotation = secret.pointer("/metadata/annotations/pullpass.dev~1refreshed-at");
    Ok(annotation
        .and_then(Value::as_str)
        .ok_or("it has no such annotation")?
        .to_owned())
}

//! An API server that restarts, watches that expire, a cluster of a thousand namespaces.

use std::fs;

use pullpass_emulator::Step;
use pullpass_test_support::{Signal, wait_for};
use serde_json::json;

use crate::world::{SOON, Test, World, cluster_of_its_own, eager_for, make_namespaces, pod_that_names, text};

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
fn watches_that_expired_miss_nothing() -> Test {
    let cluster = cluster_of_its_own()?;
    let mut world = World::start(&cluster, 4, |_| {})?;
    make_namespaces(&cluster, "before", 2)?;
    let stays = world.attached(&eager_for("before"))?;
    let goes = world.attached(&eager_for("before"))?;
    let rotated = world.attached(&json!({}))?;
    for login in [&stays, &goes] {
        world.wait_for_secrets(login, 2)?;
    }

    // Stopped while nobody answers, it has no connection that would bring it anything of what follows.
    cluster.stop_api_server()?;
    world.pullpass.process().signal(Signal::Stop)?;
    cluster.start_api_server()?;
    let comes = world.login()?;
    world.attach(&comes, &comes.password, &eager_for("before"))?;
    world.detach(&goes)?;
    assert!(world.azure.rotate_secret(&rotated.client, "rotated")?);
    cluster.apply(&rotated.secret("rotated").to_string())?;
    cluster.run(&["label", "namespace", "before-0", "pullpass.dev/inject=disabled"])?;
    let new = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new", "labels": {"team": "before"}}});
    cluster.apply(&new.to_string())?;
    cluster.run(&["create", "namespace", "needs"])?;
    pod_that_names(&cluster, "needs", &rotated)?;
    // etcd forgets what it was before, and the API server, which remembers some of it, is another one.
    cluster.compact_etcd()?;
    cluster.restart_api_server()?;
    let log = world.pullpass.process().stderr().to_owned();
    let told_before = fs::read_to_string(&log)?.len();
    world.pullpass.process().signal(Signal::Continue)?;

    world.wait_for_reason(&comes, "Minted")?;
    world.wait_until_nothing_is_left(&goes)?;
    world.wait_for_secret("needs", &rotated)?;
    for login in [&stays, &comes] {
        world.wait_for_secret("new", login)?;
        world.wait_for_no_secret("before-0", login)?;
    }
    wait_for("the rotated password to be taken up", SOON, || {
        world.azure.counts().calls_at(Step::Exchange, &rotated.host) == 2
    })?;
    world.wait_for_reason(&rotated, "Minted")?;
    // What was there before is still upheld.
    cluster.run(&["label", "namespace", "before-0", "pullpass.dev/inject-"])?;
    for login in [&stays, &comes] {
        world.wait_for_secret("before-0", login)?;
    }

    let told = fs::read_to_string(&log)?.split_off(told_before);
    let expired: Vec<_> = told
        .lines()
        .filter(|line| line.contains("a watch failed") && line.contains("too old resource version"))
        .collect();
    // Registries, namespaces, Pods and minted credentials are what is watched, and logged when it fails.
    assert!(expired.len() >= 2, "{told}");
    Ok(())
}

#[test]
fn a_thousand_namespaces_cost_one_mint() -> Test {
    const COUNT: usize = 1000;
    let cluster = cluster_of_its_own()?;
    let world = World::start(&cluster, 1, |_| {})?;
    make_namespaces(&cluster, "many", COUNT)?;
    let login = world.attached(&eager_for("many"))?;
    world.wait_for_secrets(&login, COUNT)?;
    let object = world.wait_for_served(&login, 1000)?;
    assert_eq!(text(&object, "/status/conditions/0/reason"), "Minted");
    let counts = world.azure.counts();
    assert_eq!(counts.calls_at(Step::EntraToken, &login.tenant), 1);
    assert_eq!(counts.calls_at(Step::Exchange, &login.host), 1);
    world.detach(&login)?;
    let what = "the pull secrets to go";
    // The second sweep is slow, and takes as long as it likes.
    wait_for(what, SOON, || {
        let left = world
            .namespaces_with_secrets(&login)
            .map_err(|error| error.to_string())?;
        if left.iter().all(|namespace| namespace == "pullpass-system") {
            Ok(())
        } else {
            Err(left.len().to_string())
        }
    })?;
    Ok(())
}

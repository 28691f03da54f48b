//! What bounds the `AcrPullBindings` of a namespace, and what keeps one namespace's from those of another.

use std::error::Error;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pullpass_emulator::{Failure, Fault, Step};
use pullpass_test_support::{Login, wait_for};
use serde_json::{Value, json};

use crate::bound_team::{ACCOUNT, Team};
use crate::bound_world::{install_bindings, with_bindings};
use crate::world::{RESYNC, SOON, Test, World, cluster_of_its_own, text};

/// How many bindings of a namespace are served.
const MAX_SERVED: usize = 32;

/// How many of them are worked on concurrently, of one namespace and of all.
const OF_NAMESPACE: u64 = 4;
const OF_ALL: u64 = 32;
/// How long a request to Entra ID is waited for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Creates bindings of these names, for the host of a registry.
fn bind(world: &World, namespace: &str, host: &str, names: impl Iterator<Item = String>) -> Test {
    let binding = |name: String| {
        json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"loginServer": host, "serviceAccountName": ACCOUNT},
        })
    };
    let all: Vec<_> = names.map(binding).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": all});
    world.cluster.apply(&list.to_string())?;
    Ok(())
}

/// The names of the bindings of a namespace that are not served, once as many have a reason.
fn not_served(world: &World, namespace: &str, count: usize) -> Result<Vec<String>, Box<dyn Error>> {
    Ok(wait_for("every binding to have a reason", SOON, || {
        let list = world
            .cluster
            .get_json(&["acrpullbindings", "--namespace", namespace])
            .map_err(|error| error.to_string())?;
        let items = list.get("items").and_then(Value::as_array);
        let reasons: Vec<_> = items
            .into_iter()
            .flatten()
            .map(|item| {
                (
                    text(item, "/metadata/name"),
                    text(item, "/status/conditions/0/reason"),
                )
            })
            .collect();
        if reasons.len() != count || reasons.iter().any(|(_, reason)| reason.is_empty()) {
            return Err(format!("{reasons:?}"));
        }
        let refused = reasons.iter().filter(|(_, reason)| *reason == "TooManyBindings");
        Ok(refused.map(|(name, _)| (*name).to_owned()).collect())
    })?)
}

#[test]
fn the_oldest_bindings_of_a_namespace_are_served() -> Test {
    let world = with_bindings()?;
    let team = Team::new(world)?;
    let namespace = &team.namespace;
    // By name, these are the last.
    bind(
        world,
        namespace,
        &team.login.host,
        (0..MAX_SERVED).map(|number| format!("old{number:02}")),
    )?;
    assert_eq!(not_served(world, namespace, MAX_SERVED)?, [""; 0]);
    // Of the same second, their names would count.
    let second = || Timestamp::now().as_second();
    let created = second();
    wait_for("a later second", SOON, || second() > created)?;
    bind(
        world,
        namespace,
        &team.login.host,
        (0..3).map(|number| format!("new{number}")),
    )?;
    let new = ["new0", "new1", "new2"];
    assert_eq!(not_served(world, namespace, MAX_SERVED + 3)?, new);
    let injected = team.injected_in(namespace)?;
    assert_eq!(injected.len(), MAX_SERVED);
    assert!(
        injected
            .iter()
            .all(|name| name.starts_with("pullpass-binding-old")),
        "{injected:?}"
    );

    let delete = ["delete", "acrpullbinding", "old07", "--namespace", namespace];
    world.cluster.run(&delete)?;
    wait_for("the next one to be served", SOON, || {
        let refused = not_served(world, namespace, MAX_SERVED + 2).map_err(|error| error.to_string())?;
        if refused == new[1..] {
            Ok(())
        } else {
            Err(format!("{refused:?}"))
        }
    })?;
    let injected = team.injected_in(namespace)?;
    assert!(
        injected.contains(&"pullpass-binding-new0".to_owned()),
        "{injected:?}"
    );
    let metrics = world.pullpass.metrics()?;
    let has_series = |name: &str| metrics.contains(&format!("registry=\"{namespace}/{name}\""));
    assert!(has_series("new0") && !has_series("new2"), "{metrics}");
    Ok(())
}

/// Waits until so many requests for tokens of a tenant were begun, none of which is answered.
fn wait_for_requests(world: &World, login: &Login, count: u64) -> Test {
    let calls = || world.azure.counts().calls_at(Step::EntraToken, &login.tenant);
    wait_for(&format!("{count} requests that hang"), SOON, || {
        if calls() >= count {
            Ok(())
        } else {
            Err(calls().to_string())
        }
    })?;
    Ok(())
}

/// Fails where more were begun since then than so many at a time can have: each lasts until nobody waits for it any more.
fn assert_concurrent(world: &World, login: &Login, most: u64, begun: Instant) {
    let calls = world.azure.counts().calls_at(Step::EntraToken, &login.tenant);
    let rounds = begun.elapsed().as_secs() / REQUEST_TIMEOUT.as_secs() + 1;
    assert!(
        calls <= most * rounds,
        "{calls} requests in {rounds} rounds of {most}"
    );
}

#[test]
fn a_namespace_whose_bindings_hang_starves_no_other() -> Test {
    let world = with_bindings()?;
    let (stuck, well) = (Team::new(world)?, Team::new(world)?);
    let hang = Failure::new(Step::EntraToken, Fault::Hang).at(&stuck.login.tenant);
    world.azure.inject(hang);
    stuck.make_account()?;
    stuck.grant()?;
    let begun = Instant::now();
    let names = (0..MAX_SERVED).map(|number| format!("stuck{number:02}"));
    bind(world, &stuck.namespace, &stuck.login.host, names)?;
    wait_for_requests(world, &stuck.login, OF_NAMESPACE)?;
    well.do_all()?;
    well.wait_for_secret(true)?;
    assert_concurrent(world, &stuck.login, OF_NAMESPACE, begun);
    let delete = [
        "delete",
        "acrpullbindings",
        "--all",
        "--namespace",
        &stuck.namespace,
    ];
    world.cluster.run(&delete)?;
    Ok(())
}

#[test]
fn no_more_than_32_bindings_are_worked_on_concurrently() -> Test {
    let cluster = cluster_of_its_own()?;
    install_bindings(&cluster)?;
    let world = World::with_pullpass(
        &cluster,
        2,
        |_| {},
        |builder| builder.flag(RESYNC).flag("--bindings"),
    )?;
    let login = world.login()?;
    world
        .azure
        .inject(Failure::new(Step::EntraToken, Fault::Hang).at(&login.tenant));
    let mut teams = Vec::new();
    for _ in 0..12 {
        let team = Team::of(&world, login.clone())?;
        team.make_account()?;
        team.grant()?;
        teams.push(team);
    }
    let begun = Instant::now();
    for team in &teams {
        let names = (0..OF_NAMESPACE).map(|number| format!("stuck{number}"));
        bind(&world, &team.namespace, &login.host, names)?;
    }
    wait_for_requests(&world, &login, OF_ALL)?;
    // What is minted for all namespaces does not wait for them.
    world.attached(&json!({}))?;
    assert_concurrent(&world, &login, OF_ALL, begun);
    Ok(())
}

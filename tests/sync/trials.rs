//! Static credentials are tried against the registry before anybody is told that they work, and again later.

use std::error::Error;

use pullpass_emulator::{Failure, Fault, Registry, RepositoryScope, ScopedToken, Step};
use pullpass_test_support::Login;
use serde_json::{Value, json};

use crate::client::pull;
use crate::pull_rights::wait_for_right;
use crate::world::{Test, World, cluster_of_its_own, pull_secret, replica, shared, text, wait_for_looks};

/// Gives the registry a repository-scoped token.
fn put_token(world: &World, login: &Login, password: &str, disabled: bool) -> Test {
    let mut registry = Registry::new(&login.tenant, &login.host);
    registry.tokens = vec![ScopedToken {
        name: "puller".to_owned(),
        passwords: vec![password.to_owned()],
        scopes: vec![RepositoryScope {
            repository: "app".to_owned(),
            actions: vec!["pull".to_owned()],
        }],
        disabled,
        ..ScopedToken::default()
    }];
    world.azure.put_registry(registry)?;
    Ok(())
}

/// Gives pullpass a password of the token.
fn give(world: &World, login: &Login, password: &str) -> Test {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": token_secret(login),
            "namespace": "pullpass-system",
            "annotations": {"pullpass.dev/registries": login.name},
        },
        "stringData": {"username": "puller", "password": password},
    });
    world.cluster.apply(&secret.to_string())?;
    Ok(())
}

fn token_secret(login: &Login) -> String {
    format!("{}-token", login.name)
}

fn attach(world: &World, login: &Login) -> Test {
    let identity = json!({"basic": {"secretRef": {"name": token_secret(login)}}});
    world.attach_with(login, &json!({"identity": identity}))
}

/// The message of `Ready`, which names no password.
fn message(object: &Value) -> &str {
    let message = text(object, "/status/conditions/0/message");
    assert!(!message.contains("hunter"), "{message}");
    message
}

#[test]
fn a_wrong_token_is_not_handed_out_and_the_right_one_is() -> Test {
    let world = shared()?;
    let login = world.login()?;
    world.azure.push_image(&login, "app")?;
    put_token(world, &login, "hunter2", false)?;
    give(world, &login, "hunter1")?;
    attach(world, &login)?;
    let refused = world.wait_for_reason(&login, "ExchangeRejected")?;
    assert!(
        message(&refused).contains("az acr token credential generate --name puller"),
        "{refused:#}"
    );
    let namespace = world.namespace_in_need(&login)?;
    wait_for_looks(world)?;
    assert_eq!(world.secret(&namespace, &pull_secret(&login))?, None);

    give(world, &login, "hunter2")?;
    world.wait_for_reason(&login, "Minted")?;
    let secret = world.wait_for_secret(&namespace, &login)?;
    pull(world, &login, "app", &World::docker_config(&secret)?)?;

    // One that is wrong leaves the last good one where it is.
    give(world, &login, "hunter3")?;
    let refused = world.wait_for_reason(&login, "ExchangeRejected")?;
    assert!(message(&refused).contains("Pods keep using"), "{refused:#}");
    wait_for_looks(world)?;
    let after = world.wait_for_secret(&namespace, &login)?;
    assert_eq!(after.get("data"), secret.get("data"));
    Ok(())
}

#[test]
fn a_service_principals_wrong_password_is_refused_with_a_cure() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let spec = json!({"credential": {"kind": "ServicePrincipalPassword"}});
    world.attach(&login, "hunter1", &spec)?;
    let refused = world.wait_for_reason(&login, "ExchangeRejected")?;
    let message = message(&refused);
    assert!(
        message.contains("--append --query password") && message.contains("--role AcrPull"),
        "{message}"
    );
    world.cluster.apply(&login.secret(&login.password).to_string())?;
    world.wait_for_reason(&login, "Minted")?;
    Ok(())
}

#[test]
fn a_token_is_not_ready_while_the_registry_is_away() -> Test {
    let world = shared()?;
    let login = world.login()?;
    put_token(world, &login, "hunter2", false)?;
    let outage = Failure::new(Step::Token, Fault::status(503)).at(&login.host);
    world.azure.inject(outage.times(3));
    give(world, &login, "hunter2")?;
    attach(world, &login)?;
    world.wait_for_reason(&login, "Unreachable")?;
    world.wait_for_reason(&login, "Minted")?;
    Ok(())
}

#[test]
fn the_next_leader_finds_a_token_that_was_disabled() -> Result<(), Box<dyn Error>> {
    let cluster = cluster_of_its_own()?;
    let mut world = World::start(&cluster, 2, |_| {})?;
    let login = world.login()?;
    put_token(&world, &login, "hunter2", false)?;
    give(&world, &login, "hunter2")?;
    attach(&world, &login)?;
    world.wait_for_reason(&login, "Minted")?;
    let namespace = world.namespace_in_need(&login)?;
    let before = world.wait_for_secret(&namespace, &login)?;
    // A Pod names a repository now, about which the registry is asked in the same way, once.
    wait_for_right(&world, &login, "True")?;
    let calls = || world.azure.counts().calls_at(Step::Token, &login.host);
    let tried = calls();

    put_token(&world, &login, "hunter2", true)?;
    wait_for_looks(&world)?;
    assert_eq!(calls(), tried, "it is asked about hourly");
    world.pullpass.process().kill()?;
    let _next = replica(&cluster, &world.azure)?;
    world.wait_for_reason(&login, "ExchangeRejected")?;
    put_token(&world, &login, "hunter2", false)?;
    world.wait_for_reason(&login, "Minted")?;
    let after = world.wait_for_secret(&namespace, &login)?;
    assert_eq!(after, before, "nothing was written for it");
    Ok(())
}

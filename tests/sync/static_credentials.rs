//! Credentials that are not minted: what a Secret holds goes into the pull secrets as it is.

use pullpass_emulator::{Registry, RepositoryScope, ScopedToken, Step};
use pullpass_test_support::Login;
use serde_json::{Value, json};

use crate::client::{assert_pulls_when_attached, assert_refused, pull};
use crate::world::{Test, World, shared, text};

fn assert_nothing_was_minted(world: &World, login: &Login) {
    let counts = world.azure.counts();
    assert_eq!(counts.calls_at(Step::EntraToken, &login.tenant), 0);
    assert_eq!(counts.calls_at(Step::Exchange, &login.host), 0);
}

/// Waits until a pull secret holds another credential than before, with which an image can be pulled.
fn assert_taken_up(world: &World, login: &Login, before: &Value) -> Test {
    let namespace = text(before, "/metadata/namespace");
    let after = world.wait_for_secret_that(namespace, login, "hold the new credential", |secret| {
        secret.get("data") != before.get("data")
    })?;
    world.wait_for_reason(login, "Minted")?;
    pull(world, login, "app", &World::docker_config(&after)?)?;
    assert_refused(world, login, "app", &World::docker_config(before)?);
    Ok(())
}

#[test]
fn a_repository_scoped_token_pulls_after_a_password_change() -> Test {
    let world = shared()?;
    let login = world.login()?;
    for repository in ["app", "other"] {
        world.azure.push_image(&login, repository)?;
    }
    let name = format!("{}-token", login.name);
    let use_password = |password: &str| -> Test {
        let mut registry = Registry::new(&login.tenant, &login.host);
        registry.tokens = vec![ScopedToken {
            name: "puller".to_owned(),
            passwords: vec![password.to_owned()],
            scopes: vec![RepositoryScope {
                repository: "app".to_owned(),
                actions: vec!["pull".to_owned()],
            }],
            ..ScopedToken::default()
        }];
        world.azure.put_registry(registry)?;
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": "pullpass-system",
                "annotations": {"pullpass.dev/registries": format!("another, {}", login.name)},
            },
            "stringData": {"name": "puller", "password": password},
        });
        world.cluster.apply(&secret.to_string())?;
        Ok(())
    };
    use_password("one")?;
    let identity = json!({"basic": {"secretRef": {"name": name, "usernameKey": "name"}}});
    let secret = assert_pulls_when_attached(world, &login, &json!({"identity": identity}))?;
    assert_refused(world, &login, "other", &World::docker_config(&secret)?);
    let annotations = secret.pointer("/metadata/annotations").and_then(Value::as_object);
    assert!(annotations.is_some_and(|all| !all.contains_key("pullpass.dev/expires-at")));

    use_password("two")?;
    assert_taken_up(world, &login, &secret)?;
    assert_nothing_was_minted(world, &login);
    Ok(())
}

#[test]
fn a_service_principals_password_pulls_after_a_change() -> Test {
    let world = shared()?;
    let login = world.login()?;
    world.azure.push_image(&login, "app")?;
    world.cluster.apply(&login.secret(&login.password).to_string())?;
    let spec = json!({"credential": {"kind": "ServicePrincipalPassword"}});
    let secret = assert_pulls_when_attached(world, &login, &spec)?;

    assert!(world.azure.rotate_secret(&login.client, "rotated")?);
    world.cluster.apply(&login.secret("rotated").to_string())?;
    assert_taken_up(world, &login, &secret)?;
    assert_nothing_was_minted(world, &login);
    Ok(())
}

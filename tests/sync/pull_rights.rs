//! What a registry's credential may pull is found out from repositories that Pods name, and said in a condition.

use std::error::Error;

use pullpass_emulator::{Registry, Role, RoleAssignment, Step};
use pullpass_test_support::{Login, wait_for};
use serde_json::{Value, json};

use crate::world::{SOON, Test, World, shared, text, wait_for_looks};

fn condition(object: &Value) -> Option<&Value> {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array)?;
    conditions
        .iter()
        .find(|condition| text(condition, "/type") == "PullAuthorized")
}

/// Waits for the status of the condition, and returns its message.
pub fn wait_for_right(world: &World, login: &Login, status: &str) -> Result<String, Box<dyn Error>> {
    let what = format!("what {} may pull to be {status}", login.name);
    Ok(wait_for(&what, SOON, || {
        let object = world.registry(login).map_err(|error| error.to_string())?;
        match condition(&object) {
            Some(condition) if text(condition, "/status") == status => {
                Ok(text(condition, "/message").to_owned())
            }
            _ => Err(format!("{object:#}")),
        }
    })?)
}

/// A Pod with images of these repositories.
fn run_pod_of(world: &World, login: &Login, repositories: &[&str]) -> Test {
    let namespace = world.pullpass.new_namespace(&[])?;
    let containers: Vec<_> = repositories
        .iter()
        .enumerate()
        .map(|(number, repository)| {
            json!({"name": format!("c{number}"), "image": format!("{}/{repository}:v1", login.host)})
        })
        .collect();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "namespace": namespace},
        "spec": {"containers": containers},
    });
    world.cluster.apply(&pod.to_string())?;
    Ok(())
}

#[test]
fn a_role_that_is_missing_on_an_abac_registry_is_named() -> Test {
    let world = shared()?;
    let login = world.login()?;
    world
        .azure
        .put_registry(Registry::abac(&login.tenant, &login.host))?;
    world.attach(&login, &login.password, &json!({}))?;
    world.wait_for_reason(&login, "Minted")?;
    let unknown = wait_for_right(world, &login, "Unknown")?;
    assert!(unknown.contains("when a Pod names an image"), "{unknown}");

    run_pod_of(world, &login, &["team/app"])?;
    let denied = wait_for_right(world, &login, "False")?;
    for part in [
        "team/app",
        "--role AcrPull",
        "Container Registry Repository Reader",
        &login.client,
    ] {
        assert!(denied.contains(part), "{part}: {denied}");
    }
    let object = world.wait_for_reason(&login, "Minted")?;
    assert_eq!(text(&object, "/status/conditions/0/status"), "True");

    // A role takes minutes to act, so it is asked again by itself only later; a change of the spec asks within 30 seconds.
    world.azure.grant(RoleAssignment {
        repositories: vec!["team/*".to_owned()],
        ..RoleAssignment::new(&login.client, &login.host, Role::RepositoryReader)
    })?;
    world.attach_with(&login, &json!({"credential": {"refreshFraction": 0.4}}))?;
    let allowed = wait_for_right(world, &login, "True")?;
    assert!(allowed.contains("team/app"), "{allowed}");
    Ok(())
}

#[test]
fn a_classic_registrys_right_is_asked_about_once() -> Test {
    let world = shared()?;
    let login = world.attached(&json!({}))?;
    let calls = || world.azure.counts().calls_at(Step::Token, &login.host);
    assert_eq!(calls(), 0, "no repository is known");
    run_pod_of(world, &login, &["app", "other"])?;
    let allowed = wait_for_right(world, &login, "True")?;
    assert!(allowed.ends_with("from app, other"), "{allowed}");
    wait_for_looks(world)?;
    assert_eq!(calls(), 1);
    Ok(())
}

#[test]
fn one_repository_of_several_is_named_that_may_not_be_pulled() -> Test {
    let world = shared()?;
    let login = world.login()?;
    world
        .azure
        .put_registry(Registry::abac(&login.tenant, &login.host))?;
    world.azure.grant(RoleAssignment {
        repositories: vec!["app".to_owned()],
        ..RoleAssignment::new(&login.client, &login.host, Role::RepositoryReader)
    })?;
    world.attach(&login, &login.password, &json!({}))?;
    world.wait_for_reason(&login, "Minted")?;
    run_pod_of(world, &login, &["app", "other"])?;
    let denied = wait_for_right(world, &login, "False")?;
    assert!(
        denied.starts_with("the credential may not pull from other."),
        "{denied}"
    );
    Ok(())
}

#[test]
fn repositories_of_an_access_token_are_authorized_by_it() -> Test {
    let world = shared()?;
    let login = world.login()?;
    world
        .azure
        .put_registry(Registry::abac(&login.tenant, &login.host))?;
    let spec = json!({"credential": {"kind": "AccessToken", "repositories": ["app", "web"]}});
    world.attach(&login, &login.password, &spec)?;
    world.wait_for_reason(&login, "ExchangeRejected")?;
    let denied = wait_for_right(world, &login, "False")?;
    assert!(
        denied.contains("Container Registry Repository Reader"),
        "{denied}"
    );
    let role = RoleAssignment::new(&login.client, &login.host, Role::RepositoryReader);
    world.azure.grant(role)?;
    world.wait_for_reason(&login, "Minted")?;
    let allowed = wait_for_right(world, &login, "True")?;
    assert!(allowed.ends_with("from app, web"), "{allowed}");
    Ok(())
}

#[test]
fn a_registry_without_credentials_has_no_such_condition() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let spec = json!({"identity": {"anonymous": {}}, "credential": null});
    world.attach_with(&login, &spec)?;
    let object = wait_for(&format!("{} to be ready", login.name), SOON, || {
        let object = world.registry(&login).map_err(|error| error.to_string())?;
        match text(&object, "/status/conditions/0/reason") {
            "Anonymous" => Ok(object),
            _ => Err(format!("{object:#}")),
        }
    })?;
    assert_eq!(condition(&object), None);
    Ok(())
}

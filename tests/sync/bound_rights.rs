//! What the identity of an AcrPullBinding may pull is told as it is of an AcrRegistry.

use std::error::Error;

use pullpass_emulator::{Registry, Role, RoleAssignment};
use pullpass_test_support::wait_for;
use serde_json::{Value, json};

use crate::bound_team::{BINDING, Team};
use crate::bound_world::with_bindings;
use crate::world::{SOON, Test, text};

impl Team<'_, '_> {
    /// Waits for the status of the condition `PullAuthorized`, and returns its message.
    fn wait_for_right(&self, status: &str) -> Result<String, Box<dyn Error>> {
        let what = format!("what the binding in {} may pull to be {status}", self.namespace);
        Ok(wait_for(&what, SOON, || {
            let get = ["acrpullbinding", BINDING, "--namespace", &self.namespace];
            let object = self.world.cluster.get_json(&get);
            let object = object.map_err(|error| error.to_string())?;
            let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
            let mut conditions = conditions.into_iter().flatten();
            let right = conditions.find(|condition| text(condition, "/type") == "PullAuthorized");
            match right {
                Some(right) if text(right, "/status") == status => Ok(text(right, "/message").to_owned()),
                _ => Err(format!("{object:#}")),
            }
        })?)
    }
}

#[test]
fn a_repository_that_a_binding_may_not_pull_is_named() -> Test {
    let world = with_bindings()?;
    let team = Team::new(world)?;
    let login = &team.login;
    world
        .azure
        .put_registry(Registry::abac(&login.tenant, &login.host))?;
    team.do_all()?;
    let unknown = team.wait_for_right("Unknown")?;
    assert!(unknown.contains("when a Pod names an image"), "{unknown}");

    team.injected_in(&team.namespace)?;
    let denied = team.wait_for_right("False")?;
    for part in [
        "the credential may not pull from app",
        "Container Registry Repository Reader",
        &login.client,
    ] {
        assert!(denied.contains(part), "{part}: {denied}");
    }

    // A role takes minutes to act, so it is asked again by itself only later; a change of the spec asks within 30 seconds.
    world.azure.grant(RoleAssignment {
        repositories: vec!["app".to_owned()],
        ..RoleAssignment::new(&login.client, &login.host, Role::RepositoryReader)
    })?;
    team.bind_with(&json!({"credential": {"refreshFraction": 0.4}}))?;
    let allowed = team.wait_for_right("True")?;
    assert!(allowed.ends_with("from app"), "{allowed}");
    let granted = format!(
        "pullpass_registry_condition{{registry=\"{}/{BINDING}\",type=\"PullAuthorized\",status=\"True\",reason=\"Authorized\"}} 1",
        team.namespace
    );
    let metrics = world.pullpass.metrics()?;
    assert!(metrics.contains(&granted), "{metrics}");
    Ok(())
}

//! Pull secrets that the API server refuses: the status says so in its words, and they are written when it refuses no more.

use pullpass_test_support::wait_for;
use serde_json::json;

use crate::world::{SOON, Test, World, shared, text};

/// A namespace in which nobody may create another Secret, as a quota has it that is used up.
fn full_namespace(world: &World) -> Result<String, Box<dyn std::error::Error>> {
    let namespace = world.pullpass.new_namespace(&[])?;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "no-secrets", "namespace": namespace},
        "spec": {"hard": {"count/secrets": "0"}},
    });
    world.cluster.create(&quota.to_string())?;
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "any", "namespace": namespace}});
    let create = ["create", "--dry-run=server", "--filename", "-"];
    wait_for("the quota to be in force", SOON, || {
        match world.cluster.run_with_input(&create, &secret.to_string()) {
            Ok(_) => Err("it is not".to_owned()),
            Err(refused) if refused.to_string().contains("no-secrets") => Ok(()),
            Err(other) => Err(other.to_string()),
        }
    })?;
    Ok(namespace)
}

#[test]
fn refused_pull_secrets_are_counted_until_they_are_written() -> Test {
    let world = shared()?;
    let namespace = full_namespace(world)?;
    let login = world.attached(&json!({}))?;
    world.run_pod(&namespace, &login)?;
    let object = world.wait_for_distribution(&login, "SecretsRefused")?;
    let condition = |field: &str| text(&object, &format!("/status/conditions/1/{field}")).to_owned();
    assert_eq!(
        (condition("type"), condition("status")),
        ("Distributed".into(), "False".into())
    );
    let message = condition("message");
    assert!(
        message.contains(&namespace) && message.contains("no-secrets"),
        "{message}"
    );
    assert_eq!(
        text(&object, "/status/conditions/0/status"),
        "True",
        "the credential works"
    );
    world
        .cluster
        .run(&["delete", "resourcequota", "no-secrets", "--namespace", &namespace])?;
    world.wait_for_secret(&namespace, &login)?;
    world.wait_for_distribution(&login, "Distributed")?;
    Ok(())
}

//! A registry that comes to allow anonymous pull: it is ready without a credential, and its pull secrets go.

use pullpass_test_support::{ControlPlane, wait_for};
use serde_json::{Value, json};

use crate::world::{FREE, OPEN, SOON, Test, attach, cluster, items, list, pull_secrets, pullpass, text};

fn wait_for_reason(cluster: &ControlPlane, registry: &str, reason: &str) -> Test {
    wait_for("the condition", SOON, || {
        let object = cluster
            .get_json(&["acrregistry", registry])
            .map_err(|error| error.to_string())?;
        let mut conditions = items(&object, "/status/conditions");
        let ready = conditions.find(|condition| text(condition, "/type") == "Ready");
        match ready {
            Some(ready) if text(ready, "/reason") == reason && text(ready, "/status") == "True" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    Ok(())
}

#[test]
fn a_registry_without_credentials_is_ready_and_has_no_secret() -> Test {
    let cluster = cluster()?;
    let pullpass = pullpass(&cluster).flag("--unattached=deny").start()?;
    attach(&cluster)?;
    wait_for_reason(&cluster, FREE, "Anonymous")?;
    wait_for_reason(&cluster, OPEN, "Minted")?;
    let namespace = pullpass.new_namespace(&[])?;
    let create = |name: &str, registry: &str| {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"containers": [{"name": "main", "image": format!("{registry}.azurecr.io/app:v1")}]},
        });
        cluster.run_with_input(
            &["create", "--output", "json", "--filename", "-"],
            &pod.to_string(),
        )
    };
    let free: Value = wait_for("the registry to be known", SOON, || {
        let created = create("free", FREE).map_err(|error| error.to_string())?;
        serde_json::from_str(&created.stdout).map_err(|error| error.to_string())
    })?;
    assert!(pull_secrets(&free).is_empty(), "{free}");
    create("open", OPEN)?;
    let secret = format!("pullpass-{OPEN}");
    wait_for("the pull secret", SOON, || {
        cluster.get_json(&["secret", "--namespace", &namespace, &secret])
    })?;

    let anonymous = json!({
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "AcrRegistry",
        "metadata": {"name": OPEN},
        "spec": {"loginServer": format!("{OPEN}.azurecr.io"), "identity": {"anonymous": {}}},
    });
    cluster.run_with_input(&["replace", "--filename", "-"], &list(&[anonymous]))?;
    wait_for_reason(&cluster, OPEN, "Anonymous")?;
    wait_for("the pull secret to go", SOON, || {
        let secrets = cluster
            .get_json(&["secrets", "--namespace", &namespace])
            .map_err(|error| error.to_string())?;
        match items(&secrets, "/items").count() {
            0 => Ok(()),
            count => Err(format!("{count} are there")),
        }
    })?;
    Ok(())
}

//! Pull secrets that a Pod has already stay, in their order.

use serde_json::json;

use crate::cluster::{Test, pullpass};
use crate::objects::{create, pod_with, pull_secrets, text};

const IMAGE: &str = "myregistry.azurecr.io/web:1";

#[test]
fn the_pods_own_pull_secrets_come_first() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    let stored = create(&pod_with(
        &namespace,
        "own",
        json!({
            "imagePullSecrets": [{"name": "zulu"}, {"name": "alpha"}],
            "containers": [{"name": "main", "image": IMAGE}],
        }),
    ))?;
    assert_eq!(
        pull_secrets(&stored.object),
        ["zulu", "alpha", "pullpass-myregistry"]
    );
    Ok(())
}

#[test]
fn the_service_accounts_pull_secrets_come_first() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    create(&json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "builder", "namespace": namespace},
        "imagePullSecrets": [{"name": "zulu"}, {"name": "alpha"}],
    }))?;
    let stored = create(&pod_with(
        &namespace,
        "account",
        json!({
            "serviceAccountName": "builder",
            "containers": [{"name": "main", "image": IMAGE}],
        }),
    ))?;
    assert_eq!(
        pull_secrets(&stored.object),
        ["zulu", "alpha", "pullpass-myregistry"]
    );
    Ok(())
}

#[test]
fn a_pod_that_names_the_pull_secret_itself_is_left_as_it_is() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    let stored = create(&pod_with(
        &namespace,
        "there",
        json!({
            "imagePullSecrets": [{"name": "pullpass-myregistry"}, {"name": "other"}],
            "containers": [{"name": "main", "image": IMAGE}],
        }),
    ))?;
    assert_eq!(pull_secrets(&stored.object), ["pullpass-myregistry", "other"]);
    for record in pullpass.wait_for_records(&namespace, 1)? {
        assert_eq!(text(&record, "/decision"), "already-present");
    }
    Ok(())
}

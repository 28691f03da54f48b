//! `ServiceAccounts` that enforce mountable secrets: the API server validates pull secrets after every webhook.

use pullpass_test_support::wait_for;
use serde_json::{Value, json};

use crate::world::{OPEN, SOON, Test, attach, cluster, list, pull_secrets, pullpass};

fn account(namespace: &str, name: &str, secrets: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"},
        },
        "imagePullSecrets": secrets,
    })
}

fn pod(namespace: &str, account: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": account, "namespace": namespace},
        "spec": {
            "serviceAccountName": account,
            "containers": [{"name": "main", "image": format!("{OPEN}.azurecr.io/app:v1")}],
        },
    })
    .to_string()
}

#[test]
fn a_strict_account_has_to_list_the_pull_secret() -> Test {
    let cluster = cluster()?;
    let pullpass = pullpass(&cluster).start()?;
    attach(&cluster)?;
    let namespace = pullpass.new_namespace(&[])?;
    let secret = format!("pullpass-{OPEN}");
    cluster.apply(&list(&[
        account(&namespace, "strict", &Value::Null),
        account(&namespace, "listed", &json!([{"name": secret}])),
    ]))?;
    let create = |name: &str| {
        let arguments = ["create", "--output", "json", "--filename", "-"];
        cluster.run_with_input(&arguments, &pod(&namespace, name))
    };
    let message = format!(
        "imagePullSecrets[0].name=\"{secret}\" is not allowed because service account strict does not reference that \
         imagePullSecret"
    );
    wait_for("the API server's refusal", SOON, || match create("strict") {
        Err(error) if error.to_string().contains(&message) => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => {
            cluster
                .run(&["delete", "pod", "strict", "--namespace", &namespace, "--now"])
                .map_err(|error| error.to_string())?;
            Err("pullpass does not know the registry yet".to_owned())
        }
    })?;
    let created: Value = serde_json::from_str(&create("listed")?.stdout)?;
    assert_eq!(pull_secrets(&created), [secret.as_str()]);
    // The API server took the name from the account, and the namespace needs the Secret all the same.
    wait_for("the pull secret", SOON, || {
        cluster.get_json(&["secret", "--namespace", &namespace, &secret])
    })?;
    Ok(())
}

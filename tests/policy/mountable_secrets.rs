//! `ServiceAccounts` that enforce mountable secrets: the API server validates pull secrets after every webhook.

use std::process::Command;

use pullpass_test_support::wait_for;
use serde_json::{Value, json};

use crate::admission_policy::{injected, with_index};
use crate::world::{OPEN, SOON, Test, attach, cluster, list, namespace, pull_secrets, pullpass, text};

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
fn the_policy_alone_keeps_pods_of_strict_accounts_admissible() -> Test {
    let secret = format!("pullpass-{OPEN}");
    let host = format!("{OPEN}.azurecr.io");
    let cluster = with_index(&json!({
        "mode": "cluster-wide", "unattached": "allow", "forbidden": "warn",
        "hosts": {host: [secret]},
        // No Pod gets, only because of its label, the name of a Secret that can't be there.
        "pullSecrets": {&secret: {"registry": OPEN}, "pullpass-broken": {"registry": "broken", "unminted": true}},
        "strictServiceAccounts": {
            "apps": {"strict": [], "listed": [secret]}, "always": {"strict": [], "listed": [secret]},
            // The index has no room for those of these.
            "full": {"*": []}, "full-always": {"*": []},
        },
    }))?;
    for (name, labels) in [
        ("apps", json!({})),
        ("always", json!({"pullpass.dev/always-inject": "true"})),
    ] {
        namespace(&cluster, name, &labels)?;
        cluster.apply(&list(&[
            account(name, "strict", &Value::Null),
            account(name, "unknown", &Value::Null),
            // A Pod that names one of them is given no other by the API server.
            account(name, "listed", &json!([{"name": secret}, {"name": "other"}])),
        ]))?;
        let created = |account: &str| injected(&cluster, &pod(name, account));
        wait_for("the policy to inject", SOON, || match created("default") {
            Ok(names) if names == [secret.as_str()] => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
        assert_eq!(created("strict")?, [""; 0], "{name}");
        let mut with_another: Value = serde_json::from_str(&pod(name, "listed"))?;
        let spec = with_another.get_mut("spec").and_then(Value::as_object_mut);
        spec.ok_or("there is no spec")?
            .insert("imagePullSecrets".to_owned(), json!([{"name": "other"}]));
        let names = injected(&cluster, &with_another.to_string())?;
        assert_eq!(names, ["other", secret.as_str()], "{name}");
        let refused = created("unknown").err().ok_or("it was admitted")?.to_string();
        assert!(
            refused.contains("is not allowed because service account unknown"),
            "{refused}"
        );
        // Nobody knows which ServiceAccounts are strict there: the webhook decides.
        let full = name.replace("apps", "full").replace("always", "full-always");
        namespace(&cluster, &full, &labels)?;
        cluster.apply(&list(&[account(&full, "unknown", &Value::Null)]))?;
        for account in ["unknown", "default"] {
            assert_eq!(injected(&cluster, &pod(&full, account))?, [""; 0], "{full}");
        }
    }
    Ok(())
}

#[test]
fn a_strict_account_keeps_its_pods_admissible() -> Test {
    let cluster = cluster()?;
    let pullpass = pullpass(&cluster).start()?;
    attach(&cluster)?;
    let namespace = pullpass.new_namespace(&[])?;
    let secret = format!("pullpass-{OPEN}");
    let create = |name: &str| {
        let arguments = ["create", "--output", "json", "--filename", "-"];
        cluster.run_with_input(&arguments, &pod(&namespace, name))
    };
    wait_for("an injected Pod of another ServiceAccount", SOON, || {
        let created = create("default").map_err(|error| error.to_string())?.stdout;
        let created: Value = serde_json::from_str(&created).map_err(|error| error.to_string())?;
        if pull_secrets(&created) == [secret.as_str()] {
            return Ok(());
        }
        cluster
            .run(&["delete", "pod", "default", "--namespace", &namespace, "--now"])
            .map_err(|error| error.to_string())?;
        Err(created.to_string())
    })?;
    cluster.apply(&list(&[
        account(&namespace, "strict", &Value::Null),
        account(&namespace, "listed", &json!([{"name": secret}])),
    ]))?;
    // Until the replica has heard of the ServiceAccount, the API server refuses the Pod.
    let message = format!(
        "imagePullSecrets[0].name=\"{secret}\" is not allowed because service account strict does not reference that \
         imagePullSecret"
    );
    let created = wait_for("the Pod of the strict ServiceAccount", SOON, || {
        match create("strict") {
            Ok(created) => Ok(created),
            Err(error) => {
                assert!(error.to_string().contains(&message), "{error}");
                Err(error.to_string())
            }
        }
    })?;
    let warning =
        format!("ServiceAccount strict enforces mountable secrets: add {secret} to its imagePullSecrets");
    assert!(created.stderr.contains(&warning), "{}", created.stderr);
    let created: Value = serde_json::from_str(&created.stdout)?;
    assert_eq!(pull_secrets(&created), [""; 0]);
    wait_for("the record that says why", SOON, || {
        let records = pullpass
            .records_in(&namespace)
            .map_err(|error| error.to_string())?;
        let says_why = |record: &Value| {
            text(record, "/decision") == "uncovered"
                && text(record, "/reason").contains("enforces mountable secrets")
        };
        records
            .iter()
            .any(says_why)
            .then_some(())
            .ok_or(format!("{records:?}"))
    })?;
    let audit = Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .args(["audit", "--uncovered", "--namespace", &namespace, "--kubeconfig"])
        .arg(cluster.kubeconfig())
        .output()?;
    let table = String::from_utf8(audit.stdout)?;
    assert!(
        table.contains("mountable-secrets") && !table.contains("not-injected"),
        "{table}"
    );

    wait_for("the policies to be told", SOON, || {
        let index = cluster
            .get_json(&["acrindex", "pullpass"])
            .map_err(|error| error.to_string())?;
        let told = index.pointer("/spec/strictServiceAccounts").cloned();
        let expected = json!({&namespace: {"strict": [], "listed": [secret]}});
        (told == Some(expected)).then_some(()).ok_or(format!("{told:?}"))
    })?;

    let created: Value = serde_json::from_str(&create("listed")?.stdout)?;
    assert_eq!(pull_secrets(&created), [secret.as_str()]);
    // The API server took the name from the account, and the namespace needs the Secret all the same.
    wait_for("the pull secret", SOON, || {
        cluster.get_json(&["secret", "--namespace", &namespace, &secret])
    })?;
    Ok(())
}

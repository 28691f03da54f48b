//! Pods that were admitted while pullpass was away get their pull secret all the same, where that is asked for.

use std::collections::BTreeSet;
use std::error::Error;

use pullpass_test_support::{ControlPlane, end_to_end_wanted, wait_for};
use serde_json::{Value, json};

use crate::world::{OPEN, SOON, Test, attach, items, list, pull_secrets, pullpass, text};

const NAMESPACE: &str = "stuck";

fn spec() -> Value {
    json!({"containers": [{"name": "main", "image": format!("{OPEN}.azurecr.io/app:v1")}]})
}

fn replica_set(name: &str, replicas: u32) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec()},
        },
    })
}

/// The Pods of a `ReplicaSet`, of which there are to be so many.
fn pods_of(cluster: &ControlPlane, app: &str, count: usize) -> Result<Vec<Value>, Box<dyn Error>> {
    let selector = format!("app={app}");
    Ok(wait_for("the Pods", SOON, || {
        let pods = cluster
            .get_json(&["pods", "--namespace", NAMESPACE, "--selector", &selector])
            .map_err(|error| error.to_string())?;
        let pods: Vec<_> = items(&pods, "/items").cloned().collect();
        if pods.len() == count {
            Ok(pods)
        } else {
            Err(format!("{} of {count}", pods.len()))
        }
    })?)
}

/// There is no kubelet; this is what one says of a Pod.
fn say(cluster: &ControlPlane, pod: &str, phase: &str, state: &Value) -> Test {
    let status = json!({
        "name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    });
    let patch = json!({"status": {"phase": phase, "containerStatuses": [status]}}).to_string();
    cluster.run(&[
        "patch",
        "pod",
        pod,
        "--namespace",
        NAMESPACE,
        "--subresource=status",
        "--patch",
        &patch,
    ])?;
    Ok(())
}

fn uids(pods: &[Value]) -> BTreeSet<String> {
    pods.iter()
        .map(|pod| text(pod, "/metadata/uid").to_owned())
        .collect()
}

#[test]
fn pods_that_never_started_for_want_of_their_secret_are_made_anew() -> Test {
    end_to_end_wanted()?;
    let cluster = ControlPlane::start()?;
    cluster.run(&["create", "namespace", NAMESPACE])?;
    let alone = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "alone", "namespace": NAMESPACE, "labels": {"app": "alone"}},
        "spec": spec(),
    });
    wait_for("Pods to be admitted", SOON, || {
        cluster.apply(&list(&[
            replica_set("web", 2),
            replica_set("ran", 1),
            alone.clone(),
        ]))
    })?;
    let [web, ran, bare] =
        [("web", 2), ("ran", 1), ("alone", 1)].map(|(app, count)| pods_of(&cluster, app, count));
    let (web, ran, bare) = (web?, ran?, bare?);
    let stuck = json!({"waiting": {"reason": "ImagePullBackOff", "message": "unauthorized"}});
    for pod in web.iter().chain(&bare) {
        say(&cluster, text(pod, "/metadata/name"), "Pending", &stuck)?;
    }
    let crashed = json!({"terminated": {"exitCode": 1}});
    say(&cluster, text(&ran[0], "/metadata/name"), "Pending", &crashed)?;

    let right = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/manifests/components/rescue/rbac.yaml"
    );
    cluster.run(&["apply", "--filename", right])?;
    let _pullpass = pullpass(&cluster)
        .whole_cluster("apps")
        .flag("--rescue=evict")
        .start()?;
    attach(&cluster)?;

    let secret = format!("pullpass-{OPEN}");
    let healed = wait_for("the Pods to be made anew", SOON, || {
        let pods = pods_of(&cluster, "web", 2).map_err(|error| error.to_string())?;
        let has_secret = |pod: &Value| pull_secrets(pod) == [secret.as_str()];
        if pods.iter().all(has_secret) {
            Ok(pods)
        } else {
            Err(format!("{pods:?}"))
        }
    })?;
    assert!(
        uids(&healed).is_disjoint(&uids(&web)),
        "pull secrets can't be added to a live Pod"
    );
    // One ran, and nobody would make the other again.
    assert_eq!(uids(&pods_of(&cluster, "ran", 1)?), uids(&ran));
    assert_eq!(uids(&pods_of(&cluster, "alone", 1)?), uids(&bare));
    wait_for("the Events", SOON, || {
        let events = cluster
            .get_json(&[
                "events",
                "--namespace",
                NAMESPACE,
                "--field-selector=reason=Rescued",
            ])
            .map_err(|error| error.to_string())?;
        let about: BTreeSet<_> = items(&events, "/items")
            .map(|event| text(event, "/involvedObject/uid").to_owned())
            .collect();
        if about == uids(&web) {
            Ok(())
        } else {
            Err(events.to_string())
        }
    })?;
    Ok(())
}

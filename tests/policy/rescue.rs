//! Pods that were admitted while pullpass was unavailable get their pull secret all the same, where that is asked for.

use std::collections::BTreeSet;
use std::error::Error;

use pullpass_test_support::{ControlPlane, end_to_end_wanted, wait_for};
use serde_json::{Value, json};

use crate::world::{OPEN, SOON, Test, attach, items, list, pull_secrets, pullpass, text};

const NAMESPACE: &str = "stuck";

/// The owners whose Pods have their turn before the one that comes to run meanwhile: one Pod a second, which leaves the test
/// 20 seconds on a busy machine.
const CROWDS: [&str; 2] = ["crowd-a", "crowd-b"];
/// How many each has: no more Pods of one owner are evicted in a minute.
const CROWD: usize = 10;

fn containers() -> Value {
    json!([{"name": "main", "image": format!("{OPEN}.azurecr.io/app:v1")}])
}

fn spec() -> Value {
    json!({"containers": containers()})
}

fn replica_set(name: &str, replicas: usize) -> Value {
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

/// A Job that fails with its first Pod.
fn job(name: &str) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "backoffLimit": 0,
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"restartPolicy": "Never", "containers": containers()},
            },
        },
    })
}

/// The Pods of an app, of which there are to be so many.
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

fn stuck() -> Value {
    json!({"waiting": {"reason": "ImagePullBackOff", "message": "unauthorized"}})
}

/// Says of Pods that they are stuck.
fn say_stuck(cluster: &ControlPlane, pods: &[Value]) -> Test {
    pods.iter()
        .try_for_each(|pod| say(cluster, text(pod, "/metadata/name"), "Pending", &stuck()))
}

/// Gives pullpass the right to evict.
fn allow_eviction(cluster: &ControlPlane) -> Test {
    let right = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/manifests/components/rescue/rbac.yaml"
    );
    cluster.run(&["apply", "--filename", right])?;
    Ok(())
}

/// The Events of a reason.
fn events(cluster: &ControlPlane, reason: &str) -> Result<Vec<Value>, String> {
    let selector = format!("--field-selector=reason={reason}");
    let events = cluster
        .get_json(&["events", "--namespace", NAMESPACE, &selector])
        .map_err(|error| error.to_string())?;
    Ok(items(&events, "/items").cloned().collect())
}

#[test]
fn pods_that_never_started_without_their_secret_are_evicted() -> Test {
    end_to_end_wanted()?;
    let cluster = ControlPlane::start()?;
    cluster.run(&["create", "namespace", NAMESPACE])?;
    let alone = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "alone", "namespace": NAMESPACE, "labels": {"app": "alone"}},
        "spec": spec(),
    });
    let crowds = CROWDS.map(|name| replica_set(name, CROWD));
    let others = [
        replica_set("late", 1),
        replica_set("web", 2),
        replica_set("ran", 1),
        job("job"),
        alone,
    ];
    wait_for("Pods to be admitted", SOON, || {
        cluster.apply(&list(&[&crowds[..], &others].concat()))
    })?;
    let there = |app: &str, count: usize| pods_of(&cluster, app, count);
    let mut crowd = Vec::new();
    for name in CROWDS {
        crowd.extend(there(name, CROWD)?);
    }
    let (late, web) = (there("late", 1)?, there("web", 2)?);
    let (ran, job, bare) = (there("ran", 1)?, there("job", 1)?, there("alone", 1)?);
    for pods in [&crowd, &late, &web, &job, &bare] {
        say_stuck(&cluster, pods)?;
    }
    let crashed = json!({"terminated": {"exitCode": 1}});
    say(&cluster, text(&ran[0], "/metadata/name"), "Pending", &crashed)?;

    allow_eviction(&cluster)?;
    let _pullpass = pullpass(&cluster)
        .whole_cluster("apps")
        .flag("--rescue=evict")
        .start()?;
    attach(&cluster)?;

    // All of them were proposed together, by their names: this one waits behind the crowd when its pull succeeds.
    wait_for("the first Pod to be recreated", SOON, || {
        let pods = there(CROWDS[0], CROWD).map_err(|error| error.to_string())?;
        if uids(&pods).is_subset(&uids(&crowd)) {
            Err("none is yet".to_owned())
        } else {
            Ok(())
        }
    })?;
    let running = json!({"running": {"startedAt": "2026-11-22T18:00:00Z"}});
    say(&cluster, text(&late[0], "/metadata/name"), "Running", &running)?;

    let secret = format!("pullpass-{OPEN}");
    let healed = wait_for("the Pods to be recreated", SOON, || {
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
    // One ran and one runs, one would count as a failure, and nobody would make the other again.
    for (app, pods) in [("ran", ran), ("late", late), ("job", job), ("alone", bare)] {
        assert_eq!(uids(&there(app, 1)?), uids(&pods), "{app}");
    }
    let evicted = &uids(&crowd) | &uids(&web);
    wait_for("the Events", SOON, || {
        let events = events(&cluster, "Rescued")?;
        let about: BTreeSet<_> = events
            .iter()
            .map(|event| text(event, "/involvedObject/uid").to_owned())
            .collect();
        if about == evicted {
            Ok(())
        } else {
            Err(format!("{events:?}"))
        }
    })?;
    Ok(())
}

#[test]
fn a_pod_that_pullpass_is_not_asked_about_is_left_alone() -> Test {
    end_to_end_wanted()?;
    let cluster = ControlPlane::start()?;
    allow_eviction(&cluster)?;
    // The API server asks about namespaces with a label that this one has not, and pullpass takes it for its own.
    cluster.run(&["create", "namespace", NAMESPACE])?;
    let _pullpass = pullpass(&cluster).flag("--rescue=evict").start()?;
    attach(&cluster)?;
    let replaced = |app: &str| -> Result<Vec<Value>, Box<dyn Error>> {
        wait_for("the ReplicaSet to be made", SOON, || {
            cluster.apply(&list(&[replica_set(app, 1)]))
        })?;
        let first = pods_of(&cluster, app, 1)?;
        say_stuck(&cluster, &first)?;
        Ok(wait_for("the Pod to be recreated", SOON, || {
            let pods = pods_of(&cluster, app, 1).map_err(|error| error.to_string())?;
            if uids(&pods) == uids(&first) {
                Err("it is not yet".to_owned())
            } else {
                Ok(pods)
            }
        })?)
    };
    let web = replaced("web")?;
    assert!(pull_secrets(&web[0]).is_empty(), "nobody was to be asked");
    let about_web = || -> Result<Vec<Value>, String> {
        let mut events = events(&cluster, "NotRescued")?;
        events.retain(|event| uids(&web).contains(text(event, "/involvedObject/uid")));
        Ok(events)
    };
    let told = wait_for("the Event", SOON, || {
        about_web().and_then(|events| events.first().cloned().ok_or_else(|| "none yet".to_owned()))
    })?;
    assert_eq!(text(&told, "/type"), "Warning");
    assert!(text(&told, "/message").contains("ReplicaSet web"), "{told:#}");

    // The other one is looked at after this one, and has its turn after it.
    say_stuck(&cluster, &web)?;
    replaced("other")?;
    assert_eq!(uids(&pods_of(&cluster, "web", 1)?), uids(&web));
    assert_eq!(about_web()?.len(), 1);
    Ok(())
}

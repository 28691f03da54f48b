//! What Pods tell the leader, and what that costs the API server.

use std::error::Error;

use pullpass_test_support::{ControlPlane, wait_for};
use serde_json::{Value, json};

use crate::shipped_resync;
use crate::world::{SOON, Test, World, cluster_of_its_own, pull_secret, replica, text};

/// How many lists of Pods the API server was asked for, and how many watches have begun, those that end later included.
fn reads_of_pods(cluster: &ControlPlane) -> Result<(u64, u64), Box<dyn Error>> {
    let metrics = cluster.run(&["get", "--raw", "/metrics"])?.stdout;
    let sum = |metric: &str, verb: &str| {
        let series = metrics.lines().filter(|line| {
            line.starts_with(&format!("{metric}{{"))
                && line.contains("resource=\"pods\"")
                && line.contains(&format!("verb=\"{verb}\""))
        });
        let values = series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        values.sum::<u64>()
    };
    let ended = sum("apiserver_request_total", "WATCH");
    Ok((
        sum("apiserver_request_total", "LIST"),
        ended + sum("apiserver_longrunning_requests", "WATCH"),
    ))
}

/// How often the pull secret of a namespace was written.
fn writes(world: &World, namespace: &str) -> Result<usize, Box<dyn Error>> {
    let events = world.cluster.audit_events()?;
    let is_one = |event: &&Value| {
        text(event, "/verb") == "patch"
            && text(event, "/objectRef/resource") == "secrets"
            && text(event, "/objectRef/namespace") == namespace
    };
    Ok(events.iter().filter(is_one).count())
}

#[test]
fn pods_are_looked_at_again_and_again_without_a_list() -> Test {
    let cluster = cluster_of_its_own()?;
    let before = reads_of_pods(&cluster)?;
    // Before 1.34, the API server can't begin a watch with what there is: it is asked for a list, once.
    let version: Value = serde_json::from_str(&cluster.run(&["get", "--raw", "/version"])?.stdout)?;
    let begins = if text(&version, "/minor").parse::<u32>()? < 34 {
        (1, 2)
    } else {
        (0, 1)
    };
    // It looks at everything every other second.
    let world = World::start(&cluster, 1, |_| {})?;
    let login = world.attached(&json!({}))?;
    let namespace = world.namespace_in_need(&login)?;
    world.wait_for_secret(&namespace, &login)?;
    let delete = [
        "delete",
        "secret",
        &pull_secret(&login),
        "--namespace",
        &namespace,
    ];
    let written = writes(&world, &namespace)?;
    for times in 1..=4 {
        // Nobody tells of it: it is written again since the Pod is there still.
        cluster.run(&delete)?;
        world.wait_for_secret(&namespace, &login)?;
        assert!(writes(&world, &namespace)? >= written + times);
    }
    let after = reads_of_pods(&cluster)?;
    assert_eq!(
        (after.0 - before.0, after.1 - before.1),
        begins,
        "lists and watches"
    );
    Ok(())
}

#[test]
fn gauges_follow_pods_registries_and_labels_immediately() -> Test {
    let world = shipped_resync::world()?;
    let login = world.login()?;
    let namespace = "counted-immediately";
    // Nobody is asked about Pods there.
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plain", "namespace": namespace}, "spec": {
            "containers": [{"name": "app", "image": format!("{}/app:v1", login.host)}],
        }},
    ]});
    world.cluster.apply(&objects.to_string())?;
    let series = |registry: &str, reason: &str| {
        format!(
            "pullpass_uncovered_pods_by_reason{{namespace=\"{namespace}\",registry=\"{registry}\",reason=\"{reason}\"}} 1"
        )
    };
    let counted = |expected: Option<String>| {
        wait_for(&format!("{expected:?} to be all that is counted"), SOON, || {
            let metrics = world.pullpass.metrics().map_err(|error| error.to_string())?;
            let lines: Vec<_> = metrics.lines().filter(|line| line.contains(namespace)).collect();
            if lines == expected.as_deref().into_iter().collect::<Vec<_>>() {
                Ok(())
            } else {
                Err(lines.join("\n"))
            }
        })
    };
    counted(Some(series("", "unattached")))?;
    world.attach(&login, &login.password, &json!({}))?;
    counted(Some(series(&login.name, "not-injected")))?;
    let label = |label: &str| world.cluster.run(&["label", "namespace", namespace, label]);
    label("pullpass.dev/inject=disabled")?;
    counted(None)?;
    label("pullpass.dev/inject-")?;
    counted(Some(series(&login.name, "not-injected")))?;
    let delete = [
        "delete",
        "pod",
        "plain",
        "--namespace",
        namespace,
        "--grace-period=0",
        "--force",
    ];
    world.cluster.run(&delete)?;
    counted(None)?;
    Ok(())
}

#[test]
fn many_pods_are_counted_as_they_come_and_when_they_are_there() -> Test {
    const PODS: usize = 400;
    let cluster = cluster_of_its_own()?;
    let mut world = World::start(&cluster, 1, |_| {})?;
    // Each has a name of its own, and their images are on registries that nobody attached.
    let items: Vec<_> = (0..PODS)
        .map(|number| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{number}"), "namespace": "many"}, "spec": {
                "containers": [{"name": "app", "image": format!("stranger{}.azurecr.io/app:v{number}", number % 7)}],
            }})
        })
        .collect();
    let place = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "many"}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "many"}},
    ]});
    cluster.apply(&place.to_string())?;
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    cluster.run_with_input(&["create", "--filename", "-"], &list.to_string())?;
    let expected = format!("pullpass_uncovered_pods {PODS}");
    let counted = |world: &World| {
        wait_for(&expected, SOON, || {
            let metrics = world.pullpass.metrics().map_err(|error| error.to_string())?;
            let line = metrics
                .lines()
                .find(|line| line.starts_with("pullpass_uncovered_pods "));
            if line == Some(expected.as_str()) {
                Ok(())
            } else {
                Err(line.unwrap_or("nothing is counted").to_owned())
            }
        })
    };
    counted(&world)?;
    // The next leader finds them there.
    world.pullpass = replica(&cluster, &world.azure)?;
    counted(&world)?;
    Ok(())
}

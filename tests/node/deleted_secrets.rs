//! Containers that run outlive their Secret; they can't be restarted without it.

use std::time::{Duration, Instant};

use pullpass_test_support::wait_for;
use serde_json::{Value, json};

use crate::pods::pod;
use crate::world::{Registry, SOON, Test, World, shared, text};

/// How often pullpass is asked for a Secret.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// Waits until the container of a Pod that ran has been killed and can't be started again.
fn crash_for_good(world: &World, namespace: &str) -> Test {
    let pod = world.pod(namespace, "web")?;
    world
        .node
        .crash(text(&pod, "/status/containerStatuses/0/containerID"))?;
    let said = world.wait_until_refused(namespace, "web")?;
    assert!(said.contains("401 Unauthorized"), "{said}");
    Ok(())
}

fn wait_until_gone(world: &World, namespace: &str, registry: &Registry) -> Test {
    let name = registry.pull_secret();
    let selector = format!("metadata.name={name}");
    wait_for(&format!("{name} to go"), SOON, || {
        let arguments = ["secrets", "--namespace", namespace, "--field-selector", &selector];
        match world.cluster.get_json(&arguments) {
            Ok(list) if list.pointer("/items/0").is_none() => Ok(()),
            Ok(list) => Err(list.to_string()),
            Err(error) => Err(error.to_string()),
        }
    })?;
    Ok(())
}

#[test]
fn containers_outlive_detaching_until_they_restart() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let namespace = world.namespace()?;
    world.create(&pod(&namespace, "web", &registry.image()))?;
    let before = world.wait_until_running(&namespace, "web")?;
    world
        .cluster
        .run(&["delete", "acrregistry", &registry.login.name])?;
    wait_until_gone(world, &namespace, &registry)?;
    let started = |pod: &Value| {
        pod.pointer("/status/containerStatuses/0/state/running/startedAt")
            .cloned()
    };
    let after = world.wait_until_running(&namespace, "web")?;
    assert_eq!(started(&before), started(&after));

    crash_for_good(world, &namespace)?;
    // A kubelet sends an Event some time after the Pod's status.
    wait_for("the Event of the missing Secret", SOON, || {
        let missed = world.events(&namespace, "FailedToRetrieveImagePullSecret");
        let missed = missed.map_err(|error| error.to_string())?;
        let is_told = !missed.is_empty();
        is_told.then_some(()).ok_or_else(|| "there is none".to_owned())
    })?;
    // Attached again, the Secret is there for the Pod that names it, and one of the kubelet's next tries finds it.
    world.attach(&registry)?;
    let pod = world.wait_until_running(&namespace, "web")?;
    assert_eq!(
        pod.pointer("/status/containerStatuses/0/restartCount"),
        Some(&json!(1))
    );
    Ok(())
}

/// A Pod of the namespace brings the Secret back, unless pullpass has written it only seconds ago. To the kubelet it is
/// another Secret, whose token it has a record of.
#[test]
fn a_container_restarts_with_a_secret_that_came_back() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let namespace = world.namespace()?;
    world.create(&pod(&namespace, "web", &registry.image()))?;
    world.wait_until_running(&namespace, "web")?;
    let before = world.wait_for_secret(&namespace, &registry, "be there", |_| true)?;
    world.cluster.run(&[
        "delete",
        "secret",
        "--namespace",
        &namespace,
        &registry.pull_secret(),
    ])?;
    let mut asked = None;
    let after = wait_for("the Secret to come back", SOON, || {
        if asked.is_none_or(|asked: Instant| asked.elapsed() > ASK_INTERVAL) {
            world
                .create(&asking(&namespace, &registry))
                .map_err(|e| e.to_string())?;
            asked = Some(Instant::now());
        }
        let arguments = ["secret", &registry.pull_secret(), "--namespace", &namespace];
        world.cluster.get_json(&arguments).map_err(|e| e.to_string())
    })?;
    assert_ne!(text(&before, "/metadata/uid"), text(&after, "/metadata/uid"));

    world.take_down(&registry);
    let pod = world.pod(&namespace, "web")?;
    world
        .node
        .crash(text(&pod, "/status/containerStatuses/0/containerID"))?;
    world.wait_for_pod(&namespace, "web", "restart", |pod| {
        let is_so = pod.pointer("/status/containerStatuses/0/restartCount") == Some(&json!(1))
            && pod.pointer("/status/containerStatuses/0/state/running").is_some();
        is_so.then_some(())
    })
}

/// A Pod that names the Secret, and does not run.
fn asking(namespace: &str, registry: &Registry) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "asks-", "namespace": namespace},
        "spec": {
            "schedulingGates": [{"name": "example.com/never"}],
            "containers": [{"name": "main", "image": registry.image()}],
        },
    })
}

//! What kubelets report brings a pull secret back that somebody deleted or broke. Here nobody looks at everything for ten
//! minutes, and the test writes what a kubelet would.

use pullpass_test_support::{Login, wait_for};
use serde_json::{Value, json};

use crate::shipped_resync::world;
use crate::world::{SOON, Test, World, pull_secret, text};

/// The Pod of a namespace in need.
fn pod_of(world: &World, namespace: &str) -> Result<Value, Box<dyn std::error::Error>> {
    let list = world.cluster.get_json(&["pods", "--namespace", namespace])?;
    Ok(list.pointer("/items/0").cloned().ok_or("there is no Pod")?)
}

/// Writes an Event about a Pod, as a kubelet does.
fn report(world: &World, pod: &Value, reason: &str, message: &str) -> Test {
    let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": format!("{name}."), "namespace": namespace},
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": text(pod, "/metadata/uid"),
        },
        "reason": reason,
        "message": message,
        "type": "Warning",
        "source": {"component": "kubelet", "host": "node-1"},
    });
    world.cluster.create(&event.to_string())?;
    Ok(())
}

/// Has the containers of a Pod wait for their image.
fn set_waiting(world: &World, pod: &Value, phase: &str) -> Test {
    let status = json!({"status": {"phase": phase, "containerStatuses": [{
        "name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ErrImagePull"}},
    }]}});
    world.cluster.run(&[
        "patch",
        "pod",
        text(pod, "/metadata/name"),
        "--namespace",
        text(pod, "/metadata/namespace"),
        "--subresource=status",
        "--patch",
        &status.to_string(),
    ])?;
    Ok(())
}

fn delete(world: &World, namespace: &str, login: &Login) -> Test {
    let name = pull_secret(login);
    world
        .cluster
        .run(&["delete", "secret", "--namespace", namespace, &name])?;
    Ok(())
}

/// Empties the docker config, as its owner can.
fn break_secret(world: &World, namespace: &str, login: &Login) -> Test {
    let patch = json!({"data": {".dockerconfigjson": "e30="}}).to_string();
    let name = pull_secret(login);
    world.cluster.run(&[
        "patch",
        "secret",
        "--namespace",
        namespace,
        &name,
        "--patch",
        &patch,
    ])?;
    Ok(())
}

fn docker_config(secret: &Value) -> &str {
    text(secret, "/data/.dockerconfigjson")
}

/// What a kubelet writes where it does not find the pull secret.
fn missing(login: &Login) -> String {
    format!(
        "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
        pull_secret(login)
    )
}

/// What a kubelet writes where it can't pull.
fn failed(login: &Login) -> String {
    format!(
        "Failed to pull image \"{}/app:v1\": failed to authorize: 401",
        login.host
    )
}

const MISSING: &str = "FailedToRetrieveImagePullSecret";
const FAILED: &str = "Failed";

/// Waits until the leader's watch of a reason has begun: Events that are older are of no interest to it.
fn wait_until_followed(world: &World, login: &Login, reason: &str) -> Test {
    let namespace = world.namespace_in_need(login)?;
    let pod = pod_of(world, &namespace)?;
    let (message, counter) = match reason {
        MISSING => (missing(login), "secret-missing"),
        _ => (failed(login), "pull-failed"),
    };
    let none = format!("pullpass_secret_rewrites_total{{reason=\"{counter}\"}} 0\n");
    wait_for(&format!("Events of {reason} to be followed"), SOON, || {
        report(world, &pod, reason, &message).map_err(|error| error.to_string())?;
        let metrics = world.pullpass.metrics().map_err(|error| error.to_string())?;
        (!metrics.contains(&none)).then_some(()).ok_or(metrics)
    })?;
    Ok(())
}

/// It comes back even if it was written only a moment before it was deleted.
#[test]
fn a_secret_that_a_kubelet_misses_comes_back() -> Test {
    let world = world()?;
    let login = world.attached(&json!({}))?;
    wait_until_followed(world, &login, MISSING)?;
    let namespace = world.namespace_in_need(&login)?;
    let before = world.wait_for_secret(&namespace, &login)?;
    let pod = pod_of(world, &namespace)?;
    delete(world, &namespace, &login)?;
    report(world, &pod, MISSING, &missing(&login))?;
    let after = world.wait_for_secret(&namespace, &login)?;
    assert_eq!(docker_config(&before), docker_config(&after));
    Ok(())
}

#[test]
fn a_broken_secret_is_put_back_where_a_restart_fails() -> Test {
    let world = world()?;
    let login = world.attached(&json!({}))?;
    wait_until_followed(world, &login, FAILED)?;
    let namespace = world.namespace_in_need(&login)?;
    let before = world.wait_for_secret(&namespace, &login)?;
    let pod = pod_of(world, &namespace)?;
    break_secret(world, &namespace, &login)?;
    // The Pod itself does not change: only the Event tells of it.
    report(world, &pod, FAILED, &failed(&login))?;
    world.wait_for_secret_that(&namespace, &login, "be put back", |secret| {
        docker_config(secret) == docker_config(&before)
    })?;
    Ok(())
}

#[test]
fn a_broken_secret_is_put_back_where_a_pod_is_pending() -> Test {
    let world = world()?;
    let login = world.attached(&json!({}))?;
    let namespace = world.namespace_in_need(&login)?;
    let before = world.wait_for_secret(&namespace, &login)?;
    let pod = pod_of(world, &namespace)?;
    break_secret(world, &namespace, &login)?;
    set_waiting(world, &pod, "Pending")?;
    world.wait_for_secret_that(&namespace, &login, "be put back", |secret| {
        docker_config(secret) == docker_config(&before)
    })?;
    Ok(())
}

//! A pull secret that somebody deletes or breaks comes back because the kubelet says that it can't pull. No Pod is admitted
//! meanwhile, and everything is looked at every ten minutes only.

use std::time::{Duration, Instant};

use pullpass_test_support::wait_for;
use serde_json::{Value, json};

use crate::pods::{pod, pod_with};
use crate::world::{Registry, SOON, Test, World, shared, text};

/// A Pod that runs, whose container asks the registry at every start.
fn running(world: &World, registry: &Registry, policy: &str) -> Result<String, Box<dyn std::error::Error>> {
    let namespace = world.namespace()?;
    let container = json!({"name": "main", "image": registry.image(), "imagePullPolicy": policy});
    world.create(&pod_with(&namespace, "web", json!({"containers": [container]})))?;
    world.wait_until_running(&namespace, "web")?;
    world.wait_for_secret(&namespace, registry, "be there", |_| true)?;
    Ok(namespace)
}

/// Kills the container.
fn crash(world: &World, namespace: &str) -> Test {
    let pod = world.pod(namespace, "web")?;
    world
        .node
        .crash(text(&pod, "/status/containerStatuses/0/containerID"))?;
    Ok(())
}

fn wait_until_restarted(world: &World, namespace: &str) -> Test {
    world.wait_for_pod(namespace, "web", "run again", |pod| {
        let is_so = pod.pointer("/status/containerStatuses/0/restartCount") == Some(&json!(1))
            && pod.pointer("/status/containerStatuses/0/state/running").is_some();
        is_so.then_some(())
    })
}

fn delete_secret(world: &World, namespace: &str, registry: &Registry) -> Test {
    let name = registry.pull_secret();
    world
        .cluster
        .run(&["delete", "secret", "--namespace", namespace, &name])?;
    Ok(())
}

fn docker_config(secret: &Value) -> &str {
    text(secret, "/data/.dockerconfigjson")
}

/// Says how long it took; the kubelet's own back-off is the most of it.
fn say(what: &str, back: Duration, running: Duration) {
    println!(
        "{what}: the Secret is back after {:.1} s, and the container runs after {:.1} s",
        back.as_secs_f64(),
        running.as_secs_f64()
    );
}

#[test]
fn a_container_whose_secret_was_deleted_runs_again() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let namespace = running(world, &registry, "IfNotPresent")?;
    let begun = Instant::now();
    delete_secret(world, &namespace, &registry)?;
    crash(world, &namespace)?;
    world.wait_for_secret(&namespace, &registry, "come back", |_| true)?;
    let back = begun.elapsed();
    wait_until_restarted(world, &namespace)?;
    say("deleted", back, begun.elapsed());
    Ok(())
}

/// The kubelet asks for the Secret whenever it looks at a Pod, not only when it pulls: once in a minute or so, and when the
/// Pod is changed, for which this test does not wait.
#[test]
fn a_deleted_secret_comes_back_before_a_container_needs_it() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let namespace = running(world, &registry, "IfNotPresent")?;
    let begun = Instant::now();
    delete_secret(world, &namespace, &registry)?;
    world.cluster.run(&[
        "annotate",
        "pod",
        "web",
        "--namespace",
        &namespace,
        "example.com/look=now",
    ])?;
    world.wait_for_secret(&namespace, &registry, "come back", |_| true)?;
    println!(
        "deleted while the container runs: the Secret is back after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    crash(world, &namespace)?;
    wait_until_restarted(world, &namespace)
}

#[test]
fn a_container_whose_secret_was_broken_runs_again() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let namespace = running(world, &registry, "Always")?;
    let sound = world.wait_for_secret(&namespace, &registry, "be there", |_| true)?;
    let patch = json!({"data": {".dockerconfigjson": "e30="}}).to_string();
    let name = registry.pull_secret();
    let begun = Instant::now();
    world.cluster.run(&[
        "patch",
        "secret",
        "--namespace",
        &namespace,
        &name,
        "--patch",
        &patch,
    ])?;
    crash(world, &namespace)?;
    let restored = world.wait_for_secret(&namespace, &registry, "be put back", |secret| {
        docker_config(secret) == docker_config(&sound)
    })?;
    let back = begun.elapsed();
    assert_eq!(text(&sound, "/metadata/uid"), text(&restored, "/metadata/uid"));
    wait_until_restarted(world, &namespace)?;
    say("broken", back, begun.elapsed());
    Ok(())
}

/// How often pullpass has written the pull secret.
fn writes(world: &World, namespace: &str, registry: &Registry) -> Result<usize, Box<dyn std::error::Error>> {
    let events = world.cluster.audit_events()?;
    let writes = events.iter().filter(|event| {
        text(event, "/verb") == "patch"
            && text(event, "/objectRef/resource") == "secrets"
            && text(event, "/objectRef/namespace") == namespace
            && text(event, "/objectRef/name") == registry.pull_secret()
    });
    Ok(writes.count())
}

/// How many Pods fail together: as many as the node has room for beside those of the other tests.
const FAILING_PODS: usize = 10;

/// Has Pods of an image fail until each has tried again several times, and holds that pullpass has written few pull secrets.
fn expect_few_writes(world: &World, registry: &Registry, image: &str, what: &str) -> Test {
    let namespace = world.namespace()?;
    let begun = Instant::now();
    for number in 0..FAILING_PODS {
        world.create(&pod(&namespace, &format!("web-{number}"), image))?;
    }
    for number in 0..FAILING_PODS {
        world.wait_until_refused(&namespace, &format!("web-{number}"))?;
    }
    // Every one of them tries again, and says so.
    wait_for("the kubelet's tries", SOON, || {
        let failed = world
            .events(&namespace, "Failed")
            .map_err(|error| error.to_string())?;
        let counts = failed
            .iter()
            .filter_map(|event| event.pointer("/count")?.as_u64());
        let count: u64 = counts.sum();
        if count >= 6 * FAILING_PODS as u64 {
            Ok(())
        } else {
            Err(format!("{count}"))
        }
    })?;
    let (written, took) = (writes(world, &namespace, registry)?, begun.elapsed());
    println!(
        "{FAILING_PODS} Pods {what}: {written} writes in {:.1} s",
        took.as_secs_f64()
    );
    // Those of the admission and of the leader that sees the Pods, and a few a minute for the pulls that fail.
    let minutes = usize::try_from(took.as_secs() / 60)?;
    assert!(written <= 8 + 4 * minutes, "{written} in {took:?}");
    Ok(())
}

#[test]
fn pods_without_an_image_to_pull_cause_few_writes() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    expect_few_writes(
        world,
        &registry,
        &format!("{}:not-there", registry.name),
        "without an image",
    )
}

#[test]
fn a_registry_that_is_down_causes_few_writes() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    world.take_down(&registry);
    expect_few_writes(world, &registry, &registry.image(), "whose registry is down")
}

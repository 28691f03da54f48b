//! What is refused without the Secret of pullpass, though the image is on the node by then.

use serde_json::json;

use crate::pods::{ON_THE_NODE, labelled, pod, pod_with};
use crate::world::{Test, shared, text};

#[test]
fn a_pod_that_opted_out_is_refused_the_image() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let namespace = world.namespace()?;
    world.create(&pod(&namespace, "in", &registry.image()))?;
    world.wait_until_running(&namespace, "in")?;
    let out = labelled(
        pod(&namespace, "out", &registry.image()),
        "pullpass.dev/inject",
        "disabled",
    );
    world.create(&out)?;
    let said = world.wait_until_refused(&namespace, "out")?;
    assert!(said.contains("401 Unauthorized"), "{said}");
    Ok(())
}

/// `kubectl debug` adds a container to a Pod that is there already, which can't be given a pull secret any more.
#[test]
fn debug_containers_run_where_all_pods_have_the_secret() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let (always, usual) = (world.namespace()?, world.namespace()?);
    world
        .cluster
        .run(&["label", "namespace", &always, "pullpass.dev/always-inject=true"])?;
    let spec = json!({"containers": [{"name": "main", "image": ON_THE_NODE, "imagePullPolicy": "Never"}]});
    for namespace in [&always, &usual] {
        world.create(&pod_with(namespace, "web", spec.clone()))?;
        world.wait_until_running(namespace, "web")?;
        let image = format!("--image={}", registry.image());
        let arguments = [
            "debug",
            "web",
            "--namespace",
            namespace,
            &image,
            "--container=debug",
        ];
        world.cluster.run(&arguments)?;
    }
    world.wait_for_pod(&always, "web", "have a debug container", |pod| {
        pod.pointer("/status/ephemeralContainerStatuses/0/state/running")
            .is_some()
            .then_some(())
    })?;
    let said = world.wait_for_pod(&usual, "web", "be refused the image", |pod| {
        let waiting = pod.pointer("/status/ephemeralContainerStatuses/0/state/waiting")?;
        let said = text(waiting, "/message");
        said.contains("401 Unauthorized").then(|| said.to_owned())
    })?;
    assert!(said.contains(&registry.login.host), "{said}");
    Ok(())
}

//! Static Pods, which a kubelet runs whatever the API server says: their mirror Pods are admitted under `deny`, and nobody
//! else's.

use pullpass_test_support::{ControlPlane, node_wanted, wait_for};
use serde_json::{Value, json};

use crate::pods::pod;
use crate::world::{Registry, SOON, Test, World, apply_component, text};

const MIRROR: &str = "kubernetes.io/config.mirror";

#[test]
fn mirror_pods_of_a_kubelet_are_admitted_under_deny() -> Test {
    node_wanted()?;
    let cluster = ControlPlane::start()?;
    let mut world = World::with_flags(&cluster, &["--unattached=deny"], |_| {})?;
    // The API server's own policies decide without a replica.
    for component in ["admission-policy/policy", "enforce/policy"] {
        apply_component(&cluster, component)?;
    }
    let (attached, stranger) = (world.attached()?, world.registry()?);
    let namespace = world.namespace()?;
    wait_for("the index to have the registry and the rule", SOON, || {
        let index = cluster.get_json(&["acrindex", "pullpass"]);
        let index = index.map_err(|error| error.to_string())?;
        let has_host = index.to_string().contains(&attached.login.host);
        let is_denied = text(&index, "/spec/unattached") == "deny";
        (has_host && is_denied)
            .then_some(())
            .ok_or_else(|| index.to_string())
    })?;
    let refused = |world: &World<'_>, by: &str| {
        wait_for(&format!("{by} to refuse"), SOON, || {
            match world.create(&forged(&namespace, &stranger)) {
                Err(error) if error.to_string().contains(by) => Ok(()),
                Err(error) => Err(error.to_string()),
                Ok(_) => Err("it is admitted".to_owned()),
            }
        })
    };

    refused(&world, "pods.pullpass.dev")?;
    mirrored(&world, &namespace, "stranger", &stranger)?;
    mirrored(&world, &namespace, "known", &attached)?;
    world.pullpass.stop()?;
    refused(&world, "pullpass-enforce")?;
    mirrored(&world, &namespace, "stranger-later", &stranger)?;
    mirrored(&world, &namespace, "known-later", &attached)?;
    Ok(())
}

/// Has the kubelet run a static Pod, and looks at its mirror: the API server takes none that names a Secret.
fn mirrored(world: &World<'_>, namespace: &str, name: &str, registry: &Registry) -> Test {
    world
        .node
        .run_static_pod(&pod(namespace, name, &registry.image()))?;
    let mirror = format!("{name}-{}", world.node.name());
    let mirror = world.wait_for_pod(namespace, &mirror, "be there", |pod| Some(pod.clone()))?;
    let annotations = mirror.pointer("/metadata/annotations");
    assert!(
        annotations
            .and_then(|annotations| annotations.get(MIRROR))
            .is_some(),
        "{mirror:#}"
    );
    assert_eq!(mirror.pointer("/spec/imagePullSecrets"), None, "{mirror:#}");
    Ok(())
}

/// A Pod that says that it is a mirror, as anybody can write.
fn forged(namespace: &str, registry: &Registry) -> Value {
    let mut pod = pod(namespace, "forged", &registry.image());
    if let Some(metadata) = pod.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.insert("annotations".to_owned(), json!({MIRROR: "x"}));
    }
    if let Some(spec) = pod.pointer_mut("/spec").and_then(Value::as_object_mut) {
        spec.insert("nodeName".to_owned(), json!("node-1"));
    }
    pod
}

//! What runs while the registry is unavailable: the kubelet gives an image that it has to Pods whose Secret it has a
//! record of, by the Secret's coordinates or by its token (KEP-2535).

use serde_json::json;

use crate::pods::{pod, pod_with};
use crate::world::{Test, shared, text};

#[test]
fn other_namespaces_with_the_token_need_no_registry() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let (first, second) = (world.namespace()?, world.namespace()?);
    world.create(&pod(&first, "web", &registry.image()))?;
    world.wait_until_running(&first, "web")?;
    world.take_down(&registry);
    let pulls = world.pulls(&registry);
    world.create(&pod(&second, "web", &registry.image()))?;
    world.wait_until_running(&second, "web")?;
    assert_eq!(world.pulls(&registry), pulls);
    Ok(())
}

#[test]
fn pods_that_always_pull_need_the_registry() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let namespace = world.namespace()?;
    world.create(&pod(&namespace, "before", &registry.image()))?;
    world.wait_until_running(&namespace, "before")?;
    world.take_down(&registry);
    let always = json!({"name": "main", "image": registry.image(), "imagePullPolicy": "Always"});
    world.create(&pod_with(&namespace, "always", json!({"containers": [always]})))?;
    world.wait_until_refused(&namespace, "always")?;
    // Never asks nobody, but it takes the same record.
    let never = json!({"name": "main", "image": registry.image(), "imagePullPolicy": "Never"});
    world.create(&pod_with(&namespace, "never", json!({"containers": [never]})))?;
    world.wait_until_running(&namespace, "never")?;
    Ok(())
}

/// The kubelet's records name the Secret by its UID: one that is created again is another Secret to it.
#[test]
fn rotation_keeps_the_secret_so_that_its_pods_need_no_registry() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let namespace = world.namespace()?;
    world.create(&pod(&namespace, "before", &registry.image()))?;
    world.wait_until_running(&namespace, "before")?;
    let before = world.wait_for_secret(&namespace, &registry, "be there", |_| true)?;
    let after = world.rotate(&namespace, &registry)?;
    assert_eq!(text(&before, "/metadata/uid"), text(&after, "/metadata/uid"));

    world.take_down(&registry);
    let pulls = world.pulls(&registry);
    world.create(&pod(&namespace, "after", &registry.image()))?;
    world.wait_until_running(&namespace, "after")?;
    assert_eq!(world.pulls(&registry), pulls);
    Ok(())
}

/// Nobody has pulled with the new token yet, and the namespace's Secret is as new.
#[test]
fn new_namespaces_need_the_registry_after_a_rotation() -> Test {
    let world = shared()?;
    let registry = world.attached()?;
    let (first, second) = (world.namespace()?, world.namespace()?);
    world.create(&pod(&first, "web", &registry.image()))?;
    world.wait_until_running(&first, "web")?;
    world.rotate(&first, &registry)?;
    world.take_down(&registry);
    world.create(&pod(&second, "web", &registry.image()))?;
    world.wait_until_refused(&second, "web")?;
    // One Pod of a namespace that the kubelet knows makes the new token known, and others need no registry again.
    world.create(&pod(&first, "again", &registry.image()))?;
    world.wait_until_running(&first, "again")?;
    let third = world.namespace()?;
    world.create(&pod(&third, "web", &registry.image()))?;
    world.wait_until_running(&third, "web")?;
    Ok(())
}

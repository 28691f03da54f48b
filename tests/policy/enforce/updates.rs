//! Which images of an update are judged: those that it adds.

use std::error::Error;

use serde_json::json;

use super::limits::containers;
use super::{STRANGE, enforced, index, pod, refusal, send, set_rules, wait_for_action};
use crate::world::Test;

#[test]
fn images_that_a_pod_had_before_are_not_judged_again() -> Test {
    let cluster = enforced(&index())?;
    set_rules(&cluster, "allow", "allow")?;
    wait_for_action(&cluster, "none", "allow")?;
    let containers = json!([{"name": "main", "image": STRANGE}, {"name": "other", "image": "nginx"}]);
    cluster.create(&pod("none", &json!({"containers": containers})))?;
    set_rules(&cluster, "deny", "deny")?;
    wait_for_action(&cluster, "none", "deny")?;
    let labelled = send(
        &cluster,
        &["label", "pod", "pod", "--namespace=none", "some=label"],
        "",
    );
    assert!(!labelled.refused, "{}", labelled.text);
    let set = |image: &str| {
        let image = format!("other={image}");
        send(
            &cluster,
            &["set", "image", "pod/pod", "--namespace=none", &image],
            "",
        )
    };
    for image in ["nginx:2", "openregistry.azurecr.io/app:1", STRANGE] {
        let said = set(image);
        assert!(!said.refused, "{image}: {}", said.text);
    }
    let said = set("strangeregistry.azurecr.io/other:2");
    assert!(
        refusal(&said).starts_with("pullpass: spec.containers[other] names"),
        "{}",
        said.text
    );
    let debug = |image: &str| {
        let mut changed = cluster.get_json(&["pod", "pod", "--namespace=none"])?;
        let spec = changed.get_mut("spec").ok_or("the Pod has no spec")?;
        spec["ephemeralContainers"] = json!([{"name": "debugger", "image": image}]);
        // The oldest kubectl patches no subresource but two.
        let path = "/api/v1/namespaces/none/pods/pod/ephemeralcontainers?dryRun=All";
        let arguments = ["replace", "--raw", path, "--filename", "-"];
        Ok::<_, Box<dyn Error>>(send(&cluster, &arguments, &changed.to_string()))
    };
    let said = debug("openregistry.azurecr.io/debug:1")?;
    assert!(!said.refused, "{}", said.text);
    let said = debug("otherregistry.azurecr.io/debug:1")?;
    assert!(
        refusal(&said)
            .starts_with("pullpass: spec.ephemeralContainers[debugger] names otherregistry.azurecr.io"),
        "{}",
        said.text
    );
    Ok(())
}

/// An image that moves from one container to another is no new one.
#[test]
fn an_image_that_another_container_had_is_not_judged() -> Test {
    let cluster = enforced(&index())?;
    set_rules(&cluster, "allow", "allow")?;
    wait_for_action(&cluster, "none", "allow")?;
    let images = [
        "one.azurecr.io/app",
        "stranger.azurecr.io/app:1",
        "stranger.azurecr.io/app:2",
    ];
    cluster.create(&containers(images.map(str::to_owned).to_vec()))?;
    set_rules(&cluster, "deny", "deny")?;
    wait_for_action(&cluster, "none", "deny")?;
    let live = cluster.get_json(&["pod", "pod", "--namespace=none"])?;
    for (images, refused) in [
        ([images[2], images[0], images[1]], false),
        ([images[1], images[1], images[1]], false),
        ([images[2], images[0], "stranger.azurecr.io/app:3"], true),
    ] {
        let mut pod = live.clone();
        for (place, image) in images.iter().enumerate() {
            pod["spec"]["containers"][place]["image"] = json!(image);
        }
        let path = "/api/v1/namespaces/none/pods/pod?dryRun=All";
        let said = send(
            &cluster,
            &["replace", "--raw", path, "--filename", "-"],
            &pod.to_string(),
        );
        assert_eq!(said.refused, refused, "{images:?}: {}", said.text);
        assert_eq!(
            said.text.contains("spec.containers[c2] names"),
            refused,
            "{}",
            said.text
        );
    }
    Ok(())
}

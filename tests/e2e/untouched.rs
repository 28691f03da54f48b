//! What does not name a registry is not asked about.

use serde_json::json;

use crate::cluster::{Test, pullpass};
use crate::objects::{create, pod, pod_with, pull_secrets, text};

const NOT_ON_ACR: [&str; 8] = [
    "nginx",
    "registry.example/web:1",
    "myregistry.azurecr.io.evil.example/web",
    "evil.example/myregistry.azurecr.io/web",
    "evil.example:5000/myregistry.azurecr.io/web",
    "sub.myregistry.azurecr.io/web",
    "myregistryazurecr.io/web",
    "myregistry.azurecr.com/web",
];

/// The Pod that comes last is asked about, and its record is the only one: so the others would have been seen.
#[test]
fn pods_without_an_image_on_acr_are_not_asked_about() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    for (index, image) in NOT_ON_ACR.iter().enumerate() {
        let stored = create(&pod(&namespace, &format!("plain-{index}"), image))?;
        assert!(pull_secrets(&stored.object).is_empty(), "{image}");
    }
    create(&pod_with(
        &namespace,
        "everywhere",
        json!({
            "initContainers": [{"name": "init", "image": "evil.example/myregistry.azurecr.io/web"}],
            "containers": [{"name": "main", "image": "registry.example/web:1"}],
            "volumes": [
                {"name": "scratch", "emptyDir": {}},
                {"name": "image", "image": {"reference": "registry.example/myregistry.azurecr.io/model"}},
            ],
        }),
    ))?;
    create(&pod(&namespace, "last", "myregistry.azurecr.io/web:1"))?;
    for record in pullpass.wait_for_records(&namespace, 1)? {
        assert_eq!(text(&record, "/pod/name"), "last");
    }
    Ok(())
}

/// Only the host makes the registry, also where pullpass is asked because of another image.
#[test]
fn a_look_alike_next_to_the_real_one_adds_nothing() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    create(&pod_with(
        &namespace,
        "mixed",
        json!({"containers": [
            {"name": "real", "image": "myregistry.azurecr.io/web:1"},
            {"name": "suffix", "image": "myregistry.azurecr.io.evil.example/web"},
            {"name": "path", "image": "evil.example/myregistry.azurecr.io/web"},
        ]}),
    ))?;
    for record in pullpass.wait_for_records(&namespace, 1)? {
        let registries: Vec<_> = (0..3)
            .map(|index| text(&record, &format!("/images/{index}/registry")))
            .collect();
        assert_eq!(registries, ["myregistry", "", ""]);
    }
    Ok(())
}

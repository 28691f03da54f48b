//! The same rows, with no pullpass: the API server's own admission policy adds what the webhook would.

use pullpass_test_support::{ControlPlane, wait_for};
use serde_json::{Value, json};

use crate::rows::{Image, MODES, Pod, is_asked, namespaces, pods, say};
use crate::world::{
    CLOSED, OPEN, SOON, Test, attach, cluster, list, namespace, pull_secrets, pullpass, text,
};

const COMPONENT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/manifests/components/admission-policy/policy.yaml"
);
/// The namespace that a flag excludes.
const EXCLUDED: &str = "policy-excluded";

#[test]
fn every_row_is_injected_without_a_replica() -> Test {
    for mode in MODES {
        let cluster = cluster()?;
        learn_and_end(&cluster, mode, &[OPEN, CLOSED])?;
        for (number, kind) in namespaces().into_iter().enumerate() {
            let name = if kind.excluded {
                EXCLUDED.to_owned()
            } else {
                format!("policy-{number}")
            };
            let labels: serde_json::Map<_, _> = kind
                .labels()
                .into_iter()
                .map(|(key, value)| (key.to_owned(), json!(value)))
                .collect();
            namespace(&cluster, &name, &json!(labels))?;
            let objects: Vec<Value> = pods().into_iter().map(|pod| pod.object(&name)).collect();
            let created = create(&cluster, &list(&objects))?;
            for pod in pods() {
                let injected = is_asked(mode, kind, pod) && say(mode, "allow", kind, pod).injected;
                let secret = format!("pullpass-{OPEN}");
                let expected: Vec<&str> = Some(secret.as_str()).filter(|_| injected).into_iter().collect();
                let object = created
                    .iter()
                    .find(|object| text(object, "/metadata/name") == pod.name());
                let object = object.ok_or_else(|| format!("{} is not there: {created:?}", pod.name()))?;
                assert_eq!(pull_secrets(object), expected, "{mode} {kind:?} {pod:?}");
            }
        }
    }
    Ok(())
}

/// A pullpass leads until the index has these registries, and ends with its webhook.
fn learn_and_end(cluster: &ControlPlane, mode: &str, registries: &[&str]) -> Test {
    let pullpass = pullpass(cluster)
        .overlay(mode)
        .label("pullpass.dev/inject", "enabled")
        .flag(format!("--mode={mode}"))
        .flag(format!("--exclude-namespaces={EXCLUDED}"))
        .start()?;
    attach(cluster)?;
    cluster.run(&["apply", "--filename", COMPONENT])?;
    wait_for("the index", SOON, || {
        let index = cluster.get_json(&["acrindex", "pullpass"])?;
        let known = |name: &&str| {
            index
                .pointer(&format!("/spec/pullSecrets/pullpass-{name}"))
                .is_some()
        };
        if registries.iter().all(known) {
            return Ok(());
        }
        Err(Box::<dyn std::error::Error>::from(index.to_string()))
    })?;
    drop(pullpass);
    namespace(cluster, "probe", &json!({"pullpass.dev/inject": "enabled"}))?;
    let probe = Pod {
        label: None,
        image: Image::Attached,
    };
    wait_for("the API server to follow the policy", SOON, || {
        let created = create(cluster, &probe.object("probe").to_string())?;
        if !created.iter().any(|pod| !pull_secrets(pod).is_empty()) {
            return Err(Box::<dyn std::error::Error>::from(format!("{created:?}")));
        }
        Ok(())
    })?;
    Ok(())
}

/// What the API server would store.
fn create(cluster: &ControlPlane, objects: &str) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let arguments = ["create", "--dry-run=server", "--output=json", "--filename", "-"];
    let created = cluster.run_with_input(&arguments, objects)?;
    let objects = serde_json::Deserializer::from_str(&created.stdout).into_iter();
    Ok(objects.collect::<Result<_, _>>()?)
}

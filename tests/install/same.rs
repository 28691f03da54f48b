//! The chart and kustomize give the same objects.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::documents::block;
use crate::render::{Choice, Test, by_name, chart, kustomize_with, succeeded, template};

/// What Helm's conventions add to every object, and nothing else does.
const HELM_LABELS: [&str; 4] = [
    "helm.sh/chart",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
];
/// What keeps the `CustomResourceDefinition` when a release is uninstalled.
const HELM_ANNOTATION: &str = "helm.sh/resource-policy";

fn remove(object: &mut Value, map: &str, keys: &[&str]) {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    let Some(metadata) = metadata else { return };
    if let Some(entries) = metadata.get_mut(map).and_then(Value::as_object_mut) {
        entries.retain(|key, _| !keys.contains(&key.as_str()));
        if entries.is_empty() {
            metadata.remove(map);
        }
    }
}

/// The order of what has names says nothing.
fn sort_by_name(list: Option<&mut Value>) {
    if let Some(list) = list.and_then(Value::as_array_mut) {
        list.sort_by_key(|entry| entry.get("name").map(ToString::to_string));
    }
}

/// Removes what may differ: Helm's own metadata, and the order of environment variables and volumes.
pub fn comparable(mut object: Value) -> Value {
    remove(&mut object, "labels", &HELM_LABELS);
    remove(&mut object, "annotations", &[HELM_ANNOTATION]);
    sort_by_name(object.pointer_mut("/spec/template/spec/volumes"));
    let containers = object
        .pointer_mut("/spec/template/spec/containers")
        .and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        sort_by_name(container.get_mut("env"));
        sort_by_name(container.get_mut("volumeMounts"));
    }
    object
}

#[test]
fn the_chart_renders_what_overlays_and_components_render() -> Test {
    for choice in Choice::pairs() {
        let ours = by_name(choice.kustomize()?.into_iter().map(comparable).collect())?;
        let theirs = by_name(chart(&choice.values())?.into_iter().map(comparable).collect())?;
        let names = |objects: &BTreeMap<String, Value>| -> Vec<String> { objects.keys().cloned().collect() };
        assert_eq!(names(&theirs), names(&ours), "{choice:?}");
        for (name, object) in &ours {
            assert_eq!(theirs.get(name), Some(object), "{name} of {choice:?}");
        }
    }
    Ok(())
}

#[test]
fn custom_domains_are_the_same_in_chart_and_kustomize() -> Test {
    let domains = ["registry.contoso.com", "images.contoso.com"];
    let written = |nth| block("docs/install.md", "Custom domains", "yaml", nth);
    let ours = kustomize_with(&written(1)?, &[("custom-domains.yaml", &written(0)?)])?;
    let values = json!({
        "webhook": {"customDomains": domains}, "namespace": {"create": true}, "test": {"enabled": false},
    });
    let theirs = chart(&values)?;
    let ours = by_name(ours.into_iter().map(comparable).collect())?;
    let theirs = by_name(theirs.into_iter().map(comparable).collect())?;
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    let webhook = "MutatingWebhookConfiguration - pullpass";
    assert_eq!(ours.get(webhook), theirs.get(webhook));
    let text = ours.get(webhook).map(ToString::to_string).unwrap_or_default();
    let expected = r#"[\"registry.contoso.com,images.contoso.com\".split("#;
    assert_eq!(text.matches(expected).count(), 2, "{text}");
    Ok(())
}

#[test]
fn every_object_of_the_chart_has_helms_labels() -> Test {
    for object in
        chart(&json!({"monitoring": {"enabled": true}, "rescue": true, "bindings": {"enabled": true}}))?
    {
        let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
        for label in HELM_LABELS {
            assert!(
                labels.is_some_and(|labels: &Map<String, Value>| labels.contains_key(label)),
                "{label}: {object}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_chart_can_be_installed_in_any_namespace() -> Test {
    let values = json!({
        "monitoring": {"enabled": true},
        "rescue": true,
        "bindings": {"enabled": true},
        "reports": {"enabled": true},
        "enforce": {"enabled": true},
        "admissionPolicy": {"enabled": true},
        "tls": {"source": "cert-manager"},
        "namespace": {"create": true},
    });
    let yaml = succeeded("helm template", &template("elsewhere", &values)?)?;
    assert!(!yaml.contains("pullpass-system"), "{yaml}");
    Ok(())
}

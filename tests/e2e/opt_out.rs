//! Namespaces and Pods that don't want it.

use crate::cluster::{Test, pullpass};
use crate::objects::{create, pod, pull_secrets, text};
use serde_json::{Value, json};

const IMAGE: &str = "myregistry.azurecr.io/web:1";

#[test]
fn a_namespace_that_opted_out_is_not_asked_about() -> Test {
    let pullpass = pullpass()?;
    let out = pullpass.new_namespace(&[("pullpass.dev/inject", "disabled")])?;
    let other = pullpass.new_namespace(&[("pullpass.dev/inject", "enabled")])?;
    let stored = create(&pod(&out, "web", IMAGE))?;
    assert!(pull_secrets(&stored.object).is_empty());
    let stored = create(&pod(&other, "web", IMAGE))?;
    assert_eq!(pull_secrets(&stored.object), ["pullpass-myregistry"]);
    // Records are written in the order of the answers.
    pullpass.wait_for_records(&other, 1)?;
    pullpass.wait_for_records(&out, 0)?;
    Ok(())
}

#[test]
fn a_pod_that_opted_out_is_left_alone_and_recorded() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    let mut object = pod(&namespace, "web", IMAGE);
    if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.insert("labels".to_owned(), json!({"pullpass.dev/inject": "disabled"}));
    }
    let stored = create(&object)?;
    assert!(pull_secrets(&stored.object).is_empty());
    for record in pullpass.wait_for_records(&namespace, 1)? {
        assert_eq!(text(&record, "/decision"), "skipped");
        assert!(text(&record, "/reason").contains("pullpass.dev/inject=disabled"));
    }
    Ok(())
}

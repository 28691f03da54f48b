//! The cluster's own audit log has the decision too.

use serde_json::Value;

use crate::cluster::{Test, cluster, pullpass};
use crate::objects::{create, pod};

#[test]
fn the_api_servers_audit_log_carries_the_decision() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    create(&pod(&namespace, "web", "myregistry.azurecr.io/web:1"))?;
    create(&pod(&namespace, "stranger", "stranger.azurecr.io/web:1"))?;

    // It is written before the answer is.
    let events = cluster()?.audit_events()?;
    let annotation = |pod: &str, key: &str| {
        events
            .iter()
            .find(|event| {
                event.pointer("/objectRef/namespace").and_then(Value::as_str) == Some(&namespace)
                    && event.pointer("/objectRef/name").and_then(Value::as_str) == Some(pod)
            })
            .and_then(|event| {
                event
                    .get("annotations")?
                    .get(format!("pods.pullpass.dev/{key}"))?
                    .as_str()
            })
    };
    assert_eq!(annotation("web", "decision"), Some("injected"));
    assert_eq!(annotation("web", "injected"), Some("pullpass-myregistry"));
    assert_eq!(annotation("web", "violations"), None);
    assert_eq!(annotation("stranger", "decision"), Some("uncovered"));
    assert_eq!(
        annotation("stranger", "violations"),
        Some("unattached:stranger.azurecr.io:allow")
    );
    Ok(())
}

#[test]
fn the_metrics_count_the_decision() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    create(&pod(&namespace, "web", "myregistry.azurecr.io/web:1"))?;
    let metrics = pullpass.metrics()?;
    let counter = r#"pullpass_admission_requests_total{operation="CREATE",decision="injected"} "#;
    assert!(metrics.lines().any(|line| line.starts_with(counter)), "{metrics}");
    Ok(())
}

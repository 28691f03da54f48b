//! The cluster's own audit log has the decision too.

use std::error::Error;

use pullpass_test_support::wait_for;
use serde_json::Value;

use crate::cluster::{SOON, Test, cluster, pullpass};
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
    let counter = r#"pullpass_admission_requests_total{operation="CREATE",decision="injected"} "#;
    let count = || -> Result<u64, Box<dyn Error>> {
        let metrics = pullpass.metrics()?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(counter));
        Ok(value.map(str::parse).transpose()?.unwrap_or_default())
    };
    for name in ["web", "again"] {
        let before = count()?;
        create(&pod(&namespace, name, "myregistry.azurecr.io/web:1"))?;
        // A Pod is counted a moment after it is answered. Other tests may have theirs counted meanwhile.
        wait_for("the count to grow", SOON, || match count() {
            Ok(after) if after > before => Ok(()),
            other => Err(format!("{other:?} after {before}")),
        })?;
    }
    Ok(())
}

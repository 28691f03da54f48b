//! Pods of tests, as objects.

use serde_json::{Value, json};

/// A Pod of one container.
pub fn pod(namespace: &str, name: &str, image: &str) -> Value {
    pod_with(
        namespace,
        name,
        json!({"containers": [{"name": "main", "image": image}]}),
    )
}

/// A Pod with this spec.
#[expect(clippy::needless_pass_by_value, reason = "callers write the spec in place")]
pub fn pod_with(namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    })
}

//! Objects in, objects out, all by way of kubectl.

use std::error::Error;

use pullpass_test_support::{KubectlOutput, wait_for};
pub use pullpass_test_support::{pod, pod_with};
use serde_json::Value;

use crate::cluster::{SOON, cluster};

/// An object as the API server has stored it, or would have.
pub struct Stored {
    pub object: Value,
    pub warnings: Vec<String>,
}

pub fn create(object: &Value) -> Result<Stored, Box<dyn Error>> {
    stored(&["create", "--output", "json", "--filename", "-"], object)
}

pub fn dry_run(object: &Value) -> Result<Stored, Box<dyn Error>> {
    let arguments = [
        "create",
        "--dry-run=server",
        "--output",
        "json",
        "--filename",
        "-",
    ];
    stored(&arguments, object)
}

/// What kubectl says when an object is refused.
pub fn refused(object: &Value) -> Result<String, Box<dyn Error>> {
    match create(object) {
        Ok(stored) => Err(format!("it was admitted: {}", stored.object).into()),
        Err(error) => Ok(error.to_string()),
    }
}

fn stored(arguments: &[&str], object: &Value) -> Result<Stored, Box<dyn Error>> {
    let output: KubectlOutput = cluster()?.run_with_input(arguments, &object.to_string())?;
    Ok(Stored {
        object: serde_json::from_str(&output.stdout)?,
        warnings: output.warnings().into_iter().map(str::to_owned).collect(),
    })
}

/// The names in `spec.imagePullSecrets`.
pub fn pull_secrets(pod: &Value) -> Vec<&str> {
    pod.pointer("/spec/imagePullSecrets")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|secret| secret.get("name")?.as_str())
        .collect()
}

/// Waits for so many Pods in a namespace.
pub fn pods(namespace: &str, count: usize) -> Result<Vec<Value>, Box<dyn Error>> {
    let pods = wait_for("the Pods", SOON, || {
        let mut list = cluster()
            .and_then(|cluster| Ok(cluster.get_json(&["pods", "--namespace", namespace])?))
            .map_err(|error| error.to_string())?;
        match list.get_mut("items").map(Value::take) {
            Some(Value::Array(pods)) if pods.len() == count => Ok(pods),
            other => Err(format!("{other:?}")),
        }
    })?;
    Ok(pods)
}

pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

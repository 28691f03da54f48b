//! What the tests of custom resources' schemas share.

use std::error::Error;
use std::sync::OnceLock;

use pullpass_test_support::ControlPlane;
use serde_json::Value;

use crate::cluster::{Test, cluster};

/// The shared control plane, with the custom resource that a file defines.
pub fn with_crd(
    installed: &OnceLock<Result<(), String>>,
    file: &str,
) -> Result<&'static ControlPlane, Box<dyn Error>> {
    let cluster = cluster()?;
    let installed = installed.get_or_init(|| {
        let crd = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
        let apply = ["apply", "--server-side", "--validate=strict", "--filename", &crd];
        let applied = cluster.run(&apply).and_then(|_| cluster.wait_until_established());
        applied.map_err(|error| error.to_string())
    });
    installed.clone()?;
    Ok(cluster)
}

/// A spec with some of its fields changed; a field that is `null` goes.
pub fn changed(mut spec: Value, change: &Value) -> Value {
    if let (Some(fields), Some(changes)) = (spec.as_object_mut(), change.as_object()) {
        for (field, value) in changes {
            if value.is_null() {
                fields.remove(field);
            } else {
                fields.insert(field.clone(), value.clone());
            }
        }
    }
    spec
}

/// How many objects of a list the API server takes, all of them without a warning.
pub fn accepted(cluster: &ControlPlane, list: &Value) -> Result<usize, Box<dyn Error>> {
    let arguments = ["create", "--dry-run=server", "--filename", "-"];
    let created = cluster.run_with_input(&arguments, &list.to_string())?;
    assert_eq!(created.stderr, "");
    Ok(created.stdout.lines().count())
}

/// The API server refuses an object: what a person sees names this place, and has these words.
pub fn refuses(cluster: &ControlPlane, object: &Value, place: &str, words: &str) -> Test {
    let arguments = ["create", "--dry-run=server", "--filename", "-"];
    match cluster.run_with_input(&arguments, &object.to_string()) {
        Ok(_) => Err(format!("accepted: {object}").into()),
        Err(error) if [place, words].iter().all(|part| error.to_string().contains(part)) => Ok(()),
        Err(error) => Err(format!("not in these words: {place} {words}\nbut: {error}").into()),
    }
}

/// The cells of a table that kubectl prints, row by row.
pub fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(cells).collect()
}

fn cells(row: &str) -> Vec<&str> {
    row.split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect()
}

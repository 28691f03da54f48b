//! The schemas of `docs/schemas`, and what does not fit them.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Holds what a command printed against a schema of `docs/schemas`, by its name; the error says what does not fit, and shows
/// the value.
pub fn fits_schema(name: &str, printed: &Value) -> Result<(), Box<dyn std::error::Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../docs/schemas/{name}.json"));
    let schema: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    let validator = jsonschema::validator_for(&schema)?;
    let flaws: Vec<_> = validator
        .iter_errors(printed)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    if flaws.is_empty() {
        Ok(())
    } else {
        Err(format!("{}\n{printed:#}", flaws.join("\n")).into())
    }
}

//! The JSON Patch (RFC 6902) that appends pull secrets.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::json;

/// The patch that appends `secrets`; `has_list` tells whether the Pod has a list to append to. What is in the list
/// stays as it is, in its order.
pub fn pull_secrets_patch(secrets: &[&str], has_list: bool) -> Patch {
    let field = ["spec", "imagePullSecrets"];
    let entry = |secret: &&str| json!({"name": secret});
    let add = |path, value| PatchOperation::Add(AddOperation { path, value });
    if !has_list && !secrets.is_empty() {
        return Patch(vec![add(
            PointerBuf::from_tokens(field),
            secrets.iter().map(entry).collect(),
        )]);
    }
    let end = PointerBuf::from_tokens(field.into_iter().chain(["-"]));
    Patch(
        secrets
            .iter()
            .map(|secret| add(end.clone(), entry(secret)))
            .collect(),
    )
}

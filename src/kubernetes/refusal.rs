//! What the API server means by refusing to write a Secret.

use kube::core::Status;

/// Whether it was asked to change what can't be changed: the type, or anything of a Secret that is immutable. Any policy
/// of the cluster may refuse with the same code, and names no such field.
pub(crate) fn is_of_a_fixed_field(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 422
        && causes
            .into_iter()
            .any(|cause| ["type", "data", "immutable"].contains(&cause.field.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn refusal(code: u16, causes: &Value) -> Status {
        let status = json!({
            "status": "Failure",
            "message": "Secret \"webhook-certificate\" is invalid",
            "reason": "Invalid",
            "details": {"name": "webhook-certificate", "kind": "Secret", "causes": causes},
            "code": code,
        });
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn a_policy_that_refuses_is_told_from_what_can_not_be_changed() {
        for field in ["type", "data", "immutable"] {
            let causes =
                json!([{"reason": "FieldValueForbidden", "message": "field is immutable", "field": field}]);
            assert!(is_of_a_fixed_field(&refusal(422, &causes)), "{field}");
            assert!(!is_of_a_fixed_field(&refusal(403, &causes)), "{field}");
        }
        for causes in [
            json!([]),
            json!([{"message": "failed expression: false"}]),
            json!([{"reason": "FieldValueInvalid", "message": "no", "field": "metadata.labels"}]),
        ] {
            assert!(!is_of_a_fixed_field(&refusal(422, &causes)), "{causes}");
        }
    }
}

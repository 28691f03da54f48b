//! The answer, as `admission.k8s.io/v1` has it on the wire.

#![expect(
    clippy::ref_option_ref,
    reason = "serde's serialize_with passes fields by reference"
)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

/// How many bytes most answers fit into.
const USUAL_SIZE: usize = 512;

/// What a review is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReviewResponse<'a> {
    /// The request's id.
    pub uid: &'a str,
    /// Whether the request is allowed.
    pub allowed: bool,
    /// Why it does not.
    #[serde(
        rename = "status",
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_status"
    )]
    pub denial: Option<&'a str>,
    /// A JSON Patch (RFC 6902), as JSON text.
    #[serde(flatten, skip_serializing_if = "Option::is_none", serialize_with = "as_patch")]
    pub patch: Option<&'a [u8]>,
    /// The message for the sender of the request.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub warnings: &'a [String],
    /// What goes into the cluster's own audit log.
    pub audit_annotations: AuditAnnotations<'a>,
}

/// What goes into the cluster's own audit log, each key behind the webhook's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditAnnotations<'a> {
    /// The decision.
    pub decision: &'a str,
    /// The names of the secrets that were added, with commas between.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub injected: &'a str,
    /// `rule:host:action` of each violation, with commas between.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub violations: &'a str,
}

impl ReviewResponse<'_> {
    /// The whole `AdmissionReview`, as JSON text.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Review<'a> {
            kind: &'static str,
            api_version: &'static str,
            response: &'a ReviewResponse<'a>,
        }
        let mut answer = Vec::with_capacity(USUAL_SIZE);
        let review = Review {
            kind: "AdmissionReview",
            api_version: "admission.k8s.io/v1",
            response: self,
        };
        serde_json::to_writer(&mut answer, &review)?;
        Ok(answer)
    }
}

fn as_status<S: Serializer>(denial: &Option<&str>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Status<'a> {
        code: u16,
        reason: &'static str,
        message: &'a str,
    }
    denial
        .map(|message| Status {
            code: 403,
            reason: "Forbidden",
            message,
        })
        .serialize(serializer)
}

fn as_patch<S: Serializer>(patch: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Patch {
        patch_type: &'static str,
        patch: String,
    }
    patch
        .map(|patch| Patch {
            patch_type: "JSONPatch",
            patch: STANDARD.encode(patch),
        })
        .serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn encoded(response: &ReviewResponse<'_>) -> Value {
        serde_json::from_slice(&response.encode().unwrap()).unwrap()
    }

    #[test]
    fn a_patch_is_base64_and_says_its_type() {
        let response = ReviewResponse {
            uid: "u\"1",
            allowed: true,
            denial: None,
            patch: Some(b"[]"),
            warnings: &[],
            audit_annotations: AuditAnnotations {
                decision: "injected",
                injected: "pullpass-a",
                violations: "",
            },
        };
        assert_eq!(
            encoded(&response),
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": {
                "uid": "u\"1", "allowed": true, "patchType": "JSONPatch", "patch": "W10=",
                "auditAnnotations": {"decision": "injected", "injected": "pullpass-a"},
            }})
        );
    }

    #[test]
    fn a_denial_is_a_forbidden_status() {
        let response = ReviewResponse {
            uid: "u",
            allowed: false,
            denial: Some("no"),
            patch: None,
            warnings: &["careful".to_owned()],
            audit_annotations: AuditAnnotations {
                decision: "denied",
                injected: "",
                violations: "v",
            },
        };
        let value = encoded(&response);
        assert_eq!(
            value["response"]["status"],
            json!({"code": 403, "reason": "Forbidden", "message": "no"})
        );
        assert_eq!(value["response"]["warnings"], json!(["careful"]));
        assert_eq!(value["response"].get("patch"), None);
    }
}

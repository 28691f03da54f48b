//! The answer, as `admission.k8s.io/v1` has it on the wire.

use base64::display::Base64Display;
use base64::encoded_len;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

/// How many bytes an answer takes at most besides the texts that it is made of.
const FRAME: usize = 320;

/// What a review is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewResponse<'a> {
    /// The request's id.
    pub uid: &'a str,
    /// Whether the request is allowed.
    pub allowed: bool,
    /// Why it does not.
    pub denial: Option<&'a str>,
    /// A JSON Patch (RFC 6902), as JSON text.
    pub patch: Option<&'a [u8]>,
    /// The message for the sender of the request.
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

/// The fields, in their order on the wire.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    kind: &'static str,
    api_version: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<Base64<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    audit_annotations: &'a AuditAnnotations<'a>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    reason: &'static str,
    message: &'a str,
}

/// Bytes that are written as base64 without a text of their own.
struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

impl ReviewResponse<'_> {
    /// The whole `AdmissionReview`, as JSON text.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut answer = Vec::with_capacity(self.usual_size());
        let review = Review {
            kind: "AdmissionReview",
            api_version: "admission.k8s.io/v1",
            response: Response {
                uid: self.uid,
                allowed: self.allowed,
                status: self.denial.map(|message| Status {
                    code: 403,
                    reason: "Forbidden",
                    message,
                }),
                patch_type: self.patch.map(|_| "JSONPatch"),
                patch: self.patch.map(Base64),
                warnings: self.warnings,
                audit_annotations: &self.audit_annotations,
            },
        };
        serde_json::to_writer(&mut answer, &review)?;
        Ok(answer)
    }

    /// How many bytes the answer takes at most where nothing in its texts is escaped.
    fn usual_size(&self) -> usize {
        /// The quotes and the comma.
        const AROUND: usize = 3;
        let patch = self.patch.and_then(|patch| encoded_len(patch.len(), true));
        let warnings: usize = self.warnings.iter().map(|warning| warning.len() + AROUND).sum();
        let annotations = &self.audit_annotations;
        FRAME
            + self.uid.len()
            + self.denial.map_or(0, str::len)
            + patch.unwrap_or_default()
            + warnings
            + annotations.injected.len()
            + annotations.violations.len()
    }
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

    #[test]
    fn an_answer_is_allocated_once() {
        let long = "registry.azurecr.io ".repeat(100);
        for (denial, patch, warnings) in [
            (None, None, vec![]),
            (None, Some(long.as_bytes()), vec![long.clone(); 10]),
            (Some(long.as_str()), None, vec![String::new(); 10]),
            (Some("no"), Some(b"[]".as_slice()), vec![]),
        ] {
            let response = ReviewResponse {
                uid: "0df28fbd-5f5f-11e8-bc74-36e6bb280816",
                allowed: denial.is_none(),
                denial,
                patch,
                warnings: &warnings,
                audit_annotations: AuditAnnotations {
                    decision: "already-present",
                    injected: &long,
                    violations: &long,
                },
            };
            let answer = response.encode().unwrap();
            assert_eq!(answer.capacity(), response.usual_size(), "{response:?}");
            let spare = answer.capacity() - answer.len();
            assert!(spare < FRAME, "{spare} {response:?}");
        }
    }
}

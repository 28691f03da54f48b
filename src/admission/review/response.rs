//! The answer, as `admission.k8s.io/v1` has it on the wire.

use std::io::{self, Write};

use base64::encoded_len;
use base64::engine::general_purpose::STANDARD;
use base64::write::EncoderWriter;
use serde::Serialize;
use serde::ser::Error;
use serde_json::to_writer;

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

impl ReviewResponse<'_> {
    /// The whole `AdmissionReview`, as JSON text. Most of it is the same in every answer, and is copied as it is: a serializer
    /// would look for characters to escape in all of it.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut answer = Vec::with_capacity(self.usual_size());
        answer.extend_from_slice(
            br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"#,
        );
        to_writer(&mut answer, self.uid)?;
        answer.extend_from_slice(br#","allowed":"#);
        to_writer(&mut answer, &self.allowed)?;
        if let Some(message) = self.denial {
            answer.extend_from_slice(br#","status":{"code":403,"reason":"Forbidden","message":"#);
            to_writer(&mut answer, message)?;
            answer.push(b'}');
        }
        if let Some(patch) = self.patch {
            answer.extend_from_slice(br#","patchType":"JSONPatch","patch":""#);
            write_base64(&mut answer, patch).map_err(Error::custom)?;
            answer.push(b'"');
        }
        if !self.warnings.is_empty() {
            answer.extend_from_slice(br#","warnings":"#);
            to_writer(&mut answer, self.warnings)?;
        }
        answer.extend_from_slice(br#","auditAnnotations":"#);
        to_writer(&mut answer, &self.audit_annotations)?;
        answer.extend_from_slice(b"}}");
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

fn write_base64(answer: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
    let mut encoder = EncoderWriter::new(answer, &STANDARD);
    encoder.write_all(bytes)?;
    encoder.finish().map(drop)
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
    fn an_answer_has_its_fields_in_order_and_escaped() {
        let text = "\"\\\u{1}\u{2028}é";
        let written = r#""\"\\\u0001"#.to_owned() + "\u{2028}é\"";
        let response = ReviewResponse {
            uid: text,
            allowed: false,
            denial: Some(text),
            patch: Some(b"[]"),
            warnings: &[text.to_owned(), "b".to_owned()],
            audit_annotations: AuditAnnotations {
                decision: "denied",
                injected: "a,b",
                violations: text,
            },
        };
        let expected = format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{{"uid":{written},"allowed":false,"status":{{"code":403,"reason":"Forbidden","message":{written}}},"patchType":"JSONPatch","patch":"W10=","warnings":[{written},"b"],"auditAnnotations":{{"decision":"denied","injected":"a,b","violations":{written}}}}}}}"#
        );
        assert_eq!(String::from_utf8(response.encode().unwrap()).unwrap(), expected);
    }

    #[test]
    fn a_patch_of_any_length_is_whole() {
        use base64::Engine;
        for length in [0, 1, 2, 3, 767, 768, 769, 1_600] {
            let patch: Vec<u8> = (0..length).map(|number: u32| number.to_le_bytes()[0]).collect();
            let mut written = Vec::new();
            write_base64(&mut written, &patch).unwrap();
            assert_eq!(written, STANDARD.encode(&patch).into_bytes(), "{length}");
        }
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

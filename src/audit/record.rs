//! One line of the audit log.

use jiff::Timestamp;
use serde::ser::{SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};

use crate::policy::decision::{Decision, JudgedImage};
use crate::policy::request::{Owner, ReviewRequest};
use crate::policy::scope::Mode;

/// The value of `schema` in every line.
pub(super) const SCHEMA: &str = "pullpass.dev/audit/v1";
/// How much of an image's reference a record keeps, in bytes. No valid reference is longer.
const MAX_REFERENCE: usize = 600;

/// A decision and where it came from.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// When it was answered.
    pub time: Timestamp,
    /// What was asked.
    pub request: &'a ReviewRequest<'a>,
    /// What was decided.
    pub decision: &'a Decision<'a>,
    /// The mode in force.
    pub mode: Mode,
    /// The caller's address, or the subject of its client certificate.
    pub peer: &'a str,
    /// From the body's arrival to the answer, in microseconds.
    pub duration_micros: u64,
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            time,
            request,
            decision,
            mode,
            peer,
            duration_micros,
        } = self;
        let mut record = serializer.serialize_struct("Record", 17)?;
        record.serialize_field("schema", SCHEMA)?;
        record.serialize_field("time", &Micros(*time))?;
        record.serialize_field("uid", &request.uid)?;
        record.serialize_field("operation", request.operation.as_str())?;
        record.serialize_field("dryRun", &request.dry_run)?;
        record.serialize_field("namespace", &request.namespace)?;
        record.serialize_field("pod", &Pod(request))?;
        record.serialize_field("user", &request.user)?;
        record.serialize_field("images", &Images(&decision.images))?;
        record.serialize_field("mode", mode)?;
        record.serialize_field("decision", &decision.outcome)?;
        record.serialize_field("reason", &decision.reason)?;
        record.serialize_field("injected", &decision.secrets)?;
        record.serialize_field("violations", &decision.violations)?;
        record.serialize_field("peer", peer)?;
        record.serialize_field("durationMicros", duration_micros)?;
        record.serialize_field("version", env!("CARGO_PKG_VERSION"))?;
        record.end()
    }
}

/// The values of the response's `auditAnnotations`: the same facts, for the cluster's own audit log.
pub fn annotations(decision: &Decision<'_>) -> (String, String) {
    let violations: Vec<_> = decision
        .violations
        .iter()
        .map(|violation| {
            format!(
                "{}:{}:{}",
                violation.rule.as_str(),
                violation.host,
                violation.action.as_str()
            )
        })
        .collect();
    (decision.secrets.join(","), violations.join(","))
}

/// RFC 3339 with exactly six digits of the second, so that lines sort as text.
pub(super) struct Micros(pub(super) Timestamp);

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.6}", self.0))
    }
}

struct Pod<'a>(&'a ReviewRequest<'a>);

impl Serialize for Pod<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct OwnerRecord<'a> {
            kind: &'a str,
            name: &'a str,
        }
        let pod = &self.0.pod;
        // The API server names the object in the request too, and there it can't be forged by the object itself.
        let name = Some(self.0.name.as_ref())
            .filter(|name| !name.is_empty())
            .or(pod.name.as_deref());
        let owner = pod
            .owner
            .as_ref()
            .map(|Owner { kind, name, .. }| OwnerRecord { kind, name });
        let mut record = serializer.serialize_struct("Pod", 4)?;
        record.serialize_field("name", &name)?;
        record.serialize_field("generateName", &pod.generate_name)?;
        record.serialize_field("owner", &owner)?;
        record.serialize_field("serviceAccount", &pod.service_account)?;
        record.end()
    }
}

struct Images<'a>(&'a [JudgedImage<'a>]);

impl Serialize for Images<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Path<'a>(&'a JudgedImage<'a>);
        impl Serialize for Path<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&self.0.image.path())
            }
        }
        #[derive(Serialize)]
        struct Image<'a> {
            path: Path<'a>,
            reference: &'a str,
            host: Option<&'a str>,
            registry: Option<&'a str>,
        }
        let mut images = serializer.serialize_seq(Some(self.0.len()))?;
        for judged in self.0 {
            images.serialize_element(&Image {
                path: Path(judged),
                reference: cut(&judged.image.reference),
                host: judged.host.as_deref(),
                registry: judged.registry,
            })?;
        }
        images.end()
    }
}

fn cut(reference: &str) -> &str {
    reference
        .get(..reference.floor_char_boundary(MAX_REFERENCE))
        .unwrap_or(reference)
}

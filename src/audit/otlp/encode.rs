//! Lines of the audit log as OTLP log records.
//!
//! A record's body is the whole line, as a map. What a collector filters and routes by is in attributes beside it, named
//! by OpenTelemetry's semantic conventions where they have a name.

use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde_json::Value;

use crate::policy::decision::Outcome;
use crate::policy::rules::Action;

/// Owners for whose names the conventions have an attribute, `k8s.KIND.name`.
const OWNERS: [&str; 7] = [
    "CronJob",
    "DaemonSet",
    "Deployment",
    "Job",
    "ReplicaSet",
    "ReplicationController",
    "StatefulSet",
];

/// The request that exports these lines.
pub(super) fn request(lines: &[u8]) -> ExportLogsServiceRequest {
    let log_records = lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(log_record)
        .collect();
    let attributes = [
        ("service.name", "pullpass"),
        ("service.version", env!("CARGO_PKG_VERSION")),
    ];
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource {
                attributes: attributes.map(|(key, text)| attribute(key, text)).to_vec(),
                ..Resource::default()
            }),
            scope_logs: vec![ScopeLogs {
                scope: Some(InstrumentationScope {
                    name: "pullpass.audit".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    ..InstrumentationScope::default()
                }),
                log_records,
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

fn log_record(line: &[u8]) -> LogRecord {
    // Every line is JSON; if one were not, it would still be the body.
    let record = serde_json::from_slice(line)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(line).into_owned()));
    let severity = severity(&record);
    let time = time(&record);
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time,
        severity_number: severity.into(),
        severity_text: severity_text(severity).to_owned(),
        event_name: event(&record).to_owned(),
        attributes: attributes(&record),
        body: Some(any(record)),
        ..LogRecord::default()
    }
}

fn text<'a>(record: &'a Value, pointer: &str) -> Option<&'a str> {
    record.pointer(pointer)?.as_str()
}

fn event(record: &Value) -> &'static str {
    if record.get("dropped").is_some() {
        "pullpass.audit.gap"
    } else {
        "pullpass.admission"
    }
}

/// What was refused, and what is missing from the log, are errors; what needs a look is a warning.
fn severity(record: &Value) -> SeverityNumber {
    let Some(decision) = text(record, "/decision") else {
        return SeverityNumber::Error;
    };
    let violations = record.get("violations").and_then(Value::as_array);
    let warned = violations
        .into_iter()
        .flatten()
        .any(|violation| text(violation, "/action") == Some(Action::Warn.as_str()));
    if decision == Outcome::Denied.as_str() {
        SeverityNumber::Error
    } else if warned || decision == Outcome::Uncovered.as_str() {
        SeverityNumber::Warn
    } else {
        SeverityNumber::Info
    }
}

fn severity_text(severity: SeverityNumber) -> &'static str {
    match severity {
        SeverityNumber::Error => "ERROR",
        SeverityNumber::Warn => "WARN",
        _ => "INFO",
    }
}

/// In nanoseconds since 1970; zero, which means unknown, for a record without.
fn time(record: &Value) -> u64 {
    text(record, "/time")
        .and_then(|time| time.parse::<Timestamp>().ok())
        .and_then(|time| u64::try_from(time.as_nanosecond()).ok())
        .unwrap_or_default()
}

fn attributes(record: &Value) -> Vec<KeyValue> {
    let mut attributes: Vec<_> = [
        // A request has one id, and one record: who gets it twice can tell.
        ("log.record.uid", "/uid"),
        ("k8s.namespace.name", "/namespace"),
        ("k8s.pod.name", "/pod/name"),
        ("user.name", "/user"),
        ("pullpass.decision", "/decision"),
    ]
    .into_iter()
    .filter_map(|(key, pointer)| Some(attribute(key, text(record, pointer)?)))
    .collect();
    let owner = text(record, "/pod/owner/kind").zip(text(record, "/pod/owner/name"));
    if let Some((kind, name)) = owner.filter(|(kind, _)| OWNERS.contains(kind)) {
        attributes.push(attribute(
            &format!("k8s.{}.name", kind.to_ascii_lowercase()),
            name,
        ));
    }
    attributes
}

fn attribute(key: &str, text: &str) -> KeyValue {
    key_value(
        key.to_owned(),
        AnyValue {
            value: Some(Any::StringValue(text.to_owned())),
        },
    )
}

fn key_value(key: String, value: AnyValue) -> KeyValue {
    KeyValue {
        key,
        value: Some(value),
        ..KeyValue::default()
    }
}

/// JSON as OTLP has it; null is a value that is not there.
fn any(value: Value) -> AnyValue {
    let value = match value {
        Value::Null => None,
        Value::Bool(truth) => Some(Any::BoolValue(truth)),
        Value::Number(number) => Some(match number.as_i64() {
            Some(integer) => Any::IntValue(integer),
            None => Any::DoubleValue(number.as_f64().unwrap_or(f64::NAN)),
        }),
        Value::String(text) => Some(Any::StringValue(text)),
        Value::Array(values) => Some(Any::ArrayValue(ArrayValue {
            values: values.into_iter().map(any).collect(),
        })),
        Value::Object(entries) => Some(Any::KvlistValue(KeyValueList {
            values: entries
                .into_iter()
                .map(|(key, value)| key_value(key, any(value)))
                .collect(),
        })),
    };
    AnyValue { value }
}

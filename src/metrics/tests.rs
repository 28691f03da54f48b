use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::*;
use crate::api::reason::Reason;

/// What a search for a metric's name in the source finds.
const SOURCES: [&str; 8] = [
    include_str!("audit_drops.rs"),
    include_str!("azure.rs"),
    include_str!("conditions.rs"),
    include_str!("index.rs"),
    include_str!("mod.rs"),
    include_str!("port.rs"),
    include_str!("process.rs"),
    include_str!("registries.rs"),
];

#[test]
fn metric_names_stand_whole_in_the_source() {
    let metrics = Metrics::new(|| 0);
    metrics.admission(Operation::Create, Outcome::Injected, Duration::ZERO);
    metrics.violation(Rule::Unattached, Action::Deny);
    metrics.dropped(Queue::Demand, DropReason::Full, 1);
    let registries = &metrics.registries;
    registries.count_refresh("mine", None);
    registries.credential_expires("mine", Some(jiff::Timestamp::UNIX_EPOCH));
    registries.credential_fails("mine", true);
    registries.namespaces("mine", 1, 1);
    registries.conditions("mine", &[condition("Ready", "True", "Minted")]);
    metrics.azure.requested("acr", Err("timeout"), Duration::ZERO);
    let text = metrics.encode().unwrap();
    let described = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names: Vec<_> = described
        .map(|line| match line.split_once(' ').unwrap() {
            (name, "counter") => format!("{name}_total"),
            (name, "info") => format!("{name}_info"),
            (name, _) => name.to_owned(),
        })
        .collect();
    assert!(names.len() >= 20, "{text}");
    for name in names {
        let quoted = format!("\"{name}\"");
        assert!(SOURCES.iter().any(|source| source.contains(&quoted)), "{name}");
    }
}

fn condition(kind: &str, status: &str, reason: &str) -> Condition {
    serde_json::from_value(serde_json::json!({
        "type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": "1970-01-01T00:00:00Z",
    }))
    .unwrap()
}

/// The series in which a text occurs, in order.
fn series(metrics: &Metrics, text: &str) -> Vec<String> {
    let encoded = metrics.encode().unwrap();
    let lines = encoded.lines().filter(|line| line.contains(text));
    let mut series: Vec<_> = lines.map(str::to_owned).collect();
    series.sort();
    series
}

#[test]
fn a_condition_has_one_series_that_is_1() {
    let metrics = Metrics::new(|| 0);
    let registries = &metrics.registries;
    let domains = condition("CustomDomains", "True", "Asked");
    registries.conditions("mine", &[condition("Ready", "False", "Throttled"), domains]);
    registries.conditions("mine", &[condition("Ready", "False", "EntraRejected")]);
    assert_eq!(
        series(&metrics, "pullpass_registry_condition{"),
        [
            ("False", "EntraRejected", 1),
            ("True", "", 0),
            ("Unknown", "", 0)
        ]
        .map(|(status, reason, value)| format!(
            "pullpass_registry_condition{{registry=\"mine\",type=\"Ready\",status=\"{status}\",reason=\"{reason}\"}} {value}"
        ))
    );
    registries.count_refresh("mine", Some(Reason::Throttled));
    registries.count_refresh("mine", None);
    assert_eq!(series(&metrics, "mine").len(), 5);
    registries.detached("mine");
    assert_eq!(series(&metrics, "mine"), Vec::<String>::new());
}

#[test]
fn a_request_to_azure_is_counted_by_its_outcome() {
    let metrics = Metrics::new(|| 0);
    let azure = &metrics.azure;
    azure.requested("entra", Ok(StatusCode::TOO_MANY_REQUESTS), Duration::from_secs(3));
    azure.requested("acr", Err("timeout"), Duration::from_secs(10));
    azure.requested("acr", Err("timeout"), Duration::from_secs(10));
    assert_eq!(
        series(&metrics, "pullpass_azure_requests_total{"),
        [
            "pullpass_azure_requests_total{service=\"acr\",code=\"timeout\"} 2",
            "pullpass_azure_requests_total{service=\"entra\",code=\"429\"} 1",
        ]
    );
    assert_eq!(
        series(&metrics, "pullpass_azure_request_duration_seconds_sum"),
        [
            "pullpass_azure_request_duration_seconds_sum{service=\"acr\"} 20.0",
            "pullpass_azure_request_duration_seconds_sum{service=\"entra\"} 3.0",
        ]
    );
}

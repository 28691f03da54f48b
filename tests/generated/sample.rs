//! A scrape in which every metric has a series.

use std::error::Error;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use pullpass::metrics::{DropReason, Metrics, Queue};
use pullpass::policy::coverage::{Gap, UncoveredGroup};
use pullpass::policy::decision::{Outcome, WaitOutcome, Waited};
use pullpass::policy::request::Operation;
use pullpass::policy::rules::{Action, Rule};
use serde_json::json;

/// What a replica says of itself once all has happened that it counts.
pub fn scrape() -> Result<String, Box<dyn Error>> {
    let metrics = Metrics::new(|| 0);
    metrics.admission(Operation::Create, Outcome::Injected, Duration::ZERO);
    metrics.violation(Rule::Unattached, Action::Deny);
    metrics.dropped(Queue::Demand, DropReason::Full, 1);
    metrics.waited(Waited {
        registry: Some(WaitOutcome::Changed),
        pull_secret: None,
        ..Waited::default()
    });
    let group = UncoveredGroup {
        namespace: "apps".into(),
        registry: None,
        gap: Gap::Unattached,
    };
    metrics.set_uncovered(1, [(group, 1)]);
    let registries = &metrics.registries;
    registries.count_refresh("registry", None);
    registries.credential_expires("registry", Some(Timestamp::UNIX_EPOCH));
    registries.credential_fails("registry", true);
    registries.namespaces("registry", 1, 1);
    let condition: Condition = serde_json::from_value(json!({
        "type": "Ready", "status": "True", "reason": "Minted", "message": "", "lastTransitionTime": "1970-01-01T00:00:00Z",
    }))?;
    registries.conditions("registry", &[condition]);
    metrics.azure.requested("acr", Ok(StatusCode::OK), Duration::ZERO);
    Ok(metrics.encode()?)
}

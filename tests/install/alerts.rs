//! The alerts fire when they should and name what exists; the dashboard shows what exists.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use pullpass::metrics::{DropReason, Metrics, Queue};
use pullpass::policy::decision::Outcome;
use pullpass::policy::request::Operation;
use pullpass::policy::rules::{Action, Rule};
use pullpass_test_support::Scratch;
use serde_json::{Value, json};

use crate::render::{Choice, ROOT, Test, chart, find, succeeded};

/// The API server's own metrics, which `accepted` holds against a real one.
const API_SERVER: [&str; 5] = [
    "apiserver_admission_match_condition_evaluation_errors_total",
    "apiserver_admission_webhook_fail_open_count",
    "apiserver_admission_webhook_rejection_count",
    "apiserver_mutating_admission_policy_check_total",
    "apiserver_validating_admission_policy_check_total",
];

fn monitoring() -> Result<Vec<Value>, Box<dyn Error>> {
    let choice = Choice {
        overlay: "cluster-wide",
        components: vec!["monitoring"],
    };
    choice.kustomize()
}

/// The groups of the `PrometheusRule`, as Prometheus reads them.
fn groups(objects: &[Value]) -> Result<Value, Box<dyn Error>> {
    let groups = find(objects, "PrometheusRule", "pullpass")?
        .pointer("/spec/groups")
        .ok_or("there are no groups")?;
    Ok(json!({"groups": groups}))
}

fn alerts(objects: &[Value]) -> Result<Vec<Value>, Box<dyn Error>> {
    let groups = groups(objects)?;
    let rules = groups.pointer("/groups/0/rules").and_then(Value::as_array);
    Ok(rules.ok_or("there are no rules")?.clone())
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn promtool(arguments: &[&str], scratch: &Scratch) -> Result<String, Box<dyn Error>> {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(scratch.path())
        .output()
        .map_err(|error| {
            format!("promtool, of Debian's prometheus, can't be started (tests/setup installs it): {error}")
        })?;
    succeeded("promtool", &output)
}

#[test]
fn the_alerts_fire_when_they_should_and_only_then() -> Test {
    let scratch = Scratch::new()?;
    // JSON is YAML.
    fs::write(
        scratch.path().join("rules.yaml"),
        groups(&monitoring()?)?.to_string(),
    )?;
    fs::copy(
        format!("{ROOT}/tests/install/testdata/alerts.yaml"),
        scratch.path().join("alerts.yaml"),
    )?;
    promtool(&["check", "rules", "rules.yaml"], &scratch)?;
    promtool(&["test", "rules", "alerts.yaml"], &scratch)?;
    Ok(())
}

#[test]
fn every_alert_is_tested_both_ways() -> Test {
    let tests = fs::read_to_string(format!("{ROOT}/tests/install/testdata/alerts.yaml"))?;
    let tests: Value = serde_saphyr::from_str(&tests)?;
    for alert in alerts(&monitoring()?)? {
        let name = text(&alert, "/alert");
        let mut fired = BTreeSet::new();
        let groups = tests.get("tests").and_then(Value::as_array);
        for test in groups
            .into_iter()
            .flatten()
            .filter_map(|group| group.get("alert_rule_test")?.as_array())
            .flatten()
        {
            if text(test, "/alertname") == name {
                let expected = test.get("exp_alerts").and_then(Value::as_array);
                fired.insert(expected.is_some_and(|alerts| !alerts.is_empty()));
            }
        }
        assert_eq!(fired.len(), 2, "{name} is tested only {fired:?}");
    }
    Ok(())
}

/// Words of an expression that can only be metrics.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    expression
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| {
            ["pullpass_", "process_", "apiserver_"]
                .iter()
                .any(|prefix| word.starts_with(prefix))
        })
        .map(str::to_owned)
        .collect()
}

/// What the program says of itself once all has happened that it counts.
fn registered() -> Result<String, Box<dyn Error>> {
    let metrics = Metrics::new(|| 0);
    metrics.admission(Operation::Create, Outcome::Injected, Duration::ZERO);
    metrics.violation(Rule::Unattached, Action::Deny);
    metrics.registries.count_refresh("registry", None);
    metrics
        .registries
        .credential_expires("registry", Some(Timestamp::UNIX_EPOCH));
    metrics.registries.credential_fails("registry", true);
    metrics.registries.namespaces("registry", 1, 1);
    metrics.registries.conditions("registry", &[]);
    metrics.azure.requested("acr", Err("timeout"), Duration::ZERO);
    metrics.dropped(Queue::Demand, DropReason::Full, 1);
    Ok(metrics.encode()?)
}

/// The metrics that `docs/operations.md` lists.
pub fn documented() -> Result<BTreeSet<String>, Box<dyn Error>> {
    let text = fs::read_to_string(format!("{ROOT}/docs/operations.md"))?;
    Ok(text
        .lines()
        .filter_map(|line| line.strip_prefix("| `pullpass_"))
        .filter_map(|rest| rest.split(['`', '{']).next())
        .map(|name| format!("pullpass_{name}"))
        .collect())
}

#[test]
fn every_metric_of_the_program_is_documented() -> Test {
    let text = registered()?;
    let documented = documented()?;
    for line in text.lines() {
        let Some(name) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split(' ').next())
            .filter(|name| name.starts_with("pullpass_"))
        else {
            continue;
        };
        let known = ["", "_total", "_info"]
            .iter()
            .any(|suffix| documented.contains(&format!("{name}{suffix}")));
        assert!(known, "{name} is not in docs/operations.md");
    }
    Ok(())
}

#[test]
fn rules_and_dashboard_read_metrics_that_exist() -> Test {
    let objects = monitoring()?;
    let mut expressions: Vec<String> = alerts(&objects)?
        .iter()
        .map(|alert| text(alert, "/expr").to_owned())
        .collect();
    let dashboard = find(&objects, "ConfigMap", "pullpass-dashboard")?;
    let dashboard: Value = serde_json::from_str(
        dashboard
            .pointer("/data/pullpass.json")
            .and_then(Value::as_str)
            .ok_or("there is no dashboard")?,
    )?;
    let panels = dashboard.get("panels").and_then(Value::as_array);
    for target in panels
        .into_iter()
        .flatten()
        .filter_map(|panel| panel.get("targets")?.as_array())
        .flatten()
    {
        expressions.push(text(target, "/expr").to_owned());
    }
    let mut known = documented()?;
    let program = registered()?;
    for line in program.lines().filter(|line| !line.starts_with('#')) {
        known.insert(line.split(['{', ' ']).next().unwrap_or_default().to_owned());
    }
    known.extend(API_SERVER.map(str::to_owned));
    let used: BTreeSet<String> = expressions.iter().flat_map(|text| metrics_in(text)).collect();
    for metric in &used {
        let base = metric.strip_suffix("_bucket").unwrap_or(metric);
        assert!(
            known.contains(metric) || known.contains(base),
            "{metric} is nobody's"
        );
    }
    // A metric that is added is shown.
    for metric in documented()? {
        assert!(
            used.contains(&metric) || used.contains(&format!("{metric}_bucket")),
            "{metric} is read by neither rules nor dashboard"
        );
    }
    // Each is an expression that Prometheus reads.
    let scratch = Scratch::new()?;
    let rules: Vec<_> = expressions
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let text = text.replace("$__rate_interval", "5m").replace("$__range", "1h");
            json!({"record": format!("expression_{index}"), "expr": text})
        })
        .collect();
    let rules = json!({"groups": [{"name": "all", "rules": rules}]});
    fs::write(scratch.path().join("all.yaml"), rules.to_string())?;
    promtool(&["check", "rules", "all.yaml"], &scratch)?;
    Ok(())
}

#[test]
fn every_alert_leads_to_its_heading() -> Test {
    let operations = fs::read_to_string(format!("{ROOT}/docs/operations.md"))?;
    let charted =
        chart(&json!({"monitoring": {"enabled": true, "runbookUrl": "https://docs.test/operations"}}))?;
    for (shipped, charted) in alerts(&monitoring()?)?.iter().zip(alerts(&charted)?) {
        let name = text(shipped, "/alert");
        let heading = format!("\n### {name}\n");
        assert!(
            operations.contains(&heading),
            "docs/operations.md has no {heading}"
        );
        let anchor = name.to_lowercase();
        assert_eq!(
            text(shipped, "/annotations/runbook_url"),
            format!("docs/operations.md#{anchor}")
        );
        assert_eq!(
            text(&charted, "/annotations/runbook_url"),
            format!("https://docs.test/operations#{anchor}")
        );
        for field in [
            "/annotations/summary",
            "/annotations/description",
            "/labels/severity",
        ] {
            assert!(!text(shipped, field).is_empty(), "{name} has no {field}");
        }
    }
    Ok(())
}

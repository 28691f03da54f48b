//! The dashboard shows something of every metric, and in an order that can be read.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::process::Command;

use pullpass_test_support::Scratch;
use serde_json::{Value, json};

use crate::alerts::documented;
use crate::render::{ROOT, Test, succeeded};
use crate::sample::scrape;

const DASHBOARD: &str = "manifests/components/monitoring/dashboard.json";

/// Metrics that no panel shows, each with the reason.
const LEFT_OUT: [(&str, &str); 1] = [(
    "pullpass_credential_failing",
    "the condition Ready of pullpass_registry_condition says the same, with its reason",
)];

/// What is not of a replica: the API server's metrics, and what Prometheus says of alerts.
const OTHERS: [&str; 3] = [
    "apiserver_admission_webhook_fail_open_count{name=\"pods.pullpass.dev\"}",
    "apiserver_admission_webhook_rejection_count{name=\"pods.pullpass.dev\",error_type=\"calling_webhook_error\"}",
    "ALERTS{alertname=\"PullpassDown\",alertstate=\"firing\"}",
];

fn dashboard() -> Result<Value, Box<dyn Error>> {
    Ok(serde_json::from_str(&fs::read_to_string(format!(
        "{ROOT}/{DASHBOARD}"
    ))?)?)
}

fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard.get("panels").and_then(Value::as_array);
    panels.into_iter().flatten().collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The series of a scrape in the form that promtool reads: counters grow, and gauges are 1, so that the replica leads
/// and every condition has the status that it is asked for.
fn series(scrape: &str) -> Vec<Value> {
    let is_gauge = |name: &str| scrape.contains(&format!("# TYPE {name} gauge\n")) || name.ends_with("_info");
    let of_replica = scrape.lines().filter(|line| !line.starts_with('#')).map(|line| {
        // The values of labels have no space.
        let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = format!("instance=\"one\",job=\"pullpass\",{labels}");
        let values = if is_gauge(name) { "1x120" } else { "0+1x120" };
        json!({"series": format!("{name}{{{labels}"), "values": values})
    });
    let others = OTHERS.map(|series| {
        let values = if series.starts_with("ALERTS") {
            "1x120"
        } else {
            "0+1x120"
        };
        json!({"series": series, "values": values})
    });
    of_replica.chain(others).collect()
}

/// An expression as Grafana sends it when everything is chosen.
fn sent(expression: &str) -> String {
    expression
        .replace("$__rate_interval", "5m")
        .replace("$__range", "1h")
        .replace("$cluster", ".*")
        .replace("$namespace", ".*")
}

#[test]
fn every_panel_shows_something_of_a_busy_replica() -> Test {
    let dashboard = dashboard()?;
    let targets = panels(&dashboard)
        .into_iter()
        .filter_map(|panel| panel.get("targets")?.as_array())
        .flatten();
    let tests: Vec<_> = targets
        .map(|target| {
            let expression = sent(text(target, "/expr"));
            // Its series and their values are Prometheus' business.
            json!({
                "expr": format!("count({expression}) > bool 0"),
                "eval_time": "1h30m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            })
        })
        .collect();
    assert!(tests.len() > 30, "{}", tests.len());
    let scratch = Scratch::new()?;
    let file = json!({
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series(&scrape()?), "promql_expr_test": tests}],
    });
    fs::write(scratch.path().join("panels.yaml"), file.to_string())?;
    let output = Command::new("promtool")
        .args(["test", "rules", "panels.yaml"])
        .current_dir(scratch.path())
        .output()
        .map_err(|error| {
            format!("promtool, of Debian's prometheus, can't be started (tests/setup installs it): {error}")
        })?;
    succeeded("promtool test rules", &output)?;
    Ok(())
}

/// A metric that is added is shown too, or says here why not.
#[test]
fn every_metric_is_shown_or_left_out_on_purpose() -> Test {
    let dashboard = dashboard()?;
    let expressions: Vec<_> = panels(&dashboard)
        .into_iter()
        .filter_map(|panel| panel.get("targets")?.as_array())
        .flatten()
        .map(|target| text(target, "/expr"))
        .collect();
    let is_shown = |metric: &str| {
        let ends = [format!("{metric}{{"), format!("{metric}_bucket{{")];
        let mut expressions = expressions.iter();
        expressions.any(|expression| ends.iter().any(|end| expression.contains(end)))
    };
    for metric in documented()? {
        let reason = LEFT_OUT.iter().find(|(left_out, _)| *left_out == metric);
        assert_ne!(is_shown(&metric), reason.is_some(), "{metric}: {reason:?}");
    }
    Ok(())
}

#[test]
fn panels_say_what_they_show_and_do_not_overlap() -> Test {
    let dashboard = dashboard()?;
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels(&dashboard) {
        let title = text(panel, "/title");
        assert!(ids.insert(panel.get("id").and_then(Value::as_u64)), "{title}");
        let at = |key: &str| panel.pointer(&format!("/gridPos/{key}")).and_then(Value::as_u64);
        let (Some(x), Some(y), Some(width), Some(height)) = (at("x"), at("y"), at("w"), at("h")) else {
            return Err(format!("{title} has no place").into());
        };
        assert!(x + width <= 24, "{title} is too wide");
        for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{title} lies on another panel");
        }
        if text(panel, "/type") == "row" {
            continue;
        }
        assert!(text(panel, "/description").len() > 10, "{title} says nothing");
        let defaults = panel
            .pointer("/fieldConfig/defaults")
            .ok_or("there are no defaults")?;
        assert!(!text(defaults, "/unit").is_empty(), "{title} has no unit");
        if text(panel, "/type") == "stat" {
            assert!(
                defaults.pointer("/thresholds/steps").is_some(),
                "{title} is never red"
            );
        }
        for target in panel
            .get("targets")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let expression = text(target, "/expr");
            assert!(
                expression.contains("cluster=~\"$cluster\""),
                "{title}: {expression}"
            );
        }
    }
    let rows: Vec<_> = panels(&dashboard)
        .into_iter()
        .filter(|panel| text(panel, "/type") == "row")
        .map(|panel| text(panel, "/title"))
        .collect();
    assert_eq!(
        rows.get(..2),
        Some(["Is anything wrong?", "What is wrong, and since when?"].as_slice())
    );
    Ok(())
}

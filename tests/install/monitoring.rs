//! Monitors, rules and dashboard of the chart: each by itself, for either Prometheus, as the values say.

use std::collections::BTreeSet;
use std::error::Error;

use serde_json::{Value, json};

use crate::render::{Test, chart, find, template};

fn monitoring(values: &Value) -> Result<Vec<Value>, Box<dyn Error>> {
    chart(&json!({"monitoring": values}))
}

fn at(object: &Value, pointer: &str) -> Value {
    object.pointer(pointer).cloned().unwrap_or_default()
}

/// What of the chart is there for monitoring only.
fn names(objects: &[Value]) -> BTreeSet<String> {
    let name =
        |object: &Value| format!("{} {}", at(object, "/kind"), at(object, "/metadata/name")).replace('"', "");
    let of_monitoring = [
        "Service pullpass-metrics",
        "ServiceMonitor pullpass",
        "PrometheusRule pullpass",
        "ConfigMap pullpass-dashboard",
    ];
    let names = objects.iter().map(name);
    names
        .filter(|name| of_monitoring.contains(&name.as_str()))
        .collect()
}

fn alerts(objects: &[Value]) -> Result<Vec<String>, Box<dyn Error>> {
    let rules = at(
        find(objects, "PrometheusRule", "pullpass")?,
        "/spec/groups/0/rules",
    );
    let rules = rules.as_array().ok_or("there are no rules")?;
    let names = rules.iter().filter_map(|rule| rule.get("alert")?.as_str());
    Ok(names.map(str::to_owned).collect())
}

#[test]
fn monitor_rules_and_dashboard_are_switched_apart() -> Test {
    let parts = [
        (
            "serviceMonitor",
            &["Service pullpass-metrics", "ServiceMonitor pullpass"][..],
        ),
        ("prometheusRule", &["PrometheusRule pullpass"]),
        ("dashboard", &["ConfigMap pullpass-dashboard"]),
    ];
    let set = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    let all = parts
        .iter()
        .flat_map(|(_, names)| set(names))
        .collect::<BTreeSet<_>>();
    assert_eq!(names(&monitoring(&json!({}))?), set(&[]));
    assert_eq!(names(&monitoring(&json!({"enabled": true}))?), all);
    for (part, expected) in parts {
        let expected = set(expected);
        let alone = monitoring(&json!({part: {"enabled": true}}))?;
        assert_eq!(names(&alone), expected, "{part}");
        let without = monitoring(&json!({"enabled": true, part: {"enabled": false}}))?;
        assert_eq!(names(&without), &all - &expected, "{part}");
        let silent = monitoring(&json!({"enabled": true, part: {"enabled": null}}))?;
        assert_eq!(names(&silent), all, "{part}");
    }
    Ok(())
}

/// The limits are those without which Azure's managed Prometheus drops what is scraped.
#[test]
fn azures_prometheus_gets_a_monitor_of_its_group() -> Test {
    let shipped = monitoring(&json!({"enabled": true}))?;
    let shipped = find(&shipped, "ServiceMonitor", "pullpass")?;
    assert_eq!(at(shipped, "/apiVersion"), json!("monitoring.coreos.com/v1"));
    assert_eq!(at(shipped, "/spec/labelLimit"), Value::Null);
    let azures = monitoring(&json!({"serviceMonitor": {
        "enabled": true,
        "apiVersion": "azmonitoring.coreos.com/v1",
    }}))?;
    let azures = find(&azures, "ServiceMonitor", "pullpass")?;
    assert_eq!(at(azures, "/apiVersion"), json!("azmonitoring.coreos.com/v1"));
    let mut expected = at(shipped, "/spec");
    for (limit, value) in [
        ("labelLimit", 63),
        ("labelNameLengthLimit", 511),
        ("labelValueLengthLimit", 1023),
    ] {
        expected[limit] = json!(value);
    }
    assert_eq!(at(azures, "/spec"), expected);
    Ok(())
}

#[test]
fn a_monitor_is_scraped_as_the_values_say() -> Test {
    let drop = json!({"action": "drop", "regex": "go_.*", "sourceLabels": ["__name__"]});
    let node = json!({"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"});
    let objects = monitoring(&json!({"serviceMonitor": {
        "enabled": true,
        "namespace": "metrics",
        "interval": "15s",
        "scrapeTimeout": "10s",
        "relabelings": [node],
        "metricRelabelings": [drop],
    }}))?;
    let monitor = find(&objects, "ServiceMonitor", "pullpass")?;
    assert_eq!(
        at(monitor, "/spec/endpoints"),
        json!([{
            "port": "metrics",
            "honorLabels": true,
            "interval": "15s",
            "scrapeTimeout": "10s",
            "relabelings": [node],
            "metricRelabelings": [drop],
        }])
    );
    // It looks for the Service where that is, and not where it is itself.
    assert_eq!(at(monitor, "/metadata/namespace"), json!("metrics"));
    assert_eq!(
        at(monitor, "/spec/namespaceSelector"),
        json!({"matchNames": ["pullpass-system"]})
    );
    let service = find(&objects, "Service", "pullpass-metrics")?;
    assert_eq!(at(service, "/metadata/namespace"), json!("pullpass-system"));
    Ok(())
}

#[test]
fn labels_and_annotations_are_of_one_object_or_of_all() -> Test {
    let objects = monitoring(&json!({
        "enabled": true,
        "labels": {"release": "prometheus", "team": "a"},
        "serviceMonitor": {"labels": {"team": "b"}, "annotations": {"some.test/key": "monitor"}},
        "prometheusRule": {"labels": {"role": "alerts"}, "annotations": {"some.test/key": "rule"}, "namespace": "rules"},
        "dashboard": {
            "labels": {"grafana_dashboard": null, "my_dashboard": "1"},
            "annotations": {"grafana_folder": "Kubernetes"},
            "namespace": "grafana",
        },
    }))?;
    for (kind, name, labels, absent, annotations, namespace) in [
        (
            "Service",
            "pullpass-metrics",
            json!({"release": "prometheus", "team": "a", "pullpass.dev/metrics": "true"}),
            "role",
            Value::Null,
            "pullpass-system",
        ),
        (
            "ServiceMonitor",
            "pullpass",
            json!({"release": "prometheus", "team": "b"}),
            "role",
            json!({"some.test/key": "monitor"}),
            "pullpass-system",
        ),
        (
            "PrometheusRule",
            "pullpass",
            json!({"release": "prometheus", "team": "a", "role": "alerts"}),
            "my_dashboard",
            json!({"some.test/key": "rule"}),
            "rules",
        ),
        (
            "ConfigMap",
            "pullpass-dashboard",
            json!({"my_dashboard": "1"}),
            "grafana_dashboard",
            json!({"grafana_folder": "Kubernetes"}),
            "grafana",
        ),
    ] {
        let object = find(&objects, kind, name)?;
        let there = at(object, "/metadata/labels");
        for (label, value) in labels.as_object().into_iter().flatten() {
            assert_eq!(there.get(label), Some(value), "{kind} {label}");
        }
        assert_eq!(there.get(absent), None, "{kind}");
        assert_eq!(at(object, "/metadata/annotations"), annotations, "{kind}");
        assert_eq!(at(object, "/metadata/namespace"), json!(namespace), "{kind}");
    }
    Ok(())
}

#[test]
fn alerts_are_left_out_by_name() -> Test {
    let all = alerts(&monitoring(&json!({"enabled": true}))?)?;
    let (one, other) = (all.first().ok_or("none")?, all.last().ok_or("none")?);
    let left = alerts(&monitoring(
        &json!({"enabled": true, "prometheusRule": {"disabledAlerts": [one, other]}}),
    )?)?;
    let expected: Vec<_> = all
        .iter()
        .filter(|name| ![one, other].contains(name))
        .cloned()
        .collect();
    assert_eq!(left, expected);

    let values =
        json!({"monitoring": {"enabled": true, "prometheusRule": {"disabledAlerts": ["PullpassIsFine"]}}});
    let output = template("pullpass-system", &values)?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    // With the names that there are.
    assert!(
        said.contains("no alert PullpassIsFine") && said.contains(other),
        "{said}"
    );
    Ok(())
}

//! The network policy lets in what the Deployment listens for and the Services lead to, and lets out what pullpass needs.

use std::collections::BTreeSet;

use pullpass::check::installation::SHIPPED_PORTS;
use serde_json::{Value, json};

use crate::render::{COMPONENTS, Choice, Test, chart, find};

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn texts(values: impl Iterator<Item = Value>) -> BTreeSet<String> {
    values
        .filter_map(|value| value.as_str().map(str::to_owned))
        .collect()
}

fn hold(objects: &[Value]) -> Test {
    let policy = find(objects, "NetworkPolicy", "pullpass")?;
    let deployment = find(objects, "Deployment", "pullpass")?;
    let listened = texts(
        list(deployment, "/spec/template/spec/containers/0/ports")
            .map(|port| port.get("name").cloned().unwrap_or_default()),
    );
    let labels = deployment
        .pointer("/spec/template/metadata/labels")
        .ok_or("the Pods have no labels")?;
    let selected = |selector: Option<&Value>| {
        let pairs = selector.and_then(Value::as_object);
        pairs.is_some_and(|pairs| {
            !pairs.is_empty() && pairs.iter().all(|(key, value)| labels.get(key) == Some(value))
        })
    };
    assert!(selected(policy.pointer("/spec/podSelector/matchLabels")));

    let mut let_in = BTreeSet::new();
    for rule in list(policy, "/spec/ingress") {
        // Any client: API servers and kubelets are no Pods.
        assert_eq!(rule.get("from"), None);
        let_in.extend(texts(
            list(rule, "/ports").map(|port| port.get("port").cloned().unwrap_or_default()),
        ));
    }
    assert_eq!(let_in, listened);

    let kind = |object: &Value, kind: &str| object.get("kind").and_then(Value::as_str) == Some(kind);
    let services: Vec<&Value> = objects.iter().filter(|object| kind(object, "Service")).collect();
    for service in &services {
        assert!(selected(service.pointer("/spec/selector")), "{service}");
        for port in list(service, "/spec/ports") {
            let target = port.get("targetPort").and_then(Value::as_str).unwrap_or_default();
            assert!(let_in.contains(target), "{service}");
        }
    }
    let asked = find(objects, "Service", "pullpass")?;
    for webhook in list(
        find(objects, "MutatingWebhookConfiguration", "pullpass")?,
        "/webhooks",
    ) {
        let port = webhook.pointer("/clientConfig/service/port");
        let found = list(asked, "/spec/ports").find(|candidate| candidate.get("port") == port);
        assert_eq!(
            found.and_then(|port| port.get("targetPort")),
            Some(&json!("webhook")),
            "{webhook}"
        );
    }

    let let_out: BTreeSet<String> = list(policy, "/spec/egress")
        .filter(|rule| rule.get("to").is_none())
        .flat_map(|rule| list(rule, "/ports"))
        .map(|port| {
            let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
            format!("{protocol} {}", port.get("port").unwrap_or(&Value::Null))
        })
        .collect();
    let api_servers = SHIPPED_PORTS.map(|port| format!("TCP {port}"));
    let dns = ["UDP 53", "TCP 53"].map(str::to_owned);
    for needed in dns.iter().chain(&api_servers) {
        assert!(let_out.contains(needed), "{needed}: {let_out:?}");
    }
    Ok(())
}

#[test]
fn the_policy_holds_with_what_kustomize_makes() -> Test {
    for overlay in ["cluster-wide", "opt-in"] {
        let choice = Choice {
            overlay,
            components: COMPONENTS.to_vec(),
        };
        hold(&choice.kustomize()?)?;
    }
    Ok(())
}

#[test]
fn the_policy_holds_with_ports_of_ones_own() -> Test {
    hold(&chart(&json!({
        "ports": {"webhook": 10250, "metrics": 9102},
        "monitoring": {"enabled": true},
    }))?)
}

/// A collector of audit records is on neither of the ports that are open.
#[test]
fn the_chart_lets_out_what_it_is_told_to() -> Test {
    let rule = json!({"ports": [{"port": 4318}]});
    let objects = chart(&json!({"networkPolicy": {"extraEgress": [rule]}}))?;
    let policy = find(&objects, "NetworkPolicy", "pullpass")?;
    assert_eq!(list(policy, "/spec/egress").last(), Some(&rule));
    Ok(())
}

/// Kubelets and Prometheus are elsewhere.
#[test]
fn only_the_webhooks_port_is_kept_to_who_may_ask() -> Test {
    let from = json!([{"ipBlock": {"cidr": "10.0.0.0/28"}}]);
    let objects = chart(&json!({"networkPolicy": {"from": from}}))?;
    let policy = find(&objects, "NetworkPolicy", "pullpass")?;
    let rules: Vec<_> = list(policy, "/spec/ingress").collect();
    assert_eq!(
        rules,
        [
            &json!({"from": from, "ports": [{"port": "webhook"}]}),
            &json!({"ports": [{"port": "metrics"}]})
        ]
    );
    Ok(())
}

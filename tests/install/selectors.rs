//! The namespaces that the API server asks about are those that pullpass injects: the webhook configuration's selector and
//! the Deployment's environment say the same.

use std::collections::BTreeMap;
use std::error::Error;

use pullpass::policy::scope::{Labels, Membership, Mode, Scope};
use serde_json::{Value, json};

use crate::render::{Choice, Test, chart, find};

const NAMESPACES: [&str; 6] = [
    "apps",
    "tests",
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "pullpass-system",
];
const VALUES: [Option<&str>; 4] = [None, Some("enabled"), Some("disabled"), Some("yes")];
const ALWAYS: [Option<&str>; 3] = [None, Some("true"), Some("false")];
/// Labels that a namespace selector can be about.
const OF_PLATFORM: [[(&str, Option<&str>); 2]; 6] = [
    [("team", None), ("env", None)],
    [("team", Some("a")), ("env", None)],
    [("team", Some("a")), ("env", Some("prod"))],
    [("team", Some("b")), ("env", Some("test"))],
    [("team", Some("")), ("env", Some("prod"))],
    [("team", Some("c")), ("env", Some(""))],
];

fn strings(value: Option<&Value>) -> Vec<&str> {
    let values = value.and_then(Value::as_array);
    values.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What the API server makes of a selector.
fn selects(webhook: &Value, labels: &Labels) -> Result<bool, Box<dyn Error>> {
    let selector = webhook.get("namespaceSelector").ok_or("there is no selector")?;
    let equal = selector.get("matchLabels").and_then(Value::as_object);
    for (key, value) in equal.into_iter().flatten() {
        if labels.get(key).map(String::as_str) != value.as_str() {
            return Ok(false);
        }
    }
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    for expression in expressions.ok_or("there are no expressions")? {
        let key = expression
            .get("key")
            .and_then(Value::as_str)
            .ok_or("there is no key")?;
        let value = labels.get(key).map(String::as_str);
        let listed = value.is_some_and(|value| strings(expression.get("values")).contains(&value));
        let holds = match expression.get("operator").and_then(Value::as_str) {
            Some("In") => listed,
            Some("NotIn") => !listed,
            Some("Exists") => value.is_some(),
            Some("DoesNotExist") => value.is_none(),
            other => return Err(format!("{other:?} is not known here").into()),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The scope that the Deployment's environment makes.
fn scope(objects: &[Value]) -> Result<Scope, Box<dyn Error>> {
    let deployment = find(objects, "Deployment", "pullpass")?;
    let env = deployment
        .pointer("/spec/template/spec/containers/0/env")
        .and_then(Value::as_array)
        .ok_or("there is no environment")?;
    let variables: BTreeMap<_, _> = env
        .iter()
        .filter_map(|variable| Some((variable.get("name")?.as_str()?, variable.get("value")?.as_str()?)))
        .collect();
    let named = variables.get("PULLPASS_MODE").ok_or("there is no mode")?;
    let mode = Mode::ALL.into_iter().find(|mode| mode.as_str() == *named);
    let excluded = variables.get("PULLPASS_EXCLUDE_NAMESPACES").copied();
    let selector = variables
        .get("PULLPASS_NAMESPACE_SELECTOR")
        .copied()
        .unwrap_or_default();
    let scope = Scope::new(
        mode.ok_or_else(|| format!("{named} is no mode"))?,
        "pullpass-system",
        excluded
            .into_iter()
            .flat_map(|list| list.split(','))
            .map(str::to_owned),
    );
    Ok(scope.with_selector(&selector.parse()?))
}

/// Both say the same about every namespace, with every label.
pub fn agree(objects: &[Value]) -> Test {
    let scope = scope(objects)?;
    let configuration = find(objects, "MutatingWebhookConfiguration", "pullpass")?;
    let webhook = |name: &str| {
        let webhooks = configuration.get("webhooks").and_then(Value::as_array);
        webhooks
            .into_iter()
            .flatten()
            .find(|webhook| webhook.get("name").and_then(Value::as_str) == Some(name))
            .ok_or_else(|| format!("there is no webhook {name}"))
    };
    for namespace in NAMESPACES {
        for inject in VALUES {
            for (always, of_platform) in ALWAYS
                .into_iter()
                .flat_map(|always| OF_PLATFORM.map(|of| (always, of)))
            {
                let own = [
                    ("pullpass.dev/inject", inject),
                    ("pullpass.dev/always-inject", always),
                ];
                let labels: Labels = own
                    .into_iter()
                    .chain(of_platform)
                    .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
                    .chain([("kubernetes.io/metadata.name".to_owned(), namespace.to_owned())])
                    .collect();
                let membership = scope.membership(namespace, Some(&labels));
                let injected = matches!(membership, Membership::Injected { .. });
                assert_eq!(
                    selects(webhook("pods.pullpass.dev")?, &labels)?,
                    injected,
                    "{labels:?}"
                );
                assert_eq!(
                    selects(webhook("always.pullpass.dev")?, &labels)?,
                    membership == Membership::Injected { always: true },
                    "{labels:?}"
                );
            }
        }
    }
    Ok(())
}

/// The policies of `enforce` are not for namespaces that are excluded by these names: one that an API server can't evaluate yet
/// refuses every Pod that it is for.
pub fn enforce_leaves_out(objects: &[Value], excluded: &[&str]) -> Test {
    for name in ["pullpass-enforce", "pullpass-warn"] {
        let policy = find(objects, "ValidatingAdmissionPolicy", name)?;
        let constraints = policy.pointer("/spec/matchConstraints");
        let constraints = constraints.ok_or("there are no constraints")?;
        let shipped = ["kube-system", "kube-public", "kube-node-lease", "pullpass-system"];
        for namespace in NAMESPACES.iter().chain(excluded) {
            let labels = [("kubernetes.io/metadata.name".to_owned(), (*namespace).to_owned())];
            let is_excluded = shipped.contains(namespace) || excluded.contains(namespace);
            assert_eq!(
                selects(constraints, &labels.into())?,
                !is_excluded,
                "{name} {namespace}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_overlays_ask_about_the_namespaces_that_are_injected() -> Test {
    for overlay in ["cluster-wide", "opt-in"] {
        let choice = Choice {
            overlay,
            components: Vec::new(),
        };
        agree(&choice.kustomize()?)?;
    }
    Ok(())
}

#[test]
fn the_chart_asks_about_no_namespace_that_it_excludes() -> Test {
    for mode in ["cluster-wide", "opt-in"] {
        agree(&chart(
            &json!({"mode": mode, "excludeNamespaces": ["tests", "more"]}),
        )?)?;
    }
    Ok(())
}

#[test]
fn the_charts_enforce_sees_no_namespace_that_it_excludes() -> Test {
    for excluded in [&[][..], &["tests", "more"]] {
        let values = json!({"excludeNamespaces": excluded, "enforce": {"enabled": true}});
        enforce_leaves_out(&chart(&values)?, excluded)?;
    }
    Ok(())
}

#[test]
fn the_chart_asks_about_no_namespace_that_is_not_selected() -> Test {
    let one = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    for selector in [
        json!({}),
        json!({"matchLabels": {"team": "a", "env": "prod"}}),
        json!({"matchLabels": {"team": ""}, "matchExpressions": null}),
        one("team", "In", &["a", "b"]),
        one("team", "In", &[""]),
        one("team", "NotIn", &["a", "b", ""]),
        one("team", "NotIn", &[""]),
        one("env", "Exists", &[]),
        one("kubernetes.io/metadata.name", "In", &["apps"]),
        one("kubernetes.io/metadata.name", "NotIn", &["apps", "more"]),
        json!({
            "matchLabels": {"team": "a"},
            "matchExpressions": [
                {"key": "env", "operator": "DoesNotExist"}, {"key": "team", "operator": "Exists"},
            ],
        }),
    ] {
        for mode in ["cluster-wide", "opt-in"] {
            let values = json!({"mode": mode, "excludeNamespaces": ["tests"], "webhook": {"namespaceSelector": selector}});
            agree(&chart(&values)?).map_err(|error| format!("{values}: {error}"))?;
        }
    }
    Ok(())
}

//! What only the chart has: a schema of its values, notes, and copies of what kustomize ships.

use std::error::Error;
use std::process::Command;

use pullpass_test_support::Scratch;
use serde_json::{Value, json};

use crate::render::{CHART, Test, chart, find, helm, objects, succeeded, template, template_with};

#[test]
fn the_copies_in_the_chart_are_fresh() -> Test {
    let output = Command::new(format!("{CHART}/generate"))
        .arg("--check")
        .output()?;
    succeeded("run make generate: manifests/chart/generate --check", &output)?;
    Ok(())
}

#[test]
fn helm_has_nothing_to_say_against_the_chart() -> Test {
    let output = helm(&Scratch::new()?)?
        .args(["lint", "--strict", CHART])
        .output()?;
    succeeded("helm lint", &output)?;
    Ok(())
}

#[test]
fn the_notes_warn_of_fail_and_say_how_to_uninstall() -> Test {
    for (policy, warns) in [("Fail", true), ("Ignore", false)] {
        let output = helm(&Scratch::new()?)?
            .args(["install", "pullpass", CHART, "--namespace", "pullpass-system"])
            .args(["--dry-run=client", "--set"])
            .arg(format!("webhook.failurePolicy={policy}"))
            .output()?;
        let printed = succeeded("helm install --dry-run=client", &output)?;
        let (_, notes) = printed.split_once("NOTES:").ok_or("there are no notes")?;
        for part in ["failurePolicy is Fail", "network plugins", "excludeNamespaces"] {
            assert_eq!(notes.contains(part), warns, "{policy}: {part}: {notes}");
        }
        // What shows that all pull secrets are gone: the Secrets of pullpass itself stay for some minutes.
        let gone = r"--for=jsonpath='{.metadata.annotations.pullpass\.dev/pull-secrets}'=deleted";
        for (place, text) in [
            ("NOTES.txt", notes),
            ("docs/install.md", include_str!("../../docs/install.md")),
        ] {
            assert!(text.contains(gone), "{place} lacks {gone}");
        }
    }
    Ok(())
}

/// The schema refuses these values, and names the one that is wrong.
fn refused(values: &Value, named: &str) -> Test {
    let output = template("pullpass-system", values)?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{values}");
    assert!(
        said.contains("values don't meet the specifications"),
        "{values}: {said}"
    );
    assert!(said.contains(named), "{values}: {said}");
    Ok(())
}

#[test]
fn wrong_values_are_refused_by_name() -> Test {
    for (values, named) in [
        (json!({"mode": "sometimes"}), "mode"),
        (json!({"replicas": 0}), "replicas"),
        (json!({"policy": {"unattached": "refuse"}}), "unattached"),
        (json!({"policy": {"unatached": "deny"}}), "unatached"),
        (json!({"excludeNamespaces": ["Not A Name"]}), "excludeNamespaces"),
        (json!({"webhook": {"failurePolicy": "Retry"}}), "failurePolicy"),
        (
            json!({"webhook": {"namespaceSelector": {"team": "a"}}}),
            "namespaceSelector",
        ),
        (
            json!({"webhook": {"namespaceSelector": {"matchLabels": {"team": "-a"}}}}),
            "matchLabels",
        ),
        (
            json!({"webhook": {"namespaceSelector": {"matchLabels": {"pullpass.dev/inject": "enabled"}}}}),
            "pullpass.dev/inject",
        ),
        (
            json!({"webhook": {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Is"}]}}}),
            "operator",
        ),
        (
            json!({"webhook": {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In"}]}}}),
            "values",
        ),
        (
            json!({"webhook": {"namespaceSelector": {"matchExpressions": [
                {"key": "team", "operator": "Exists", "values": ["a"]},
            ]}}}),
            "values",
        ),
        (
            json!({"webhook": {"namespaceSelector": {"matchExpressions": [
                {"key": "pullpass.dev/inject", "operator": "Exists"},
            ]}}}),
            "key",
        ),
        (json!({"otherCloud": {"suffix": "Contoso.com"}}), "suffix"),
        (
            json!({"otherCloud": {"authority": "http://login.contoso.com"}}),
            "authority",
        ),
        (json!({"tls": {"source": "somewhere"}}), "source"),
        (json!({"tls": {"source": "files"}}), "secretName"),
        (json!({"tls": {"files": {"caBundle": "Q0E="}}}), "caBundle"),
        (json!({"tls": {"clientCA": {"key": "../ca.crt"}}}), "key"),
        (json!({"tls": {"clientCA": {"secret": "mine"}}}), "secret"),
        (json!({"networkPolicy": {"from": ["10.0.0.0/28"]}}), "from"),
        (json!({"image": {"digest": "latest"}}), "digest"),
        (json!({"auditLog": "audit.log"}), "auditLog"),
        (json!({"rescue": "evict"}), "rescue"),
        (
            json!({"global": {"imageRegistry": "mirror.test//"}}),
            "imageRegistry",
        ),
        (json!({"dnsPolicy": "cluster"}), "dnsPolicy"),
        (json!({"dnsConfig": {"ndots": 1}}), "ndots"),
        (json!({"extraObjects": [1]}), "extraObjects"),
        (
            json!({"monitoring": {"serviceMonitor": {"apiVersion": "monitoring.coreos.com/v2"}}}),
            "apiVersion",
        ),
        (
            json!({"monitoring": {"serviceMonitor": {"interval": "often"}}}),
            "interval",
        ),
        (
            json!({"monitoring": {"prometheusRule": {"thresholds": {}}}}),
            "thresholds",
        ),
        (json!({"noSuchValue": true}), "noSuchValue"),
        (json!({"hostNetwork": "yes"}), "hostNetwork"),
        (json!({"ports": {"webhook": 443}}), "webhook"),
        (json!({"ports": {"https": 8443}}), "https"),
        (json!({"shutdownDelay": -1}), "shutdownDelay"),
        (json!({"priorityClass": {"name": ""}}), "priorityClass"),
        (
            json!({"workloadIdentity": {"projectedToken": "yes"}}),
            "projectedToken",
        ),
        (
            json!({"topologySpreadConstraints": {}}),
            "topologySpreadConstraints",
        ),
        (
            json!({"extraContainers": [{"image": "sidecar"}]}),
            "extraContainers",
        ),
        // The Services would find no Pod.
        (
            json!({"podLabels": {"app.kubernetes.io/name": "mine"}}),
            "podLabels",
        ),
    ] {
        refused(&values, named)?;
    }
    Ok(())
}

#[test]
fn wrong_labels_and_annotations_are_refused_by_name() -> Test {
    for (values, named) in [
        (
            json!({"pullSecrets": {"labels": {"pullpass.dev/registry": "mine"}}}),
            "pullpass.dev/registry",
        ),
        (
            json!({"pullSecrets": {"annotations": {"app.kubernetes.io/managed-by": "mine"}}}),
            "app.kubernetes.io/managed-by",
        ),
        (
            json!({"pullSecrets": {"labels": {"contoso..com/team": "a"}}}),
            "contoso..com/team",
        ),
        (
            json!({"pullSecrets": {"annotations": {"contoso.-com/team": "a"}}}),
            "contoso.-com/team",
        ),
        (
            json!({"pullSecrets": {"annotations": {"note": "two\nlines"}}}),
            "note",
        ),
        (
            json!({"commonLabels": {"app.kubernetes.io/name": "mine"}}),
            "app.kubernetes.io/name",
        ),
        (
            json!({"commonLabels": {"pullpass.dev/metrics": "true"}}),
            "pullpass.dev/metrics",
        ),
        // The API server adds the rules of a ClusterRole with it to one that many people have.
        (
            json!({"commonLabels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}}),
            "rbac.authorization.k8s.io/aggregate-to-edit",
        ),
        (
            json!({"commonLabels": {"pod-security.kubernetes.io/enforce-version": "v1.30"}}),
            "pod-security.kubernetes.io/enforce-version",
        ),
        (
            json!({"commonLabels": {"service.kubernetes.io/service-proxy-name": "mine"}}),
            "service.kubernetes.io/service-proxy-name",
        ),
        (
            json!({"commonLabels": {"kubernetes.io/cluster-service": "true"}}),
            "kubernetes.io/cluster-service",
        ),
        (json!({"commonLabels": {"team": "a team"}}), "team"),
    ] {
        refused(&values, named)?;
    }
    Ok(())
}

/// The role for people who look: in the API server's own, and in that of another distribution for the whole cluster.
#[test]
fn a_role_to_look_is_in_the_roles_that_people_have() -> Test {
    let objects = chart(&json!({}))?;
    let role = find(&objects, "ClusterRole", "pullpass-view")?;
    for role_of_people in ["view", "cluster-reader"] {
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{role_of_people}");
        let labels = role.pointer("/metadata/labels");
        let value = labels.and_then(|labels| labels.get(&label));
        assert_eq!(value, Some(&json!("true")), "{label}");
    }
    Ok(())
}

/// Where nothing is reported about `admissionPolicy.enabled`, what the cluster serves decides; what is said counts.
#[test]
fn the_policy_is_installed_where_its_kind_is_served() -> Test {
    let stable = [
        "--api-versions",
        "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy",
    ];
    // Kubernetes 1.34 and 1.35 serve it, if told to, in another version.
    let beta = [
        "--api-versions",
        "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy",
    ];
    let silent = [json!({}), json!({"admissionPolicy": {"enabled": null}})];
    let (yes, no) = (
        json!({"admissionPolicy": {"enabled": true}}),
        json!({"admissionPolicy": {"enabled": false}}),
    );
    for (values, arguments, expected) in [
        (&silent[0], &stable[..], true),
        (&silent[0], &beta, false),
        (&silent[0], &[], false),
        (&silent[1], &stable, true),
        (&silent[1], &[], false),
        (&yes, &stable, true),
        (&yes, &[], true),
        (&no, &stable, false),
        (&no, &[], false),
    ] {
        let output = template_with("pullpass-system", values, arguments)?;
        let objects = objects(&succeeded("helm template", &output)?)?;
        let names = |kind: &str| {
            let of_kind = objects
                .iter()
                .filter(|object| object.get("kind") == Some(&json!(kind)));
            let names = of_kind.filter_map(|object| object.pointer("/metadata/name")?.as_str());
            names.collect::<Vec<_>>()
        };
        let both = ["pullpass", "pullpass-always"];
        let expected = if expected { &both[..] } else { &[] };
        for kind in ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"] {
            assert_eq!(names(kind), expected, "{values} {arguments:?} {kind}");
        }
    }
    Ok(())
}

#[test]
fn a_projected_token_has_the_audience_that_is_chosen() -> Test {
    for (values, audience) in [
        (json!({"projectedToken": true}), "api://AzureADTokenExchange"),
        (
            json!({"projectedToken": true, "audience": ""}),
            "api://AzureADTokenExchange",
        ),
        (
            json!({"projectedToken": true, "audience": "api://contoso"}),
            "api://contoso",
        ),
    ] {
        let objects = chart(&json!({"workloadIdentity": values}))?;
        let deployment = find(&objects, "Deployment", "pullpass")?;
        let volumes = deployment
            .pointer("/spec/template/spec/volumes")
            .and_then(Value::as_array);
        let token = volumes
            .into_iter()
            .flatten()
            .find_map(|volume| volume.pointer("/projected/sources/0/serviceAccountToken/audience"));
        assert_eq!(token, Some(&json!(audience)));
    }
    Ok(())
}

/// What the schema does not know can be set by nobody.
#[test]
fn the_schema_has_every_value() -> Test {
    let read = |name: &str| std::fs::read_to_string(format!("{CHART}/{name}"));
    let values: Value = serde_saphyr::from_str(&read("values.yaml")?)?;
    let schema: Value = serde_json::from_str(&read("values.schema.json")?)?;
    let mut left = vec![(String::new(), &values, &schema)];
    while let Some((path, value, schema)) = left.pop() {
        let Some(properties) = schema.get("properties") else {
            continue;
        };
        for (key, value) in value.as_object().into_iter().flatten() {
            let path = format!("{path}.{key}");
            let property = properties
                .get(key)
                .ok_or_else(|| format!("{path} is not in the schema"))?;
            left.push((path, value, property));
        }
    }
    Ok(())
}

/// Environment variables of the only container.
fn env(values: &Value) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let objects = chart(values)?;
    let env = find(&objects, "Deployment", "pullpass")?
        .pointer("/spec/template/spec/containers/0/env")
        .and_then(Value::as_array)
        .ok_or("there is no environment")?;
    let text = |variable: &Value, key| variable.get(key).and_then(Value::as_str).map(str::to_owned);
    Ok(env
        .iter()
        .filter_map(|variable| Some((text(variable, "name")?, text(variable, "value")?)))
        .collect())
}

#[test]
fn values_reach_the_program() -> Test {
    let set = env(&json!({
        "mode": "opt-in",
        "excludeNamespaces": ["one", "two"],
        "webhook": {"namespaceSelector": {
            "matchLabels": {"team": "a"},
            "matchExpressions": [
                {"key": "env", "operator": "NotIn", "values": ["dev", "test"]}, {"key": "tier", "operator": "In", "values": [""]},
                {"key": "owner", "operator": "Exists", "values": []}, {"key": "frozen", "operator": "DoesNotExist"},
            ],
        }},
        "policy": {"unattached": "deny", "forbidden": "allow"},
        "auditLog": "/log/audit",
        "rescue": true,
        "bindings": {"enabled": true},
        "pullSecrets": {
            "labels": {"team": "a", "contoso.com/cost": "42"},
            "annotations": {"contoso.com/note": "a=b, c", "contoso.com/other": ""},
        },
        "extraEnv": [{"name": "PULLPASS_LOG", "value": "debug"}],
    }))?;
    for (name, value) in [
        ("PULLPASS_MODE", "opt-in"),
        ("PULLPASS_EXCLUDE_NAMESPACES", "one,two"),
        (
            "PULLPASS_NAMESPACE_SELECTOR",
            "team=a,env notin (dev,test),tier=,owner,!frozen",
        ),
        ("PULLPASS_UNATTACHED", "deny"),
        ("PULLPASS_FORBIDDEN", "allow"),
        ("PULLPASS_AUDIT_LOG", "/log/audit"),
        ("PULLPASS_RESCUE", "evict"),
        ("PULLPASS_BINDINGS", "true"),
        ("PULLPASS_PULL_SECRET_LABELS", "contoso.com/cost=42,team=a"),
        (
            "PULLPASS_PULL_SECRET_ANNOTATIONS",
            "contoso.com/note=a=b, c\ncontoso.com/other=",
        ),
        ("PULLPASS_LOG", "debug"),
    ] {
        assert!(
            set.contains(&(name.to_owned(), value.to_owned())),
            "{name}: {set:?}"
        );
    }
    Ok(())
}

/// A variable with another name would be ignored without a word.
#[test]
fn the_program_knows_every_variable_that_is_set() -> Test {
    let help = Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .args(["serve", "--help"])
        .output()?;
    let help = succeeded("pullpass serve --help", &help)?;
    let values = json!({
        "excludeNamespaces": ["one"],
        "webhook": {"namespaceSelector": {"matchLabels": {"team": "a"}}},
        "pullSecrets": {"labels": {"team": "a"}, "annotations": {"note": "b"}},
        "rescue": true,
        "tls": {"source": "cert-manager", "clientCA": {"secretName": "clients"}},
        "ports": {"webhook": 9443, "metrics": 9102},
        "shutdownDelay": 20,
        "otherCloud": {
            "suffix": "azurecr.contoso.com",
            "authority": "https://login.contoso.com",
            "audience": "https://management.contoso.com",
        },
    });
    for (name, _) in env(&values)? {
        assert!(help.contains(&format!("[env: {name}=")), "{name}: {help}");
    }
    Ok(())
}

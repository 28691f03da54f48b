//! What the values of the chart change that kustomize leaves to patches.

use std::collections::BTreeSet;
use std::error::Error;

use serde_json::{Value, json};

use crate::render::{Test, chart, find, template};

fn deployment(values: &Value) -> Result<Value, Box<dyn Error>> {
    Ok(find(&chart(values)?, "Deployment", "pullpass")?.clone())
}

fn at(object: &Value, pointer: &str) -> Value {
    object.pointer(pointer).cloned().unwrap_or_default()
}

const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";

/// The value of an environment variable of pullpass' own container, which must be there once at most.
fn variable(deployment: &Value, name: &str) -> Option<Value> {
    let env = at(deployment, &format!("{CONTAINER}/env"));
    let mut found = env
        .as_array()
        .into_iter()
        .flatten()
        .filter(|variable| variable.get("name").and_then(Value::as_str) == Some(name));
    let value = found.next().map(|variable| at(variable, "/value"));
    assert!(found.next().is_none(), "there are two of {name}: {env}");
    value
}

#[test]
fn another_cloud_is_described_by_values() -> Test {
    let names = ["SUFFIX", "AUTHORITY", "AUDIENCE"].map(|name| format!("PULLPASS_OTHER_CLOUD_{name}"));
    let variables = |values: &Value| -> Result<Vec<Option<Value>>, Box<dyn Error>> {
        let deployment = deployment(values)?;
        Ok(names.iter().map(|name| variable(&deployment, name)).collect())
    };
    assert_eq!(variables(&json!({}))?, [None, None, None]);
    let (suffix, authority) = ("azurecr.contoso.com", "https://login.contoso.com");
    let audience = "https://management.contoso.com/1-2";
    assert_eq!(
        variables(&json!({"otherCloud": {"suffix": suffix}}))?,
        [Some(json!(suffix)), None, None]
    );
    let whole = json!({"otherCloud": {"suffix": suffix, "authority": authority, "audience": audience}});
    let expected = [suffix, authority, audience].map(|value| Some(json!(value)));
    assert_eq!(variables(&whole)?, expected);
    for half in [
        json!({"suffix": suffix, "authority": authority}),
        json!({"suffix": suffix, "audience": audience}),
        json!({"authority": authority, "audience": audience}),
    ] {
        let output = template("pullpass-system", &json!({"otherCloud": half}))?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains("go together"),
            "{half}: {said}"
        );
    }
    Ok(())
}

#[test]
fn ports_change_where_they_are_listened_on_and_named() -> Test {
    let shipped = deployment(&json!({}))?;
    let changed = deployment(&json!({"ports": {"webhook": 10250, "metrics": 9102}}))?;
    assert_eq!(
        at(&changed, &format!("{CONTAINER}/ports")),
        json!([{"name": "webhook", "containerPort": 10250}, {"name": "metrics", "containerPort": 9102}])
    );
    assert_eq!(variable(&shipped, "PULLPASS_LISTEN"), None);
    assert_eq!(variable(&changed, "PULLPASS_LISTEN"), Some(json!("[::]:10250")));
    assert_eq!(
        variable(&changed, "PULLPASS_METRICS_LISTEN"),
        Some(json!("[::]:9102"))
    );
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        assert_eq!(
            at(&changed, &format!("{CONTAINER}/{probe}/httpGet/port")),
            json!("metrics")
        );
    }
    Ok(())
}

#[test]
fn a_replica_on_the_host_network_frees_its_port_for_the_next() -> Test {
    let objects = chart(&json!({"hostNetwork": true, "namespace": {"create": true}}))?;
    let deployment = find(&objects, "Deployment", "pullpass")?;
    assert_eq!(at(deployment, &format!("{POD}/hostNetwork")), json!(true));
    assert_eq!(
        at(deployment, &format!("{POD}/dnsPolicy")),
        json!("ClusterFirstWithHostNet")
    );
    assert_eq!(
        at(deployment, "/spec/strategy/rollingUpdate/maxUnavailable"),
        json!(1)
    );
    let namespace = find(&objects, "Namespace", "pullpass-system")?;
    for mode in ["enforce", "audit", "warn"] {
        assert_eq!(
            at(
                namespace,
                &format!("/metadata/labels/pod-security.kubernetes.io~1{mode}")
            ),
            json!("privileged")
        );
    }
    Ok(())
}

#[test]
fn labels_and_annotations_of_the_user_win() -> Test {
    let objects = chart(&json!({
        "podLabels": {"azure.workload.identity/use": "false", "team": "a"},
        "podAnnotations": {"kubectl.kubernetes.io/default-container": null, "some.test/key": "value"},
        "webhook": {"annotations": {"admissions.enforcer/disabled": "false", "some.test/key": "value"}},
    }))?;
    let deployment = find(&objects, "Deployment", "pullpass")?;
    assert_eq!(
        at(deployment, "/spec/template/metadata/labels"),
        json!({
            "app.kubernetes.io/name": "pullpass",
            "app.kubernetes.io/part-of": "pullpass",
            "azure.workload.identity/use": "false",
            "team": "a",
        })
    );
    assert_eq!(
        at(deployment, "/spec/template/metadata/annotations"),
        json!({"some.test/key": "value"})
    );
    assert_eq!(
        at(
            find(&objects, "MutatingWebhookConfiguration", "pullpass")?,
            "/metadata/annotations"
        ),
        json!({"admissions.enforcer/disabled": "false", "some.test/key": "value"})
    );
    Ok(())
}

#[test]
fn a_variable_that_is_there_is_replaced() -> Test {
    let deployment = deployment(&json!({
        "ports": {"webhook": 9443},
        "shutdownDelay": 20,
        "extraEnv": [
            {"name": "PULLPASS_LISTEN", "value": "[::]:9443"},
            {"name": "PULLPASS_LOG_FILE", "value": "/elsewhere"},
            {"name": "PULLPASS_LOG", "value": "info"},
            {"name": "PULLPASS_LOG", "value": "debug"},
        ],
    }))?;
    for (name, value) in [
        ("PULLPASS_LISTEN", "[::]:9443"),
        ("PULLPASS_LOG_FILE", "/elsewhere"),
        ("PULLPASS_LOG", "debug"),
        ("PULLPASS_SHUTDOWN_DELAY", "20"),
        ("PULLPASS_MODE", "cluster-wide"),
    ] {
        assert_eq!(variable(&deployment, name), Some(json!(value)), "{name}");
    }
    Ok(())
}

/// What a kubelet makes of a value where no other variable is known: `$$` is a dollar sign, `$(NAME)` may be a variable.
fn expanded(value: &Value) -> Result<String, Box<dyn Error>> {
    let text = value.as_str().ok_or("there is no value")?;
    let without = text.replace("$$", "");
    assert!(!without.contains("$("), "{text}");
    Ok(text.replace("$$", "$"))
}

#[test]
fn dollar_signs_in_values_reach_the_program() -> Test {
    let note = "a $$5 $(PULLPASS_MODE) $";
    let deployment = deployment(&json!({
        "auditLog": "/log/$(PULLPASS_NAMESPACE)",
        "otherCloud": {
            "suffix": "azurecr.contoso.com",
            "authority": "https://login.contoso.com",
            "audience": "https://management.contoso.com/$(PULLPASS_MODE)",
        },
        "pullSecrets": {"annotations": {"contoso.com/note": note}},
        "extraEnv": [{"name": "MINE", "value": "$(PULLPASS_MODE)"}],
    }))?;
    for (name, value) in [
        ("PULLPASS_AUDIT_LOG", "/log/$(PULLPASS_NAMESPACE)"),
        (
            "PULLPASS_OTHER_CLOUD_AUDIENCE",
            "https://management.contoso.com/$(PULLPASS_MODE)",
        ),
        (
            "PULLPASS_PULL_SECRET_ANNOTATIONS",
            &format!("contoso.com/note={note}"),
        ),
    ] {
        let there = variable(&deployment, name).ok_or(name)?;
        assert_eq!(expanded(&there)?, value, "{name}");
    }
    // These are a Pod's own.
    assert_eq!(variable(&deployment, "MINE"), Some(json!("$(PULLPASS_MODE)")));
    Ok(())
}

#[test]
fn security_contexts_are_laid_over_the_shipped_ones() -> Test {
    let deployment = deployment(&json!({
        "podSecurityContext": {"fsGroup": 2000, "seccompProfile": null},
        "securityContext": {"readOnlyRootFilesystem": false},
    }))?;
    assert_eq!(
        at(&deployment, &format!("{POD}/securityContext")),
        json!({"fsGroup": 2000, "runAsNonRoot": true})
    );
    assert_eq!(
        at(&deployment, &format!("{CONTAINER}/securityContext")),
        json!({
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": false,
        })
    );
    Ok(())
}

#[test]
fn a_client_authority_is_mounted_and_named() -> Test {
    for (values, volume, file) in [
        (
            json!({"secretName": "clients"}),
            json!({"name": "client-ca", "secret": {"secretName": "clients"}}),
            "/etc/pullpass/client-ca/ca.crt",
        ),
        (
            json!({"configMapName": "clients", "key": "bundle.pem"}),
            json!({"name": "client-ca", "configMap": {"name": "clients"}}),
            "/etc/pullpass/client-ca/bundle.pem",
        ),
    ] {
        let deployment = deployment(&json!({"tls": {"clientCA": values}}))?;
        assert_eq!(variable(&deployment, "PULLPASS_CLIENT_CA"), Some(json!(file)));
        let volumes = at(&deployment, &format!("{POD}/volumes"));
        assert!(
            volumes.as_array().is_some_and(|all| all.contains(&volume)),
            "{volumes}"
        );
        let mounts = at(&deployment, &format!("{CONTAINER}/volumeMounts"));
        let mount = json!({"name": "client-ca", "mountPath": "/etc/pullpass/client-ca", "readOnly": true});
        assert!(
            mounts.as_array().is_some_and(|all| all.contains(&mount)),
            "{mounts}"
        );
    }
    assert_eq!(variable(&deployment(&json!({}))?, "PULLPASS_CLIENT_CA"), None);
    Ok(())
}

#[test]
fn values_say_where_replicas_go() -> Test {
    let shipped = deployment(&json!({}))?;
    let own = json!({"nodeAffinity": {}});
    let spread = json!([{"topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}]);
    let changed = deployment(&json!({"affinity": own, "topologySpreadConstraints": spread}))?;
    assert_eq!(at(&changed, &format!("{POD}/affinity")), own);
    assert_eq!(at(&changed, &format!("{POD}/topologySpreadConstraints")), spread);
    let none = deployment(&json!({"affinity": {}, "topologySpreadConstraints": []}))?;
    assert_eq!(at(&none, &format!("{POD}/affinity")), json!({}));
    assert_eq!(at(&none, &format!("{POD}/topologySpreadConstraints")), json!([]));

    // Others are added; for a key that is shipped they are instead of it.
    let shipped = at(&shipped, &format!("{POD}/tolerations"));
    let dedicated = json!({"key": "dedicated", "operator": "Exists"});
    let added = deployment(&json!({"tolerations": [dedicated]}))?;
    assert_eq!(
        at(&added, &format!("{POD}/tolerations")),
        json!([shipped[0], shipped[1], dedicated])
    );
    let longer = json!({"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let replaced = deployment(&json!({"tolerations": [longer]}))?;
    assert_eq!(shipped[1]["key"], longer["key"]);
    assert_eq!(
        at(&replaced, &format!("{POD}/tolerations")),
        json!([shipped[0], longer])
    );
    Ok(())
}

#[test]
fn priority_and_disruption_budget_can_be_ones_own_or_none() -> Test {
    let kinds = |objects: &[Value]| -> BTreeSet<String> {
        objects
            .iter()
            .filter_map(|object| object.get("kind")?.as_str().map(str::to_owned))
            .collect()
    };
    let priority = |objects: &[Value]| -> Result<Value, Box<dyn Error>> {
        Ok(at(
            find(objects, "Deployment", "pullpass")?,
            &format!("{POD}/priorityClassName"),
        ))
    };
    let renamed = chart(&json!({"priorityClass": {"name": "mine"}}))?;
    find(&renamed, "PriorityClass", "mine")?;
    assert_eq!(priority(&renamed)?, json!("mine"));

    let existing = chart(&json!({
        "priorityClass": {"create": false, "name": "theirs"},
        "podDisruptionBudget": {"enabled": false},
    }))?;
    assert_eq!(priority(&existing)?, json!("theirs"));
    let left = kinds(&existing);
    assert!(
        !left.contains("PriorityClass") && !left.contains("PodDisruptionBudget"),
        "{left:?}"
    );

    let none = chart(&json!({"priorityClass": {"create": false, "name": ""}}))?;
    assert_eq!(priority(&none)?, Value::Null);
    Ok(())
}

#[test]
fn values_that_can_not_be_together_are_refused() -> Test {
    for (values, said) in [
        (
            json!({"ports": {"webhook": 8080}}),
            "ports.webhook and ports.metrics",
        ),
        (json!({"shutdownDelay": 26}), "terminationGracePeriodSeconds"),
        (
            json!({"tls": {"clientCA": {"secretName": "one", "configMapName": "other"}}}),
            "tls.clientCA.secretName and tls.clientCA.configMapName",
        ),
    ] {
        let output = template("pullpass-system", &values)?;
        assert!(!output.status.success(), "{values}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(said), "{values}: {error}");
    }
    // As long as is needed, and no longer.
    deployment(&json!({"shutdownDelay": 25}))?;
    Ok(())
}

//! What the chart is fitted into a cluster and an umbrella chart by: labels, registries of images, DNS, further objects.

use std::error::Error;

use serde_json::{Value, json};

use crate::render::{CHART, Test, by_name, chart, find, objects, succeeded, template, template_with};

fn at(object: &Value, pointer: &str) -> Value {
    object.pointer(pointer).cloned().unwrap_or_default()
}

fn deployment(values: &Value) -> Result<Value, Box<dyn Error>> {
    Ok(find(&chart(values)?, "Deployment", "pullpass")?.clone())
}

#[test]
fn common_labels_are_on_every_object_and_pod() -> Test {
    let values = json!({
        "commonLabels": {"cost-center": "42", "team": "a", "app.kubernetes.io/component": "webhook", "azure.workload.identity/use": "false"},
        "podLabels": {"team": "b"},
        "mode": "opt-in",
        "rescue": true,
        "bindings": {"enabled": true},
        "admissionPolicy": {"enabled": true},
        "enforce": {"enabled": true},
        "reports": {"enabled": true},
        "monitoring": {"enabled": true},
        "tls": {"source": "cert-manager"},
        "namespace": {"create": true},
        "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine", "labels": {"team": "c"}}}],
    });
    let objects = chart(&values)?;
    assert!(objects.len() > 30, "{}", objects.len());
    for object in &objects {
        assert_eq!(
            at(object, "/metadata/labels/cost-center"),
            json!("42"),
            "{object}"
        );
    }
    // They take no label's place.
    let mine = find(&objects, "ConfigMap", "mine")?;
    assert_eq!(at(mine, "/metadata/labels/team"), json!("c"));
    let deployment = find(&objects, "Deployment", "pullpass")?;
    let pod = at(deployment, "/spec/template/metadata/labels");
    assert_eq!((&pod["cost-center"], &pod["team"]), (&json!("42"), &json!("b")));
    assert_eq!(pod["azure.workload.identity/use"], json!("true"));
    assert_eq!(
        at(deployment, "/spec/selector/matchLabels"),
        json!({"app.kubernetes.io/name": "pullpass"})
    );
    Ok(())
}

#[test]
fn labels_of_the_webhook_are_the_users() -> Test {
    let labels = json!({"admissions.enforcer/disabled": null, "some.test/key": "value"});
    let objects = chart(&json!({"webhook": {"labels": labels}}))?;
    let labels = at(
        find(&objects, "MutatingWebhookConfiguration", "pullpass")?,
        "/metadata/labels",
    );
    assert_eq!(labels.get("some.test/key"), Some(&json!("value")));
    assert_eq!(labels.get("admissions.enforcer/disabled"), None);
    Ok(())
}

#[test]
fn images_come_from_the_registry_of_an_umbrella_chart() -> Test {
    let digest = format!("sha256:{}", "0".repeat(64));
    for (image, global, expected) in [
        (json!({}), json!({}), "pullpass:0.2.0"),
        (json!({}), json!({"imageRegistry": null}), "pullpass:0.2.0"),
        (
            json!({}),
            json!({"imageRegistry": "mirror.test"}),
            "mirror.test/pullpass:0.2.0",
        ),
        (
            json!({"repository": "tools/pullpass", "tag": "1"}),
            json!({"imageRegistry": "mirror.test:5000/proxy"}),
            "mirror.test:5000/proxy/tools/pullpass:1",
        ),
        (
            json!({"repository": "contoso.azurecr.io/tools/pullpass", "digest": digest}),
            json!({"imageRegistry": "mirror.test"}),
            &format!("mirror.test/tools/pullpass:0.2.0@{digest}"),
        ),
        (
            json!({"repository": "localhost/pullpass"}),
            json!({"imageRegistry": "mirror.test/"}),
            "mirror.test/pullpass:0.2.0",
        ),
    ] {
        let deployment = deployment(&json!({"image": image, "global": global}))?;
        assert_eq!(
            at(&deployment, "/spec/template/spec/containers/0/image"),
            json!(expected),
            "{image} {global}"
        );
    }
    Ok(())
}

#[test]
fn pull_secrets_of_an_umbrella_chart_are_added() -> Test {
    let deployment = deployment(&json!({
        "imagePullSecrets": [{"name": "own"}],
        "global": {"imagePullSecrets": ["text", {"name": "object", "somebodyElses": 1}, "own"], "somebodyElses": true},
    }))?;
    assert_eq!(
        at(&deployment, "/spec/template/spec/imagePullSecrets"),
        json!([{"name": "own"}, {"name": "text"}, {"name": "object"}])
    );
    Ok(())
}

#[test]
fn names_are_resolved_as_the_values_say() -> Test {
    let config = json!({"nameservers": ["10.0.0.10"], "options": [{"name": "ndots", "value": "1"}]});
    let deployment = deployment(&json!({"hostNetwork": true, "dnsPolicy": "None", "dnsConfig": config}))?;
    assert_eq!(at(&deployment, "/spec/template/spec/dnsPolicy"), json!("None"));
    assert_eq!(at(&deployment, "/spec/template/spec/dnsConfig"), config);
    Ok(())
}

#[test]
fn further_objects_are_rendered_as_templates() -> Test {
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: '{{ .Release.Name }}-text'\n---\n\n---\napiVersion: v1\n\
                kind: ConfigMap\nmetadata: {name: last}\ndata:\n  key: |-\n    some\n    ---\n    text\n";
    let objects = chart(&json!({"extraObjects": [map("{{ .Release.Namespace }}"), text]}))?;
    for name in ["pullpass-system", "pullpass-text", "last"] {
        find(&objects, "ConfigMap", name)?;
    }
    for (broken, said) in [
        (
            json!({"kind": "ConfigMap"}),
            "needs apiVersion, kind and metadata",
        ),
        (json!("a: [b"), "needs apiVersion, kind and metadata"),
        (json!("{{ .Values.nothing.there }}"), "nil pointer"),
    ] {
        let output = template("pullpass-system", &json!({"extraObjects": [broken]}))?;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && error.contains(said),
            "{broken}: {error}"
        );
    }
    Ok(())
}

/// An object behind a marker that is not recognized would be missing without an error.
#[test]
fn every_object_of_a_text_is_rendered() -> Test {
    let object = |name: &str| format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}}}}}");
    for marker in [
        "\n---\n",
        "\n--- # second\n",
        "\n---\t# second\n",
        "\n---   \n\n",
        "\r\n---\r\n",
        "\n--- ",
        "\n...\n---\n",
        "\n... # end\n",
    ] {
        let text = format!("--- # first\n{}{marker}{}\n", object("first"), object("second"));
        let objects = chart(&json!({"extraObjects": [text]}))?;
        for name in ["first", "second"] {
            find(&objects, "ConfigMap", name).map_err(|error| format!("{marker:?}: {error}"))?;
        }
    }
    Ok(())
}

/// What Artifact Hub shows of the chart is what the chart has.
#[test]
fn the_metadata_names_every_definition_with_an_example() -> Test {
    let metadata = std::fs::read_to_string(format!("{CHART}/Chart.yaml"))?;
    let metadata: Value = serde_saphyr::from_str(&metadata)?;
    let annotation = |key: &str| -> Result<Vec<Value>, Box<dyn Error>> {
        let text = at(&metadata, &format!("/annotations/artifacthub.io~1{key}"));
        let text = text.as_str().ok_or_else(|| format!("there is no {key}"))?;
        Ok(serde_saphyr::from_str(text)?)
    };
    let named: Vec<_> = annotation("crds")?
        .iter()
        .map(|crd| ["name", "kind", "version"].map(|key| crd[key].clone()))
        .collect();
    let output = template_with("pullpass-system", &json!({"bindings": {"enabled": true}}), &[])?;
    let there: Vec<_> = objects(&succeeded("helm template", &output)?)?
        .iter()
        .filter(|object| at(object, "/kind") == json!("CustomResourceDefinition"))
        .map(|crd| {
            ["/metadata/name", "/spec/names/kind", "/spec/versions/0/name"].map(|pointer| at(crd, pointer))
        })
        .collect();
    let sorted = |mut crds: Vec<[Value; 3]>| {
        crds.sort_by_key(|crd| crd[0].to_string());
        crds
    };
    assert_eq!(sorted(named), sorted(there));
    Ok(())
}

/// The examples for Artifact Hub, which `accepted` gives to an API server.
pub fn examples() -> Result<Vec<Value>, Box<dyn Error>> {
    let metadata = std::fs::read_to_string(format!("{CHART}/Chart.yaml"))?;
    let metadata: Value = serde_saphyr::from_str(&metadata)?;
    let text = at(&metadata, "/annotations/artifacthub.io~1crdsExamples");
    Ok(serde_saphyr::from_str(
        text.as_str().ok_or("there are no examples")?,
    )?)
}

#[test]
fn the_charts_test_can_be_left_out_and_tries_where_it_is_told() -> Test {
    let pod = |values: &Value| -> Result<Option<Value>, Box<dyn Error>> {
        let objects = by_name(chart(values)?)?;
        Ok(objects.get("Pod pullpass-system helm-test-pullpass").cloned())
    };
    assert!(pod(&json!({"test": {"enabled": false}}))?.is_none());
    let own = "--own-namespace=pullpass-system";
    for (values, tried) in [
        (json!({}), Some("--namespace=default")),
        (json!({"mode": "opt-in"}), None),
        (
            json!({"webhook": {"namespaceSelector": {"matchLabels": {"team": "a"}}}}),
            None,
        ),
        (
            json!({"mode": "opt-in", "test": {"namespace": "apps"}}),
            Some("--namespace=apps"),
        ),
    ] {
        let pod = pod(&values)?.ok_or("the test has no Pod")?;
        let arguments: Vec<_> = ["check", "--wait=2m", own].into_iter().chain(tried).collect();
        assert_eq!(
            pod.pointer("/spec/containers/0/args"),
            Some(&json!(arguments)),
            "{values}"
        );
        let all = by_name(chart(&values)?)?;
        let tries = |namespace: &str| all.contains_key(&format!("Role {namespace} helm-test-pullpass"));
        assert_eq!(
            [tries("default"), tries("apps")],
            ["default", "apps"].map(|name| tried.is_some_and(|tried| tried.ends_with(name)))
        );
    }
    Ok(())
}

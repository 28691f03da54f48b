//! An upgrade with `--reuse-values`: Helm then takes the defaults of the chart that was installed for those of the new one, so
//! values that are new are not there at all.

use std::error::Error;
use std::fs;
use std::path::Path;

use pullpass_test_support::Scratch;
use serde_json::{Value, json};

use crate::render::{CHART, Test, by_name, chart, objects, succeeded, template_of};

/// The defaults of version 0.1.0, without their comments.
const BEFORE: &str = include_str!("testdata/values-0.1.0.yaml");

fn copy(from: &Path, to: &Path) -> Test {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// What the chart makes of these values where the defaults are those of an earlier release.
fn upgraded(values: &Value) -> Result<Vec<Value>, Box<dyn Error>> {
    let scratch = Scratch::new()?;
    let copied = scratch.path().join("chart");
    copy(Path::new(CHART), &copied)?;
    fs::write(copied.join("values.yaml"), BEFORE)?;
    let output = template_of(&copied, "pullpass-system", values, &[])?;
    objects(&succeeded("helm template", &output)?)
}

#[test]
fn values_of_the_release_before_give_the_same() -> Test {
    for values in [
        json!({}),
        json!({
            "mode": "opt-in",
            "rescue": true,
            "hostNetwork": true,
            "tls": {"source": "cert-manager"},
            "monitoring": {"enabled": true, "labels": {"release": "prometheus"}},
            "networkPolicy": {"extraEgress": [{"ports": [{"port": 3128}]}]},
            "workloadIdentity": {"projectedToken": true},
            "namespace": {"create": true},
        }),
    ] {
        assert_eq!(
            by_name(upgraded(&values)?)?,
            by_name(chart(&values)?)?,
            "{values}"
        );
    }
    Ok(())
}

/// As with `--reuse-values --set`, which sets a value that is new without those beside it.
#[test]
fn new_values_can_be_set_with_those_of_before() -> Test {
    for values in [
        json!({"webhook": {"customDomains": ["registry.contoso.com"], "labels": {"a": "b"}}}),
        json!({"webhook": {"namespaceSelector": {"matchLabels": {"team": "a"}}}}),
        json!({"otherCloud": {"suffix": "azurecr.contoso.com"}}),
        json!({"tls": {"clientCA": {"secretName": "clients"}}}),
        json!({"admissionPolicy": {"enabled": true}}),
        json!({"enforce": {"enabled": true}, "bindings": {"enabled": true}}),
        json!({"networkPolicy": {"from": [{"ipBlock": {"cidr": "10.0.0.0/28"}}]}}),
        json!({"pullSecrets": {"labels": {"team": "a"}}}),
        json!({"commonLabels": {"team": "a"}}),
        json!({"global": {"imageRegistry": "mirror.test"}}),
        json!({"dnsConfig": {"searches": ["contoso.com"]}}),
        json!({"monitoring": {"serviceMonitor": {"enabled": true}}}),
        json!({"monitoring": {"prometheusRule": {"enabled": true}}}),
        json!({"monitoring": {"dashboard": {"enabled": true}}}),
        json!({"extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}}]}),
    ] {
        assert_eq!(
            by_name(upgraded(&values)?)?,
            by_name(chart(&values)?)?,
            "{values}"
        );
    }
    Ok(())
}

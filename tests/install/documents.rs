//! What the documents tell a reader to write and to run, and that it does what they say.

use std::collections::BTreeSet;
use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use pullpass_test_support::{ControlPlane, Scratch};
use serde_json::{Value, json};

use crate::render::{
    COMPONENTS, Choice, ROOT, Test, chart, find, helm_binary, kubectl, kustomize, succeeded,
};
use crate::same::comparable;
use crate::selectors::{agree, enforce_leaves_out};

const INSTALL: &str = "docs/install.md";

/// Under a heading of a document, the `nth` block in a language.
pub fn block(document: &str, heading: &str, language: &str, nth: usize) -> Result<String, Box<dyn Error>> {
    let text = fs::read_to_string(format!("{ROOT}/{document}"))?;
    let (_, section) = text
        .split_once(&format!("\n## {heading}\n"))
        .ok_or_else(|| format!("there is no heading {heading}"))?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let block = section
        .split(&format!("```{language}\n"))
        .nth(nth + 1)
        .ok_or_else(|| format!("{heading} has no block {nth} of {language}"))?;
    Ok(block.split("```").next().unwrap_or_default().to_owned())
}

/// The commands of `docs/install.md`.
pub fn commands(heading: &str, nth: usize) -> Result<String, Box<dyn Error>> {
    block(INSTALL, heading, "sh", nth)
}

/// Runs commands as a reader would, from the root of a checkout.
pub fn run(cluster: &ControlPlane, checkout: &Scratch, commands: &str) -> Result<String, Box<dyn Error>> {
    let kubectl = kubectl()?;
    let directories = [kubectl.parent(), helm_binary()?.parent()];
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(
        directories
            .into_iter()
            .flatten()
            .map(Path::to_path_buf)
            .chain(env::split_paths(&path)),
    )?;
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", commands])
        .current_dir(checkout.path())
        .env("PATH", path)
        .env("HOME", checkout.path())
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("KUBERC", "off")
        .output()?;
    succeeded(commands, &output)
}

/// `docs/install.md`'s kubectl with all of its components put in, or its Helm with what they do, over what is there by
/// other means; without waiting for Pods, which nobody starts here.
pub fn installation(way: &str) -> Result<String, Box<dyn Error>> {
    let commands = commands(way, 0)?.replace("IMAGE", "images.test/pullpass");
    if way == "Helm" {
        return Ok(format!(
            "{} --take-ownership --force-conflicts --set rescue=true --set monitoring.enabled=true \
             --set tls.source=cert-manager --set workloadIdentity.projectedToken=true",
            commands.trim_end()
        ));
    }
    let (before, after) = commands
        .split_once("images:\n")
        .ok_or("the kustomization names no image")?;
    let (after, _) = after
        .split_once("kubectl rollout")
        .ok_or("nobody waits for the Pods")?;
    let components = block(INSTALL, way, "yaml", 0)?;
    Ok(format!("{before}{components}images:\n{after}"))
}

/// A kustomization of an overlay with what a block adds to it.
fn with_block(overlay: &str, nth: usize) -> Result<Vec<Value>, Box<dyn Error>> {
    with_block_and(overlay, nth, &[])
}

/// The same beside components.
fn with_block_and(overlay: &str, nth: usize, components: &[&str]) -> Result<Vec<Value>, Box<dyn Error>> {
    let mut kustomization: Value = serde_saphyr::from_str(&block(INSTALL, "kubectl", "yaml", nth)?)?;
    let entries = kustomization.as_object_mut().ok_or("the block is no map")?;
    let path = |component: &&str| format!("../manifests/components/{component}");
    let components: Vec<_> = components.iter().map(path).collect();
    entries.extend([
        (
            "resources".to_owned(),
            json!([format!("../manifests/overlays/{overlay}")]),
        ),
        ("components".to_owned(), json!(components)),
    ]);
    kustomize(&kustomization)
}

#[test]
fn the_readme_installs_as_the_document_does() -> Test {
    let readme = |nth| block("README.md", "Install it", "sh", nth);
    assert_eq!(readme(0)?, commands("Helm", 0)?);
    let (kubectl, short) = (commands("kubectl", 0)?, readme(1)?);
    assert!(kubectl.starts_with(&short), "{short}");
    Ok(())
}

#[test]
fn the_tutorial_installs_as_the_document_does() -> Test {
    let documented = commands("Helm", 0)?
        .replace("\\\n", " ")
        .replace("IMAGE", "pullpass");
    let page = fs::read_to_string(format!("{ROOT}/docs/tutorial.md"))?;
    let typed = page.lines().find(|line| line.trim().starts_with("helm upgrade "));
    let typed: Vec<&str> = typed.unwrap_or_default().split_whitespace().collect();
    assert_eq!(typed, documented.split_whitespace().collect::<Vec<_>>());
    Ok(())
}

#[test]
fn the_readme_shows_what_a_review_prints() -> Test {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .current_dir(ROOT)
        .args([
            "review",
            "-f",
            "examples/acr-nginx.yaml",
            "--manifests",
            "examples",
        ])
        .output()?;
    assert!(output.status.success(), "{output:?}");
    let shown = block("README.md", "Quick start", "text", 0)?;
    assert_eq!(String::from_utf8(output.stdout)?.trim_end(), shown.trim_end());
    let command = block("README.md", "Quick start", "sh", 1)?;
    assert!(command.contains("pullpass review -f examples/acr-nginx.yaml --manifests examples"));
    Ok(())
}

#[test]
fn every_component_is_documented_and_tested() -> Test {
    let mut documented = BTreeSet::new();
    for (heading, nth) in [("kubectl", 0), ("Custom domains", 1)] {
        let block: Value = serde_saphyr::from_str(&block(INSTALL, heading, "yaml", nth)?)?;
        let components = block.get("components").and_then(Value::as_array);
        let paths = components.into_iter().flatten().filter_map(Value::as_str);
        let names = paths.filter_map(|path| path.strip_prefix("../manifests/components/"));
        documented.extend(names.map(str::to_owned));
    }
    let there: BTreeSet<String> = fs::read_dir(format!("{ROOT}/manifests/components"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, std::io::Error>>()?;
    assert_eq!(documented, there);
    let all = COMPONENTS.into_iter().chain(["custom-domains"]);
    assert_eq!(all.map(str::to_owned).collect::<BTreeSet<_>>(), there);
    Ok(())
}

#[test]
fn the_documented_patches_change_only_what_they_name() -> Test {
    for overlay in ["cluster-wide", "opt-in"] {
        let shipped = Choice {
            overlay,
            components: Vec::new(),
        }
        .kustomize()?;
        let patched = with_block(overlay, 1)?;
        assert_eq!(patched.len(), shipped.len());
        for (mut patched, shipped) in patched.into_iter().zip(shipped) {
            let webhooks = patched.get_mut("webhooks").and_then(Value::as_array_mut);
            for webhook in webhooks.into_iter().flatten() {
                let policy = webhook.get_mut("failurePolicy").ok_or("there is no policy")?;
                assert_eq!(policy, "Fail");
                *policy = json!("Ignore");
            }
            let env = patched
                .pointer_mut("/spec/template/spec/containers/0/env")
                .and_then(Value::as_array_mut);
            for variable in env.into_iter().flatten() {
                if variable.get("name") == Some(&json!("PULLPASS_UNATTACHED")) {
                    assert_eq!(variable.get("value"), Some(&json!("warn")));
                    *variable = json!({"name": "PULLPASS_UNATTACHED", "value": "allow"});
                }
            }
            assert_eq!(comparable(patched), comparable(shipped));
        }
    }
    Ok(())
}

#[test]
fn the_patches_exclude_namespaces_on_both_sides() -> Test {
    for overlay in ["cluster-wide", "opt-in"] {
        agree(&with_block(overlay, 2)?)?;
        let objects = with_block_and(overlay, 2, &["enforce"])?;
        agree(&objects)?;
        enforce_leaves_out(&objects, &["tests", "more"])?;
        let deployment = find(&objects, "Deployment", "pullpass")?;
        let excluded = json!({"name": "PULLPASS_EXCLUDE_NAMESPACES", "value": "tests,more"});
        let env = deployment.pointer("/spec/template/spec/containers/0/env");
        let env = env.and_then(Value::as_array).ok_or("there is no environment")?;
        assert!(env.contains(&excluded), "{env:?}");
    }
    Ok(())
}

#[test]
fn the_patches_select_namespaces_on_both_sides() -> Test {
    for mode in ["cluster-wide", "opt-in"] {
        let ours = with_block(mode, 3)?;
        agree(&ours)?;
        // The chart's value is the same.
        let mut values: Value = serde_saphyr::from_str(&block(INSTALL, "Helm", "yaml", 0)?)?;
        let entries = values.as_object_mut().ok_or("the block is no map")?;
        entries.insert("mode".to_owned(), json!(mode));
        let theirs = chart(&values)?;
        for (kind, pointer) in [
            ("MutatingWebhookConfiguration", "/webhooks"),
            ("Deployment", "/spec/template/spec/containers"),
        ] {
            let of = |objects: &[Value]| -> Result<_, Box<dyn Error>> {
                let object = comparable(find(objects, kind, "pullpass")?.clone());
                Ok(object.pointer(pointer).cloned())
            };
            assert_eq!(of(&ours)?, of(&theirs)?, "{mode}");
        }
    }
    Ok(())
}

/// Why the document tells nobody to set it. Should kustomize ever change these names too, it need not say so any more.
#[test]
fn a_namespace_in_a_kustomization_leaves_the_fence_to_nobody() -> Test {
    let objects = kustomize(&json!({
        "namespace": "elsewhere",
        "resources": ["../manifests/overlays/cluster-wide"],
    }))?;
    let fence = find(&objects, "ValidatingAdmissionPolicy", "pullpass-secrets")?;
    assert!(
        fence
            .to_string()
            .contains("serviceaccount:pullpass-system:pullpass")
    );
    let account = find(&objects, "ServiceAccount", "pullpass")?;
    assert_eq!(account.pointer("/metadata/namespace"), Some(&json!("elsewhere")));
    Ok(())
}

#[test]
fn the_rule_for_a_collector_is_one_of_the_charts_values() -> Test {
    let values: Value =
        serde_saphyr::from_str(&block("docs/operations.md", "The network policy", "yaml", 0)?)?;
    let objects = chart(&values)?;
    let policy = find(&objects, "NetworkPolicy", "pullpass")?;
    let rules = policy.pointer("/spec/egress").and_then(Value::as_array);
    assert_eq!(
        rules.and_then(|rules| rules.last()),
        values.pointer("/networkPolicy/extraEgress/0")
    );
    Ok(())
}

#[test]
fn the_documented_values_fit_the_chart_in() -> Test {
    let values: Value = serde_saphyr::from_str(&block(INSTALL, "Helm", "yaml", 1)?)?;
    let objects = chart(&values)?;
    for object in &objects {
        assert_eq!(
            object.pointer("/metadata/labels/cost-center"),
            Some(&json!("42")),
            "{object}"
        );
    }
    let log = find(&objects, "ConfigMap", "pullpass-log")?;
    assert_eq!(
        log.pointer("/metadata/namespace"),
        Some(&json!("pullpass-system"))
    );
    let pod = find(&objects, "Deployment", "pullpass")?.pointer("/spec/template/spec");
    let pod = pod.ok_or("there is no Pod")?;
    assert_eq!(
        pod.pointer("/containers/0/image"),
        Some(&json!("mirror.contoso.com/pullpass:0.2.0"))
    );
    assert_eq!(
        pod.pointer("/imagePullSecrets"),
        Some(&json!([{"name": "mirror"}]))
    );
    assert_eq!(pod.get("dnsConfig"), values.get("dnsConfig"));
    Ok(())
}

#[test]
fn the_documented_monitors_are_rendered() -> Test {
    let written = |nth| -> Result<Vec<Value>, Box<dyn std::error::Error>> {
        let text = block("docs/operations.md", "What to look at", "yaml", nth)?;
        chart(&serde_saphyr::from_str(&text)?)
    };
    let shipped = written(0)?;
    find(&shipped, "ServiceMonitor", "pullpass")?;
    let rule = find(&shipped, "PrometheusRule", "pullpass")?.to_string();
    assert!(rule.contains("PullpassDown") && !rule.contains("PullpassAuditDrops"));
    let azures = written(1)?;
    let monitor = find(&azures, "ServiceMonitor", "pullpass")?;
    assert_eq!(
        monitor.get("apiVersion"),
        Some(&json!("azmonitoring.coreos.com/v1"))
    );
    assert!(find(&azures, "PrometheusRule", "pullpass").is_err());
    Ok(())
}

/// The chart's value and the patch set the same variables.
#[test]
fn metadata_of_pull_secrets_is_set_by_value_or_patch() -> Test {
    let written = |nth| {
        block(
            "docs/operations.md",
            "Labels and annotations of pull secrets",
            "yaml",
            nth,
        )
    };
    let variables = |objects: &[Value]| -> Result<Vec<Value>, Box<dyn std::error::Error>> {
        let env = find(objects, "Deployment", "pullpass")?
            .pointer("/spec/template/spec/containers/0/env")
            .and_then(Value::as_array)
            .ok_or("there is no environment")?;
        let is_chosen = |name: &str| name.starts_with("PULLPASS_PULL_SECRET_");
        let mut chosen: Vec<Value> = env
            .iter()
            .filter(|variable| {
                variable
                    .get("name")
                    .and_then(Value::as_str)
                    .is_some_and(is_chosen)
            })
            .cloned()
            .collect();
        chosen.sort_by_key(ToString::to_string);
        Ok(chosen)
    };
    let by_chart = variables(&chart(&serde_saphyr::from_str(&written(0)?)?)?)?;
    assert_eq!(by_chart.len(), 2);
    let mut kustomization: Value = serde_saphyr::from_str(&written(1)?)?;
    kustomization["resources"] = json!(["../manifests/overlays/cluster-wide"]);
    let by_patch = variables(&kustomize(&kustomization)?)?;
    assert_eq!(by_chart, by_patch);
    Ok(())
}

#[test]
fn the_namespaces_of_node_agents_are_left_out() -> Test {
    let values: Value = serde_saphyr::from_str(&block(INSTALL, "failurePolicy", "yaml", 0)?)?;
    let listed = values.get("excludeNamespaces").and_then(Value::as_array);
    let listed = listed.ok_or("there is no list")?;
    let mut values = values.clone();
    values["webhook"] = json!({"failurePolicy": "Fail"});
    let objects = chart(&values)?;
    agree(&objects)?;
    let configuration = find(&objects, "MutatingWebhookConfiguration", "pullpass")?;
    let webhooks = configuration.get("webhooks").and_then(Value::as_array);
    for webhook in webhooks.into_iter().flatten() {
        let selector = webhook.get("namespaceSelector").map(Value::to_string);
        for namespace in listed {
            let is_left_out = selector
                .as_ref()
                .is_some_and(|text| text.contains(&namespace.to_string()));
            assert!(is_left_out, "{namespace} {selector:?}");
        }
    }
    Ok(())
}

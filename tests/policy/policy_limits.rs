//! What the mutating policies do where the index is large, and what the API server counts where they fail.

use std::collections::BTreeMap;
use std::fs;

use pullpass_test_support::{ControlPlane, wait_for};
use serde_json::{Value, json};

use crate::admission_policy::{COMPONENT, injected, wait_for_names, with_index, with_own};
use crate::world::{SOON, Test, namespace};

/// How many registries there are, each with a selector.
const MANY: usize = 2_000;

/// An index of that many registries, all of which have a login server of their own and these too.
fn large_index(shared: &[&str]) -> Value {
    let names: Vec<String> = (0..MANY).map(|number| format!("registry{number:04}")).collect();
    let secret = |name: &String| format!("pullpass-{name}");
    let all: Vec<_> = names.iter().map(secret).collect();
    let own = names
        .iter()
        .map(|name| (format!("{name}.azurecr.io"), vec![secret(name)]));
    let shared = shared.iter().map(|host| ((*host).to_owned(), all.clone()));
    let selector = json!([{"key": "team", "operator": "NotIn", "values": ["z"]}]);
    let secrets = names.iter().map(|name| {
        let indexed = json!({"registry": name, "namespaces": selector});
        (secret(name), indexed)
    });
    json!({
        "mode": "cluster-wide", "unattached": "allow", "forbidden": "warn",
        "hosts": own.chain(shared).collect::<BTreeMap<_, _>>(),
        "pullSecrets": secrets.collect::<BTreeMap<_, _>>(),
    })
}

#[test]
fn always_inject_fits_the_budget_with_a_large_index() -> Test {
    let cluster = with_index(&large_index(&[]))?;
    namespace(&cluster, "always", &json!({"pullpass.dev/always-inject": "true"}))?;
    wait_for_names(&cluster, &with_own("always", ["nginx"], 0), MANY)?;
    // The policy is asked again once it has added names, when it has to find that all are there.
    for (own, expected) in [(1, MANY + 1), (125, MANY + 125)] {
        let names = injected(&cluster, &with_own("always", ["nginx"], own))?;
        assert_eq!(names.len(), expected, "{own}");
    }
    // With more of its own it is left to the webhook, except for what its images need.
    let names = injected(
        &cluster,
        &with_own("always", ["registry1999.azurecr.io/app:1"], 126),
    )?;
    assert_eq!(names.len(), 127);
    assert_eq!(names.last().map(String::as_str), Some("pullpass-registry1999"));
    Ok(())
}

#[test]
fn many_registries_of_one_host_fit_the_budget() -> Test {
    let cluster = with_index(&large_index(&["one.azurecr.io", "other.azurecr.io"]))?;
    namespace(&cluster, "apps", &json!({}))?;
    let one = "one.azurecr.io/app:1";
    wait_for_names(&cluster, &with_own("apps", [one, one], 0), MANY)?;
    for (images, own, expected) in [
        (&[one][..], 125, MANY + 125),
        (&[one], 126, 126),
        // Which of the names are the same is not found out for so many.
        (&[one, "other.azurecr.io/app:1"], 0, 0),
        (
            &["registry0001.azurecr.io/a", "registry0002.azurecr.io/a"],
            126,
            128,
        ),
    ] {
        let names = injected(&cluster, &with_own("apps", images.iter().copied(), own))?;
        assert_eq!(names.len(), expected, "{images:?} {own}");
    }
    Ok(())
}

/// The longest text that --namespace-selector takes has this many requirements, or values, at most.
const LONGEST: usize = 2_048;

/// An index with a namespace selector that has as many of both: of the namespaces whose label `team` is a small number none is
/// selected.
pub fn with_longest_selector(mut index: Value) -> Value {
    let absent = |number| json!({"key": format!("a{number}"), "operator": "DoesNotExist"});
    let values: Vec<_> = (0..LONGEST).map(|number| number.to_string()).collect();
    let mut selector: Vec<_> = (0..LONGEST).map(absent).collect();
    selector.push(json!({"key": "team", "operator": "NotIn", "values": values}));
    if let Some(spec) = index.as_object_mut() {
        spec.insert("namespaceSelector".to_owned(), json!(selector));
    }
    index
}

#[test]
fn the_longest_namespace_selector_fits_the_budget() -> Test {
    let cluster = with_index(&with_longest_selector(large_index(&["one.azurecr.io"])))?;
    for (name, team) in [("selected", "a"), ("unselected", "1")] {
        let labels = json!({"team": team, "pullpass.dev/always-inject": "true"});
        namespace(&cluster, name, &labels)?;
    }
    for image in ["nginx", "one.azurecr.io/app:1"] {
        wait_for_names(&cluster, &with_own("selected", [image], 0), MANY)?;
        let names = injected(&cluster, &with_own("unselected", [image], 0))?;
        assert_eq!(names, [""; 0]);
    }
    Ok(())
}

/// Of a counter, the series of a policy and what they count.
fn counted(
    cluster: &ControlPlane,
    counter: &str,
    labels: &[&str],
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let metrics = cluster.run(&["get", "--raw", "/metrics"])?.stdout;
    let is_of = |line: &&str| {
        line.starts_with(&format!("{counter}{{")) && labels.iter().all(|label| line.contains(label))
    };
    Ok(metrics.lines().filter(is_of).map(str::to_owned).collect())
}

/// What `PullpassPolicyFailing` reads: the Pods are admitted without the names, and the API server counts that under these
/// names.
#[test]
fn failures_of_policies_are_counted_as_the_alert_reads_them() -> Test {
    let cluster = with_index(&json!({
        "mode": "cluster-wide", "unattached": "allow", "forbidden": "warn",
        "hosts": (0..200).map(|number| (format!("r{number}.azurecr.io"), json!(["pullpass-one"]))).collect::<BTreeMap<_, _>>(),
        "pullSecrets": {"pullpass-one": {"registry": "one"}},
    }))?;
    namespace(&cluster, "apps", &json!({"pullpass.dev/always-inject": "true"}))?;
    let pod = with_own("apps", ["r1.azurecr.io/app:1"], 0);
    wait_for_names(&cluster, &pod, 1)?;
    let shipped = fs::read_to_string(COMPONENT)?;
    let (mode, declines) = (
        "params.spec.mode == 'cluster-wide'",
        "object.metadata.?labels[?'pullpass.dev/inject'].orValue('') != 'disabled'",
    );
    let absent = "params.spec.absent == ''";
    // More than one expression may cost.
    let dear =
        "params.spec.hosts.all(a, params.spec.hosts.all(b, params.spec.hosts.all(c, a + b + c != '')))";
    let checks = "apiserver_mutating_admission_policy_check_total";
    let conditions = "apiserver_admission_match_condition_evaluation_errors_total";
    for (place, instead, counter, label) in [
        (mode, absent, checks, r#"error_type="invalid_error""#),
        (mode, dear, checks, r#"error_type="invalid_error""#),
        (declines, absent, conditions, r#"kind="policy""#),
        (declines, dear, conditions, r#"kind="policy""#),
    ] {
        // The previous policy is replaced, so that nothing of it is counted.
        let policies = shipped.replace(place, instead);
        assert_ne!(policies, shipped);
        cluster.run_with_input(&["apply", "--filename", "-"], &policies)?;
        wait_for("the failing policy to be in force", SOON, || {
            match injected(&cluster, &pod) {
                Ok(names) if names.is_empty() => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        for policy in ["pullpass", "pullpass-always"] {
            let key = if counter == checks { "policy" } else { "name" };
            let labels = [&format!("{key}=\"{policy}\"")[..], label];
            let before = counted(&cluster, counter, &labels)?;
            let other = if counter == checks { conditions } else { checks };
            let failures = r#"error_type="no_error""#;
            let elsewhere = |lines: Vec<String>| -> Vec<String> {
                lines
                    .into_iter()
                    .filter(|line| !line.contains(failures))
                    .collect()
            };
            let named = [&format!("=\"{policy}\"")[..]];
            let elsewhere_before = elsewhere(counted(&cluster, other, &named)?);
            assert_eq!(injected(&cluster, &pod)?, [""; 0], "{instead}");
            let after = counted(&cluster, counter, &labels)?;
            assert!(
                !after.is_empty() && after != before,
                "{instead}: {before:?} {after:?}"
            );
            let elsewhere_after = elsewhere(counted(&cluster, other, &named)?);
            assert_eq!(elsewhere_before, elsewhere_after, "{instead}");
        }
        cluster.run_with_input(&["apply", "--filename", "-"], &shipped)?;
        wait_for_names(&cluster, &pod, 1)?;
    }
    Ok(())
}

//! Which namespaces are judged: those that the mode and the namespace selector of the index select.

use std::collections::BTreeSet;

use pullpass_test_support::{ControlPlane, wait_for};
use serde_json::{Value, json};

use super::{STRANGE, create, enforced, index, pod};
use crate::world::{SOON, Test, list, namespace};

/// The namespaces of [`enforced`], and one that opted in.
const NAMESPACES: [&str; 8] = ["none", "a", "b", "stage", "both", "excluded", "exempt", "opted"];

/// A Pod with a stranger's image in each of the namespaces, whose container has the namespace's name.
fn strangers() -> Result<String, serde_json::Error> {
    let pods = NAMESPACES.map(|namespace| {
        let container = json!({"name": namespace, "image": STRANGE});
        serde_json::from_str(&pod(namespace, &json!({"containers": [container]})))
    });
    let pods: Vec<Value> = pods.into_iter().collect::<Result<_, _>>()?;
    Ok(list(&pods))
}

/// Sets the index to this, and waits until the policy of an action judges in these namespaces and in no others.
fn expect_judged(cluster: &ControlPlane, spec: &Value, action: &str, expected: &[&str]) -> Test {
    let patch = json!({"spec": spec}).to_string();
    cluster.run(&["patch", "acrindex", "pullpass", "--type=merge", "--patch", &patch])?;
    let (by, other) = if action == "deny" {
        ("'pullpass-enforce'", "'pullpass-warn'")
    } else {
        ("'pullpass-warn'", "'pullpass-enforce'")
    };
    let (pods, expected) = (strangers()?, expected.iter().copied().collect::<BTreeSet<_>>());
    wait_for(&format!("{spec} to {action} in {expected:?}"), SOON, || {
        let text = create(cluster, &pods).text;
        let is_judged = |namespace: &&str| text.contains(&format!("spec.containers[{namespace}] names"));
        let judged: BTreeSet<_> = NAMESPACES.into_iter().filter(is_judged).collect();
        let is_so = judged == expected && !text.contains(other) && text.contains(by) != judged.is_empty();
        is_so.then_some(()).ok_or(text)
    })?;
    Ok(())
}

#[test]
fn selectors_and_mode_say_which_namespaces_are_judged() -> Test {
    let cluster = enforced(&index())?;
    let opted = json!({"pullpass.dev/inject": "enabled", "team": "a"});
    namespace(&cluster, "opted", &opted)?;
    let team =
        |operator: &str, values: &[&str]| json!({"key": "team", "operator": operator, "values": values});
    // As the leader writes it, without values.
    let stage = |operator: &str| json!({"key": "stage", "operator": operator});
    let not_in = team("NotIn", &["a", "c"]);
    for (mode, action, selector, expected) in [
        (
            "cluster-wide",
            "deny",
            json!([]),
            &["none", "a", "b", "stage", "both", "opted"][..],
        ),
        (
            "cluster-wide",
            "deny",
            json!([team("In", &["a", "c"])]),
            &["a", "opted"],
        ),
        (
            "cluster-wide",
            "deny",
            json!([not_in]),
            &["none", "b", "stage", "both"],
        ),
        (
            "cluster-wide",
            "deny",
            json!([stage("Exists")]),
            &["stage", "both"],
        ),
        (
            "cluster-wide",
            "deny",
            json!([stage("DoesNotExist")]),
            &["none", "a", "b", "opted"],
        ),
        // Each requirement has to hold.
        (
            "cluster-wide",
            "deny",
            json!([team("In", &["b"]), stage("DoesNotExist")]),
            &["b"],
        ),
        ("opt-in", "deny", json!([]), &["opted"]),
        ("opt-in", "deny", json!([not_in]), &[]),
        ("opt-in", "deny", json!([team("In", &["a"])]), &["opted"]),
        (
            "cluster-wide",
            "warn",
            json!([team("In", &["b"])]),
            &["b", "both"],
        ),
        ("opt-in", "warn", json!([stage("DoesNotExist")]), &["opted"]),
    ] {
        let spec =
            json!({"mode": mode, "unattached": action, "forbidden": action, "namespaceSelector": selector});
        expect_judged(&cluster, &spec, action, expected)?;
    }
    Ok(())
}

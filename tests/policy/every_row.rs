//! Every row of mode x namespace label x Pod label x policy x attached or not: what the API server lets through to
//! pullpass, what pullpass says, and the result.

use std::fs;
use std::process::Command;

use pullpass_test_support::{ControlPlane, Installation, Scratch, kubelet_tries, wait_for};
use serde_json::{Value, json};

use crate::rows::{Image, MODES, Namespace, POLICIES, Pod, custom_domains, is_asked, namespaces, pods, say};
use crate::world::{
    CLOSED, OPEN, SOON, Test, attach, cluster, items, list, pull_secrets, pullpass, registries, text,
};

/// The namespace that the flag excludes is the last one.
const EXCLUDED: &str = "excluded";

#[test]
fn cluster_wide() -> Test {
    in_mode("cluster-wide")
}

#[test]
fn opt_in() -> Test {
    in_mode("opt-in")
}

fn in_mode(mode: &str) -> Test {
    let cluster = cluster()?;
    for policy in POLICIES {
        // One after the other: only one leads, and all would have to mean the same by the excluded namespaces.
        let pullpass = pullpass(&cluster)
            .overlay(mode)
            .custom_domains(&custom_domains().each_ref().map(String::as_str))
            .label("pullpass.dev/inject", "enabled")
            .flag(format!("--mode={mode}"))
            .flag(format!("--unattached={policy}"))
            .flag(format!("--forbidden={policy}"))
            .flag(format!("--exclude-namespaces={policy}-{EXCLUDED}"))
            .start()?;
        attach(&cluster)?;
        for namespace in namespaces() {
            let name = if namespace.excluded {
                let name = format!("{policy}-{EXCLUDED}");
                pullpass.add_namespace(&name, &namespace.labels())?;
                name
            } else {
                pullpass.new_namespace(&namespace.labels())?
            };
            admit(&cluster, &pullpass, &name, (mode, policy, namespace))
                .map_err(|error| format!("{mode}, {policy}, {namespace:?}: {error}"))?;
        }
        assert_violations_are_counted(&pullpass, policy)?;
    }
    Ok(())
}

type Kind<'a> = (&'a str, &'a str, Namespace);

/// Creates a Pod of every kind in a namespace, and looks at what became of each.
fn admit(cluster: &ControlPlane, pullpass: &Installation<'_>, name: &str, kind: Kind<'_>) -> Test {
    let (mode, policy, namespace) = kind;
    wait_until_known(cluster, name, kind)?;
    let objects: Vec<Value> = pods().into_iter().map(|pod| pod.object(name)).collect();
    let refused = cluster
        .run_with_input(&["create", "--filename", "-"], &list(&objects))
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    let created = cluster.get_json(&["pods", "--namespace", name])?;
    let asked = pods()
        .into_iter()
        .filter(|pod| is_asked(mode, namespace, *pod))
        .count();
    let records = records(pullpass, name, asked)?;
    let mut any_injected = false;
    for pod in pods() {
        let said = say(mode, policy, namespace, pod);
        let asked = is_asked(mode, namespace, pod);
        let record = records
            .iter()
            .find(|record| text(record, "/pod/name") == pod.name());
        let created = items(&created, "/items").find(|object| text(object, "/metadata/name") == pod.name());
        assert_eq!(record.is_some(), asked, "{kind:?} {pod:?}");
        // Where the selectors leave a Pod out, pullpass would have nothing to do either.
        assert!(
            asked || ["skipped", "not-applicable"].contains(&said.decision),
            "{kind:?} {pod:?}"
        );
        if let Some(record) = record {
            assert_eq!(text(record, "/decision"), said.decision, "{kind:?} {record}");
            let violations: Vec<_> = items(record, "/violations")
                .map(|violation| (text(violation, "/rule"), text(violation, "/action")))
                .collect();
            let expected: Vec<_> = said.violation.map(|rule| (rule, policy)).into_iter().collect();
            assert_eq!(violations, expected, "{kind:?} {record}");
        }
        let denied = asked && said.decision == "denied";
        assert_eq!(created.is_none(), denied, "{kind:?} {pod:?}: {refused}");
        if denied {
            assert!(refused.contains(&pod.image.reference()), "{refused}");
        }
        let injected = asked && said.injected;
        let secret = format!("pullpass-{OPEN}");
        let expected: Vec<&str> = Some(secret.as_str()).filter(|_| injected).into_iter().collect();
        if let Some(created) = created {
            assert_eq!(pull_secrets(created), expected, "{kind:?} {pod:?}");
        }
        any_injected |= injected;
    }
    if any_injected {
        // Pods that need more keys have it written again.
        wait_for("kubelets to find the credential", SOON, || {
            let secret = cluster
                .get_json(&["secret", "--namespace", name, &format!("pullpass-{OPEN}")])
                .map_err(|error| error.to_string())?;
            kubelets_find(&secret).map_err(|error| error.to_string())
        })?;
    } else {
        let secrets = cluster.get_json(&["secrets", "--namespace", name])?;
        assert_eq!(items(&secrets, "/items").count(), 0, "{kind:?}");
    }
    Ok(())
}

/// The metrics count what the audit log has, dry runs included.
fn assert_violations_are_counted(pullpass: &Installation<'_>, policy: &str) -> Test {
    let records = pullpass.records()?;
    for rule in ["unattached", "forbidden"] {
        let expected = records
            .iter()
            .flat_map(|record| items(record, "/violations"))
            .filter(|violation| text(violation, "/rule") == rule && text(violation, "/action") == policy)
            .count();
        assert!(expected > 0, "nothing violates {rule}");
        let line =
            format!("pullpass_policy_violations_total{{rule=\"{rule}\",action=\"{policy}\"}} {expected}");
        wait_for(&line, SOON, || {
            let metrics = pullpass.metrics().map_err(|error| error.to_string())?;
            metrics
                .lines()
                .any(|counted| counted == line)
                .then_some(())
                .ok_or(metrics)
        })?;
    }
    Ok(())
}

/// A kubelet finds the credential for every image of the registry, and for no other.
fn kubelets_find(secret: &Value) -> Test {
    for image in Image::ALL {
        let tried = kubelet_tries(&image.reference(), std::slice::from_ref(secret))?;
        if tried.len() != usize::from(image.is_granted()) {
            return Err(format!("{image:?} {tried:?}").into());
        }
    }
    Ok(())
}

/// What was recorded of Pods that were to be stored, of which there are so many.
fn records(
    pullpass: &Installation<'_>,
    namespace: &str,
    count: usize,
) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let records = wait_for("the audit records", SOON, || {
        let mut records = pullpass
            .records_in(namespace)
            .map_err(|error| error.to_string())?;
        records.retain(|record| record.get("dryRun") == Some(&Value::Bool(false)));
        if records.len() < count {
            return Err(format!("{} of {count}", records.len()));
        }
        Ok(records)
    })?;
    assert_eq!(records.len(), count, "{records:?}");
    Ok(records)
}

/// pullpass learns of a namespace a moment after the API server, and trusts its selectors until then: a registry that is
/// not for the namespace shows whether it has.
fn wait_until_known(cluster: &ControlPlane, name: &str, (mode, policy, namespace): Kind<'_>) -> Test {
    let pod = Pod {
        label: None,
        image: Image::Forbidden,
    };
    let said = say(mode, policy, namespace, pod);
    let arguments = [
        "create",
        "--dry-run=server",
        "--output",
        "json",
        "--filename",
        "-",
    ];
    wait_for("pullpass to know the namespace", SOON, || {
        let created = cluster.run_with_input(&arguments, &pod.object(name).to_string());
        let unknown = format!("pullpass-{CLOSED}");
        match &created {
            Ok(created) if said.decision != "denied" && !created.stdout.contains(&unknown) => Ok(()),
            Err(_) if said.decision == "denied" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    Ok(())
}

/// The same rows, asked of the decision itself: with what `pullpass review` says, there are warnings too.
#[test]
fn review_says_the_same_without_a_cluster() -> Test {
    for mode in MODES {
        for policy in POLICIES {
            let scratch = Scratch::new()?;
            let manifests = scratch.path().join("manifests");
            fs::create_dir(&manifests)?;
            let (mut objects, mut known) = (Vec::new(), registries());
            for (number, namespace) in namespaces().into_iter().enumerate() {
                let name = format!("namespace-{number}");
                let labels: serde_json::Map<_, _> = namespace
                    .labels()
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), json!(value)))
                    .collect();
                known.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}));
                objects.extend(pods().into_iter().map(|pod| pod.object(&name)));
            }
            fs::write(manifests.join("cluster.json"), list(&known))?;
            let pods_file = scratch.path().join("pods.json");
            fs::write(&pods_file, list(&objects))?;
            let excluded = namespaces().len() - 1;
            let output = Command::new(env!("CARGO_BIN_EXE_pullpass"))
                .args(["review", "--output=json", "--filename"])
                .arg(&pods_file)
                .arg("--manifests")
                .arg(&manifests)
                .arg(format!("--mode={mode}"))
                .arg(format!("--unattached={policy}"))
                .arg(format!("--forbidden={policy}"))
                .arg(format!("--exclude-namespaces=namespace-{excluded}"))
                .output()?;
            let expected_code = if policy == "deny" { 3 } else { 0 };
            assert_eq!(output.status.code(), Some(expected_code), "{output:?}");
            let report: Value = serde_json::from_slice(&output.stdout)?;
            let decisions: Vec<_> = items(&report, "/decisions").collect();
            let rows: Vec<_> = namespaces()
                .into_iter()
                .flat_map(|namespace| pods().into_iter().map(move |pod| (namespace, pod)))
                .collect();
            assert_eq!(decisions.len(), rows.len());
            for ((namespace, pod), decision) in rows.into_iter().zip(decisions) {
                let said = say(mode, policy, namespace, pod);
                let context = format!("{mode}, {policy}, {namespace:?}, {pod:?}: {decision}");
                assert_eq!(text(decision, "/decision"), said.decision, "{context}");
                assert_eq!(
                    items(decision, "/injected").count(),
                    usize::from(said.injected),
                    "{context}"
                );
                assert_eq!(items(decision, "/warnings").count(), said.warnings, "{context}");
                assert_eq!(
                    decision.get("denial").is_some_and(Value::is_string),
                    said.decision == "denied",
                    "{context}"
                );
            }
        }
    }
    Ok(())
}

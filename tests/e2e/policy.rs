//! Images of registries that are not attached, or not for this namespace.

use pullpass_test_support::wait_for;
use serde_json::{Value, json};

use crate::cluster::{SOON, Test, cluster, installation};
use crate::objects::{create, pod, pull_secrets, refused, text};

/// A registry for the namespaces of team b, in a namespace of team a.
fn team_b() -> Value {
    json!({
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "AcrRegistry",
        "metadata": {"name": "team-b"},
        "spec": {
            "loginServer": "teamb.azurecr.io",
            "identity": {"managedIdentity": {}},
            "namespaces": {"matchLabels": {"team": "b"}},
        },
    })
}

#[test]
fn a_denied_pod_is_refused_with_a_reason_that_tells_what_to_do() -> Test {
    let pullpass = installation()?
        .flag("--unattached=deny")
        .flag("--forbidden=deny")
        .manifest(team_b().to_string())
        .label("team", "a")
        .start()?;
    let namespace = pullpass.namespace();
    let denied =
        "admission webhook \"pods.pullpass.dev\" denied the request: pullpass: spec.containers[main] names";

    let message = refused(&pod(namespace, "stranger", "stranger.azurecr.io/web:1"))?;
    assert!(message.contains("(Forbidden)"), "{message}");
    assert!(
        message.contains(&format!(
            "{denied} stranger.azurecr.io/web:1, and no AcrRegistry has stranger.azurecr.io (rule: unattached)"
        )),
        "{message}"
    );
    assert!(
        message.contains("pullpass attach stranger.azurecr.io"),
        "{message}"
    );

    let message = refused(&pod(namespace, "forbidden", "teamb.azurecr.io/web:1"))?;
    assert!(
        message.contains(&format!(
            "{denied} teamb.azurecr.io/web:1, and AcrRegistry team-b is not for namespace {namespace} (rule: forbidden)"
        )),
        "{message}"
    );
    for record in pullpass.wait_for_records(namespace, 2)? {
        assert_eq!(text(&record, "/decision"), "denied");
        assert_eq!(text(&record, "/violations/0/action"), "deny");
    }
    Ok(())
}

#[test]
fn the_owner_of_a_denied_pod_says_why_there_is_none() -> Test {
    let pullpass = installation()?.flag("--unattached=deny").start()?;
    let namespace = pullpass.namespace();
    create(&json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "stranger.azurecr.io/web:1"}]},
            },
        },
    }))?;
    wait_for("the ReplicaSet to say why", SOON, || {
        let set = cluster()
            .and_then(|cluster| Ok(cluster.get_json(&["replicaset", "web", "--namespace", namespace])?))
            .map_err(|error| error.to_string())?;
        let message = text(&set, "/status/conditions/0/message").to_owned();
        if message.contains("no AcrRegistry has stranger.azurecr.io") {
            Ok(())
        } else {
            Err(message)
        }
    })?;
    Ok(())
}

#[test]
fn a_warning_reaches_whoever_creates_the_pod() -> Test {
    let pullpass = installation()?
        .flag("--unattached=warn")
        .manifest(team_b().to_string())
        .label("team", "a")
        .start()?;
    let namespace = pullpass.namespace();
    for (name, image, expected) in [
        (
            "stranger",
            "stranger.azurecr.io/web:1",
            "no AcrRegistry has stranger.azurecr.io (rule: unattached)",
        ),
        (
            "forbidden",
            "teamb.azurecr.io/web:1",
            "AcrRegistry team-b is not for namespace",
        ),
    ] {
        let stored = create(&pod(namespace, name, image))?;
        assert!(pull_secrets(&stored.object).is_empty(), "{name}");
        let [warning] = &stored.warnings[..] else {
            return Err(format!("{:?}", stored.warnings).into());
        };
        assert!(warning.contains(expected), "{warning}");
    }
    Ok(())
}

#[test]
fn a_registry_is_there_for_the_namespaces_that_it_selects() -> Test {
    let pullpass = installation()?
        .manifest(team_b().to_string())
        .label("team", "b")
        .start()?;
    let stored = create(&pod(pullpass.namespace(), "web", "teamb.azurecr.io/web:1"))?;
    assert_eq!(pull_secrets(&stored.object), ["pullpass-team-b"]);
    assert!(stored.warnings.is_empty(), "{:?}", stored.warnings);
    Ok(())
}

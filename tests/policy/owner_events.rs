//! Who owns a Pod that was refused is told by an Event: its controller made the request, and nobody reads its answer.

use std::error::Error;

use pullpass_test_support::{ControlPlane, wait_for};
use serde_json::{Value, json};

use crate::world::{CLOSED, OPEN, SOON, Test, attach, cluster, items, pull_secrets, pullpass, text};

fn pod(namespace: &str, name: &str, image: &str, owner: &Value) -> String {
    let reference = json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": text(owner, "/metadata/name"),
        "uid": text(owner, "/metadata/uid"),
        "controller": true,
    });
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "ownerReferences": [reference]},
        "spec": {"containers": [{"name": "main", "image": image}]},
    })
    .to_string()
}

/// A `ReplicaSet` that makes no Pods by itself.
fn owner(cluster: &ControlPlane, namespace: &str, name: &str) -> Result<Value, Box<dyn Error>> {
    let labels = json!({"app": name});
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": "nginx"}]},
            },
        },
    });
    cluster.apply(&object.to_string())?;
    Ok(cluster.get_json(&["replicaset", name, "--namespace", namespace])?)
}

#[test]
fn an_owner_is_told_once_of_a_spelling() -> Test {
    let cluster = cluster()?;
    let pullpass = pullpass(&cluster).start()?;
    attach(&cluster)?;
    let namespace = pullpass.new_namespace(&[])?;
    let (web, right) = (
        owner(&cluster, &namespace, "web")?,
        owner(&cluster, &namespace, "right")?,
    );
    let create = |name: &str, host: &str, owner: &Value| {
        let pod = pod(&namespace, name, &format!("{host}.azurecr.io/app:v1"), owner);
        cluster.run_with_input(&["create", "--output", "json", "--filename", "-"], &pod)
    };
    // The namespace is known, and the registry.
    let mut number = 0;
    wait_for("an injected Pod", SOON, || {
        number += 1;
        let created = create(&format!("right-{number}"), OPEN, &right).map_err(|error| error.to_string())?;
        let created: Value = serde_json::from_str(&created.stdout).map_err(|error| error.to_string())?;
        let is_injected = !pull_secrets(&created).is_empty();
        is_injected.then_some(()).ok_or(created.to_string())
    })?;
    for number in 0..3 {
        create(&format!("web-{number}"), "OpenRegistry", &web)?;
    }
    let of_spelling = || {
        let events = cluster
            .get_json(&["events", "--namespace", &namespace])
            .map_err(|error| error.to_string())?;
        let ours = items(&events, "/items").filter(|event| text(event, "/reason") == "ImageSpelling");
        let ours: Vec<Value> = ours.cloned().collect();
        if ours.is_empty() {
            Err("there is none".to_owned())
        } else {
            Ok(ours)
        }
    };
    let events = wait_for("the Event", SOON, of_spelling)?;
    assert_eq!(events.len(), 1, "{events:#?}");
    for event in &events {
        assert_eq!(text(event, "/involvedObject/uid"), text(&web, "/metadata/uid"));
        assert_eq!(
            text(event, "/message"),
            "A Pod names OpenRegistry.azurecr.io: write openregistry.azurecr.io, since a kubelet matches credentials by case and \
             finds none for it"
        );
    }
    Ok(())
}

#[test]
fn an_owner_is_told_once_for_each_rule() -> Test {
    let cluster = cluster()?;
    let pullpass = pullpass(&cluster)
        .flag("--unattached=deny")
        .flag("--forbidden=deny")
        .start()?;
    attach(&cluster)?;
    let namespace = pullpass.new_namespace(&[])?;
    let owner = |name: &str| owner(&cluster, &namespace, name);
    let (web, dry, last) = (owner("web")?, owner("dry")?, owner("last")?);
    let strange = "strangeregistry.azurecr.io/app:v1";
    let closed = format!("{CLOSED}.azurecr.io/app:v1");
    let create = |flags: &[&str], pod: &str| {
        let arguments = [&["create", "--filename", "-"], flags].concat();
        assert!(
            cluster.run_with_input(&arguments, pod).is_err(),
            "it was admitted"
        );
    };
    // Of a namespace that is not known yet nobody is told, and the registry counts as its own there.
    wait_for("the registry to be refused", SOON, || {
        let pod = pod(&namespace, "closed", &closed, &web);
        match cluster.run_with_input(&["create", "--dry-run=server", "--filename", "-"], &pod) {
            Err(_) => Ok(()),
            Ok(created) => Err(created.stdout),
        }
    })?;
    // Nothing was refused that was to be stored: nobody is told.
    create(&["--dry-run=server"], &pod(&namespace, "dry", strange, &dry));
    for number in 0..5 {
        create(&[], &pod(&namespace, &format!("strange-{number}"), strange, &web));
    }
    create(&[], &pod(&namespace, "closed", &closed, &web));
    // One writer writes them in the order of the denials: when this owner's is there, no other one is to come.
    create(&[], &pod(&namespace, "last", strange, &last));

    let of =
        |event: &Value, owner: &Value| text(event, "/involvedObject/uid") == text(owner, "/metadata/uid");
    let events = wait_for("the last Event", SOON, || {
        let events = cluster
            .get_json(&["events", "--namespace", &namespace])
            .map_err(|error| error.to_string())?;
        let ours: Vec<_> = items(&events, "/items")
            .filter(|event| text(event, "/reason") == "ImageDenied")
            .cloned()
            .collect();
        if ours.iter().any(|event| of(event, &last)) {
            Ok(ours)
        } else {
            Err(format!("{ours:?}"))
        }
    })?;
    assert_eq!(events.len(), 3, "{events:#?}");
    let events: Vec<_> = events.into_iter().filter(|event| of(event, &web)).collect();
    assert_eq!(events.len(), 2, "{events:#?}");
    for (rule, what) in [
        ("unattached", "no AcrRegistry has strangeregistry.azurecr.io"),
        ("forbidden", "AcrRegistry closedregistry is not for namespace"),
    ] {
        let event = events
            .iter()
            .find(|event| text(event, "/message").contains(&format!("(rule: {rule})")))
            .ok_or(rule)?;
        assert!(text(event, "/message").contains(what), "{event:#}");
        assert_eq!(text(event, "/type"), "Warning");
    }
    let described = cluster.run(&["describe", "replicaset", "web", "--namespace", &namespace])?;
    assert!(described.stdout.contains("ImageDenied"), "{}", described.stdout);
    Ok(())
}

//! What a leader tells the next one by its Lease, so that it deletes what changed and nothing else.

use std::collections::BTreeSet;
use std::error::Error;

use pullpass_test_support::{ControlPlane, Login, wait_for};
use serde_json::Value;

use crate::world::{
    SOON, Test, World, cluster_of_its_own, eager_for, make_namespaces, pull_secret, replica, text,
};

/// The namespace and the name of every pull secret that pullpass asked the API server to delete.
fn deletions(cluster: &ControlPlane) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let events = cluster.audit_events()?;
    let is_deletion = |event: &&Value| {
        text(event, "/verb") == "delete"
            && text(event, "/objectRef/resource") == "secrets"
            && text(event, "/stage") == "ResponseComplete"
            && text(event, "/user/username") == "system:serviceaccount:pullpass-system:pullpass"
    };
    let pair = |event: &Value| {
        let field = |name: &str| text(event, &format!("/objectRef/{name}")).to_owned();
        (field("namespace"), field("name"))
    };
    Ok(events.iter().filter(is_deletion).map(pair).collect())
}

/// Waits until the Lease tells of so many registries that they are swept in every namespace as it is now.
fn wait_until_swept(cluster: &ControlPlane, registries: usize) -> Test {
    let namespaces = cluster.get_json(&["namespaces"])?;
    let items = namespaces.get("items").and_then(Value::as_array);
    let version = |object: &Value| text(object, "/metadata/resourceVersion").parse::<u64>();
    let newest = items
        .into_iter()
        .flatten()
        .filter_map(|namespace| version(namespace).ok());
    let newest = newest.max().ok_or("there are no namespaces")?;
    wait_for("the Lease to tell of everything", SOON, || {
        let lease = cluster.get_json(&["lease", "pullpass", "--namespace", "pullpass-system"]);
        let lease = lease.map_err(|error| error.to_string())?;
        let note = text(&lease, "/metadata/annotations/pullpass.dev~1swept");
        let read: Value = serde_json::from_str(note).unwrap_or_default();
        let swept = read.get("swept").and_then(Value::as_object);
        let up_to_now = swept
            .into_iter()
            .flatten()
            .filter(|(version, _)| version.parse::<u64>().is_ok_and(|version| version >= newest))
            .filter_map(|(_, marks)| Some(marks.as_str()?.split(' ').count()));
        if up_to_now.sum::<usize>() == registries {
            Ok(())
        } else {
            Err(format!("{newest}: {note}"))
        }
    })?;
    Ok(())
}

/// Kills the leader, has this happen, and starts another one; what that deletes until everything is swept.
fn deleted_by_the_next(
    world: &mut World,
    registries: usize,
    meanwhile: impl FnOnce(&ControlPlane) -> Test,
) -> Result<BTreeSet<(String, String)>, Box<dyn Error>> {
    world.pullpass.process().kill()?;
    let before = deletions(world.cluster)?.len();
    meanwhile(world.cluster)?;
    let known = namespaces(world.cluster)?;
    // It comes with namespaces of its own, which are new to everybody.
    world.pullpass = replica(world.cluster, &world.azure)?;
    wait_until_swept(world.cluster, registries)?;
    let deleted = deletions(world.cluster)?.into_iter().skip(before);
    Ok(deleted
        .filter(|(namespace, _)| known.contains(namespace))
        .collect())
}

fn namespaces(cluster: &ControlPlane) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let list = cluster.get_json(&["namespaces"])?;
    let items = list.get("items").and_then(Value::as_array);
    let name = |object: &Value| text(object, "/metadata/name").to_owned();
    Ok(items.into_iter().flatten().map(name).collect())
}

#[test]
fn a_new_leader_deletes_only_what_changed() -> Test {
    let cluster = cluster_of_its_own()?;
    let mut world = World::start(&cluster, 2, |_| {})?;
    let mut logins: Vec<Login> = Vec::new();
    for team in ["a", "b"] {
        make_namespaces(&cluster, team, 10)?;
        let login = world.attached(&eager_for(team))?;
        world.wait_for_secrets(&login, 10)?;
        logins.push(login);
    }
    wait_until_swept(&cluster, 2)?;
    let deleted = deleted_by_the_next(&mut world, 2, |_| Ok(()))?;
    assert_eq!(deleted, BTreeSet::new());

    let deleted = deleted_by_the_next(&mut world, 2, |cluster| {
        cluster.run(&["label", "namespace", "a-3", "pullpass.dev/inject=disabled"])?;
        Ok(())
    })?;
    let pairs = logins.iter().map(|login| ("a-3".to_owned(), pull_secret(login)));
    assert_eq!(deleted, pairs.collect());
    world.wait_for_no_secret("a-3", &logins[0])
}

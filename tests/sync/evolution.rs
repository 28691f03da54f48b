//! The `CustomResourceDefinition` grows, as an upgrade lets it, and goes back, as one that is undone: what is attached stays so.

use std::error::Error;
use std::fs;

use pullpass_test_support::{ControlPlane, wait_for};
use serde_json::{Value, json};

use crate::world::{SOON, Test, World, cluster_of_its_own, pull_secret, replica, text};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/base/crd.yaml");

fn apply(cluster: &ControlPlane, definition: &Value) -> Test {
    let arguments = ["apply", "--server-side", "--filename", "-"];
    cluster.run_with_input(&arguments, &definition.to_string())?;
    Ok(cluster.wait_until_established()?)
}

fn insert(object: &mut Value, pointer: &str, key: &str, value: Value) -> Test {
    let map = object.pointer_mut(pointer).and_then(Value::as_object_mut);
    map.ok_or_else(|| format!("there is no {pointer}"))?
        .insert(key.to_owned(), value);
    Ok(())
}

/// What a later release may ship: a field and a kind of credential more, and a version beside the one that is stored.
fn grown(shipped: &Value) -> Result<Value, Box<dyn Error>> {
    let mut definition = shipped.clone();
    let version = "/spec/versions/0";
    let spec = format!("{version}/schema/openAPIV3Schema/properties/spec/properties");
    let note = json!({"type": "string", "nullable": true});
    insert(&mut definition, &spec, "note", note)?;
    let kinds = definition
        .pointer_mut(&format!("{spec}/credential/properties/kind/enum"))
        .and_then(Value::as_array_mut);
    kinds.ok_or("there are no kinds")?.push(json!("OfLater"));
    let mut later = definition.pointer(version).ok_or("there is no version")?.clone();
    insert(&mut later, "", "name", json!("v1beta1"))?;
    insert(&mut later, "", "storage", json!(false))?;
    let versions = definition
        .pointer_mut("/spec/versions")
        .and_then(Value::as_array_mut);
    versions.ok_or("there are no versions")?.push(later);
    Ok(definition)
}

#[test]
fn the_crd_changes_versions_and_registries_stay_attached() -> Test {
    let cluster = cluster_of_its_own()?;
    let world = World::start(&cluster, 3, |_| {})?;
    let definitions: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string(SHIPPED)?)?;
    let shipped = definitions
        .into_iter()
        .find(|definition| text(definition, "/metadata/name") == "acrregistries.pullpass.dev")
        .ok_or("there is no definition of AcrRegistry")?;
    let before = world.attached(&json!({}))?;
    let namespace = world.namespace_in_need(&before)?;
    world.wait_for_secret(&namespace, &before)?;

    apply(&cluster, &grown(&shipped)?)?;
    // What is there is read and written in either version, and pullpass' writes leave alone what it does not know.
    let patch = json!({"spec": {"note": "hello", "credential": {"refreshFraction": 0.4}}}).to_string();
    let later = "acrregistries.v1beta1.pullpass.dev";
    world
        .cluster
        .run(&["patch", later, &before.name, "--type=merge", "--patch", &patch])?;
    wait_for("the change to be observed", SOON, || {
        let object = world
            .cluster
            .get_json(&[later, &before.name])
            .map_err(|error| error.to_string())?;
        if object.pointer("/status/observedGeneration") == object.pointer("/metadata/generation") {
            Ok(())
        } else {
            Err(object.to_string())
        }
    })?;
    let object = world.cluster.get_json(&[later, &before.name])?;
    assert_eq!(text(&object, "/spec/note"), "hello");
    assert_eq!(text(&object, "/status/conditions/0/reason"), "Minted");

    // A kind that only the later release knows: it has no effect here, and other registries that are attached meanwhile are served.
    let unknown = world.login()?;
    let mut object = unknown.acr_registry();
    insert(&mut object, "/spec", "credential", json!({"kind": "OfLater"}))?;
    world.cluster.apply(&object.to_string())?;
    let after = world.attached(&json!({}))?;
    let other = world.namespace_in_need(&after)?;
    world.wait_for_secret(&other, &after)?;

    // One that is in use becomes unreadable: its secrets stay, also for a process that never knew it otherwise.
    let kind = json!({"spec": {"credential": {"kind": "OfLater"}}}).to_string();
    let patch = [
        "patch",
        "acrregistry",
        &before.name,
        "--type=merge",
        "--patch",
        &kind,
    ];
    world.cluster.run(&patch)?;
    let next = replica(&cluster, &world.azure)?;
    drop(world.pullpass);
    wait_for("the new process to lead", SOON, || {
        let metrics = next.metrics().map_err(|error| error.to_string())?;
        let told = format!("pullpass_credential_failing{{registry=\"{}\"}} 1", before.name);
        if metrics.contains("pullpass_leader 1") && metrics.contains(&told) {
            Ok(())
        } else {
            Err(metrics)
        }
    })?;
    // It has looked at everything when it writes again what was deleted.
    let name = pull_secret(&after);
    cluster.run(&["delete", "secret", &name, "--namespace", &other])?;
    let is_there = |namespace: &str, name: &str| {
        cluster
            .run(&["get", "secret", name, "--namespace", namespace, "--output=name"])
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    wait_for("the secret to be put back", SOON, || is_there(&other, &name))?;
    is_there(&namespace, &pull_secret(&before))?;
    is_there("pullpass-system", &format!("credential-{}", before.name))?;

    // The older definition again. What it does not know any more is no reason to lose the rest.
    apply(&cluster, &shipped)?;
    let back = json!({"spec": {"credential": {"kind": "RefreshToken"}}}).to_string();
    // kubectl remembers the later version, and would ask for that.
    let stored = "acrregistries.v1alpha1.pullpass.dev";
    let patch = ["patch", stored, &before.name, "--type=merge", "--patch", &back];
    wait_for("it to be written again", SOON, || {
        cluster.run(&patch).map_err(|error| error.to_string())
    })?;
    wait_for("it to be read again", SOON, || {
        let metrics = next.metrics().map_err(|error| error.to_string())?;
        let told = format!("pullpass_credential_failing{{registry=\"{}\"}} 0", before.name);
        if metrics.contains(&told) {
            Ok(())
        } else {
            Err(metrics)
        }
    })?;
    is_there(&namespace, &pull_secret(&before))?;
    Ok(())
}

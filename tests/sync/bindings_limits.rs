//! What bounds the `AcrPullBindings` of a namespace, and what keeps one namespace's from those of another.

use std::error::Error;

use pullpass_test_support::wait_for;
use serde_json::{Value, json};

use crate::bound_team::{ACCOUNT, Team};
use crate::bound_world::with_bindings;
use crate::world::{SOON, Test, World, text};

/// How many bindings of a namespace are served.
const MAX_SERVED: usize = 32;

/// Creates bindings of these names, for the host of a registry.
fn bind(world: &World, namespace: &str, host: &str, names: impl Iterator<Item = String>) -> Test {
    let binding = |name: String| {
        json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"loginServer": host, "serviceAccountName": ACCOUNT},
        })
    };
    let all: Vec<_> = names.map(binding).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": all});
    world.cluster.apply(&list.to_string())?;
    Ok(())
}

/// The names of the bindings of a namespace that are not served, once as many have a reason.
fn not_served(world: &World, namespace: &str, count: usize) -> Result<Vec<String>, Box<dyn Error>> {
    Ok(wait_for("every binding to have a reason", SOON, || {
        let list = world
            .cluster
            .get_json(&["acrpullbindings", "--namespace", namespace])
            .map_err(|error| error.to_string())?;
        let items = list.get("items").and_then(Value::as_array);
        let reasons: Vec<_> = items
            .into_iter()
            .flatten()
            .map(|item| {
                (
                    text(item, "/metadata/name"),
                    text(item, "/status/conditions/0/reason"),
                )
            })
            .collect();
        if reasons.len() != count || reasons.iter().any(|(_, reason)| reason.is_empty()) {
            return Err(format!("{reasons:?}"));
        }
        let refused = reasons.iter().filter(|(_, reason)| *reason == "TooManyBindings");
        Ok(refused.map(|(name, _)| (*name).to_owned()).collect())
    })?)
}

#[test]
fn the_oldest_bindings_of_a_namespace_are_served() -> Test {
    let world = with_bindings()?;
    let team = Team::new(world)?;
    let namespace = &team.namespace;
    // By name, these are the last.
    bind(
        world,
        namespace,
        &team.login.host,
        (0..MAX_SERVED).map(|number| format!("old{number:02}")),
    )?;
    assert_eq!(not_served(world, namespace, MAX_SERVED)?, [""; 0]);
    bind(
        world,
        namespace,
        &team.login.host,
        (0..3).map(|number| format!("new{number}")),
    )?;
    let new = ["new0", "new1", "new2"];
    assert_eq!(not_served(world, namespace, MAX_SERVED + 3)?, new);
    let injected = team.injected_in(namespace)?;
    assert_eq!(injected.len(), MAX_SERVED);
    assert!(
        injected
            .iter()
            .all(|name| name.starts_with("pullpass-binding-old")),
        "{injected:?}"
    );

    let delete = ["delete", "acrpullbinding", "old07", "--namespace", namespace];
    world.cluster.run(&delete)?;
    wait_for("the next one to be served", SOON, || {
        let refused = not_served(world, namespace, MAX_SERVED + 2).map_err(|error| error.to_string())?;
        if refused == new[1..] {
            Ok(())
        } else {
            Err(format!("{refused:?}"))
        }
    })?;
    let injected = team.injected_in(namespace)?;
    assert!(
        injected.contains(&"pullpass-binding-new0".to_owned()),
        "{injected:?}"
    );
    let metrics = world.pullpass.metrics()?;
    let has_series = |name: &str| metrics.contains(&format!("registry=\"{namespace}/{name}\""));
    assert!(has_series("new0") && !has_series("new2"), "{metrics}");
    Ok(())
}

//! What the API server's own policies do where many namespaces have bindings, a namespace has many, or the index has no room for
//! them.

use std::collections::BTreeMap;

use pullpass_test_support::ControlPlane;
use serde_json::{Value, json};

use crate::admission_policy::{injected, wait_for_names, with_index, with_own};
use crate::enforce;
use crate::world::{Test, namespace, with_written_index};

/// How many namespaces have a binding: with the rest, about as many as have room.
const NAMESPACES: usize = 16_000;
/// How many bindings one of them has on one host.
const SHARED: usize = 2_000;
/// How many it has besides, with a host each.
const HOSTS: usize = 500;
/// How many `AcrRegistries` there are.
const REGISTRIES: usize = 1_000;

/// An index of that many, which says deny.
fn large_index() -> Value {
    let secrets: Vec<_> = (0..SHARED)
        .map(|number| format!("pullpass-binding-s{number}"))
        .collect();
    let own = |number: usize| {
        (
            format!("bound{number:04}.azurecr.io"),
            json!([format!("pullpass-binding-b{number}")]),
        )
    };
    let mut hosts: BTreeMap<_, _> = (0..HOSTS).map(own).collect();
    hosts.insert("shared.azurecr.io".to_owned(), json!(secrets));
    let team = |number: usize| {
        let host = format!("team{number}registry.azurecr.io");
        (format!("team-{number}"), json!({host: ["pullpass-binding-app"]}))
    };
    let mut bindings: BTreeMap<_, _> = (0..NAMESPACES).map(team).collect();
    bindings.insert("apps".to_owned(), json!(hosts));
    let names: Vec<_> = (0..REGISTRIES)
        .map(|number| format!("registry{number:04}"))
        .collect();
    let of_registry = names
        .iter()
        .map(|name| (format!("{name}.azurecr.io"), json!([format!("pullpass-{name}")])));
    let registries = names
        .iter()
        .map(|name| (format!("pullpass-{name}"), json!({"registry": name})));
    json!({
        "mode": "cluster-wide", "unattached": "deny", "forbidden": "deny", "bindings": bindings,
        "hosts": of_registry.collect::<BTreeMap<_, _>>(), "pullSecrets": registries.collect::<BTreeMap<_, _>>(),
    })
}

fn bound(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("bound{:04}.azurecr.io/app:1", number % HOSTS))
}

#[test]
fn many_bindings_fit_the_budget_of_the_policies() -> Test {
    let cluster = with_index(&large_index())?;
    namespace(&cluster, "apps", &json!({}))?;
    namespace(&cluster, "team-15999", &json!({}))?;
    let shared = || ["shared.azurecr.io/app:1".to_owned()];
    wait_for_names(&cluster, &with_own("apps", bound(1), 0), 1)?;
    let names = injected(
        &cluster,
        &with_own("team-15999", ["team15999registry.azurecr.io/app:1".to_owned()], 0),
    )?;
    assert_eq!(names, ["pullpass-binding-app"]);
    // The API server adds a volume with a token.
    let long = bound(1).chain((0..254).map(|_| format!("registry0001.azurecr.io/{}", "x".repeat(900))));
    for (what, pod, expected) in [
        ("a host each", with_own("apps", bound(255), 0), 255),
        ("one host", with_own("apps", shared(), 0), SHARED),
        (
            "one host and own names",
            with_own("apps", shared(), 125),
            SHARED + 125,
        ),
        (
            "what is left to the webhook",
            with_own("apps", shared(), 126),
            126,
        ),
        ("long references", with_own("apps", long, 0), 2),
        (
            "the hosts of another namespace",
            with_own("team-15999", bound(255), 0),
            0,
        ),
    ] {
        assert_eq!(injected(&cluster, &pod)?.len(), expected, "{what}");
    }
    // Every Pod of the namespace gets every name, and the bindings' before the registries'.
    namespace(&cluster, "apps", &json!({"pullpass.dev/always-inject": "true"}))?;
    let every = |own| with_own("apps", ["nginx".to_owned()], own);
    wait_for_names(&cluster, &every(0), SHARED + HOSTS + REGISTRIES)?;
    let names = injected(&cluster, &every(71))?;
    assert_eq!(names.len(), SHARED + HOSTS + REGISTRIES + 71);
    let (before, after) = names.split_at(71 + SHARED + HOSTS);
    assert!(after.iter().all(|name| name.starts_with("pullpass-registry")));
    assert!(
        before
            .iter()
            .skip(71)
            .all(|name| name.starts_with("pullpass-binding-"))
    );
    assert_eq!(
        injected(&cluster, &every(72))?.len(),
        72,
        "it is left to the webhook"
    );
    Ok(())
}

#[test]
fn many_bindings_fit_the_budget_of_the_rules() -> Test {
    let cluster = enforced(&large_index(), &["none", "apps"])?;
    let pod = |namespace: &str, more: Option<&str>| {
        with_own(namespace, bound(1_000).chain(more.map(str::to_owned)), 0)
    };
    let stranger = "strangeregistry.azurecr.io/app:1";
    for (namespace, more, refused) in [
        ("apps", None, false),
        ("apps", Some(stranger), true),
        ("none", None, true),
    ] {
        let said = enforce::create(&cluster, &pod(namespace, more));
        assert_eq!(said.refused, refused, "{namespace}: {}", said.text);
        assert_eq!(
            said.text.contains("(rule: unattached)"),
            refused,
            "{namespace}: {}",
            said.text
        );
    }
    Ok(())
}

/// A cluster whose index is written by hand, the rules in force, and these namespaces.
fn enforced(index: &Value, namespaces: &[&str]) -> Result<ControlPlane, Box<dyn std::error::Error>> {
    let cluster = with_written_index(index)?;
    cluster.run(&["apply", "--filename", enforce::COMPONENT])?;
    for name in namespaces {
        namespace(&cluster, name, &json!({}))?;
    }
    enforce::wait_for_action(&cluster, "none", "deny")?;
    Ok(cluster)
}

/// An index with a namespace for whose bindings it has no room.
fn with_a_mark() -> Value {
    json!({
        "mode": "cluster-wide", "unattached": "deny", "forbidden": "deny",
        "bindings": {"left-out": {"*": []}, "bound": {"boundregistry.azurecr.io": ["pullpass-binding-b"]}},
        "hosts": {"openregistry.azurecr.io": ["pullpass-open"], "closedregistry.azurecr.io": ["pullpass-closed"]},
        "pullSecrets": {
            "pullpass-open": {"registry": "open"},
            "pullpass-closed": {"registry": "closed", "namespaces": [{"key": "team", "operator": "Exists"}]},
        },
    })
}

#[test]
fn a_namespace_without_room_is_left_to_the_webhook() -> Test {
    let images = [
        "boundregistry",
        "openregistry",
        "closedregistry",
        "strangeregistry",
    ];
    let image = |name: &str| format!("{name}.azurecr.io/app:1");
    let cluster = with_index(&with_a_mark())?;
    for name in ["left-out", "bound", "other"] {
        namespace(&cluster, name, &json!({}))?;
    }
    wait_for_names(&cluster, &with_own("bound", [image("boundregistry")], 0), 1)?;
    for (namespace, expected) in [
        ("left-out", &["pullpass-open"][..]),
        ("bound", &["pullpass-binding-b", "pullpass-open"]),
        ("other", &["pullpass-open"]),
    ] {
        let pod = with_own(
            namespace,
            images.map(image).into_iter().chain(["*/app:1".to_owned()]),
            0,
        );
        assert_eq!(injected(&cluster, &pod)?, expected, "{namespace}");
    }
    let cluster = enforced(&with_a_mark(), &["none", "left-out", "bound"])?;
    for (namespace, refused) in [
        ("left-out", &[][..]),
        ("bound", &["closedregistry", "strangeregistry"]),
        ("none", &["boundregistry", "closedregistry", "strangeregistry"]),
    ] {
        for name in images {
            let said = enforce::create(&cluster, &with_own(namespace, [image(name)], 0));
            assert_eq!(
                said.refused,
                refused.contains(&name),
                "{namespace} {name}: {}",
                said.text
            );
        }
    }
    Ok(())
}

//! What the mutating policies do where the index is large.

use std::collections::BTreeMap;

use pullpass_test_support::{ControlPlane, wait_for};
use serde_json::{Value, json};

use crate::admission_policy::{injected, pod, with_index};
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

/// A Pod with these images and as many pull secrets of its own.
fn with_own(namespace: &str, images: &[&str], own: usize) -> String {
    let containers: Vec<_> = images
        .iter()
        .enumerate()
        .map(|(number, image)| json!({"name": format!("c{number}"), "image": image}))
        .collect();
    let own: Vec<_> = (0..own)
        .map(|number| json!({"name": format!("own-{number}")}))
        .collect();
    pod(
        namespace,
        &json!({"containers": containers, "imagePullSecrets": own}),
    )
}

/// Waits until a Pod has so many names.
fn wait_for_names(cluster: &ControlPlane, pod: &str, count: usize) -> Test {
    wait_for("the policy to inject", SOON, || match injected(cluster, pod) {
        Ok(names) if names.len() == count => Ok(()),
        Ok(names) => Err(format!("{} names", names.len())),
        Err(error) => Err(error.to_string()),
    })?;
    Ok(())
}

#[test]
fn always_inject_fits_the_budget_with_a_large_index() -> Test {
    let cluster = with_index(&large_index(&[]))?;
    namespace(&cluster, "always", &json!({"pullpass.dev/always-inject": "true"}))?;
    wait_for_names(&cluster, &with_own("always", &["nginx"], 0), MANY)?;
    // The policy is asked again once it has added names, when it has to find that all are there.
    for (own, expected) in [(1, MANY + 1), (125, MANY + 125)] {
        let names = injected(&cluster, &with_own("always", &["nginx"], own))?;
        assert_eq!(names.len(), expected, "{own}");
    }
    // With more of its own it is left to the webhook, but for what its images need.
    let names = injected(
        &cluster,
        &with_own("always", &["registry1999.azurecr.io/app:1"], 126),
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
    wait_for_names(&cluster, &with_own("apps", &[one, one], 0), MANY)?;
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
        let names = injected(&cluster, &with_own("apps", images, own))?;
        assert_eq!(names.len(), expected, "{images:?} {own}");
    }
    Ok(())
}

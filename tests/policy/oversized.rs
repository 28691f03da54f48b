//! No Pod is so large, and no image's reference so long, that the API server admits it without asking pullpass.

use std::error::Error;

use pullpass_test_support::{Installation, wait_for};
use serde_json::{Value, json};

use crate::world::{SOON, Test, attach, cluster, pullpass};

const STRANGE: &str = "strangeregistry.azurecr.io/app:v1";

fn pod(namespace: &str, images: &[String]) -> String {
    let containers: Vec<Value> = images
        .iter()
        .enumerate()
        .map(|(number, image)| json!({"name": format!("c{number}"), "image": image}))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "large", "namespace": namespace},
        "spec": {"containers": containers},
    })
    .to_string()
}

#[test]
fn a_large_pod_does_not_escape_the_rules() -> Test {
    let cluster = cluster()?;
    // As many and as long as the chart accepts them.
    let domains: Vec<String> = (100..200)
        .map(|number| {
            let label = "l".repeat(60);
            format!("{label}.{label}.{label}.{}{number}.contoso.com", "l".repeat(40))
        })
        .collect();
    let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
    let pullpass = pullpass(&cluster)
        .flag("--unattached=deny")
        .custom_domains(&domains)
        .start()?;
    attach(&cluster)?;
    let plain = pullpass.new_namespace(&[])?;
    let always = pullpass.new_namespace(&[("pullpass.dev/always-inject", "true")])?;
    let create = |pod: &str| {
        let arguments = ["create", "--dry-run=server", "--filename", "-"];
        cluster.run_with_input(&arguments, pod)
    };
    wait_for("pullpass to refuse", SOON, || {
        match create(&pod(&plain, &[STRANGE.to_owned()])) {
            Err(_) => Ok(()),
            Ok(created) => Err(created.stdout),
        }
    })?;
    for (what, before) in [
        ("one long text", vec!["x".repeat(900_000)]),
        ("as many long texts as are looked at", vec!["x".repeat(1024); 255]),
        ("many long texts", vec!["x".repeat(1024); 900]),
        ("many short ones", vec!["x".to_owned(); 5_000]),
    ] {
        for namespace in [&plain, &always] {
            let images = [before.clone(), vec![STRANGE.to_owned()]].concat();
            let refused = create(&pod(namespace, &images)).err().ok_or(what)?.to_string();
            assert!(refused.contains("(rule: unattached)"), "{what}: {refused}");
            assert!(
                create(&pod(namespace, &before)).is_ok(),
                "{what}: nothing of it is on ACR"
            );
        }
    }
    Ok(())
}

/// A namespace as most are, and one in which every Pod is asked about.
fn both_kinds(pullpass: &Installation<'_>) -> Result<[String; 2], Box<dyn Error>> {
    Ok([
        pullpass.new_namespace(&[])?,
        pullpass.new_namespace(&[("pullpass.dev/always-inject", "true")])?,
    ])
}

/// The review of an update has the Pod twice.
#[test]
fn an_update_of_a_large_pod_does_not_escape_the_rules() -> Test {
    let cluster = cluster()?;
    let pullpass = pullpass(&cluster).flag("--unattached=deny").start()?;
    attach(&cluster)?;
    let namespaces = both_kinds(&pullpass)?;
    for namespace in &namespaces {
        let images = [vec!["x".repeat(1024); 900], vec!["nginx".to_owned()]].concat();
        cluster.create(&pod(namespace, &images))?;
        let set = |image: &str| {
            let image = format!("c900={image}");
            let arguments = ["set", "image", "pod/large", "--namespace", namespace, &image];
            cluster.run(&[&arguments[..], &["--dry-run=server"]].concat())
        };
        wait_for("pullpass to refuse", SOON, || match set(STRANGE) {
            Err(error) if error.to_string().contains("(rule: unattached)") => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
        set("openregistry.azurecr.io/app:1")?;
    }
    Ok(())
}

/// A port has any number of leading zeros, and a repository its 255 characters beside any host.
#[test]
fn a_long_reference_does_not_escape_the_rules() -> Test {
    let cluster = cluster()?;
    let pullpass = pullpass(&cluster).flag("--unattached=deny").start()?;
    attach(&cluster)?;
    let namespaces = both_kinds(&pullpass)?;
    let create = |namespace: &str, image: String| {
        let arguments = ["create", "--dry-run=server", "--filename", "-"];
        cluster.run_with_input(&arguments, &pod(namespace, &[image]))
    };
    let strange = |zeros: usize, path: usize| {
        let port = format!("{}443", "0".repeat(zeros));
        format!("StrangeRegistry.AzureCR.io:{port}/{}:1", "a".repeat(path))
    };
    wait_for("pullpass to refuse", SOON, || {
        match create(&namespaces[0], STRANGE.to_owned()) {
            Err(_) => Ok(()),
            Ok(created) => Err(created.stdout),
        }
    })?;
    for namespace in &namespaces {
        for (zeros, path) in [(0, 250), (0, 255), (250, 3), (1_100, 255), (900_000, 3)] {
            let refused = create(namespace, strange(zeros, path)).err();
            let refused = refused.ok_or("it is admitted")?.to_string();
            assert!(
                refused.contains("(rule: unattached)"),
                "{zeros} {path}: {refused}"
            );
        }
        // Another port is another registry, and a longer path no reference.
        for image in [
            strange(1_100, 256),
            format!("strangeregistry.azurecr.io:{}5/a", "0".repeat(1_100)),
        ] {
            assert!(create(namespace, image.clone()).is_ok(), "{image}");
        }
    }
    Ok(())
}

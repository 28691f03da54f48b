//! Pods that run already: their pull secrets can't change, so that only words can help.

use crate::cluster::{Test, cluster, pullpass};
use crate::objects::{create, pod, pull_secrets, text};
use pullpass_test_support::KubectlOutput;

fn debug(namespace: &str, pod: &str, image: &str) -> Result<KubectlOutput, Box<dyn std::error::Error>> {
    let image = format!("--image={image}");
    let container = "--container=debugger";
    Ok(cluster()?.run(&[
        "debug",
        pod,
        "--namespace",
        namespace,
        &image,
        container,
        "--profile=general",
    ])?)
}

#[test]
fn kubectl_debug_is_told_that_the_pod_holds_no_pull_secret() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    create(&pod(&namespace, "plain", "registry.example/web:1"))?;

    let debugged = debug(&namespace, "plain", "myregistry.azurecr.io/tools:1")?;
    let [warning] = debugged.warnings()[..] else {
        return Err(format!("{debugged:?}").into());
    };
    assert!(
        warning.starts_with("pullpass: spec.ephemeralContainers[debugger] is on myregistry.azurecr.io"),
        "{warning}"
    );
    assert!(warning.contains("pullpass.dev/always-inject=true"), "{warning}");

    let stored = cluster()?.get_json(&["pod", "plain", "--namespace", &namespace])?;
    assert_eq!(
        text(&stored, "/spec/ephemeralContainers/0/image"),
        "myregistry.azurecr.io/tools:1"
    );
    assert!(pull_secrets(&stored).is_empty());
    for record in pullpass.wait_for_records(&namespace, 1)? {
        assert_eq!(text(&record, "/operation"), "UPDATE");
        assert_eq!(text(&record, "/decision"), "uncovered");
        assert_eq!(text(&record, "/pod/name"), "plain");
    }
    Ok(())
}

#[test]
fn kubectl_debug_of_a_pod_with_its_secret_gets_no_warning() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    create(&pod(&namespace, "covered", "myregistry.azurecr.io/web:1"))?;
    let debugged = debug(&namespace, "covered", "myregistry.azurecr.io/tools:1")?;
    assert!(debugged.warnings().is_empty(), "{debugged:?}");
    let records = pullpass.wait_for_records(&namespace, 2)?;
    let last = records.last().ok_or("there are two")?;
    assert_eq!(text(last, "/decision"), "already-present");
    Ok(())
}

/// The record of the image that is changed last shows that the updates before it would have been seen.
#[test]
fn an_update_that_brings_no_image_on_acr_is_not_asked_about() -> Test {
    let pullpass = pullpass()?;
    let namespace = pullpass.new_namespace(&[])?;
    create(&pod(&namespace, "web", "myregistry.azurecr.io/web:1"))?;

    let cluster = cluster()?;
    let on = ["--namespace", &namespace, "web"];
    let kubectl = |verb: &[&str], change: &[&str]| cluster.run(&[verb, &on[..], change].concat());
    kubectl(&["annotate", "pod"], &["note=changed"])?;
    kubectl(&["label", "pod"], &["tier=front"])?;
    debug(&namespace, "web", "registry.example/tools:1")?;
    kubectl(&["set", "image", "pod"], &["main=registry.example/web:2"])?;
    kubectl(&["set", "image", "pod"], &["main=stranger.azurecr.io/web:3"])?;

    let records = pullpass.wait_for_records(&namespace, 2)?;
    let seen: Vec<_> = records
        .iter()
        .map(|record| (text(record, "/operation"), text(record, "/images/0/reference")))
        .collect();
    assert_eq!(
        seen,
        [
            ("CREATE", "myregistry.azurecr.io/web:1"),
            ("UPDATE", "stranger.azurecr.io/web:3")
        ]
    );
    Ok(())
}

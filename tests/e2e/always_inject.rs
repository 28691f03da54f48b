//! Namespaces whose Pods get the secrets of all registries, whatever they run.

use crate::cluster::{Test, cluster, installation};
use crate::objects::{create, pod, pull_secrets, text};
use pullpass_test_support::Installation;

fn always() -> Result<Installation<'static>, Box<dyn std::error::Error>> {
    Ok(installation()?
        .registry("myregistry")
        .registry("tools")
        .label("pullpass.dev/always-inject", "true")
        .start()?)
}

#[test]
fn every_pod_is_asked_about_once_and_gets_every_secret() -> Test {
    let pullpass = always()?;
    let namespace = pullpass.namespace();
    for (name, image) in [
        ("plain", "registry.example/web:1"),
        ("on-acr", "myregistry.azurecr.io/web:1"),
    ] {
        let stored = create(&pod(namespace, name, image))?;
        assert_eq!(
            pull_secrets(&stored.object),
            ["pullpass-myregistry", "pullpass-tools"],
            "{name}"
        );
    }
    let records = pullpass.wait_for_records(namespace, 2)?;
    let decisions: Vec<_> = records
        .iter()
        .map(|record| (text(record, "/pod/name"), text(record, "/decision")))
        .collect();
    assert_eq!(decisions, [("plain", "injected"), ("on-acr", "injected")]);
    Ok(())
}

#[test]
fn a_plain_pod_can_be_debugged_later() -> Test {
    let pullpass = always()?;
    let namespace = pullpass.namespace();
    create(&pod(namespace, "plain", "registry.example/web:1"))?;
    let debugged = cluster()?.run(&[
        "debug",
        "plain",
        "--namespace",
        namespace,
        "--image=tools.azurecr.io/debug:1",
        "--container=debugger",
        "--profile=general",
    ])?;
    assert!(debugged.warnings().is_empty(), "{debugged:?}");
    let records = pullpass.wait_for_records(namespace, 2)?;
    let decisions: Vec<_> = records
        .iter()
        .map(|record| (text(record, "/operation"), text(record, "/decision")))
        .collect();
    assert_eq!(decisions, [("CREATE", "injected"), ("UPDATE", "already-present")]);
    Ok(())
}

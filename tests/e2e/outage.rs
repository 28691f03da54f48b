//! pullpass is down.

use pullpass_test_support::FailurePolicy;

use crate::cluster::{Test, installation};
use crate::objects::{create, pod, pull_secrets, refused};

const IMAGE: &str = "myregistry.azurecr.io/web:1";

#[test]
fn pods_are_admitted_while_the_webhook_is_down() -> Test {
    let mut pullpass = installation()?.registry("myregistry").start()?;
    let namespace = pullpass.namespace().to_owned();
    let stored = create(&pod(&namespace, "before", IMAGE))?;
    assert_eq!(pull_secrets(&stored.object), ["pullpass-myregistry"]);
    pullpass.stop()?;
    let stored = create(&pod(&namespace, "meanwhile", IMAGE))?;
    assert!(pull_secrets(&stored.object).is_empty());
    Ok(())
}

/// With the failure policy `Fail`, being asked about and being refused are the same.
#[test]
fn pods_without_an_image_on_acr_never_depend_on_the_webhook() -> Test {
    let mut pullpass = installation()?
        .registry("myregistry")
        .failure_policy(FailurePolicy::Fail)
        .start()?;
    let namespace = pullpass.namespace().to_owned();
    pullpass.stop()?;
    let message = refused(&pod(&namespace, "on-acr", IMAGE))?;
    assert!(
        message.contains("failed calling webhook \"pods.pullpass.dev\""),
        "{message}"
    );
    create(&pod(&namespace, "plain", "registry.example/web:1"))?;
    create(&pod(
        &namespace,
        "look-alike",
        "myregistry.azurecr.io.evil.example/web",
    ))?;
    let out = pullpass.new_namespace(&[("pullpass.dev/inject", "disabled")])?;
    create(&pod(&out, "opted-out", IMAGE))?;
    Ok(())
}

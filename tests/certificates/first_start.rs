//! From nothing to a Pod that is admitted; what becomes of `caBundle` afterwards.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pullpass::base::readiness::Readiness;
use pullpass::certificates::keeper::OwnCertificate;
use pullpass::metrics::Metrics;
use pullpass::server::{ServedTls, TlsMaker};
use pullpass_test_support::kube_client;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::world::{ACCOUNT, OWN_NAMESPACE, SOON, Test, World, decoded, entry};

#[test]
fn two_replicas_start_from_nothing_and_publish_one_bundle() -> Test {
    let mut world = World::start()?;
    assert_eq!(world.secret()?, None);
    assert_eq!(world.bundles()?, ["", ""]);
    world.start_replicas(2, &[])?;
    let bundle = world.wait_until_published()?;
    world.wait_until_admitted()?;
    let secret = world.secret()?.ok_or("there is no Secret")?;
    assert_eq!(decoded(&secret, "/data/ca.crt")?, bundle);
    for replica in &world.replicas {
        // They end when the Secret's does: both serve it.
        let expiry = replica.metrics()?;
        let expiry = expiry
            .lines()
            .find_map(|line| line.strip_prefix("pullpass_webhook_certificate_expiry_timestamp_seconds "))
            .ok_or("there is no such metric")?;
        let left = expiry.parse::<i64>()? - Timestamp::now().as_second();
        assert!((89 * 86_400..=90 * 86_400).contains(&left), "{left}");
    }

    // Whatever somebody does to it, it is put back.
    let path = |webhook: u8| format!("/webhooks/{webhook}/clientConfig/caBundle");
    let wiped = json!([{"op": "remove", "path": path(0)}, {"op": "remove", "path": path(1)}]);
    let cut = json!([{"op": "remove", "path": path(1)}]);
    let other = json!([{"op": "replace", "path": path(0), "value": entry(&secret, "tls.crt")}]);
    for patch in [wiped, cut, other] {
        world.patch_configuration(&patch)?;
        assert_eq!(world.wait_until_published()?, bundle);
    }
    world.wait_until_admitted()?;

    // Applying what is shipped again changes nothing, and nobody is warned.
    let before = world.configuration()?;
    let warnings = world.apply_shipped()?;
    assert_eq!(warnings, "");
    let after = world.configuration()?;
    assert_eq!(after.get("webhooks"), before.get("webhooks"));
    world.admit()?;

    // The bundle is all that is pullpass'.
    let fields = after.pointer("/metadata/managedFields").and_then(Value::as_array);
    let ours: Vec<_> = fields
        .into_iter()
        .flatten()
        .filter(|entry| entry.get("manager").and_then(Value::as_str) == Some("pullpass"))
        .collect();
    let webhook = json!({".": {}, "f:name": {}, "f:clientConfig": {"f:caBundle": {}}});
    assert_eq!(
        ours.iter()
            .filter_map(|entry| entry.get("fieldsV1"))
            .collect::<Vec<_>>(),
        [&json!({"f:webhooks": {
            "k:{\"name\":\"pods.pullpass.dev\"}": webhook,
            "k:{\"name\":\"always.pullpass.dev\"}": webhook,
        }})]
    );

    // A configuration that was deleted and comes back has its bundle again.
    world
        .cluster
        .run(&["delete", "mutatingwebhookconfiguration", "pullpass"])?;
    world.admit()?;
    world.apply_shipped()?;
    assert_eq!(world.wait_until_published()?, bundle);
    world.wait_until_admitted()?;
    let logs = world.logs()?;
    assert!(!logs.contains("PRIVATE KEY"), "{logs}");
    for key in ["tls.key", "ca.key"] {
        assert!(!logs.contains(entry(&secret, key)), "{key} was logged");
    }
    Ok(())
}

#[test]
fn its_account_can_change_its_own_configuration_only() -> Test {
    let world = World::start()?;
    let can = |verb: &str, what: &str| world.cluster.may(ACCOUNT, verb, what, &[]);
    for verb in ["get", "watch", "patch"] {
        assert!(can(verb, "mutatingwebhookconfigurations/pullpass")?, "{verb}");
        assert!(!can(verb, "mutatingwebhookconfigurations/other")?, "{verb}");
        assert!(!can(verb, "mutatingwebhookconfigurations")?, "{verb}");
    }
    for verb in ["create", "update", "delete", "list", "deletecollection"] {
        assert!(!can(verb, "mutatingwebhookconfigurations/pullpass")?, "{verb}");
    }
    for verb in ["get", "watch", "patch", "create", "delete"] {
        assert!(!can(verb, "validatingwebhookconfigurations/pullpass")?, "{verb}");
    }
    Ok(())
}

/// No Lease keeps them apart here: it is not what makes a race harmless.
#[test]
fn a_race_of_leaders_ends_with_one_certificate() -> Test {
    const LEADERS: usize = 6;
    let world = World::start()?;
    let runtime = Runtime::new()?;
    let kubeconfig = world
        .cluster
        .service_account_kubeconfig(OWN_NAMESPACE, "pullpass")?;
    let client = kube_client(&runtime, &kubeconfig)?;
    let mut served = Vec::new();
    for _ in 0..LEADERS {
        let own = Arc::new(OwnCertificate::new(
            client.clone(),
            OWN_NAMESPACE,
            "pullpass",
            SignedDuration::from_secs(1),
            Arc::new(Timestamp::now),
        ));
        let metrics = Arc::new(Metrics::new(|| 0));
        let tls = Arc::new(ServedTls::new(metrics, Arc::new(Readiness::default())));
        let (following, serving) = (Arc::clone(&own), Arc::clone(&tls));
        runtime.spawn(async move {
            following
                .follow(&serving, TlsMaker::new(None), Duration::from_mins(1))
                .await;
        });
        runtime.spawn(async move { own.run().await });
        served.push(tls);
    }
    for tls in &served {
        let first = runtime.block_on(async { tokio::time::timeout(SOON, tls.first()).await })?;
        assert!(first.is_some());
    }
    world.wait_until_published()?;
    let before = world.secret()?;
    // Deleted under all of them, it comes back once, and they rotate it together.
    world.delete_secret()?;
    let first = before
        .as_ref()
        .map(|secret| entry(secret, "ca.crt"))
        .unwrap_or_default();
    let rotated = world.wait_for_secret("to be rotated once", |secret| {
        entry(secret, "ca.crt") != first
            && entry(secret, "next-ca.crt").is_empty()
            && entry(secret, "previous-ca.crt").is_empty()
    })?;
    assert_eq!(world.wait_until_published()?, decoded(&rotated, "/data/ca.crt")?);
    assert_eq!(world.secret()?, Some(rotated));
    runtime.shutdown_background();
    Ok(())
}

//! A Secret that somebody spoilt.

use serde_json::{Value, json};

use crate::load::begin_load;
use crate::world::{OWN_NAMESPACE, Test, World, entry};

/// "garbage"
const GARBAGE: &str = "Z2FyYmFnZQ==";

#[test]
fn a_spoilt_secret_is_mended_and_what_is_served_is_served_on() -> Test {
    let mut world = World::start()?;
    world.start_replicas(2, &["--ca-overlap=2"])?;
    world.wait_until_published()?;
    world.wait_until_admitted()?;
    let good = world.secret()?.ok_or("there is no Secret")?;
    let data = |secret: &Value| secret.get("data").cloned();
    let load = begin_load(&world)?;
    for (what, patch) in [
        ("tls.crt does not hold a certificate", json!({"tls.crt": GARBAGE})),
        (
            "tls.key does not hold a supported private key",
            json!({"tls.key": GARBAGE}),
        ),
        (
            "tls.key is not the key of tls.crt",
            json!({"tls.key": entry(&good, "ca.key")}),
        ),
        ("it has no ca.key", json!({"ca.key": null, "stray": GARBAGE})),
        ("ca.crt does not hold a certificate", json!({"ca.crt": GARBAGE})),
        (
            "ca.crt is not the certificate of an authority",
            json!({"ca.crt": entry(&good, "tls.crt"), "ca.key": entry(&good, "tls.key")}),
        ),
    ] {
        world.patch_secret(&json!({"data": patch}))?;
        world.wait_for_secret(what, |secret| data(secret) == data(&good))?;
        let logs = world.logs()?;
        assert!(logs.contains(what), "{what}: {logs}");
        assert!(logs.contains("the Secret was mended"), "{logs}");
        load.wait_for_more(5)?;
    }
    // One that can't be changed is made anew.
    world.patch_secret(&json!({"data": {"tls.crt": GARBAGE}, "immutable": true}))?;
    world.wait_for_secret("to be changeable", |secret| {
        secret.get("immutable").is_none() && entry(secret, "tls.crt") != GARBAGE
    })?;
    load.wait_for_more(5)?;
    let (admitted, failures) = load.end()?;
    assert!(
        failures.is_empty(),
        "{} of {admitted}: {failures:#?}",
        failures.len()
    );
    Ok(())
}

/// Nobody remembers what was there before.
#[test]
fn a_secret_that_was_spoilt_while_nobody_ran_is_made_anew() -> Test {
    let mut world = World::start()?;
    let foreign = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "webhook-certificate", "namespace": OWN_NAMESPACE},
        "data": {"tls.crt": GARBAGE, "other": GARBAGE},
    });
    world.cluster.apply(&foreign.to_string())?;
    world.start_replicas(2, &[])?;
    world.wait_until_published()?;
    world.wait_until_admitted()?;
    let made = world.secret()?.ok_or("there is no Secret")?;
    assert_eq!(entry(&made, "other"), "");
    Ok(())
}

//! A Secret that somebody spoilt.

use pullpass_test_support::wait_for;
use serde_json::{Value, json};

use crate::load::{begin_load, expect_none_lost};
use crate::world::{ACCOUNT, OWN_NAMESPACE, SOON, Test, World, entry};

/// "garbage"
const GARBAGE: &str = "Z2FyYmFnZQ==";
const REFUSAL: &str = "no Secrets are written here";

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
        assert!(logs.contains("the Secret was repaired"), "{logs}");
        load.wait_for_more(5)?;
    }
    // One that can't be changed is recreated, and holds what it held.
    world.patch_secret(&json!({"data": {"tls.crt": GARBAGE}, "immutable": true}))?;
    let changeable = world.wait_for_secret("to be changeable", |secret| {
        secret.get("immutable").is_none() && entry(secret, "tls.crt") != GARBAGE
    })?;
    assert_eq!(data(&changeable), data(&good));
    load.wait_for_more(5)?;
    expect_none_lost(load)
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

/// A Secret goes only where it is itself in the way.
#[test]
fn a_policy_that_refuses_secrets_costs_none() -> Test {
    let mut world = World::start()?;
    // Its type asks for entries that a certificate does not have.
    let foreign = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "webhook-certificate", "namespace": OWN_NAMESPACE},
        "type": "kubernetes.io/basic-auth",
        "data": {"username": GARBAGE},
    });
    world.cluster.apply(&foreign.to_string())?;
    world.start_replicas(2, &[])?;
    world.wait_until_published()?;
    let good = world.secret()?.ok_or("there is no Secret")?;
    assert_eq!(good.get("type"), Some(&json!("kubernetes.io/tls")));

    world.cluster.apply(&refusing_policy().to_string())?;
    wait_for("the policy to be in force", SOON, || {
        let account = format!("--as={ACCOUNT}");
        let namespace = format!("--namespace={OWN_NAMESPACE}");
        let annotate = [
            "annotate",
            "secret",
            "webhook-certificate",
            "a=b",
            "--dry-run=server",
        ];
        let tried = world
            .cluster
            .run(&[&annotate[..], &[&account, &namespace]].concat());
        tried.is_err_and(|error| error.to_string().contains(REFUSAL))
    })?;
    world.patch_secret(&json!({"data": {"tls.crt": GARBAGE}}))?;
    wait_for("a refusal", SOON, || {
        world.logs().is_ok_and(|logs| logs.contains(REFUSAL))
    })?;
    let kept = world.secret()?.ok_or("it was deleted")?;
    assert_eq!(text(&kept, "/metadata/uid"), text(&good, "/metadata/uid"));
    assert_eq!(entry(&kept, "ca.key"), entry(&good, "ca.key"));

    for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
        world.cluster.run(&["delete", kind, "no-secrets"])?;
    }
    let repaired =
        world.wait_for_secret("to be repaired", |secret| secret.get("data") == good.get("data"))?;
    assert_eq!(text(&repaired, "/metadata/uid"), text(&good, "/metadata/uid"));
    Ok(())
}

/// Refuses every Secret that pullpass writes, with the code of a Secret that is not valid.
fn refusing_policy() -> Value {
    let rules = json!([{
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["secrets"],
    }]);
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "no-secrets"},
            "spec": {
                "matchConstraints": {"resourceRules": rules},
                "matchConditions": [
                    {"name": "pullpass", "expression": format!("request.userInfo.username == '{ACCOUNT}'")},
                ],
                "validations": [{"expression": "false", "message": REFUSAL}],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "no-secrets"},
            "spec": {"policyName": "no-secrets", "validationActions": ["Deny"]},
        },
    ]})
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

//! What goes wrong at Entra ID and at the registry is said, and passes without a restart.

use pullpass_emulator::{Failure, Fault, RoleAssignment, Step};
use pullpass_test_support::wait_for;
use serde_json::json;

use crate::world::{SOON, Test, World, shared, text, wait_for_looks};

#[test]
fn a_wrong_password_is_said_and_the_right_one_is_taken_up() -> Test {
    let world = shared()?;
    let login = world.login()?;
    world.attach(&login, "wrong", &json!({}))?;
    let object = world.wait_for_reason(&login, "EntraRejected")?;
    let message = text(&object, "/status/conditions/0/message");
    assert!(
        message.contains("AADSTS7000215") && message.contains(&login.password_secret()),
        "{message}"
    );
    assert!(!message.contains("wrong"), "{message}");
    // Until then the Pod waits.
    let namespace = world.namespace_in_need(&login)?;
    world.cluster.apply(&login.secret(&login.password).to_string())?;
    world.wait_for_reason(&login, "Minted")?;
    world.wait_for_secret(&namespace, &login)?;
    Ok(())
}

#[test]
fn a_rotated_password_is_taken_up() -> Test {
    let world = shared()?;
    let login = world.attached(&json!({}))?;
    let namespace = world.namespace_in_need(&login)?;
    let refreshed = |secret: &serde_json::Value| {
        text(secret, "/metadata/annotations/pullpass.dev~1refreshed-at").to_owned()
    };
    let before = refreshed(&world.wait_for_secret(&namespace, &login)?);
    assert!(world.azure.rotate_secret(&login.client, "rotated")?);
    world.cluster.apply(&login.secret("rotated").to_string())?;
    world.wait_for_secret_that(&namespace, &login, "be refreshed", |secret| {
        refreshed(secret) > before
    })?;
    world.wait_for_reason(&login, "Minted")?;
    Ok(())
}

#[test]
fn a_credential_of_the_future_is_replaced_once() -> Test {
    let world = shared()?;
    let login = world.attached(&json!({"credential": {"kind": "ServicePrincipalPassword"}}))?;
    let namespace = world.namespace_in_need(&login)?;
    world.wait_for_secret(&namespace, &login)?;
    let name = format!("credential-{}", login.name);
    let patches = || -> Result<usize, Box<dyn std::error::Error>> {
        let events = world.cluster.audit_events()?;
        let is_ours = |event: &&serde_json::Value| {
            text(event, "/verb") == "patch"
                && text(event, "/objectRef/name") == name
                && text(event, "/user/username").ends_with(":pullpass")
        };
        Ok(events.iter().filter(is_ours).count())
    };
    // As if its maker's clock had been ahead.
    let ahead = (jiff::Timestamp::now() + jiff::SignedDuration::from_mins(10)).to_string();
    let annotation = format!("pullpass.dev/refreshed-at={ahead}");
    world.cluster.run(&[
        "annotate",
        "--overwrite",
        "--namespace=pullpass-system",
        "secret",
        &name,
        &annotation,
    ])?;
    world.wait_for_secret_that(&namespace, &login, "be as it is told", |secret| {
        text(secret, "/metadata/annotations/pullpass.dev~1refreshed-at") == ahead
    })?;
    let before = patches()?;
    assert!(world.azure.rotate_secret(&login.client, "rotated")?);
    world.cluster.apply(&login.secret("rotated").to_string())?;
    let config = |secret: &serde_json::Value| World::docker_config(secret).unwrap_or_default();
    world.wait_for_secret_that(&namespace, &login, "hold the new password", |secret| {
        config(secret).contains("rotated")
    })?;
    // Enough for a loop to show: the Secret is looked at again after each write.
    wait_for_looks(world)?;
    let written = patches()? - before;
    assert!((1..=2).contains(&written), "{written} writes");
    Ok(())
}

#[test]
fn a_password_that_comes_later_is_waited_for() -> Test {
    let world = shared()?;
    let login = world.login()?;
    world.cluster.apply(&login.acr_registry().to_string())?;
    let object = world.wait_for_reason(&login, "CredentialSecretMissing")?;
    let message = text(&object, "/status/conditions/0/message");
    assert!(
        message.contains(&login.password_secret()) && message.contains("pullpass-system"),
        "{message}"
    );
    world.cluster.apply(&login.secret(&login.password).to_string())?;
    world.wait_for_reason(&login, "Minted")?;
    Ok(())
}

#[test]
fn an_unknown_tenant_is_said() -> Test {
    let world = shared()?;
    let mut login = world.login()?;
    login.tenant = "ffffffff-0000-4000-8000-000000000000".to_owned();
    world.attach(&login, &login.password, &json!({}))?;
    let object = world.wait_for_reason(&login, "EntraRejected")?;
    let message = text(&object, "/status/conditions/0/message");
    assert!(message.contains("AADSTS90002"), "{message}");
    Ok(())
}

#[test]
fn a_role_that_arrives_late_is_waited_for() -> Test {
    let world = shared()?;
    let login = world.login()?;
    world.azure.revoke(&login.client, &login.host)?;
    world.attach(&login, &login.password, &json!({}))?;
    let object = world.wait_for_reason(&login, "ExchangeRejected")?;
    let message = text(&object, "/status/conditions/0/message");
    assert!(message.contains("AcrPull"), "{message}");
    let namespace = world.namespace_in_need(&login)?;
    world.azure.grant(RoleAssignment {
        propagation_seconds: 20,
        ..login.role()
    })?;
    world.wait_for_reason(&login, "Minted")?;
    world.wait_for_secret(&namespace, &login)?;
    // Twenty seconds of attempts that wait 2, 4, 8, 16 and 32 seconds, the first of which may try both audiences.
    let calls = world.azure.counts().calls_at(Step::Exchange, &login.host);
    assert!((3..=16).contains(&calls), "{calls} calls");
    Ok(())
}

#[test]
fn throttling_is_said_and_waited_out() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let failure = Failure::new(Step::Exchange, Fault::throttled(30));
    world.azure.inject(failure.at(&login.host).times(1));
    let begin = std::time::Instant::now();
    world.attach(&login, &login.password, &json!({}))?;
    world.wait_for_reason(&login, "Throttled")?;
    wait_for("the second call", SOON, || {
        world.azure.counts().calls_at(Step::Exchange, &login.host) > 1
    })?;
    // The clock was started before the first one. Without the header it would be tried again after two seconds.
    assert!(begin.elapsed().as_secs() >= 30, "{:?}", begin.elapsed());
    world.wait_for_reason(&login, "Minted")?;
    assert_eq!(world.azure.counts().calls_at(Step::Exchange, &login.host), 2);
    Ok(())
}

//! Pull secrets are where they should be, and nowhere else.

use std::error::Error;

use jiff::Timestamp;
use pullpass_emulator::Step;
use pullpass_test_support::{Login, wait_for};
use serde_json::{Value, json};

use crate::pull_rights::wait_for_right;
use crate::world::{
    SOON, Test, World, cluster_of_its_own, eager_for, make_namespaces, pull_secret, shared, text,
};

#[test]
fn detaching_leaves_no_secret_anywhere() -> Test {
    // The last sweep asks each namespace behind all other work, ten a second at most: other tests' are many.
    let cluster = cluster_of_its_own()?;
    let world = World::start(&cluster, 1, |_| {})?;
    let login = world.attached(&json!({}))?;
    let namespaces = [
        world.namespace_in_need(&login)?,
        world.namespace_in_need(&login)?,
        world.namespace_in_need(&login)?,
    ];
    for namespace in &namespaces {
        world.wait_for_secret(namespace, &login)?;
    }
    world.detach(&login)?;
    world.wait_until_nothing_is_left(&login)
}

/// When the first request of this verb on this resource of a namespace ended, as the API server saw it.
fn ended_at(world: &World, namespace: &str, verb: &str, resource: &str) -> Result<Timestamp, Box<dyn Error>> {
    let events = world.cluster.audit_events()?;
    let event = events.iter().find(|event| {
        text(event, "/objectRef/namespace") == namespace
            && text(event, "/objectRef/resource") == resource
            && text(event, "/verb") == verb
            && text(event, "/stage") == "ResponseComplete"
    });
    let event = event.ok_or_else(|| format!("no {verb} of {resource} in {namespace}"))?;
    Ok(text(event, "/stageTimestamp").parse()?)
}

#[test]
fn a_pull_secret_is_there_before_its_first_pod() -> Test {
    let world = shared()?;
    let login = world.attached(&json!({}))?;
    let first = world.namespace_in_need(&login)?;
    world.wait_for_secret(&first, &login)?;
    // A busy machine may take longer for a write than a review waits.
    for _ in 0..10 {
        let namespace = world.namespace_in_need(&login)?;
        let records = world.pullpass.wait_for_records(&namespace, 1)?;
        let outcome = records.first().map(|record| text(record, "/waited/pullSecret"));
        if outcome == Some("written") {
            let (secret, pod) = (
                ended_at(world, &namespace, "patch", "secrets")?,
                ended_at(world, &namespace, "create", "pods")?,
            );
            assert!(secret <= pod, "{secret} {pod}");
            return Ok(());
        }
        assert_eq!(outcome, Some("failed"), "{records:#?}");
    }
    Err("no pull secret was written while the review of its Pod waited".into())
}

#[test]
fn an_eager_registry_provisions_every_allowed_namespace() -> Test {
    let world = shared()?;
    let before = world.pullpass.new_namespace(&[("team", "eager")])?;
    let other = world.pullpass.new_namespace(&[])?;
    let login = world.attached(&eager_for("eager"))?;
    world.wait_for_secret(&before, &login)?;
    let after = world.pullpass.new_namespace(&[("team", "eager")])?;
    world.wait_for_secret(&after, &login)?;
    assert_eq!(world.secret(&other, &pull_secret(&login))?, None);
    Ok(())
}

#[test]
fn a_secret_that_is_deleted_or_edited_comes_back() -> Test {
    let world = shared()?;
    let login = world.attached(&json!({}))?;
    let namespace = world.namespace_in_need(&login)?;
    let secret = world.wait_for_secret(&namespace, &login)?;
    let data = |secret: &Value| text(secret, "/data/.dockerconfigjson").to_owned();
    let name = pull_secret(&login);
    world
        .cluster
        .run(&["delete", "secret", "--namespace", &namespace, &name])?;
    let back = world.wait_for_secret(&namespace, &login)?;
    assert_eq!(data(&back), data(&secret));
    let spoilt = r#"{"data": {".dockerconfigjson": "e30="}}"#;
    world.cluster.run(&[
        "patch",
        "secret",
        "--namespace",
        &namespace,
        &name,
        "--patch",
        spoilt,
    ])?;
    world.wait_for_secret_that(&namespace, &login, "be restored", |restored| {
        data(restored) == data(&secret)
    })?;
    Ok(())
}

#[test]
fn fifty_namespaces_cost_one_call_to_entra_and_one_exchange() -> Test {
    let world = shared()?;
    make_namespaces(world.cluster, "fifty", 50)?;
    let login = world.attached(&eager_for("fifty"))?;
    world.wait_for_secrets(&login, 50)?;
    let counts = world.azure.counts();
    assert_eq!(counts.calls_at(Step::EntraToken, &login.tenant), 1);
    assert_eq!(counts.calls_at(Step::Exchange, &login.host), 1);
    Ok(())
}

/// How often pullpass wrote a pull secret, as the API server saw it.
fn writes(world: &World, namespace: &str, login: &Login) -> Result<usize, Box<dyn Error>> {
    let events = world.cluster.audit_events()?;
    Ok(events
        .iter()
        .filter(|event| {
            text(event, "/verb") == "patch"
                && text(event, "/objectRef/namespace") == namespace
                && text(event, "/objectRef/name") == pull_secret(login)
        })
        .count())
}

#[test]
fn nothing_is_written_over_and_over() -> Test {
    let world = shared()?;
    let (login, namespace) = world.attached_to_one("upkeep")?;
    world.wait_for_secret(&namespace, &login)?;
    world.wait_for_served(&login, 1)?;
    // The last that the status tells of a new registry.
    wait_for_right(world, &login, "True")?;
    let objects = || -> Result<[Value; 3], Box<dyn Error>> {
        let secret = world.wait_for_secret(&namespace, &login)?;
        let minted = world
            .secret("pullpass-system", &format!("credential-{}", login.name))?
            .unwrap_or_default();
        Ok([secret, minted, world.registry(&login)?])
    };
    let before = objects()?;
    let written = writes(world, &namespace, &login)?;
    // It is applied again at each look at everything, which changes nothing.
    wait_for("three looks at everything", SOON, || {
        writes(world, &namespace, &login).is_ok_and(|now| now >= written + 3)
    })?;
    assert_eq!(objects()?, before);
    Ok(())
}

//! A rotation of the authority and of the certificate, while Pods are admitted without a pause.

use pullpass_test_support::wait_for;
use serde_json::Value;

use crate::load::Load;
use crate::world::{NAMESPACE, SOON, Test, World, decoded, entry};

const ADMISSIONS: usize = 25;

#[test]
fn a_rotation_loses_no_admission_though_the_leader_is_killed_between_its_phases() -> Test {
    let mut world = World::start()?;
    // The Lease of a leader that was killed ends after 15 seconds, and the overlap is longer than that.
    world.start_replicas(2, &["--ca-overlap=20"])?;
    world.wait_until_published()?;
    world.wait_until_admitted()?;
    let before = world.secret()?.ok_or("there is no Secret")?;
    let load = Load::start(world.cluster.kubeconfig(), NAMESPACE)?;
    load.wait_for_more(ADMISSIONS)?;

    // Deleting the Secret asks for another authority.
    world.delete_secret()?;
    let trusted = world.wait_for_secret("the next authority to be trusted", |secret| {
        secret
            .pointer("/metadata/annotations/pullpass.dev~1next-ca-trusted-since")
            .is_some()
    })?;
    for key in ["ca.crt", "tls.crt", "tls.key"] {
        assert_eq!(entry(&trusted, key), entry(&before, key), "{key}");
    }
    let both = world.wait_until_published()?;
    assert_eq!(
        both,
        format!(
            "{}{}",
            decoded(&trusted, "/data/next-ca.crt")?,
            decoded(&trusted, "/data/ca.crt")?
        )
    );
    let leader = world.wait_for_leader(&[0, 1])?;
    let other = 1 - leader;
    world
        .replicas
        .get_mut(leader)
        .ok_or("no leader")?
        .process()
        .kill()?;
    // What was on its way to it is lost, whoever's certificate it was: that is not what is looked at here.
    let (admitted, _) = load.end()?;
    assert!(admitted >= ADMISSIONS, "{admitted}");
    world.wait_until_admitted()?;
    let load = Load::start(world.cluster.kubeconfig(), NAMESPACE)?;
    let next = entry(&trusted, "next-ca.crt").to_owned();
    let promoted = world.wait_for_secret("the next authority to take over", |secret| {
        entry(secret, "ca.crt") == next
    })?;
    assert_eq!(entry(&promoted, "previous-ca.crt"), entry(&before, "ca.crt"));
    assert_eq!(world.wait_for_leader(&[other])?, other);
    assert_eq!(world.wait_until_published()?, both);
    // A second one, which takes what the Secret holds at once.
    world.start_replicas(1, &["--ca-overlap=20"])?;
    load.wait_for_more(ADMISSIONS)?;
    let done = world.wait_for_secret("the previous authority to go", |secret| {
        entry(secret, "previous-ca.crt").is_empty()
    })?;
    let bundle = world.wait_until_published()?;
    assert_eq!(bundle, decoded(&promoted, "/data/ca.crt")?);
    load.wait_for_more(ADMISSIONS)?;
    let (admitted, failures) = load.end()?;
    assert!(
        failures.is_empty(),
        "{} of {admitted}: {failures:#?}",
        failures.len()
    );
    assert_eq!(entry(&done, "tls.crt"), entry(&promoted, "tls.crt"));
    Ok(())
}

#[test]
fn rotations_one_after_the_other_lose_no_admission() -> Test {
    const ROTATIONS: usize = 3;
    let mut world = World::start()?;
    world.start_replicas(2, &["--ca-overlap=2"])?;
    world.wait_until_published()?;
    world.wait_until_admitted()?;
    let load = Load::start(world.cluster.kubeconfig(), NAMESPACE)?;
    for _ in 0..ROTATIONS {
        load.wait_for_more(ADMISSIONS)?;
        let before = world.secret()?.ok_or("there is no Secret")?;
        world.delete_secret()?;
        let done = world.wait_for_secret("a rotation to end", |secret| {
            let is_gone = |key| entry(secret, key).is_empty();
            entry(secret, "ca.crt") != entry(&before, "ca.crt")
                && is_gone("next-ca.crt")
                && is_gone("previous-ca.crt")
        })?;
        assert_ne!(entry(&done, "tls.key"), entry(&before, "tls.key"));
        world.wait_until_published()?;
        for replica in &world.replicas {
            wait_for("every replica to serve it", SOON, || {
                world.admit().is_ok() && replica.metrics().is_ok()
            })?;
        }
    }
    load.wait_for_more(ADMISSIONS)?;
    let (admitted, failures) = load.end()?;
    assert!(
        failures.is_empty(),
        "{} of {admitted}: {failures:#?}",
        failures.len()
    );
    let count = |secret: &Value| {
        secret
            .pointer("/data")
            .and_then(Value::as_object)
            .map(serde_json::Map::len)
    };
    assert_eq!(world.secret()?.as_ref().and_then(count), Some(4));
    Ok(())
}

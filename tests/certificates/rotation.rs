//! A rotation of the authority and of the certificate, while Pods are admitted without a pause.

use std::net::{Ipv4Addr, SocketAddr};

use pullpass_test_support::{Webhook, served_certificate, wait_for};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use crate::load::{begin_load, expect_none_lost};
use crate::world::{SOON, Test, World, decoded, entry};

/// What the API server calls.
const HOST: &str = "pullpass.pullpass-system.svc";
const ADMISSIONS: usize = 25;

#[test]
fn a_rotation_with_killed_leaders_loses_no_admission() -> Test {
    let mut world = World::start()?;
    // The Lease of a leader that was killed ends after 15 seconds, and the overlap is longer than that.
    world.start_replicas(2, &["--ca-overlap=20"])?;
    world.wait_until_published()?;
    world.wait_until_admitted()?;
    let before = world.secret()?.ok_or("there is no Secret")?;
    let load = begin_load(&world)?;
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
    load.wait_for_more(ADMISSIONS)?;
    expect_none_lost(load)?;
    // What is on its way to a replica that is killed is lost, whichever certificate it has: not looked at here.
    let leader = world.wait_for_leader(&[0, 1])?;
    let other = 1 - leader;
    world
        .replicas
        .get_mut(leader)
        .ok_or("no leader")?
        .process()
        .kill()?;
    world.wait_until_admitted()?;
    let load = begin_load(&world)?;
    let next = entry(&trusted, "next-ca.crt").to_owned();
    let promoted = world.wait_for_secret("the next authority to take over", |secret| {
        entry(secret, "ca.crt") == next
    })?;
    assert_eq!(entry(&promoted, "previous-ca.crt"), entry(&before, "ca.crt"));
    assert_eq!(world.wait_for_leader(&[other])?, other);
    assert_eq!(world.wait_until_published()?, both);
    // A second one, which takes what the Secret holds immediately.
    world.start_replicas(1, &["--ca-overlap=20"])?;
    load.wait_for_more(ADMISSIONS)?;
    let done = world.wait_for_secret("the previous authority to go", |secret| {
        entry(secret, "previous-ca.crt").is_empty()
    })?;
    let bundle = world.wait_until_published()?;
    assert_eq!(bundle, decoded(&promoted, "/data/ca.crt")?);
    load.wait_for_more(ADMISSIONS)?;
    expect_none_lost(load)?;
    assert_eq!(entry(&done, "tls.crt"), entry(&promoted, "tls.crt"));
    Ok(())
}

fn address(replica: &Webhook) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, replica.port()))
}

fn is_in_pem(certificate: &CertificateDer<'_>, pem: &str) -> bool {
    CertificateDer::from_pem_slice(pem.as_bytes()).is_ok_and(|expected| expected == *certificate)
}

#[test]
fn rotations_one_after_the_other_lose_no_admission() -> Test {
    const ROTATIONS: usize = 3;
    let mut world = World::start()?;
    world.start_replicas(2, &["--ca-overlap=2"])?;
    world.wait_until_published()?;
    world.wait_until_admitted()?;
    let load = begin_load(&world)?;
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
        // Every replica serves it, and clients that trust what is published and nothing else accept it.
        let bundle = world.wait_until_published()?;
        let expected = decoded(&done, "/data/tls.crt")?;
        for replica in &world.replicas {
            wait_for(
                "the new certificate to be served",
                SOON,
                || match served_certificate(address(replica), HOST, &bundle) {
                    Ok(served) if is_in_pem(&served, &expected) => Ok(()),
                    Ok(_) => Err("it is another one".to_owned()),
                    Err(error) => Err(error.to_string()),
                },
            )?;
        }
    }
    load.wait_for_more(ADMISSIONS)?;
    expect_none_lost(load)?;
    let count = |secret: &Value| {
        secret
            .pointer("/data")
            .and_then(Value::as_object)
            .map(serde_json::Map::len)
    };
    assert_eq!(world.secret()?.as_ref().and_then(count), Some(4));
    Ok(())
}

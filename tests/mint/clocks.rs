//! Clocks that differ.

use jiff::{SignedDuration, Timestamp};
use pullpass::azure::mint::MintIdentity;
use pullpass_emulator::RsaSigner;
use std::sync::Arc;

use crate::world::{
    HOUR, PASSWORD, World, app, as_identity, assert_lives, config, for_repositories, minter, with_secret,
};

#[tokio::test]
async fn tokens_end_by_our_clock_when_the_servers_differs() {
    let world = World::new(config()).await;
    for hours in [-30, -2, 2, 30] {
        world.emulator.set_clock_offset(SignedDuration::from_hours(hours));
        assert_lives(&world.mint(&with_secret(PASSWORD)).await.unwrap(), HOUR * 3);
        let access = world.mint(&for_repositories(&["a"])).await.unwrap();
        assert_lives(&access, SignedDuration::from_mins(75));
    }
}

#[tokio::test]
async fn our_own_clock_is_the_one_that_was_given() {
    let world = World::new(config()).await;
    let noon: Timestamp = "2031-01-01T12:00:00Z".parse().unwrap();
    let minter = minter(&world.emulator, &world.http, Arc::new(move || noon));
    let credential = minter.mint(&with_secret(PASSWORD)).await.unwrap();
    assert_eq!(credential.issued_at, noon);
    let left = credential.expires_at.unwrap().duration_since(noon);
    assert!((left - HOUR * 3).abs() < SignedDuration::from_secs(5), "{left:?}");
}

#[tokio::test]
async fn a_clock_that_is_far_off_is_said_where_it_matters() {
    let leaf = RsaSigner::FIRST.certificate("puller").unwrap();
    let mut config = config();
    config.principals[0].certificates = vec![leaf.clone()];
    let world = World::new(config).await;
    world.emulator.set_clock_offset(HOUR);
    let error = world
        .refused(&as_identity(MintIdentity::ClientCertificate {
            app: app(),
            pem: format!("{leaf}{}", RsaSigner::FIRST.pem()).into(),
            origin: String::new(),
        }))
        .await;
    assert!(error.to_string().contains("AADSTS700024"), "{error}");
    assert!(error.to_string().contains("set this machine's clock"), "{error}");
}

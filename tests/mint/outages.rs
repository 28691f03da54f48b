//! Throttling, outages, and ways through the network.

use jiff::Timestamp;
use pullpass::api::reason::Reason;
use pullpass::azure::mint::{ManagedIdentity, MintIdentity};
use pullpass::azure::service_error::ServiceError;
use pullpass::http::{HttpClient, HttpFailure, HttpOptions, Proxy};
use pullpass_emulator::{Emulator, Failure, Fault, Step};
use std::sync::Arc;
use std::time::Duration;

use crate::world::{PASSWORD, World, as_identity, config, for_repositories, minter, options, with_secret};

#[tokio::test]
async fn throttling_is_no_refusal_and_has_its_wait() {
    let world = World::new(config()).await;
    for (step, fault, reason, wait) in [
        (
            Step::EntraToken,
            Fault::throttled(17),
            Reason::Throttled,
            Some(17),
        ),
        (Step::Exchange, Fault::throttled(18), Reason::Throttled, Some(18)),
        (Step::Token, Fault::throttled(19), Reason::Throttled, Some(19)),
        (Step::Exchange, Fault::status(429), Reason::Throttled, None),
        (Step::Exchange, unavailable("20"), Reason::Unreachable, Some(20)),
        (
            Step::Exchange,
            unavailable("Fri, 31 Dec 2100 00:00:00 GMT"),
            Reason::Unreachable,
            Some(3600),
        ),
        (
            Step::EntraToken,
            unavailable("nonsense"),
            Reason::Unreachable,
            None,
        ),
    ] {
        world.emulator.clear_failures();
        world.emulator.reset_counts();
        world.emulator.inject(Failure::new(step, fault.clone()));
        let error = world.mint(&for_repositories(&["a"])).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{fault:?}");
        assert_eq!(error.retry_after(), wait.map(Duration::from_secs), "{fault:?}");
        assert_eq!(world.emulator.counts().calls(step), 1, "{fault:?}");
    }
}

fn unavailable(retry_after: &str) -> Fault {
    Fault::Status {
        status: 503,
        retry_after: Some(retry_after.to_owned()),
        body: Some("<html>gone</html>".to_owned()),
    }
}

#[tokio::test]
async fn outages_are_unreachable_and_end_the_attempt() {
    let world = World::with(config(), |options| {
        options.request_timeout = Duration::from_millis(300);
    })
    .await;
    let elsewhere = Fault::Redirect {
        location: "https://evil.example/".to_owned(),
    };
    for (fault, text) in [
        (Fault::Hang, "no whole answer in time"),
        (Fault::SlowBody { millis_per_byte: 20 }, "no whole answer in time"),
        (Fault::Reset, "closed before the whole answer"),
        (Fault::Garbage, "not what this service gives"),
        (Fault::Empty, "not what this service gives"),
        (Fault::status(500), "the service failed (HTTP 500)"),
        (elsewhere, "redirect (HTTP 307)"),
    ] {
        for step in [Step::EntraToken, Step::Exchange, Step::Token] {
            world.emulator.clear_failures();
            world.emulator.reset_counts();
            world.emulator.inject(Failure::new(step, fault.clone()));
            let error = world.mint(&for_repositories(&["a"])).await.unwrap_err();
            assert_eq!(error.reason(), Reason::Unreachable, "{step:?} {fault:?}: {error}");
            assert!(error.to_string().contains(text), "{step:?} {fault:?}: {error}");
            assert_eq!(world.emulator.counts().calls(step), 1, "{step:?} {fault:?}");
            let counts = world.emulator.counts();
            assert!(counts.calls(Step::EntraToken) == 1 && counts.calls(Step::Exchange) <= 1);
        }
    }
}

#[tokio::test]
async fn the_imds_endpoint_is_asked_once_however_it_fails() {
    let world = World::new(config()).await;
    let request = as_identity(MintIdentity::ManagedIdentity(ManagedIdentity::System));
    let throttled = Fault::status(429);
    // Other clouds have something at that address too, which says 404.
    for (fault, reason, is_elsewhere) in [
        (Fault::throttled(7), Reason::Throttled, false),
        (throttled, Reason::Throttled, false),
        (Fault::status(410), Reason::Unreachable, false),
        (Fault::status(500), Reason::Unreachable, false),
        (Fault::status(404), Reason::Unreachable, true),
        (Fault::Reset, Reason::Unreachable, true),
        (Fault::Empty, Reason::Unreachable, true),
        (Fault::Garbage, Reason::Unreachable, true),
    ] {
        world.emulator.clear_failures();
        world.emulator.reset_counts();
        world.emulator.inject(Failure::new(Step::Imds, fault.clone()));
        let error = world.mint(&request).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{fault:?}: {error}");
        assert_eq!(world.emulator.counts().calls(Step::Imds), 1, "{fault:?}");
        let advice = error
            .to_string()
            .contains("managed identities exist only on Azure's machines");
        assert_eq!(advice, is_elsewhere, "{fault:?}: {error}");
    }
}

#[tokio::test]
async fn a_managed_identity_endpoint_may_be_slow() {
    let mut config = config();
    config.principals[0].managed_identity = Some(pullpass_emulator::ManagedIdentity::default());
    let world = World::new(config).await;
    let request = as_identity(MintIdentity::ManagedIdentity(ManagedIdentity::System));
    world
        .emulator
        .inject(Failure::new(Step::Imds, Fault::Delay { millis: 1500 }));
    assert!(world.mint(&request).await.is_ok());
    assert_eq!(world.emulator.counts().calls(Step::Imds), 1);
}

#[tokio::test]
async fn a_proxy_is_used_where_no_address_is_given() {
    let emulator = Emulator::start(config()).await.unwrap();
    let http = HttpClient::new(HttpOptions {
        resolve: Vec::new(),
        proxy: Some(Proxy::new(&format!("http://{}", emulator.proxy_addr()), "").unwrap()),
        ..options(&emulator)
    })
    .unwrap();
    let minter = minter(&emulator, &http, Arc::new(Timestamp::now));
    assert!(minter.mint(&with_secret(PASSWORD)).await.is_ok());
}

#[tokio::test]
async fn an_unknown_certificate_authority_is_a_tls_failure() {
    let ours = World::new(config()).await;
    let theirs = Emulator::start(config()).await.unwrap();
    let http = HttpClient::new(HttpOptions {
        extra_ca: options(&ours.emulator).extra_ca,
        ..options(&theirs)
    })
    .unwrap();
    let error = minter(&theirs, &http, Arc::new(Timestamp::now))
        .mint(&with_secret(PASSWORD))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Reason::Unreachable);
    let Some(ServiceError::NoAnswer(failure)) = error.service_error() else {
        panic!("{error}");
    };
    assert!(matches!(failure.failure(), HttpFailure::Tls(_)), "{failure}");
}

//! Injected failures.

use std::time::{Duration, Instant};

use http::Method;
use jiff::SignedDuration;
use jiff::fmt::rfc2822::DateTimeParser;
use pullpass_emulator::{Failure, Fault, Registry, Step};

use crate::client::*;

async fn challenge(client: &Client) -> Outcome {
    client.get(&format!("https://{REGISTRY}/v2/"), "").await
}

#[tokio::test]
async fn an_injected_status_holds_for_its_step_and_target_only() {
    let (emulator, client) = start().await;
    emulator
        .put_registry(Registry::new(TENANT, "other.azurecr.io"))
        .unwrap();
    let throttled = Failure::new(Step::Exchange, Fault::throttled(7))
        .at(REGISTRY)
        .times(2);
    emulator.inject(throttled);
    let token = client.entra_token(ACR).await;
    let other = client.exchange("other.azurecr.io", &token).await.unwrap();
    assert_eq!(other.header("x-emulator-reason"), "no role");
    for _ in 0..2 {
        let answer = client.exchange(REGISTRY, &token).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "7"));
        assert_eq!(answer.json()["errors"][0]["code"], "TOOMANYREQUESTS");
    }
    client
        .exchange(REGISTRY, &token)
        .await
        .unwrap()
        .token("refresh_token");
    let counts = emulator.counts();
    assert_eq!(counts.calls_at(Step::Exchange, REGISTRY), 3);
    let count = counts
        .0
        .iter()
        .find(|count| count.step == Step::Exchange && count.target.as_deref() == Some(REGISTRY));
    assert_eq!(count.unwrap().refused, 2);
}

#[tokio::test]
async fn each_status_fails_each_step_until_it_is_cleared() {
    let (emulator, client) = start().await;
    for status in [401, 403, 413, 500, 503] {
        for step in [
            Step::EntraToken,
            Step::Challenge,
            Step::Exchange,
            Step::Token,
            Step::Manifest,
        ] {
            emulator.inject(Failure::new(step, Fault::status(status)));
        }
        for _ in 0..2 {
            let entra = client.entra(ACR, SECRET).await.unwrap();
            assert!(entra.json()["error_codes"].is_array());
            let manifest = format!("https://{REGISTRY}/v2/app/manifests/v1");
            for answer in [
                entra,
                challenge(&client).await.unwrap(),
                client.exchange(REGISTRY, "x").await.unwrap(),
                client.scoped(REGISTRY, ("a", "b"), "").await.unwrap(),
                client.get(&manifest, "").await.unwrap(),
            ] {
                assert_eq!(answer.status, status);
            }
        }
        emulator.clear_failures();
    }
    client.refresh_token(REGISTRY).await;
}

#[tokio::test]
async fn imds_fails_too() {
    let (emulator, _client) = start().await;
    emulator.inject(Failure::new(Step::Imds, Fault::throttled(1)));
    let request = request(Method::GET, "/metadata/identity/oauth2/token", "", "");
    let answer = plain(emulator.imds_addr(), request).await.unwrap();
    assert_eq!(answer.status, 429);
}

#[tokio::test]
async fn bodies_are_empty_garbage_or_a_callers_own() {
    let (emulator, client) = start().await;
    emulator.inject(Failure::new(Step::EntraToken, Fault::Empty).times(1));
    emulator.inject(Failure::new(Step::EntraToken, Fault::Garbage).times(1));
    let body = Some("teapot".to_owned());
    let own = Fault::Status {
        status: 418,
        retry_after: None,
        body,
    };
    emulator.inject(Failure::new(Step::EntraToken, own).at(TENANT).times(1));
    let empty = client.entra(ACR, SECRET).await.unwrap();
    assert_eq!((empty.status.as_u16(), &empty.body[..]), (200, &b"{}"[..]));
    let garbage = client.entra(ACR, SECRET).await.unwrap();
    assert_eq!(garbage.status, 200);
    assert!(std::str::from_utf8(&garbage.body).is_err());
    let own = client.entra(ACR, SECRET).await.unwrap();
    assert_eq!((own.status.as_u16(), &own.body[..]), (418, &b"teapot"[..]));
}

#[tokio::test]
async fn a_challenge_can_lead_elsewhere() {
    let (emulator, client) = start().await;
    let host = "evil.example".to_owned();
    emulator.inject(Failure::new(Step::Challenge, Fault::WrongRealm { host }).times(1));
    let location = "https://evil.example/v2/".to_owned();
    emulator.inject(Failure::new(Step::Challenge, Fault::Redirect { location }).times(1));
    let answer = challenge(&client).await.unwrap();
    let realm = answer.header("www-authenticate");
    assert!(
        realm.starts_with(r#"Bearer realm="https://evil.example/oauth2/token""#),
        "{realm}"
    );
    let answer = challenge(&client).await.unwrap();
    assert_eq!(answer.status, 307);
    assert_eq!(answer.header("location"), "https://evil.example/v2/");
}

#[tokio::test]
async fn connections_hang_are_slow_and_are_reset() {
    let (emulator, client) = start().await;
    emulator.inject(Failure::new(Step::Challenge, Fault::Hang).times(1));
    tokio::select! {
        answer = challenge(&client) => panic!("{answer:?}"),
        // The pause is long for an answer, and begins when the call has come.
        () = async {
            while emulator.counts().calls(Step::Challenge) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        } => {}
    }

    emulator.inject(Failure::new(Step::Challenge, Fault::Reset).times(1));
    let error = challenge(&client).await.unwrap_err();
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
    let mut reset = false;
    while let Some(cause) = source {
        let io = cause.downcast_ref::<std::io::Error>();
        reset |= io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionReset);
        source = cause.source();
    }
    assert!(reset, "{error:?}");

    emulator.inject(Failure::new(Step::Challenge, Fault::Delay { millis: 200 }).times(1));
    let start = Instant::now();
    assert_eq!(challenge(&client).await.unwrap().status, 401);
    assert!(start.elapsed() >= Duration::from_millis(200));

    emulator.inject(Failure::new(Step::Challenge, Fault::SlowBody { millis_per_byte: 2 }).times(1));
    let start = Instant::now();
    let slow = challenge(&client).await.unwrap();
    assert_eq!(slow.json()["errors"][0]["code"], "UNAUTHORIZED");
    assert!(start.elapsed() >= Duration::from_millis(2) * u32::try_from(slow.body.len()).unwrap());
    assert_eq!(emulator.counts().calls(Step::Challenge), 4);
}

#[tokio::test]
async fn http2_is_served_and_reset_alike() {
    let (emulator, client) = start().await;
    let url = format!("https://{REGISTRY}/v2/");
    let ask = || client.http2(request(Method::GET, &url, "", ""));
    let answer = ask().await.unwrap();
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").contains(REGISTRY));
    emulator.inject(Failure::new(Step::Challenge, Fault::Reset).times(1));
    assert!(ask().await.is_err());
    assert_eq!(ask().await.unwrap().status, 401);
}

#[tokio::test]
async fn a_skewed_clock_shows_in_the_date_and_in_the_tokens() {
    let (emulator, client) = start().await;
    let real = jiff::Timestamp::now().as_second();
    emulator.set_clock_offset(SignedDuration::from_secs(-900));
    let answer = client.entra(ACR, SECRET).await.unwrap();
    let date = DateTimeParser::new()
        .parse_timestamp(answer.header("date"))
        .unwrap()
        .as_second();
    let iat = claims(&answer.token("access_token"))["iat"].as_i64().unwrap();
    for time in [date, iat] {
        assert!((real - 902..=real - 840).contains(&time), "{time} {real}");
    }
    client.refresh_token(REGISTRY).await;
}

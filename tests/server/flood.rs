//! What clients without credentials may do to the port, and that reviews are answered all the same.

use std::time::Duration;

use http::{Method, StatusCode};
use pullpass::server::{BodyLimits, Limits};
use serde_json::{Value, json};

use crate::client::{Client, streams};
use crate::fixture::{Fixture, metric, review};
use crate::silence::{Pending, silent_connection, tls_without_request};

/// What a body takes before any of it is there.
const FIRST: usize = 16 << 10;

fn refused(reason: &str) -> String {
    format!("pullpass_requests_refused_total{{reason=\"{reason}\"}}")
}

/// A review of about that many bytes.
fn review_of(bytes: usize) -> Vec<u8> {
    let mut review: Value = serde_json::from_slice(&review("myregistry.azurecr.io/app:1")).unwrap();
    review["request"]["object"]["metadata"]["annotations"] = json!({"note": "x".repeat(bytes)});
    serde_json::to_vec(&review).unwrap()
}

#[tokio::test]
async fn idle_bodies_delay_no_review() {
    let fixture = Fixture::start_one_at_a_time();
    let mut pending = Vec::new();
    for _ in 0..200 {
        pending.push(Pending::start(&fixture, 10, b"").await);
    }
    let client = Client::h2(&fixture).await;
    let answer = client.review(&review("myregistry.azurecr.io/app:1")).await;
    assert_eq!(answer["response"]["allowed"], true);
    metric(&fixture, &refused("slow-body"), "0").await;
    metric(&fixture, "pullpass_connections", "201").await;
    drop(pending);
    metric(&fixture, "pullpass_connections", "1").await;
}

#[tokio::test]
async fn idle_bodies_of_one_connection_delay_no_review() {
    let fixture = Fixture::start_one_at_a_time();
    let client = Client::h2(&fixture).await;
    let mut uploads = Vec::new();
    for _ in 0..50 {
        uploads.push(client.begin(&review("nginx")).await);
    }
    let answer = client.review(&review("myregistry.azurecr.io/app:1")).await;
    assert_eq!(answer["response"]["allowed"], true);
    drop(uploads);
}

#[tokio::test]
async fn a_body_without_room_is_refused_and_counted() {
    let fixture = Fixture::start_with_bodies(BodyLimits {
        all_small: 4 * FIRST,
        ..BodyLimits::default()
    });
    let first = Pending::start(&fixture, 10, b"").await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(Pending::start(&fixture, 10, b"").await);
    }
    let client = Client::h2(&fixture).await;
    let answer = client.review(&review("myregistry.azurecr.io/app:1")).await;
    assert_eq!(answer["response"]["allowed"], true);
    let answer = first.answer().await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    metric(&fixture, &refused("memory"), "1").await;
}

/// As the API server, which tries again a second after a 429.
#[tokio::test]
async fn a_large_upload_that_stalls_makes_room_for_another() {
    let fixture = Fixture::start_with_bodies(BodyLimits {
        all_large: 1 << 20,
        ..BodyLimits::default()
    });
    let body = review_of(900_000);
    let stalled = Pending::start(&fixture, body.len(), &body[..body.len() - 1]).await;
    let client = Client::h2(&fixture).await;
    let poll = async {
        loop {
            let (status, text) = client
                .send(&Method::POST, "/mutate", "application/json", body.clone())
                .await;
            if status == StatusCode::OK {
                return;
            }
            assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{text}");
            client.review(&review("nginx")).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), poll)
        .await
        .expect("the large review is answered");
    let answer = stalled.answer().await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
}

#[tokio::test]
async fn a_review_as_large_as_the_api_server_sends_is_answered() {
    let fixture = Fixture::start(Limits::default());
    let client = Client::h2(&fixture).await;
    let answer = client.review(&review_of((32 << 20) - 1000)).await;
    assert_eq!(
        answer["response"]["auditAnnotations"]["injected"],
        "pullpass-mine"
    );
}

/// An update has the Pod twice, as it is and as it was.
#[tokio::test]
async fn an_update_as_large_as_the_api_server_sends_is_judged() {
    let fixture = Fixture::start(Limits::default());
    let client = Client::h2(&fixture).await;
    let mut update: Value = serde_json::from_slice(&review_of((16 << 20) - 1000)).unwrap();
    update["request"]["operation"] = json!("UPDATE");
    update["request"]["oldObject"] = update["request"]["object"].take();
    update["request"]["object"] = update["request"]["oldObject"].clone();
    for (old_image, decision) in [
        ("nginx", "uncovered"),
        ("myregistry.azurecr.io/app:1", "not-applicable"),
    ] {
        update["request"]["oldObject"]["spec"]["containers"][0]["image"] = json!(old_image);
        let body = serde_json::to_vec(&update).unwrap();
        assert!(body.len() > (32 << 20) - 3_000, "{}", body.len());
        let answer = client.review(&body).await;
        assert_eq!(answer["response"]["auditAnnotations"]["decision"], decision);
    }
}

#[tokio::test]
async fn a_larger_body_is_refused_before_it_is_sent() {
    let fixture = Fixture::start(Limits::default());
    let client = Client::h2(&fixture).await;
    let upload = client.begin_with_length((32 << 20) + 1).await;
    assert_eq!(upload, StatusCode::PAYLOAD_TOO_LARGE);
    metric(&fixture, &refused("too-large"), "1").await;
}

#[tokio::test]
async fn a_body_that_stops_arriving_is_ended() {
    let long = Duration::from_hours(1);
    let short = Duration::from_millis(50);
    for (idle_timeout, read_timeout) in [(short, long), (long, short)] {
        let fixture = Fixture::start_with_bodies(BodyLimits {
            idle_timeout,
            read_timeout,
            ..BodyLimits::default()
        });
        let answer = Pending::start(&fixture, 10, b"{").await.answer().await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        metric(&fixture, &refused("slow-body"), "1").await;
    }
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_counted() {
    let fixture = Fixture::start(Limits::default());
    let pending = Pending::start(&fixture, 10, b"{").await;
    drop(pending);
    metric(&fixture, "pullpass_connections", "0").await;
    let client = Client::h2(&fixture).await;
    drop(client.begin(&review("nginx")).await);
    metric(&fixture, &refused("incomplete"), "1").await;
}

#[tokio::test]
async fn too_many_connections_end_those_without_a_review() {
    let limits = Limits {
        connections: 3,
        ..Limits::default()
    };
    let fixture = Fixture::start(limits);
    let useful = Client::h2(&fixture).await;
    useful.review(&review("nginx")).await;
    let silent = silent_connection(&fixture).await;
    metric(&fixture, "pullpass_connections", "2").await;
    let pending = Pending::start(&fixture, 10, b"").await;
    let newcomer = Client::h2(&fixture).await;
    newcomer.review(&review("nginx")).await;
    assert!(silent.closed_by_server().await);
    metric(&fixture, &refused("connections"), "1").await;
    let another = Client::h2(&fixture).await;
    another.review(&review("nginx")).await;
    assert_eq!(pending.answer().await, "");
    useful.review(&review("nginx")).await;
    newcomer.review(&review("nginx")).await;
    metric(&fixture, "pullpass_connections", "3").await;
    metric(&fixture, &refused("connections"), "2").await;
    drop(another);
}

#[tokio::test]
async fn streams_of_a_connection_are_bounded() {
    let fixture = Fixture::start(Limits::default());
    assert_eq!(streams(&fixture).await, 64);
}

#[tokio::test]
async fn an_idle_connection_ends_in_both_versions_of_http() {
    let limits = Limits {
        idle_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let fixture = Fixture::start(limits);
    let client = Client::http1(&fixture).await;
    client.review(&review("nginx")).await;
    client.closed().await;
    Client::h2(&fixture).await.closed().await;
    metric(&fixture, "pullpass_connections", "0").await;
}

/// The API server keeps a connection for 90 seconds.
#[tokio::test]
async fn a_connection_that_had_a_request_is_kept_for_the_next() {
    let limits = Limits {
        // The first request has to come within it, also on a busy machine.
        header_timeout: Duration::from_secs(2),
        ..Limits::default()
    };
    assert!(limits.idle_timeout > Duration::from_secs(90));
    let fixture = Fixture::start(limits);
    let client = Client::h2(&fixture).await;
    assert!(tls_without_request(&fixture).await.closed_by_server().await);
    client.review(&review("nginx")).await;
}

#[tokio::test]
async fn a_handshake_that_fails_or_takes_too_long_is_counted() {
    let limits = Limits {
        // The second handshake has to end within it, also on a busy machine.
        header_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let fixture = Fixture::start(limits);
    assert!(silent_connection(&fixture).await.closed_by_server().await);
    metric(&fixture, &refused("handshake"), "1").await;
    assert!(tls_without_request(&fixture).await.closed_by_server().await);
    metric(&fixture, &refused("handshake"), "1").await;
}

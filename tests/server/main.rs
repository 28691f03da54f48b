//! The server over real sockets, with a real TLS client: what it answers, refuses, swaps and records.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod authority;
mod client;
mod fixture;
mod flood;
mod silence;

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use authority::Authority;
use client::Client;
use fixture::{Fixture, review};
use http::{Method, StatusCode};
use pullpass::server::{Limits, TlsError, TlsFiles, TlsReloader};
use serde_json::{Value, json};

#[tokio::test]
async fn a_review_is_answered_over_both_versions_of_http() {
    let fixture = Fixture::start(Limits::default());
    for client in [Client::http1(&fixture).await, Client::h2(&fixture).await] {
        let answer = client.review(&review("myregistry.azurecr.io/app:1")).await;
        assert_eq!(answer["response"]["uid"], "u-1");
        assert_eq!(answer["response"]["allowed"], true);
        assert_eq!(answer["response"]["patchType"], "JSONPatch");
        assert_eq!(
            answer["response"]["auditAnnotations"]["injected"],
            "pullpass-mine"
        );
    }
}

#[tokio::test]
async fn a_request_that_is_no_review_gets_json_that_says_why() {
    let fixture = Fixture::start(Limits::default());
    let client = Client::http1(&fixture).await;
    let large = vec![b' '; (32 << 20) + 1];
    for (method, path, kind, body, status) in [
        (
            Method::POST,
            "/mutate",
            "text/plain",
            &b"{}"[..],
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (
            Method::GET,
            "/mutate",
            "application/json",
            b"",
            StatusCode::METHOD_NOT_ALLOWED,
        ),
        (
            Method::PUT,
            "/mutate",
            "application/json",
            b"{}",
            StatusCode::METHOD_NOT_ALLOWED,
        ),
        (
            Method::POST,
            "/mutate",
            "application/json",
            &large,
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
        (
            Method::POST,
            "/mutate",
            "application/json",
            b"{",
            StatusCode::BAD_REQUEST,
        ),
        (
            Method::POST,
            "/mutate",
            "application/json",
            b"{}",
            StatusCode::BAD_REQUEST,
        ),
        (
            Method::POST,
            "/other",
            "application/json",
            b"{}",
            StatusCode::NOT_FOUND,
        ),
    ] {
        let client = if status == StatusCode::PAYLOAD_TOO_LARGE {
            &Client::h2(&fixture).await
        } else {
            &client
        };
        let (got, text) = client.send(&method, path, kind, body.to_vec()).await;
        assert_eq!(got, status, "{method} {path} {kind}: {text}");
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(
            value["error"].as_str().is_some_and(|error| !error.is_empty()),
            "{text}"
        );
    }
    let (status, _) = client
        .send(
            &Method::POST,
            "/mutate?timeout=5s",
            "application/json; charset=utf-8",
            review("nginx"),
        )
        .await;
    assert_eq!(status, StatusCode::OK, "as the API server sends it");
}

#[tokio::test]
async fn a_client_that_sends_nothing_is_hung_up_on() {
    let limits = Limits {
        // The handshake has to end within it, also on a busy machine.
        header_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let fixture = Fixture::start(limits);
    let silent = silence::silent_connection(&fixture).await;
    assert!(silent.closed_by_server().await, "no TLS handshake");
    let client = silence::tls_without_request(&fixture).await;
    assert!(client.closed_by_server().await, "no request");
}

#[tokio::test]
async fn a_review_under_way_when_the_server_ends_is_answered() {
    let fixture = Fixture::start(Limits::default());
    let client = Client::h2(&fixture).await;
    let body = review("myregistry.azurecr.io/app:1");
    let upload = client.begin(&body).await;
    let served = fixture.end();
    let answer = upload.finish().await;
    assert_eq!(answer["response"]["allowed"], true);
    drop(client);
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_slow_upload_takes_no_place_of_a_review() {
    let fixture = Fixture::start_one_at_a_time();
    let client = Client::h2(&fixture).await;
    let upload = client.begin(&review("nginx:first")).await;
    let answer = client.review(&review("nginx:second")).await;
    assert_eq!(answer["response"]["allowed"], true);
    upload.finish().await;
    let records = fixture.audit_lines(2).await;
    let images: Vec<_> = records
        .iter()
        .map(|record| &record["images"][0]["reference"])
        .collect();
    assert_eq!(images, ["nginx:second", "nginx:first"]);
}

#[tokio::test]
async fn the_time_of_an_answer_has_that_of_its_body() {
    let fixture = Fixture::start(Limits::default());
    let client = Client::h2(&fixture).await;
    let upload = client.begin(&review("nginx")).await;
    let pause = Duration::from_millis(20);
    tokio::time::sleep(pause).await;
    upload.finish().await;
    let (_, metrics) = fixture.admin("/metrics").await;
    for name in [
        "pullpass_admission_duration_seconds_sum ",
        "pullpass_admission_queue_seconds_sum ",
    ] {
        let sum = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let sum: f64 = sum.parse().unwrap();
        assert!(sum >= pause.as_secs_f64(), "{name}{sum}");
    }
}

#[tokio::test]
async fn every_line_of_the_audit_log_fits_its_schema() {
    let fixture = Fixture::start(Limits::default());
    let client = Client::h2(&fixture).await;
    for image in [
        "myregistry.azurecr.io/app:1",
        "nginx",
        "otherregistry.azurecr.io/a",
        "not an image",
        "MYREGISTRY.azurecr.io:443/a",
    ] {
        client.review(&review(image)).await;
    }
    let mut update: Value = serde_json::from_slice(&review("myregistry.azurecr.io/b")).unwrap();
    update["request"]["operation"] = json!("UPDATE");
    update["request"]["oldObject"] = json!({"spec": {"containers": [{"name": "c", "image": "nginx"}]}});
    update["request"]["name"] = json!("web-1");
    client.review(&serde_json::to_vec(&update).unwrap()).await;
    let mut opted_out: Value = serde_json::from_slice(&review("myregistry.azurecr.io/b")).unwrap();
    opted_out["request"]["namespace"] = json!("kube-system");
    client.review(&serde_json::to_vec(&opted_out).unwrap()).await;

    let lines = fixture.audit_lines(7).await;
    let schema: Value = serde_json::from_str(include_str!("../../docs/audit.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for line in &lines {
        let errors: Vec<_> = schema.iter_errors(line).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{line}: {errors:?}");
    }
    let decisions: Vec<_> = lines
        .iter()
        .map(|line| line["decision"].as_str().unwrap())
        .collect();
    assert_eq!(
        decisions,
        [
            "injected",
            "not-applicable",
            "uncovered",
            "not-applicable",
            "injected",
            "uncovered",
            "skipped"
        ]
    );
    let gap = json!({"schema": "pullpass.dev/audit/v1", "time": "2026-11-22T18:00:01.123456Z", "dropped": 3});
    assert!(schema.is_valid(&gap));
    assert!(!schema.is_valid(&json!({"schema": "pullpass.dev/audit/v1"})));
}

#[tokio::test]
async fn a_client_certificate_is_asked_for_and_names_the_peer() {
    let clients = Authority::new("clients");
    let fixture = Fixture::start_with(Limits::default(), Some(&clients));
    assert!(Client::try_h2(&fixture, None).await.is_err(), "no certificate");
    let stranger = Authority::new("strangers").issue("kube-apiserver");
    assert!(
        Client::try_h2(&fixture, Some(stranger)).await.is_err(),
        "of another authority"
    );
    let client = Client::try_h2(&fixture, Some(clients.issue("kube-apiserver")))
        .await
        .unwrap();
    client.review(&review("nginx")).await;
    assert_eq!(fixture.audit_lines(1).await[0]["peer"], "CN=kube-apiserver");
}

#[tokio::test]
async fn a_swapped_secret_volume_is_used_for_new_connections() {
    let mut fixture = Fixture::start(Limits::default());
    let before = Client::h2(&fixture).await;
    let old = fixture.served_certificate().await;
    fixture.swap(&fixture.authority.issue("localhost"));
    assert!(fixture.reload().unwrap());
    assert_ne!(fixture.served_certificate().await, old);
    assert_eq!(before.review(&review("nginx")).await["response"]["allowed"], true);
    assert!(!fixture.reload().unwrap(), "nothing changed since");
}

#[tokio::test]
async fn a_pair_that_does_not_match_leaves_the_old_one_served() {
    let mut fixture = Fixture::start(Limits::default());
    let old = fixture.served_certificate().await;
    let (one, other) = (
        fixture.authority.issue("localhost"),
        fixture.authority.issue("localhost"),
    );
    fixture.swap_files(&one.certificate, &other.key);
    assert!(matches!(fixture.reload(), Err(TlsError::Pair(_))));
    fixture.swap_files("no certificate", &one.key);
    assert!(matches!(fixture.reload(), Err(TlsError::Pem { .. })));
    assert_eq!(fixture.served_certificate().await, old);
    fixture.swap(&one);
    assert!(fixture.reload().unwrap(), "and the next good one is taken");
}

#[test]
fn certificate_and_key_are_read_from_one_version_of_the_volume() {
    fixture::install_provider();
    let authority = Authority::new("ca");
    let directory = tempfile::tempdir().unwrap();
    let volume = directory.path();
    for version in ["..1", "..2"] {
        let pair = authority.issue("localhost");
        fs::create_dir(volume.join(version)).unwrap();
        fs::write(volume.join(version).join("tls.crt"), &pair.certificate).unwrap();
        fs::write(volume.join(version).join("tls.key"), &pair.key).unwrap();
    }
    symlink("..1", volume.join("..data")).unwrap();
    symlink("..data/tls.crt", volume.join("tls.crt")).unwrap();
    // As if the link were swapped between the two reads: the key's own link leads to the other version.
    symlink("..2/tls.key", volume.join("tls.key")).unwrap();
    let files = TlsFiles {
        certificate: volume.join("tls.crt"),
        key: volume.join("tls.key"),
        client_ca: None,
    };
    TlsReloader::open(files).unwrap();
}

#[tokio::test]
async fn readiness_names_the_check_that_fails() {
    let fixture = Fixture::start(Limits::default());
    let client = Client::h2(&fixture).await;
    client.review(&review("myregistry.azurecr.io/app:1")).await;
    assert_eq!(
        fixture.admin("/healthz").await,
        (StatusCode::OK, "ok\n".to_owned())
    );
    assert_eq!(
        fixture.admin("/readyz").await,
        (StatusCode::OK, "ok\n".to_owned())
    );
    assert!(
        fixture
            .admin("/readyz?verbose")
            .await
            .1
            .contains("[+] certificate\n")
    );
    fixture
        .readiness
        .ending
        .store(true, std::sync::atomic::Ordering::Release);
    let (status, text) = fixture.admin("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("[-] not-ending\n"), "{text}");
    let (_, metrics) = fixture.admin("/metrics").await;
    for line in [
        "pullpass_admission_requests_total{operation=\"CREATE\",decision=\"injected\"} 1",
        "pullpass_admission_duration_seconds_count 1",
        "pullpass_admission_queue_seconds_count 1",
        "pullpass_connections 1",
        "pullpass_requests_refused_total{reason=\"memory\"} 0",
        "pullpass_audit_dropped_total 0",
        "pullpass_build_info{version=",
        "pullpass_webhook_certificate_expiry_timestamp_seconds ",
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

//! What pullpass relies on when it refuses a review because the memory is in use: the API server sends it again.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pullpass::server::{Limits, Server, TlsFiles, TlsReloader};
use pullpass_test_support::{Authority, Scratch, wait_for};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::cluster::{SOON, Test, cluster};

/// Refuses the first review as pullpass does, and allows those after it.
fn answer(count: &AtomicU32, review: &Bytes) -> Response {
    if count.fetch_add(1, Ordering::SeqCst) == 0 {
        return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response();
    }
    let review: Value = serde_json::from_slice(review).unwrap_or_default();
    let uid = review.pointer("/request/uid");
    let response = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": uid, "allowed": true},
    });
    ([(header::CONTENT_TYPE, "application/json")], response.to_string()).into_response()
}

#[test]
fn the_api_server_sends_a_review_again_after_a_429() -> Test {
    let cluster = cluster()?;
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let scratch = Scratch::new()?;
    let path = |name: &str| scratch.path().join(name);
    let authority = Authority::new()?;
    let identity = authority.server(&["localhost"])?;
    fs::write(path("tls.crt"), &identity.certificate)?;
    fs::write(path("tls.key"), &identity.key)?;
    let (reloader, _) = TlsReloader::open(TlsFiles {
        certificate: path("tls.crt"),
        key: path("tls.key"),
        client_ca: None,
    })?;
    let server = Server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Limits::default())?;
    let port = server.address().port();
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    let routes = Router::new().route("/", post(async move |review: Bytes| answer(&counted, &review)));
    let runtime = Runtime::new()?;
    runtime.spawn(server.serve_tls(reloader.served(), routes));

    let name = "try-again";
    cluster
        .apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).to_string())?;
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [{
            "name": "try-again.pullpass.test",
            "clientConfig": {
                "url": format!("https://localhost:{port}/"),
                "caBundle": STANDARD.encode(authority.pem()),
            },
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
            "objectSelector": {"matchLabels": {"asked": "true"}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "failurePolicy": "Fail",
            "timeoutSeconds": 30,
        }],
    });
    cluster.apply(&configuration.to_string())?;
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"generateName": "asked-", "namespace": name, "labels": {"asked": "true"}},
    });
    // A configuration takes a moment until it is in force.
    wait_for("the webhook to be asked", SOON, || {
        cluster.create(&object.to_string()).is_ok() && count.load(Ordering::SeqCst) > 0
    })?;
    assert_eq!(count.load(Ordering::SeqCst), 2, "one review, sent twice");
    cluster.run(&["delete", "mutatingwebhookconfiguration", name])?;
    Ok(())
}

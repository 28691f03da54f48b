//! The storage account that blobs come from: by a redirect whose URL is signed, and never with a token.
//!
//! Source: Microsoft Learn, "Azure Container Registry: dedicated data endpoints"; "Grant limited access to Azure Storage
//! resources using shared access signatures".

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;

use crate::backend;
use crate::reply::{Form, Reply, because, reply};
use crate::shared::Shared;

/// The storage account's host. All registries share one, as they share the backend.
pub(crate) const HOST: &str = "pullpassemulator.blob.core.windows.net";

/// How long a redirect is good for.
const LIFETIME: i64 = 1200;

/// What signs redirects, and what came with them that should not have.
pub(crate) struct Storage {
    key: hmac::Key,
    leaked_tokens: AtomicU64,
}

impl Storage {
    pub(crate) fn new() -> Self {
        let mut key = [0; 32];
        // Without a random number it is a key that everybody knows, which is good enough for tests.
        let _ = SystemRandom::new().fill(&mut key);
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            leaked_tokens: AtomicU64::new(0),
        }
    }

    pub(crate) fn leaked_tokens(&self) -> u64 {
        self.leaked_tokens.load(Ordering::Relaxed)
    }
}

fn signed(path: &str, end: &str) -> Vec<u8> {
    format!("{path}\n{end}").into_bytes()
}

/// Where the bytes of a blob are to be had for a while.
pub(crate) fn location(shared: &Shared, repository: &str, digest: &str) -> String {
    let path = format!("/{repository}/blobs/{digest}");
    let end = (shared.clock.now().as_second() + LIFETIME).to_string();
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&shared.storage.key, &signed(&path, &end)));
    format!("https://{HOST}{path}?se={end}&sig={signature}")
}

/// Answers a request for the bytes of a blob.
pub(crate) async fn answer(shared: &Shared, mut request: Request<Incoming>) -> Reply {
    if request.headers().contains_key(AUTHORIZATION) {
        shared.storage.leaked_tokens.fetch_add(1, Ordering::Relaxed);
        // A signature in the URL and a token in the header are more than one way to authenticate.
        return refused(
            StatusCode::BAD_REQUEST,
            "InvalidAuthenticationInfo",
            "a token was sent along",
        );
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "UnsupportedHttpVerb", "method");
    }
    let query = Form::parse(request.uri().query().unwrap_or_default().as_bytes());
    let path = request.uri().path().to_owned();
    let (end, signature) = (
        query.get("se").unwrap_or_default(),
        query.get("sig").unwrap_or_default(),
    );
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
    let is_good = hmac::verify(&shared.storage.key, &signed(&path, end), &signature).is_ok()
        && end
            .parse::<i64>()
            .is_ok_and(|end| shared.clock.now().as_second() < end);
    let backend = shared.directory().backend.clone();
    let (true, Some(backend), Some((repository, _))) = (
        is_good,
        backend,
        path.trim_start_matches('/').rsplit_once("/blobs/"),
    ) else {
        return refused(StatusCode::FORBIDDEN, "AuthenticationFailed", "signature");
    };
    let claims = json!({
        "sub": "storage",
        "access": [{"type": "repository", "name": repository, "actions": ["pull"]}],
    });
    let Ok(uri) = format!("/v2{path}").parse() else {
        return refused(StatusCode::BAD_REQUEST, "InvalidUri", "path");
    };
    *request.uri_mut() = uri;
    backend::forward(shared, &backend, HOST, &claims, request).await
}

fn refused(status: StatusCode, code: &str, reason: &str) -> Reply {
    let body = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code></Error>");
    because(reply(status, "application/xml", body), reason)
}

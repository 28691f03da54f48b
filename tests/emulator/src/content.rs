//! Manifests and blobs: who may have them, and where they come from.

use http::{HeaderMap, Method, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::Value;

use crate::acr::challenge;
use crate::backend;
use crate::jwt::text;
use crate::reply::{Reply, redirect, registry_error};
use crate::shared::Shared;
use crate::step::Step;
use crate::storage;

/// The repository that a path under `/v2/` is about, and the step that it belongs to.
///
/// Source: OCI distribution specification, "Endpoints".
pub(crate) fn repository(path: &str) -> Option<(&str, Step)> {
    let rest = path.strip_prefix("/v2/")?;
    let kinds = [
        ("/manifests/", Step::Manifest),
        ("/tags/", Step::Manifest),
        ("/referrers/", Step::Manifest),
        ("/blobs/", Step::Blob),
    ];
    kinds.into_iter().find_map(|(marker, step)| {
        let (name, _) = rest.rsplit_once(marker)?;
        (!name.is_empty()).then_some((name, step))
    })
}

/// The claims of the access token in a request, when the registry gave it out and it is still good.
pub(crate) fn bearer(shared: &Shared, host: &str, headers: &HeaderMap) -> Result<Value, String> {
    let token = headers
        .get(http::header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or("no token")?;
    let claims = shared
        .keys
        .registry
        .verify(token, shared.clock.now())
        .map_err(|refused| refused.to_string())?;
    if text(&claims, "aud") != host || text(&claims, "grant_type") != "access_token" {
        return Err("not an access token of this registry".to_owned());
    }
    Ok(claims)
}

/// Answers a request for a repository's content.
pub(crate) async fn answer(shared: &Shared, host: &str, name: &str, request: Request<Incoming>) -> Reply {
    let needed: &[&str] = match *request.method() {
        Method::GET | Method::HEAD => &["pull"],
        Method::DELETE => &["delete"],
        _ => &["pull", "push"],
    };
    let scope = format!(",scope=\"repository:{name}:{}\"", needed.join(","));
    let claims = match bearer(shared, host, request.headers()) {
        Ok(claims) => claims,
        Err(reason) => {
            let error = if reason == "no token" {
                ""
            } else {
                ",error=\"invalid_token\""
            };
            return challenge(host, host, &format!("{scope}{error}"), &reason);
        }
    };
    if !needed.iter().all(|action| grants(&claims, name, action)) {
        let parameters = format!("{scope},error=\"insufficient_scope\"");
        return challenge(host, host, &parameters, "scope");
    }
    let backend = shared.directory().backend.clone();
    let is_download = *request.method() == Method::GET;
    let digest = digest_of(request.uri().path())
        .filter(|_| is_download)
        .map(str::to_owned);
    match (backend, digest) {
        (Some(_), Some(digest)) => redirect(&storage::location(shared, name, &digest)),
        (Some(backend), None) => backend::forward(shared, &backend, host, &claims, request).await,
        (None, _) => registry_error(
            StatusCode::NOT_FOUND,
            "NAME_UNKNOWN",
            "repository name not known to registry",
            "no backend",
        ),
    }
}

/// The digest of the blob that a path leads to; none for an upload.
fn digest_of(path: &str) -> Option<&str> {
    let (_, digest) = path.rsplit_once("/blobs/")?;
    (digest.contains(':') && !digest.contains('/')).then_some(digest)
}

/// Whether an access token's claims allow an action on a repository.
pub(crate) fn grants(claims: &Value, name: &str, action: &str) -> bool {
    let entries = claims.get("access").and_then(Value::as_array);
    entries.into_iter().flatten().any(|entry| {
        text(entry, "type") == "repository"
            && text(entry, "name") == name
            && entry
                .get("actions")
                .and_then(Value::as_array)
                .is_some_and(|actions| actions.iter().any(|one| one.as_str() == Some(action)))
    })
}

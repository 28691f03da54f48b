//! What a client that may pull asks for first: tags, and a manifest.
//!
//! Source: OCI distribution specification, "Pull" and "Content discovery".

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::request::Builder;
use http::{Method, StatusCode};
use hyper::body::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::{AcrError, answer, refusal, request};
use crate::azure::service_error::ServiceError;
use crate::base::secret_text::SecretText;
use crate::http::headers;
use crate::http::{HttpClient, Response};
use crate::registry::login_server::LoginServer;

/// Every kind of manifest that a container runtime takes.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// What a registry returns for a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type, if it was said.
    pub media_type: Option<String>,
}

/// The first tag of a repository; `None` if it has no tags.
pub async fn first_tag(
    http: &HttpClient,
    login_server: &LoginServer,
    repository: &str,
    token: &SecretText,
    now: Timestamp,
) -> Result<Option<String>, AcrError> {
    let path = format!("/v2/{repository}/tags/list?n=1");
    let response = ask(http, login_server, Method::GET, &path, token, now).await?;
    let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let tag = body.pointer("/tags/0").and_then(Value::as_str);
    Ok(tag.map(str::to_owned))
}

/// Looks for a manifest by a tag or a digest.
pub async fn manifest(
    http: &HttpClient,
    login_server: &LoginServer,
    repository: &str,
    reference: &str,
    token: &SecretText,
    now: Timestamp,
) -> Result<Manifest, AcrError> {
    let path = format!("/v2/{repository}/manifests/{reference}");
    let asked = |method| ask(http, login_server, method, &path, token, now);
    let response = match asked(Method::HEAD).await {
        // Only a body tells an unknown repository from an unknown tag.
        Err(AcrError::Refused(refusal)) if refusal.status == StatusCode::NOT_FOUND => {
            asked(Method::GET).await?
        }
        outcome => outcome?,
    };
    Ok(Manifest {
        media_type: headers::text(&response.headers, &CONTENT_TYPE).map(str::to_owned),
    })
}

/// The whole of a manifest.
pub(super) async fn get_manifest(
    http: &HttpClient,
    login_server: &LoginServer,
    repository: &str,
    reference: &str,
    token: &SecretText,
    now: Timestamp,
) -> Result<Response, AcrError> {
    let path = format!("/v2/{repository}/manifests/{reference}");
    ask(http, login_server, Method::GET, &path, token, now).await
}

/// A request with an access token.
pub(super) fn authorized(
    login_server: &LoginServer,
    method: Method,
    path: &str,
    token: &SecretText,
) -> Builder {
    request(login_server, method, path).header(AUTHORIZATION, format!("Bearer {}", token.expose()))
}

async fn ask(
    http: &HttpClient,
    login_server: &LoginServer,
    method: Method,
    path: &str,
    token: &SecretText,
    now: Timestamp,
) -> Result<Response, AcrError> {
    let request = authorized(login_server, method, path, token).header(ACCEPT, MANIFESTS);
    let response = answer(http, request, Bytes::new()).await?;
    match ServiceError::of(&response, now) {
        Some(trouble) => Err(AcrError::ServiceError(trouble)),
        None if response.status.is_success() => Ok(response),
        None => Err(AcrError::Refused(refusal(&response))),
    }
}

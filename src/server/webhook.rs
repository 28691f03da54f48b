//! `POST /mutate`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::Semaphore;

use super::peer::Peer;
use super::{RequestId, error};
use crate::admission::{Admission, AdmissionError};
use crate::base::readiness::Readiness;

/// The largest body that is read, in bytes. An object in etcd is at most 1.5 MiB, and an update carries two.
const MAX_BODY: usize = 8 << 20;
/// How long a body may take. The API server gives up sooner.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The webhook's state.
#[derive(Debug)]
pub struct Webhook {
    admission: Admission,
    /// Bounds the bodies that are in memory at once; who comes too many waits, as long as the API server does.
    permits: Semaphore,
    /// Tells when the process is to end.
    readiness: Arc<Readiness>,
}

impl Webhook {
    /// A webhook that works on at most so many reviews at once.
    pub fn new(admission: Admission, max_concurrent: usize, readiness: Arc<Readiness>) -> Self {
        Self {
            admission,
            permits: Semaphore::new(max_concurrent),
            readiness,
        }
    }
}

/// The routes of the webhook's port.
pub fn webhook_router(webhook: Webhook) -> Router {
    Router::new()
        .route("/mutate", post(mutate).fallback(method_not_allowed))
        .fallback(async || error(StatusCode::NOT_FOUND, "there is only POST /mutate here"))
        .with_state(Arc::new(webhook))
}

async fn method_not_allowed() -> Response {
    let answer = error(StatusCode::METHOD_NOT_ALLOWED, "reviews are sent by POST");
    ([(header::ALLOW, "POST")], answer).into_response()
}

/// Answers, and once the process was told to end, asks the caller to take another connection next time: one that is kept
/// until the end is closed then, maybe while a review is on its way. HTTP/2 says so by itself when the connection ends,
/// and nothing is lost. Not a layer, since that would cost every review an allocation and a clone of the routes.
async fn mutate(
    State(webhook): State<Arc<Webhook>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    // Taken apart here: an extractor for the headers would copy them.
    let (Parts { version, headers, .. }, body) = request.into_parts();
    let mut response = answer(&webhook, &peer, &headers, body).await;
    if version <= Version::HTTP_11 && webhook.readiness.ending.load(Ordering::Acquire) {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn answer(webhook: &Webhook, peer: &Peer, headers: &HeaderMap, body: Body) -> Response {
    if !is_json(headers) {
        return error(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body must be of type application/json",
        );
    }
    let Ok(_permit) = webhook.permits.acquire().await else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "the server is ending");
    };
    let body = match tokio::time::timeout(BODY_TIMEOUT, read(headers, body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(answer)) => return answer,
        Err(_) => return error(StatusCode::REQUEST_TIMEOUT, "the body took longer than 5 seconds"),
    };
    match webhook.admission.answer(&body, peer.as_str()) {
        Ok(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        Err(problem) => refuse(&problem, peer),
    }
}

/// Says in the log and to the caller why there is no answer; both have the request's id.
fn refuse(problem: &AdmissionError, peer: &Peer) -> Response {
    let (request, peer) = (RequestId::next(), peer.as_str());
    let status = if matches!(problem, AdmissionError::Review(_)) {
        tracing::warn!(%request, peer, %problem, "a request was no review");
        StatusCode::BAD_REQUEST
    } else {
        tracing::error!(%request, peer, %problem, "a review could not be answered");
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let id = [("x-request-id", request.to_string())];
    (id, error(status, &problem.to_string())).into_response()
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Response> {
    let too_large = || error(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 8 MiB");
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_BODY) {
        return Err(too_large());
    }
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(problem) if problem.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(error(StatusCode::BAD_REQUEST, "the body ended early")),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

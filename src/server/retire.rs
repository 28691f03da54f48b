//! Connections of a replica that was told to end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;

use super::health::Readiness;

/// Answers what is asked, and once the process was told to end, asks the caller to take another connection next time. A
/// connection that is kept until the end is closed then, maybe while a review is on its way.
pub fn retiring(routes: Router, readiness: Arc<Readiness>) -> Router {
    routes.layer(from_fn_with_state(readiness, retire))
}

async fn retire(State(readiness): State<Arc<Readiness>>, request: Request, next: Next) -> Response {
    // HTTP/2 says so by itself when the connection ends, and nothing is lost.
    let is_kept = request.version() <= Version::HTTP_11;
    let mut response = next.run(request).await;
    if is_kept && readiness.ending.load(Ordering::Acquire) {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

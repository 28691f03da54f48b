//! The control API: what tests in another process, and shell scripts, steer the emulator with.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use jiff::SignedDuration;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::config::ConfigPatch;
use crate::failure::Failure;
use crate::reply::{Reply, full, json_reply};
use crate::serve::Connection;
use crate::shared::Shared;

const BODY_LIMIT: usize = 8 << 20;

/// The body of `POST /clock`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClockChange {
    advance_seconds: Option<u64>,
    offset_seconds: Option<i64>,
}

/// Answers a request to the control API.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    _connection: Connection,
) -> Reply {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match (method, path.as_str()) {
        (Method::GET, "/counts") => json_reply(StatusCode::OK, &json!(shared.counters.snapshot())),
        (Method::GET, "/leaked-tokens") => {
            let count = shared.storage.leaked_tokens();
            json_reply(StatusCode::OK, &json!({"leakedTokens": count}))
        }
        (Method::DELETE, "/counts") => {
            shared.counters.reset();
            done()
        }
        (Method::POST, "/failures") => {
            apply(request, |failure: Failure| {
                shared.failures.inject(failure);
                Ok(done())
            })
            .await
        }
        (Method::DELETE, "/failures") => {
            shared.failures.clear();
            done()
        }
        (Method::PUT, "/config") => {
            apply(request, |patch: ConfigPatch| {
                shared
                    .change(|directory, now| directory.patch(patch, now))
                    .map(|()| done())
                    .map_err(|error| error.to_string())
            })
            .await
        }
        (Method::POST, "/clock") => {
            apply(request, |change: ClockChange| {
                if let Some(seconds) = change.offset_seconds {
                    shared.clock.set_offset(SignedDuration::from_secs(seconds));
                }
                if let Some(seconds) = change.advance_seconds {
                    shared.clock.advance(Duration::from_secs(seconds));
                }
                Ok(json_reply(StatusCode::OK, &json!({"now": shared.clock.now()})))
            })
            .await
        }
        _ => json_reply(
            StatusCode::NOT_FOUND,
            &json!({"error": "no such method and path"}),
        ),
    }
}

async fn apply<T: DeserializeOwned>(
    request: Request<Incoming>,
    change: impl FnOnce(T) -> Result<Reply, String>,
) -> Reply {
    let body = Limited::new(request.into_body(), BODY_LIMIT).collect().await;
    let result = body
        .map_err(|error| error.to_string())
        .and_then(|body| serde_json::from_slice(&body.to_bytes()).map_err(|e| e.to_string()))
        .and_then(change);
    result.unwrap_or_else(|error| json_reply(StatusCode::BAD_REQUEST, &json!({"error": error})))
}

fn done() -> Reply {
    let mut reply = Reply::new(full(""));
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}

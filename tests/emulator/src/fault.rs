//! The answers that injected failures give.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use serde_json::json;

use crate::acr::challenge;
use crate::failure::Fault;
use crate::reply::{Reply, because, full, json_reply, redirect, registry_error, reply, retry_after};
use crate::shared::Shared;
use crate::step::{Call, Step};
use crate::{entra, imds};

/// What a fault answers in place of the service; `None` when it lets the service answer after all, or nobody.
pub(crate) fn replace(shared: &Shared, call: &Call, host: &str, fault: &Fault) -> Option<Reply> {
    let answer = match fault {
        Fault::Status {
            status,
            retry_after: after,
            body,
        } => {
            let mut reply = refused(shared, call, host, *status);
            if let Some(body) = body {
                *reply.body_mut() = full(body.clone());
            }
            if let Some(after) = after {
                retry_after(&mut reply, after);
            }
            reply
        }
        Fault::Garbage => reply(StatusCode::OK, "text/html", &b"\xff\xfe<html>\0{\"\x80"[..]),
        Fault::Empty => json_reply(StatusCode::OK, &json!({})),
        Fault::Redirect { location } => redirect(location),
        Fault::WrongRealm { host: elsewhere } => challenge(host, elsewhere, "", "realm"),
        Fault::Hang | Fault::Delay { .. } | Fault::Reset | Fault::SlowBody { .. } => return None,
    };
    Some(because(answer, "injected"))
}

/// Hands a body out one byte at a time.
pub(crate) fn slow(reply: Reply, pause: Duration) -> Reply {
    let (parts, body) = reply.into_parts();
    let (mut sender, channel) = Channel::new(1);
    tokio::spawn(async move {
        let bytes = body.collect().await.map(http_body_util::Collected::to_bytes);
        for byte in bytes.unwrap_or_default() {
            tokio::time::sleep(pause).await;
            if sender.send_data(Bytes::copy_from_slice(&[byte])).await.is_err() {
                return;
            }
        }
    });
    Reply::from_parts(parts, channel.boxed_unsync())
}

/// The body that a service gives with a status.
fn refused(shared: &Shared, call: &Call, host: &str, status: u16) -> Reply {
    if call.step == Step::EntraToken {
        return entra::generic(status, host, shared.clock.now());
    }
    if call.step == Step::Imds {
        return imds::failing(status);
    }
    let (code, message) = match status {
        401 => (
            "UNAUTHORIZED",
            "authentication required, visit https://aka.ms/acr/authorization for more information.",
        ),
        403 => (
            "DENIED",
            "client with IP '192.0.2.1' is not allowed access. Refer https://aka.ms/acr/firewall to grant access.",
        ),
        404 => ("NAME_UNKNOWN", "repository name not known to registry"),
        413 => ("SIZE_INVALID", "request entity too large"),
        429 => ("TOOMANYREQUESTS", "too many requests"),
        _ => ("UNKNOWN", "unknown error"),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match (call.step, status) {
        (Step::Challenge | Step::Manifest | Step::Blob, StatusCode::UNAUTHORIZED) => {
            challenge(host, host, "", "injected")
        }
        _ => registry_error(status, code, message, "injected"),
    }
}

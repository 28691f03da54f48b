//! Requests as the handlers see them, and the answers they give.

use std::error::Error;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

/// An answer's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// An answer.
pub(crate) type Reply = Response<Body>;

/// Says in plain words, to people who debug a test, why a call was refused; the real services say the same for all reasons.
const REASON: HeaderName = HeaderName::from_static("x-emulator-reason");

/// A URL-encoded form or query.
#[derive(Debug, Default)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    pub(crate) fn parse(encoded: &[u8]) -> Self {
        Self(form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// The first value of a field that is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).find(|value| !value.is_empty())
    }

    /// All values of a field.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(field, _)| field == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A whole body.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// An answer with bytes of a media type.
pub(crate) fn reply(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(full(body));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    reply
}

/// A JSON answer.
pub(crate) fn json_reply(status: StatusCode, body: &Value) -> Reply {
    reply(status, "application/json; charset=utf-8", body.to_string())
}

/// An error as a registry gives it (OCI distribution specification, "Error codes").
pub(crate) fn registry_error(status: StatusCode, code: &str, message: &str, reason: &str) -> Reply {
    let body = json!({"errors": [{"code": code, "message": message, "detail": null}]});
    because(json_reply(status, &body), reason)
}

/// The answer to all that ACR does not let in, whatever the reason.
pub(crate) fn unauthorized(reason: &str) -> Reply {
    registry_error(
        StatusCode::UNAUTHORIZED,
        "UNAUTHORIZED",
        "authentication required, visit https://aka.ms/acr/authorization for more information.",
        reason,
    )
}

/// Puts the reason on an answer.
pub(crate) fn because(mut reply: Reply, reason: &str) -> Reply {
    set(&mut reply, REASON, reason);
    reply
}

/// A redirect.
pub(crate) fn redirect(location: &str) -> Reply {
    let mut reply = reply(StatusCode::TEMPORARY_REDIRECT, "text/html", Bytes::new());
    set(&mut reply, LOCATION, location);
    reply
}

/// Sets `Retry-After`.
pub(crate) fn retry_after(reply: &mut Reply, value: &str) {
    set(reply, RETRY_AFTER, value);
}

/// Sets a header, unless the value can't be one.
pub(crate) fn set(reply: &mut Reply, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        reply.headers_mut().insert(name, value);
    }
}

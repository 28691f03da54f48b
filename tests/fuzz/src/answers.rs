//! What Entra ID, the managed identity endpoint and a registry answer.

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use pullpass::azure::acr;
use pullpass::azure::entra;
use pullpass::azure::jwt::Claims;
use pullpass::http::Response;

/// How long a message about an answer is at most, in bytes: it goes into statuses, Events and logs.
const MAX_MESSAGE: usize = 2048;

/// No answer panics; a failure reads the same each time, shortly and on one line, and has no part of a token.
///
/// The input is the status in two bytes, a line with `Date`, one with `Retry-After`, and the body.
pub fn check(input: &[u8]) {
    let Some((status, rest)) = input.split_first_chunk::<2>() else {
        return;
    };
    let Ok(status) = StatusCode::from_u16(200 + u16::from_be_bytes(*status) % 400) else {
        return;
    };
    let mut parts = rest.splitn(3, |byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in [DATE, RETRY_AFTER] {
        if let Ok(value) = HeaderValue::from_bytes(parts.next().unwrap_or_default()) {
            headers.insert(name, value);
        }
    }
    let body = parts.next().unwrap_or_default();
    let response = Response {
        status,
        headers,
        body: body.to_vec().into(),
    };
    let now = Timestamp::UNIX_EPOCH;
    for is_managed in [false, true] {
        match entra::token_of(&response, is_managed, now) {
            Ok(token) => {
                assert!(status.is_success() && !token.expose().is_empty());
                // What it says about itself is read by `jwt`.
                let _ = Claims::parse(token.expose());
            }
            Err(error) => {
                let again = entra::token_of(&response, is_managed, now).expect_err("it failed before");
                assert_eq!(error, again);
                is_fit_to_print(&error.to_string());
            }
        }
    }
    let repositories = ["team/app".to_owned()];
    for decoded in [
        acr::refresh_token_in(&response, now),
        acr::access_token_in(&response, &repositories, now),
        acr::access_token_in(&response, &[], now),
    ] {
        match decoded {
            Ok(token) => {
                assert!(status.is_success() && !token.token.expose().is_empty());
                assert!(token.expires_at > now);
            }
            Err(error) => is_fit_to_print(&error.to_string()),
        }
    }
}

fn is_fit_to_print(message: &str) {
    assert!(message.len() <= MAX_MESSAGE, "{} bytes", message.len());
    assert!(!message.contains(char::is_control), "{message:?}");
}

//! What Entra ID and the managed identity endpoint answer.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde_json::Value;

use super::EntraError;
use crate::azure::service_error::ServiceError;
use crate::base::secret_text::SecretText;
use crate::http::Response;

/// The longest description that is passed on.
const MAX_TEXT: usize = 300;

/// What begins the part of a description that differs each time.
const VOLATILE: [&str; 3] = ["Trace ID:", "Correlation ID:", "Timestamp:"];

/// A refusal, less all that differs from one time to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The number of the AADSTS code.
    pub code: Option<u32>,
    /// The first line of the description.
    pub text: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, &self.text) {
            (Some(code), Some(text)) => write!(f, "AADSTS{code}: {text}"),
            (Some(code), None) => write!(f, "AADSTS{code}"),
            (None, Some(text)) => write!(f, "HTTP {}: {text}", self.status),
            (None, None) => write!(
                f,
                "HTTP {} without a reason, as a proxy or a firewall in between would answer",
                self.status
            ),
        }
    }
}

/// The token in an answer of Entra ID, or of the managed identity endpoint, or why there is none.
pub fn token_of(response: &Response, is_managed: bool, now: Timestamp) -> Result<SecretText, EntraError> {
    let trouble = |trouble| Err(super::service_error(trouble, is_managed));
    // While an identity is being set up, its endpoint answers these (Microsoft Learn, "How to use managed identities
    // on an Azure VM", section "Retry guidance").
    let is_setting_up = is_managed && matches!(response.status.as_u16(), 404 | 410);
    if is_setting_up {
        return trouble(ServiceError::Unavailable {
            status: response.status.as_u16(),
            retry_after: None,
        });
    }
    if let Some(found) = ServiceError::of(response, now) {
        return trouble(found);
    }
    if response.status.is_success() {
        return match access_token(&response.body) {
            Some(token) => Ok(token),
            None => trouble(ServiceError::Garbled {
                status: response.status.as_u16(),
                what: "no access token",
            }),
        };
    }
    let refusal = refusal(response.status.as_u16(), &response.body);
    Err(if is_managed {
        EntraError::ImdsRefused(refusal)
    } else {
        EntraError::Refused(refusal)
    })
}

fn access_token(body: &[u8]) -> Option<SecretText> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let token = body.get("access_token")?.as_str()?;
    (!token.is_empty()).then(|| SecretText::from(token))
}

fn refusal(status: u16, body: &[u8]) -> Refusal {
    let body = String::from_utf8_lossy(body);
    let json: Value = serde_json::from_str(&body).unwrap_or_default();
    let field = |name: &str| json.get(name).and_then(Value::as_str).map(str::trim);
    let description = field("error_description").filter(|text| !text.is_empty());
    let code = json
        .get("error_codes")
        .and_then(|codes| codes.get(0)?.as_u64())
        .and_then(|code| u32::try_from(code).ok())
        // A body that was cut short still has it in its text.
        .or_else(|| split_code(description.unwrap_or(&body)).map(|(code, _)| code));
    let text = description.or_else(|| field("error")).map(|text| {
        let text = split_code(text).map_or(text, |(_, rest)| rest);
        stable(text)
    });
    Refusal {
        status,
        code,
        text: text.filter(|text| !text.is_empty()),
    }
}

/// The first AADSTS code in a text, and what follows it.
fn split_code(text: &str) -> Option<(u32, &str)> {
    let (_, rest) = text.split_once("AADSTS")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest.trim_start_matches([':', ' '])))
}

/// The first line of a description, without what differs each time.
fn stable(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let end = VOLATILE.iter().filter_map(|mark| line.find(mark)).min();
    let line = end.and_then(|end| line.get(..end)).unwrap_or(line);
    let words = line.split_whitespace().map(|word| {
        if is_time(word) {
            Cow::Borrowed("(time)")
        } else {
            printable(word)
        }
    });
    let mut text = String::new();
    for word in words {
        if text.len() + word.len() >= MAX_TEXT {
            text.push_str(" …");
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&word);
    }
    text
}

/// A date or a time of day, as AADSTS700024 has them in its text: `2026-11-22T18:00:01.1234567Z`, `11/22/2026`,
/// `18:00:01`.
fn is_time(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let separators = word.bytes().filter(|byte| b"-/:".contains(byte)).count();
    let only_times = word
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"-/:.,+TZ".contains(&byte));
    only_times && digits >= 4 && separators >= 2
}

fn printable(word: &str) -> Cow<'_, str> {
    if word.contains(char::is_control) {
        Cow::Owned(word.chars().filter(|c| !c.is_control()).collect())
    } else {
        Cow::Borrowed(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, StatusCode};
    use proptest::prelude::*;
    use serde_json::json;

    fn decode(status: u16, body: impl AsRef<[u8]>, is_managed: bool) -> Result<String, EntraError> {
        let response = Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.as_ref().to_vec().into(),
        };
        let token = token_of(&response, is_managed, Timestamp::UNIX_EPOCH);
        token.map(|token| token.expose().to_owned())
    }

    fn refused(status: u16, body: impl AsRef<[u8]>) -> String {
        match decode(status, body, false) {
            Err(EntraError::Refused(refusal)) => refusal.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn described(description: &str) -> String {
        refused(400, json!({"error_description": description}).to_string())
    }

    #[test]
    fn a_token_is_taken_and_nothing_less() {
        let body = json!({"token_type": "Bearer", "expires_in": "3599", "access_token": "ey.a.b"});
        assert_eq!(decode(200, body.to_string(), false).as_deref(), Ok("ey.a.b"));
        for body in [
            "{}",
            "",
            "[]",
            "null",
            "{\"access_token\":\"\"}",
            "{\"access_token\":1}",
            "{\"access_token\":\"ey",
            "<html>",
            "\u{0}",
        ] {
            let error = decode(200, body, false).unwrap_err();
            assert!(
                matches!(error, EntraError::ServiceError(ServiceError::Garbled { .. })),
                "{body}: {error}"
            );
        }
    }

    #[test]
    fn the_same_refusal_reads_the_same_each_time() {
        let body = |id: &str| {
            json!({
                "error": "invalid_client",
                "error_description": format!(
                    "AADSTS7000215: Invalid client secret provided. Ensure it is the \"value\".\r\nTrace ID: {id}\r\nCorrelation ID: {id}\r\nTimestamp: 2026-11-22 18:00:0{id}Z"
                ),
                "error_codes": [7_000_215],
                "timestamp": id, "trace_id": id, "correlation_id": id,
            })
            .to_string()
        };
        let text = "AADSTS7000215: Invalid client secret provided. Ensure it is the \"value\".";
        assert_eq!(refused(401, body("1")), text);
        assert_eq!(refused(401, body("2")), text);
    }

    #[test]
    fn descriptions_lose_what_differs_each_time_wherever_it_stands() {
        for (description, expected) in [
            (
                "AADSTS700024: Client assertion is not within its valid time range. Current time: 2026-11-22T18:00:01.1234567Z, expiry time of assertion 2026-11-22T17:00:01.0000000Z.",
                "AADSTS700024: Client assertion is not within its valid time range. Current time: (time) expiry time of assertion (time)",
            ),
            (
                "AADSTS1: a Trace ID: 5 Correlation ID: 6 Timestamp: 7",
                "AADSTS1: a",
            ),
            (
                "AADSTS1: at 11/22/2026 18:00:01 PM",
                "AADSTS1: at (time) (time) PM",
            ),
            ("AADSTS1", "AADSTS1"),
            ("AADSTS1: \u{1b}[31mred\u{7}", "AADSTS1: [31mred"),
            ("Identity not found", "HTTP 400: Identity not found"),
            (
                "AADSTS700016: Application with identifier '7b795fb9-09d3-42f4-a494-38864f99ba3c' was not found",
                "AADSTS700016: Application with identifier '7b795fb9-09d3-42f4-a494-38864f99ba3c' was not found",
            ),
        ] {
            assert_eq!(described(description), expected);
        }
    }

    #[test]
    fn bodies_that_are_not_entras_are_refusals_all_the_same() {
        let silent = "HTTP 403 without a reason, as a proxy or a firewall in between would answer";
        for body in [
            "",
            "<html><body>blocked at 12:00</body></html>",
            "{}",
            "[1]",
            "\"x\"",
            "\u{fffd}",
        ] {
            assert_eq!(refused(403, body), silent, "{body}");
        }
        assert_eq!(refused(403, [0xff, 0xfe, b'{']), silent);
        assert_eq!(
            refused(400, r#"{"error":"invalid_request"}"#),
            "HTTP 400: invalid_request"
        );
        assert_eq!(
            refused(400, r#"{"error":"x","error_description":"AADSTS90002: Ten"#),
            "AADSTS90002"
        );
        let wrong_types = r#"{"error":1,"error_description":[],"error_codes":["a"]}"#;
        assert_eq!(refused(403, wrong_types), silent);
    }

    #[test]
    fn a_huge_description_is_cut() {
        let text = described(&format!("AADSTS1: {}", "word ".repeat(100_000)));
        assert!(text.len() < 400 && text.ends_with('…'), "{text}");
        let text = described(&format!("AADSTS1: {}", "w".repeat(100_000)));
        assert!(text.len() < 400, "{text}");
    }

    #[test]
    fn statuses_sort_into_trouble_and_refusal() {
        for (status, is_managed, is_trouble) in [
            (429, false, true),
            (500, false, true),
            (503, true, true),
            (408, false, true),
            (307, false, true),
            (404, true, true),
            (410, true, true),
            (404, false, false),
            (400, true, false),
        ] {
            let error = decode(status, "", is_managed).unwrap_err();
            assert_eq!(error.service_error().is_some(), is_trouble, "{status}");
            assert_eq!(error.refusal().is_some(), !is_trouble, "{status}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics_and_no_refusal_is_long(body in proptest::collection::vec(any::<u8>(), 0..200), description in ".{0,2000}") {
            let _ = decode(200, &body, false);
            let _ = refused(400, &body);
            let text = described(&description);
            prop_assert!(text.len() < 400);
            prop_assert!(!text.contains(char::is_control));
        }
    }
}

//! Response headers that carry times.

use std::time::Duration;

use http::HeaderMap;
use http::header::{DATE, HeaderName, RETRY_AFTER};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use crate::base::backoff::MAX_RETRY_AFTER;

/// How long a server asks to be left alone: `Retry-After` in seconds or as an HTTP date (RFC 9110, section 10.2.3).
///
/// A date is held against the server's own `Date`, so that it means the same whatever our clock says; `now` is for
/// answers without one. A date that has passed means zero, nonsense means nothing.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // What does not fit into 64 bits is beyond the longest wait anyway.
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let until = http_date(text)?.duration_since(date(headers).unwrap_or(now));
        Duration::try_from(until).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// The server's clock: `Date` (RFC 9110, section 6.6.1).
pub fn date(headers: &HeaderMap) -> Option<Timestamp> {
    http_date(text(headers, &DATE)?)
}

/// A header as text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The preferred form of HTTP's dates is one of RFC 2822's; the two obsolete forms are not worth their parser.
fn http_date(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: &str = "Sun, 22 Nov 2026 12:00:00 GMT";

    fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_bounded() {
        for (text, seconds) in [
            ("0", Some(0)),
            ("17", Some(17)),
            (" 17 ", Some(17)),
            ("86400", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Sun, 22 Nov 2026 12:00:30 GMT", Some(30)),
            ("Sun, 22 Nov 2026 11:00:00 GMT", Some(0)),
            ("Mon, 23 Nov 2026 12:00:00 GMT", Some(3600)),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let got = retry_after(&headers(&[(RETRY_AFTER, text)]), now());
            assert_eq!(got, seconds.map(Duration::from_secs), "{text:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now()), None);
    }

    #[test]
    fn a_retry_date_is_held_against_the_servers_clock() {
        let late = "Sun, 22 Nov 2026 12:00:20 GMT";
        let answer = headers(&[(RETRY_AFTER, late), (DATE, NOON)]);
        let elsewhere = "2026-11-22T18:00:00Z".parse().unwrap();
        assert_eq!(retry_after(&answer, elsewhere), Some(Duration::from_secs(20)));
    }

    #[test]
    fn the_date_is_read_or_not_there() {
        assert_eq!(date(&headers(&[(DATE, NOON)])), Some(now()));
        assert_eq!(date(&headers(&[(DATE, "yesterday")])), None);
        assert_eq!(date(&HeaderMap::new()), None);
    }
}

//! What a token says about itself.
//!
//! Signatures are not verified: the tokens are made for the registry and for Entra ID, which verify them; here they
//! came over TLS from their issuer, and are only asked when they expire and what they are for.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// RFC 7515 leaves padding out; a token with it says the same.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The claims of a token that matter here (RFC 7519, section 4.1; the distribution specification's `access`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    expires_at: Timestamp,
    issued_at: Option<Timestamp>,
    access: Option<Vec<AccessClaim>>,
}

/// One entry of the `access` claim: what may be done with one resource of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct AccessClaim {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

/// Why the expiry of a token is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JwtError {
    /// Not three parts of base64 with JSON in the middle.
    #[error("the token is not a JSON Web Token")]
    Malformed,
    /// No `exp`, or one that is no time.
    #[error("the token does not say when it expires")]
    NoExpiry,
    /// The token has expired by its issuer's own clock.
    #[error("the token had already expired when it arrived")]
    AlreadyExpired,
}

impl Claims {
    /// Reads the claims of a token in its compact form.
    pub fn parse(token: &str) -> Result<Self, JwtError> {
        let mut parts = token.split('.');
        let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwtError::Malformed);
        };
        let json = BASE64.decode(claims).map_err(|_| JwtError::Malformed)?;
        let claims: Value = serde_json::from_slice(&json).map_err(|_| JwtError::Malformed)?;
        if !claims.is_object() {
            return Err(JwtError::Malformed);
        }
        Ok(Self {
            expires_at: numeric_date(&claims, "exp").ok_or(JwtError::NoExpiry)?,
            issued_at: numeric_date(&claims, "iat").or_else(|| numeric_date(&claims, "nbf")),
            access: claims
                .get("access")
                .and_then(|access| Vec::deserialize(access).ok()),
        })
    }

    /// When the token expires, by *our* clock.
    ///
    /// Clocks differ, so `exp` is never compared with our time as it stands. What is left of the token is
    /// 1. `exp` less the time that the server itself gave with the answer (its `Date`), which holds for a token that
    ///    was handed out from a cache and for one whose `iat` was set back on purpose, but at most `exp - iat`;
    /// 2. without a `Date`, `exp - iat`, or `exp - nbf`;
    /// 3. without any of them, `exp` less our time.
    ///
    /// That much after `received_at` it expires.
    pub fn expiry(
        &self,
        received_at: Timestamp,
        server_time: Option<Timestamp>,
    ) -> Result<Timestamp, JwtError> {
        let left_since = |time: Timestamp| self.expires_at.duration_since(time);
        let left = match (server_time.map(left_since), self.issued_at.map(left_since)) {
            (Some(left), Some(lifetime)) => left.min(lifetime),
            (Some(left), None) | (None, Some(left)) => left,
            (None, None) => left_since(received_at),
        };
        if left <= SignedDuration::ZERO {
            return Err(JwtError::AlreadyExpired);
        }
        received_at.checked_add(left).map_err(|_| JwtError::NoExpiry)
    }

    /// When the token was made, or from when on it is good, by its issuer's clock.
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.issued_at
    }

    /// Whether the token allows pulling from a repository; `None` if it does not say what it is for.
    pub fn may_pull(&self, repository: &str) -> Option<bool> {
        let access = self.access.as_ref()?;
        Some(access.iter().any(|access| {
            access.kind == "repository"
                && access.name == repository
                && access
                    .actions
                    .iter()
                    .any(|action| action == "pull" || action == "*")
        }))
    }
}

/// The algorithm that a token's header names (RFC 7515, section 4.1.1); none if there is no such header.
pub fn algorithm(token: &str) -> Option<String> {
    let (header, _) = token.split_once('.')?;
    let header: Value = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
    header.get("alg")?.as_str().map(str::to_owned)
}

/// RFC 7519 allows fractions of a second in its times.
fn numeric_date(claims: &Value, name: &str) -> Option<Timestamp> {
    let value = claims.get(name)?;
    if let Some(seconds) = value.as_i64() {
        return Timestamp::from_second(seconds).ok();
    }
    let since_epoch = SignedDuration::try_from_secs_f64(value.as_f64()?).ok()?;
    Timestamp::from_duration(since_epoch).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{URL_SAFE as PADDED, URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::json;

    fn token(claims: &Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn expiry(claims: &Value, received_at: i64, server_time: Option<i64>) -> Result<i64, JwtError> {
        Claims::parse(&token(claims))?
            .expiry(at(received_at), server_time.map(at))
            .map(Timestamp::as_second)
    }

    #[test]
    fn the_end_is_told_by_our_clock_whatever_the_servers_says() {
        let three_hours = json!({"iat": 100_000, "nbf": 100_000, "exp": 110_800});
        for (case, claims, received_at, server_time, expected) in [
            ("clocks agree", &three_hours, 100_001, Some(100_001), 110_800),
            (
                "ours is a day ahead",
                &three_hours,
                186_400,
                Some(100_000),
                197_200,
            ),
            ("ours is behind", &three_hours, 50_000, Some(100_000), 60_800),
            ("ours is ahead, no Date", &three_hours, 186_400, None, 197_200),
            (
                "from a cache, an hour old",
                &three_hours,
                103_600,
                Some(103_600),
                110_800,
            ),
            (
                "a Date from before it was issued",
                &three_hours,
                100_000,
                Some(90_000),
                110_800,
            ),
            ("only nbf", &json!({"nbf": 100_000, "exp": 100_060}), 7, None, 67),
            (
                "iat set back",
                &json!({"iat": 99_100, "exp": 103_600}),
                100_000,
                Some(100_000),
                103_600,
            ),
            ("only exp", &json!({"exp": 100_060}), 100_000, None, 100_060),
            (
                "only exp, with Date",
                &json!({"exp": 100_060}),
                5,
                Some(100_000),
                65,
            ),
            ("fractions", &json!({"exp": 100_060.75}), 100_000, None, 100_060),
        ] {
            assert_eq!(expiry(claims, received_at, server_time), Ok(expected), "{case}");
        }
    }

    #[test]
    fn an_ended_token_is_refused() {
        for (claims, server_time) in [
            (json!({"iat": 100, "exp": 200}), Some(200)),
            (json!({"iat": 200, "exp": 200}), None),
            (json!({"exp": 100}), None),
        ] {
            assert_eq!(
                expiry(&claims, 500, server_time),
                Err(JwtError::AlreadyExpired),
                "{claims}"
            );
        }
    }

    #[test]
    fn padding_is_no_matter() {
        let padded = format!("e30.{}.c2ln", PADDED.encode(r#"{"exp":100}"#));
        assert!(padded.contains('='));
        assert!(Claims::parse(&padded).is_ok());
    }

    #[test]
    fn texts_that_are_no_token_are_refused() {
        let huge = json!({"exp": 1e300});
        for (text, error) in [
            (String::new(), JwtError::Malformed),
            ("opaque".to_owned(), JwtError::Malformed),
            ("a.b".to_owned(), JwtError::Malformed),
            ("e30.e30.e30.e30".to_owned(), JwtError::Malformed),
            ("e30.***.e30".to_owned(), JwtError::Malformed),
            ("e30.W10.e30".to_owned(), JwtError::Malformed),
            ("e30.e30.e30".to_owned(), JwtError::NoExpiry),
            (token(&json!({"exp": "soon"})), JwtError::NoExpiry),
            (token(&json!({"exp": i64::MAX})), JwtError::NoExpiry),
            (token(&huge), JwtError::NoExpiry),
        ] {
            assert_eq!(Claims::parse(&text), Err(error), "{text}");
        }
    }

    #[test]
    fn algorithms_are_read_from_headers_alone() {
        let token = |header: &str| format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(header));
        assert_eq!(algorithm(&token(r#"{"alg":"ES256"}"#)).as_deref(), Some("ES256"));
        for text in [
            "",
            "opaque",
            "***.e30.e30",
            &token("[]"),
            &token("{}"),
            &token(r#"{"alg":1}"#),
        ] {
            assert_eq!(algorithm(text), None, "{text}");
        }
    }

    #[test]
    fn access_is_by_repository_and_action() {
        let access = json!({"exp": 1, "access": [
            {"type": "repository", "name": "a", "actions": ["pull"]},
            {"type": "repository", "name": "b", "actions": ["metadata_read"]},
            {"type": "registry", "name": "c", "actions": ["*"]},
        ]});
        let claims = Claims::parse(&token(&access)).unwrap();
        assert_eq!(
            ["a", "b", "c", "d"].map(|name| claims.may_pull(name)),
            [Some(true), Some(false), Some(false), Some(false)]
        );
        for silent in [json!({"exp": 1}), json!({"exp": 1, "access": "all"})] {
            assert_eq!(Claims::parse(&token(&silent)).unwrap().may_pull("a"), None);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*", claims in "\\{\"exp\":-?[0-9]{1,30}(\\.[0-9]+)?,\"iat\":-?[0-9]{1,30}\\}", now in -1_000_000_000_000_i64..1_000_000_000_000) {
            prop_assume!(Timestamp::from_second(now).is_ok());
            let _ = Claims::parse(&text);
            if let Ok(claims) = Claims::parse(&format!("e30.{}.", URL_SAFE_NO_PAD.encode(claims))) {
                let _ = claims.expiry(at(now), None);
                let _ = claims.expiry(at(now), Some(Timestamp::MIN));
            }
        }
    }
}

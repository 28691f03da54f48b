//! Which signatures Entra ID accepts.

use std::fmt;

use crate::azure::jwt::algorithm;
use crate::base::secret_text::SecretText;

/// Source: what Entra ID answers to others, AADSTS5002738.
const SUPPORTED: [&str; 6] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

/// An algorithm is shown up to this length: registered names are shorter (RFC 7518, section 3.1).
const MAX_NAME: usize = 12;

/// A signature algorithm that Entra ID does not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsupportedAlgorithm(String);

impl UnsupportedAlgorithm {
    /// Looks at the header of a token. A text without one is left for Entra ID to refuse.
    pub(super) fn check(token: &SecretText) -> Result<(), Self> {
        match algorithm(token.expose()) {
            Some(name) if !SUPPORTED.contains(&name.as_str()) => Err(Self(name)),
            Some(_) | None => Ok(()),
        }
    }
}

impl fmt::Display for UnsupportedAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_name = self.0.len() <= MAX_NAME && self.0.bytes().all(|byte| byte.is_ascii_alphanumeric());
        f.write_str(if is_name && !self.0.is_empty() {
            &self.0
        } else {
            "another algorithm"
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    fn check(algorithm: &str) -> Option<String> {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": algorithm }).to_string());
        let checked = UnsupportedAlgorithm::check(&format!("{header}.e30.c2ln").into());
        checked.err().map(|error| error.to_string())
    }

    #[test]
    fn rsa_signatures_are_taken_and_others_named() {
        for algorithm in SUPPORTED {
            assert_eq!(check(algorithm), None, "{algorithm}");
        }
        for (algorithm, shown) in [
            ("ES256", "ES256"),
            ("EdDSA", "EdDSA"),
            ("none", "none"),
            ("", "another algorithm"),
            ("evil\u{1b}[31m", "another algorithm"),
            ("HS256HS256HS256", "another algorithm"),
        ] {
            assert_eq!(check(algorithm).as_deref(), Some(shown), "{algorithm:?}");
        }
        assert_eq!(UnsupportedAlgorithm::check(&"opaque".into()), Ok(()));
    }
}

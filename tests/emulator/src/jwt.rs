//! JSON Web Tokens (RFC 7519) signed with RS256, as the real ones are, and the verification of those that come back.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("malformed-token")]
    Malformed,
    #[error("bad-signature")]
    Signature,
    #[error("expired")]
    Expired,
    #[error("not-yet-valid")]
    NotYetValid,
}

/// A key that signs tokens.
pub(crate) struct SigningKey {
    pair: rsa::KeyPair,
    key_id: String,
    random: SystemRandom,
}

impl SigningKey {
    /// A key from its PKCS #8 form.
    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, ring::error::KeyRejected> {
        let pair = rsa::KeyPair::from_pkcs8(der)?;
        let digest = ring::digest::digest(&ring::digest::SHA256, pair.public().as_ref());
        Ok(Self {
            pair,
            key_id: URL_SAFE_NO_PAD.encode(digest),
            random: SystemRandom::new(),
        })
    }

    /// Signs claims; a certificate goes into the header as `x5c`, which is where docker-registry looks for the key.
    pub(crate) fn sign(
        &self,
        claims: &Value,
        certificate: Option<&[u8]>,
    ) -> Result<String, ring::error::Unspecified> {
        let header = match certificate {
            Some(der) => json!({"typ": "JWT", "alg": "RS256", "x5c": [STANDARD.encode(der)]}),
            None => json!({"typ": "JWT", "alg": "RS256", "kid": self.key_id}),
        };
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &self.random, token.as_bytes(), &mut signature)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The claims of a token that this key signed and that is valid now.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Result<Value, Refused> {
        let token = Compact::parse(token).ok_or(Refused::Malformed)?;
        if token.header_text("alg") != "RS256" {
            return Err(Refused::Signature);
        }
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.pair.public().as_ref())
            .verify(token.signed.as_bytes(), &token.signature)
            .map_err(|_| Refused::Signature)?;
        check_times(&token.claims, now)?;
        Ok(token.claims)
    }
}

/// A token in its compact form, taken apart and not verified.
pub(crate) struct Compact<'a> {
    pub(crate) header: Value,
    pub(crate) claims: Value,
    /// What the signature is over.
    pub(crate) signed: &'a str,
    pub(crate) signature: Vec<u8>,
}

impl<'a> Compact<'a> {
    pub(crate) fn parse(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let json = |part: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
            serde_json::from_slice::<Value>(&bytes).ok()
        };
        Some(Self {
            header: json(header)?,
            claims: json(claims)?,
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// A text in the header, empty when it is not there.
    pub(crate) fn header_text(&self, name: &str) -> &str {
        text(&self.header, name)
    }
}

/// A claim that is a text, empty when it is not there.
pub(crate) fn text<'a>(claims: &'a Value, name: &str) -> &'a str {
    claims.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Holds `exp` and `nbf` against the clock. No leeway: who signs and who verifies share one.
pub(crate) fn check_times(claims: &Value, now: Timestamp) -> Result<(), Refused> {
    let seconds = |name: &str| claims.get(name).and_then(Value::as_i64);
    if seconds("exp").is_none_or(|exp| exp <= now.as_second()) {
        return Err(Refused::Expired);
    }
    if seconds("nbf").is_some_and(|nbf| nbf > now.as_second()) {
        return Err(Refused::NotYetValid);
    }
    Ok(())
}

/// A random GUID (RFC 9562, version 4).
pub(crate) fn guid() -> String {
    let mut bytes = [0; 16];
    if ring::rand::SecureRandom::fill(&SystemRandom::new(), &mut bytes).is_err() {
        return "00000000-0000-4000-8000-000000000000".to_owned();
    }
    let bits = u128::from_be_bytes(bytes);
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        bits >> 96,
        (bits >> 80) & 0xffff,
        (bits >> 64) & 0xffff,
        (bits >> 48) & 0xffff,
        bits & 0xffff_ffff_ffff
    )
}

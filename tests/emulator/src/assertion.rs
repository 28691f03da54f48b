//! Client assertions: what stands in for a client secret (RFC 7523).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use x509_parser::parse_x509_certificate;
use x509_parser::public_key::PublicKey;

use crate::config::{FederatedCredential, Jwk, Principal};
use crate::jwt::{Compact, Refused, check_times, text};

/// How long an assertion of an application's own may live. Entra's documentation advises five to ten minutes; what the
/// service itself allows is documented nowhere.
const MAX_LIFETIME: i64 = 600;

/// The shortest RSA key that Entra takes, in bytes.
const MIN_KEY_BYTES: usize = 256;

/// Why Entra refuses an assertion.
///
/// Source: Microsoft Learn, "Microsoft Entra authentication and authorization error codes".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// AADSTS50027: not a token, or one without a claim that it needs.
    Malformed,
    /// AADSTS5002738: signed by an algorithm that is not taken.
    Algorithm,
    /// AADSTS700027: no certificate of the application has this thumbprint, in the form that goes with the algorithm.
    NotRegistered,
    /// AADSTS700027: the certificate is outside its time.
    CertificateTime,
    /// AADSTS700027: the signature is wrong.
    CertificateSignature,
    /// AADSTS700021: its subject is not its issuer.
    OwnSubject,
    /// AADSTS700024: outside its time, or for too long a time.
    Time,
    /// AADSTS700023: made for another audience.
    Audience,
    /// AADSTS700211: no federated credential has this issuer.
    Issuer,
    /// AADSTS700213: none has this subject.
    Subject,
    /// AADSTS700212: none has this audience.
    FederatedAudience,
    /// AADSTS50013: the issuer has no such key.
    FederatedKey,
    /// AADSTS5000131: the issuer's key did not sign it.
    FederatedSignature,
}

/// Verifies an assertion for a principal; `endpoints` are the audiences that one of the principal's own may name.
pub(crate) fn verify(
    assertion: &str,
    principal: &Principal,
    endpoints: &[String],
    now: Timestamp,
) -> Result<(), Rejection> {
    let token = Compact::parse(assertion).ok_or(Rejection::Malformed)?;
    let algorithm = Algorithm::of(&token).ok_or(Rejection::Algorithm)?;
    // What the application signs itself names it as issuer; anything else is another identity provider's.
    if text(&token.claims, "iss").eq_ignore_ascii_case(&principal.client_id) {
        signed_by_certificate(&token, algorithm, principal, now)?;
        own_claims(&token.claims)?;
        if !endpoints
            .iter()
            .any(|endpoint| has_audience(&token.claims, endpoint))
        {
            return Err(Rejection::Audience);
        }
    } else {
        federated(&token, algorithm, &principal.federated_credentials)?;
    }
    match check_times(&token.claims, now) {
        Ok(()) => Ok(()),
        Err(Refused::Expired | Refused::NotYetValid) => Err(Rejection::Time),
        Err(Refused::Malformed | Refused::Signature) => Err(Rejection::Malformed),
    }
}

/// A signature algorithm that Entra takes.
#[derive(Clone, Copy)]
struct Algorithm {
    parameters: &'static RsaParameters,
    is_pss: bool,
}

impl Algorithm {
    fn of(token: &Compact<'_>) -> Option<Self> {
        let (parameters, is_pss) = match token.header_text("alg") {
            "RS256" => (&RSA_PKCS1_2048_8192_SHA256, false),
            "RS384" => (&RSA_PKCS1_2048_8192_SHA384, false),
            "RS512" => (&RSA_PKCS1_2048_8192_SHA512, false),
            "PS256" => (&RSA_PSS_2048_8192_SHA256, true),
            "PS384" => (&RSA_PSS_2048_8192_SHA384, true),
            "PS512" => (&RSA_PSS_2048_8192_SHA512, true),
            _ => return None,
        };
        Some(Self { parameters, is_pss })
    }

    fn verifies(self, token: &Compact<'_>, modulus: &[u8], exponent: &[u8]) -> bool {
        let significant = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect();
        let key: PublicKeyComponents<Vec<u8>> = PublicKeyComponents {
            n: significant(modulus),
            e: significant(exponent),
        };
        key.verify(self.parameters, token.signed.as_bytes(), &token.signature)
            .is_ok()
    }
}

/// A certificate is found by the thumbprint that goes with the algorithm: `x5t#S256` with PS256 and its longer forms, which is
/// what Microsoft's libraries send today, the SHA-1 `x5t` with RS256 and its.
fn signed_by_certificate(
    token: &Compact<'_>,
    algorithm: Algorithm,
    principal: &Principal,
    now: Timestamp,
) -> Result<(), Rejection> {
    let (header, hash) = if algorithm.is_pss {
        ("x5t#S256", &SHA256)
    } else {
        ("x5t", &SHA1_FOR_LEGACY_USE_ONLY)
    };
    let der = principal
        .certificates
        .iter()
        .filter_map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok())
        .find(|der| token.header_text(header) == URL_SAFE_NO_PAD.encode(digest(hash, der)))
        .ok_or(Rejection::NotRegistered)?;
    let (_, certificate) = parse_x509_certificate(&der).map_err(|_| Rejection::NotRegistered)?;
    let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed() else {
        return Err(Rejection::NotRegistered);
    };
    if key.modulus.iter().skip_while(|byte| **byte == 0).count() < MIN_KEY_BYTES {
        return Err(Rejection::NotRegistered);
    }
    let validity = certificate.validity();
    let times = validity.not_before.timestamp()..validity.not_after.timestamp();
    if !times.contains(&now.as_second()) {
        return Err(Rejection::CertificateTime);
    }
    if algorithm.verifies(token, key.modulus, key.exponent) {
        Ok(())
    } else {
        Err(Rejection::CertificateSignature)
    }
}

/// What an application says in an assertion of its own.
///
/// Source: Microsoft Learn, "Microsoft identity platform application authentication certificate credentials".
fn own_claims(claims: &Value) -> Result<(), Rejection> {
    if text(claims, "jti").is_empty() {
        return Err(Rejection::Malformed);
    }
    if text(claims, "sub") != text(claims, "iss") {
        return Err(Rejection::OwnSubject);
    }
    let seconds = |name: &str| claims.get(name).and_then(Value::as_i64);
    match (seconds("nbf"), seconds("exp")) {
        (Some(nbf), Some(exp)) if exp.saturating_sub(nbf) <= MAX_LIFETIME => Ok(()),
        (Some(_), Some(_)) => Err(Rejection::Time),
        _ => Err(Rejection::Malformed),
    }
}

fn federated(
    token: &Compact<'_>,
    algorithm: Algorithm,
    credentials: &[FederatedCredential],
) -> Result<(), Rejection> {
    let of_issuer: Vec<_> = credentials
        .iter()
        .filter(|credential| credential.issuer == text(&token.claims, "iss"))
        .collect();
    if of_issuer.is_empty() {
        return Err(Rejection::Issuer);
    }
    let of_subject: Vec<_> = of_issuer
        .into_iter()
        .filter(|credential| credential.subject == text(&token.claims, "sub"))
        .collect();
    if of_subject.is_empty() {
        return Err(Rejection::Subject);
    }
    let credential = of_subject
        .into_iter()
        .find(|credential| has_audience(&token.claims, &credential.audience))
        .ok_or(Rejection::FederatedAudience)?;
    let kid = token.header_text("kid");
    let mut keys = credential
        .jwks
        .keys
        .iter()
        .filter(|key| key.kty == "RSA" && (kid.is_empty() || key.kid.is_empty() || key.kid == kid))
        .peekable();
    if keys.peek().is_none() {
        return Err(Rejection::FederatedKey);
    }
    if keys.any(|key| signed_by_key(token, algorithm, key)) {
        Ok(())
    } else {
        Err(Rejection::FederatedSignature)
    }
}

fn signed_by_key(token: &Compact<'_>, algorithm: Algorithm, key: &Jwk) -> bool {
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
    algorithm.verifies(token, &decode(&key.n), &decode(&key.e))
}

fn has_audience(claims: &Value, wanted: &str) -> bool {
    match claims.get("aud") {
        Some(Value::String(audience)) => audience == wanted,
        Some(Value::Array(audiences)) => audiences.iter().any(|audience| audience.as_str() == Some(wanted)),
        _ => false,
    }
}

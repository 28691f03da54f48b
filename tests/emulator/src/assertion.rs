//! Client assertions: what stands in for a client secret (RFC 7523).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use crate::config::{FederatedCredential, Jwk, Principal};
use crate::jwt::{Compact, Refused, check_times, text};

/// Why Entra refuses an assertion.
///
/// Source: Microsoft Learn, "Microsoft Entra authentication and authorization error codes".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// AADSTS50027: not a token.
    Malformed,
    /// AADSTS700027: no such certificate, or its signature is wrong.
    Certificate,
    /// AADSTS700024: outside its time.
    Time,
    /// AADSTS700023: made for another audience.
    Audience,
    /// AADSTS700211: no federated credential has this issuer.
    Issuer,
    /// AADSTS700213: none has this subject.
    Subject,
    /// AADSTS700212: none has this audience.
    FederatedAudience,
    /// AADSTS50013: the issuer's keys did not sign it.
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
    // What the application signs itself names it as issuer; anything else is another identity provider's.
    if text(&token.claims, "iss").eq_ignore_ascii_case(&principal.client_id) {
        signed_by_certificate(&token, principal)?;
        if !endpoints
            .iter()
            .any(|endpoint| has_audience(&token.claims, endpoint))
        {
            return Err(Rejection::Audience);
        }
    } else {
        federated(&token, &principal.federated_credentials)?;
    }
    match check_times(&token.claims, now) {
        Ok(()) => Ok(()),
        Err(Refused::Expired | Refused::NotYetValid) => Err(Rejection::Time),
        Err(Refused::Malformed | Refused::Signature) => Err(Rejection::Malformed),
    }
}

fn signed_by_certificate(token: &Compact<'_>, principal: &Principal) -> Result<(), Rejection> {
    let certificate = principal
        .certificates
        .iter()
        .filter_map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok())
        .find(|der| {
            let named = |header: &str, algorithm| {
                token.header_text(header) == URL_SAFE_NO_PAD.encode(digest(algorithm, der))
            };
            named("x5t", &SHA1_FOR_LEGACY_USE_ONLY) || named("x5t#S256", &SHA256)
        })
        .ok_or(Rejection::Certificate)?;
    let certificate = webpki::EndEntityCert::try_from(&certificate).map_err(|_| Rejection::Certificate)?;
    let key = certificate.subject_public_key_info();
    match token.header_text("alg") {
        "ES256" => {
            // The key info of a P-256 key ends in its uncompressed point, of 65 bytes (RFC 5480).
            let point = key.len().checked_sub(65).and_then(|start| key.get(start..));
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.unwrap_or_default())
                .verify(token.signed.as_bytes(), &token.signature)
                .map_err(|_| Rejection::Certificate)
        }
        algorithm => {
            let rsa = match algorithm {
                "RS256" => webpki::ring::RSA_PKCS1_2048_8192_SHA256,
                "PS256" => webpki::ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
                _ => return Err(Rejection::Certificate),
            };
            certificate
                .verify_signature(rsa, token.signed.as_bytes(), &token.signature)
                .map_err(|_| Rejection::Certificate)
        }
    }
}

fn federated(token: &Compact<'_>, credentials: &[FederatedCredential]) -> Result<(), Rejection> {
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
    let signed = credential
        .jwks
        .keys
        .iter()
        .filter(|key| kid.is_empty() || key.kid.is_empty() || key.kid == kid)
        .any(|key| signed_by_key(token, key));
    if signed {
        Ok(())
    } else {
        Err(Rejection::FederatedSignature)
    }
}

fn signed_by_key(token: &Compact<'_>, key: &Jwk) -> bool {
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
    let message = token.signed.as_bytes();
    match (key.kty.as_str(), token.header_text("alg")) {
        ("RSA", algorithm @ ("RS256" | "PS256")) => {
            let parameters = if algorithm == "RS256" {
                &RSA_PKCS1_2048_8192_SHA256
            } else {
                &RSA_PSS_2048_8192_SHA256
            };
            RsaPublicKeyComponents {
                n: decode(&key.n),
                e: decode(&key.e),
            }
            .verify(parameters, message, &token.signature)
            .is_ok()
        }
        ("EC", "ES256") => {
            let mut point = vec![4];
            point.extend(decode(&key.x));
            point.extend(decode(&key.y));
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(message, &token.signature)
                .is_ok()
        }
        _ => false,
    }
}

fn has_audience(claims: &Value, wanted: &str) -> bool {
    match claims.get("aud") {
        Some(Value::String(audience)) => audience == wanted,
        Some(Value::Array(audiences)) => audiences.iter().any(|audience| audience.as_str() == Some(wanted)),
        _ => false,
    }
}

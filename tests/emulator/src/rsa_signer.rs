//! RSA keys for tests, and what they sign: certificates, client assertions and service account tokens.
//!
//! They are checked in, since neither ring nor rcgen makes RSA keys, and every other way is slow.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    RsaEncoding,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::config::Jwk;
use crate::error::EmulatorError;

/// An RSA key of 2,048 bits that everybody can read.
#[derive(Debug, Clone, Copy)]
pub struct RsaSigner {
    pem: &'static str,
}

impl RsaSigner {
    /// One key.
    pub const FIRST: Self = Self {
        pem: include_str!("../testdata/rsa-2048-first.pem"),
    };
    /// Another.
    pub const SECOND: Self = Self {
        pem: include_str!("../testdata/rsa-2048-second.pem"),
    };
    /// A certificate until 2100 and its key, of 1,024 bits, in PEM.
    pub const SHORT_CERTIFICATE: &'static str = include_str!("../testdata/rsa-1024.pem");

    /// The private key as PKCS #8, in PEM.
    pub fn pem(&self) -> &'static str {
        self.pem
    }

    /// The private key as PKCS #1, in PEM.
    pub fn pkcs1_pem(&self) -> Result<String, EmulatorError> {
        // What PKCS #8 puts before a key of this size (RFC 5208): version, algorithm and lengths.
        const BEFORE: usize = 26;
        let key = PrivatePkcs8KeyDer::from_pem_slice(self.pem.as_bytes())?;
        let key = STANDARD.encode(key.secret_pkcs8_der().get(BEFORE..).unwrap_or_default());
        Ok(format!(
            "-----BEGIN RSA PRIVATE KEY-----\n{key}\n-----END RSA PRIVATE KEY-----\n"
        ))
    }

    /// The public key, in PEM.
    pub fn public_pem(&self) -> Result<String, EmulatorError> {
        use rcgen::PublicKeyData;
        let key = STANDARD.encode(KeyPair::from_pem(self.pem)?.subject_public_key_info());
        Ok(format!(
            "-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n"
        ))
    }

    /// A certificate for a name, good for thousands of years, in PEM. The same name gives the same certificate.
    pub fn certificate(&self, name: &str) -> Result<String, EmulatorError> {
        self.certificate_of(name, CertificateParams::default())
    }

    /// A certificate for a name and a time, in PEM.
    pub fn certificate_for(
        &self,
        name: &str,
        from: Timestamp,
        end: Timestamp,
    ) -> Result<String, EmulatorError> {
        let mut params = CertificateParams::default();
        let time = |at: Timestamp, otherwise| {
            OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap_or(otherwise)
        };
        params.not_before = time(from, params.not_before);
        params.not_after = time(end, params.not_after);
        self.certificate_of(name, params)
    }

    fn certificate_of(&self, name: &str, mut params: CertificateParams) -> Result<String, EmulatorError> {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(params.self_signed(&KeyPair::from_pem(self.pem)?)?.pem())
    }

    /// The public key, as an issuer publishes it.
    pub fn jwk(&self, kid: &str) -> Result<Jwk, EmulatorError> {
        let key = self.pair()?;
        let public = rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
        Ok(Jwk {
            kty: "RSA".to_owned(),
            kid: kid.to_owned(),
            n: URL_SAFE_NO_PAD.encode(public.n),
            e: URL_SAFE_NO_PAD.encode(public.e),
        })
    }

    /// The thumbprints of a certificate in PEM, as `x5t` and `x5t#S256` have them (RFC 7515).
    pub fn thumbprints(certificate: &str) -> Result<(String, String), EmulatorError> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())?;
        Ok((
            URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &der)),
            URL_SAFE_NO_PAD.encode(digest(&SHA256, &der)),
        ))
    }

    /// A token with these claims, signed by the algorithm that its header names.
    pub fn sign(&self, header: &Value, claims: &Value) -> Result<String, EmulatorError> {
        let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or_default();
        let encoding: &dyn RsaEncoding = match algorithm {
            "RS256" => &RSA_PKCS1_SHA256,
            "RS384" => &RSA_PKCS1_SHA384,
            "RS512" => &RSA_PKCS1_SHA512,
            "PS256" => &RSA_PSS_SHA256,
            "PS384" => &RSA_PSS_SHA384,
            "PS512" => &RSA_PSS_SHA512,
            other => return Err(EmulatorError::Algorithm(other.to_owned())),
        };
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        let key = self.pair()?;
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(encoding, &SystemRandom::new(), token.as_bytes(), &mut signature)
            .map_err(|ring::error::Unspecified| EmulatorError::Signing)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// A service account token as an API server with this key signs it.
    pub fn service_account_token(&self, claims: &Value) -> Result<String, EmulatorError> {
        self.sign(&json!({"alg": "RS256"}), claims)
    }

    fn pair(&self) -> Result<rsa::KeyPair, EmulatorError> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(self.pem.as_bytes())?;
        rsa::KeyPair::from_pkcs8(key.secret_pkcs8_der()).map_err(EmulatorError::Key)
    }
}

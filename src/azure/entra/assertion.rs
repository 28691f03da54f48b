//! Client assertions: a token in place of a client secret (RFC 7523).

use azure_core::http::ClientMethodOptions;
use azure_identity::ClientAssertion;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::rsa;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde_json::json;
use thiserror::Error;

use crate::azure::identity::Application;
use crate::base::secret_text::SecretText;

/// Entra ID's advice is five to ten minutes (Microsoft Learn, "Certificate credentials for application authentication").
const LIFETIME_SECONDS: i64 = 600;

/// An assertion that is already made.
#[derive(Debug)]
pub(super) struct Assertion(SecretText);

impl Assertion {
    pub(super) fn new(token: SecretText) -> Self {
        Self(token)
    }
}

#[async_trait::async_trait]
impl ClientAssertion for Assertion {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        Ok(self.0.expose().to_owned())
    }
}

/// Why a client certificate can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// No certificate.
    #[error("there is no certificate in PEM (BEGIN CERTIFICATE)")]
    NoCertificate,
    /// No private key.
    #[error("there is no private key in PEM (BEGIN PRIVATE KEY) beside the certificate")]
    NoKey,
    /// A key of a kind that can't be used.
    #[error(
        "the private key must be an RSA key of 2048 bits or more or a P-256 key, in PKCS #8 without a password; \
         `openssl pkcs8 -topk8 -nocrypt` makes one"
    )]
    Key,
    /// The two do not belong together.
    #[error("the private key does not belong to the first certificate")]
    Mismatch,
    /// The certificate can't be read.
    #[error("the first certificate can't be read")]
    Certificate,
    /// No signature or no random number could be made.
    #[error("signing failed")]
    Signing,
}

/// A certificate of an application, with its key.
pub(super) struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: Key,
}

enum Key {
    Rsa(rsa::KeyPair),
    P256(EcdsaKeyPair),
}

/// Whether a certificate and its key can be used, before they are given to anybody.
pub fn check_certificate(pem: &SecretText) -> Result<(), CertificateError> {
    ClientCertificate::parse(pem).map(drop)
}

impl ClientCertificate {
    pub(super) fn parse(pem: &SecretText) -> Result<Self, CertificateError> {
        let pem = pem.expose().as_bytes();
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|_| CertificateError::NoCertificate)?;
        if chain.is_empty() {
            return Err(CertificateError::NoCertificate);
        }
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| CertificateError::NoKey)?;
        let key = Key::from_der(&der)?;
        let provider = rustls::crypto::ring::default_provider();
        match CertifiedKey::from_der(chain.clone(), der, &provider) {
            Ok(_) => Ok(Self { chain, key }),
            Err(rustls::Error::InconsistentKeys(_)) => Err(CertificateError::Mismatch),
            Err(_) => Err(CertificateError::Certificate),
        }
    }

    /// A signed assertion. The whole chain goes along, for applications that trust an issuer and subject in place of
    /// one certificate.
    ///
    /// Source: Microsoft Learn, "Microsoft identity platform application authentication certificate credentials".
    pub(super) fn assertion(
        &self,
        app: &Application,
        authority: &str,
        now: Timestamp,
    ) -> Result<Assertion, CertificateError> {
        let random = SystemRandom::new();
        let mut id = [0; 16];
        random.fill(&mut id).map_err(|_| CertificateError::Signing)?;
        let leaf = self.chain.first().ok_or(CertificateError::NoCertificate)?;
        let chain: Vec<_> = self.chain.iter().map(|der| STANDARD.encode(der)).collect();
        let header = json!({
            "typ": "JWT",
            "alg": self.key.algorithm(),
            "x5t#S256": URL_SAFE_NO_PAD.encode(digest(&SHA256, leaf)),
            "x5c": chain,
        });
        let claims = json!({
            "aud": format!("{authority}/{}/oauth2/v2.0/token", app.tenant_id),
            "iss": app.client_id,
            "sub": app.client_id,
            "jti": URL_SAFE_NO_PAD.encode(id),
            "iat": now.as_second(),
            "nbf": now.as_second(),
            "exp": now.as_second().saturating_add(LIFETIME_SECONDS),
        });
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        let signature = self.key.sign(&random, token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Assertion(token.into()))
    }
}

impl Key {
    fn from_der(der: &PrivateKeyDer<'_>) -> Result<Self, CertificateError> {
        let unusable = |_| CertificateError::Key;
        match der {
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                let random = SystemRandom::new();
                rsa::KeyPair::from_pkcs8(der)
                    .map(Self::Rsa)
                    .or_else(|_| {
                        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random)
                            .map(Self::P256)
                    })
                    .map_err(unusable)
            }
            PrivateKeyDer::Pkcs1(der) => rsa::KeyPair::from_der(der.secret_pkcs1_der())
                .map(Self::Rsa)
                .map_err(unusable),
            _ => Err(CertificateError::Key),
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
        }
    }

    fn sign(&self, random: &SystemRandom, message: &[u8]) -> Result<Vec<u8>, CertificateError> {
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, random, message, &mut signature)
                    .map_err(|_| CertificateError::Signing)?;
                Ok(signature)
            }
            Self::P256(key) => key
                .sign(random, message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| CertificateError::Signing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use serde_json::Value;

    /// For tests alone, since the TLS stack here can't make RSA keys.
    const RSA_KEY: &str = include_str!("testdata/rsa-key.pem");

    fn certificate(key: &KeyPair) -> String {
        let params = CertificateParams::new(Vec::new()).unwrap();
        params.self_signed(key).unwrap().pem()
    }

    fn app() -> Application {
        Application {
            tenant_id: "tenant".to_owned(),
            client_id: "client".to_owned(),
        }
    }

    fn parts(pem: &str) -> (Value, Value, String, Vec<u8>) {
        let certificate = ClientCertificate::parse(&pem.into()).unwrap();
        let now = Timestamp::from_second(1000).unwrap();
        let assertion = certificate
            .assertion(&app(), "https://login.example", now)
            .unwrap();
        let token = assertion.0.expose().to_owned();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let json = |part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        (json(header), json(claims), signed.to_owned(), signature)
    }

    #[test]
    fn an_assertion_says_who_and_for_whom_and_for_ten_minutes() {
        let key = KeyPair::generate().unwrap();
        let leaf = certificate(&key);
        let (header, claims, ..) = parts(&format!("{leaf}{}", key.serialize_pem()));
        let der = CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap();
        assert_eq!(header["x5t#S256"], URL_SAFE_NO_PAD.encode(digest(&SHA256, &der)));
        assert_eq!(header["x5c"], json!([STANDARD.encode(&der)]));
        assert_eq!(claims["aud"], "https://login.example/tenant/oauth2/v2.0/token");
        assert_eq!(
            (&claims["iss"], &claims["sub"]),
            (&json!("client"), &json!("client"))
        );
        assert_eq!((&claims["nbf"], &claims["exp"]), (&json!(1000), &json!(1600)));
        let (_, others, ..) = parts(&format!("{leaf}{}", key.serialize_pem()));
        assert_ne!(claims["jti"], others["jti"]);
    }

    #[test]
    fn both_kinds_of_keys_sign_what_their_certificate_verifies() {
        let p256 = KeyPair::generate().unwrap();
        let (header, _, signed, signature) =
            parts(&format!("{}{}", p256.serialize_pem(), certificate(&p256)));
        assert_eq!(header["alg"], "ES256");
        let verified = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, p256.public_key_raw())
            .verify(signed.as_bytes(), &signature);
        assert!(verified.is_ok());

        let rsa = KeyPair::from_pem(RSA_KEY).unwrap();
        let (header, _, signed, signature) = parts(&format!("{}{RSA_KEY}", certificate(&rsa)));
        assert_eq!(header["alg"], "RS256");
        let verified = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, rsa.public_key_raw())
            .verify(signed.as_bytes(), &signature);
        assert!(verified.is_ok());
    }

    #[test]
    fn what_can_not_be_used_is_told_apart() {
        let key = KeyPair::generate().unwrap();
        let other = KeyPair::generate().unwrap().serialize_pem();
        let leaf = certificate(&key);
        let key = key.serialize_pem();
        let sec1 = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";
        let junk = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (pem, error) in [
            (String::new(), CertificateError::NoCertificate),
            ("hunter2".to_owned(), CertificateError::NoCertificate),
            (key.clone(), CertificateError::NoCertificate),
            (leaf.clone(), CertificateError::NoKey),
            (format!("{leaf}{sec1}"), CertificateError::Key),
            (format!("{leaf}{junk}"), CertificateError::Key),
            (format!("{leaf}{other}"), CertificateError::Mismatch),
            (format!("{odd}{key}"), CertificateError::Certificate),
        ] {
            assert_eq!(
                ClientCertificate::parse(&pem.as_str().into()).err(),
                Some(error),
                "{pem}"
            );
        }
    }

    #[test]
    fn an_assertion_is_not_shown() {
        assert_eq!(
            format!("{:?}", Assertion::new("hunter2".into())),
            "Assertion([redacted])"
        );
    }
}

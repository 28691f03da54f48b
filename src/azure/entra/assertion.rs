//! Client assertions: a token in place of a client secret (RFC 7523).

use azure_core::http::ClientMethodOptions;
use azure_identity::ClientAssertion;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::RSA_PSS_SHA256;
use serde_json::json;

use crate::azure::entra::certificate::{CertificateError, ClientCertificate};
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

impl ClientCertificate {
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
            // The pairing that Microsoft's libraries send. Entra ID refuses `x5t#S256` beside RS256.
            "alg": "PS256",
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
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PSS_SHA256, &random, token.as_bytes(), &mut signature)
            .map_err(|_| CertificateError::Signing)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Assertion(token.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pullpass_emulator::RsaSigner;
    use rcgen::KeyPair;
    use ring::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use serde_json::Value;

    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn app() -> Application {
        Application {
            tenant_id: "tenant".to_owned(),
            client_id: "client".to_owned(),
        }
    }

    fn parts(pem: &str) -> (Value, Value, String, Vec<u8>) {
        let certificate = ClientCertificate::parse(&pem.into(), at(NOW)).unwrap();
        let assertion = certificate
            .assertion(&app(), "https://login.example", at(NOW))
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
        let leaf = RsaSigner::FIRST.certificate("app").unwrap();
        let pem = format!("{leaf}{}", RsaSigner::FIRST.pem());
        let (header, claims, ..) = parts(&pem);
        let der = CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap();
        assert_eq!(header["x5t#S256"], URL_SAFE_NO_PAD.encode(digest(&SHA256, &der)));
        assert_eq!(header["x5c"], json!([STANDARD.encode(&der)]));
        assert_eq!(claims["aud"], "https://login.example/tenant/oauth2/v2.0/token");
        assert_eq!(
            (&claims["iss"], &claims["sub"]),
            (&json!("client"), &json!("client"))
        );
        assert_eq!((&claims["nbf"], &claims["exp"]), (&json!(NOW), &json!(NOW + 600)));
        let (_, others, ..) = parts(&pem);
        assert_ne!(claims["jti"], others["jti"]);
    }

    #[test]
    fn an_assertion_is_signed_by_ps256_whatever_the_keys_form() {
        let leaf = RsaSigner::FIRST.certificate("app").unwrap();
        for key in [
            RsaSigner::FIRST.pem().to_owned(),
            RsaSigner::FIRST.pkcs1_pem().unwrap(),
        ] {
            let (header, _, signed, signature) = parts(&format!("{key}{leaf}"));
            assert_eq!(header["alg"], "PS256");
            assert_eq!(header["x5t"], Value::Null);
            let public_key = KeyPair::from_pem(RsaSigner::FIRST.pem()).unwrap();
            let verified = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, public_key.public_key_raw())
                .verify(signed.as_bytes(), &signature);
            assert!(verified.is_ok());
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

//! Client assertions: a token in place of a client secret (RFC 7523).

use azure_core::http::ClientMethodOptions;
use azure_identity::ClientAssertion;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::rsa;
use ring::signature::RSA_PSS_SHA256;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use thiserror::Error;
use x509_parser::parse_x509_certificate;
use x509_parser::public_key::PublicKey;

use crate::azure::identity::Application;
use crate::base::secret_text::SecretText;

/// Entra ID's advice is five to ten minutes (Microsoft Learn, "Certificate credentials for application authentication").
const LIFETIME_SECONDS: i64 = 600;

/// Entra ID refuses shorter RSA keys.
const MIN_KEY_BITS: usize = 2048;

/// How far this machine's clock may be behind that of the machine which made a certificate a moment ago.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(5);

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
    /// A key of another kind than RSA.
    #[error("the certificate's key is not an RSA key, and Entra ID takes signatures of RSA keys alone")]
    NotRsa,
    /// An RSA key that is too short.
    #[error(
        "the certificate's RSA key has {bits} bits, and Entra ID takes RSA keys of 2048 bits or more alone"
    )]
    ShortKey {
        /// How many it has.
        bits: usize,
    },
    /// The certificate has expired.
    #[error("the certificate expired on {since}")]
    Expired {
        /// When it did.
        since: Timestamp,
    },
    /// The certificate is not valid yet.
    #[error("the certificate is not valid before {until}")]
    NotYetValid {
        /// When it will be.
        until: Timestamp,
    },
    /// A private key that can't be read.
    #[error(
        "the private key must be an RSA key of 2048 to 4096 bits, in PKCS #8 without a password; \
         `openssl pkcs8 -topk8 -nocrypt` makes one of another form"
    )]
    Key,
    /// The two do not belong together.
    #[error("the private key does not belong to the certificate, or to any of several")]
    Mismatch,
    /// The certificate can't be read.
    #[error("the certificate can't be read")]
    Certificate,
    /// No signature or no random number could be made.
    #[error("signing failed")]
    Signing,
}

/// A certificate of an application, with its key.
pub(super) struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: rsa::KeyPair,
}

/// Whether a certificate and its key can be used now, before they are given to anybody.
pub fn check_certificate(pem: &SecretText, now: Timestamp) -> Result<(), CertificateError> {
    ClientCertificate::parse(pem, now).map(drop)
}

impl ClientCertificate {
    pub(super) fn parse(pem: &SecretText, now: Timestamp) -> Result<Self, CertificateError> {
        let pem = pem.expose().as_bytes();
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|_| CertificateError::NoCertificate)?;
        let first = certificates.first().ok_or(CertificateError::NoCertificate)?;
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| CertificateError::NoKey)?;
        let key = match &der {
            PrivateKeyDer::Pkcs8(der) => rsa::KeyPair::from_pkcs8(der.secret_pkcs8_der()).ok(),
            PrivateKeyDer::Pkcs1(der) => rsa::KeyPair::from_der(der.secret_pkcs1_der()).ok(),
            _ => None,
        };
        let Some(key) = key else {
            // A certificate that Entra ID does not take is the better reason.
            check_usable(first, now)?;
            return Err(CertificateError::Key);
        };
        let mut own = certificates
            .iter()
            .filter(|der| has_public_key(der, key.public().as_ref()));
        let Some(leaf) = own.next() else {
            check_usable(first, now)?;
            return Err(CertificateError::Mismatch);
        };
        // A certificate that was renewed with its key may lie beside the one before.
        let leaf = match check_usable(leaf, now) {
            Ok(()) => leaf,
            Err(error) => own.find(|der| check_usable(der, now).is_ok()).ok_or(error)?,
        };
        let chain = chain_of(leaf, &certificates);
        Ok(Self { chain, key })
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

/// A certificate and those that issued it, each before its issuer, whatever the order in which they came. Others are left out.
fn chain_of(leaf: &CertificateDer<'static>, all: &[CertificateDer<'static>]) -> Vec<CertificateDer<'static>> {
    let mut chain = vec![leaf.clone()];
    while let Some(issuer) = chain.last().and_then(|last| issuer_of(last, all)) {
        if chain.contains(issuer) {
            break;
        }
        chain.push(issuer.clone());
    }
    chain
}

fn issuer_of<'a>(
    der: &CertificateDer<'_>,
    all: &'a [CertificateDer<'static>],
) -> Option<&'a CertificateDer<'static>> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let issuer = certificate.issuer().as_raw();
    all.iter().find(|other| {
        parse_x509_certificate(other).is_ok_and(|(_, other)| other.subject().as_raw() == issuer)
    })
}

fn has_public_key(der: &CertificateDer<'_>, public_key: &[u8]) -> bool {
    parse_x509_certificate(der)
        .is_ok_and(|(_, certificate)| *certificate.public_key().subject_public_key.data == *public_key)
}

/// Whether Entra ID takes a certificate now.
fn check_usable(der: &CertificateDer<'_>, now: Timestamp) -> Result<(), CertificateError> {
    let (_, certificate) = parse_x509_certificate(der).map_err(|_| CertificateError::Certificate)?;
    let public_key = &certificate.tbs_certificate.subject_pki;
    match public_key.parsed() {
        Ok(PublicKey::RSA(key)) => {
            let bits = bits(key.modulus);
            if bits < MIN_KEY_BITS {
                return Err(CertificateError::ShortKey { bits });
            }
        }
        Ok(_) => return Err(CertificateError::NotRsa),
        Err(_) => return Err(CertificateError::Certificate),
    }
    let validity = certificate.validity();
    let from = Timestamp::from_second(validity.not_before.timestamp()).unwrap_or(Timestamp::MIN);
    let end = Timestamp::from_second(validity.not_after.timestamp()).unwrap_or(Timestamp::MAX);
    if now >= end {
        return Err(CertificateError::Expired { since: end });
    }
    if from.duration_since(now) > MAX_SKEW {
        return Err(CertificateError::NotYetValid { until: from });
    }
    Ok(())
}

/// The length of a big-endian number.
fn bits(number: &[u8]) -> usize {
    let significant = number.iter().position(|byte| *byte != 0);
    let Some((first, rest)) = significant.and_then(|at| number.get(at..)?.split_first()) else {
        return 0;
    };
    let first = u8::BITS - first.leading_zeros();
    rest.len() * 8 + usize::try_from(first).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pullpass_emulator::RsaSigner;
    use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair};
    use ring::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
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

    fn error_of(pem: &str, now: i64) -> Option<CertificateError> {
        ClientCertificate::parse(&pem.into(), at(now)).err()
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

    /// A certificate of the first key, that of its issuer, and the root, in PEM.
    fn chain() -> [String; 3] {
        let named = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params
        };
        let [root_key, issuer_key] = [(), ()].map(|()| KeyPair::generate().unwrap());
        let root = named("root").self_signed(&root_key).unwrap().pem();
        let root_issuer = Issuer::new(named("root"), root_key);
        let issuer = named("issuer")
            .signed_by(&issuer_key, &root_issuer)
            .unwrap()
            .pem();
        let key = KeyPair::from_pem(RsaSigner::FIRST.pem()).unwrap();
        let leaf = named("app").signed_by(&key, &Issuer::new(named("issuer"), issuer_key));
        [leaf.unwrap().pem(), issuer, root]
    }

    #[test]
    fn a_chain_is_sent_leaf_first_whatever_its_order() {
        let [leaf, issuer, root] = chain();
        let key = RsaSigner::FIRST.pem();
        let stranger = RsaSigner::SECOND.certificate("stranger").unwrap();
        let der = |pem: &String| STANDARD.encode(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap());
        let expected = json!([der(&leaf), der(&issuer), der(&root)]);
        // As `openssl pkcs12 -nodes` writes it.
        let attributes = "Bag Attributes\n    localKeyID: 01 00 00 00\n    friendlyName: app\nKey Attributes: <No Attributes>\n";
        let subject = "subject=CN = root\n\nissuer=CN = root\n\n";
        for pem in [
            format!("{leaf}{issuer}{root}{key}"),
            format!("{key}{root}{issuer}{leaf}"),
            format!("{attributes}{key}{attributes}{subject}{root}{attributes}{issuer}{attributes}{leaf}"),
            format!("{stranger}{issuer}{leaf}{stranger}{key}{root}"),
            format!("{root}{issuer}{leaf}{key}").replace('\n', "\r\n"),
        ] {
            let (header, ..) = parts(&pem);
            assert_eq!(header["x5c"], expected, "{pem}");
        }
        let (header, ..) = parts(&format!("{leaf}{key}"));
        assert_eq!(header["x5c"], json!([der(&leaf)]));
    }

    #[test]
    fn a_renewed_certificate_beside_the_expired_one_is_used() {
        let made = |from: i64| {
            RsaSigner::FIRST
                .certificate_for("app", at(from), at(from + 100))
                .unwrap()
        };
        let (expired, renewed) = (made(NOW - 200), made(NOW - 50));
        let key = RsaSigner::FIRST.pem();
        for pem in [
            format!("{expired}{renewed}{key}"),
            format!("{renewed}{expired}{key}"),
        ] {
            let (header, ..) = parts(&pem);
            let der = CertificateDer::from_pem_slice(renewed.as_bytes()).unwrap();
            assert_eq!(header["x5c"][0], json!(STANDARD.encode(&der)));
        }
        let error = error_of(&format!("{expired}{key}"), NOW);
        assert_eq!(error, Some(CertificateError::Expired { since: at(NOW - 100) }));
    }

    #[test]
    fn unusable_certificates_are_told_apart() {
        let key = RsaSigner::FIRST.pem();
        let other = RsaSigner::SECOND.pem();
        let leaf = RsaSigner::FIRST.certificate("app").unwrap();
        let sec1 = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";
        let junk = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let p256 = KeyPair::generate().unwrap();
        let params = CertificateParams::new(Vec::new()).unwrap();
        let p256_leaf = params.self_signed(&p256).unwrap().pem();
        let p256 = p256.serialize_pem();
        for (pem, error) in [
            (String::new(), CertificateError::NoCertificate),
            ("hunter2".to_owned(), CertificateError::NoCertificate),
            (key.to_owned(), CertificateError::NoCertificate),
            (leaf.clone(), CertificateError::NoKey),
            (format!("{leaf}{sec1}"), CertificateError::Key),
            (format!("{leaf}{junk}"), CertificateError::Key),
            (format!("{leaf}{p256}"), CertificateError::Key),
            (format!("{leaf}{other}"), CertificateError::Mismatch),
            (format!("{odd}{key}"), CertificateError::Certificate),
            (format!("{p256_leaf}{p256}"), CertificateError::NotRsa),
            (
                RsaSigner::SHORT_CERTIFICATE.to_owned(),
                CertificateError::ShortKey { bits: 1024 },
            ),
        ] {
            assert_eq!(error_of(&pem, NOW), Some(error), "{pem}");
        }
    }

    #[test]
    fn a_certificate_is_valid_for_its_time_less_a_skew() {
        let (from, end) = (NOW, NOW + 86_400);
        let leaf = RsaSigner::FIRST
            .certificate_for("app", at(from), at(end))
            .unwrap();
        let pem = format!("{leaf}{}", RsaSigner::FIRST.pem());
        for now in [from - 300, from, end - 1] {
            assert_eq!(error_of(&pem, now), None, "{now}");
        }
        assert_eq!(
            error_of(&pem, from - 301),
            Some(CertificateError::NotYetValid { until: at(from) })
        );
        assert_eq!(
            error_of(&pem, end),
            Some(CertificateError::Expired { since: at(end) })
        );
    }

    #[test]
    fn lengths_of_keys_count_from_their_first_bit() {
        for (number, expected) in [(&[][..], 0), (&[0, 0], 0), (&[0, 0x80, 0], 16), (&[0x7f, 0], 15)] {
            assert_eq!(bits(number), expected, "{number:?}");
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

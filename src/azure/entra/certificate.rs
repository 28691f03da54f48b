//! Client certificates as people have them: in PEM, with their key and their issuers' certificates.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use ring::rsa;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use x509_parser::parse_x509_certificate;
use x509_parser::public_key::PublicKey;

use crate::base::secret_text::SecretText;

/// Entra ID refuses shorter RSA keys.
const MIN_KEY_BITS: usize = 2048;

/// How far this machine's clock may be behind that of the machine which made a certificate a moment ago.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// How PKCS #8 and the older form of OpenSSL say that a key is encrypted.
const ENCRYPTED_KEY_MARKS: [&str; 2] = ["-----BEGIN ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED"];

/// How many certificates are sent at most. Chains are of two to four; a Secret may hold thousands.
const MAX_CHAIN: usize = 16;

/// How many characters of base64 show what is encoded.
const HEAD: usize = 16;

/// Why a client certificate can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// No certificate.
    #[error("there is no certificate in PEM (BEGIN CERTIFICATE)")]
    NoCertificate,
    /// A PFX as text, as a Secret has it that a tool filled from Azure Key Vault.
    #[error(
        "it is a PFX (PKCS #12) in base64, as Azure Key Vault gives certificates: convert it to PEM with `base64 -d FILE | \
         openssl pkcs12 -out certificate.pem -nodes`"
    )]
    Pfx,
    /// No private key.
    #[error("there is no private key in PEM (BEGIN PRIVATE KEY) beside the certificate")]
    NoKey,
    /// A private key that only a password opens.
    #[error(
        "the private key is encrypted with a password, which pullpass does not support: decrypt it with \
         `openssl pkey -in FILE -out \
         key.pem`, and give it in place of the encrypted one"
    )]
    EncryptedKey,
    /// A key of another kind than RSA.
    #[error("the certificate's key is not an RSA key, and Entra ID accepts only signatures of RSA keys")]
    NotRsa,
    /// An RSA key that is too short.
    #[error(
        "the certificate's RSA key has {bits} bits, and Entra ID accepts only RSA keys of 2048 bits or more"
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
        "the private key must be an RSA key of 2048 to 4096 bits, in PKCS #8 without a password; `openssl \
         pkcs8 -topk8 -nocrypt` converts other forms"
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
    /// The certificate of the key, and each one's issuer after it.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: rsa::KeyPair,
}

/// Whether a certificate and its key can be used now, before they are given to anybody.
pub fn check_certificate(pem: &SecretText, now: Timestamp) -> Result<(), CertificateError> {
    ClientCertificate::parse(pem, now).map(drop)
}

impl ClientCertificate {
    pub(super) fn parse(pem: &SecretText, now: Timestamp) -> Result<Self, CertificateError> {
        let text = pem.expose();
        let pem = text.as_bytes();
        let is_encrypted = ENCRYPTED_KEY_MARKS.iter().any(|mark| text.contains(mark));
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        // Lines of the older form are no base64, so that nothing is read.
        let certificates = certificates.map_err(|_| {
            if is_encrypted {
                CertificateError::EncryptedKey
            } else {
                CertificateError::NoCertificate
            }
        })?;
        let Some(first) = certificates.first() else {
            return Err(if is_pfx(text) {
                CertificateError::Pfx
            } else {
                CertificateError::NoCertificate
            });
        };
        if is_encrypted {
            check_usable(first, now)?;
            return Err(CertificateError::EncryptedKey);
        }
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
}

/// A certificate and those that issued it, each before its issuer, whatever the order in which they came. Others are left out.
fn chain_of(leaf: &CertificateDer<'static>, all: &[CertificateDer<'static>]) -> Vec<CertificateDer<'static>> {
    let mut chain = vec![leaf.clone()];
    while let Some(issuer) = chain.last().and_then(|last| issuer_of(last, all)) {
        if chain.len() == MAX_CHAIN || chain.contains(issuer) {
            break;
        }
        chain.push(issuer.clone());
    }
    chain
}

/// The certificate of the one who signed another. An authority that was renewed with a new key has the same name as
/// before, so the name decides only if no key fits, for example if the algorithm is not known here.
fn issuer_of<'a>(
    der: &CertificateDer<'_>,
    all: &'a [CertificateDer<'static>],
) -> Option<&'a CertificateDer<'static>> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let issuer = certificate.issuer().as_raw();
    let mut by_name = None;
    for other in all {
        let Ok((_, parsed)) = parse_x509_certificate(other) else {
            continue;
        };
        if parsed.subject().as_raw() != issuer {
            continue;
        }
        if certificate.verify_signature(Some(parsed.public_key())).is_ok() {
            return Some(other);
        }
        by_name = by_name.or(Some(other));
    }
    by_name
}

/// Whether a text is a PFX in base64: a sequence that begins with the version 3.
fn is_pfx(text: &str) -> bool {
    let head: String = text
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .take(HEAD)
        .collect();
    let Ok(head) = STANDARD.decode(head) else {
        return false;
    };
    let rest = match head.as_slice() {
        [0x30, length @ 0x80..=0x84, rest @ ..] => rest.get(usize::from(length & 0x7f)..),
        _ => None,
    };
    rest.is_some_and(|rest| rest.starts_with(&[2, 1, 3]))
}

fn has_public_key(der: &CertificateDer<'_>, public_key: &[u8]) -> bool {
    parse_x509_certificate(der)
        .is_ok_and(|(_, certificate)| *certificate.public_key().subject_public_key.data == *public_key)
}

/// Whether Entra ID accepts a certificate now.
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

    const NOW: i64 = 1_800_000_000;

    /// How a PFX of `openssl pkcs12 -export` begins in base64.
    const PFX: &str = "MIIJzwIBAzCCCYUGCSqGSIb3DQEHAaCCCXYEgglyMIIJbjCCA+IGCSqGSIb3DQEHBqCCA9MwggPP\nAgEAMIIDyAYJKoZIhvcNAQcB\n";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn error_of(pem: &str, now: i64) -> Option<CertificateError> {
        ClientCertificate::parse(&pem.into(), at(now)).err()
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    /// What is sent of these.
    fn chain_in(pem: &str) -> Vec<CertificateDer<'static>> {
        ClientCertificate::parse(&pem.into(), at(NOW)).unwrap().chain
    }

    fn named(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    /// A certificate of the first key, that of its issuer, and the root, in PEM.
    fn chain() -> [String; 3] {
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
        let expected = [der(&leaf), der(&issuer), der(&root)];
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
            assert_eq!(chain_in(&pem), expected, "{pem}");
        }
        assert_eq!(chain_in(&format!("{leaf}{key}")), [der(&leaf)]);
    }

    #[test]
    fn the_issuer_is_the_one_whose_key_signed() {
        let key = KeyPair::from_pem(RsaSigner::FIRST.pem()).unwrap();
        let [old_key, new_key] = [(), ()].map(|()| KeyPair::generate().unwrap());
        let [old, new] = [&old_key, &new_key].map(|key| named("root").self_signed(key).unwrap().pem());
        let issued = |root| named("app").signed_by(&key, &Issuer::new(named("root"), root));
        let leaf = issued(new_key).unwrap().pem();
        let key = RsaSigner::FIRST.pem();
        for pem in [format!("{leaf}{old}{new}{key}"), format!("{new}{old}{leaf}{key}")] {
            assert_eq!(chain_in(&pem), [der(&leaf), der(&new)], "{pem}");
        }
        // Where no key fits, the name is all that there is.
        let pem = format!("{leaf}{old}{key}");
        assert_eq!(chain_in(&pem), [der(&leaf), der(&old)]);
    }

    #[test]
    fn chains_have_an_end() {
        let names: Vec<_> = (0..20).map(|number| format!("authority-{number}")).collect();
        let key = KeyPair::from_pem(RsaSigner::FIRST.pem()).unwrap();
        let mut issuer = Issuer::new(named("root"), KeyPair::generate().unwrap());
        let mut pem = String::new();
        for name in &names {
            let next = KeyPair::generate().unwrap();
            pem += &named(name).signed_by(&next, &issuer).unwrap().pem();
            issuer = Issuer::new(named(name), next);
        }
        let leaf = named("app").signed_by(&key, &issuer).unwrap().pem();
        let chain = chain_in(&format!("{pem}{leaf}{}", RsaSigner::FIRST.pem()));
        assert_eq!((chain.len(), &chain[0]), (MAX_CHAIN, &der(&leaf)));
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
            assert_eq!(chain_in(&pem)[0], der(&renewed));
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
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let expired = RsaSigner::FIRST
            .certificate_for("app", at(NOW - 200), at(NOW - 100))
            .unwrap();
        let p256 = KeyPair::generate().unwrap();
        let params = CertificateParams::new(Vec::new()).unwrap();
        let p256_leaf = params.self_signed(&p256).unwrap().pem();
        let p256 = p256.serialize_pem();
        for (pem, error) in [
            (String::new(), CertificateError::NoCertificate),
            ("hunter2".to_owned(), CertificateError::NoCertificate),
            (key.to_owned(), CertificateError::NoCertificate),
            (PFX.to_owned(), CertificateError::Pfx),
            (PFX.replace('\n', ""), CertificateError::Pfx),
            // A certificate without its header is none.
            (
                "MIIDQDCCAiigAwIBAgIBUTANBgkqhkiG".to_owned(),
                CertificateError::NoCertificate,
            ),
            (leaf.clone(), CertificateError::NoKey),
            (format!("{leaf}{encrypted}"), CertificateError::EncryptedKey),
            (format!("{older}{leaf}"), CertificateError::EncryptedKey),
            (
                format!("{expired}{encrypted}"),
                CertificateError::Expired { since: at(NOW - 100) },
            ),
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
}

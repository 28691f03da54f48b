//! A certificate authority.

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::parse_x509_certificate;

use super::{AUTHORITY_LIFETIME, Flaw, Validity};
use crate::base::secret_text::SecretText;

/// An authority's certificate, which the API server is configured to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityCertificate {
    pem: String,
    der: CertificateDer<'static>,
    validity: Validity,
}

impl AuthorityCertificate {
    /// Reads one; `entry` is its name in the Secret.
    pub(super) fn parse(pem: &str, entry: &'static str) -> Result<Self, Flaw> {
        let der = match CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .as_deref()
        {
            Ok([one]) => one.clone(),
            _ => return Err(Flaw::Certificate(entry)),
        };
        let (_, certificate) = parse_x509_certificate(&der).map_err(|_| Flaw::Certificate(entry))?;
        if !certificate.is_ca() {
            return Err(Flaw::NotAnAuthority(entry));
        }
        let validity = Validity::of(&certificate);
        // Somebody's white space must not make two bundles of one.
        let pem = format!("{}\n", pem.trim());
        Ok(Self { pem, der, validity })
    }

    /// In PEM, with a newline at its end.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// In DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// When it is good.
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

/// An authority that can sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    certificate: AuthorityCertificate,
    key: SecretText,
}

impl Authority {
    /// Makes one. The name tells authorities apart for people who look at a bundle.
    pub(super) fn make(now: Timestamp) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, format!("pullpass webhook {now:.0}"));
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let validity = Validity::beginning(now, AUTHORITY_LIFETIME);
        validity.write(&mut params);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            certificate: AuthorityCertificate {
                pem: unix_lines(&certificate.pem()),
                der: certificate.der().clone(),
                validity,
            },
            key: SecretText::from(key.serialize_pem()),
        })
    }

    /// Reads one; the entries are its names in the Secret.
    pub(super) fn parse(
        (certificate_entry, certificate): (&'static str, &str),
        (key_entry, key): (&'static str, SecretText),
    ) -> Result<Self, Flaw> {
        let certificate = AuthorityCertificate::parse(certificate, certificate_entry)?;
        let pair = KeyPair::from_pem(key.expose()).map_err(|_| Flaw::Key(key_entry))?;
        if !is_key_of(&pair, &certificate.der) {
            return Err(Flaw::Pair {
                certificate: certificate_entry,
                key: key_entry,
            });
        }
        Ok(Self { certificate, key })
    }

    /// Its certificate.
    pub fn certificate(&self) -> &AuthorityCertificate {
        &self.certificate
    }

    /// Its private key, in PEM.
    pub fn key(&self) -> &SecretText {
        &self.key
    }

    pub(super) fn issuer(&self) -> Result<Issuer<'static, KeyPair>, rcgen::Error> {
        Issuer::from_ca_cert_der(&self.certificate.der, KeyPair::from_pem(self.key.expose())?)
    }
}

/// Whether a key is the one of a certificate.
pub(super) fn is_key_of(key: &KeyPair, certificate: &CertificateDer<'_>) -> bool {
    use rcgen::PublicKeyData;
    parse_x509_certificate(certificate)
        .is_ok_and(|(_, certificate)| certificate.public_key().raw == key.subject_public_key_info())
}

/// As other programs write PEM, whatever the platform.
pub(super) fn unix_lines(pem: &str) -> String {
    format!("{}\n", pem.replace('\r', "").trim_end())
}

//! The serving certificate.

use jiff::Timestamp;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::parse_x509_certificate;

use super::authority::{is_key_of, unix_lines};
use super::trust::accept;
use super::{Authority, AuthorityCertificate, Flaw, LEAF_LIFETIME, Validity};
use crate::base::secret_text::SecretText;

/// A serving certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: SecretText,
    validity: Validity,
}

impl Leaf {
    /// Makes one for a host. It does not outlive its authority.
    pub(super) fn issue(authority: &Authority, host: &str, now: Timestamp) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new([host.to_owned()])?;
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, "pullpass webhook");
        params.distinguished_name = name;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let mut validity = Validity::beginning(now, LEAF_LIFETIME);
        validity.until = validity.until.min(authority.certificate().validity().until);
        validity.write(&mut params);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority.issuer()?)?;
        Ok(Self {
            pem: unix_lines(&certificate.pem()),
            chain: vec![certificate.der().clone()],
            key: SecretText::from(key.serialize_pem()),
            validity,
        })
    }

    /// Reads one; the entries are its names in the Secret.
    pub(super) fn parse(
        (certificate_entry, pem): (&'static str, &str),
        (key_entry, key): (&'static str, SecretText),
    ) -> Result<Self, Flaw> {
        let unreadable = || Flaw::Certificate(certificate_entry);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| unreadable())?;
        let first = chain.first().ok_or_else(unreadable)?;
        let (_, certificate) = parse_x509_certificate(first).map_err(|_| unreadable())?;
        let validity = Validity::of(&certificate);
        let pair = KeyPair::from_pem(key.expose()).map_err(|_| Flaw::Key(key_entry))?;
        if !is_key_of(&pair, first) {
            return Err(Flaw::Pair {
                certificate: certificate_entry,
                key: key_entry,
            });
        }
        Ok(Self {
            pem: pem.to_owned(),
            chain,
            key,
            validity,
        })
    }

    /// The certificate in PEM, with its intermediates if it has any.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its private key, in PEM.
    pub fn key(&self) -> &SecretText {
        &self.key
    }

    /// When it is good.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Looks whether a client that trusts these authorities and asks for this host accepts it at this time. An error is
    /// what such a client would say.
    pub fn verify<'a>(
        &self,
        trusted: impl IntoIterator<Item = &'a AuthorityCertificate>,
        host: &str,
        at: Timestamp,
    ) -> Result<(), rustls::Error> {
        let trusted = trusted.into_iter().map(|authority| authority.der().clone());
        accept(trusted, &self.chain, host, at)
    }
}

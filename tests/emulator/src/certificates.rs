//! The emulator's own certificate authority, and the keys that sign its tokens.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;

use crate::error::EmulatorError;
use crate::jwt::SigningKey;
use crate::rsa_signer::RsaSigner;

/// Everything that signs something.
pub(crate) struct Keys {
    authority: CertifiedIssuer<'static, KeyPair>,
    /// Signs Entra's access tokens.
    pub(crate) entra: SigningKey,
    /// Signs the registries' refresh and access tokens, and what the backend gets.
    pub(crate) registry: SigningKey,
    /// The registry key's certificate, in DER and PEM.
    pub(crate) registry_certificate: (Vec<u8>, String),
}

impl Keys {
    pub(crate) fn generate() -> Result<Self, EmulatorError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("pullpass emulator CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

        // Of the checked in keys, since RSA keys can't be made here: the same for each emulator.
        let registry = KeyPair::from_pem(RsaSigner::SECOND.pem())?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named("pullpass emulator registry tokens");
        let certificate = params.self_signed(&registry)?;

        Ok(Self {
            authority,
            entra: signing_key(&KeyPair::from_pem(RsaSigner::FIRST.pem())?)?,
            registry: signing_key(&registry)?,
            registry_certificate: (certificate.der().to_vec(), certificate.pem()),
        })
    }

    /// The certificate authority, in PEM.
    pub(crate) fn ca_pem(&self) -> String {
        self.authority.pem()
    }

    /// A TLS server with a certificate for these hosts.
    pub(crate) fn server(&self, hosts: Vec<String>) -> Result<Arc<ServerConfig>, EmulatorError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name = named("pullpass emulator");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &self.authority)?;

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone(), self.authority.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn signing_key(pair: &KeyPair) -> Result<SigningKey, EmulatorError> {
    SigningKey::from_pkcs8(&pair.serialize_der()).map_err(EmulatorError::Key)
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

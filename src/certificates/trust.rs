//! Whether a client accepts a certificate.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

/// Looks whether a client that trusts these authorities and asks for this host accepts the chain at this time. An error is
/// what such a client would say.
pub(super) fn accept(
    trusted: impl IntoIterator<Item = CertificateDer<'static>>,
    chain: &[CertificateDer<'static>],
    host: &str,
    at: Timestamp,
) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    for authority in trusted {
        roots.add(authority)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let name = ServerName::try_from(host).map_err(|error| rustls::Error::General(error.to_string()))?;
    let seconds = u64::try_from(at.as_second()).unwrap_or(0);
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    match chain {
        [first, others @ ..] => verifier
            .verify_server_cert(first, others, &name, &[], at)
            .map(drop),
        [] => Err(rustls::Error::NoCertificatesPresented),
    }
}

/// The same of what is published and what is served, in PEM.
pub fn accept_pem(bundle: &[u8], chain: &[u8], host: &str, at: Timestamp) -> Result<(), String> {
    let read = |pem: &[u8], what: &str| {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        certificates.map_err(|_| format!("{what} is not in PEM"))
    };
    let trusted = read(bundle, "the caBundle")?;
    let chain = read(chain, "the certificate")?;
    accept(trusted, &chain, host, at).map_err(|error| error.to_string())
}

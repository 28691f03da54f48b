use std::fmt::Display;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::error::Error;

/// A TLS client that trusts the authorities of a bundle, in PEM, and no others: as the API server trusts a `caBundle`.
pub fn trusting(bundle: &str) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots
            .add(authority.map_err(|error| tls(&error))?)
            .map_err(|error| tls(&error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Connects as somebody who trusts a bundle, and returns the certificate that a host has after it was verified.
pub fn served_certificate(
    address: SocketAddr,
    host: &str,
    bundle: &str,
) -> Result<CertificateDer<'static>, Error> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| tls(&error))?;
    let mut connection = ClientConnection::new(trusting(bundle)?, name).map_err(|error| tls(&error))?;
    let mut socket = TcpStream::connect(address).map_err(|error| tls(&error))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).map_err(|error| tls(&error))?;
    }
    let chain = connection.peer_certificates().unwrap_or_default();
    let leaf = chain.first().ok_or_else(|| tls(&"it presented no certificate"))?;
    Ok(leaf.clone().into_owned())
}

fn tls(problem: &dyn Display) -> Error {
    Error::Tls(problem.to_string())
}

use std::fmt::Display;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore};

use crate::error::Error;
use crate::pki::Identity;

/// A TLS client that trusts the authorities of a bundle, in PEM, and no others: as the API server trusts a `caBundle`.
pub fn trusting(bundle: &str) -> Result<Arc<ClientConfig>, Error> {
    Ok(Arc::new(verifying(bundle)?.with_no_client_auth()))
}

/// The same, of a client that proves who it is.
pub(crate) fn trusting_as(identity: &Identity, bundle: &str) -> Result<Arc<ClientConfig>, Error> {
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| tls(&error))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(|error| tls(&error))?;
    let config = verifying(bundle)?
        .with_client_auth_cert(chain, key)
        .map_err(|error| tls(&error))?;
    Ok(Arc::new(config))
}

fn verifying(bundle: &str) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots
            .add(authority.map_err(|error| tls(&error))?)
            .map_err(|error| tls(&error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(&error))?;
    Ok(builder.with_root_certificates(roots))
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

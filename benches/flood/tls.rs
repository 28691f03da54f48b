//! Connections to the server that is measured.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::Result;

/// A server, and what it takes to connect to it.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    http1: TlsConnector,
    http2: TlsConnector,
}

impl Target {
    /// A server that presents this certificate.
    pub(crate) fn new(address: SocketAddr, certificate: &CertificateDer<'static>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone())?;
        let roots = Arc::new(roots);
        let connector = |protocol: &[u8]| {
            let mut config = ClientConfig::builder()
                .with_root_certificates(Arc::clone(&roots))
                .with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Ok(Self {
            address,
            http1: connector(b"http/1.1"),
            http2: connector(b"h2"),
        })
    }

    /// The URI of the webhook.
    pub(crate) fn uri(&self) -> String {
        format!("https://{}/mutate?timeout=5s", self.address)
    }

    /// A connection for HTTP/1.1.
    pub(crate) async fn http1(&self) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect(&self.http1).await
    }

    /// A connection for HTTP/2.
    pub(crate) async fn http2(&self) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect(&self.http2).await
    }

    async fn connect(&self, connector: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        connector
            .connect(ServerName::from(self.address.ip()), stream)
            .await
    }
}

//! Who is on the other end of a connection: worked out once, when it is accepted.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use axum_server::tls_rustls::RustlsAcceptor;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tower::Layer;
use x509_parser::parse_x509_certificate;

/// The caller's address, or the subject of the client certificate that it presented.
#[derive(Debug, Clone)]
pub struct Peer(Arc<str>);

impl Peer {
    /// The text that an audit record has.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of(address: &str, stream: &TlsStream<TcpStream>) -> Self {
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let subject = certificate
            .and_then(|certificate| parse_x509_certificate(certificate).ok())
            .map(|(_, certificate)| certificate.subject().to_string());
        Self(subject.as_deref().unwrap_or(address).into())
    }
}

impl From<&str> for Peer {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// Does the TLS handshake, and gives every request of the connection its [`Peer`].
#[derive(Clone)]
pub(super) struct PeerAcceptor(pub(super) RustlsAcceptor);

type Inner<S> = <RustlsAcceptor as Accept<TcpStream, S>>::Service;

impl<S: Send + 'static> Accept<TcpStream, S> for PeerAcceptor {
    type Stream = TlsStream<TcpStream>;
    type Service = AddExtension<Inner<S>, Peer>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let address = stream.peer_addr();
        // The answer to a review is one small write: waiting for more to send only delays it.
        let immediate = stream.set_nodelay(true);
        let handshake = self.0.accept(stream, service);
        Box::pin(async move {
            immediate?;
            let address = address?.to_string();
            let (stream, service) = handshake.await?;
            let peer = Peer::of(&address, &stream);
            Ok((stream, Extension(peer).layer(service)))
        })
    }
}

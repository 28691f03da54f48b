//! Sockets: limits, and an end that loses nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use thiserror::Error;

use super::peer::PeerAcceptor;

/// What a client may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For the TLS handshake, and for the first request's headers.
    pub header_timeout: Duration,
    /// Between two requests of a connection, the headers of the second included. The API server ends a connection that
    /// was idle for 90 seconds; where this end is sooner, a review that is just being sent is lost, because a POST is not
    /// sent again.
    pub idle_timeout: Duration,
    /// For requests that are still being answered when the server ends.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_mins(2),
            drain: Duration::from_secs(15),
        }
    }
}

/// Why a server ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The address can't be listened on.
    #[error("{address} can't be listened on: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The listener failed.
    #[error("the listener failed: {0}")]
    Listen(#[from] io::Error),
}

/// A server that listens. Its address is known before it serves.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    limits: Limits,
}

impl Server {
    /// Listens on an address; port 0 takes a free one.
    pub fn bind(address: SocketAddr, limits: Limits) -> Result<Self, ListenError> {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        });
        let (listener, address) = bound.map_err(|error| ListenError::Bind { address, error })?;
        Ok(Self {
            listener,
            address,
            handle: Handle::new(),
            limits,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A switch that ends it: what is being answered is answered.
    pub fn ender(&self) -> impl FnOnce() + Send + 'static {
        let (handle, drain) = (self.handle.clone(), self.limits.drain);
        move || handle.graceful_shutdown(Some(drain))
    }

    /// Serves over TLS until it is ended.
    pub async fn serve_tls(self, config: RustlsConfig, routes: Router) -> Result<(), ListenError> {
        let timeout = self.limits.header_timeout;
        let acceptor = PeerAcceptor(RustlsAcceptor::new(config).handshake_timeout(timeout));
        let mut server = axum_server::from_tcp(self.listener)?
            .handle(self.handle)
            .acceptor(acceptor);
        limit(server.http_builder(), self.limits.idle_timeout);
        Ok(server
            .first_request_timeout(timeout)
            .serve(routes.into_make_service())
            .await?)
    }

    /// Serves without TLS until it is ended.
    pub async fn serve_plain(self, routes: Router) -> Result<(), ListenError> {
        let timeout = self.limits.header_timeout;
        let mut server = axum_server::from_tcp(self.listener)?.handle(self.handle);
        limit(server.http_builder(), self.limits.idle_timeout);
        Ok(server
            .first_request_timeout(timeout)
            .serve(routes.into_make_service())
            .await?)
    }
}

fn limit(
    builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>,
    idle_timeout: Duration,
) {
    // The time for headers begins when the connection is idle.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(idle_timeout);
    // A peer that is gone without a word is found out; its streams would be held for ever.
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30));
}

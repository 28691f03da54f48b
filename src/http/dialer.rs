//! TCP connections: by override, through the proxy, or by DNS.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tower::Service;

use super::proxy::Proxy;
use super::resolve::ResolveOverride;

/// Why there is no TCP connection.
#[derive(Debug, Error)]
pub(super) enum DialError {
    #[error("timeout")]
    Timeout,
    #[error("proxy")]
    Proxy(#[source] Box<dyn StdError + Send + Sync>),
    #[error("connect")]
    Connect(#[source] Box<dyn StdError + Send + Sync>),
}

/// Why a name has no address.
#[derive(Debug, Error)]
#[error("name resolution")]
pub(super) struct NoAddress(#[source] io::Error);

/// Opens TCP connections.
#[derive(Clone)]
pub(super) struct Dialer {
    connector: HttpConnector<Resolver>,
    overrides: Arc<[ResolveOverride]>,
    proxy: Option<Proxy>,
    timeout: Duration,
}

impl Dialer {
    pub(super) fn new(overrides: Vec<ResolveOverride>, proxy: Option<Proxy>, timeout: Duration) -> Self {
        let mut connector = HttpConnector::new_with_resolver(Resolver);
        // It looks at host and port; the scheme is the TLS layer's business.
        connector.enforce_http(false);
        connector.set_nodelay(true);
        Self {
            connector,
            overrides: overrides.into(),
            proxy,
            timeout,
        }
    }

    /// What was said by hand goes before what the environment says, so an override is not taken to the proxy.
    async fn dial(mut self, url: Uri) -> Result<TokioIo<TcpStream>, DialError> {
        if let Some(address) = self.overridden(&url) {
            let direct = Uri::builder()
                .scheme("http")
                .authority(address.to_string())
                .path_and_query("/")
                .build();
            let direct = direct.map_err(|error| DialError::Connect(error.into()))?;
            return self.connect(direct).await;
        }
        let Some(intercept) = self.proxy.as_ref().and_then(|proxy| proxy.intercept(&url)) else {
            return self.connect(url).await;
        };
        let mut tunnel = Tunnel::new(intercept.uri().clone(), self.connector);
        if let Some(authorization) = intercept.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        let tunnelled = tunnel.call(url).await;
        tunnelled.map_err(|error| DialError::Proxy(error.into()))
    }

    /// Whether a URL is asked for by the proxy.
    pub(super) fn proxied(&self, url: &Uri) -> bool {
        let proxy = self.proxy.as_ref();
        proxy.is_some_and(|proxy| proxy.intercept(url).is_some())
    }

    async fn connect(&mut self, url: Uri) -> Result<TokioIo<TcpStream>, DialError> {
        let connected = self.connector.call(url).await;
        connected.map_err(|error| DialError::Connect(error.into()))
    }

    /// The address that was given by hand for a URL's host and port.
    pub(super) fn overridden(&self, url: &Uri) -> Option<SocketAddr> {
        let host = url.host()?;
        let default_port = if url.scheme_str() == Some("http") { 80 } else { 443 };
        let port = url.port_u16().unwrap_or(default_port);
        self.overrides.iter().find_map(|known| known.matches(host, port))
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector
            .poll_ready(context)
            .map_err(|error| DialError::Connect(error.into()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move {
            let timeout = dialer.timeout;
            let dialled = tokio::time::timeout(timeout, dialer.dial(url)).await;
            dialled.unwrap_or(Err(DialError::Timeout))
        })
    }
}

/// Asks the system's resolver; there is at least one address.
pub(super) async fn lookup(host: &str) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = tokio::net::lookup_host((host, 0)).await?.collect();
    if addresses.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(addresses)
}

/// The system's resolver, with an error of its own, which the connector's hides.
#[derive(Clone)]
pub(super) struct Resolver;

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = NoAddress;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            let addresses = lookup(name.as_str()).await.map_err(NoAddress)?;
            Ok(addresses.into_iter())
        })
    }
}

//! The one client for everything outside the cluster.
//!
//! It uses HTTP/1.1 over TLS by rustls, follows no redirect (a token must not go to another host), bounds the size of
//! an answer and the time for it, and distinguishes what can go wrong. Plain HTTP is only for the managed identity
//! endpoint, which has nothing else, and never goes through a proxy.

mod advice;
mod dialer;
mod error;
pub mod headers;
mod observer;
mod probe;
mod proxy;
mod resolve;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

use self::dialer::Dialer;
pub use self::error::{Barrier, HttpError, HttpFailure};
pub use self::observer::{RequestObserver, Service};
pub use self::probe::Resolution;
pub use self::proxy::{Proxy, ProxyError};
pub use self::resolve::{ResolveOverride, ResolveOverrideError};
use crate::base::clock::monotonic;

/// The largest body that is read. Tokens are a few kilobytes.
pub const MAX_BODY: usize = 1 << 20;

const AGENT: &str = concat!("pullpass/", env!("CARGO_PKG_VERSION"));

/// Firewalls forget quiet connections without a word; one that old is not worth the risk.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// How to reach the world.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Addresses to connect to in place of those from DNS.
    pub resolve: Vec<ResolveOverride>,
    /// Certificate authorities to trust beside the machine's own.
    pub extra_ca: Vec<CertificateDer<'static>>,
    /// The proxy for HTTPS.
    pub proxy: Option<Proxy>,
    /// The time for a whole request, until the last byte of its answer.
    pub request_timeout: Duration,
    /// The time for name resolution, the TCP connection and the proxy's consent, within the above.
    pub connect_timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            resolve: Vec::new(),
            extra_ca: Vec::new(),
            proxy: None,
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// Why there is no client.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HttpClientError {
    /// Nothing to hold servers' certificates against.
    #[error(
        "no trusted certificate authority was found: install the system's CA bundle (package ca-certificates), \
         or name one by SSL_CERT_FILE or --extra-ca"
    )]
    NoRoots,
    /// An extra certificate authority is no certificate.
    #[error("an extra certificate authority can't be used: {0}; give certificates in PEM")]
    ExtraCa(rustls::Error),
    /// The TLS library was built without what it needs.
    #[error("TLS can't be set up: {0}")]
    Tls(rustls::Error),
}

/// A client. Clones share their connections.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<HttpsConnector<Dialer>, Full<Bytes>>,
    connector: HttpsConnector<Dialer>,
    dialer: Dialer,
    request_timeout: Duration,
    observer: Option<Arc<dyn RequestObserver>>,
}

/// An answer, whatever its status.
#[derive(Clone)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl HttpClient {
    /// A client that trusts the machine's certificate authorities and the extra ones.
    pub fn new(options: HttpOptions) -> Result<Self, HttpClientError> {
        let dialer = Dialer::new(options.resolve, options.proxy, options.connect_timeout);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config(options.extra_ca)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(dialer.clone());
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector.clone());
        Ok(Self {
            client,
            connector,
            dialer,
            request_timeout: options.request_timeout,
            observer: None,
        })
    }

    /// The same client, whose requests an observer is told about.
    #[must_use]
    pub fn observed_by(self, observer: Arc<dyn RequestObserver>) -> Self {
        Self {
            observer: Some(observer),
            ..self
        }
    }

    /// Sends a request and reads its whole answer.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response, HttpError> {
        let service = request.extensions().get::<Service>().copied();
        let begun = monotonic();
        let sent = self.exchange(request).await;
        if let Some((observer, service)) = self.observer.as_ref().zip(service) {
            let outcome = sent
                .as_ref()
                .map(|response| response.status)
                .map_err(HttpError::failure);
            observer.ended(service, outcome, monotonic().saturating_duration_since(begun));
        }
        sent
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response, HttpError> {
        let target = error::target(request.uri());
        let failed = |failure| HttpError::new(target.clone(), failure);
        let mut request = request.map(Full::new);
        request
            .headers_mut()
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(AGENT));
        let exchange = async {
            let answer = self.client.request(request).await;
            let (head, body) = answer
                .map_err(|error| HttpFailure::of_request(&error))?
                .into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await;
            let body = body.map_err(|error| HttpFailure::of_body(&*error))?.to_bytes();
            Ok(Response {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        match tokio::time::timeout(self.request_timeout, exchange).await {
            Ok(outcome) => outcome.map_err(failed),
            Err(_) => Err(failed(HttpFailure::Timeout)),
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

/// Bodies hold tokens, and some headers do, so neither is shown.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("body_length", &self.body.len())
            .finish_non_exhaustive()
    }
}

fn tls_config(extra_ca: Vec<CertificateDer<'static>>) -> Result<ClientConfig, HttpClientError> {
    let mut roots = RootCertStore::empty();
    // A bundle with one odd certificate in it is common, and no reason to do without the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in extra_ca {
        roots.add(certificate).map_err(HttpClientError::ExtraCa)?;
    }
    if roots.is_empty() {
        return Err(HttpClientError::NoRoots);
    }
    // Named, since a process with two providers built in has no default one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(HttpClientError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests;

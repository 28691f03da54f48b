//! The parts of a connection one by one, for those who look for what is wrong with it.

use std::io;
use std::net::{IpAddr, SocketAddr};

use http::Uri;
use hyper_rustls::MaybeHttpsStream;
use rustls::ProtocolVersion;
use tower::Service;

use super::dialer::lookup;
use super::error::{HttpError, HttpFailure, target};
use super::{HttpClient, Response};

/// How a URL's host leads to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// It was given by hand.
    Override(SocketAddr),
    /// The proxy finds it.
    Proxy,
    /// The machine's resolver found these; there is at least one.
    Addresses(Vec<IpAddr>),
}

impl HttpClient {
    /// Finds the address of a URL's host, as a request would.
    pub async fn resolve(&self, url: &Uri) -> Result<Resolution, HttpError> {
        if let Some(address) = self.dialer.overridden(url) {
            return Ok(Resolution::Override(address));
        }
        if self.dialer.proxied(url) {
            return Ok(Resolution::Proxy);
        }
        let found = tokio::time::timeout(self.request_timeout, lookup(url.host().unwrap_or_default())).await;
        let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match found {
            Ok(addresses) => Ok(Resolution::Addresses(
                addresses.iter().map(SocketAddr::ip).collect(),
            )),
            Err(_) => Err(HttpError::new(target(url), HttpFailure::Dns)),
        }
    }

    /// Opens a connection and closes it again; says which version of TLS it had.
    pub async fn connect(&self, url: &Uri) -> Result<&'static str, HttpError> {
        let failed = |failure| HttpError::new(target(url), failure);
        let mut connector = self.connector.clone();
        let connected = tokio::time::timeout(self.request_timeout, connector.call(url.clone())).await;
        match connected {
            Ok(Ok(MaybeHttpsStream::Https(stream))) => {
                let (_, session) = stream.inner().get_ref();
                Ok(match session.protocol_version() {
                    Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
                    Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
                    _ => "TLS",
                })
            }
            Ok(Ok(MaybeHttpsStream::Http(_))) => Ok("no TLS"),
            Ok(Err(error)) => Err(failed(HttpFailure::of_connection(&*error))),
            Err(_) => Err(failed(HttpFailure::Tls(
                "the handshake did not end in time".to_owned(),
            ))),
        }
    }
}

impl Response {
    /// The server's clock when it answered.
    pub fn date(&self) -> Option<jiff::Timestamp> {
        crate::http::headers::date(&self.headers)
    }
}

//! What went wrong on the way, told apart by what a reader would do about it.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};

use http::Uri;
use http_body_util::LengthLimitError;
use hyper_util::client::legacy;
use rustls::CertificateError;
use thiserror::Error;

use super::dialer::{DialError, NoAddress};
use crate::base::causes::{causes, chain};

const UNRESOLVED: &str = "the host name does not resolve";
const UNCONNECTED: &str = "no TCP connection";
const UNPROXIED: &str = "the proxy did not connect";
const UNTRUSTED: &str = "TLS failed";

/// A request that got no whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{target}: {failure}")]
pub struct HttpError {
    target: String,
    failure: HttpFailure,
}

/// How a request failed. The same failure always reads the same: no addresses, no times.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HttpFailure {
    /// The name does not resolve.
    #[error("{UNRESOLVED}")]
    Dns,
    /// The connection was refused, or failed on its way.
    #[error("{UNCONNECTED} ({0})")]
    Connect(String),
    /// There is no way from here to addresses such as those of the host.
    #[error("{UNCONNECTED} (no route to its addresses)")]
    NoRoute,
    /// No connection in time.
    #[error("{UNCONNECTED} in time")]
    ConnectTimeout,
    /// The proxy did not pass the connection on.
    #[error("{UNPROXIED} ({0})")]
    Proxy(String),
    /// No TLS.
    #[error("{UNTRUSTED} ({0})")]
    Tls(String),
    /// No whole answer in time.
    #[error("no whole answer in time")]
    Timeout,
    /// The connection ended in the middle.
    #[error("the connection was closed before the whole answer had come")]
    Reset,
    /// The answer is not HTTP.
    #[error("the answer is not HTTP")]
    Protocol,
    /// The answer is too long.
    #[error("the answer is longer than 1 MiB")]
    TooLarge,
}

/// What keeps requests from a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barrier {
    /// Its name does not resolve.
    Dns,
    /// There is no TCP connection.
    Tcp,
    /// There is no TLS connection that can be trusted.
    Tls,
}

impl HttpError {
    pub(crate) fn new(target: String, failure: HttpFailure) -> Self {
        Self { target, failure }
    }

    /// The host that was meant, with its port unless that is the scheme's own.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// How it failed.
    pub fn failure(&self) -> &HttpFailure {
        &self.failure
    }

    /// What kept a request from its host, by the text of its error, which is all that a status has of it.
    pub fn barrier_in(text: &str) -> Option<Barrier> {
        let (_, failure) = text.split_once(": ")?;
        let begins = [
            (UNRESOLVED, Barrier::Dns),
            (UNCONNECTED, Barrier::Tcp),
            (UNPROXIED, Barrier::Tcp),
            (UNTRUSTED, Barrier::Tls),
        ];
        let mut begins = begins.into_iter();
        begins
            .find(|(beginning, _)| failure.starts_with(beginning))
            .map(|(_, barrier)| barrier)
    }
}

/// What a URL's host is called in an error.
pub(super) fn target(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    // Whatever comes before an at sign is a password.
    let host = authority.rsplit('@').next().unwrap_or_default();
    host.to_owned()
}

impl HttpFailure {
    /// The failure in one word, as metrics have it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect(_) | Self::NoRoute => "connect",
            Self::ConnectTimeout => "connect-timeout",
            Self::Proxy(_) => "proxy",
            Self::Tls(_) => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::TooLarge => "too-large",
        }
    }

    /// What kept the request from its host; `None` if it arrived there.
    pub fn barrier(&self) -> Option<Barrier> {
        match self {
            Self::Dns => Some(Barrier::Dns),
            Self::Connect(_) | Self::NoRoute | Self::ConnectTimeout | Self::Proxy(_) => Some(Barrier::Tcp),
            Self::Tls(_) => Some(Barrier::Tls),
            Self::Timeout | Self::Reset | Self::Protocol | Self::TooLarge => None,
        }
    }

    /// A request whose answer did not begin.
    pub(super) fn of_request(error: &legacy::Error) -> Self {
        if error.is_connect() {
            return Self::of_connection(error);
        }
        find(error, tls_failure).unwrap_or_else(|| Self::of_exchange(error))
    }

    /// A connection that did not come about.
    pub(super) fn of_connection(error: &(dyn StdError + 'static)) -> Self {
        let known = dial_failure(error).or_else(|| find(error, tls_failure));
        // TCP was there, so it ended in the handshake.
        known.unwrap_or_else(|| Self::Tls("the connection was closed in the handshake".to_owned()))
    }

    /// An answer whose body did not end.
    pub(super) fn of_body(error: &(dyn StdError + Send + Sync + 'static)) -> Self {
        if error.is::<LengthLimitError>() {
            return Self::TooLarge;
        }
        find(error, tls_failure).unwrap_or_else(|| Self::of_exchange(error))
    }

    fn of_exchange(error: &(dyn StdError + 'static)) -> Self {
        let is_parse = |error: &(dyn StdError + 'static)| {
            let hyper = error.downcast_ref::<hyper::Error>();
            hyper.filter(|error| error.is_parse()).map(|_| Self::Protocol)
        };
        find(error, is_parse).unwrap_or(Self::Reset)
    }
}

fn dial_failure(error: &(dyn StdError + 'static)) -> Option<HttpFailure> {
    find(error, |error| {
        let dial = error.downcast_ref::<DialError>()?;
        Some(match dial {
            DialError::Timeout => HttpFailure::ConnectTimeout,
            DialError::Proxy(cause) => HttpFailure::Proxy(proxy_text(&**cause)),
            DialError::Connect(cause) => match find(&**cause, |e| e.downcast_ref::<NoAddress>().map(drop)) {
                Some(()) => HttpFailure::Dns,
                None => match io_kind(&**cause) {
                    ErrorKind::NetworkUnreachable => HttpFailure::NoRoute,
                    kind => HttpFailure::Connect(kind.to_string()),
                },
            },
        })
    })
}

fn tls_failure(error: &(dyn StdError + 'static)) -> Option<HttpFailure> {
    error
        .downcast_ref::<rustls::Error>()
        .map(|error| HttpFailure::Tls(tls_text(error)))
}

/// rustls says by which second a certificate has expired, which would differ each time.
fn tls_text(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return error.to_string();
    };
    match certificate {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired, or this machine's clock is wrong".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet, or this machine's clock is wrong".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "the server's certificate is of a certificate authority that is not trusted here".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate is for another name".to_owned()
        }
        _ => error.to_string(),
    }
}

fn proxy_text(error: &(dyn StdError + 'static)) -> String {
    if find(error, |e| e.downcast_ref::<NoAddress>().map(drop)).is_some() {
        return "the proxy's name does not resolve".to_owned();
    }
    match find(error, |e| e.downcast_ref::<io::Error>().map(io::Error::kind)) {
        Some(kind) => kind.to_string(),
        None => causes(error),
    }
}

fn io_kind(error: &(dyn StdError + 'static)) -> ErrorKind {
    let kind = find(error, |error| {
        error.downcast_ref::<io::Error>().map(io::Error::kind)
    });
    kind.unwrap_or(ErrorKind::Other)
}

/// The first error of a chain that `pick` takes.
fn find<T>(
    error: &(dyn StdError + 'static),
    pick: impl Fn(&(dyn StdError + 'static)) -> Option<T>,
) -> Option<T> {
    chain(error).find_map(pick)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::UnixTime;
    use std::time::Duration;

    #[test]
    fn a_target_is_host_and_port_without_user() {
        for (url, expected) in [
            ("https://a.example/v2/?x=y", "a.example"),
            ("https://a.example:8443/", "a.example:8443"),
            ("https://user:hunter2@a.example/", "a.example"),
        ] {
            assert_eq!(target(&url.parse().unwrap()), expected);
        }
    }

    #[test]
    fn an_expired_certificate_reads_the_same_at_any_time() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let text = |now| {
            let time = at(now);
            let not_after = at(5);
            tls_text(&rustls::Error::InvalidCertificate(
                CertificateError::ExpiredContext { time, not_after },
            ))
        };
        assert_eq!(text(10), text(20));
    }

    #[test]
    fn barriers_are_read_back_from_the_texts_of_errors() {
        let why = || "a: no TCP connection".to_owned();
        for failure in [
            HttpFailure::Dns,
            HttpFailure::Connect(why()),
            HttpFailure::NoRoute,
            HttpFailure::ConnectTimeout,
            HttpFailure::Proxy(why()),
            HttpFailure::Tls(why()),
            HttpFailure::Timeout,
            HttpFailure::Reset,
            HttpFailure::Protocol,
            HttpFailure::TooLarge,
        ] {
            let error = HttpError::new("a.example:8443".to_owned(), failure);
            assert_eq!(
                HttpError::barrier_in(&error.to_string()),
                error.failure().barrier(),
                "{error}"
            );
        }
        assert_eq!(HttpError::barrier_in(""), None);
    }

    #[test]
    fn errors_inside_io_errors_are_found() {
        let inner = rustls::Error::HandshakeNotComplete;
        let error = io::Error::other(io::Error::new(ErrorKind::InvalidData, inner));
        assert!(matches!(find(&error, tls_failure), Some(HttpFailure::Tls(_))));
    }
}

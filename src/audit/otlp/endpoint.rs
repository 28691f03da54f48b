//! Where the collector is, and what it is told beside the records.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Uri};
use thiserror::Error;

/// Where logs go when a URL names no path (OTLP 1.0, "OTLP/HTTP Request").
const LOGS: PathAndQuery = PathAndQuery::from_static("/v1/logs");

/// A collector's URL for logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Uri);

/// Why a text is no such URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OtlpEndpointError {
    /// Not a URL with scheme and host.
    #[error("write the collector's URL, for instance https://collector.example:4318")]
    Form,
    /// Neither HTTPS nor HTTP.
    #[error(
        "records are sent over HTTP: write an https:// or http:// URL, with the port that is not for gRPC"
    )]
    Scheme,
    /// A password in the URL.
    #[error(
        "a URL is no place for a password: give a header by --audit-otlp-header, and write an @ of the path as %40"
    )]
    User,
}

impl Endpoint {
    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }
}

impl FromStr for Endpoint {
    type Err = OtlpEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Before anything is taken for the host: a password with a / or # in it ends there.
        if text.contains('@') {
            return Err(OtlpEndpointError::User);
        }
        let mut parts = text
            .parse::<Uri>()
            .map_err(|_| OtlpEndpointError::Form)?
            .into_parts();
        let (Some(scheme), Some(authority)) = (&parts.scheme, &parts.authority) else {
            return Err(OtlpEndpointError::Form);
        };
        if !matches!(scheme.as_str(), "https" | "http") {
            return Err(OtlpEndpointError::Scheme);
        }
        if authority.host().is_empty() {
            return Err(OtlpEndpointError::Form);
        }
        parts.path_and_query = parts.path_and_query.filter(|path| path != "/").or(Some(LOGS));
        Uri::from_parts(parts)
            .map(Self)
            .map_err(|_| OtlpEndpointError::Form)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A header whose value is in a file, since everybody may read a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderFile {
    name: HeaderName,
    file: PathBuf,
}

/// Why the header is not valid. No text contains the value.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HeaderFileError {
    /// Not a name and a file.
    #[error("write NAME=FILE, for instance authorization=/etc/pullpass/otlp/authorization")]
    Form,
    /// The file can't be read.
    #[error("{0} can't be read: {1}")]
    Read(PathBuf, io::Error),
    /// The file holds no header value.
    #[error("{0} holds no header value: write one line of printable ASCII")]
    Value(PathBuf),
}

impl HeaderFile {
    pub(super) fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The value as it is now.
    pub fn read(&self) -> Result<HeaderValue, HeaderFileError> {
        let text = fs::read(&self.file).map_err(|error| HeaderFileError::Read(self.file.clone(), error))?;
        let text = text.trim_ascii();
        let mut value = HeaderValue::from_bytes(text)
            .ok()
            .filter(|_| !text.is_empty() && text.is_ascii())
            .ok_or_else(|| HeaderFileError::Value(self.file.clone()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl FromStr for HeaderFile {
    type Err = HeaderFileError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, file) = text.split_once('=').ok_or(HeaderFileError::Form)?;
        let name = name.parse().map_err(|_| HeaderFileError::Form)?;
        if file.is_empty() {
            return Err(HeaderFileError::Form);
        }
        let file = file.into();
        Ok(Self { name, file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_have_a_path_of_their_own_unless_another_is_given() {
        for (text, expected) in [
            ("https://c.example:4318", Ok("https://c.example:4318/v1/logs")),
            ("http://127.0.0.1:4318/", Ok("http://127.0.0.1:4318/v1/logs")),
            (
                "https://c.example/otlp/v1/logs",
                Ok("https://c.example/otlp/v1/logs"),
            ),
            (
                "https://c.example/in?tenant=1",
                Ok("https://c.example/in?tenant=1"),
            ),
            ("c.example:4318", Err(OtlpEndpointError::Form)),
            ("/v1/logs", Err(OtlpEndpointError::Form)),
            ("", Err(OtlpEndpointError::Form)),
            ("grpc://c.example:4317", Err(OtlpEndpointError::Scheme)),
            ("https://me:hunter2@c.example", Err(OtlpEndpointError::User)),
            ("https://me:1/hunter2@c.example", Err(OtlpEndpointError::User)),
            ("https://me:1#hunter2@c.example", Err(OtlpEndpointError::User)),
        ] {
            let got = text.parse::<Endpoint>().map(|endpoint| endpoint.to_string());
            assert_eq!(got, expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_header_is_read_anew_each_time_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let header: HeaderFile = format!("Authorization={}", path.display()).parse().unwrap();
        assert_eq!(header.name(), "authorization");
        assert!(matches!(header.read(), Err(HeaderFileError::Read(..))));
        for token in ["Bearer one", "Bearer two\n"] {
            fs::write(&path, token).unwrap();
            let value = header.read().unwrap();
            assert_eq!(value, token.trim());
            assert_eq!(format!("{value:?}"), "Sensitive");
        }
        for nonsense in ["", "\n", "two\nlines", "schlüssel"] {
            fs::write(&path, nonsense).unwrap();
            let error = header.read().unwrap_err();
            assert!(matches!(error, HeaderFileError::Value(_)), "{nonsense:?}");
        }
        for nonsense in ["authorization", "=file", "name=", "two words=file"] {
            assert!(
                matches!(nonsense.parse::<HeaderFile>(), Err(HeaderFileError::Form)),
                "{nonsense}"
            );
        }
    }
}

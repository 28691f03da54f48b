//! What can be wrong with the Secret. None of it shows a key.

use jiff::Timestamp;
use thiserror::Error;

/// Why the Secret can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Flaw {
    /// An entry is not there.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// An entry is no certificate, or more than one where one is meant.
    #[error("{0} does not hold a certificate in PEM")]
    Certificate(&'static str),
    /// An entry is no private key.
    #[error("{0} does not hold a supported private key in PEM")]
    Key(&'static str),
    /// A key is another certificate's.
    #[error("{key} is not the key of {certificate}")]
    Pair {
        /// The certificate's entry.
        certificate: &'static str,
        /// The key's entry.
        key: &'static str,
    },
    /// A certificate may not sign others.
    #[error("{0} is not the certificate of an authority")]
    NotAnAuthority(&'static str),
    /// A certificate is over.
    #[error("{entry} expired at {until}")]
    Over {
        /// The certificate's entry.
        entry: &'static str,
        /// When it expired.
        until: Timestamp,
    },
    /// The API server would not accept the serving certificate.
    #[error("tls.crt is not accepted for {host} under ca.crt: {reason}")]
    NotTrusted {
        /// The host that the API server asks for.
        host: String,
        /// What the verification said.
        reason: String,
    },
    /// An annotation is not there, or no time.
    #[error("the annotation {0} is not a time")]
    Annotation(&'static str),
}

//! What can go wrong with the emulator itself.

/// Why an emulator could not be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// A listener or a file.
    #[error("input or output: {0}")]
    Io(#[from] std::io::Error),
    /// A certificate, for instance for a host name that is none.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS server's settings.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A signing key.
    #[error("signing key: {0}")]
    Key(ring::error::KeyRejected),
    /// Something in PEM that is checked in.
    #[error("PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// An algorithm that no RSA key signs by.
    #[error("no RSA key signs by {0}")]
    Algorithm(String),
    /// A signature.
    #[error("signing failed")]
    Signing,
}

//! The serving certificate: read from files, and read again when they change.
//!
//! Kubernetes changes a mounted Secret by replacing the link `..data`, which ends a file watch silently. If
//! certificate and key are read one after the other through that link, they can be of two versions. So the link is
//! resolved once for both, and the files are checked in intervals. The whole `ServerConfig` is replaced, because
//! sessions of a config with only another certificate resolver are resumed with the previous certificate.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use thiserror::Error;
use x509_parser::parse_x509_certificate;

/// Where the serving certificate and its key are, both in PEM, and optionally whose clients are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by its intermediates.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// The certificate authorities of client certificates; where set, a client must present one.
    pub client_ca: Option<PathBuf>,
}

/// What a listener serves; a swap is for connections from then on.
#[derive(Debug, Clone)]
pub struct TlsConfig(Arc<ArcSwap<ServerConfig>>);

impl TlsConfig {
    /// Serves this certificate, until it is swapped.
    pub(super) fn new(certificate: &Certificate) -> Self {
        Self(Arc::new(ArcSwap::new(Arc::clone(&certificate.config))))
    }

    /// Serves this certificate from now on.
    pub(super) fn swap(&self, certificate: &Certificate) {
        self.0.store(Arc::clone(&certificate.config));
    }

    /// What is served now.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }
}

/// Why a certificate can't be served.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read.
    #[error("{path} can't be read: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} does not hold {expected} in PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// The two don't fit, or the algorithm is not supported.
    #[error("the certificate and the key can't be used together: {0}")]
    Pair(rustls::Error),
    /// The client authorities can't be used.
    #[error("the client certificate authorities can't be used: {0}")]
    ClientCa(String),
}

/// A certificate that can be served.
#[derive(Debug, Clone)]
pub struct Certificate {
    config: Arc<ServerConfig>,
    /// When it expires, in seconds of Unix time; zero if that can't be read.
    pub expires: i64,
}

/// What a certificate is made of, to tell whether it changed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) client_ca: Option<Vec<u8>>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").finish_non_exhaustive()
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Read {
        path: path.to_owned(),
        error,
    })
}

impl TlsFiles {
    fn read(&self) -> Result<Content, TlsError> {
        // One resolution of `..data` for both files, where they come from the same volume.
        let directory = self
            .certificate
            .parent()
            .filter(|directory| Some(*directory) == self.key.parent());
        let version = directory.and_then(|directory| fs::canonicalize(directory.join("..data")).ok());
        let resolve = |path: &Path| match (&version, path.file_name()) {
            (Some(version), Some(name)) => version.join(name),
            _ => path.to_owned(),
        };
        Ok(Content {
            certificate: read(&resolve(&self.certificate))?,
            key: read(&resolve(&self.key))?,
            client_ca: self.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn parse(&self, content: &Content) -> Result<Certificate, TlsError> {
        parse(content, &self.certificate, &self.key, self.client_ca.as_deref())
    }
}

/// Makes a certificate that can be served; the paths are for errors.
pub(super) fn parse(
    content: &Content,
    certificate_path: &Path,
    key_path: &Path,
    client_ca_path: Option<&Path>,
) -> Result<Certificate, TlsError> {
    let pem = |path: &Path, expected| TlsError::Pem {
        path: path.to_owned(),
        expected,
    };
    let chain = certificates(&content.certificate)
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| pem(certificate_path, "a certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(&content.key).map_err(|_| pem(key_path, "a private key"))?;
    let expires = chain
        .first()
        .and_then(|certificate| parse_x509_certificate(certificate).ok())
        .map_or(0, |(_, certificate)| certificate.validity().not_after.timestamp());
    let builder = ServerConfig::builder();
    let builder = match (&content.client_ca, client_ca_path) {
        (Some(content), Some(path)) => {
            let authorities = certificates(content).ok_or_else(|| pem(path, "certificates"))?;
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                roots
                    .add(authority)
                    .map_err(|error| TlsError::ClientCa(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
                .build()
                .map_err(|error| TlsError::ClientCa(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Certificate {
        config: Arc::new(config),
        expires,
    })
}

fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()
}

/// Serves what the files hold, and what they hold later.
#[derive(Debug)]
pub struct TlsReloader {
    files: TlsFiles,
    content: Content,
    served: TlsConfig,
}

impl TlsReloader {
    /// Reads the files for the first time.
    pub fn open(files: TlsFiles) -> Result<(Self, Certificate), TlsError> {
        let content = files.read()?;
        let certificate = files.parse(&content)?;
        let served = TlsConfig::new(&certificate);
        Ok((
            Self {
                files,
                content,
                served,
            },
            certificate,
        ))
    }

    /// What the listener serves; it follows later reads.
    pub fn served(&self) -> TlsConfig {
        self.served.clone()
    }

    /// Looks whether the files changed, and serves what they hold now. On an error it still serves the previous certificate.
    pub fn reload(&mut self) -> Result<Option<Certificate>, TlsError> {
        let content = self.files.read()?;
        if content == self.content {
            return Ok(None);
        }
        let certificate = self.files.parse(&content)?;
        self.served.swap(&certificate);
        self.content = content;
        Ok(Some(certificate))
    }

    /// Reloads in intervals, until it is dropped; `swapped` is told about each new certificate.
    pub async fn run(mut self, interval: Duration, swapped: impl Fn(&Certificate)) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.reload() {
                Ok(None) => {}
                Ok(Some(certificate)) => {
                    tracing::info!(
                        expires = certificate.expires,
                        "a new serving certificate is served"
                    );
                    swapped(&certificate);
                }
                Err(error) => {
                    tracing::error!(%error, "the serving certificate changed and is unusable; still serving the previous one");
                }
            }
        }
    }
}

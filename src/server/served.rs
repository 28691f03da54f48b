//! What the listener serves, wherever it comes from.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::tls::{Certificate, Content, TlsConfig, TlsError, parse, read};
use crate::base::readiness::Readiness;
use crate::base::secret_text::SecretText;
use crate::metrics::Metrics;

/// What there is to serve.
#[derive(Debug)]
enum Offer {
    Nothing,
    Certificate(TlsConfig),
    Ended,
}

/// What the listener serves: nothing until there is a certificate, and then always the last one.
#[derive(Debug)]
pub struct ServedTls {
    config: watch::Sender<Offer>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
}

impl ServedTls {
    /// Nothing is served yet.
    pub fn new(metrics: Arc<Metrics>, readiness: Arc<Readiness>) -> Self {
        Self {
            config: watch::Sender::new(Offer::Nothing),
            metrics,
            readiness,
        }
    }

    /// Serves a certificate that another task replaces, which reports that by [`ServedTls::tell`].
    pub fn begin(&self, config: TlsConfig, certificate: &Certificate) {
        self.config.send_replace(Offer::Certificate(config));
        self.tell(certificate);
    }

    /// Serves this certificate to clients that connect from now on; existing connections continue.
    pub fn swap(&self, certificate: &Certificate) {
        self.config.send_if_modified(|offer| match offer {
            Offer::Nothing => {
                *offer = Offer::Certificate(TlsConfig::new(certificate));
                true
            }
            Offer::Certificate(config) => {
                config.swap(certificate);
                false
            }
            Offer::Ended => false,
        });
        self.tell(certificate);
    }

    /// Reports what is served to metrics.
    pub fn tell(&self, certificate: &Certificate) {
        self.metrics.certificate_expires(certificate.expires);
        self.readiness.certificate.store(true, Ordering::Release);
    }

    /// Ends the wait of every listener that has nothing to serve yet.
    pub fn shut_down(&self) {
        self.config.send_replace(Offer::Ended);
    }

    /// Waits until there is something to serve, which follows later swaps; nothing when it ended before.
    pub async fn first(&self) -> Option<TlsConfig> {
        let mut offers = self.config.subscribe();
        let offer = offers.wait_for(|offer| !matches!(offer, Offer::Nothing)).await;
        match offer.as_deref() {
            Ok(Offer::Certificate(config)) => Some(config.clone()),
            Ok(Offer::Nothing | Offer::Ended) | Err(_) => None,
        }
    }
}

/// Makes what can be served of a certificate that is not in a file, and of the client authorities, which may be.
#[derive(Debug)]
pub struct TlsMaker {
    client_ca: Option<PathBuf>,
    made: Option<Content>,
}

impl TlsMaker {
    /// Where `client_ca` is set, a client must present a certificate that one of the authorities in this file signed.
    pub fn new(client_ca: Option<PathBuf>) -> Self {
        Self {
            client_ca,
            made: None,
        }
    }

    /// Whether there are client authorities, whose file may change.
    pub fn has_client_ca(&self) -> bool {
        self.client_ca.is_some()
    }

    /// Creates it from a certificate and a key, both in PEM; `None` if they are the same as the last time.
    pub fn make(&mut self, certificate: &str, key: &SecretText) -> Result<Option<Certificate>, TlsError> {
        let content = Content {
            certificate: certificate.as_bytes().to_vec(),
            key: key.expose().as_bytes().to_vec(),
            client_ca: self.client_ca.as_deref().map(read).transpose()?,
        };
        if self.made.as_ref() == Some(&content) {
            return Ok(None);
        }
        let in_memory = PathBuf::from("the Secret");
        let made = parse(&content, &in_memory, &in_memory, self.client_ca.as_deref())?;
        self.made = Some(content);
        Ok(Some(made))
    }
}

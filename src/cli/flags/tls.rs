//! Where the serving certificate comes from: files, or the Secret that pullpass manages itself.

use std::path::PathBuf;

use clap::Args;

use crate::api::names::SERVING_CERTIFICATE_FILE;
use crate::server::{TlsFiles, TlsMaker};

/// Where the key is if nothing else is said and there is no cluster to keep a Secret in.
const DEFAULT_KEY: &str = "/etc/pullpass/tls/tls.key";

#[derive(Debug, Args)]
pub(in crate::cli) struct TlsFlags {
    /// The serving certificate, in PEM; read again when it changes. In a cluster and without this and --tls-key,
    /// pullpass has a certificate authority of its own and tells the API server to trust it
    #[arg(long, value_name = "FILE", env = "PULLPASS_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// The serving certificate's private key, in PEM; read again when it changes
    #[arg(long, value_name = "FILE", env = "PULLPASS_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Require a client certificate that one of these authorities signed
    #[arg(long, value_name = "FILE", env = "PULLPASS_CLIENT_CA")]
    client_ca: Option<PathBuf>,
}

impl TlsFlags {
    /// The files, unless pullpass manages a certificate itself.
    pub(in crate::cli) fn files(&self, without_cluster: bool) -> Option<TlsFiles> {
        let given = self.tls_cert.is_some() || self.tls_key.is_some();
        (given || without_cluster).then(|| TlsFiles {
            certificate: self
                .tls_cert
                .clone()
                .unwrap_or_else(|| SERVING_CERTIFICATE_FILE.into()),
            key: self.tls_key.clone().unwrap_or_else(|| DEFAULT_KEY.into()),
            client_ca: self.client_ca.clone(),
        })
    }

    /// What makes a certificate that can be served when it is not in files.
    pub(in crate::cli) fn maker(&self) -> TlsMaker {
        TlsMaker::new(self.client_ca.clone())
    }
}

//! What runs in a cluster: the parts put together, and taken apart again in order. `docs/availability.md` is its page.

mod azure_requests;
pub mod leader;
mod log_filter;
mod options;
mod process;
mod replica;
mod shutdown;

use std::io;

use thiserror::Error;

use self::process::Process;
use crate::server::{ListenError, TlsError};
use crate::view::manifests::ManifestsError;

pub use self::log_filter::LogFilter;
pub use self::options::{ClusterOptions, Options, Source};

/// Why a process can't serve, or can't go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The directory of manifests can't be read or is wrong.
    #[error(transparent)]
    Manifests(#[from] ManifestsError),
    /// The serving certificate can't be used.
    #[error("the serving certificate: {0}. Give files with --tls-cert and --tls-key")]
    Tls(#[from] TlsError),
    /// A socket can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The operating system gives no signals.
    #[error("a signal can't be listened for: {0}")]
    Signal(#[source] io::Error),
    /// The cluster can't be used.
    #[error("the cluster can't be used: {0}")]
    Cluster(String),
}

/// Serves until a signal asks for the end, and ends in order: not ready, drained, the Lease released.
pub async fn serve(options: Options) -> Result<(), ServeError> {
    Process::build(options).await?.run().await
}

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use crate::binaries::Unavailable;
use crate::wait::TimedOut;

/// Why something could not be started, stopped or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The control plane's binaries are not to be had.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Keys or certificates could not be made.
    #[error("certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A process ended that should be running.
    #[error("{process} ended by itself ({status}); the end of its log:\n{tail}")]
    Ended {
        /// The process' name.
        process: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote.
        tail: String,
    },
    /// A process is not running, so it can't be signalled.
    #[error("{process} is not running")]
    NotRunning {
        /// The process' name.
        process: String,
    },
    /// A process is running but has not become ready.
    #[error("{process} is not ready after {waited:?}: {reason}; the end of its log:\n{tail}")]
    NotReady {
        /// The process' name.
        process: String,
        /// How long was waited.
        waited: Duration,
        /// What the last probe said.
        reason: String,
        /// The end of what the process wrote.
        tail: String,
    },
    /// A process is still running though it was waited for.
    #[error("{process} is still running after {waited:?}")]
    StillRunning {
        /// The process' name.
        process: String,
        /// How long was waited.
        waited: Duration,
    },
    /// kubectl ended with an error.
    #[error("kubectl {arguments} ({status}): {stderr}")]
    Kubectl {
        /// The command line after `kubectl`.
        arguments: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// kubectl's answer is not JSON.
    #[error("kubectl {arguments} did not answer in JSON: {source}")]
    NotJson {
        /// The command line after `kubectl`.
        arguments: String,
        /// Where the answer went wrong.
        source: serde_json::Error,
    },
    /// A client sent a token to the storage account that a blob comes from.
    #[error("a token was sent to the storage account that a blob comes from")]
    LeakedToken,
    /// A client of the registry ended with an error.
    #[error("{program} ({status}): {stderr}")]
    RegistryClient {
        /// The client.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// The emulator of Azure could not be started or told something.
    #[error("emulator: {0}")]
    Emulator(#[from] pullpass_emulator::EmulatorError),
    /// What `manifests` ships is not what an installation is made of.
    #[error("manifests/base: {0}")]
    Shipped(String),
    /// A Helm chart of `manifests` can't be described.
    #[error("the chart's {0}")]
    Chart(String),
    /// A line of pullpass' audit log is not JSON.
    #[error("a line of the audit log is not JSON ({source}): {line}")]
    Record {
        /// The line.
        line: String,
        /// Where it went wrong.
        source: serde_json::Error,
    },
    /// There are more records than there should be.
    #[error("there are {} instead of {what}: {records:#?}", .records.len())]
    TooMany {
        /// What there should be.
        what: String,
        /// What there is.
        records: Vec<serde_json::Value>,
    },
    /// No port of the range that is tried is free.
    #[error("no free loopback port")]
    NoFreePort,
    /// There can't be a network namespace with links.
    #[error(
        "a network for a Pod can't be made ({what}: {reason}); run these tests on Linux as root, with Debian's iproute2 and iptables"
    )]
    Network {
        /// What was being done.
        what: String,
        /// What was said to it.
        reason: String,
    },
    /// `PULLPASS_E2E` is off.
    #[error(
        "NOT RUN: PULLPASS_E2E=off is set, so nothing of what this test shows was shown; unset it to run the test"
    )]
    NotRun,
    /// This machine can't have a node.
    #[error("NOT RUN: no kubelet pulls anything here, so nothing of what this test shows was shown: {0}")]
    NoNode(String),
    /// This machine has no browser.
    #[error(
        "NOT RUN: there is no chromium here, so nothing of what this test shows was shown; make setup installs Debian's package"
    )]
    NoBrowser,
    /// The browser did not do what it was told.
    #[error("the browser: {0}")]
    Browser(String),
    /// `PULLPASS_E2E` is set to something else.
    #[error("PULLPASS_E2E is {0}; it can be off, or not set")]
    Wanted(String),
    /// A condition did not come true in time.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    /// A TLS connection was not made.
    #[error("TLS: {0}")]
    Tls(String),
    /// The API server's client did not do its work.
    #[error("the client of the API server: {0}")]
    Client(String),
}

impl Error {
    /// Names what was being done when the operating system refused.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

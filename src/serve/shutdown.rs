//! How a process ends: on a signal it stops being ready, goes on serving for a while, and then drains.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ServeError;
use crate::base::readiness::Readiness;

/// Waits for a signal, and then until requests have had time to go elsewhere.
pub(super) async fn shutdown_requested(readiness: &Readiness, delay: Duration) -> Result<(), ServeError> {
    let name = ShutdownSignals::new()?.next().await;
    tracing::info!(
        signal = name,
        ?delay,
        "shutting down: reporting not ready, still serving"
    );
    readiness.ending.store(true, Ordering::Release);
    tokio::time::sleep(delay).await;
    tracing::info!("draining in-flight requests");
    Ok(())
}

/// The signals that end the program.
struct ShutdownSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl ShutdownSignals {
    fn new() -> Result<Self, ServeError> {
        Ok(Self {
            terminate: listen_for(SignalKind::terminate())?,
            interrupt: listen_for(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Listens for a signal.
pub(super) fn listen_for(kind: SignalKind) -> Result<Signal, ServeError> {
    signal(kind).map_err(ServeError::Signal)
}

//! How a process ends: on a signal it stops being ready, keeps serving for a while, and then drains.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ServeError;
use crate::base::readiness::Readiness;

/// Waits for a signal, and then until requests have had time to go elsewhere.
pub(super) async fn shutdown_requested(readiness: &Readiness, delay: Duration) -> Result<(), ServeError> {
    let mut signals = ShutdownSignals::new()?;
    let (name, _) = signals.next().await;
    tracing::info!(
        signal = name,
        ?delay,
        "shutting down: reporting not ready, still serving"
    );
    tokio::spawn(exit_at_second(signals));
    readiness.ending.store(true, Ordering::Release);
    tokio::time::sleep(delay).await;
    tracing::info!("draining in-flight requests");
    Ok(())
}

/// Exits at the next signal, whatever is still being done, with the code that a shell gives to that signal.
async fn exit_at_second(mut signals: ShutdownSignals) {
    let (name, code) = signals.next().await;
    tracing::warn!(signal = name, "second signal: exiting immediately");
    std::process::exit(code);
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

    /// The next signal's name, and the exit code for it.
    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", 128 + 15),
            _ = self.interrupt.recv() => ("SIGINT", 128 + 2),
        }
    }
}

/// Listens for a signal.
pub(super) fn listen_for(kind: SignalKind) -> Result<Signal, ServeError> {
    signal(kind).map_err(ServeError::Signal)
}

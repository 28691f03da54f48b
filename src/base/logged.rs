//! What code says to the log, for tests of it.

use std::io;
use std::sync::{Arc, Mutex};

/// Remembers what is logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// What was logged so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// What a function returns, and the lines that it logs.
pub(crate) fn logged<T>(run: impl FnOnce() -> T) -> (T, String) {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(Mutex::new(log.clone()))
        .finish();
    let returned = tracing::subscriber::with_default(subscriber, run);
    (returned, log.text())
}

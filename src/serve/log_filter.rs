//! What is logged can be changed while the process runs: a file with a filter is followed.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::reload::Handle;
use tracing_subscriber::{EnvFilter, Registry};

/// What is logged, while the process runs.
#[derive(Debug)]
pub struct LogFilter {
    handle: Handle<EnvFilter, Registry>,
    /// What `--log` says.
    flag: String,
    file: Option<PathBuf>,
    in_force: String,
}

impl LogFilter {
    /// The filter behind `handle`: what the file says, where there is one, else `flag`, which is in force already.
    pub fn new(handle: Handle<EnvFilter, Registry>, flag: String, file: Option<PathBuf>) -> Self {
        let mut filter = Self {
            handle,
            in_force: flag.clone(),
            flag,
            file,
        };
        filter.look();
        filter
    }

    /// Follows the file. It runs until dropped.
    pub async fn follow(mut self, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            self.look();
        }
    }

    /// Takes what the file says, or the flag where there is no file.
    fn look(&mut self) {
        let Some(path) = &self.file else { return };
        let wanted = match fs::read_to_string(path) {
            Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, "the file with the log's filter can't be read");
                return;
            }
        };
        let wanted = wanted.unwrap_or_else(|| self.flag.clone());
        if wanted == self.in_force {
            return;
        }
        let applied = EnvFilter::try_new(&wanted)
            .map_err(|error| error.to_string())
            .and_then(|filter| self.handle.reload(filter).map_err(|error| error.to_string()));
        match applied {
            Ok(()) => tracing::info!(filter = wanted, "the log filter changed"),
            Err(error) => tracing::warn!(filter = wanted, %error, "the log's filter is wrong and not used"),
        }
        self.in_force = wanted;
    }
}

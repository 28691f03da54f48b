//! What the listeners share.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use jiff::Timestamp;
use rustls::ServerConfig;

use crate::backend::Client;
use crate::certificates::Keys;
use crate::clock::Clock;
use crate::config::Config;
use crate::counts::Counters;
use crate::directory::Directory;
use crate::error::EmulatorError;
use crate::failure::Failures;
use crate::storage::Storage;

/// State that every connection sees.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) keys: Keys,
    pub(crate) failures: Failures,
    pub(crate) counters: Counters,
    pub(crate) storage: Storage,
    pub(crate) client: Client,
    directory: RwLock<Directory>,
    tls: RwLock<Arc<ServerConfig>>,
}

impl Shared {
    pub(crate) fn new(config: Config) -> Result<Self, EmulatorError> {
        let (clock, keys) = (Clock::default(), Keys::generate()?);
        let directory = Directory::new(config, clock.now());
        Ok(Self {
            tls: RwLock::new(keys.server(directory.hosts())?),
            directory: RwLock::new(directory),
            clock,
            keys,
            failures: Failures::default(),
            counters: Counters::default(),
            storage: Storage::new(),
            client: Client::new(),
        })
    }

    /// What exists. Not to be held across an `await`.
    pub(crate) fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what exists; the TLS certificate follows the hosts.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Directory, Timestamp)) -> Result<(), EmulatorError> {
        let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = directory.clone();
        change(&mut changed, self.clock.now());
        if changed.hosts() != directory.hosts() {
            let server = self.keys.server(changed.hosts())?;
            *self.tls.write().unwrap_or_else(PoisonError::into_inner) = server;
        }
        *directory = changed;
        Ok(())
    }

    /// The TLS server's settings for the next connection.
    pub(crate) fn tls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.tls.read().unwrap_or_else(PoisonError::into_inner))
    }
}

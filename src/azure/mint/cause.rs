//! Which step brought no credential, and why.

use thiserror::Error;

use crate::azure::acr::AcrError;
use crate::azure::entra::EntraError;
use crate::registry::login_server::LoginServer;

/// What was being done, in the order in which it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MintStep {
    /// Nothing was asked yet.
    Prepare,
    /// A token of Entra ID.
    Entra,
    /// The exchange for a refresh token.
    Exchange,
    /// A scoped access token.
    AccessToken,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MintCause {
    /// A user name and password that no client could send.
    #[error("the user name or the password is empty, or the user name has a colon in it")]
    Password,
    /// A pull secret that no Secret could hold.
    #[error(
        "a pull secret with a key for each of the {repositories} repositories is larger than the 1 MiB that a Secret can hold"
    )]
    TooLarge {
        /// How many repositories it is for.
        repositories: usize,
    },
    /// No token of Entra ID.
    #[error("{0}")]
    Entra(EntraError),
    /// No token of the registry.
    #[error("no pull token from {login_server}: {error}")]
    Registry {
        /// The registry.
        login_server: LoginServer,
        /// What it did.
        error: AcrError,
    },
}

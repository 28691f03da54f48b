//! The steps of a pull, by which calls are counted and made to fail.

use serde::{Deserialize, Serialize};

/// A step of getting a credential and of using it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// `POST /{tenant}/oauth2/v2.0/token` at an Entra authority.
    EntraToken,
    /// `GET /metadata/identity/oauth2/token`.
    Imds,
    /// `GET /v2/`.
    Challenge,
    /// `POST /oauth2/exchange`.
    Exchange,
    /// `GET` or `POST /oauth2/token`.
    Token,
    /// A manifest, a list of tags or of referrers.
    Manifest,
    /// A blob, up or down: at the registry, which leads to its storage account for the bytes.
    Blob,
    /// A blob's bytes, at the storage account.
    Storage,
}

/// One call: a step, and the registry host or tenant that it went to (none for IMDS).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    pub(crate) step: Step,
    pub(crate) target: Option<String>,
}

//! The state of a registry's credential after a look at it.

use std::sync::Arc;

use jiff::Timestamp;

use super::MintFailure;
use crate::policy::attached::AttachedRegistry;
use crate::sync::held_credential::HeldCredential;

/// The state of a registry.
#[derive(Debug, Clone)]
pub(super) struct CredentialState {
    /// Whether pulls need a credential.
    pub(super) is_needed: bool,
    pub(super) login_server: Option<String>,
    pub(super) held: Option<Arc<HeldCredential>>,
    pub(super) failure: Option<MintFailure>,
    pub(super) next_refresh: Option<Timestamp>,
    /// Nothing is known yet of the spec and its Secret as they are now: they wait for their turn, or the API server
    /// does not answer. What is reported about the ones before still holds, under their generation.
    pub(super) is_undecided: bool,
}

impl CredentialState {
    /// That of a registry which needs no credential.
    pub(super) fn anonymous(registry: &AttachedRegistry) -> Self {
        Self {
            is_needed: false,
            login_server: Some(registry.login_server().to_string()),
            held: None,
            failure: None,
            next_refresh: None,
            is_undecided: false,
        }
    }
}

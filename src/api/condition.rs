//! The types of the conditions in an AcrRegistry's status.

/// Whether the credential works.
pub const READY: &str = "Ready";
/// Whether the pull secrets are where they should be.
pub const DISTRIBUTED: &str = "Distributed";
/// Whether the credential may pull from the repositories that are known.
pub const PULL_AUTHORIZED: &str = "PullAuthorized";
/// All of them.
pub const CONDITIONS: [&str; 3] = [READY, DISTRIBUTED, PULL_AUTHORIZED];

//! The types of the conditions in an AcrRegistry's status.

/// Whether the credential works.
pub const READY: &str = "Ready";
/// Whether the pull secrets are where they should be.
pub const DISTRIBUTED: &str = "Distributed";
/// All of them.
pub const CONDITIONS: [&str; 2] = [READY, DISTRIBUTED];

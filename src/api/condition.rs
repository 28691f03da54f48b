//! The types of the conditions in an AcrRegistry's status.

/// Whether the credential works.
pub const READY: &str = "Ready";
/// Whether the pull secrets are where they should be.
pub const DISTRIBUTED: &str = "Distributed";
/// Whether the credential may pull from the repositories that are known.
pub const PULL_AUTHORIZED: &str = "PullAuthorized";
/// Whether the webhook is asked about Pods with images on the custom domains, and on a login server of another cloud than
/// Azure's own; only where there are such hosts.
pub const CUSTOM_DOMAINS: &str = "CustomDomains";
/// Whether it becomes ready only after a person acts; only where that is so. Flux and kpt read it (kstatus).
pub const STALLED: &str = "Stalled";
/// Whether it may become ready without a change. The condition exists only while that is so; the same tools read it.
pub const RECONCILING: &str = "Reconciling";

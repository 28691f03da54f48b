//! Flags that several commands share, or that belong to one topic.

pub(super) mod audit_log;
pub(super) mod azure;
pub(super) mod choice;
pub(super) mod cluster;
pub(super) mod decisions;
pub(super) mod dry_run;
pub(super) mod identity;
mod impersonation;
pub(super) mod kubeconfig;
pub(super) mod log;
pub(super) mod no_headers;
pub(super) mod own_namespace;
pub(super) mod seconds;
pub(super) mod secret_source;
pub(super) mod tls;
mod url;

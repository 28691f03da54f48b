//! Flags that several commands share, or that belong to one topic.

#[cfg(target_os = "linux")]
pub(super) mod audit_log;
pub(super) mod azure;
pub(super) mod choice;
#[cfg(target_os = "linux")]
pub(super) mod cluster;
pub(super) mod decisions;
pub(super) mod dry_run;
pub(super) mod identity;
mod impersonation;
pub(super) mod kubeconfig;
#[cfg(target_os = "linux")]
pub(super) mod log;
pub(super) mod no_headers;
pub(super) mod own_namespace;
pub(super) mod seconds;
pub(super) mod secret_source;
#[cfg(target_os = "linux")]
pub(super) mod tls;
mod url;

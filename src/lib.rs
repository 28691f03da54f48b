//! pullpass: image pull credentials for Azure Container Registry, given to Pods at admission.
//!
//! Each module below is one topic: `tests/layers.txt` has the modules that each may use, only downward.
//! `docs/architecture.md` says what each of them is about, where to start reading, and which invariants hold.
//!
//! Modules that are needed only in a cluster are compiled only for Linux: elsewhere the program is the plugin of
//! kubectl, without `serve`.

pub mod admission;
pub mod api;
pub mod audit;
pub mod azure;
pub mod base;
pub mod certificates;
pub mod check;
pub mod cli;
pub mod http;
pub mod kubernetes;
pub mod metrics;
pub mod policy;
pub mod registry;
#[cfg(target_os = "linux")]
pub mod serve;
#[cfg(target_os = "linux")]
pub mod server;
pub mod sync;
pub mod view;

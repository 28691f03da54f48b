//! pullpass: image pull credentials for Azure Container Registry, given to Pods at admission.
//!
//! Each module below is one topic: `tests/layers.txt` is the table of which may use which others, downward only.
//! `docs/architecture.md` says what each of them is about, where to start reading, and which invariants hold.

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
pub mod serve;
pub mod server;
pub mod sync;
pub mod view;

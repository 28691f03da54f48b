//! Keeps credentials minted, fresh, and in the namespaces where Pods need them (`docs/architecture.md`).
//!
//! Every replica watches registries, namespaces and minted credentials, and writes a pull secret as soon as a Pod that
//! needs it is admitted. Only the leader mints, refreshes, fans out and deletes. All state is in the cluster: a new
//! leader derives the rest again.

mod bindings;
mod counted_write;
pub mod credentials;
pub mod demand;
pub mod failed_pulls;
mod failures;
pub mod fence;
pub mod held_credential;
pub mod index;
pub mod minting;
pub mod owner_events;
mod pair;
pub mod pods;
pub mod pull_secret;
mod recent_writes;
mod registries;
pub mod reports;
mod repositories;
pub mod rescue;
pub mod secrets;
mod service_accounts;
mod spellings;
pub mod stored;
mod unwritten_events;
mod versions;
mod waiting;
mod waiting_reviews;
mod warnings;
pub mod watches;

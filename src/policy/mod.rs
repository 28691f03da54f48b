//! What happens to a Pod, decided purely: no Kubernetes client, no clock, no log. `docs/policy.md` is its page.

pub mod access;
pub mod attached;
pub mod coverage;
pub mod credential_secret;
pub mod decision;
pub mod evictions;
pub mod exemption;
mod fingerprint;
pub mod identity;
pub mod index;
pub mod invalid_spec;
pub mod listed;
pub mod mountable;
pub mod namespace_selector;
pub mod pod;
pub mod reports;
pub mod request;
pub mod rescue;
pub mod rules;
pub mod scope;
pub mod server_policies;
pub mod verdict;
pub mod workloads;

#[cfg(test)]
mod agreement;

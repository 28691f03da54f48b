//! Ground: what knows no Kubernetes, no Azure and no policy.

pub mod abridged;
pub mod backoff;
pub mod causes;
pub mod clock;
pub mod dns;
pub mod encoding;
pub mod few;
pub mod guid;
#[cfg(test)]
pub(crate) mod logged;
pub mod occasional;
pub mod pair_map;
pub mod pruned_map;
pub mod qualified_name;
pub mod readiness;
pub(crate) mod remedy;
pub mod secret_text;
pub mod shared_map;
pub mod time_order;
pub mod tracked;

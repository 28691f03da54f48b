//! How pullpass talks to an API server.

pub mod asked;
pub mod call;
pub mod client;
pub mod events;
pub mod follow;
pub mod pages;
pub mod pods;
pub(crate) mod refusal;
pub mod tail;
pub(crate) mod watch;
pub(crate) mod words;

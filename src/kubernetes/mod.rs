//! How pullpass talks to an API server.

pub mod pages;
pub(crate) mod refusal;

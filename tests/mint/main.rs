//! Minting, against the emulator of Entra ID, the managed identity endpoint and the registries' token service.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod audiences;
mod clocks;
mod identities;
mod outages;
mod passwords;
mod refusals;
mod world;

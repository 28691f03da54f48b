//! The emulator, asked as pullpass, the kubelet and skopeo ask the real services.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub
)]

mod assertions;
mod client;
mod control;
mod entra;
mod failures;
mod imds;
mod proxy;
mod registry;
mod skopeo;

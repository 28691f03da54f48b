//! `pullpass check` as a person sees it: the binary against the emulator and a real docker-registry, with each failure of
//! Entra ID and ACR injected, and against a real control plane; and `pullpass version` there.
//!
//! What is said lies in `said/`. `PULLPASS_SAID=write` writes those that have changed, and the tests that did so
//! fail; read them before they are committed.

mod bad_input;
mod cluster;
mod failures;
mod identities;
mod installation;
mod output;
mod versions;
mod world;

//! The audit log of the program itself: under load, over OTLP, and as people read it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod collector;
mod load;
mod otlp;
mod queries;
mod world;

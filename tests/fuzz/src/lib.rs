//! What must hold of each parser whatever it is given: a function for each fuzz target of `fuzz/`.
//!
//! The same functions run on the stable toolchain with every seed and with random input (`tests/`), so that continuous
//! integration holds them too.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a check fails by panicking"
)]

pub mod answers;
pub mod challenge;
pub mod docker_config;
pub mod generate;
pub mod image_reference;
pub mod names;
pub mod pem;
pub mod proxy;
pub mod review;

/// A check of one parser. It panics where something does not hold.
pub type Check = fn(&[u8]);

/// Every fuzz target, by its name in `fuzz/fuzz_targets`.
pub const TARGETS: [(&str, Check); 8] = [
    ("answers", answers::check),
    ("challenge", challenge::check),
    ("docker_config", docker_config::check),
    ("image_reference", image_reference::check),
    ("names", names::check),
    ("pem", pem::check),
    ("proxy", proxy::check),
    ("review", review::check),
];

/// The input as text, where it is text.
fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

/// The input as several texts, with a line's end between them.
fn lines<const N: usize>(input: &[u8]) -> Option<[&str; N]> {
    let mut lines = text(input)?.splitn(N, '\n');
    Some(std::array::from_fn(|_| lines.next().unwrap_or_default()))
}

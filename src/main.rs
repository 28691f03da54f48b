//! The `pullpass` program.

use std::process::ExitCode;

/// musl's own allocator has one lock for all threads, and costs a review as much as all the rest (docs/image.md).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Two TLS providers may be compiled in; which one is used must not depend on it. An error means that one is
    // installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    pullpass::cli::run()
}

//! The `pullpass` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Two TLS providers may be compiled in; which one is used must not depend on it. An error means that one is
    // installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    pullpass::cli::run()
}

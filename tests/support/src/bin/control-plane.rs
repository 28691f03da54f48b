//! Runs a control plane to try things on: prints the path of its kubeconfig, and ends with its
//! standard input or on Ctrl-C.

#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;
use std::time::Instant;

use pullpass_test_support::{ControlPlane, Error};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("control-plane: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let begin = Instant::now();
    let control_plane = ControlPlane::start()?;
    eprintln!(
        "control-plane: ready after {:.1} s",
        begin.elapsed().as_secs_f32()
    );
    println!("{}", control_plane.kubeconfig().display());
    io::copy(&mut io::stdin(), &mut io::sink()).map_err(|source| Error::Io {
        what: "reading standard input".to_owned(),
        source,
    })?;
    Ok(())
}

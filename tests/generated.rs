//! What is generated and checked in is what the program generates now.

use std::error::Error;
use std::fs;
use std::process::Command;

#[test]
fn the_crd_in_the_manifests_is_the_one_that_the_program_prints() -> Result<(), Box<dyn Error>> {
    let printed = Command::new(env!("CARGO_BIN_EXE_pullpass")).arg("crd").output()?;
    assert!(printed.status.success(), "{printed:?}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/base/crd.yaml");
    assert!(
        fs::read_to_string(path)? == String::from_utf8(printed.stdout)?,
        "manifests/base/crd.yaml is out of date: cargo run -- crd > manifests/base/crd.yaml"
    );
    Ok(())
}

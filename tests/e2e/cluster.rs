//! The control plane that all tests share, and the pullpass that most of them do.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process;
use std::sync::OnceLock;
use std::time::Duration;

use pullpass_test_support::{ControlPlane, ControlPlaneBuilder, Installation, InstallationBuilder};

pub type Test = Result<(), Box<dyn Error>>;

/// Only bounds how long a broken test takes.
pub const SOON: Duration = Duration::from_secs(30);

const BANNER: &str = "
**********************************************************************
**                                                                  **
**                 END-TO-END TESTS WERE NOT RUN                    **
**                                                                  **
**   PULLPASS_E2E=off is set. Nothing of what they show was shown.  **
**   With CI=true this is a failure.                                **
**                                                                  **
**********************************************************************
";

/// The control plane.
pub fn cluster() -> Result<&'static ControlPlane, Box<dyn Error>> {
    static CLUSTER: OnceLock<Result<ControlPlane, String>> = OnceLock::new();
    wanted()?;
    let cluster = CLUSTER.get_or_init(|| ControlPlane::start().map_err(|error| error.to_string()));
    Ok(cluster.as_ref().map_err(String::as_str)?)
}

/// Another control plane, for what can't be shared.
pub fn cluster_of_its_own() -> Result<ControlPlaneBuilder, Box<dyn Error>> {
    wanted()?;
    Ok(ControlPlane::builder())
}

/// A pullpass with `myregistry` attached and no flags, in namespaces of the caller's making.
pub fn pullpass() -> Result<&'static Installation<'static>, Box<dyn Error>> {
    static PULLPASS: OnceLock<Result<Installation<'static>, String>> = OnceLock::new();
    let pullpass = PULLPASS.get_or_init(|| {
        let builder = installation().map_err(|error| error.to_string())?;
        builder
            .registry("myregistry")
            .start()
            .map_err(|error| error.to_string())
    });
    Ok(pullpass.as_ref().map_err(String::as_str)?)
}

/// A pullpass of the caller's own.
pub fn installation() -> Result<InstallationBuilder<'static>, Box<dyn Error>> {
    Ok(Installation::builder(cluster()?, env!("CARGO_BIN_EXE_pullpass")))
}

/// Ends the whole program where the tests are not wanted, so that none is reported as passed.
fn wanted() -> Result<(), Box<dyn Error>> {
    static WANTED: OnceLock<Result<(), String>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| match env::var_os("PULLPASS_E2E") {
        None => Ok(()),
        Some(value) if value == "off" => {
            // Past the test harness, which would keep it for itself. Who has closed standard error sees the status.
            let _ = io::stderr().write_all(BANNER.as_bytes());
            process::exit(i32::from(env::var_os("CI").is_some_and(|ci| ci == "true")))
        }
        Some(value) => Err(format!(
            "PULLPASS_E2E is {}; it can be off, or not set",
            value.display()
        )),
    });
    Ok(wanted.clone()?)
}

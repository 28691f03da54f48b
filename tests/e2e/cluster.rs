//! The control plane that all tests share, and the pullpass that most of them do.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process;
use std::sync::OnceLock;
use std::time::Duration;

use pullpass_test_support::{ControlPlane, Installation, InstallationBuilder};

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
    let cluster = CLUSTER.get_or_init(|| {
        leave_if_off()?;
        ControlPlane::start().map_err(|error| error.to_string())
    });
    Ok(cluster.as_ref().map_err(String::as_str)?)
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
fn leave_if_off() -> Result<(), String> {
    match env::var("PULLPASS_E2E") {
        Err(env::VarError::NotPresent) => Ok(()),
        Ok(value) if value == "off" => {
            // Past the test harness, which would keep it for itself. Who has closed standard error sees the status.
            let _ = io::stderr().write_all(BANNER.as_bytes());
            process::exit(i32::from(env::var("CI").is_ok_and(|ci| ci == "true")))
        }
        other => Err(format!("PULLPASS_E2E can be off or not set; it is {other:?}")),
    }
}

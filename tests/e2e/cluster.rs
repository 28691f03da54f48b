//! The control plane that all tests share, and the pullpass that most of them do.

use std::error::Error;
use std::sync::OnceLock;
use std::time::Duration;

use pullpass_test_support::{
    ControlPlane, ControlPlaneBuilder, Installation, InstallationBuilder, end_to_end_wanted,
};

pub type Test = Result<(), Box<dyn Error>>;

/// Only bounds how long a broken test takes.
pub const SOON: Duration = Duration::from_mins(2);

/// The control plane.
pub fn cluster() -> Result<&'static ControlPlane, Box<dyn Error>> {
    static CLUSTER: OnceLock<Result<ControlPlane, String>> = OnceLock::new();
    end_to_end_wanted()?;
    let cluster = CLUSTER.get_or_init(|| ControlPlane::start().map_err(|error| error.to_string()));
    Ok(cluster.as_ref().map_err(String::as_str)?)
}

/// Another control plane, for what can't be shared.
pub fn cluster_of_its_own() -> Result<ControlPlaneBuilder, Box<dyn Error>> {
    end_to_end_wanted()?;
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

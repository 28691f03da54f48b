//! A kubectl with the plugin on its PATH, and nothing of the user's.

use std::error::Error;
use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pullpass_test_support::{Binaries, Scratch, end_to_end_wanted};

pub type Test = Result<(), Box<dyn Error>>;

pub struct Kubectl {
    binary: PathBuf,
    scratch: Scratch,
}

impl Kubectl {
    /// With the plugin, and with what completes it, both as links to a binary.
    pub fn with_plugin(pullpass: &Path) -> Result<Self, Box<dyn Error>> {
        end_to_end_wanted()?;
        let scratch = Scratch::new()?;
        symlink(pullpass, scratch.path().join("kubectl-pullpass"))?;
        symlink(
            scratch.path().join("kubectl-pullpass"),
            scratch.path().join("kubectl_complete-pullpass"),
        )?;
        Ok(Self {
            binary: Binaries::locate()?.kubectl()?,
            scratch,
        })
    }

    /// A directory of its own, which is its HOME and where it runs.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    pub fn command(&self) -> Command {
        let mut path = OsString::from(self.directory());
        path.push(":/usr/bin:/bin");
        let mut command = Command::new(&self.binary);
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.directory())
            .env("KUBERC", "off")
            .current_dir(self.directory())
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> std::io::Result<Output> {
        self.command().args(arguments).output()
    }
}

/// With the binary under test.
pub fn kubectl() -> Result<Kubectl, Box<dyn Error>> {
    Kubectl::with_plugin(Path::new(env!("CARGO_BIN_EXE_pullpass")))
}

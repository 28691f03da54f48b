use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::error::Error;

/// Waits for the pipe to close, then removes the directory; processes that are being killed at the
/// same moment may still write into it, hence the repetition.
const GUARD: &str = r#"
read -r _line
tries=0
while [ -e "$1" ] && [ "$tries" -lt 20 ]; do
  rm -rf -- "$1" && break
  sleep 1
  tries=$((tries + 1))
done
"#;

/// A temporary directory that goes away with its owner, also when the whole process is killed.
#[derive(Debug)]
pub struct Scratch {
    directory: Option<TempDir>,
    path: std::path::PathBuf,
    guard: Child,
}

impl Scratch {
    /// Makes an empty directory that only this user can read.
    pub fn new() -> Result<Self, Error> {
        let directory = tempfile::Builder::new()
            .prefix("pullpass-")
            .tempdir()
            .map_err(Error::io("making a temporary directory"))?;
        let path = directory.path().to_path_buf();
        let mut command = Command::new("sh");
        command
            .args(["-c", GUARD, "scratch-guard"])
            .arg(&path)
            .current_dir("/");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let guard = crate::process::own_group(&mut command)
            .spawn()
            .map_err(Error::io("starting the guard of a temporary directory"))?;
        Ok(Self {
            directory: Some(directory),
            path,
            guard,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // With the directory gone the guard has nothing to do when its pipe closes.
        drop(self.directory.take());
        drop(self.guard.stdin.take());
        // Nothing can be done about a guard that can't be waited for, and it ends by itself.
        let _ = self.guard.wait();
    }
}

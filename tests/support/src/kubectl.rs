use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::error::Error;

/// What kubectl printed.
#[derive(Clone, Debug)]
pub struct KubectlOutput {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error, where it prints the warnings that the API server and its webhooks give.
    pub stderr: String,
}

impl KubectlOutput {
    /// The warnings of the API server and its webhooks, without the word "Warning".
    pub fn warnings(&self) -> Vec<&str> {
        self.stderr
            .lines()
            .filter_map(|line| line.strip_prefix("Warning: "))
            .collect()
    }
}

/// A kubectl that knows its cluster and nothing of the user's own settings.
#[derive(Debug)]
pub(crate) struct Kubectl {
    pub(crate) binary: PathBuf,
    pub(crate) cache: PathBuf,
}

impl Kubectl {
    pub(crate) fn command(&self, kubeconfig: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg("--cache-dir")
            .arg(&self.cache);
        command
            .env("KUBECONFIG", kubeconfig)
            .env("KUBERC", "off")
            .stdin(Stdio::null());
        command
    }
}

/// Runs a kubectl command with `input` on its standard input.
pub(crate) fn run(mut command: Command, input: &str) -> Result<KubectlOutput, Error> {
    let what = || "running kubectl".to_owned();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(Error::io(what()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // kubectl reads all of its input before it prints, so writing it in one go can't block both;
        // if it ends early, its own message says more than a broken pipe.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(Error::io(what()))?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok(KubectlOutput {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr,
        })
    } else {
        Err(Error::Kubectl {
            arguments: arguments(&command),
            status: output.status,
            stderr,
        })
    }
}

/// Runs a kubectl command that prints yes or no; a no is a status of 1, as all errors are.
pub(crate) fn yes_or_no(mut command: Command) -> Result<bool, Error> {
    let output = command
        .output()
        .map_err(Error::io("running kubectl".to_owned()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.split_whitespace().next() {
        Some("yes") if output.status.success() => Ok(true),
        // A reason may follow.
        Some("no") if output.status.code() == Some(1) => Ok(false),
        _ => Err(Error::Kubectl {
            arguments: arguments(&command),
            status: output.status,
            stderr: format!("{said}{}", String::from_utf8_lossy(&output.stderr)),
        }),
    }
}

/// Runs a kubectl command that prints JSON.
pub(crate) fn json(command: Command) -> Result<Value, Error> {
    let arguments = arguments(&command);
    let output = run(command, "")?;
    serde_json::from_str(&output.stdout).map_err(|source| Error::NotJson { arguments, source })
}

/// The arguments that a reader of an error cares about: those after kubeconfig and cache.
fn arguments(command: &Command) -> String {
    let words: Vec<_> = command.get_args().skip(4).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

//! Running the binary.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use pullpass_test_support::Login;

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Its standard output; it must have succeeded.
    pub fn ok(self) -> Result<String, Box<dyn Error>> {
        match self.code {
            Some(0) => Ok(self.stdout),
            _ => Err(format!("{self:#?}").into()),
        }
    }

    /// Fails with this code; what it said on standard error.
    pub fn failed(self, code: i32) -> Result<String, Box<dyn Error>> {
        if self.code == Some(code) {
            Ok(self.stderr)
        } else {
            Err(format!("{self:#?}").into())
        }
    }
}

/// The binary, with no cluster and no Azure but those that are named.
pub fn pullpass() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullpass"));
    command
        .env_remove("KUBECONFIG")
        .env_remove("PULLPASS_NAMESPACE")
        .stdin(Stdio::null());
    command
}

/// Runs a command line on a cluster, with this on its standard input.
pub fn run_with(kubeconfig: &Path, arguments: &[&str], input: &str) -> Result<Ran, Box<dyn Error>> {
    let mut command = pullpass();
    command.args(arguments).arg("--kubeconfig").arg(kubeconfig);
    finish(command, input)
}

pub fn run(kubeconfig: &Path, arguments: &[&str]) -> Result<Ran, Box<dyn Error>> {
    run_with(kubeconfig, arguments, "")
}

pub fn finish(mut command: Command, input: &str) -> Result<Ran, Box<dyn Error>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that reads nothing may be gone already.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    Ok(Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

/// The same for every test: the registry's name, and the IDs and times that differ from run to run.
pub fn plain(text: &str, login: &Login) -> String {
    let text = text
        .replace(&login.tenant, "TENANT")
        .replace(&login.client, "CLIENT")
        .replace(&login.name, "REGISTRY");
    let mut plain = String::new();
    for word in text.split_inclusive([' ', ',', '\n']) {
        let bare = word.trim_end_matches([' ', ',', '\n', '.']);
        if bare.len() == "2026-11-22T18:00:00Z".len() && bare.ends_with('Z') && bare.contains('T') {
            plain.push_str("TIME");
            plain.push_str(word.strip_prefix(bare).unwrap_or_default());
        } else {
            plain.push_str(word);
        }
    }
    plain
}

//! Records samples of a process with Linux' `perf`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pullpass_test_support::{Signal, Supervised, wait_for};

use crate::support::Result;

/// Samples in a second of processor time. No divisor of a timer's frequency, so that nothing periodic is always missed.
const FREQUENCY: &str = "1999";
/// The fields of a sample that are read, as `perf script` names them.
const FIELDS: &str = "comm,ip,sym,dso";
/// How long `perf` may take to begin, and to write its last samples.
const TIMEOUT: Duration = Duration::from_secs(20);
/// What to do if there is no `perf`, or it may not record.
const ADVICE: &str = "install Debian's package linux-perf; it needs root, or kernel.perf_event_paranoid at 1 or less and \
                      kernel.kptr_restrict at 0";

/// A recording.
pub(crate) struct Recording {
    perf: Supervised,
    data: PathBuf,
}

impl Recording {
    /// Records a process and the threads that it starts, into a file in this directory.
    pub(crate) fn start(pid: u32, directory: &Path) -> Result<Self> {
        let data = directory.join("perf.data");
        let mut command = perf()?;
        // With stacks, since only those tell which system call a function of the kernel works for. Those outside the kernel come
        // from frame pointers, which cost little to follow, and are not used.
        command
            .args([
                "record",
                "--quiet",
                "-e",
                "cpu-clock",
                "--call-graph",
                "fp",
                "-F",
                FREQUENCY,
            ])
            .args(["-p", &pid.to_string(), "-o"])
            .arg(&data);
        let mut perf = Supervised::spawn("perf", &command, directory)?;
        // It writes the head of the file when it has attached to every thread.
        wait_for("perf to record", TIMEOUT, || match perf.check_running() {
            Ok(()) if fs::metadata(&data).is_ok_and(|data| data.len() > 0) => Ok(Ok(())),
            Ok(()) => Err("its file is empty"),
            Err(ended) => Ok(Err(format!("perf can't record; {ADVICE}: {ended}"))),
        })??;
        Ok(Self { perf, data })
    }

    /// Ends it; returns the samples as text, and deletes the file.
    pub(crate) fn finish(mut self) -> Result<String> {
        self.perf.signal(Signal::Interrupt)?;
        self.perf.wait(TIMEOUT)?;
        let output = perf()?
            .args(["script", "--no-inline", "--no-demangle", "-F", FIELDS, "-i"])
            .arg(&self.data)
            .output()?;
        if !output.status.success() {
            return Err(format!("perf script: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        fs::remove_file(&self.data)?;
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// The program, if there is one.
fn perf() -> Result<Command> {
    match Command::new("perf").arg("--version").output() {
        Ok(_) => Ok(Command::new("perf")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(format!("there is no perf: {ADVICE}").into())
        }
        Err(error) => Err(error.into()),
    }
}

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::error::Error;
use crate::wait::wait_for;

/// The shell becomes the process itself, so that the process identifier that it was started under
/// stays right; what it leaves behind reads a pipe from us, and when that ends, so does the group.
/// The reader belongs to the group, so that nobody else can be given the group's number before.
const LIFELINE: &str = r#"
exec 3<&0 </dev/null
{ read -r _line <&3; kill -s KILL -- "-$$"; } >/dev/null 2>&1 &
exec "$@" 3<&-
"#;

/// How much of a log is read for its tail.
const TAIL_BYTES: i64 = 16 * 1024;
/// How many lines of each log an error carries.
const TAIL_LINES: usize = 25;

/// What can be sent to a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Signal {
    /// Asks it to end.
    Terminate,
    /// As Ctrl-C does.
    Interrupt,
    /// Asks it to re-open or re-read its files.
    HangUp,
    /// Ends it without asking.
    Kill,
    /// Freezes it: its connections stay open and nobody answers.
    Stop,
    /// Thaws it.
    Continue,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Terminate => "TERM",
            Self::Interrupt => "INT",
            Self::HangUp => "HUP",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// A process that is killed when this value is dropped, and also when our own process is killed.
///
/// It runs in a process group of its own, so that Ctrl-C in a terminal reaches it only as our end.
/// When it ends, in whatever way, all others of its group are killed a moment later.
#[derive(Debug)]
pub struct Supervised {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Supervised {
    /// Starts `command`; its output is appended to `NAME.out` and `NAME.err` in the directory `logs`.
    ///
    /// Of the command, the program, the arguments, the working directory and the changes to the
    /// environment are used; a cleared environment and redirections are not. A program that does
    /// not exist shows as a process that ends immediately with status 127.
    pub fn spawn(name: &str, command: &Command, logs: &Path) -> Result<Self, Error> {
        let stdout = logs.join(format!("{name}.out"));
        let stderr = logs.join(format!("{name}.err"));
        let mut shell = Command::new("sh");
        shell
            .args(["-c", LIFELINE, name])
            .arg(command.get_program())
            .args(command.get_args());
        if let Some(directory) = command.get_current_dir() {
            shell.current_dir(directory);
        }
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        shell
            .stdin(Stdio::piped())
            .stdout(append(&stdout)?)
            .stderr(append(&stderr)?);
        let child = own_group(&mut shell)
            .spawn()
            .map_err(Error::io(format!("starting {name}")))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            status: None,
            stdout,
            stderr,
        })
    }

    /// The name that it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process identifier of the program itself.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its standard output goes.
    pub fn stdout(&self) -> &Path {
        &self.stdout
    }

    /// Where its standard error goes.
    pub fn stderr(&self) -> &Path {
        &self.stderr
    }

    /// How it ended, or `None` while it runs.
    pub fn has_exited(&mut self) -> Result<Option<ExitStatus>, Error> {
        if self.status.is_none() {
            let status = self
                .child
                .try_wait()
                .map_err(Error::io(format!("looking whether {} runs", self.name)))?;
            if let Some(status) = status {
                self.ended(status);
            }
        }
        Ok(self.status)
    }

    /// Fails, with the end of its log, if it has ended.
    pub fn check_running(&mut self) -> Result<(), Error> {
        match self.has_exited()? {
            Some(status) => Err(Error::Ended {
                process: self.name.clone(),
                status,
                tail: self.log_tail(),
            }),
            None => Ok(()),
        }
    }

    /// Sends a signal to the program itself.
    pub fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        // While it has not been waited for, nobody else can have its process identifier.
        if self.has_exited()?.is_some() {
            return Err(Error::NotRunning {
                process: self.name.clone(),
            });
        }
        let what = format!("sending SIG{} to {}", signal.name(), self.name);
        let status = Command::new("sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "kill", signal.name()])
            .arg(self.pid().to_string())
            .status()
            .map_err(Error::io(what.clone()))?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::Io {
                what,
                source: io::Error::other(status.to_string()),
            })
        }
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self, bound: Duration) -> Result<ExitStatus, Error> {
        wait_for("its end", bound, || self.has_exited().ok().flatten()).map_err(|_| Error::StillRunning {
            process: self.name.clone(),
            waited: bound,
        })
    }

    /// Asks it to end and kills it when it has not done so within `bound`; the status tells which.
    pub fn stop(&mut self, bound: Duration) -> Result<ExitStatus, Error> {
        if let Some(status) = self.has_exited()? {
            return Ok(status);
        }
        self.signal(Signal::Terminate)?;
        self.wait(bound).or_else(|_| self.kill())
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) -> Result<ExitStatus, Error> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let what = format!("killing {}", self.name);
        self.child.kill().map_err(Error::io(what.clone()))?;
        let status = self.child.wait().map_err(Error::io(what))?;
        self.ended(status);
        Ok(status)
    }

    /// The last lines that it wrote, standard output first.
    pub fn log_tail(&self) -> String {
        [&self.stdout, &self.stderr]
            .map(|log| tail(log).unwrap_or_else(|error| format!("{}: {error}\n", log.display())))
            .concat()
    }

    fn ended(&mut self, status: ExitStatus) {
        self.status = Some(status);
        // What the process started itself goes with it.
        drop(self.child.stdin.take());
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // A failure leaves the lifeline to do it, which is cut when the pipe is dropped.
        let _ = self.kill();
    }
}

/// Keeps a terminal's signals away from the command, which ends by its own rules.
pub(crate) fn own_group(command: &mut Command) -> &mut Command {
    command.process_group(0)
}

fn append(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(Error::io(format!("opening {}", path.display())))
}

/// The last lines of a file.
pub(crate) fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    // Seeking before the start of a short file is refused, and then all of it is the tail.
    if file.seek(SeekFrom::End(-TAIL_BYTES)).is_err() {
        file.rewind()?;
    }
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let skipped = lines.len().saturating_sub(TAIL_LINES);
    Ok(lines.into_iter().skip(skipped).collect())
}

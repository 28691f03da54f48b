//! In a real terminal: the prompt and the spinner. `script` of util-linux makes the terminal.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use pullpass_test_support::wait_for;

use crate::world::{SOON, Test, shared};

/// A command in a terminal of its own.
struct Terminal {
    script: Child,
    shown: PathBuf,
}

impl Terminal {
    fn start(command: &str, shown: PathBuf) -> Result<Self, Box<dyn Error>> {
        // The command says first which terminal it is on.
        let script = Command::new("script")
            .args(["--quiet", "--flush", "--return", "--echo", "always", "--command"])
            .arg(format!("tty; exec {command}"))
            .arg(&shown)
            .env("TERM", "xterm")
            .env("PULLPASS", env!("CARGO_BIN_EXE_pullpass"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { script, shown })
    }

    /// Everything that was shown.
    fn text(&self) -> Result<String, String> {
        fs::read_to_string(&self.shown).map_err(|error| error.to_string())
    }

    fn wait_for(&self, text: &str) -> Test {
        wait_for(&format!("{text} on the terminal"), SOON, || {
            let shown = self.text()?;
            if shown.contains(text) { Ok(()) } else { Err(shown) }
        })?;
        Ok(())
    }

    /// Waits until what is typed is not shown: what is typed before that is thrown away.
    fn wait_until_hidden(&self) -> Test {
        let shown = self.text()?;
        let terminal = shown
            .split_whitespace()
            .find(|word| word.starts_with("/dev/"))
            .ok_or("the terminal is not said")?
            .to_owned();
        wait_for("the terminal to hide what is typed", SOON, || {
            let settings = Command::new("stty")
                .args(["-F", &terminal, "-a"])
                .output()
                .map_err(|error| error.to_string())?;
            let settings = String::from_utf8_lossy(&settings.stdout).into_owned();
            if settings.contains("-echo ") {
                Ok(())
            } else {
                Err(settings)
            }
        })?;
        Ok(())
    }

    fn type_line(&mut self, line: &str) -> Test {
        let stdin = self.script.stdin.as_mut().ok_or("it has ended")?;
        stdin.write_all(format!("{line}\n").as_bytes())?;
        Ok(())
    }

    fn code(&mut self) -> Result<Option<i32>, Box<dyn Error>> {
        Ok(wait_for("the command to end", SOON, || {
            self.script.try_wait().ok().flatten()
        })?
        .code())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn the_client_secret_is_prompted_for_without_echo() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let command = format!(
        "\"$PULLPASS\" attach {} --tenant-id {} --client-id {} --kubeconfig '{}'",
        login.name,
        login.tenant,
        login.client,
        world.cluster.kubeconfig().display()
    );
    let shown = world.azure.directory().join("terminal");
    let mut terminal = Terminal::start(&command, shown)?;
    terminal.wait_for(&format!(
        "Give the client secret of {} (it is not shown): ",
        login.client
    ))?;
    terminal.wait_until_hidden()?;
    terminal.type_line(&login.password)?;
    let code = terminal.code()?;
    let shown = terminal.text()?;
    assert_eq!(code, Some(0), "{shown}");
    assert!(!shown.contains(&login.password), "{shown}");
    // The spinner is drawn over and over, and wiped away.
    assert!(shown.contains("Waiting for pullpass to mint"), "{shown}");
    assert!(shown.contains("\u{1b}[2K"), "{shown:?}");
    assert!(shown.contains(&format!("{} is ready", login.host)), "{shown}");

    // A Secret's value is not shown to the room either.
    let command = format!(
        "\"$PULLPASS\" attach {} --tenant-id t --client-id c --client-secret-file - --dry-run --output yaml",
        login.name
    );
    let shown = world.azure.directory().join("terminal-dry-run");
    let mut terminal = Terminal::start(&command, shown)?;
    terminal.wait_for("Give the client secret of c (it is not shown): ")?;
    terminal.wait_until_hidden()?;
    terminal.type_line("hunter2")?;
    assert_eq!(terminal.code()?, Some(0));
    let shown = terminal.text()?;
    assert!(
        shown.contains("kind: Secret") && shown.contains("is not shown on a terminal"),
        "{shown}"
    );
    assert!(
        !shown.contains("hunter2") && !shown.contains("aHVudGVyMg"),
        "{shown}"
    );
    Ok(())
}

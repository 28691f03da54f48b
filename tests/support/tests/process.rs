//! Supervised processes, without Kubernetes.

use std::error::Error;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pullpass_test_support::{Error as SupportError, Scratch, Signal, Supervised, free_port, wait_for};

type Test = Result<(), Box<dyn Error>>;

const SOON: Duration = Duration::from_mins(2);

/// A shell script that says when it listens to signals.
fn script(text: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", text]);
    command
}

fn ready(process: &Supervised) -> Result<(), Box<dyn Error>> {
    wait_for("the script to be ready", SOON, || {
        fs::read_to_string(process.stdout()).is_ok_and(|text| text.contains("ready"))
    })?;
    Ok(())
}

#[test]
fn its_own_process_gets_the_signals_and_the_environment() -> Test {
    let scratch = Scratch::new()?;
    let text = r#"trap 'echo "hung up $WORD"' HUP; trap 'exit 7' TERM; echo "ready $$"; while :; do sleep 0.05; done"#;
    let mut process = Supervised::spawn("script", script(text).env("WORD", "well"), scratch.path())?;
    ready(&process)?;
    assert!(fs::read_to_string(process.stdout())?.contains(&format!("ready {}", process.pid())));
    process.signal(Signal::HangUp)?;
    wait_for("the answer", SOON, || process.log_tail().contains("hung up well"))?;
    assert_eq!(process.has_exited()?, None);
    assert_eq!(process.stop(SOON)?.code(), Some(7));
    assert!(matches!(
        process.signal(Signal::HangUp),
        Err(SupportError::NotRunning { .. })
    ));
    Ok(())
}

#[test]
fn a_stubborn_process_is_killed() -> Test {
    let scratch = Scratch::new()?;
    let text = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let mut process = Supervised::spawn("script", &script(text), scratch.path())?;
    ready(&process)?;
    assert_eq!(process.stop(Duration::from_millis(200))?.signal(), Some(9));
    Ok(())
}

#[test]
fn a_frozen_process_is_killed_when_dropped() -> Test {
    let scratch = Scratch::new()?;
    let mut process = Supervised::spawn("script", &script("echo ready; sleep 1000"), scratch.path())?;
    ready(&process)?;
    process.signal(Signal::Stop)?;
    let status = format!("/proc/{}/status", process.pid());
    // A signal acts a moment after it was sent.
    wait_for("it to freeze", SOON, || {
        fs::read_to_string(&status).is_ok_and(|status| status.contains("State:\tT"))
    })?;
    drop(process);
    assert!(!fs::exists(status)?);
    Ok(())
}

#[test]
fn children_of_a_process_go_with_it() -> Test {
    let scratch = Scratch::new()?;
    let process = Supervised::spawn(
        "script",
        &script("sleep 1000 & echo ready $!; wait"),
        scratch.path(),
    )?;
    ready(&process)?;
    let text = fs::read_to_string(process.stdout())?;
    let cmdline = format!("/proc/{}/cmdline", text.trim_start_matches("ready ").trim());
    assert!(!fs::read(&cmdline)?.is_empty());
    drop(process);
    // One that ended but whom nobody has waited for yet has no command line any more.
    wait_for("its child to go", SOON, || {
        fs::read(&cmdline).is_ok_and(|line| line.is_empty()) || !Path::new(&cmdline).exists()
    })?;
    Ok(())
}

#[test]
fn a_failed_start_tells_why() -> Test {
    let scratch = Scratch::new()?;
    let mut process = Supervised::spawn("script", &script("echo some reason >&2; exit 3"), scratch.path())?;
    assert_eq!(process.wait(SOON)?.code(), Some(3));
    let Err(error) = process.check_running() else {
        return Err("it ended".into());
    };
    assert!(error.to_string().contains("some reason"), "{error}");

    let mut process = Supervised::spawn("missing", &Command::new("/nowhere/program"), scratch.path())?;
    assert_eq!(process.wait(SOON)?.code(), Some(127));
    assert!(process.log_tail().contains("/nowhere/program"));
    Ok(())
}

#[test]
fn a_scratch_directory_goes_with_its_owner() -> Test {
    let scratch = Scratch::new()?;
    let path = scratch.path().to_path_buf();
    fs::write(path.join("file"), "content")?;
    drop(scratch);
    assert!(!path.exists());
    Ok(())
}

#[test]
fn ports_differ() -> Test {
    assert_ne!(free_port()?, free_port()?);
    Ok(())
}

#[test]
fn a_timeout_says_what_was_missing() -> Test {
    let outcome = wait_for("three Pods", Duration::ZERO, || Err::<(), _>("there are two"));
    let Err(error) = outcome else {
        return Err("it can't hold".into());
    };
    assert!(
        error.to_string().ends_with("for three Pods: there are two"),
        "{error}"
    );
    Ok(())
}

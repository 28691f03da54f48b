//! Azure with one registry, and a pullpass that checks it.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pullpass_test_support::{Azure, Login, fits_schema};
use serde_json::Value;

pub type Test = Result<(), Box<dyn Error>>;

/// Where the time of a step stands in its line, in characters.
const TIME: std::ops::Range<usize> = 17..25;

/// A pullpass that knows no cluster, no proxy and no identity of Azure.
pub fn pullpass() -> Command {
    check_command(Command::new(env!("CARGO_BIN_EXE_pullpass")))
}

/// The same where there is no network, so that no name resolves, whatever this machine's resolver would say.
pub fn pullpass_without_network() -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--map-root-user", "--net", env!("CARGO_BIN_EXE_pullpass")]);
    check_command(unshare)
}

fn check_command(mut command: Command) -> Command {
    let unset = [
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
        "AZURE_TENANT_ID",
        "AZURE_CLIENT_ID",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_AUTHORITY_HOST",
        "NO_COLOR",
        "CLICOLOR_FORCE",
        "PULLPASS_NAMESPACE",
    ];
    for variable in unset {
        command.env_remove(variable);
    }
    command
        .arg("check")
        .env("KUBECONFIG", "/nowhere/kubeconfig")
        .stdin(Stdio::null());
    command
}

pub fn login() -> Login {
    Login::new("myregistry", 1)
}

/// The flags of the application, with a file that holds this password.
pub fn identity(azure: &Azure, login: &Login, password: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let file = secret_file(azure.directory(), password)?;
    Ok(vec![
        format!("--tenant-id={}", login.tenant),
        format!("--client-id={}", login.client),
        format!("--client-secret-file={}", file.display()),
    ])
}

fn secret_file(directory: &Path, password: &str) -> Result<PathBuf, Box<dyn Error>> {
    let file = directory.join(format!("password-{password}"));
    fs::write(&file, format!("{password}\n"))?;
    Ok(file)
}

/// Runs a check, and asserts that nothing secret is in what it says, and that a report in JSON fits its schema.
pub fn run(command: &mut Command) -> Result<Output, Box<dyn Error>> {
    let output = command.output()?;
    for printed in [&output.stdout, &output.stderr] {
        let text = String::from_utf8_lossy(printed);
        for secret in ["test-secret", "wrong~one", "old~one", "test-admin", "eyJ"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    if let Ok(report) = serde_json::from_slice::<Value>(&output.stdout)
        && report.get("schema").and_then(Value::as_str) == Some("pullpass.dev/check/v1")
    {
        fits_schema("check-registry", &report)?;
    }
    Ok(output)
}

/// Checks the registry of a login as its application, with these arguments more.
pub fn check(azure: &Azure, login: &Login, arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    let identity = identity(azure, login, &login.password)?;
    run(pullpass()
        .arg(&login.host)
        .args(azure.flags())
        .args(identity)
        .args(arguments))
}

/// What was said, without what differs each time: times, ports.
pub fn plain(azure: &Azure, text: &str) -> String {
    let text = text.replace(&azure.addr().to_string(), "ADDRESS");
    let lines = text.lines().map(|line| {
        let characters: Vec<char> = line.chars().collect();
        let is_step = matches!(characters.as_slice(), ['✓' | '✗' | '-', ' ', ..]);
        let time = characters.get(TIME).filter(|_| is_step);
        match time {
            Some(time) if time.iter().any(|character| *character != ' ') => {
                let before: String = characters.iter().take(TIME.start).collect();
                let after: String = characters.iter().skip(TIME.end).collect();
                format!("{before}    TIME{after}\n")
            }
            _ => format!("{line}\n"),
        }
    });
    lines.collect()
}

/// Holds what was said against a file, and the exit code against another.
pub fn assert_said(azure: &Azure, name: &str, output: &Output, code: i32) -> Test {
    let said = plain(azure, &String::from_utf8(output.stdout.clone())?);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "", "{name}");
    assert_text(name, &said)?;
    assert_eq!(output.status.code(), Some(code), "{name}: {said}");
    Ok(())
}

pub fn assert_text(name: &str, said: &str) -> Test {
    let file = tests().join(format!("said/{name}.txt"));
    let expected = fs::read_to_string(&file);
    if expected.as_ref().is_ok_and(|expected| expected == said) {
        return Ok(());
    }
    if std::env::var("PULLPASS_SAID").as_deref() == Ok("write") {
        fs::write(&file, said)?;
        // Failed all the same: no variable of the environment makes a test pass.
        return Err(format!(
            "{} is rewritten: read the difference, and test again",
            file.display()
        )
        .into());
    }
    let expected = expected.map_err(|error| format!("{}: {error}", file.display()))?;
    assert_eq!(said, expected, "{name}");
    Ok(())
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check")
}

/// Otherwise a test that is gone leaves a text behind that looks as if somebody held it.
#[test]
fn every_text_that_is_kept_is_named_by_a_test() -> Test {
    let mut sources = String::new();
    for entry in fs::read_dir(tests())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            sources += &fs::read_to_string(path)?;
        }
    }
    for entry in fs::read_dir(tests().join("said"))? {
        let path = entry?.path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        assert!(
            sources.contains(&format!("\"{name}\"")),
            "no test names {}",
            path.display()
        );
    }
    Ok(())
}

//! What a person reads who asks the program what it can do, or asks it wrongly. `UPDATE=1` writes the expected texts that
//! have changed, and the test that did so fails.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod defaults;

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PULLPASS: &str = env!("CARGO_BIN_EXE_pullpass");

/// A command without the developer's settings and terminal, which both show in a help text.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null());
    command
}

fn pullpass(arguments: &[&str]) -> Output {
    command(PULLPASS).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The help texts that are kept in `expected`.
const SNAPSHOTS: [(&str, &[&str]); 4] = [
    ("audit.txt", &["audit", "--help"]),
    ("completions.txt", &["completions", "--help"]),
    ("pullpass.txt", &["--help"]),
    ("review.txt", &["review", "--help"]),
];

fn expected() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help/expected")
}

/// Whether a text is the one that is kept. Where it is not, it is written if that was asked for; the test fails all the
/// same, so that no variable of the environment makes it pass.
fn is_as_kept(name: &str, said: &str) -> bool {
    let path = expected().join(name);
    if fs::read_to_string(&path).is_ok_and(|kept| kept == said) {
        return true;
    }
    if env::var_os("UPDATE").is_some_and(|update| update == "1") {
        fs::write(&path, said).unwrap();
        eprintln!("{} is rewritten: read the difference", path.display());
    } else {
        eprintln!(
            "{} is not what was said; UPDATE=1 cargo test --test help writes it:\n{said}",
            path.display()
        );
    }
    false
}

#[test]
fn help_reads_as_it_did() {
    let mut changed = Vec::new();
    for (name, arguments) in SNAPSHOTS {
        let output = pullpass(arguments);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        if !is_as_kept(name, text(&output.stdout)) {
            changed.push(name);
        }
    }
    assert_eq!(changed, [""; 0], "these help texts have changed");
}

#[test]
fn every_help_text_that_is_kept_is_compared() {
    let mut kept: Vec<_> = fs::read_dir(expected())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, SNAPSHOTS.map(|(name, _)| name));
}

#[test]
fn wrong_usage_is_exit_code_2_and_says_what_to_do() {
    for (arguments, said) in [
        (vec!["adit"], "a similar subcommand exists: 'audit'"),
        (
            vec!["audit", "--namespce=a"],
            "a similar argument exists: '--namespace'",
        ),
        (
            vec!["audit", "--output=xml"],
            "[possible values: table, wide, json, yaml, name, html, openreports]",
        ),
        (vec!["review"], "--filename <FILE>"),
        (
            vec!["completions", "csh"],
            "[possible values: bash, elvish, fish, powershell, zsh]",
        ),
        (
            vec!["man", "--directory=.", "--format=roff"],
            "cannot be used with",
        ),
        (vec![], "Usage: pullpass <COMMAND>"),
    ] {
        let output = pullpass(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let error = text(&output.stderr);
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

#[test]
fn the_version_is_the_packages() {
    let output = pullpass(&["--version"]);
    assert_eq!(
        text(&output.stdout),
        concat!("pullpass ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn there_is_colour_on_a_terminal_and_nowhere_else() {
    let on_terminal = |variables: &[(&str, &str)]| {
        let output = command("script")
            .args(["--quiet", "--return", "--command"])
            .arg(format!("'{PULLPASS}' --help"))
            .arg("/dev/null")
            .env("TERM", "xterm")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let said = text(&output.stdout).to_owned();
        assert!(said.contains("Usage:") && output.status.success(), "{output:?}");
        said
    };
    assert!(on_terminal(&[]).contains('\u{1b}'));
    assert!(!on_terminal(&[("NO_COLOR", "1")]).contains('\u{1b}'));
    assert!(!on_terminal(&[("TERM", "dumb")]).contains('\u{1b}'));
    assert!(!text(&pullpass(&["--help"]).stdout).contains('\u{1b}'));
}

#[test]
fn a_reader_who_has_seen_enough_is_no_failure() {
    for arguments in [
        vec!["--help"],
        vec!["crd"],
        vec!["man"],
        vec!["man", "--format=markdown"],
        vec!["completions", "bash"],
        vec!["review", "--filename=examples/acr-nginx.yaml"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(PULLPASS)
            .args(&arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(writer)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn there_is_a_man_page_of_every_command() {
    let output = pullpass(&["man"]);
    assert!(text(&output.stdout).contains(".TH pullpass 1"), "{output:?}");
    let directory = tempfile::tempdir().unwrap();
    let written = pullpass(&["man", "--directory", directory.path().to_str().unwrap()]);
    assert!(
        written.status.success() && written.stdout.is_empty(),
        "{written:?}"
    );
    let page = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    let program = page("pullpass.1");
    for line in text(&pullpass(&["--help"]).stdout)
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
    {
        // What follows at the margin of the descriptions goes on with one.
        let Some(name) = line.strip_prefix("  ").filter(|line| !line.starts_with(' ')) else {
            continue;
        };
        let name = name.split_whitespace().next().unwrap();
        if name != "help" {
            assert!(
                page(&format!("pullpass-{name}.1")).contains("Examples:"),
                "{name}"
            );
            assert!(program.contains(&format!("pullpass\\-{name}(1)")), "{name}");
        }
    }
    let nowhere = pullpass(&["man", "--directory=/nowhere"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(
        text(&nowhere.stderr).contains("give another --directory"),
        "{nowhere:?}"
    );
}

#[test]
fn a_shell_completes_commands_flags_and_values() {
    let script = pullpass(&["completions", "bash"]).stdout;
    let completed = |words: &str| {
        let mut bash = command("bash")
            .args(["--norc", "-c"])
            .arg(format!(
                r#"source /dev/stdin; COMP_WORDS=(pullpass {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
                   _pullpass pullpass "${{COMP_WORDS[-1]}}" "${{COMP_WORDS[-2]}}"; printf '%s\n' "${{COMPREPLY[@]}}""#
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        bash.stdin.take().unwrap().write_all(&script).unwrap();
        let output = bash.wait_with_output().unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
        text(&output.stdout).trim_end().replace('\n', " ")
    };
    assert_eq!(completed("au"), "audit");
    assert_eq!(completed("audit --unc"), "--uncovered");
    assert_eq!(
        completed("audit --output ''"),
        "table wide json yaml name html openreports"
    );
    for (shell, sign) in [
        ("zsh", "#compdef pullpass"),
        ("fish", "complete -c pullpass"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion:arg-completer[pullpass]"),
    ] {
        let output = pullpass(&["completions", shell]);
        assert!(text(&output.stdout).contains(sign), "{shell}");
    }
}

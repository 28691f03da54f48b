//! What runs, where, and how often it is compiled for that.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pullpass_test_support::wait_for;

use super::{Result, rust_files};

/// Only bounds how long a broken test takes.
const SOON: Duration = Duration::from_mins(2);

#[test]
fn continuous_integration_refuses_switches_that_weaken_tests() -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run");
    for switch in ["PULLPASS_E2E", "UPDATE", "PULLPASS_SAID", "KUBEBUILDER_ASSETS"] {
        for value in ["off", "1", ""] {
            // Without a PATH there is no make: a script that goes on ends with another status.
            let output = Command::new("/bin/bash")
                .arg(&script)
                .env_clear()
                .env("PATH", "")
                .env(switch, value)
                .output()?;
            let said = String::from_utf8(output.stderr)?;
            assert_eq!(output.status.code(), Some(2), "{switch}={value}: {said}");
            assert!(said.contains(&format!("{switch} is set")), "{said}");
        }
    }
    Ok(())
}

/// Runs `.ci/run` with a `make` and a `cargo` that only note what they are called with, and do what a line of shell says.
/// Gives whether it passed, and what was noted.
fn continuous_integration(behaviour: &str) -> Result<(bool, String)> {
    let programs = tempfile::tempdir()?;
    let notes = programs.path().join("notes");
    // A part that fails immediately ends the others before they have noted anything.
    fs::write(&notes, "")?;
    for name in ["make", "cargo"] {
        let program = programs.path().join(name);
        let script = format!("#!/bin/sh\nwhat=\"{name} $*\"\n{behaviour}\necho \"$what\" >>\"$NOTES\"\n");
        fs::write(&program, script)?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    }
    let status = Command::new("/bin/bash")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run"))
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", programs.path().display()))
        .env("NOTES", &notes)
        .status()?;
    Ok((status.success(), fs::read_to_string(notes)?))
}

#[test]
fn continuous_integration_fails_with_each_of_its_parts() -> Result<()> {
    let (passed, noted) = continuous_integration("")?;
    let mut called: Vec<&str> = noted.lines().collect();
    assert!(passed && called.pop() == Some("make test"), "{noted}");
    assert!(
        called.contains(&"make components") && called.contains(&"make lint"),
        "{noted}"
    );
    for part in ["make components", "make lint", "make test"] {
        let (passed, noted) = continuous_integration(&format!("[ \"$what\" != '{part}' ] || exit 1"))?;
        assert!(!passed && !noted.contains("make test"), "{part}: {noted}");
    }
    // What is built beside a failure is ended.
    let (passed, noted) = continuous_integration(
        "case $what in
           'make components') sleep 600 & echo $! >>\"$NOTES\"; wait ;;
           'make lint') while ! [ -s \"$NOTES\" ]; do sleep 0.1; done; exit 1 ;;
         esac",
    )?;
    let process = Path::new("/proc").join(noted.trim());
    assert!(!passed, "{noted}");
    wait_for("the end of what is built beside", SOON, || !process.exists())?;
    Ok(())
}

#[test]
fn examples_in_documentation_are_where_they_are_run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let has_example = |line: &str| {
        let comment = line.trim_start();
        let comment = comment
            .strip_prefix("///")
            .or_else(|| comment.strip_prefix("//!"));
        comment.is_some_and(|comment| comment.trim_start().starts_with("```") || comment.starts_with("     "))
    };
    assert!(has_example("    /// ```no_run") && !has_example("// ```"));
    let mut crates = 0;
    for folder in ["", "tests/emulator", "tests/fuzz", "tests/support"] {
        let folder = root.join(folder);
        if !fs::read_to_string(folder.join("Cargo.toml"))?.contains("\n[lib]\ndoctest = false\n") {
            continue;
        }
        crates += 1;
        for file in rust_files(&folder.join("src"))? {
            let text = fs::read_to_string(&file)?;
            let example = text.lines().find(|line| has_example(line));
            assert_eq!(example, None, "{}: cargo does not run it here", file.display());
        }
    }
    assert_eq!(crates, 3, "crates without doc tests");
    Ok(())
}

#[test]
fn peers_have_the_libraries_of_kubernetes_that_are_built() -> Result<()> {
    let required = |modules: &str| -> Result<BTreeMap<String, String>> {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(modules))?;
        // PATH VERSION, in a block.
        Ok(text
            .lines()
            .filter_map(|line| line.strip_prefix('\t')?.split_once(' '))
            .filter(|(path, version)| path.contains("k8s.io/") && version.starts_with('v'))
            .map(|(path, version)| {
                (
                    path.to_owned(),
                    version.trim_end_matches(" // indirect").to_owned(),
                )
            })
            .collect())
    };
    let built = required("tests/control-plane/go.mod")?;
    let mut shared = 0;
    for (path, version) in required("benches/peers/go.mod")? {
        if let Some(built) = built.get(&path) {
            assert_eq!(&version, built, "{path} is compiled twice");
            shared += 1;
        }
    }
    assert!(shared >= 4, "only {shared} modules are shared");
    Ok(())
}

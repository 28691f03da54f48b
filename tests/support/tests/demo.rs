//! `make demo` from its start to its end, so that a change that breaks it is told here and not to who tries pullpass out.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pullpass_test_support::{Node, Scratch, Signal, Supervised, end_to_end_wanted, wait_for};

/// Only bounds how long a broken test takes.
const BOUND: Duration = Duration::from_mins(3);
const DEMO: &str = env!("CARGO_BIN_EXE_demo");
const PATCH: &str = r#""path":"/spec/imagePullSecrets","value":[{"name":"pullpass-mycontainerregistry"}]"#;

fn start(flags: &[&str], scratch: &Scratch) -> Result<Supervised, Box<dyn Error>> {
    // Of the same build: a test of the entire workspace builds all of its programs first.
    let pullpass = Path::new(DEMO).with_file_name("pullpass");
    let mut command = Command::new(DEMO);
    command.arg("--pullpass").arg(&pullpass).args(flags);
    Ok(Supervised::spawn("demo", &command, scratch.path())?)
}

/// Runs it, and gives what it printed.
fn demo(flags: &[&str]) -> Result<String, Box<dyn Error>> {
    let scratch = Scratch::new()?;
    let mut demo = start(flags, &scratch)?;
    let status = demo.wait(BOUND)?;
    let printed = fs::read_to_string(demo.stdout())?;
    if status.success() {
        Ok(printed)
    } else {
        Err(format!("{status}: {printed}{}", demo.log_tail()).into())
    }
}

/// The words of a line that are the same in each run: without times, ages, numbers and generated names.
fn constant(line: &str) -> Vec<&str> {
    let words = line.split_whitespace();
    words
        .filter(|word| !word.contains(|c: char| c.is_ascii_digit()))
        .collect()
}

/// Each line of the session in README.md is one that was printed.
fn is_as_in_readme(printed: &str) -> Result<(), Box<dyn Error>> {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md"))?;
    let session = readme
        .split("```console\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let session = session.ok_or("README.md has no session")?;
    assert!(session.lines().count() > 20, "{session}");
    for line in session.lines() {
        assert!(
            printed.lines().any(|one| constant(one) == constant(line)),
            "README.md shows what was not printed: {line}\n{printed}"
        );
    }
    Ok(())
}

#[test]
fn the_demo_shows_a_pull_on_a_control_plane() -> Result<(), Box<dyn Error>> {
    end_to_end_wanted()?;
    let printed = demo(&[])?;
    let has = |text: &str| printed.contains(text);
    assert!(has("A Kubernetes control plane"), "{printed}");
    let injected = |line: &&str| line.contains("azurecr.io/nginx:v1") && line.contains("pullpass-myc");
    assert_eq!(
        printed
            .lines()
            .filter(|line| line.trim_start().starts_with("nginx0-deployment-"))
            .filter(injected)
            .count(),
        2,
        "{printed}"
    );
    if Node::possible().is_ok() {
        assert!(
            has("until both ran, with an image that the kubelet pulled"),
            "{printed}"
        );
        assert!(has("The kubelet says: "), "{printed}");
        is_as_in_readme(&printed)?;
    } else {
        assert!(has("until it was pulled"), "{printed}");
    }
    assert!(has("Everything that was started is stopped now"), "{printed}");
    Ok(())
}

/// As on a machine that can't have a node.
#[test]
fn the_demo_without_a_node_pulls_by_another_client() -> Result<(), Box<dyn Error>> {
    end_to_end_wanted()?;
    let printed = demo(&["--no-node"])?;
    for text in [
        "So Pods are admitted and stay Pending: NOT RUN",
        "until it was pulled",
        "Everything that was started is stopped now",
    ] {
        assert!(printed.contains(text), "{printed}");
    }
    Ok(())
}

/// What it prints to play on is typed as it is.
#[test]
fn a_demo_that_is_kept_can_be_used_until_it_ends() -> Result<(), Box<dyn Error>> {
    end_to_end_wanted()?;
    let scratch = Scratch::new()?;
    let mut demo = start(&["--keep"], &scratch)?;
    let printed = wait_for("what there is to try", BOUND, || {
        demo.check_running().map_err(|error| error.to_string())?;
        let printed = fs::read_to_string(demo.stdout()).map_err(|error| error.to_string())?;
        if printed.contains("skopeo inspect") {
            Ok(printed)
        } else {
            Err(printed)
        }
    })?;
    let line = |begin: &str| {
        let mut lines = printed.lines().map(str::trim);
        lines
            .find(|line| line.starts_with(begin))
            .ok_or(format!("no {begin} in {printed}"))
    };
    let way = line("HTTPS_PROXY=http://127.0.0.1:")?;
    assert!(way.contains(" SSL_CERT_FILE=/"), "{way}");
    let typed = format!("{}\n{}", line("export KUBECONFIG=")?, line("kubectl get pods")?);
    let run = || Command::new("sh").args(["-c", &typed]).output();
    let pods = String::from_utf8(run()?.stdout)?;
    assert!(pods.contains("- name: pullpass-mycontainerregistry"), "{pods}");
    // SIGINT is ignored where a script runs the tests in its background.
    demo.signal(Signal::Terminate)?;
    demo.wait(BOUND)?;
    wait_for("the end of the API server", BOUND, || match run() {
        Ok(answered) if answered.stdout.is_empty() => Ok(()),
        answered => Err(format!("{answered:?}")),
    })?;
    Ok(())
}

#[test]
fn the_demo_without_a_cluster_shows_the_patch() -> Result<(), Box<dyn Error>> {
    let printed = demo(&["--no-cluster"])?;
    assert!(printed.contains(PATCH), "{printed}");
    assert!(
        printed.contains("Everything that was started is stopped now"),
        "{printed}"
    );
    Ok(())
}

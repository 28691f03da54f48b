//! The commands of `docs/tutorial.md` are run as they stand there, in their order, and print what it shows.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use pullpass_test_support::{Binaries, ControlPlane, Login, Scratch, end_to_end_wanted, wait_for};

use crate::command::{Ran, finish};
use crate::world::{KEPT, RESYNC, SOON, Test, World};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What commands begin with that are not run here, and why.
const LEFT_OUT: [(&str, &str); 9] = [
    ("az ", "there is no Azure subscription"),
    ("docker ", "there is no container engine"),
    ("kind ", "there is no container engine"),
    ("cargo build ", "the program is built already"),
    ("export PATH=", "the program is found already"),
    (
        "helm upgrade ",
        "the pullpass here is a process; tests/install runs the same command",
    ),
    ("kubectl rollout status ", "no node runs Pods"),
    ("kubectl wait --for=condition=Ready ", "no node runs Pods"),
    (
        "pullpass check --wait ",
        "no Deployment is there; tests/check has one",
    ),
];

/// A block of the page: its language and its lines.
struct Block {
    language: String,
    lines: Vec<String>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in page.lines() {
        match (line.trim().strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(language), None) => {
                open = Some(Block {
                    language: language.to_owned(),
                    lines: Vec::new(),
                });
            }
            (None, Some(block)) => block.lines.push(line.trim().to_owned()),
            (None, None) => {}
        }
    }
    blocks
}

/// Words alone: the columns of a table are as wide as the names in it.
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// Runs a command as a reader would, with the tools of the tests.
fn run(world: &World, directory: &Path, line: &str) -> Result<Ran, Box<dyn std::error::Error>> {
    let kubectl = Binaries::locate()?.kubectl()?;
    let program = Path::new(env!("CARGO_BIN_EXE_pullpass"));
    let folders = [program, &kubectl].into_iter().filter_map(Path::parent);
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(folders.map(Path::to_path_buf).chain(env::split_paths(&path)))?;
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", line])
        .current_dir(directory)
        .env("PATH", path)
        .env("HOME", directory)
        .env("KUBECONFIG", world.cluster.kubeconfig())
        .env("KUBERC", "off")
        .env_remove("PULLPASS_NAMESPACE");
    finish(command, "")
}

/// What the reader has done in Azure.
fn prepare(world: &World, login: &Login, directory: &Path) -> Test {
    world.azure.push_image(login, "hello")?;
    fs::write(directory.join("password"), &login.password)?;
    Ok(())
}

/// Waits for what a controller makes in the namespace sooner than a person types the next command.
fn settle(world: &World) -> Test {
    wait_for("the ServiceAccount", SOON, || {
        let account = world
            .cluster
            .run(&["get", "serviceaccount", "default", "--namespace=tutorial"]);
        account.map_err(|error| error.to_string())
    })?;
    Ok(())
}

#[test]
fn every_command_of_the_tutorial_does_what_it_says() -> Test {
    end_to_end_wanted()?;
    let cluster = ControlPlane::start()?;
    // Registered as it is shipped, as the only one in the cluster.
    let world = &World::with_pullpass(
        &cluster,
        1,
        |_| {},
        |builder| builder.whole_cluster("apps").flag(RESYNC).flag(KEPT),
    )?;
    let login = world.login()?;
    let directory = Scratch::new()?;
    let directory = directory.path();
    prepare(world, &login, directory)?;
    let page = fs::read_to_string(format!("{ROOT}/docs/tutorial.md"))?;
    let (mut ran, mut left_out, mut last) = (0, BTreeSet::new(), String::new());
    for Block { language, lines } in blocks(&page) {
        if language == "text" {
            let said = last.replace(&login.name, "myregistry");
            let shown = lines.join("\n");
            assert_eq!(words(&said), words(&shown), "{said}");
            continue;
        }
        for line in lines {
            if let Some((beginning, _)) = LEFT_OUT.iter().find(|(beginning, _)| line.starts_with(beginning)) {
                left_out.insert(*beginning);
                continue;
            }
            let mut typed = line
                .replace("myregistry", &login.name)
                .replace("TENANT", &login.tenant)
                .replace("CLIENT", &login.client);
            if typed.contains("--repository") {
                for flag in world.azure.flags() {
                    typed = format!("{typed} {flag}");
                }
            }
            if typed.starts_with("pullpass detach") {
                let secret = format!("pullpass-{}", login.name);
                world
                    .cluster
                    .run(&["get", "secret", &secret, "--namespace=tutorial"])?;
            }
            let done = run(world, directory, &typed)?;
            let expected = if line.contains("--uncovered") { 3 } else { 0 };
            assert_eq!(done.code, Some(expected), "{line}: {done:#?}");
            last = done.stdout;
            ran += 1;
            if line.starts_with("kubectl create namespace") {
                settle(world)?;
            }
        }
    }
    assert_eq!(ran, 14, "commands that were run");
    assert_eq!(left_out.len(), LEFT_OUT.len(), "{left_out:?}");
    assert!(world.registry(&login).is_err());
    Ok(())
}

#[test]
fn the_tutorial_installs_as_the_document_does() -> Test {
    let install = fs::read_to_string(format!("{ROOT}/docs/install.md"))?;
    let (_, section) = install
        .split_once("\n## Helm\n")
        .ok_or("there is no heading Helm")?;
    let block = section
        .split("```sh\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let documented = block
        .ok_or("Helm has no commands")?
        .replace("\\\n", " ")
        .replace("IMAGE", "pullpass");
    let page = fs::read_to_string(format!("{ROOT}/docs/tutorial.md"))?;
    let typed = page.lines().find(|line| line.trim().starts_with("helm upgrade "));
    assert_eq!(words(typed.unwrap_or_default()), words(&documented));
    Ok(())
}

//! The commands of `docs/tutorial.md` are run as they stand there, in their order: a real kubelet refuses the image at first and
//! runs it in the end, and what is printed is what the page shows.

use std::collections::BTreeSet;
use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::slice;

use pullpass_test_support::{
    Azure, Binaries, ControlPlane, Installation, Login, Node, Scratch, node_wanted, wait_for,
};

use crate::world::{SOON, Test, install};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const INSTALL: &str = "helm upgrade ";

/// What commands begin with that are not run here, and why.
const LEFT_OUT: [(&str, &str); 8] = [
    ("az ", "there is no Azure subscription"),
    ("docker ", "there is no container engine"),
    ("kind ", "there is no container engine"),
    ("cargo build ", "the program is built already"),
    ("export PATH=", "the program is found already"),
    (
        INSTALL,
        "no Pod of the node reaches an API server: a process is started instead, and tests/install runs the same command",
    ),
    ("kubectl rollout status ", "the pullpass here is no Deployment"),
    (
        "pullpass check --wait ",
        "the pullpass here is no Deployment; tests/check has one",
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

/// Only words: the columns of a table are as wide as the names in it.
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// Someone who follows the tutorial, with an account in Azure and a cluster that nothing is installed in.
struct Reader<'a> {
    // In the order in which they are to be dropped.
    _node: Node,
    pullpass: Option<Installation<'a>>,
    azure: Azure,
    cluster: &'a ControlPlane,
    login: Login,
    directory: Scratch,
}

impl<'a> Reader<'a> {
    /// What the commands lead to that are not run: an image in a private registry, and an identity with its password.
    fn new(cluster: &'a ControlPlane) -> Result<Self, Box<dyn Error>> {
        let login = Login::new("registry01", 1);
        let azure = Azure::start(slice::from_ref(&login))?;
        azure.push_program(&login, "hello", &Node::program()?, &[])?;
        let directory = Scratch::new()?;
        fs::write(directory.path().join("password"), &login.password)?;
        Ok(Self {
            _node: Node::start(cluster, &azure)?,
            pullpass: None,
            azure,
            cluster,
            login,
            directory,
        })
    }

    /// A command with the reader's own names in it. What only a test needs leads to the emulator.
    fn typed(&self, line: &str) -> String {
        let mut typed = line
            .replace("myregistry", &self.login.name)
            .replace("TENANT", &self.login.tenant)
            .replace("CLIENT", &self.login.client);
        if typed.contains("--repository") {
            for flag in self.azure.flags() {
                typed = format!("{typed} {flag}");
            }
        }
        typed
    }

    /// Runs a command with the tools of the tests.
    fn output(&self, line: &str) -> Result<Output, Box<dyn Error>> {
        let kubectl = Binaries::locate()?.kubectl()?;
        let program = Path::new(env!("CARGO_BIN_EXE_pullpass"));
        let folders = [program, &kubectl].into_iter().filter_map(Path::parent);
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(folders.map(Path::to_path_buf).chain(env::split_paths(&path)))?;
        Ok(Command::new("bash")
            .args(["-euo", "pipefail", "-c", &self.typed(line)])
            .current_dir(self.directory.path())
            .env("PATH", path)
            .env("HOME", self.directory.path())
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("KUBERC", "off")
            .env_remove("PULLPASS_NAMESPACE")
            .output()?)
    }

    /// The same, of a command that succeeds, or ends as the page says.
    fn run(&self, line: &str) -> Result<String, Box<dyn Error>> {
        let output = self.output(line)?;
        let expected = if line.contains("--uncovered") { 3 } else { 0 };
        assert_eq!(output.status.code(), Some(expected), "{line}: {output:#?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Waits until a command prints this.
    fn wait_until(&self, line: &str, printed: &str) -> Test {
        wait_for(&format!("{line} to print {printed}"), SOON, || {
            let said = self.run(line).map_err(|error| error.to_string())?;
            if said.contains(printed) { Ok(()) } else { Err(said) }
        })?;
        Ok(())
    }

    /// What has to be so before the reader's next command, and what the page says of this one beside what it prints.
    fn look(&mut self, line: &str) -> Test {
        let name = self.login.name.clone();
        if line.starts_with(INSTALL) {
            self.pullpass = Some(install(self.cluster, &self.azure, &[])?);
        } else if line.starts_with("kubectl create namespace ") {
            // A controller makes it sooner than a person types.
            let account = "kubectl get serviceaccounts --namespace tutorial";
            self.wait_until(account, "default")?;
        } else if line.starts_with("kubectl get pod before ") {
            for status in ["ErrImagePull", "ImagePullBackOff"] {
                self.wait_until(line, status)?;
            }
        } else if line.starts_with("kubectl wait ") {
            let secrets = "kubectl get secrets --namespace tutorial";
            self.wait_until(secrets, &format!("pullpass-{name}"))?;
        } else if line.starts_with("pullpass detach ") {
            let left = self.run("kubectl get secrets --namespace tutorial")?;
            assert!(!left.contains(&format!("pullpass-{name}")), "{left}");
        }
        Ok(())
    }
}

#[test]
fn the_tutorial_leads_from_nothing_to_a_running_pod() -> Test {
    node_wanted()?;
    let cluster = ControlPlane::start()?;
    let mut reader = Reader::new(&cluster)?;
    let page = fs::read_to_string(format!("{ROOT}/docs/tutorial.md"))?;
    let (mut ran, mut left_out, mut last) = (0, BTreeSet::new(), String::new());
    for Block { language, lines } in blocks(&page) {
        if language == "text" {
            let said = last.replace(&reader.login.name, "myregistry");
            let shown = lines.join("\n");
            assert_eq!(words(&said), words(&shown), "{said}");
            continue;
        }
        for line in lines {
            if let Some((beginning, _)) = LEFT_OUT.iter().find(|(beginning, _)| line.starts_with(beginning)) {
                left_out.insert(*beginning);
            } else {
                last = reader.run(&line)?;
                ran += 1;
            }
            reader.look(&line)?;
        }
    }
    assert_eq!(ran, 16, "commands that were run");
    assert_eq!(left_out.len(), LEFT_OUT.len(), "{left_out:?}");
    assert!(reader.pullpass.is_some());
    Ok(())
}

//! A node leaves nothing behind.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use pullpass_test_support::{Azure, ControlPlane, KernelNamespace, Node, node_wanted, wait_for};
use serde_json::{Value, json};

use crate::pods::{ON_THE_NODE, pod_with};
use crate::world::{SOON, Test, namespace, text};

/// What there is of a node while it runs a Pod.
struct Traces {
    state: PathBuf,
    cgroup: String,
    processes: KernelNamespace,
    networks: Vec<KernelNamespace>,
}

/// The network namespaces that the node's Pods have to themselves.
fn networks(node: &Node) -> Result<Vec<KernelNamespace>, Box<dyn Error>> {
    let ours = fs::read_link("/proc/self/ns/net")?;
    let mut networks: Vec<KernelNamespace> = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let cgroups = fs::read_to_string(entry.path().join("cgroup"));
        if !cgroups.is_ok_and(|cgroups| cgroups.contains(node.cgroup())) {
            continue;
        }
        // The process may be gone by now.
        let Ok(network) = KernelNamespace::open(&entry.path().join("ns/net")) else {
            continue;
        };
        if network.name() != ours && !networks.iter().any(|known| known.name() == network.name()) {
            networks.push(network);
        }
    }
    Ok(networks)
}

impl Traces {
    fn of(node: &Node) -> Result<Self, Box<dyn Error>> {
        let processes = format!("/proc/{}/ns/pid_for_children", node.pid());
        Ok(Self {
            state: node.directory().to_path_buf(),
            cgroup: node.cgroup().to_owned(),
            processes: KernelNamespace::open(Path::new(&processes))?,
            networks: networks(node)?,
        })
    }

    /// What is left of it.
    fn left(&self) -> Result<Vec<String>, Box<dyn Error>> {
        let mut left = Vec::new();
        if self.state.exists() {
            left.push(format!("{}", self.state.display()));
        }
        let mut directories = vec![PathBuf::from("/sys/fs/cgroup")];
        directories.extend(
            fs::read_dir("/sys/fs/cgroup")?
                .flatten()
                .map(|entry| entry.path()),
        );
        let cgroups = directories.iter().map(|directory| directory.join(&self.cgroup));
        left.extend(
            cgroups
                .filter(|cgroup| cgroup.exists())
                .map(|cgroup| cgroup.display().to_string()),
        );
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let state = self.state.to_string_lossy();
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&*state))
                .map(str::to_owned),
        );
        for namespace in self.networks.iter().chain([&self.processes]) {
            let name = namespace.name().display();
            let processes = namespace.processes()?;
            left.extend(
                processes
                    .iter()
                    .map(|process| format!("{} in {name}", process.display())),
            );
        }
        Ok(left)
    }

    fn wait_until_nothing_is_left(&self) -> Test {
        wait_for("the node to leave nothing behind", SOON, || match self.left() {
            Ok(left) if left.is_empty() => Ok(()),
            Ok(left) => Err(format!("{left:#?}")),
            Err(error) => Err(error.to_string()),
        })?;
        Ok(())
    }
}

/// Holds a node with a Pod until it is killed; the other tests start it, as a program.
#[test]
#[ignore = "the others run it, in a process that they kill"]
fn hold() -> Test {
    let cluster = ControlPlane::builder().controller_manager(false).start()?;
    let azure = Azure::start(&[])?;
    let node = Node::start(&cluster, &azure)?;
    let [object, account] = namespace("apps");
    let spec = json!({
        "automountServiceAccountToken": false,
        "containers": [{"name": "main", "image": ON_THE_NODE, "imagePullPolicy": "Never"}],
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [object, account, pod_with("apps", "web", spec)]});
    cluster.apply(&list.to_string())?;
    cluster.run(&[
        "wait",
        "--namespace=apps",
        "--for=condition=Ready",
        "--timeout=120s",
        "pod/web",
    ])?;
    let traces = Traces::of(&node)?;
    println!(
        "held {}",
        json!({
            "state": traces.state,
            "cgroup": traces.cgroup,
            "processes": traces.processes.name(),
            "networks": traces.networks.iter().map(KernelNamespace::name).collect::<Vec<_>>(),
        })
    );
    // Until standard input ends: then everything is dropped.
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    drop(node);
    traces.wait_until_nothing_is_left()
}

/// A process that runs [`hold`].
struct Held {
    process: Child,
    // It would end early if nobody read it.
    _stdout: Lines<BufReader<ChildStdout>>,
    traces: Traces,
}

fn held() -> Result<Held, Box<dyn Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--ignored", "--exact", "--nocapture", "whole_life::hold"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("there is no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next() {
        // The harness has begun the line.
        let line = line?;
        let Some((_, traces)) = line.split_once("held ") else {
            continue;
        };
        let traces: Value = serde_json::from_str(traces)?;
        let namespace = |name: &Value| -> Result<KernelNamespace, Box<dyn Error>> {
            let named = KernelNamespace::named(Path::new(name.as_str().unwrap_or_default()))?;
            Ok(named.ok_or_else(|| format!("no process is in {name}"))?)
        };
        let networks = traces.pointer("/networks").and_then(Value::as_array);
        let networks = networks
            .into_iter()
            .flatten()
            .map(namespace)
            .collect::<Result<Vec<_>, _>>()?;
        // The Pod has one; and what is looked for later is there now.
        assert!(!networks.is_empty());
        let traces = Traces {
            state: PathBuf::from(text(&traces, "/state")),
            cgroup: text(&traces, "/cgroup").to_owned(),
            processes: namespace(traces.pointer("/processes").unwrap_or(&Value::Null))?,
            networks,
        };
        assert!(
            traces.left()?.len() > 2 + traces.networks.len(),
            "{:#?}",
            traces.left()?
        );
        return Ok(Held {
            process: child,
            _stdout: lines,
            traces,
        });
    }
    Err(format!("it ended: {}", child.wait()?).into())
}

#[test]
fn nothing_is_left_of_a_node_that_is_dropped() -> Test {
    node_wanted()?;
    let mut held = held()?;
    drop(held.process.stdin.take());
    assert!(held.process.wait()?.success());
    assert_eq!(held.traces.left()?, [""; 0]);
    Ok(())
}

#[test]
fn nothing_is_left_of_a_node_whose_test_is_killed() -> Test {
    node_wanted()?;
    let mut held = held()?;
    held.process.kill()?;
    held.process.wait()?;
    held.traces.wait_until_nothing_is_left()
}

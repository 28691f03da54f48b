//! A real node: kubelet, containerd and runc, and the scheduler that gives it its Pods.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::azure::Azure;
use crate::binaries::{Unavailable, build};
use crate::cgroups::Cgroups;
use crate::control_plane::ControlPlane;
use crate::error::Error;
use crate::files::write;
use crate::image::{self, Content};
use crate::kernel_namespace::KernelNamespace;
use crate::process::{Supervised, tail};
use crate::scratch::Scratch;
use crate::wait::{free_port, wait_for};

/// Its name in the cluster; a control plane has one.
const NAME: &str = "node-1";
const READY: Duration = Duration::from_mins(1);
/// Only bounds the wait for what has been killed.
const END: Duration = Duration::from_secs(30);
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../node");
const SOCKET: &str = "/run/containerd/containerd.sock";
/// Where the node has file systems of its own, and so can't see what the machine has there.
const HIDDEN: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// A node of a [`ControlPlane`] on which Pods run, and whose container runtime reaches the registries of an [`Azure`]
/// and nothing else.
///
/// It is a process tree in mount and PID namespaces of its own. When this value is dropped, and also when our own
/// process is killed, no process, mount, network namespace, link or cgroup of it is left.
#[derive(Debug)]
pub struct Node {
    // In the order in which they are to be dropped: a cgroup can be removed when its processes are gone.
    process: Supervised,
    /// The PID namespace of everything that the process has started.
    processes: Option<KernelNamespace>,
    cgroups: Cgroups,
    binaries: PathBuf,
    scratch: Scratch,
}

impl Node {
    /// Whether this machine can have a node, or why not.
    pub fn possible() -> Result<(), Error> {
        if !cfg!(target_os = "linux") {
            return Err(Error::NoNode("it needs Linux".to_owned()));
        }
        // The owner of our own process.
        let user = fs::metadata("/proc/self").map_err(Error::io("reading /proc/self"))?;
        Self::possible_as(user.uid())
    }

    fn possible_as(user: u32) -> Result<(), Error> {
        if user == 0 {
            return Ok(());
        }
        let reason = "it mounts file systems and makes cgroups, so it needs root";
        Err(Error::NoNode(reason.to_owned()))
    }

    /// The static program for images that run, see [`Azure::push_program`]; it is built unless it has been built before.
    pub fn program() -> Result<PathBuf, Error> {
        Ok(binaries()?.join("program"))
    }

    /// Starts a node and waits until it is ready. The binaries are built unless they have been built before; the first
    /// build takes minutes and tells on standard error how far it is.
    pub fn start(control_plane: &ControlPlane, azure: &Azure) -> Result<Self, Error> {
        Self::possible()?;
        let binaries = binaries()?;
        let scratch = Scratch::new()?;
        let state = scratch.path();
        for path in [state, &binaries] {
            if HIDDEN.iter().any(|hidden| path.starts_with(hidden)) {
                return Err(Error::NoNode(format!(
                    "{} is below one of {HIDDEN:?}, which a node hides: set TMPDIR or XDG_CACHE_HOME",
                    path.display()
                )));
            }
        }
        let cgroups = Cgroups::new(state)?;
        write_files(control_plane, azure, &binaries, state, cgroups.name())?;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(format!("{SOURCES}/init"))
            .args([binaries.as_path(), state]);
        let process = Supervised::spawn("node", &command, state)?;
        let mut node = Self {
            process,
            processes: None,
            cgroups,
            binaries,
            scratch,
        };
        wait_for("the node to be ready", READY, || {
            // Nothing comes of waiting for a process that is gone.
            if let Err(ended) = node.process.check_running() {
                return Ok(Err(ended));
            }
            match control_plane.get_json(&["node", NAME]) {
                Ok(object) if is_ready(&object) => Ok(Ok(())),
                Ok(object) => Err(format!("{:#?}", object.pointer("/status/conditions"))),
                Err(error) => Err(error.to_string()),
            }
        })
        .map_err(|error| Error::NotReady {
            process: "node".to_owned(),
            waited: error.waited,
            reason: error.reason,
            tail: node.logs(),
        })??;
        let processes = format!("/proc/{}/ns/pid_for_children", node.pid());
        node.processes = Some(KernelNamespace::open(Path::new(&processes))?);
        // The API server adds the taint to every new node, and the controller that removes it doesn't run here.
        let taint = "node.kubernetes.io/not-ready:NoSchedule-";
        control_plane.run(&["taint", "node", NAME, taint])?;
        Ok(node)
    }

    /// Its name in the cluster.
    pub fn name(&self) -> &'static str {
        NAME
    }

    /// Where its logs and its state are.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The name of the cgroup, in every hierarchy, that holds the Pods.
    pub fn cgroup(&self) -> &str {
        self.cgroups.name()
    }

    /// The process that ends with the node, and the node with it; its children are in the node's PID namespace.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Kills the processes of a container, as a crash does.
    pub fn crash(&self, container_id: &str) -> Result<(), Error> {
        let id = container_id.trim_start_matches("containerd://");
        let what = format!("killing the container {id}");
        let output = Command::new("nsenter")
            .arg(format!("--mount=/proc/{}/ns/mnt", self.process.pid()))
            .arg(self.binaries.join("ctr"))
            .args(["--address", SOCKET, "--namespace", "k8s.io"])
            .args(["tasks", "kill", "--signal", "SIGKILL", id])
            .stdin(Stdio::null())
            .output()
            .map_err(Error::io(what.clone()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Error::io(what)(io::Error::other(said)))
    }

    /// Has the kubelet run a Pod by itself, which the API server learns of by a mirror Pod.
    pub fn run_static_pod(&self, pod: &Value) -> Result<(), Error> {
        let name = pod.pointer("/metadata/name").and_then(Value::as_str);
        let file = format!("{}.json", name.unwrap_or_default());
        // The kubelet reads what is renamed into its directory as a whole.
        let written = self.scratch.path().join(&file);
        write(&written, &pod.to_string())?;
        let manifest = static_pods(self.scratch.path()).join(file);
        fs::rename(&written, &manifest).map_err(Error::io(format!("writing {}", manifest.display())))
    }

    /// The kubelet's records of the images that it has pulled: with which Secrets, and of which content.
    pub fn pull_records(&self) -> Result<Vec<Value>, Error> {
        let directory = self.scratch.path().join("kubelet/image_manager/pulled");
        let reading = || format!("reading {}", directory.display());
        let mut records = Vec::new();
        for entry in fs::read_dir(&directory).map_err(Error::io(reading()))? {
            let path = entry.map_err(Error::io(reading()))?.path();
            // A file that is being written has another name, and may be gone by now.
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            records.extend(serde_json::from_str::<Value>(&text));
        }
        Ok(records)
    }

    /// What a container has printed, without the times.
    pub fn container_log(&self, pod: &Value, container: &str) -> Result<String, Error> {
        let field = |name: &str| {
            let metadata = pod.get("metadata").and_then(|metadata| metadata.get(name));
            metadata.and_then(Value::as_str).unwrap_or_default()
        };
        let path = self.scratch.path().join("log/pods").join(format!(
            "{}_{}_{}/{container}/0.log",
            field("namespace"),
            field("name"),
            field("uid")
        ));
        let text = fs::read_to_string(&path).map_err(Error::io(format!("reading {}", path.display())))?;
        // TIME STREAM TAG TEXT
        Ok(text
            .lines()
            .filter_map(|line| line.splitn(4, ' ').nth(3))
            .collect::<Vec<_>>()
            .join("\n"))
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        let logs = ["containerd.log", "scheduler.log", "kubelet.log"].map(|name| {
            let path = self.scratch.path().join(name);
            let end = tail(&path).unwrap_or_else(|error| error.to_string());
            format!("{name}:\n{end}\n")
        });
        self.process.log_tail() + &logs.concat()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A failure leaves the lifeline to do it.
        let _ = self.process.kill();
        let Some(processes) = &self.processes else { return };
        // The kernel kills the others after the first, and one that is busy takes a moment to end.
        let _ = wait_for("the end of the node's processes", END, || {
            processes.processes().is_ok_and(|left| left.is_empty())
        });
    }
}

fn static_pods(state: &Path) -> PathBuf {
    state.join("static-pods")
}

fn binaries() -> Result<PathBuf, Error> {
    Ok(build("../node/build", Unavailable::NoRunc)?)
}

fn is_ready(node: &Value) -> bool {
    node.pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .any(|condition| {
            condition.get("type") == Some(&json!("Ready")) && condition.get("status") == Some(&json!("True"))
        })
}

/// Everything that `tests/node/init` reads.
fn write_files(
    control_plane: &ControlPlane,
    azure: &Azure,
    binaries: &Path,
    state: &Path,
    cgroup: &str,
) -> Result<(), Error> {
    let file = |name: &str, content: &str| write(&state.join(name), content);
    let pause = Content::Program {
        binary: &binaries.join("program"),
        arguments: &[],
    };
    image::write_archive(&state.join("pause"), "localhost/pause", pause)?;
    file("name", NAME)?;
    file("proxy", &format!("http://{}", azure.proxy_addr()))?;
    file("ca.pem", &azure.ca_pem())?;
    file("containerd.toml", &containerd(binaries, state))?;
    let networks = state.join("networks");
    fs::create_dir_all(&networks).map_err(Error::io(format!("making {}", networks.display())))?;
    let network = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "isolated"}]});
    write(&networks.join("pods.conflist"), &network.to_string())?;
    let manifests = static_pods(state);
    fs::create_dir(&manifests).map_err(Error::io(format!("making {}", manifests.display())))?;
    file(
        "kubelet.json",
        &kubelet(cgroup, &manifests, free_port()?).to_string(),
    )?;
    // The Node authorizer and RBAC judge them as in a real cluster.
    let user = format!("system:node:{NAME}");
    let kubeconfig = control_plane.kubeconfig_for_certificate(&user, Some("system:nodes"))?;
    file("kubelet.kubeconfig", &kubeconfig)?;
    let kubeconfig = control_plane.kubeconfig_for_certificate("system:kube-scheduler", None)?;
    let scheduler = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": false},
        "clientConnection": {"kubeconfig": file("scheduler.kubeconfig", &kubeconfig)?},
    });
    file("scheduler.json", &scheduler.to_string()).map(drop)
}

fn kubelet(cgroup: &str, manifests: &Path, port: u16) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": port,
        "healthzPort": 0,
        "readOnlyPort": 0,
        "staticPodPath": manifests,
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "failCgroupV1": false,
        "failSwapOn": false,
        // What belongs to the machine is left alone, or may be refused by it.
        "makeIPTablesUtilChains": false,
        "oomScoreAdj": 0,
        "maxOpenFiles": 20000,
        "resolvConf": "",
        "clusterDNS": ["10.0.0.10"],
        "clusterDomain": "cluster.local",
        // A machine that is nearly full runs tests all the same, and images stay.
        "evictionHard": {
            "memory.available": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "registryPullQPS": 0,
        "enableControllerAttachDetach": false,
    })
}

fn containerd(binaries: &Path, state: &Path) -> String {
    let (binaries, state) = (binaries.display(), state.display());
    // Without CAP_SYS_RESOURCE, as in many containers, nobody can lower a score, as the kubelet asks for pause.
    format!(
        r#"version = 3
root = "{state}/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.native", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "localhost/pause:v1"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{SOURCES}/cni"]
conf_dir = "{state}/networks"
use_internal_loopback = true
[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{binaries}/runc"
SystemdCgroup = false
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_root_is_told_that_nothing_is_shown() {
        assert!(Node::possible_as(0).is_ok());
        let said = Node::possible_as(1000).unwrap_err().to_string();
        assert!(
            said.starts_with("NOT RUN: no kubelet pulls anything here") && said.ends_with("so it needs root"),
            "{said}"
        );
    }
}

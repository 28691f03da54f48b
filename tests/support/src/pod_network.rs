use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::process::Supervised;
use crate::scratch::Scratch;
use crate::wait::wait_for;
use crate::webhook::READY;

/// 198.18.0.0/15, which RFC 2544 keeps for tests: no machine has addresses in it otherwise.
const RANGE: u32 = 0xC612_0000;
/// The addresses of one network, and how many networks there can be.
const SIZE: u32 = 8;
const COUNT: u32 = (1 << 17) / SIZE;

/// The links' names on the inside.
const CLUSTER: &str = "cluster";
const NODE: &str = "node";

/// A network namespace with two links to the host, as a Pod has one.
///
/// By the `cluster` link the Pod and the API server reach each other, and it can be cut. The `node` link is the way of
/// clients on the same node as the Pod, such as the kubelet, and always there.
///
/// It goes away when this value is dropped, and also when our own process is killed: a process holds it that ends then,
/// and the links end with the namespace.
#[derive(Debug)]
pub struct PodNetwork {
    holder: Supervised,
    _scratch: Scratch,
    base: u32,
}

impl PodNetwork {
    /// Makes one; for that the tests have to run as root.
    pub fn new() -> Result<Self, Error> {
        let scratch = Scratch::new()?;
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "infinity"]);
        let mut holder = Supervised::spawn("pod-network", &command, scratch.path())?;
        let ours = namespace(Path::new("/proc/self"))?;
        let theirs = PathBuf::from(format!("/proc/{}", holder.pid()));
        wait_for("a network namespace", READY, || match holder.check_running() {
            Ok(()) => match namespace(&theirs) {
                Ok(theirs) if theirs != ours => Ok(Ok(())),
                Ok(_) => Err("it is still ours".to_owned()),
                Err(error) => Err(error.to_string()),
            },
            Err(ended) => Ok(Err(missing("unshare --net", &ended.to_string()))),
        })??;
        let base = claim(holder.pid())?;
        let network = Self {
            holder,
            _scratch: scratch,
            base,
        };
        for (link, offset) in [(CLUSTER, 0), (NODE, SIZE / 2)] {
            let name = link_name(base, link);
            run(
                "ip",
                &[
                    "address",
                    "add",
                    &format!("{}/30", network.at(offset + 1)),
                    "dev",
                    &name,
                ],
            )?;
            run("ip", &["link", "set", &name, "up"])?;
            let inside = format!("{}/30", network.at(offset + 2));
            network.run("ip", &["address", "add", &inside, "dev", link])?;
            network.run("ip", &["link", "set", link, "up"])?;
        }
        network.run("ip", &["link", "set", "lo", "up"])?;
        Ok(network)
    }

    /// Where the API server reaches the Pod.
    pub fn address(&self) -> Ipv4Addr {
        self.at(2)
    }

    /// Where the Pod reaches the host, and with it the API server.
    pub fn gateway(&self) -> Ipv4Addr {
        self.at(1)
    }

    /// Where the node reaches the Pod, whatever is cut.
    pub fn node_address(&self) -> Ipv4Addr {
        self.at(SIZE / 2 + 2)
    }

    /// Where the Pod reaches the node, whatever is cut.
    pub fn node_gateway(&self) -> Ipv4Addr {
        self.at(SIZE / 2 + 1)
    }

    /// Loses every packet of the `cluster` link, both ways and without telling anybody.
    pub fn cut(&self) -> Result<(), Error> {
        self.run(
            "iptables",
            &["--append", "INPUT", "--in-interface", CLUSTER, "--jump", "DROP"],
        )?;
        self.run(
            "iptables",
            &["--append", "OUTPUT", "--out-interface", CLUSTER, "--jump", "DROP"],
        )
    }

    /// Ends the cut.
    pub fn reconnect(&self) -> Result<(), Error> {
        self.run("iptables", &["--flush"])
    }

    /// A command that runs `program` inside, to be completed. The program has the process identifier of the command.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.holder.pid()))
            .arg(program);
        command
    }

    fn at(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base + offset)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<(), Error> {
        let mut command = self.command(Path::new(program));
        command.args(arguments);
        finish(program, command)
    }
}

/// Takes addresses that no other network has, here or in another process: the link that is named by them can be made once.
fn claim(holder: u32) -> Result<u32, Error> {
    let start = u32::try_from(RandomState::new().hash_one(holder) % u64::from(COUNT)).unwrap_or_default();
    let mut last = None;
    for tried in 0..COUNT.min(64) {
        let base = RANGE + (start + tried) % COUNT * SIZE;
        match link(base, CLUSTER, holder) {
            Ok(()) => return link(base, NODE, holder).map(|()| base),
            Err(error) if error.to_string().contains("File exists") => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| missing("ip link add", "no addresses are left")))
}

fn link(base: u32, link: &str, holder: u32) -> Result<(), Error> {
    let (name, holder) = (link_name(base, link), holder.to_string());
    run(
        "ip",
        &[
            "link", "add", &name, "type", "veth", "peer", "name", link, "netns", &holder,
        ],
    )
}

/// The name on the outside, which may have 15 characters.
fn link_name(base: u32, link: &str) -> String {
    format!("pp{:04x}{link}", (base - RANGE) / SIZE)
}

fn namespace(process: &Path) -> Result<PathBuf, Error> {
    let link = process.join("ns/net");
    fs::read_link(&link).map_err(Error::io(format!("reading {}", link.display())))
}

fn run(program: &str, arguments: &[&str]) -> Result<(), Error> {
    let mut command = Command::new(program);
    command.args(arguments);
    finish(program, command)
}

fn finish(program: &str, mut command: Command) -> Result<(), Error> {
    let output = command
        .output()
        .map_err(|error| missing(program, &error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(missing(&format!("{command:?}"), stderr.trim()))
}

fn missing(what: &str, reason: &str) -> Error {
    Error::Network {
        what: what.to_owned(),
        reason: reason.to_owned(),
    }
}

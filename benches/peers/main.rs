//! What an admission review costs beside Go: `pullpass serve`, the same job as a webhook on controller-runtime does it, and a
//! Go server that answers a constant. Each has one core, and the load has another; they take turns, since a machine is never
//! quiet.

#[path = "../webhook/load.rs"]
mod load;
mod report;
#[expect(dead_code, reason = "another benchmark shares the rest of it")]
#[path = "../webhook/review.rs"]
mod review;
#[path = "../webhook/rounds.rs"]
mod rounds;
#[expect(dead_code, reason = "another benchmark shares the rest of it")]
#[path = "../webhook/servers.rs"]
mod servers;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use pullpass_test_support::Scratch;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use load::{Load, Width};
use report::{Contender, Report, Row};
use review::{PULL_SECRET, Size, review};
use rounds::Rounds;
use servers::{ANSWER, CERTIFICATE, KEY, Process, loopback, prepare, pullpass};
use support::{Output, Result};

/// How long a server is left alone before its memory counts as idle.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);
const WIDTHS: [(&str, Width); 2] = [
    (
        "1",
        Width {
            connections: 1,
            streams: 1,
        },
    ),
    ("4 x 16", Width::MANY),
];
/// In the first shape of each size it is many values that make the size, in the other one a single string.
const SIZES: [Size; 5] = [
    Size::Small,
    Size::Medium,
    Size::MediumEscaped,
    Size::Large,
    Size::Escaped,
];
/// What is compared; pullpass is the first.
const SERVERS: [&str; 3] = ["pullpass", "controller-runtime", "constant"];

/// Measures what an admission review costs, beside webhooks in Go
#[derive(Debug, Parser)]
struct Arguments {
    /// How long a round takes, in milliseconds
    #[arg(long, default_value_t = 1_000)]
    milliseconds: u64,
    /// How many rounds each server gets, after one to warm up
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The processor of the servers
    #[arg(long, default_value_t = 1)]
    server_core: u16,
    /// The processor of the load
    #[arg(long, default_value_t = 0)]
    load_core: u16,
    /// How the result is written
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// What cargo adds to a benchmark's arguments
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    support::main("peers", || run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let peers = build()?;
    // Threads that are started from here on stay there, too.
    let pid = std::process::id().to_string();
    succeed(Command::new("taskset").args(["--cpu-list", "--pid", &arguments.load_core.to_string(), &pid]))?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::default();
    for size in SIZES {
        let bench = Bench {
            arguments,
            runtime: &runtime,
            peers: &peers,
            name: size.name(),
            body: review(size).into(),
        };
        bench.measure(&mut report)?;
    }
    print!("{}", report.render(arguments.output)?);
    Ok(())
}

/// Builds what pullpass is compared with; gives where it is.
fn build() -> Result<PathBuf> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/build");
    let directory = succeed(&mut Command::new(program))?;
    Ok(directory.trim_end().into())
}

fn succeed(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8(output.stdout)?)
    } else {
        Err(format!("{command:?}: {}", output.status).into())
    }
}

struct Bench<'a> {
    arguments: &'a Arguments,
    runtime: &'a Runtime,
    peers: &'a Path,
    name: &'static str,
    body: Bytes,
}

impl Bench<'_> {
    /// Measures one review on fresh servers, so that its peak of memory is its own.
    fn measure(&self, report: &mut Report) -> Result<()> {
        let scratch = Scratch::new()?;
        let certificate = prepare(scratch.path())?;
        let servers = SERVERS.map(|name| self.start(name, scratch.path(), &certificate));
        let mut processes = Vec::new();
        for server in servers {
            processes.push(server?);
        }
        thread::sleep(SETTLE_INTERVAL);
        for (name, process) in SERVERS.iter().zip(&processes) {
            report.idle(name, process.memory("VmRSS")?);
        }
        for (streams, width) in WIDTHS {
            let rows = self.load(&processes, &certificate, width)?;
            let mut contenders = Vec::new();
            for ((server, rounds), process) in SERVERS.into_iter().zip(rows).zip(&processes) {
                let peak = process.memory("VmHWM")?;
                contenders.push(Contender { server, rounds, peak });
            }
            report
                .rows
                .extend(Row::all((self.name, self.body.len()), streams, &contenders));
        }
        Ok(())
    }

    fn load(
        &self,
        processes: &[Process],
        certificate: &CertificateDer<'static>,
        width: Width,
    ) -> Result<Vec<Rounds>> {
        let mut loads = Vec::new();
        for process in processes {
            let connecting = Load::connect(process.address, certificate, self.body.clone(), width);
            let load = self.runtime.block_on(connecting)?;
            let answer = self.runtime.block_on(load.answer())?;
            check(&answer)?;
            loads.push((load, answer, Rounds::default()));
        }
        let duration = Duration::from_millis(self.arguments.milliseconds);
        for number in 0..=self.arguments.rounds {
            for (process, (load, answer, rounds)) in processes.iter().zip(&mut loads) {
                let before = process.cpu()?;
                let round = self.runtime.block_on(load.run(duration, answer))?;
                let cpu = process.cpu()? - before;
                if number > 0 {
                    rounds.push(round, cpu);
                }
            }
        }
        let (connections, streams) = (width.connections, width.streams);
        eprintln!("{}: {connections} connections of {streams} streams", self.name);
        Ok(loads.into_iter().map(|(_, _, rounds)| rounds).collect())
    }

    fn start(&self, name: &str, directory: &Path, certificate: &CertificateDer<'static>) -> Result<Process> {
        let address = loopback()?;
        let command = if name == "pullpass" {
            pullpass(directory, address, loopback()?)
        } else {
            let mut command = Command::new(self.peers.join(name));
            command
                .args(["-listen", &address.to_string(), "-tls-cert"])
                .arg(directory.join(CERTIFICATE))
                .arg("-tls-key")
                .arg(directory.join(KEY));
            if name == "constant" {
                command.arg("-answer").arg(directory.join(ANSWER));
            }
            command
        };
        let mut pinned = Command::new("taskset");
        pinned
            .args(["--cpu-list", &self.arguments.server_core.to_string()])
            .arg(command.get_program())
            .args(command.get_args());
        let process = Process::start(name, &pinned, directory, address)?;
        if name == "pullpass" {
            // What the one that answers a constant has to answer.
            let connecting = Load::connect(address, certificate, self.body.clone(), Width::MANY);
            let load = self.runtime.block_on(connecting)?;
            fs::write(directory.join(ANSWER), self.runtime.block_on(load.answer())?)?;
        }
        Ok(process)
    }
}

/// Whether an answer injects the registry's secret.
fn check(answer: &[u8]) -> Result<()> {
    let wrong = || format!("a wrong answer: {}", String::from_utf8_lossy(answer));
    let review: Value = serde_json::from_slice(answer)?;
    let response = review.get("response").ok_or_else(wrong)?;
    let patch = response.get("patch").and_then(Value::as_str).ok_or_else(wrong)?;
    let patch: Vec<Value> = serde_json::from_slice(&STANDARD.decode(patch)?)?;
    let expected = json!({"op": "add", "path": "/spec/imagePullSecrets", "value": [{"name": PULL_SECRET}]});
    if patch.contains(&expected) && response.get("allowed") == Some(&Value::Bool(true)) {
        Ok(())
    } else {
        Err(wrong().into())
    }
}

//! What an admission review costs: `pullpass serve` under load, beside a floor that shares its listener, TLS and HTTP
//! and answers a constant. Both run at the same time and take turns, since a machine is never quiet.

mod load;
mod reading;
mod report;
mod review;
mod rounds;
mod servers;
#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Parser, ValueEnum};
use pullpass_test_support::Scratch;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use load::{Load, Width};
use report::{Report, Row};
use review::{PULL_SECRET, Size, review};
use rounds::Rounds;
use servers::{Process, audit_dropped, prepare, serve_floor, start_floor, start_pullpass};
use support::{Output, Result};

/// How long a server is left alone before its memory counts as idle.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);

/// Measures what an admission review costs, beside a floor that answers a constant
#[derive(Debug, Parser)]
struct Arguments {
    /// How long a round takes
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// How many rounds each server gets for each size, after one to warm up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Sizes of reviews; all when left out
    #[arg(long, value_enum, value_delimiter = ',')]
    size: Vec<Size>,
    /// Measure only what it costs to read a review with escapes, in this process
    #[arg(long)]
    reading: bool,
    /// One short round of each: shows that it works, and no more
    #[arg(long)]
    quick: bool,
    /// How the result is written
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Be the floor
    #[arg(long, hide = true, value_name = "ADDRESS", requires = "directory")]
    floor: Option<SocketAddr>,
    /// Where the floor's files are
    #[arg(long, hide = true)]
    directory: Option<PathBuf>,
    /// What cargo adds to a benchmark's arguments
    #[arg(long, hide = true)]
    bench: bool,
}

fn seconds(text: &str) -> Result<f64> {
    let seconds = text.parse()?;
    Duration::try_from_secs_f64(seconds)?;
    Ok(seconds)
}

fn main() -> ExitCode {
    support::main("webhook", || run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let runtime = Runtime::new()?;
    if let (Some(address), Some(directory)) = (arguments.floor, &arguments.directory) {
        return runtime.block_on(serve_floor(address, directory));
    }
    let (rounds, seconds) = if arguments.quick {
        (1, 0.2)
    } else {
        (arguments.rounds, arguments.seconds)
    };
    let duration = Duration::try_from_secs_f64(seconds)?;
    let sizes = if arguments.size.is_empty() {
        Size::value_variants()
    } else {
        &arguments.size
    };
    let mut report = Report {
        idle_memory_kib: 0.0,
        sizes: Vec::new(),
        reading: None,
    };
    if sizes.contains(&Size::Escaped) {
        report.reading = Some(reading::measure()?);
    }
    for size in sizes.iter().filter(|_| !arguments.reading) {
        let (row, idle) = measure(&runtime, *size, rounds, duration)?;
        report.sizes.push(row);
        report.idle_memory_kib = report.idle_memory_kib.max(idle);
    }
    print!("{}", report.render(arguments.output)?);
    Ok(())
}

/// Measures one size on fresh servers, so that its peak of memory is its own. Also gives the idle memory.
fn measure(runtime: &Runtime, size: Size, rounds: u16, duration: Duration) -> Result<(Row, f64)> {
    let scratch = Scratch::new()?;
    let certificate = prepare(scratch.path())?;
    let body = Bytes::from(review(size));
    let name = size.name();

    let (pullpass, metrics) = start_pullpass(scratch.path())?;
    thread::sleep(SETTLE_INTERVAL);
    let idle = pullpass.memory("VmRSS")?;
    let load = runtime.block_on(Load::connect(
        pullpass.address,
        &certificate,
        body.clone(),
        Width::MANY,
    ))?;
    let answer = runtime.block_on(load.answer())?;
    check(&answer)?;

    let floor = start_floor(scratch.path(), &answer)?;
    let floor_load = runtime.block_on(Load::connect(
        floor.address,
        &certificate,
        body.clone(),
        Width::MANY,
    ))?;

    let mut contenders = [
        (floor, floor_load, Rounds::default()),
        (pullpass, load, Rounds::default()),
    ];
    for number in 0..=rounds {
        for (process, load, results) in &mut contenders {
            let before = process.cpu()?;
            let round = runtime.block_on(load.run(duration, &answer))?;
            let cpu = process.cpu()? - before;
            if number > 0 {
                results.push(round, cpu);
            }
        }
        eprintln!("{name}: {number} of {rounds}");
    }
    let lost = audit_dropped(metrics)?;
    let [floor, pullpass] =
        contenders.map(|(process, _, results)| peak(&process).map(|peak| (results, peak)));
    Ok((Row::new((name, body.len()), &pullpass?, &floor?, lost), idle))
}

fn peak(process: &Process) -> Result<f64> {
    process.memory("VmHWM")
}

/// Whether it is the answer that injects the registry's secret. All others must be the same to the byte.
fn check(answer: &[u8]) -> Result<()> {
    let wrong = || format!("a wrong answer: {}", String::from_utf8_lossy(answer));
    let review: Value = serde_json::from_slice(answer)?;
    let response = review.get("response").ok_or_else(wrong)?;
    let patch = response.get("patch").and_then(Value::as_str).ok_or_else(wrong)?;
    let patch: Value = serde_json::from_slice(&STANDARD.decode(patch)?)?;
    let expected = json!([{"op": "add", "path": "/spec/imagePullSecrets", "value": [{"name": PULL_SECRET}]}]);
    if patch == expected && response.get("allowed") == Some(&Value::Bool(true)) {
        Ok(())
    } else {
        Err(wrong().into())
    }
}

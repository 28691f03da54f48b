//! What an admission review costs: `pullpass serve` under load, beside a floor that shares its listener, TLS and HTTP
//! and answers a constant. Both run at the same time and take turns, since a machine is never quiet.

mod load;
mod pair;
mod profile;
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
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use tokio::runtime::Runtime;

use pair::{Contender, Pair};
use report::{Report, Row};
use review::Size;
use rounds::Rounds;
use servers::{audit_dropped, serve_floor};
use support::{Output, Result};

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
    #[command(flatten)]
    only: Only,
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

/// What is measured instead of all the rest
#[derive(Debug, Args)]
#[group(multiple = false)]
struct Only {
    /// Measure only what it costs to read a review with escapes, in this process
    #[arg(long)]
    reading: bool,
    /// Show only which part of the work on a review needs how much processor time, by samples of both servers (needs `perf`,
    /// Debian's package linux-perf)
    #[arg(long)]
    profile: bool,
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
    if arguments.only.profile {
        let profiles = sizes.iter();
        let profiles = profiles.map(|size| profile::measure(&runtime, *size, rounds, duration));
        let profiles = profiles.collect::<Result<Vec<_>>>()?;
        print!("{}", profile::render(&profiles, arguments.output)?);
        return Ok(());
    }
    let mut report = Report {
        idle_memory_kib: 0.0,
        sizes: Vec::new(),
        reading: None,
    };
    if sizes.contains(&Size::Escaped) {
        report.reading = Some(reading::measure()?);
    }
    for size in sizes.iter().filter(|_| !arguments.only.reading) {
        let (row, idle) = measure(&runtime, *size, rounds, duration)?;
        report.sizes.push(row);
        report.idle_memory_kib = report.idle_memory_kib.max(idle);
    }
    print!("{}", report.render(arguments.output)?);
    Ok(())
}

/// Measures one size on fresh servers, so that its peak of memory is its own. Also gives the idle memory.
fn measure(runtime: &Runtime, size: Size, rounds: u16, duration: Duration) -> Result<(Row, f64)> {
    let pair = Pair::start(runtime, size)?;
    let name = size.name();
    let (mut floor, mut pullpass) = (Rounds::default(), Rounds::default());
    for number in 0..=rounds {
        for (contender, results) in [(&pair.floor, &mut floor), (&pair.pullpass, &mut pullpass)] {
            let (round, cpu) = contender.round(runtime, duration, &pair.answer)?;
            if number > 0 {
                results.push(round, cpu);
            }
        }
        eprintln!("{name}: {number} of {rounds}");
    }
    let lost = audit_dropped(pair.metrics)?;
    let peak = |contender: &Contender| contender.process.memory("VmHWM");
    let (floor, pullpass) = ((floor, peak(&pair.floor)?), (pullpass, peak(&pair.pullpass)?));
    Ok((
        Row::new((name, pair.bytes), &pullpass, &floor, lost),
        pair.idle_memory_kib,
    ))
}

//! What a review takes while somebody floods the webhook's port without credentials, beside what it takes on the same
//! server while nobody does; and what memory the flood takes. Only over the loopback interface, and each flood ends by
//! itself.

mod flooders;
mod report;
#[expect(dead_code, reason = "the webhook's benchmark measures larger reviews, too")]
#[path = "../webhook/review.rs"]
mod review;
mod reviewer;
#[expect(dead_code, reason = "the webhook's benchmark has a floor of its own")]
#[path = "../webhook/servers.rs"]
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod tls;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use pullpass_test_support::Scratch;
use tokio::runtime::Runtime;

use flooders::Flood;
use report::{Report, Row};
use reviewer::Reviewer;
use servers::{prepare, start_pullpass};
use support::{Output, Result};
use tls::Target;

/// How long a flood goes on before reviews are measured: all of its connections are there then, and the first bodies have
/// been given up.
const BUILD_UP_INTERVAL: Duration = Duration::from_secs(6);

/// Measures what a review takes while somebody floods the webhook's port
#[derive(Debug, Parser)]
struct Arguments {
    /// How long reviews are measured in a round
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// How many rounds without and with each flood, in turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Which floods; all when left out
    #[arg(long, value_enum, value_delimiter = ',')]
    flood: Vec<Flood>,
    /// How the result is written
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// What cargo adds to a benchmark's arguments
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    support::main("flood", || run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let floods = if arguments.flood.is_empty() {
        Flood::value_variants()
    } else {
        &arguments.flood
    };
    let mut report = Report { floods: Vec::new() };
    for flood in floods {
        report.floods.push(measure(*flood, arguments)?);
    }
    print!("{}", report.render(arguments.output)?);
    Ok(())
}

/// Measures one flood on a fresh server, so that its peak of memory is its own.
fn measure(flood: Flood, arguments: &Arguments) -> Result<Row> {
    let scratch = Scratch::new()?;
    let certificate = prepare(scratch.path())?;
    let (pullpass, metrics) = start_pullpass(scratch.path())?;
    let target = Target::new(pullpass.address, &certificate)?;
    let duration = Duration::from_secs(arguments.seconds);
    let runtime = Runtime::new()?;
    let mut row = Row::new(flood);
    for number in 1..=arguments.rounds {
        // The same connection in both, as an API server's.
        let reviewer = Reviewer::start(&target)?;
        row.quiet.push(reviewer.measure(duration)?);
        let flooding = runtime.block_on(async { flood.start(&target) });
        std::thread::sleep(BUILD_UP_INTERVAL);
        row.flooded.push(reviewer.measure(duration)?);
        runtime.block_on(flooding.stop());
        eprintln!("{}: {number} of {}", flood.name(), arguments.rounds);
    }
    row.peak_memory_kib = pullpass.memory("VmHWM")?;
    row.refused = report::refused(metrics)?;
    Ok(row)
}

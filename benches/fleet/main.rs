//! What a fleet of clusters asks of one tenant, simulated with the program's own planning of refreshes (docs/scale.md). It
//! needs no cluster and gives the same numbers each time.

#[path = "../../tests/scale/fleet.rs"]
mod fleet;
#[expect(dead_code, reason = "other benchmarks share the rest of it")]
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::Serialize;

use fleet::{Outcome, Scenario, simulate};
use support::{Output, Result, table};

/// When the outage begins: those that were started together have drifted apart.
const OUTAGE_BEGIN: Duration = Duration::from_hours(24);
/// Outages, in minutes.
const OUTAGES: [u64; 3] = [60, 90, 180];

/// Simulates what a fleet of clusters asks of one Entra tenant
#[derive(Debug, Parser)]
struct Arguments {
    /// How many clusters there are
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clusters: u32,
    /// How many registries each mints for
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    registries: u32,
    /// How many requests the tenant answers in a minute, in the scenarios in which it throttles
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// How the result is written
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// What cargo adds to a benchmark's arguments
    #[arg(long, hide = true)]
    bench: bool,
}

/// A scenario and its result.
#[derive(Serialize)]
struct Row {
    scenario: String,
    #[serde(flatten)]
    outcome: Outcome,
}

fn main() -> ExitCode {
    support::main("fleet", || run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let rows: Vec<_> = scenarios(arguments)
        .into_iter()
        .map(|(scenario, settings)| Row {
            scenario,
            outcome: simulate(&settings),
        })
        .collect();
    match arguments.output {
        Output::Table => print!("{}", render(&rows)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
    }
    Ok(())
}

fn scenarios(arguments: &Arguments) -> Vec<(String, Scenario)> {
    let calm = Scenario {
        clusters: arguments.clusters,
        registries: arguments.registries,
        started_within: Duration::ZERO,
        limit: None,
        outage: None,
        lasts: Duration::from_hours(48),
    };
    let limited = Scenario {
        limit: Some(arguments.limit),
        ..calm
    };
    let mut scenarios = vec![
        ("all start in one second".to_owned(), calm),
        (
            "all start within an hour".to_owned(),
            Scenario {
                started_within: Duration::from_hours(1),
                ..calm
            },
        ),
        (
            format!("all start in one second, {} requests a minute", arguments.limit),
            limited,
        ),
    ];
    for minutes in OUTAGES {
        for (limit, settings) in [("", calm), (", then throttled", limited)] {
            scenarios.push((
                format!("an outage of {minutes} minutes{limit}"),
                Scenario {
                    outage: Some((OUTAGE_BEGIN, Duration::from_mins(minutes))),
                    ..settings
                },
            ));
        }
    }
    scenarios
}

fn render(rows: &[Row]) -> String {
    let head = [
        "SCENARIO",
        "REQUESTS",
        "MINTED",
        "THROTTLED",
        "PEAK A MINUTE: FIRST 3 H",
        "LAST 3 H",
        "EVER",
        "A SECOND",
        "EXPIRED",
        "LONGEST",
        "RECOVERED AFTER",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    for Row { scenario, outcome } in rows {
        lines.push([
            scenario.clone(),
            outcome.requests.to_string(),
            outcome.minted.to_string(),
            outcome.throttled.to_string(),
            outcome.first_peak.to_string(),
            outcome.last_peak.to_string(),
            outcome.peak.to_string(),
            outcome.peak_of_a_second.to_string(),
            outcome.expired.to_string(),
            format!("{} s", outcome.longest_expired_seconds),
            format!("{} s", outcome.recovery_seconds),
        ]);
    }
    table(&lines)
}

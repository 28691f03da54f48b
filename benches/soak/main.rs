//! The soak in full: tests/availability has what it does, and its short form.

#[expect(dead_code, reason = "tests use the rest of it")]
#[path = "../../tests/availability/ask.rs"]
mod ask;
#[path = "../../tests/availability/soak/mod.rs"]
mod soak;
#[expect(dead_code, reason = "other benchmarks share the rest of it")]
#[path = "../support/mod.rs"]
mod support;
#[expect(dead_code, reason = "tests use the rest of it")]
#[path = "../../tests/availability/world.rs"]
mod world;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;

use soak::events::Event;
use soak::report::{Progress, Row, json, render};
use soak::{Pace, Plan, Setting, within};
use support::{Output, Result};

/// What the end of the last row, and the report, have of the time.
const REST: Duration = Duration::from_mins(3);
const PACE: Pace = Pace {
    streams: 32,
    lag: 100,
    // As shipped.
    shutdown_delay: 10,
};

/// Creates many Pods while replicas, the leader, the certificate, registries, labels and the API server change
#[derive(Debug, Parser)]
struct Arguments {
    /// How many Pods are created
    #[arg(long, default_value_t = 100_000)]
    pods: usize,
    /// How many replicas there are
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=5))]
    replicas: u8,
    /// After how many minutes it ends, however far it is
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(5..))]
    minutes: u8,
    /// How the result is written
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// What cargo adds to a benchmark's arguments
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    support::main("soak", || run(&Arguments::parse()))
}

/// What happens in a row. Without `enforce` all of it, in another order for each row, so that a slow machine leaves out others
/// in each. With it, what stops replicas from answering.
fn events(row: usize, setting: Setting) -> Vec<Event> {
    if setting.with_enforce {
        return vec![Event::KillReplica, Event::Outage];
    }
    let mut events = Event::ALL.to_vec();
    let last = events.len() - 1;
    if let Some(all_but_the_outage) = events.get_mut(..last) {
        all_but_the_outage.rotate_left(3 * row % last);
    }
    events
}

fn run(arguments: &Arguments) -> Result<()> {
    let limit = Duration::from_mins(arguments.minutes.into());
    // The row with the fewest aims is the last one, since a slow machine has less time for it.
    let [ignore, ignore_with, fail, fail_with, enforce, both] = Setting::ALL;
    let rows = [ignore_with, fail, fail_with, both, enforce, ignore]
        .into_iter()
        .enumerate();
    let rows: Vec<_> = rows
        .map(|(row, setting)| (setting, events(row, setting)))
        .collect();
    let all: usize = rows.iter().map(|(_, events)| events.len()).sum();
    let plans = rows.into_iter().map(|(setting, events)| Plan {
        setting,
        // As many as it has of the events.
        pods: arguments.pods * events.len() / all,
        replicas: arguments.replicas.into(),
        events,
    });
    let progress = Arc::new(Mutex::<Progress>::default());
    let done = within(limit, {
        let (progress, limit) = (Arc::clone(&progress), limit.saturating_sub(REST));
        let plans = plans.collect();
        move || soak::run(plans, PACE, Some(limit), &progress).map_err(|error| error.to_string())
    });
    // Those that ended, while another one may run still.
    let progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
    let rows = &progress.rows;
    match arguments.output {
        Output::Table => print!("{}", render(rows)),
        Output::Json => println!("{:#}", json(rows)),
    }
    for row in rows {
        for (text, times) in &row.texts {
            eprintln!("{}: {times} times: {text}", row.setting.name());
        }
    }
    done.map_err(|error| format!("{error}: {}", progress.interrupted()))?;
    let missed: Vec<_> = rows.iter().flat_map(Row::missed).collect();
    if missed.is_empty() {
        return Ok(());
    }
    Err(format!("an aim is missed: {}", missed.join("; ")).into())
}

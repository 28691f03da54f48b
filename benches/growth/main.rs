//! How the cost of single steps grows with what there is: registries, namespaces, bindings, images. It needs no cluster. What it
//! prints is a time and, where the size doubles, the factor by which it grew; nothing is asserted about either.

#[expect(dead_code, reason = "other benchmarks share the rest of it")]
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Serialize;

use support::{Output, Result, table};
use world::{CASES, Case};

/// For how long a step is repeated.
const BATCH: Duration = Duration::from_millis(20);
/// How many times that is done: the fastest counts, since whatever else runs only adds to it.
const BATCHES: usize = 7;

/// Measures how the cost of single steps grows with the size of a cluster
#[derive(Debug, Parser)]
struct Arguments {
    /// How many registries, namespaces, bindings or images there are
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1_000, 10_000], value_parser = parse_size)]
    sizes: Vec<usize>,
    /// How the result is written
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// What cargo adds to a benchmark's arguments
    #[arg(long, hide = true)]
    bench: bool,
}

fn parse_size(text: &str) -> std::result::Result<usize, String> {
    let size = text.parse().map_err(|_| "not a number".to_owned())?;
    if (1..=100_000).contains(&size) {
        Ok(size)
    } else {
        Err("not between 1 and 100,000".to_owned())
    }
}

/// What a step costs at each size.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    step: &'static str,
    grows_with: &'static str,
    /// By size.
    nanos: Vec<(usize, f64)>,
    /// The factor for each doubling between the first size and the last.
    growth_per_doubling: Option<f64>,
}

fn main() -> ExitCode {
    support::main("growth", || run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut rows = Vec::new();
    for case in CASES {
        eprintln!("{}", case.step);
        rows.push(measure(case, &arguments.sizes)?);
    }
    match arguments.output {
        Output::Table => print!("{}", render(&rows, &arguments.sizes)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
    }
    Ok(())
}

fn measure(case: &Case, sizes: &[usize]) -> Result<Row> {
    let mut nanos = Vec::new();
    for size in sizes {
        let mut step = (case.prepare)(*size)?;
        // The first is not counted: it fills caches.
        step()?;
        let mut fastest = f64::INFINITY;
        for _ in 0..BATCHES {
            fastest = fastest.min(batch(&mut step)?);
        }
        #[expect(clippy::cast_precision_loss, reason = "sizes are small")]
        let steps = if case.is_for_all { *size as f64 } else { 1.0 };
        nanos.push((*size, fastest / steps));
    }
    Ok(Row {
        step: case.step,
        grows_with: case.grows_with,
        growth_per_doubling: growth(&nanos),
        nanos,
    })
}

/// The time for one step, in nanoseconds.
#[expect(clippy::cast_precision_loss, reason = "a time of seconds has few digits")]
fn batch(step: &mut world::Step) -> Result<f64> {
    let (begun, mut steps) = (Instant::now(), 0_u32);
    while begun.elapsed() < BATCH {
        step()?;
        steps += 1;
    }
    Ok(begun.elapsed().as_nanos() as f64 / f64::from(steps))
}

#[expect(clippy::cast_precision_loss, reason = "sizes are small")]
fn growth(nanos: &[(usize, f64)]) -> Option<f64> {
    let ((first, before), (last, after)) = (nanos.first()?, nanos.last()?);
    let doublings = (*last as f64 / *first as f64).log2();
    (doublings > 0.0).then(|| (after / before).powf(doublings.recip()))
}

fn render(rows: &[Row], sizes: &[usize]) -> String {
    let mut head = vec!["STEP".to_owned(), "WITH THE NUMBER OF".to_owned()];
    head.extend(sizes.iter().map(ToString::to_string));
    head.push("PER DOUBLING".to_owned());
    let lines = rows.iter().map(|row| {
        let mut cells = vec![row.step.to_owned(), row.grows_with.to_owned()];
        cells.extend(
            row.nanos
                .iter()
                .map(|(_, nanos)| format!("{:.2} us", nanos / 1e3)),
        );
        let growth = row.growth_per_doubling;
        cells.push(growth.map_or_else(String::new, |growth| format!("{growth:.2}")));
        cells
    });
    table(&std::iter::once(head).chain(lines).collect::<Vec<_>>())
}

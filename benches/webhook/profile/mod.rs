//! Where the processor time for a review goes, part by part, in pullpass and in the floor: samples of both under the same load.

mod parts;
mod perf;
mod report;
mod samples;

use std::time::Duration;

use tokio::runtime::Runtime;

use self::perf::Recording;
use self::report::{Counts, Server};
pub(crate) use self::report::{Profile, render};
use self::samples::samples;
use crate::pair::{Contender, Pair};
use crate::review::Size;
use crate::rounds::Rounds;
use crate::support::{Result, median};

/// The rounds of one server.
#[derive(Default)]
struct Turns {
    counts: Counts,
    /// The reviews that it answered under the profiler.
    requests: usize,
    /// Without the profiler.
    plain: Rounds,
    /// Under it.
    profiled: Rounds,
}

impl Turns {
    fn server(self) -> Server {
        Server {
            counts: self.counts,
            requests: self.requests,
            micros: median(self.plain.costs()),
            profiled_micros: median(self.profiled.costs()),
        }
    }
}

/// Profiles one size on fresh servers: in each round, each server runs without the profiler and under it.
pub(crate) fn measure(runtime: &Runtime, size: Size, rounds: u16, duration: Duration) -> Result<Profile> {
    let pair = Pair::start(runtime, size)?;
    let (mut floor, mut pullpass) = (Turns::default(), Turns::default());
    for number in 0..=rounds {
        for (contender, results) in [(&pair.floor, &mut floor), (&pair.pullpass, &mut pullpass)] {
            let (round, cpu) = contender.round(runtime, duration, &pair.answer)?;
            if number > 0 {
                results.plain.push(round, cpu);
                record(runtime, &pair, contender, duration, results)?;
            }
        }
        eprintln!("{}: {number} of {rounds}", size.name());
    }
    Ok(Profile::new(
        (size.name(), pair.bytes),
        &pullpass.server(),
        &floor.server(),
    ))
}

/// A round under the profiler.
fn record(
    runtime: &Runtime,
    pair: &Pair,
    contender: &Contender,
    duration: Duration,
    results: &mut Turns,
) -> Result<()> {
    let recording = Recording::start(contender.process.pid(), pair.directory())?;
    let (round, cpu) = contender.round(runtime, duration, &pair.answer)?;
    let text = recording.finish()?;
    results.requests += round.latencies.len();
    results.counts.add(&samples(&text)?);
    results.profiled.push(round, cpu);
    Ok(())
}

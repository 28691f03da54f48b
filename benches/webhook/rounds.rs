//! What a server did in its rounds.

use std::time::Duration;

use serde::Serialize;

use crate::load::Round;
use crate::support::{median, percentile};

/// What a server did.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    pub(crate) requests_per_second: f64,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
    pub(crate) cpu_micros_per_request: f64,
    pub(crate) peak_memory_kib: f64,
}

/// A server's rounds, and the processor time of each.
#[derive(Default)]
pub(crate) struct Rounds {
    rounds: Vec<(Round, f64)>,
}

impl Rounds {
    /// Takes a round, with the seconds of processor time that the server used in it.
    pub(crate) fn push(&mut self, round: Round, cpu: f64) {
        self.rounds.push((round, cpu));
    }

    /// Requests in a second, in each round.
    pub(crate) fn rates(&self) -> impl Iterator<Item = f64> {
        self.rounds.iter().map(|(round, _)| round.rate())
    }

    /// Microseconds of processor time for a request, in each round.
    pub(crate) fn costs(&self) -> impl Iterator<Item = f64> {
        self.rounds
            .iter()
            .map(|(round, cpu)| cpu * 1e6 / (round.rate() * round.elapsed.as_secs_f64()))
    }

    /// Puts them together.
    pub(crate) fn measured(&self, peak_memory_kib: f64) -> Measured {
        let mut latencies: Vec<_> = self
            .rounds
            .iter()
            .flat_map(|(round, _)| &round.latencies)
            .collect();
        latencies.sort_unstable();
        let percentile =
            |percent| percentile(&latencies, percent).map_or(f64::NAN, |latency| micros(*latency));
        Measured {
            requests_per_second: median(self.rates()),
            p50_micros: percentile(50),
            p99_micros: percentile(99),
            cpu_micros_per_request: median(self.costs()),
            peak_memory_kib,
        }
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

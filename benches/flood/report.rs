//! What was measured, for people and for scripts.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::Serialize;

use crate::flooders::Flood;
use crate::reviewer::Latencies;
use crate::support::{Output, Result, median, percentile, table};

/// Everything that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    /// One for each flood.
    pub(crate) floods: Vec<Row>,
}

/// One flood.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    flood: String,
    /// While nobody floods: the floor.
    pub(crate) quiet: Measured,
    pub(crate) flooded: Measured,
    /// What the server had resident at most.
    pub(crate) peak_memory_kib: f64,
    /// What the server refused, by reason.
    pub(crate) refused: BTreeMap<String, u64>,
}

/// What reviews took, in each round.
#[derive(Clone, Default, Serialize)]
#[serde(into = "Percentiles")]
pub(crate) struct Measured(Vec<Latencies>);

/// Medians over the rounds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Percentiles {
    reviews: usize,
    lost: u64,
    p50_micros: f64,
    p99_micros: f64,
    new_connection_p99_micros: f64,
}

impl Measured {
    /// Takes what a round gave.
    pub(crate) fn push(&mut self, mut round: Latencies) {
        round.kept.sort_unstable();
        round.new.sort_unstable();
        self.0.push(round);
    }
}

impl From<Measured> for Percentiles {
    fn from(Measured(rounds): Measured) -> Self {
        let micros = |percent, sorted: fn(&Latencies) -> &[Duration]| {
            median(rounds.iter().map(|round| {
                percentile(sorted(round), percent).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
            }))
        };
        Self {
            reviews: rounds
                .iter()
                .map(|round| round.kept.len() + round.new.len())
                .sum(),
            lost: rounds.iter().map(|round| round.lost).sum(),
            p50_micros: micros(50, |round| &round.kept),
            p99_micros: micros(99, |round| &round.kept),
            new_connection_p99_micros: micros(99, |round| &round.new),
        }
    }
}

impl Row {
    pub(crate) fn new(flood: Flood) -> Self {
        Self {
            flood: flood.name(),
            quiet: Measured::default(),
            flooded: Measured::default(),
            peak_memory_kib: 0.0,
            refused: BTreeMap::new(),
        }
    }
}

impl Report {
    /// The report as text.
    pub(crate) fn render(&self, output: Output) -> Result<String> {
        if output == Output::Json {
            return Ok(serde_json::to_string_pretty(self)? + "\n");
        }
        let mut times = vec![
            [
                "flood",
                "reviews",
                "lost",
                "p50",
                "p99",
                "p99 / quiet",
                "new connection p99",
                "/ quiet",
            ]
            .map(str::to_owned),
        ];
        let mut server = vec![["flood", "peak memory", "refused"].map(str::to_owned)];
        for row in &self.floods {
            let quiet = Percentiles::from(row.quiet.clone());
            let flooded = Percentiles::from(row.flooded.clone());
            let ratio = |value: f64, floor: f64| format!("{:.1}", value / floor);
            let line = |name: String, measured: &Percentiles, ratios: [String; 2]| {
                let [kept, new] = ratios;
                [
                    name,
                    measured.reviews.to_string(),
                    measured.lost.to_string(),
                    format!("{:.0} us", measured.p50_micros),
                    format!("{:.0} us", measured.p99_micros),
                    kept,
                    format!("{:.0} us", measured.new_connection_p99_micros),
                    new,
                ]
            };
            let ratios = [
                ratio(flooded.p99_micros, quiet.p99_micros),
                ratio(flooded.new_connection_p99_micros, quiet.new_connection_p99_micros),
            ];
            times.push(line(format!("{} (quiet)", row.flood), &quiet, Default::default()));
            times.push(line(row.flood.clone(), &flooded, ratios));
            let refused: Vec<_> = row
                .refused
                .iter()
                .filter(|(_, count)| **count > 0)
                .map(|(reason, count)| format!("{reason} {count}"))
                .collect();
            server.push([
                row.flood.clone(),
                format!("{:.1} MiB", row.peak_memory_kib / 1024.0),
                refused.join(", "),
            ]);
        }
        Ok(format!("{}\n{}", table(&times), table(&server)))
    }
}

/// What the server refused, as its metrics say.
pub(crate) fn refused(metrics: SocketAddr) -> Result<BTreeMap<String, u64>> {
    let mut stream = TcpStream::connect(metrics)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    text.lines()
        .filter_map(|line| {
            line.strip_prefix("pullpass_requests_refused_total{reason=\"")?
                .split_once("\"} ")
        })
        .map(|(reason, count)| Ok((reason.to_owned(), count.parse()?)))
        .collect()
}

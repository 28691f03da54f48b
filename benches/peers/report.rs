//! What was measured, for people and for scripts.

use serde::Serialize;

use crate::rounds::{Measured, Rounds};
use crate::support::{Output, median, table};

/// A server's rounds, and its peak memory in KiB.
pub(crate) struct Contender {
    pub(crate) server: &'static str,
    pub(crate) rounds: Rounds,
    pub(crate) peak: f64,
}

/// Everything that was measured.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    idle: Vec<Idle>,
    pub(crate) rows: Vec<Row>,
}

/// Resident memory before the first request but one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Idle {
    server: &'static str,
    resident_kib: f64,
}

/// One server, one review, and so many streams.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    review: &'static str,
    bytes: usize,
    streams: &'static str,
    server: &'static str,
    measured: Measured,
    /// Requests in a second, as a part of pullpass': the median over the rounds.
    ratio: f64,
    /// Processor time for a request, as a multiple of pullpass': the median over the rounds.
    cpu_ratio: f64,
}

impl Row {
    /// Puts servers that took turns beside the first of them.
    pub(crate) fn all(
        (review, bytes): (&'static str, usize),
        streams: &'static str,
        contenders: &[Contender],
    ) -> Vec<Self> {
        let Some(first) = contenders.first() else {
            return Vec::new();
        };
        let row = |contender: &Contender| {
            let rates = contender.rounds.rates().zip(first.rounds.rates());
            let costs = contender.rounds.costs().zip(first.rounds.costs());
            Self {
                review,
                bytes,
                streams,
                server: contender.server,
                measured: contender.rounds.measured(contender.peak),
                ratio: median(rates.map(|(theirs, first)| theirs / first)),
                cpu_ratio: median(costs.map(|(theirs, first)| theirs / first)),
            }
        };
        contenders.iter().map(row).collect()
    }
}

impl Report {
    /// Takes the memory of a server that has nothing to do; the first reading counts.
    pub(crate) fn idle(&mut self, server: &'static str, resident_kib: f64) {
        if self.idle.iter().all(|idle| idle.server != server) {
            self.idle.push(Idle { server, resident_kib });
        }
    }

    /// The report as text.
    pub(crate) fn render(&self, output: Output) -> serde_json::Result<String> {
        Ok(match output {
            Output::Json => serde_json::to_string_pretty(self)? + "\n",
            Output::Table => self.table(),
        })
    }

    fn table(&self) -> String {
        let head = [
            "REVIEW",
            "BYTES",
            "STREAMS",
            "SERVER",
            "REQUESTS/S",
            "P50",
            "P99",
            "CPU/REQUEST",
            "PEAK MEMORY",
            "RATE RATIO",
            "CPU RATIO",
        ];
        let rows = self.rows.iter().map(|row| {
            [
                row.review.to_owned(),
                row.bytes.to_string(),
                row.streams.to_owned(),
                row.server.to_owned(),
                format!("{:.0}", row.measured.requests_per_second),
                format!("{:.2} ms", row.measured.p50_micros / 1e3),
                format!("{:.2} ms", row.measured.p99_micros / 1e3),
                format!("{:.1} us", row.measured.cpu_micros_per_request),
                format!("{:.1} MiB", row.measured.peak_memory_kib / 1024.0),
                format!("{:.3}", row.ratio),
                format!("{:.2}", row.cpu_ratio),
            ]
        });
        let lines: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
        let idle = self.idle.iter().map(|idle| {
            let mebibytes = idle.resident_kib / 1024.0;
            format!("idle: {}, {mebibytes:.1} MiB resident\n", idle.server)
        });
        format!("{}\n{}", table(&lines), idle.collect::<String>())
    }
}

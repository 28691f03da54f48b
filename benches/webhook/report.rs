//! What was measured, for people and for scripts.

use serde::Serialize;

use crate::reading::Reading;
use crate::rounds::{Measured, Rounds};
use crate::support::{Output, median, table};

/// Everything that was measured.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Resident memory of `pullpass serve` before its first request.
    pub(crate) idle_memory_kib: f64,
    /// One for each size.
    pub(crate) sizes: Vec<Row>,
    /// What escapes cost.
    pub(crate) reading: Option<Reading>,
}

/// One size.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    size: &'static str,
    bytes: usize,
    pullpass: Measured,
    floor: Measured,
    /// Requests in a second, as a part of the floor's: the median over the rounds.
    ratio: f64,
    /// Processor time for a request, as a multiple of the floor's: the median over the rounds.
    cpu_ratio: f64,
    /// Audit records that were lost.
    audit_dropped: u64,
}

/// A server's rounds, and its peak memory in KiB.
pub(crate) type Loaded = (Rounds, f64);

impl Row {
    /// Puts two servers' rounds, which took turns, beside each other.
    pub(crate) fn new(
        (size, bytes): (&'static str, usize),
        (pullpass, pullpass_peak): &Loaded,
        (floor, floor_peak): &Loaded,
        audit_dropped: u64,
    ) -> Self {
        let quotients = |a: Vec<f64>, b: Vec<f64>| median(a.into_iter().zip(b).map(|(a, b)| a / b));
        Self {
            size,
            bytes,
            pullpass: pullpass.measured(*pullpass_peak),
            floor: floor.measured(*floor_peak),
            ratio: quotients(pullpass.rates().collect(), floor.rates().collect()),
            cpu_ratio: quotients(pullpass.costs().collect(), floor.costs().collect()),
            audit_dropped,
        }
    }
}

impl Report {
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
            "SERVER",
            "REQUESTS/S",
            "P50",
            "P99",
            "CPU/REQUEST",
            "PEAK MEMORY",
            "RATE RATIO",
            "CPU RATIO",
            "AUDIT LOST",
        ];
        let mut lines = vec![head.map(str::to_owned)];
        for row in &self.sizes {
            let [name, bytes] = [row.size.to_owned(), row.bytes.to_string()];
            let blank = String::new;
            let ratios = [
                format!("{:.2}", row.ratio),
                format!("{:.2}", row.cpu_ratio),
                row.audit_dropped.to_string(),
            ];
            lines.push(line([name, bytes, "pullpass".to_owned()], &row.pullpass, ratios));
            lines.push(line(
                [blank(), blank(), "floor".to_owned()],
                &row.floor,
                [blank(), blank(), blank()],
            ));
        }
        let reading = self.reading.as_ref().map(|reading| {
            format!(
                "\nreading {} bytes: {:.1} us with escapes, {:.1} us without, ratio {:.2}\n",
                reading.bytes, reading.escaped_micros, reading.unescaped_micros, reading.ratio
            )
        });
        let idle = (!self.sizes.is_empty()).then(|| {
            format!(
                "{}\nidle: {:.1} MiB resident\n",
                table(&lines),
                self.idle_memory_kib / 1024.0
            )
        });
        idle.into_iter().chain(reading).collect()
    }
}

fn line(head: [String; 3], measured: &Measured, tail: [String; 3]) -> [String; 11] {
    let [name, bytes, server] = head;
    let [ratio, cpu_ratio, lost] = tail;
    [
        name,
        bytes,
        server,
        format!("{:.0}", measured.requests_per_second),
        format!("{:.2} ms", measured.p50_micros / 1e3),
        format!("{:.2} ms", measured.p99_micros / 1e3),
        format!("{:.1} us", measured.cpu_micros_per_request),
        format!("{:.1} MiB", measured.peak_memory_kib / 1024.0),
        ratio,
        cpu_ratio,
        lost,
    ]
}

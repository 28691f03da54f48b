//! What was measured, for people and for scripts.

use std::time::Duration;

use serde::Serialize;

use crate::calls::Calls;
use crate::edits::Edits;
use crate::many::Many;
use crate::support::{Output, median, percentile, table};

/// What is aimed at: docs/benchmarks.md says why.
const AIMS: Aims = Aims {
    ratio: 0.8,
    calls_per_refresh: 1.0,
    memory_mib: 40.0,
    p99_ms: 50.0,
    memory_of_many_mib: 64.0,
    p99_of_many_ms: 100.0,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Aims {
    /// The floor's time as a part of pullpass', at least.
    ratio: f64,
    /// To Entra ID and to the registry, each.
    calls_per_refresh: f64,
    /// Resident, at most.
    memory_mib: f64,
    /// From the Pod to its Secret, at most.
    p99_ms: f64,
    /// Resident with many registries, at most.
    memory_of_many_mib: f64,
    /// From the Pod to its Secret while all of many registries are refreshed, beside the floor's, at most.
    p99_of_many_ms: f64,
}

/// Everything that was measured.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    aims: Aims,
    /// One for each number of namespaces.
    pub(crate) sizes: Vec<Row>,
    /// A process that was started when all of them were there already.
    pub(crate) restarted: Option<Memory>,
    /// One that was started beside it, and does not lead.
    pub(crate) follower: Option<Memory>,
    /// From a Pod to its Secret.
    pub(crate) lags: Option<Lags>,
    /// Edits, new leaders and restarts of the API server.
    pub(crate) edits: Option<Edits>,
    /// Many registries.
    pub(crate) many: Option<Many>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            aims: AIMS,
            sizes: Vec::new(),
            restarted: None,
            follower: None,
            lags: None,
            edits: None,
            many: None,
        }
    }
}

/// One number of namespaces.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    namespaces: usize,
    #[serde(flatten)]
    refreshes: Refreshes,
    memory: Memory,
}

/// Refreshes, each beside a floor.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refreshes {
    /// That each of them writes.
    pull_secrets: usize,
    rounds: usize,
    pullpass_seconds: f64,
    floor_seconds: f64,
    /// The median of the rounds' own ratios.
    ratio: f64,
    entra_calls_per_refresh: f64,
    registry_calls_per_refresh: f64,
    api_calls: Vec<ApiCalls>,
}

/// Calls of one kind to the API server.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiCalls {
    verb: String,
    resource: String,
    per_refresh: f64,
    per_pull_secret: f64,
}

/// The memory of a process.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Memory {
    resident_kib: f64,
    peak_kib: f64,
}

impl From<(f64, f64)> for Memory {
    fn from((resident_kib, peak_kib): (f64, f64)) -> Self {
        Self {
            resident_kib,
            peak_kib,
        }
    }
}

/// What the rounds gave.
#[derive(Default)]
pub(crate) struct Rounds {
    times: Vec<(Duration, Duration)>,
    /// Rounds of which only calls were counted.
    untimed: usize,
    entra_calls: u64,
    registry_calls: u64,
    calls: Calls,
}

impl Rounds {
    /// Takes the times of pullpass and of the floor.
    pub(crate) fn push(&mut self, pullpass: Duration, floor: Duration) {
        self.times.push((pullpass, floor));
    }

    /// Takes the calls of a round of which no time was measured.
    pub(crate) fn push_untimed(&mut self, before: &Calls, after: &Calls) {
        self.untimed += 1;
        self.add_calls(before, after);
    }

    /// Takes calls to Entra ID and to the registry.
    pub(crate) fn add_azure_calls(&mut self, before: (u64, u64), after: (u64, u64)) {
        self.entra_calls += after.0 - before.0;
        self.registry_calls += after.1 - before.1;
    }

    /// Takes calls to the API server.
    pub(crate) fn add_calls(&mut self, before: &Calls, after: &Calls) {
        self.calls.add(before, after);
    }

    /// Takes the calls of another one.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.entra_calls += other.entra_calls;
        self.registry_calls += other.registry_calls;
        self.calls.add(&Calls::default(), &other.calls);
    }

    /// Puts them together, with the memory afterwards.
    pub(crate) fn row(&self, namespaces: usize, memory: Memory) -> Row {
        Row {
            namespaces,
            refreshes: self.refreshes(namespaces),
            memory,
        }
    }

    /// Puts them together. Each refresh wrote so many pull secrets.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(crate) fn refreshes(&self, pull_secrets: usize) -> Refreshes {
        let rounds = self.times.len() + self.untimed;
        let refreshes = rounds as f64;
        let pullpass = || self.times.iter().map(|(pullpass, _)| pullpass.as_secs_f64());
        let floor = || self.times.iter().map(|(_, floor)| floor.as_secs_f64());
        Refreshes {
            pull_secrets,
            rounds,
            pullpass_seconds: median(pullpass()),
            floor_seconds: median(floor()),
            ratio: median(floor().zip(pullpass()).map(|(floor, pullpass)| floor / pullpass)),
            entra_calls_per_refresh: self.entra_calls as f64 / refreshes,
            registry_calls_per_refresh: self.registry_calls as f64 / refreshes,
            api_calls: self
                .calls
                .iter()
                .map(|(verb, resource, count)| ApiCalls {
                    verb: verb.to_owned(),
                    resource: resource.to_owned(),
                    per_refresh: count / refreshes,
                    per_pull_secret: count / refreshes / pull_secrets as f64,
                })
                .collect(),
        }
    }
}

/// From a Pod to its Secret.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Lags {
    /// From the answer to the Pod's creation to the Secret's event.
    pub(crate) answered: Lag,
    /// From the Pod's creation being asked for to the Secret's event: the API server's own work on the Pod is in it.
    pub(crate) asked: Lag,
    /// From a Secret being asked for to its event.
    pub(crate) floor: Lag,
}

/// A distribution of times.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Lag {
    count: usize,
    p50_ms: f64,
    p99_ms: f64,
    worst_ms: f64,
}

impl Lag {
    /// Of these times.
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let millis = |time: Option<Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
        Self {
            count: times.len(),
            p50_ms: millis(percentile(&times, 50)),
            p99_ms: millis(percentile(&times, 99)),
            worst_ms: millis(times.last().copied()),
        }
    }
}

impl Report {
    /// The report as text.
    pub(crate) fn render(&self, output: Output) -> serde_json::Result<String> {
        Ok(match output {
            Output::Json => serde_json::to_string_pretty(self)? + "\n",
            Output::Table => {
                let mut tables = Vec::new();
                if !self.sizes.is_empty() {
                    tables.extend([self.fan_out(), self.api_calls(), self.memory(), self.lags()]);
                }
                if let Some(edits) = &self.edits {
                    tables.extend(self.edits(edits));
                }
                if let Some(many) = &self.many {
                    tables.extend(self.many(many));
                }
                tables.join("\n")
            }
        })
    }

    fn fan_out(&self) -> String {
        let rows = self.sizes.iter();
        self.times(
            "NAMESPACES",
            rows.map(|row| (row.namespaces.to_string(), &row.refreshes)),
        )
    }

    fn times<'a>(&self, first: &str, rows: impl Iterator<Item = (String, &'a Refreshes)>) -> String {
        let head = [
            first,
            "ROUNDS",
            "PULLPASS",
            "FLOOR",
            "FLOOR/PULLPASS",
            "AIM",
            "ENTRA CALLS",
            "ACR CALLS",
        ];
        let rows = rows.map(|(first, refreshes)| {
            [
                first,
                refreshes.rounds.to_string(),
                shown(refreshes.ratio, format!("{:.3} s", refreshes.pullpass_seconds)),
                shown(refreshes.ratio, format!("{:.3} s", refreshes.floor_seconds)),
                shown(refreshes.ratio, format!("{:.2}", refreshes.ratio)),
                format!(">= {:.2}", self.aims.ratio),
                format!("{:.2}", refreshes.entra_calls_per_refresh),
                format!("{:.2}", refreshes.registry_calls_per_refresh),
            ]
        });
        with_head(head, rows)
    }

    fn api_calls(&self) -> String {
        let rows = self.sizes.iter();
        calls(
            "NAMESPACES",
            rows.map(|row| (row.namespaces.to_string(), &row.refreshes)),
        )
    }

    fn memory(&self) -> String {
        let most = self.sizes.last().map_or(0, |row| row.namespaces);
        let restarted = self.restarted.iter().map(|memory| (most, "restarted", memory));
        let follower = self.follower.iter().map(|memory| (most, "follower", memory));
        let rows = self
            .sizes
            .iter()
            .map(|row| (row.namespaces, "namespaces created while it runs", &row.memory))
            .chain(restarted)
            .chain(follower);
        processes(self.aims.memory_mib, rows)
    }

    fn lags(&self) -> String {
        lags(self.lags.as_ref(), &format!("<= {:.0} ms", self.aims.p99_ms), "")
    }

    fn edits(&self, edits: &Edits) -> [String; 2] {
        let size = format!("{} x {}", edits.registries, edits.namespaces);
        let rows = edits.cases.iter().map(|case| {
            let what = format!(
                "{size}: {} ({} pull secrets)",
                case.what, case.measured.pull_secrets
            );
            (what, &case.measured)
        });
        [
            self.times("REGISTRIES x NAMESPACES", rows.clone()),
            calls("REGISTRIES x NAMESPACES", rows),
        ]
    }

    /// Of many registries.
    fn many(&self, many: &Many) -> Vec<String> {
        let refreshes = [("one", &many.refreshes_of_one), ("all", &many.refreshes_of_all)];
        let refreshes = refreshes.map(|(what, refreshes)| {
            let what = format!(
                "{what} of {}: {} pull secrets",
                many.registries, refreshes.pull_secrets
            );
            (what, refreshes)
        });
        let processes_of_many = many
            .memory
            .iter()
            .map(|of| (many.namespaces, of.process, &of.memory));
        // The aim is about both.
        let aim = format!("<= the floor's + {:.0} ms", self.aims.p99_of_many_ms);
        vec![
            self.times("REFRESH", refreshes.clone().into_iter()),
            calls("REFRESH", refreshes.into_iter()),
            processes(self.aims.memory_of_many_mib, processes_of_many),
            lags(many.demands.as_ref(), "", &aim),
        ]
    }
}

/// The calls of refreshes to the API server.
fn calls<'a>(first: &str, rows: impl Iterator<Item = (String, &'a Refreshes)>) -> String {
    let head = [first, "VERB", "RESOURCE", "PER REFRESH", "PER PULL SECRET"];
    let rows = rows.flat_map(|(first, refreshes)| {
        refreshes.api_calls.iter().enumerate().map(move |(index, calls)| {
            let first = if index == 0 { first.clone() } else { String::new() };
            [
                first,
                calls.verb.clone(),
                calls.resource.clone(),
                format!("{:.1}", calls.per_refresh),
                shown(calls.per_pull_secret, format!("{:.4}", calls.per_pull_secret)),
            ]
        })
    });
    with_head(head, rows)
}

/// The memory of processes.
fn processes<'a>(aim: f64, rows: impl Iterator<Item = (usize, &'a str, &'a Memory)>) -> String {
    let rows = rows.map(|(namespaces, process, memory)| {
        [
            namespaces.to_string(),
            process.to_owned(),
            format!("{:.1} MiB", memory.resident_kib / 1024.0),
            format!("{:.1} MiB", memory.peak_kib / 1024.0),
            format!("<= {aim:.0} MiB"),
        ]
    });
    with_head(["NAMESPACES", "PROCESS", "RESIDENT", "PEAK", "AIM"], rows)
}

/// From Pods to their Secrets; with the aim of the time from the answer, and from the request.
fn lags(lags: Option<&Lags>, aim_of_answered: &str, aim_of_asked: &str) -> String {
    let rows = lags.into_iter().flat_map(|lags| {
        [
            (
                "from the answer to the Pod's creation until the Secret's event",
                &lags.answered,
                aim_of_answered,
            ),
            (
                "from the request to create the Pod until the Secret's event",
                &lags.asked,
                aim_of_asked,
            ),
            (
                "floor: from the request to apply the Secret until its event",
                &lags.floor,
                "",
            ),
        ]
        .map(|(what, lag, aim)| {
            [
                what.to_owned(),
                lag.count.to_string(),
                format!("{:.1} ms", lag.p50_ms),
                format!("{:.1} ms", lag.p99_ms),
                format!("{:.1} ms", lag.worst_ms),
                aim.to_owned(),
            ]
        })
    });
    with_head(["FROM, TO", "COUNT", "P50", "P99", "WORST", "AIM OF P99"], rows)
}

/// A figure, unless nothing was measured.
fn shown(figure: f64, text: String) -> String {
    if figure.is_finite() { text } else { "-".to_owned() }
}

fn with_head<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let lines: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    table(&lines)
}

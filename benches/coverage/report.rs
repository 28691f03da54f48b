//! What was measured, for people and for scripts.

use pullpass_test_support::Installation;
use serde::Serialize;

use crate::calls::Calls;
use crate::served::Served;
use crate::support::{Output, Result, median, table};
use crate::world;

/// Resident memory of a leader at 100,000 Pods, at most: docs/benchmarks.md says why.
const MEMORY_AIM_MIB: f64 = 96.0;

/// Everything that was measured.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) pods: usize,
    pub(crate) namespaces: usize,
    /// What it took to make the Pods.
    pub(crate) making_seconds: f64,
    pub(crate) start: Option<Start>,
    /// From the answer to the last Pod of a rollout until the gauge is right.
    pub(crate) rollout_lags_seconds: Vec<f64>,
    pub(crate) memory: Vec<Memory>,
}

/// The start of a leader.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Start {
    /// From leading to a gauge that is right.
    seconds: f64,
    /// A client that reads the same Pods: the median.
    floor_seconds: f64,
    /// The time as a multiple of the floor's.
    ratio: f64,
    floor_pods: usize,
    calls: Vec<Call>,
    served: Served,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    verb: String,
    resource: String,
    count: f64,
}

impl Start {
    /// Puts a start beside its floor.
    pub(crate) fn new(
        seconds: f64,
        (floors, floor_pods): (&[f64], usize),
        calls: &Calls,
        served: Served,
    ) -> Self {
        let floor_seconds = median(floors.iter().copied());
        Self {
            seconds,
            floor_seconds,
            ratio: seconds / floor_seconds,
            floor_pods,
            calls: calls
                .iter()
                .map(|(verb, resource, count)| Call {
                    verb: verb.to_owned(),
                    resource: resource.to_owned(),
                    count,
                })
                .collect(),
            served,
        }
    }
}

/// The memory of a process.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Memory {
    of: String,
    resident_kib: f64,
    peak_kib: f64,
}

impl Memory {
    /// Of a replica as it is now.
    pub(crate) fn of(what: &str, replica: &mut Installation<'_>) -> Result<Self> {
        let (resident_kib, peak_kib) = world::memory_of(replica)?;
        Ok(Self {
            of: what.to_owned(),
            resident_kib,
            peak_kib,
        })
    }
}

impl Report {
    /// The report as text.
    pub(crate) fn render(&self, output: Output) -> serde_json::Result<String> {
        Ok(match output {
            Output::Json => serde_json::to_string_pretty(self)? + "\n",
            Output::Table => [self.gauges(), self.calls(), self.memory()].join("\n"),
        })
    }

    fn gauges(&self) -> String {
        let head = ["PODS", "NAMESPACES", "UNTIL THE GAUGE IS RIGHT", "FLOOR", "RATIO"];
        let mut lines = vec![head.map(str::to_owned)];
        let size = [self.pods.to_string(), self.namespaces.to_string()];
        if let Some(start) = &self.start {
            let [pods, namespaces] = size.clone();
            lines.push([
                pods,
                namespaces,
                format!("{:.2} s after it leads", start.seconds),
                format!("{:.2} s for {} Pods", start.floor_seconds, start.floor_pods),
                format!("{:.2}", start.ratio),
            ]);
        }
        for lag in &self.rollout_lags_seconds {
            let [pods, namespaces] = size.clone();
            lines.push([
                pods,
                namespaces,
                format!("{lag:.2} s after a rollout"),
                String::new(),
                String::new(),
            ]);
        }
        table(&lines)
    }

    fn calls(&self) -> String {
        let Some(start) = &self.start else {
            return String::new();
        };
        let head = ["WHAT A LEADER'S START COSTS THE API SERVER", "COUNT"];
        let of_calls = start
            .calls
            .iter()
            .map(|call| (format!("{} {}", call.verb, call.resource), call.count));
        let served = &start.served;
        let of_pods = [
            (
                "Pods that a watch begins with, from the cache",
                served.initial_events,
            ),
            ("lists of Pods from the cache", served.lists_from_cache),
            ("lists of Pods from etcd", served.lists_from_etcd),
            ("Pods read from etcd", served.pods_from_etcd),
        ]
        .map(|(what, count)| (what.to_owned(), count));
        let lines = of_calls
            .chain(of_pods)
            .map(|(what, count)| [what, format!("{count:.0}")]);
        table(
            &std::iter::once(head.map(str::to_owned))
                .chain(lines)
                .collect::<Vec<_>>(),
        )
    }

    fn memory(&self) -> String {
        let head = ["MEMORY", "RESIDENT", "PEAK", "AIM AT 100,000 PODS"];
        let lines = self.memory.iter().map(|memory| {
            [
                memory.of.clone(),
                format!("{:.1} MiB", memory.resident_kib / 1024.0),
                format!("{:.1} MiB", memory.peak_kib / 1024.0),
                format!("<= {MEMORY_AIM_MIB:.0} MiB"),
            ]
        });
        table(
            &std::iter::once(head.map(str::to_owned))
                .chain(lines)
                .collect::<Vec<_>>(),
        )
    }
}

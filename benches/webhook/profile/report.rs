//! What a profile shows: samples for each part, as microseconds of a review.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::parts::{Part, Place, place_of};
use super::samples::Sample;
use crate::support::{Output, table};

/// How many functions that no part has are named.
const UNASSIGNED: usize = 3;
/// How many functions of each server the report for scripts has.
const FUNCTIONS: usize = 60;
/// What the table calls functions that no part has.
const NO_PART: &str = "not assigned";

/// The samples of one server, by where they were taken.
#[derive(Debug, Default)]
pub(crate) struct Counts(BTreeMap<Place, u64>);

impl Counts {
    /// Counts these, too.
    pub(crate) fn add(&mut self, samples: &[Sample<'_>]) {
        for place in samples.iter().filter_map(place_of) {
            *self.0.entry(place).or_default() += 1;
        }
    }

    fn all(&self) -> u64 {
        self.0.values().sum()
    }

    fn of(&self, part: Option<Part>) -> u64 {
        let of_part = self.0.iter().filter(|(place, _)| place.part == part);
        of_part.map(|(_, count)| count).sum()
    }
}

/// What was measured of one server.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where its samples were taken.
    pub(crate) counts: Counts,
    /// The reviews that it answered meanwhile.
    pub(crate) requests: usize,
    /// Microseconds of processor time for a review without the profiler, which ran alternately.
    pub(crate) micros: f64,
    /// The same under the profiler.
    pub(crate) profiled_micros: f64,
}

impl Server {
    /// So many samples as microseconds of a review. The profiler slows all parts down, so it is its share that a part has of the
    /// time without it.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a profile has far fewer than 2^52 samples"
    )]
    fn scaled(&self, samples: u64) -> f64 {
        self.micros * samples as f64 / self.counts.all() as f64
    }

    fn figures(&self) -> Figures {
        Figures {
            requests: self.requests,
            samples: self.counts.all(),
            cpu_micros_per_request: self.micros,
            profiled_cpu_micros_per_request: self.profiled_micros,
            functions: self.largest(FUNCTIONS, |_| true),
        }
    }

    /// The functions with the most samples of those that are `wanted`.
    fn largest(&self, most: usize, wanted: impl Fn(&Place) -> bool) -> Vec<Entry> {
        let mut places: Vec<_> = self.counts.0.iter().filter(|(place, _)| wanted(place)).collect();
        places.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let largest = places.into_iter().take(most);
        largest
            .map(|(place, count)| Entry {
                function: place.function.clone(),
                part: place.part,
                micros: self.scaled(*count),
            })
            .collect()
    }
}

/// The processor time for a review of one size, by the parts of the work on it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Profile {
    size: &'static str,
    bytes: usize,
    pullpass: Figures,
    floor: Figures,
    /// The part with the largest difference first; those that no part has are last.
    parts: Vec<Row>,
    /// The largest of those that no part has, of both servers.
    unassigned: Vec<Entry>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    requests: usize,
    samples: u64,
    cpu_micros_per_request: f64,
    profiled_cpu_micros_per_request: f64,
    /// The largest ones.
    functions: Vec<Entry>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    part: Option<Part>,
    pullpass_micros: f64,
    floor_micros: f64,
    difference_micros: f64,
}

/// A function, with what it uses by itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    function: String,
    part: Option<Part>,
    micros: f64,
}

impl Profile {
    /// Puts the profiles of both servers beside each other.
    pub(crate) fn new((size, bytes): (&'static str, usize), pullpass: &Server, floor: &Server) -> Self {
        let places = pullpass.counts.0.keys().chain(floor.counts.0.keys());
        let parts: BTreeSet<_> = places.map(|place| place.part).collect();
        let mut parts: Vec<_> = parts
            .into_iter()
            .map(|part| {
                let micros = |server: &Server| server.scaled(server.counts.of(part));
                Row {
                    part,
                    pullpass_micros: micros(pullpass),
                    floor_micros: micros(floor),
                    difference_micros: micros(pullpass) - micros(floor),
                }
            })
            .collect();
        parts.sort_by(|a, b| {
            let order = |row: &Row| row.part.is_none();
            order(a)
                .cmp(&order(b))
                .then(b.difference_micros.total_cmp(&a.difference_micros))
        });
        let no_part = |place: &Place| place.part.is_none();
        let mut unassigned = pullpass.largest(UNASSIGNED, no_part);
        unassigned.extend(floor.largest(UNASSIGNED, no_part));
        unassigned.sort_by(|a, b| b.micros.total_cmp(&a.micros));
        unassigned.truncate(UNASSIGNED);
        Self {
            size,
            bytes,
            pullpass: pullpass.figures(),
            floor: floor.figures(),
            parts,
            unassigned,
        }
    }

    fn table(&self) -> String {
        let mut lines = vec![["PART", "PULLPASS", "FLOOR", "DIFFERENCE"].map(str::to_owned)];
        let micros = |micros: f64| format!("{micros:.2} us");
        let line = |name: &str, pullpass: f64, floor: f64| {
            [
                name.to_owned(),
                micros(pullpass),
                micros(floor),
                micros(pullpass - floor),
            ]
        };
        let rows = self.parts.iter();
        lines.extend(rows.map(|row| {
            let name = row.part.map_or(NO_PART, Part::name);
            line(name, row.pullpass_micros, row.floor_micros)
        }));
        let Self { pullpass, floor, .. } = self;
        lines.push(line(
            "all, without the profiler",
            pullpass.cpu_micros_per_request,
            floor.cpu_micros_per_request,
        ));
        lines.push(line(
            "all, under the profiler",
            pullpass.profiled_cpu_micros_per_request,
            floor.profiled_cpu_micros_per_request,
        ));
        let count =
            |name: &str, pullpass: String, floor: String| [name.to_owned(), pullpass, floor, String::new()];
        lines.push(count(
            "reviews under the profiler",
            pullpass.requests.to_string(),
            floor.requests.to_string(),
        ));
        lines.push(count(
            "samples",
            pullpass.samples.to_string(),
            floor.samples.to_string(),
        ));
        let unassigned: Vec<_> = self
            .unassigned
            .iter()
            .map(|entry| format!("{NO_PART}: {:.2} us in {}\n", entry.micros, entry.function))
            .collect();
        format!(
            "{}, {} bytes; each part has its share of the samples, of the time without the profiler\n{}{}",
            self.size,
            self.bytes,
            table(&lines),
            unassigned.concat()
        )
    }
}

/// Profiles as text.
pub(crate) fn render(profiles: &[Profile], output: Output) -> serde_json::Result<String> {
    Ok(match output {
        Output::Json => serde_json::to_string_pretty(profiles)? + "\n",
        Output::Table => {
            let tables: Vec<_> = profiles.iter().map(Profile::table).collect();
            tables.join("\n")
        }
    })
}

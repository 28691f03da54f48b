//! Shows a person what pullpass does, on a real control plane that is gone afterwards.

#![forbid(unsafe_code)]

mod paper;
mod with_cluster;
mod without_cluster;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use pullpass_test_support::{ControlPlane, Error};
use serde_json::Value;

use crate::paper::{Paper, line};

/// Where the examples are, for a person and for this program.
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
const REGISTRY: &str = "mycontainerregistry.yaml";
const DEPLOYMENT: &str = "acr-nginx.yaml";

/// Show what pullpass does: a control plane, a registry, a Deployment, and the decisions on its Pods
#[derive(Debug, Parser)]
struct Args {
    /// The pullpass binary
    #[arg(long, value_name = "FILE", default_value = "target/debug/pullpass")]
    pullpass: PathBuf,
    /// Leave everything running until Ctrl-C, to try things out
    #[arg(long)]
    keep: bool,
    /// Start no control plane: send a review to pullpass with curl
    #[arg(long, conflicts_with = "keep")]
    no_cluster: bool,
    /// Start no node, as on a machine that can't have one: another client pulls the image
    #[arg(long)]
    no_node: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Error> {
    if !args.pullpass.is_file() {
        return Err(io_error(
            format!("{}: build it first, with cargo build", args.pullpass.display()),
            io::ErrorKind::NotFound,
        ));
    }
    let mut paper = Paper::new();
    if args.no_cluster {
        return without_cluster::run(&mut paper, &args.pullpass);
    }
    let begin = Instant::now();
    match ControlPlane::start() {
        Ok(control_plane) => with_cluster::run(&mut paper, args, control_plane, begin.elapsed()),
        Err(Error::Unavailable(reason)) => {
            paper.warning(&format!("There is no control plane to be had here: {reason}."));
            paper.text("So here is the same without one.");
            without_cluster::run(&mut paper, &args.pullpass)
        }
        Err(error) => Err(error),
    }
}

fn io_error(what: String, kind: io::ErrorKind) -> Error {
    Error::Io {
        what,
        source: kind.into(),
    }
}

fn example(name: &str) -> Result<String, Error> {
    let path = format!("{EXAMPLES}/{name}");
    fs::read_to_string(&path).map_err(|source| Error::Io {
        what: format!("reading {path}"),
        source,
    })
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The strings of a list, with commas between; each entry's own pointer leads to it.
fn joined(value: &Value, list: &str, entry: &str) -> String {
    let entries: Vec<_> = value
        .pointer(list)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|item| text(item, entry))
        .collect();
    entries.join(", ")
}

/// The decisions in the audit log, as far as a person wants to read them.
fn show_records(paper: &Paper, records: &[Value]) {
    let rows: Vec<_> = records
        .iter()
        .map(|record| {
            // The time of day, without the date and the zone.
            let time = text(record, "/time").split(['T', 'Z']).nth(1).unwrap_or_default();
            let micros = record
                .pointer("/durationMicros")
                .and_then(Value::as_u64)
                .unwrap_or_default();
            vec![
                time.to_owned(),
                format!("{}…", text(record, "/pod/generateName")),
                text(record, "/decision").to_owned(),
                format!("{micros} µs"),
                joined(record, "/injected", ""),
            ]
        })
        .collect();
    paper.table(&["TIME (UTC)", "POD", "DECISION", "TOOK", "ADDED"], &rows);
    if let Some(record) = records.first() {
        line("");
        let field = |name: &str, value: String| vec![name.to_owned(), value];
        paper.table(
            &["FIELD", "OF THE FIRST"],
            &[
                field("image", joined(record, "/images", "/reference")),
                field("registry", joined(record, "/images", "/registry")),
                field(
                    "pod.owner",
                    format!(
                        "{} {}",
                        text(record, "/pod/owner/kind"),
                        text(record, "/pod/owner/name")
                    ),
                ),
                field("user", text(record, "/user").to_owned()),
                field("mode", text(record, "/mode").to_owned()),
                field("reason", text(record, "/reason").to_owned()),
            ],
        );
    }
}

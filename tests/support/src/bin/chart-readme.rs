//! Prints the README of the chart in a directory, for `make generate`.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use pullpass_test_support::chart_readme;

/// Print the README of a Helm chart.
#[derive(Debug, Parser)]
struct Args {
    /// The chart's directory
    chart: PathBuf,
}

fn main() -> ExitCode {
    match chart_readme(&Args::parse().chart) {
        Ok(page) => {
            print!("{page}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("chart-readme: {error}");
            ExitCode::FAILURE
        }
    }
}

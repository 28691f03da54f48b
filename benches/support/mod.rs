//! What the benchmarks share: how results are put together and written, and what is read of a process.

use std::fs;
use std::process::ExitCode;

use clap::ValueEnum;

/// What may go wrong in a benchmark: all of it ends the run.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Runs a benchmark, as the program's own `main` would.
pub(crate) fn main(name: &str, run: impl FnOnce() -> Result<()>) -> ExitCode {
    // An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How the result is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Table,
    /// For scripts
    Json,
}

/// Lines of cells as text, with aligned columns.
pub(crate) fn table(lines: &[impl AsRef<[String]>]) -> String {
    let mut text = String::new();
    for cells in lines {
        let padded: Vec<_> = cells
            .as_ref()
            .iter()
            .enumerate()
            .map(|(column, cell)| {
                let width = lines
                    .iter()
                    .filter_map(|line| line.as_ref().get(column))
                    .map(String::len)
                    .max();
                format!("{cell:<width$}", width = width.unwrap_or_default())
            })
            .collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The value in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value that so many percent of the sorted ones are below.
pub(crate) fn percentile<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let rank = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(rank).copied()
}

/// The memory that a process has in use (`VmRSS`) or had at most (`VmHWM`), in KiB.
pub(crate) fn memory(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| *name == field)
        .and_then(|(_, value)| value.trim().strip_suffix(" kB"))
        .ok_or_else(|| format!("no {field} in /proc/{pid}/status"))?;
    Ok(value.parse()?)
}

//! The process' own metrics, under the names that every Prometheus client library uses for them.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::bare;

/// Clock ticks in a second: the value of `USER_HZ`, which Linux keeps at 100 for programs on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc/self` whenever metrics are read; where there is none, it has nothing to say.
#[derive(Debug)]
pub(crate) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name, help, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        let stat = Stat::read();
        gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            status_bytes("VmRSS:"),
        )?;
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            status_bytes("VmSize:"),
        )?;
        gauge(
            "process_open_fds",
            "Number of open file descriptors.",
            open_files(),
        )?;
        gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            stat.as_ref()
                .and_then(|stat| Some(boot_time()? + stat.start_ticks / TICKS_PER_SECOND)),
        )?;
        if let Some(stat) = stat {
            let cpu = ConstCounter::new(stat.cpu_ticks / TICKS_PER_SECOND);
            let help = "Total user and system CPU time spent in seconds.";
            cpu.encode(encoder.encode_descriptor(
                bare("process_cpu_seconds_total"),
                help,
                None,
                cpu.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

struct Stat {
    cpu_ticks: f64,
    start_ticks: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The command's name is in parentheses and may hold anything; field 3 follows the last one.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_ticks: ticks(14)? + ticks(15)?,
            start_ticks: ticks(22)?,
        })
    }
}

fn status_bytes(key: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a process has far fewer than 2^52 open files"
)]
fn open_files() -> Option<f64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

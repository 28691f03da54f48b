//! The audit log as the rest of the program sees it.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::channel::{BUFFER, Channel, KEPT};
use super::otlp::OtlpSink;
use super::stream::{Destination, StreamSink};

/// How long the end of the program waits for destinations that do not take what is left.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

thread_local! {
    /// Where a line is made, before it is queued: memory that is not allocated again for each.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The audit log. Writing to it never blocks.
#[derive(Debug)]
pub struct AuditLog {
    channels: Vec<Channel>,
}

impl AuditLog {
    /// Opens the log; the error is the destination's own.
    pub fn open(destination: &Destination) -> io::Result<Self> {
        let sink = StreamSink::open(destination)?;
        Ok(Self {
            channels: vec![Channel::start("file", BUFFER, sink)?],
        })
    }

    /// The same, and sends every record to a collector too.
    pub fn with_otlp(mut self, sink: OtlpSink) -> io::Result<Self> {
        self.channels.push(Channel::start("otlp", BUFFER, sink)?);
        Ok(self)
    }

    /// Writes one record as a line. Where a destination's buffer is full it counts as dropped there.
    pub fn write(&self, record: &impl Serialize) {
        let mut line = LINE.take();
        line.clear();
        if serde_json::to_writer(&mut line, record).is_ok() {
            line.push(b'\n');
            for channel in &self.channels {
                channel.send(&line);
            }
        } else {
            for channel in &self.channels {
                channel.refuse();
            }
        }
        line.shrink_to(KEPT);
        LINE.set(line);
    }

    /// Opens the file again before the next line: after a log rotation.
    pub fn reopen(&self) {
        for channel in &self.channels {
            channel.reopen();
        }
    }

    /// Records that were dropped so far, by each destination that dropped them.
    pub fn dropped(&self) -> u64 {
        self.channels.iter().map(Channel::dropped).sum()
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        for channel in &self.channels {
            channel.close();
        }
        let end = Instant::now() + DRAIN_TIMEOUT;
        for channel in &mut self.channels {
            channel.wait(end.saturating_duration_since(Instant::now()));
        }
    }
}

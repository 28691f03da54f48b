//! Where the audit log's lines go. A slow sink costs lines, each of them counted, and never an answer.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::record::{Micros, SCHEMA};

/// How many bytes wait for the sink at most.
const BUFFER: usize = 16 << 20;
/// How long the end of the program waits for a sink that does not take what is left.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the writer rests after what it wrote. Waking it for each line would cost more than the line does.
const PAUSE: Duration = Duration::from_millis(5);
/// How many bytes are given to the sink at once, and so how much is lost when it fails.
const CHUNK: usize = 64 << 10;
/// How much of a buffer's memory is kept when it is empty again.
const KEPT: usize = 256 << 10;

thread_local! {
    /// Where a line is made, before it is queued: memory that is not asked for anew for each.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Where the audit log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A file that is appended to, and opened again when it is asked for: after a rotation.
    File(PathBuf),
}

impl FromStr for Destination {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "-" {
            Self::Stdout
        } else {
            Self::File(text.into())
        })
    }
}

/// The audit log. Writing to it never blocks.
#[derive(Debug)]
pub struct AuditLog {
    shared: Arc<Shared>,
    /// Closed when the writer has ended.
    ended: Mutex<Receiver<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Told when the writer, being idle, has something to do.
    wake: Condvar,
    queued: AtomicUsize,
    written: AtomicU64,
    dropped: AtomicU64,
    reopen: AtomicBool,
}

/// What the writer has not taken yet.
#[derive(Debug, Default)]
struct Queue {
    /// Whole lines.
    lines: Vec<u8>,
    /// Whether the writer waits to be told.
    idle: bool,
    /// Whether nothing more comes.
    closed: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue, and wakes the writer if it waits for that.
    fn tell(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue();
        change(&mut queue);
        let idle = std::mem::take(&mut queue.idle);
        drop(queue);
        if idle {
            self.wake.notify_one();
        }
    }
}

impl AuditLog {
    /// Opens the log; the error is the sink's own.
    pub fn open(destination: &Destination) -> io::Result<Self> {
        let destination = destination.clone();
        Self::with_sink(BUFFER, move || match &destination {
            Destination::Stdout => Ok(Box::new(io::stdout()) as Box<dyn Write + Send>),
            Destination::File(path) => Ok(Box::new(OpenOptions::new().create(true).append(true).open(path)?)),
        })
    }

    /// A log on whatever `open` opens, with a buffer of that many bytes.
    pub fn with_sink(
        buffer: usize,
        mut open: impl FnMut() -> io::Result<Box<dyn Write + Send>> + Send + 'static,
    ) -> io::Result<Self> {
        let sink = open()?;
        let (running, ended) = sync_channel::<()>(0);
        let shared = Arc::new(Shared::default());
        shared.queued.store(usize::MAX - buffer, Ordering::Relaxed);
        let writer = Writer {
            open: Box::new(open),
            sink,
            shared: Arc::clone(&shared),
            reported: 0,
        };
        thread::Builder::new().name("audit".to_owned()).spawn(move || {
            writer.run();
            drop(running);
        })?;
        Ok(Self {
            shared,
            ended: Mutex::new(ended),
        })
    }

    /// Writes one record as a line, or counts it as dropped when the buffer is full.
    pub fn write(&self, record: &impl Serialize) {
        let mut line = LINE.take();
        line.clear();
        if serde_json::to_writer(&mut line, record).is_ok() {
            line.push(b'\n');
            self.queue(&line);
        } else {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
        line.shrink_to(KEPT);
        LINE.set(line);
    }

    fn queue(&self, line: &[u8]) {
        let size = line.len();
        // The counter starts so that it overflows when the buffer is full: one atomic step decides.
        let fits = self
            .shared
            .queued
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |queued| {
                queued.checked_add(size)
            });
        if fits.is_ok() {
            self.shared.tell(|queue| queue.lines.extend_from_slice(line));
        } else {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the sink again before the next line: after a log rotation.
    pub fn reopen(&self) {
        self.shared
            .tell(|_| self.shared.reopen.store(true, Ordering::Release));
    }

    /// Records that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Records that the sink took so far.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.shared.tell(|queue| queue.closed = true);
        // An error is what is hoped for: the writer has ended. A sink that hangs must not keep the program.
        let _ = self
            .ended
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .recv_timeout(DRAIN);
    }
}

struct Writer {
    open: Box<dyn FnMut() -> io::Result<Box<dyn Write + Send>> + Send>,
    sink: Box<dyn Write + Send>,
    shared: Arc<Shared>,
    /// Drops that the log itself tells of already.
    reported: u64,
}

impl Writer {
    fn run(mut self) {
        let mut lines = Vec::new();
        while self.take(&mut lines) {
            self.reopen_if_asked();
            self.write(&lines);
            self.report_drops();
            thread::sleep(PAUSE);
        }
        self.report_drops();
    }

    /// Waits until there is something to do, and takes the lines that are there; false when nothing more comes.
    fn take(&self, lines: &mut Vec<u8>) -> bool {
        lines.clear();
        lines.shrink_to(KEPT);
        let mut queue = self.shared.queue();
        while queue.lines.is_empty() && !self.shared.reopen.load(Ordering::Acquire) {
            if queue.closed {
                return false;
            }
            queue.idle = true;
            queue = self
                .shared
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        queue.idle = false;
        std::mem::swap(&mut queue.lines, lines);
        true
    }

    fn write(&mut self, mut lines: &[u8]) {
        while let Some((chunk, rest)) = lines
            .split_at_checked(chunk_end(lines))
            .filter(|_| !lines.is_empty())
        {
            self.reopen_if_asked();
            let count = chunk.iter().map(|byte| u64::from(*byte == b'\n')).sum();
            match self.sink.write_all(chunk).and_then(|()| self.sink.flush()) {
                Ok(()) => {
                    self.shared.written.fetch_add(count, Ordering::Relaxed);
                }
                Err(error) => self.lost(count, &error),
            }
            self.shared.queued.fetch_sub(chunk.len(), Ordering::AcqRel);
            lines = rest;
        }
    }

    /// Some of these lines may have been written, and one of them torn: all count as lost.
    fn lost(&mut self, lines: u64, error: &io::Error) {
        self.shared.dropped.fetch_add(lines, Ordering::Relaxed);
        tracing::error!(%error, "the audit log can't be written; records are lost until it can be");
        match (self.open)() {
            Ok(sink) => self.sink = sink,
            Err(error) => tracing::error!(%error, "the audit log can't be opened"),
        }
    }

    fn reopen_if_asked(&mut self) {
        if !self.shared.reopen.swap(false, Ordering::AcqRel) {
            return;
        }
        match (self.open)() {
            Ok(sink) => self.sink = sink,
            Err(error) => {
                tracing::error!(%error, "the audit log can't be opened again; the old file is written on");
            }
        }
    }

    /// Says in the log itself how many records are missing from it.
    fn report_drops(&mut self) {
        #[derive(Serialize)]
        struct Gap {
            schema: &'static str,
            time: Micros,
            dropped: u64,
        }
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        let missing = dropped.saturating_sub(self.reported);
        if missing == 0 {
            return;
        }
        let notice = Gap {
            schema: SCHEMA,
            time: Micros(Timestamp::now()),
            dropped: missing,
        };
        if let Ok(mut line) = serde_json::to_vec(&notice) {
            line.push(b'\n');
            if self
                .sink
                .write_all(&line)
                .and_then(|()| self.sink.flush())
                .is_ok()
            {
                self.reported = dropped;
            }
        }
    }
}

/// Where a chunk ends: behind a line's end, and where a line allows it not behind `CHUNK` bytes.
fn chunk_end(lines: &[u8]) -> usize {
    let is_end = |byte: &u8| *byte == b'\n';
    let end = match lines.get(..CHUNK) {
        None => None,
        Some(chunk) => chunk
            .iter()
            .rposition(is_end)
            .or_else(|| lines.iter().position(is_end)),
    };
    end.map_or(lines.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::mpsc::SyncSender;

    /// A sink that takes a write only when the test lets it.
    struct Gated {
        gate: Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // A closed gate lets everything through.
            let _ = self.gate.recv();
            self.written
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated(buffer: usize) -> (AuditLog, SyncSender<()>, Arc<Mutex<Vec<u8>>>) {
        let (open_gate, gate) = sync_channel(0);
        let written = Arc::new(Mutex::new(Vec::new()));
        let mut sink = Some(Gated {
            gate,
            written: Arc::clone(&written),
        });
        let log = AuditLog::with_sink(buffer, move || {
            Ok(Box::new(sink.take().ok_or(io::ErrorKind::Other)?))
        })
        .unwrap();
        (log, open_gate, written)
    }

    #[test]
    fn a_slow_sink_loses_no_answer_and_every_record_is_accounted_for() {
        let (log, gate, written) = gated(64 << 10);
        for number in 0..10_000 {
            log.write(&json!({"number": number, "padding": "x".repeat(100)}));
        }
        let dropped_before = log.dropped();
        assert!(dropped_before > 0, "the buffer holds less than all");
        drop(gate);
        drop(log);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let records = lines.iter().filter(|line| line.get("number").is_some()).count() as u64;
        let told: u64 = lines.iter().filter_map(|line| line["dropped"].as_u64()).sum();
        assert_eq!((records + told, told), (10_000, dropped_before));
    }

    #[test]
    fn a_file_is_opened_again_when_asked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let log = AuditLog::open(&Destination::File(path.clone())).unwrap();
        log.write(&1);
        while log.written() < 1 {
            thread::yield_now();
        }
        let rotated = directory.path().join("audit.log.1");
        std::fs::rename(&path, &rotated).unwrap();
        log.reopen();
        log.write(&2);
        drop(log);
        assert_eq!(std::fs::read_to_string(rotated).unwrap(), "1\n");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "2\n");
    }

    #[test]
    fn a_sink_that_fails_is_counted_and_opened_again() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let (mut first, file) = (true, path.clone());
        let log = AuditLog::with_sink(BUFFER, move || {
            if std::mem::take(&mut first) {
                return Ok(Box::new(Full));
            }
            Ok(Box::new(
                OpenOptions::new().create(true).append(true).open(&file)?,
            ))
        })
        .unwrap();
        log.write(&1);
        while log.dropped() < 1 {
            thread::yield_now();
        }
        log.write(&2);
        drop(log);
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains("\"dropped\":1") && text.contains("2\n"), "{text}");
    }
}

//! Where the audit log's lines go. A slow sink costs lines, each of them counted, and never an answer.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::record::{Micros, SCHEMA};

/// How many bytes wait for the sink at most.
const BUFFER: usize = 16 << 20;
/// How long the end of the program waits for a sink that does not take what is left.
const DRAIN: Duration = Duration::from_secs(5);
/// How often an idle sink looks whether it shall open its file again.
const IDLE: Duration = Duration::from_millis(200);

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
    lines: Option<Sender<Vec<u8>>>,
    shared: Arc<Shared>,
    /// Closed when the writer has ended.
    ended: Mutex<Receiver<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    queued: AtomicUsize,
    written: AtomicU64,
    dropped: AtomicU64,
    reopen: AtomicBool,
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
        let (lines, receiver) = channel();
        let (running, ended) = sync_channel::<()>(0);
        let shared = Arc::new(Shared::default());
        shared.queued.store(usize::MAX - buffer, Ordering::Relaxed);
        let writer = Writer {
            open: Box::new(open),
            sink: BufWriter::new(sink),
            shared: Arc::clone(&shared),
            reported: 0,
            pending: 0,
        };
        thread::Builder::new().name("audit".to_owned()).spawn(move || {
            writer.run(&receiver);
            drop(running);
        })?;
        Ok(Self {
            lines: Some(lines),
            shared,
            ended: Mutex::new(ended),
        })
    }

    /// Writes one record as a line, or counts it as dropped when the buffer is full.
    pub fn write(&self, record: &impl Serialize) {
        let mut line = Vec::with_capacity(1024);
        if serde_json::to_writer(&mut line, record).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        line.push(b'\n');
        let size = line.len();
        // The counter starts so that it overflows when the buffer is full: one atomic step decides.
        let fits = self
            .shared
            .queued
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |queued| {
                queued.checked_add(size)
            });
        let sent = fits.is_ok() && self.lines.as_ref().is_some_and(|lines| lines.send(line).is_ok());
        if !sent {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the sink again before the next line: after a log rotation.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
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
        self.lines = None;
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
    sink: BufWriter<Box<dyn Write + Send>>,
    shared: Arc<Shared>,
    /// Drops that the log itself tells of already.
    reported: u64,
    /// Lines that the sink's buffer holds.
    pending: u64,
}

impl Writer {
    fn run(mut self, lines: &Receiver<Vec<u8>>) {
        loop {
            match lines.recv_timeout(IDLE) {
                Ok(line) => {
                    self.line(&line);
                    while let Ok(line) = lines.try_recv() {
                        self.line(&line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.reopen_if_asked(),
                Err(RecvTimeoutError::Disconnected) => {
                    self.report_drops();
                    return self.flush();
                }
            }
            self.report_drops();
            self.flush();
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.reopen_if_asked();
        let taken = self.sink.write_all(line);
        self.pending += 1;
        if let Err(error) = taken {
            self.lost(&error);
        }
        self.shared.queued.fetch_sub(line.len(), Ordering::AcqRel);
    }

    fn flush(&mut self) {
        match self.sink.flush() {
            Ok(()) => {
                self.shared
                    .written
                    .fetch_add(std::mem::take(&mut self.pending), Ordering::Relaxed);
            }
            Err(error) => self.lost(&error),
        }
    }

    /// What the sink's buffer held is lost, and it may have torn a line: the next begins on a new one.
    fn lost(&mut self, error: &io::Error) {
        self.shared
            .dropped
            .fetch_add(std::mem::take(&mut self.pending), Ordering::Relaxed);
        tracing::error!(%error, "the audit log can't be written; records are lost until it can be");
        match (self.open)() {
            Ok(sink) => {
                // Without this, dropping the old one would try its buffer again.
                let _ = std::mem::replace(&mut self.sink, BufWriter::new(sink)).into_parts();
            }
            Err(error) => tracing::error!(%error, "the audit log can't be opened"),
        }
    }

    fn reopen_if_asked(&mut self) {
        if !self.shared.reopen.swap(false, Ordering::AcqRel) {
            return;
        }
        self.flush();
        match (self.open)() {
            Ok(sink) => self.sink = BufWriter::new(sink),
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

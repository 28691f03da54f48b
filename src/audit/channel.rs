//! One destination's queue, and the thread that empties it. A slow destination costs lines, each of them counted, and
//! never an answer.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::record::{Micros, SCHEMA};
use super::sink::{Lost, Sink, count};

/// How many bytes wait for a destination at most.
pub(super) const BUFFER: usize = 16 << 20;
/// How much of a buffer's memory is kept when it is empty again.
pub(super) const KEPT: usize = 256 << 10;
/// How long the writer rests after what it wrote. Waking it for each line would cost more than the line does.
const WRITE_INTERVAL: Duration = Duration::from_millis(5);
/// How many bytes are delivered together, and so how much is lost at most when that fails.
const CHUNK: usize = 64 << 10;

/// The way to one destination. Nothing here blocks but [`Self::wait`].
#[derive(Debug)]
pub(super) struct Channel {
    name: &'static str,
    shared: Arc<Shared>,
    /// Closed when the writer has ended.
    ended: Mutex<Receiver<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Told when the writer, being idle, has something to do.
    wake: Condvar,
    /// Bytes that wait.
    queued: AtomicUsize,
    /// Lines that wait.
    waiting: AtomicU64,
    dropped: AtomicU64,
    reopen: AtomicBool,
}

/// What the writer has not taken yet.
#[derive(Debug, Default)]
struct Queue {
    /// Whole lines.
    lines: Vec<u8>,
    /// How many.
    count: u64,
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

impl Channel {
    /// Starts the thread of a destination, with a buffer of that many bytes.
    pub(super) fn start(name: &'static str, buffer: usize, sink: impl Sink + 'static) -> io::Result<Self> {
        let (running, ended) = sync_channel::<()>(0);
        let shared = Arc::new(Shared::default());
        shared.queued.store(usize::MAX - buffer, Ordering::Relaxed);
        let writer = Writer {
            name,
            sink: Box::new(sink),
            shared: Arc::clone(&shared),
            reported: 0,
            failing: false,
        };
        thread::Builder::new()
            .name(format!("audit-{name}"))
            .spawn(move || {
                writer.run();
                drop(running);
            })?;
        Ok(Self {
            name,
            shared,
            ended: Mutex::new(ended),
        })
    }

    /// Queues a line, or counts it as dropped when the buffer is full.
    pub(super) fn send(&self, line: &[u8]) {
        let size = line.len();
        // The counter starts so that it overflows when the buffer is full: one atomic step decides.
        let fits = self
            .shared
            .queued
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |queued| {
                queued.checked_add(size)
            });
        if fits.is_ok() {
            self.shared.waiting.fetch_add(1, Ordering::Relaxed);
            self.shared.tell(|queue| {
                queue.lines.extend_from_slice(line);
                queue.count += 1;
            });
        } else {
            self.refuse();
        }
    }

    /// Counts a line that there is none of as dropped.
    pub(super) fn refuse(&self) {
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Opens the destination again before the next line.
    pub(super) fn reopen(&self) {
        self.shared
            .tell(|_| self.shared.reopen.store(true, Ordering::Release));
    }

    /// Lines that were dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Says that nothing more comes.
    pub(super) fn close(&self) {
        self.shared.tell(|queue| queue.closed = true);
    }

    /// Waits until all is delivered, within bounds: a destination that hangs must not keep the program.
    pub(super) fn wait(&mut self, bound: Duration) {
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(bound) == Err(RecvTimeoutError::Timeout) {
            tracing::error!(
                destination = self.name,
                records = self.shared.waiting.load(Ordering::Relaxed),
                "the audit log's last records were not written in time and are lost"
            );
        }
    }
}

struct Writer {
    name: &'static str,
    sink: Box<dyn Sink>,
    shared: Arc<Shared>,
    /// Drops that the log itself tells of already.
    reported: u64,
    /// Whether the last delivery failed, which is said once.
    failing: bool,
}

impl Writer {
    fn run(mut self) {
        let mut lines = Vec::new();
        while let Some(count) = self.take(&mut lines) {
            self.reopen_if_asked();
            self.deliver(&lines, count);
            self.report_drops();
            thread::sleep(WRITE_INTERVAL);
        }
        self.report_drops();
    }

    /// Waits until there is something to do, and takes the lines that are there; returns how many, or nothing when nothing
    /// more comes.
    fn take(&self, lines: &mut Vec<u8>) -> Option<u64> {
        lines.clear();
        lines.shrink_to(KEPT);
        let mut queue = self.shared.queue();
        while queue.lines.is_empty() && !self.shared.reopen.load(Ordering::Acquire) {
            if queue.closed {
                return None;
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
        Some(std::mem::take(&mut queue.count))
    }

    /// Delivers so many lines.
    fn deliver(&mut self, mut lines: &[u8], mut left: u64) {
        while let Some((chunk, rest)) = lines
            .split_at_checked(chunk_end(lines))
            .filter(|_| !lines.is_empty())
        {
            self.reopen_if_asked();
            match self.sink.deliver(chunk) {
                Ok(()) => self.delivered(),
                Err(lost) => self.lost(&lost),
            }
            // Counting reads every byte, and most of what is delivered is one chunk.
            let delivered = if rest.is_empty() { left } else { count(chunk) };
            left = left.saturating_sub(delivered);
            self.shared.waiting.fetch_sub(delivered, Ordering::Relaxed);
            self.shared.queued.fetch_sub(chunk.len(), Ordering::AcqRel);
            lines = rest;
        }
    }

    fn delivered(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!(
                destination = self.name,
                "records are written to the audit log again"
            );
        }
    }

    fn lost(&mut self, lost: &Lost) {
        self.shared.dropped.fetch_add(lost.lines, Ordering::Relaxed);
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(
                destination = self.name,
                error = lost.why,
                "the audit log can't be written; records are lost until it can be"
            );
        }
    }

    fn reopen_if_asked(&mut self) {
        if !self.shared.reopen.swap(false, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = self.sink.reopen() {
            tracing::error!(%error, "could not reopen the audit log; still writing to the previous file");
        }
    }

    /// Says in the log itself how many records are missing from it.
    fn report_drops(&mut self) {
        #[derive(Serialize)]
        struct DropNotice {
            schema: &'static str,
            time: Micros,
            dropped: u64,
        }
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        let missing = dropped.saturating_sub(self.reported);
        if missing == 0 {
            return;
        }
        let notice = DropNotice {
            schema: SCHEMA,
            time: Micros(Timestamp::now()),
            dropped: missing,
        };
        if let Ok(mut line) = serde_json::to_vec(&notice) {
            line.push(b'\n');
            if self.sink.deliver(&line).is_ok() {
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

    /// A sink that takes a chunk only when the test lets it.
    struct Gated {
        gate: Receiver<()>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Sink for Gated {
        fn deliver(&mut self, lines: &[u8]) -> Result<(), Lost> {
            // A closed gate lets everything through.
            let _ = self.gate.recv();
            self.taken.lock().unwrap().extend_from_slice(lines);
            Ok(())
        }
    }

    fn gated(buffer: usize) -> (Channel, SyncSender<()>, Arc<Mutex<Vec<u8>>>) {
        let (open_gate, gate) = sync_channel(0);
        let taken = Arc::new(Mutex::new(Vec::new()));
        let sink = Gated {
            gate,
            taken: Arc::clone(&taken),
        };
        (Channel::start("test", buffer, sink).unwrap(), open_gate, taken)
    }

    fn end(mut channel: Channel) {
        channel.close();
        channel.ended.get_mut().unwrap().recv().unwrap_err();
    }

    #[test]
    fn a_slow_sink_blocks_nobody_and_every_line_is_accounted_for() {
        let (channel, gate, taken) = gated(64 << 10);
        for number in 0..10_000 {
            channel.send(format!("{}\n", json!({"number": number, "padding": "x".repeat(100)})).as_bytes());
        }
        let dropped_before = channel.dropped();
        assert!(dropped_before > 0, "the buffer holds less than all");
        drop(gate);
        end(channel);
        let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let records = lines.iter().filter(|line| line.get("number").is_some()).count() as u64;
        let told: u64 = lines.iter().filter_map(|line| line["dropped"].as_u64()).sum();
        assert_eq!((records + told, told), (10_000, dropped_before));
    }

    #[test]
    fn a_sink_that_hangs_keeps_the_end_for_no_longer_than_that() {
        let (mut channel, gate, _) = gated(BUFFER);
        channel.send(b"1\n");
        channel.close();
        channel.wait(Duration::from_millis(1));
        assert_eq!(channel.shared.waiting.load(Ordering::Relaxed), 1);
        drop(gate);
        end(channel);
    }

    #[test]
    fn lines_that_a_sink_loses_are_counted_and_said() {
        struct LosesTwo(Arc<Mutex<Vec<u8>>>, bool);
        impl Sink for LosesTwo {
            fn deliver(&mut self, lines: &[u8]) -> Result<(), Lost> {
                if !std::mem::replace(&mut self.1, true) {
                    let why = "full".to_owned();
                    return Err(Lost { lines: 2, why });
                }
                self.0.lock().unwrap().extend_from_slice(lines);
                Ok(())
            }
        }
        let taken = Arc::new(Mutex::new(Vec::new()));
        let channel = Channel::start("test", BUFFER, LosesTwo(Arc::clone(&taken), false)).unwrap();
        channel.send(b"1\n2\n");
        end(channel);
        let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        assert!(text.contains("\"dropped\":2"), "{text}");
    }

    #[test]
    fn lines_wait_until_their_chunk_is_delivered() {
        let (channel, gate, taken) = gated(BUFFER);
        let line = [vec![b'x'; CHUNK / 2 - 1], b"\n".to_vec()].concat();
        // The writer takes the first line alone, and is then kept by its delivery.
        channel.send(&line);
        while !channel.shared.queue().lines.is_empty() {
            thread::yield_now();
        }
        for _ in 0..5 {
            channel.send(&line);
        }
        let waiting = || channel.shared.waiting.load(Ordering::Relaxed);
        assert_eq!(waiting(), 6);
        // Then two, two, and the last one.
        for left in [5, 3, 1, 0] {
            gate.send(()).unwrap();
            while waiting() > left {
                thread::yield_now();
            }
            assert_eq!(waiting(), left);
        }
        drop(gate);
        end(channel);
        assert_eq!(taken.lock().unwrap().len(), 6 * line.len());
    }

    #[test]
    fn a_chunk_ends_with_a_line() {
        let lines = |length: usize| [vec![b'x'; length], b"\n".to_vec()].concat();
        assert_eq!(chunk_end(&lines(10)), 11);
        assert_eq!(
            chunk_end(&[lines(CHUNK), lines(1)].concat()),
            CHUNK + 1,
            "a long one"
        );
        assert_eq!(chunk_end(&[lines(9), lines(CHUNK)].concat()), 10);
    }
}

//! Reads a body, within the budget for all of them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use futures::FutureExt;
use futures::future::{AbortHandle, Abortable};
use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio::task::consume_budget;
use tokio::time::timeout_at;

use super::budget::{BodyLimits, Budget, FIRST, Full, Reservation};
use crate::metrics::port::Refusal;

/// What a large body grows by.
const CHUNK: usize = 256 << 10;
/// What of a large body counts as one step of a task, which has 128 of them before another task's turn.
const TURN: usize = 256;

/// A complete body, and the room that it takes until it is answered.
#[derive(Debug)]
pub(super) struct ReadBody {
    pub(super) bytes: Bytes,
    _reservation: Reservation,
}

impl From<Full> for Refusal {
    fn from(Full: Full) -> Self {
        Self::Memory
    }
}

/// Reads a body of a peer. `announced` is the length that its headers name.
pub(super) async fn read(
    budget: &Arc<Budget>,
    peer: IpAddr,
    announced: Option<usize>,
    mut body: Body,
) -> Result<ReadBody, Refusal> {
    if announced.is_some_and(|length| length > budget.limits.largest) {
        return Err(Refusal::TooLarge);
    }
    // Most reviews are there as a whole by now, and need no more than their room.
    let first = body.frame().now_or_never();
    if let Some(Some(Ok(frame))) = &first
        && let Some(piece) = frame.data_ref()
        && body.is_end_stream()
        && (1..=budget.limits.largest).contains(&piece.len())
    {
        let reservation = budget.enter_complete(peer, piece.len())?;
        return Ok(ReadBody {
            bytes: piece.clone(),
            _reservation: reservation,
        });
    }
    let (handle, registration) = AbortHandle::new_pair();
    let reservation = budget.enter(peer, handle)?;
    let reading = collect(&budget.limits, &reservation, announced, first, body);
    let Ok(bytes) = Abortable::new(reading, registration).await else {
        return Err(Refusal::Memory);
    };
    let bytes = bytes?;
    reservation.complete();
    Ok(ReadBody {
        bytes,
        _reservation: reservation,
    })
}

/// What a body has next: nothing at its end.
type Next = Option<Result<Frame<Bytes>, axum::Error>>;

/// Reads the rest of a body, whose first part may have been read.
async fn collect(
    limits: &BodyLimits,
    reservation: &Reservation,
    announced: Option<usize>,
    mut first: Option<Next>,
    mut body: Body,
) -> Result<Bytes, Refusal> {
    let begun = Instant::now();
    let end = begun + limits.read_timeout;
    let mut idle_end = begun + limits.idle_timeout;
    let mut read = Gathered::default();
    loop {
        let frame = match first.take() {
            Some(frame) => frame,
            None => timeout_at(idle_end.min(end).into(), body.frame())
                .await
                .map_err(|_| Refusal::SlowBody)?,
        };
        let Some(frame) = frame else {
            return read.whole();
        };
        // Trailers say nothing, and a piece without bytes is no progress.
        let Ok(piece) = frame.map_err(|_| Refusal::Incomplete)?.into_data() else {
            continue;
        };
        if piece.is_empty() {
            continue;
        }
        let length = read.length + piece.len();
        if length > limits.largest {
            return Err(Refusal::TooLarge);
        }
        if read.length == 0 && body.is_end_stream() {
            reservation.grow(length.max(FIRST))?;
            return Ok(piece);
        }
        // Copied, since a piece holds on to all of what it was read with.
        let mut rest = &*piece;
        while !rest.is_empty() {
            if let Some(more) = read.wanted(announced.unwrap_or(limits.largest)) {
                reservation.grow((read.capacity + more).max(FIRST))?;
                read.extend(more)?;
            }
            rest = read.append(rest);
        }
        let now = Instant::now();
        reservation.arrives(now);
        idle_end = now + limits.idle_timeout;
        if length > limits.small {
            // A task may read megabytes before it is some other one's turn: many uploads would make reviews
            // wait.
            for _ in 0..piece.len() / TURN {
                consume_budget().await;
            }
        }
    }
}

/// What of a body is there. A large one is kept in chunks: a buffer that grows would be there twice whenever
/// it does, and buffers of all lengths leave gaps.
#[derive(Debug, Default)]
struct Gathered {
    chunks: Vec<Vec<u8>>,
    capacity: usize,
    length: usize,
}

impl Gathered {
    /// How much more room is needed, if there is none left, for a body of `end` bytes at most.
    fn wanted(&self, end: usize) -> Option<usize> {
        let left = end.saturating_sub(self.capacity);
        let more = match left {
            0 => FIRST,
            left => (3 * self.capacity).clamp(FIRST, CHUNK).min(left),
        };
        (self.length == self.capacity).then_some(more)
    }

    /// Makes room: in the first chunk as long as it is less than a whole one, then in another one.
    fn extend(&mut self, more: usize) -> Result<(), Full> {
        let chunk = match self.chunks.last_mut() {
            Some(chunk) if self.capacity < CHUNK => chunk,
            _ => self.chunks.push_mut(Vec::new()),
        };
        chunk.try_reserve_exact(more).map_err(|_| Full)?;
        self.capacity += more;
        Ok(())
    }

    /// Takes as much of `piece` as there is room for, and gives back the rest.
    fn append<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let (taken, rest) = piece.split_at(piece.len().min(self.capacity - self.length));
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.extend_from_slice(taken);
            self.length += taken.len();
        }
        rest
    }

    /// The body as one; a chunk goes when it is copied.
    fn whole(mut self) -> Result<Bytes, Refusal> {
        if self.chunks.len() < 2 {
            return Ok(self.chunks.pop().unwrap_or_default().into());
        }
        let mut whole = Vec::new();
        whole
            .try_reserve_exact(self.length)
            .map_err(|_| Refusal::Memory)?;
        for chunk in self.chunks {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gathers a body that comes in pieces; also gives the capacities on the way.
    fn gather(length: usize, piece: usize, end: usize) -> (Gathered, Vec<usize>) {
        let body: Vec<u8> = (0..=250).cycle().take(length).collect();
        let (mut read, mut capacities) = (Gathered::default(), Vec::new());
        for mut rest in body.chunks(piece) {
            while !rest.is_empty() {
                if let Some(more) = read.wanted(end) {
                    read.extend(more).unwrap();
                    capacities.push(read.capacity);
                }
                rest = read.append(rest);
            }
        }
        let held: usize = read.chunks.iter().map(Vec::capacity).sum();
        assert_eq!(read.capacity, held);
        (read, capacities)
    }

    #[test]
    fn room_grows_with_what_arrived_up_to_what_was_announced() {
        for (length, end, expected) in [
            (1, 1_000_000, vec![FIRST]),
            (1, 100, vec![100]),
            (100, 100, vec![100]),
            (FIRST + 1, 1_000_000, vec![FIRST, 4 * FIRST]),
            (5 * FIRST, 1_000_000, vec![FIRST, 4 * FIRST, 16 * FIRST]),
            (40_000, 40_000, vec![FIRST, 40_000]),
        ] {
            assert_eq!(gather(length, 1000, end).1, expected, "{length} of {end}");
        }
        let (_, capacities) = gather(3 * CHUNK + 1, 10_000, 4 * CHUNK);
        assert_eq!(capacities.last(), Some(&(4 * CHUNK)));
        let steps = capacities.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(steps.max() <= Some(CHUNK), "{capacities:?}");
    }

    #[test]
    fn a_body_is_put_together_as_it_came() {
        for (length, piece, end) in [
            (0, 1, 10),
            (10, 3, 10),
            (100_000, 100_000, 100_000),
            (CHUNK, 9999, CHUNK),
            (3 * CHUNK + 5, 70_000, 3 * CHUNK + 5),
            (CHUNK + 5, 1 << 20, 32 << 20),
            // More than was announced, which HTTP rules out.
            (100_000, 1000, 10),
        ] {
            let whole = gather(length, piece, end).0.whole().unwrap();
            let expected: Vec<u8> = (0..=250).cycle().take(length).collect();
            assert!(whole == expected, "{length} in {piece}");
        }
    }
}

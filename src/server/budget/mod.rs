//! The memory that bodies may use while they arrive, for the whole process.
//!
//! A body reserves memory as it arrives, whatever length it announces. Small and large bodies have separate pools, so
//! that a review of the usual size never waits for large ones. If a pool is full, a body that stopped arriving is
//! ended first, whichever peer sends it; then one of the peer that uses the most. So no peer keeps memory from another
//! one, and if there is only one peer, for example a proxy in front of all API servers, it may use all of it.

use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::AbortHandle;
use nohash_hasher::IntMap;

/// What every body reserves from its beginning: what the request itself takes, and the usual review.
pub(super) const FIRST: usize = 16 << 10;
/// A body that has not grown for so long may be ended for one that grows. Longer than a lost packet takes to
/// be sent again.
const STALL_TIMEOUT: Duration = Duration::from_millis(250);

/// The memory that bodies may use.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// The largest body, in bytes. The API server accepts an object of up to 3 MiB and stores up to 1.5 MiB; an
    /// update has both, and JSON needs six bytes for one that is escaped: 27 MiB.
    pub largest: usize,
    /// The largest body that counts as small, in bytes.
    pub small: usize,
    /// The memory that all small bodies may use together, in bytes.
    pub all_small: usize,
    /// The memory that all other bodies may use together, in bytes. At least two of the largest ones, so that two peers
    /// do not exclude each other.
    pub all_large: usize,
    /// How long a body may stop arriving.
    pub idle_timeout: Duration,
    /// How long a body may take. No API server waits longer for a webhook.
    pub read_timeout: Duration,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self {
            largest: 32 << 20,
            small: 256 << 10,
            all_small: 32 << 20,
            all_large: 64 << 20,
            idle_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(30),
        }
    }
}

/// There is no room for a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// A body that has a reservation.
#[derive(Debug)]
struct Body {
    peer: IpAddr,
    bytes: usize,
    grew: Instant,
    /// Ends the reading of it; nothing once it is complete, since work on it can't be taken back.
    arriving: Option<AbortHandle>,
}

/// Every reservation, and their sums.
#[derive(Debug, Default)]
struct Reserved {
    /// By ids that are counted here. A client chooses at most which of them stay, and they are too few for collisions to matter.
    bodies: IntMap<u64, Body>,
    last: u64,
    small: usize,
    large: usize,
}

/// What the process reserves for bodies.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) limits: BodyLimits,
    reserved: Mutex<Reserved>,
}

impl Budget {
    pub(super) fn new(limits: BodyLimits) -> Self {
        Self {
            limits,
            reserved: Mutex::default(),
        }
    }

    /// Reserves the first bytes of a body; `arriving` ends the reading of it.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr, arriving: AbortHandle) -> Result<Reservation, Full> {
        let id = self.with(|reserved| reserved.enter(peer, Some(arriving), Instant::now()));
        let reservation = Reservation {
            budget: Arc::clone(self),
            id,
        };
        reservation.grow(FIRST)?;
        Ok(reservation)
    }

    /// Reserves the room of a body that is there as a whole already.
    pub(super) fn enter_complete(self: &Arc<Self>, peer: IpAddr, bytes: usize) -> Result<Reservation, Full> {
        let id = self.with(|reserved| {
            let now = Instant::now();
            let id = reserved.enter(peer, None, now);
            let grown = reserved.grow(&self.limits, id, bytes.max(FIRST), now);
            if grown.is_err() {
                reserved.leave(id, self.limits.small);
            }
            grown.map(|()| id)
        })?;
        Ok(Reservation {
            budget: Arc::clone(self),
            id,
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Reserved) -> T) -> T {
        // No code panics while it holds the lock.
        act(&mut self.reserved.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What one body has reserved, until this is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    id: u64,
}

impl Reservation {
    /// Reserves so many bytes in place of those before, and ends other bodies where that is needed.
    pub(super) fn grow(&self, bytes: usize) -> Result<(), Full> {
        let limits = &self.budget.limits;
        self.budget
            .with(|reserved| reserved.grow(limits, self.id, bytes, Instant::now()))
    }

    /// Records that more of the body arrived, within what is reserved.
    pub(super) fn arrives(&self, now: Instant) {
        self.budget.with(|reserved| {
            if let Some(body) = reserved.bodies.get_mut(&self.id) {
                body.grew = now;
            }
        });
    }

    /// Records that the body is complete: it is not ended any more, and takes room until it is answered.
    pub(super) fn complete(&self) {
        self.budget.with(|reserved| {
            if let Some(body) = reserved.bodies.get_mut(&self.id) {
                body.arriving = None;
            }
        });
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let small = self.budget.limits.small;
        self.budget.with(|reserved| reserved.leave(self.id, small));
    }
}

impl Reserved {
    fn enter(&mut self, peer: IpAddr, arriving: Option<AbortHandle>, now: Instant) -> u64 {
        self.last += 1;
        let body = Body {
            peer,
            bytes: 0,
            grew: now,
            arriving,
        };
        self.bodies.insert(self.last, body);
        self.last
    }

    /// Removes a body; gives what ends the reading of it.
    fn leave(&mut self, id: u64, small: usize) -> Option<AbortHandle> {
        let body = self.bodies.remove(&id)?;
        *self.pool(body.bytes <= small) -= body.bytes;
        body.arriving
    }

    fn pool(&mut self, is_small: bool) -> &mut usize {
        if is_small {
            &mut self.small
        } else {
            &mut self.large
        }
    }

    fn grow(&mut self, limits: &BodyLimits, id: u64, bytes: usize, now: Instant) -> Result<(), Full> {
        let body = self.bodies.get_mut(&id).ok_or(Full)?;
        let (peer, before) = (body.peer, mem::take(&mut body.bytes));
        let is_small = bytes <= limits.small;
        let room = if is_small {
            limits.all_small
        } else {
            limits.all_large
        };
        *self.pool(before <= limits.small) -= before;
        while *self.pool(is_small) + bytes > room {
            let pool = Pool {
                bodies: &self.bodies,
                id,
                small: limits.small,
                is_small,
            };
            let ended = pool.to_end(peer, bytes, now).ok_or(Full)?;
            if let Some(handle) = self.leave(ended, limits.small) {
                handle.abort();
            }
        }
        *self.pool(is_small) += bytes;
        if let Some(body) = self.bodies.get_mut(&id) {
            (body.bytes, body.grew) = (bytes, now);
        }
        Ok(())
    }
}

/// The bodies that share a pool with one that grows, without itself.
struct Pool<'a> {
    bodies: &'a IntMap<u64, Body>,
    id: u64,
    small: usize,
    is_small: bool,
}

impl Pool<'_> {
    fn others(&self) -> impl Iterator<Item = (u64, &Body)> {
        self.bodies
            .iter()
            .filter(|(id, body)| **id != self.id && (body.bytes <= self.small) == self.is_small)
            .map(|(id, body)| (*id, body))
    }

    /// Which one is ended so that a body of this peer can have so many bytes.
    fn to_end(&self, peer: IpAddr, bytes: usize, now: Instant) -> Option<u64> {
        let arriving = || self.others().filter(|(_, body)| body.arriving.is_some());
        let oldest = |(id, body): &(u64, &Body)| (body.grew, *id);
        let has_stalled =
            |(_, body): &(u64, &Body)| now.saturating_duration_since(body.grew) >= STALL_TIMEOUT;
        if let Some((id, _)) = arriving().filter(has_stalled).min_by_key(oldest) {
            return Some(id);
        }
        let mut held = HashMap::from([(peer, bytes)]);
        for (_, body) in self.others() {
            *held.entry(body.peer).or_default() += body.bytes;
        }
        let own = held.remove(&peer)?;
        let heaviest = held.into_iter().map(|(peer, held)| (held, peer)).max();
        let from = match heaviest {
            Some((held, heaviest)) if held > own => heaviest,
            // The peer's own. Of its large ones, those that came first may finish. A small one finishes
            // within a moment, so the one that has not grown for longest is the least likely to be a review.
            _ if self.is_small => peer,
            _ => return None,
        };
        arriving()
            .filter(|(_, body)| body.peer == from)
            .min_by_key(oldest)
            .map(|(id, _)| id)
    }
}

#[cfg(test)]
mod tests;

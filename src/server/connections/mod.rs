//! Which connections are open, and which one is closed when there are too many.
//!
//! A new connection is accepted even at the limit; then the least useful one is closed. It is one of the peer with the
//! most connections: first one that never had a review answered, otherwise the one that was unused for the longest
//! time. So a client that opens many connections competes with itself, and API servers reach the port, even if a proxy
//! makes all of them one peer.
//!
//! If no peer has many, the least useful connection of all is closed. A connection without an answered review goes
//! first, so that many addresses do not displace connections in use. It stays for its first second while few others
//! are as new, so that a client with many addresses does not keep a new client from its first answer, either. The
//! addresses of one IPv6 network (/64) are one peer, because one host can have all of them.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::Metrics;

/// A peer has many connections if it has more than this part of what is allowed: more than 8 of 512.
const MANY: usize = 64;
/// How long a new connection is spared, to have a review answered.
const SPARED_INTERVAL: Duration = Duration::from_secs(1);
/// Which part of what is allowed is spared at a time, the newest ones: 64 of 512. So many that are in use a flood of newcomers
/// can displace, and no more.
const SPARED: usize = 8;
/// The bits of an IPv6 address that tell its network.
const NETWORK: u128 = !(u64::MAX as u128);

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: IpAddr,
    opened: Instant,
    activity: Mutex<Activity>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Activity {
    /// When the last request began or ended.
    last: Option<Instant>,
    /// Whether a review was ever answered.
    answered: bool,
}

impl Connection {
    fn activity(&self) -> MutexGuard<'_, Activity> {
        // No code panics while it holds the lock.
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a request began; it ends when what is given back is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.activity().last = Some(Instant::now());
        InFlight(Arc::clone(self))
    }

    /// Records that a review was answered.
    pub(super) fn answered(&self) {
        self.activity().answered = true;
    }

    /// When a request began or ended last; nothing before the first one.
    pub(super) fn last_active(&self) -> Option<Instant> {
        self.activity().last
    }

    /// Waits until this connection has to end for another one.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }
}

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Connection>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.activity().last = Some(Instant::now());
    }
}

/// The open connections of one port.
#[derive(Debug)]
pub(super) struct Connections {
    limit: usize,
    /// Where they are counted, if anywhere.
    metrics: Option<Arc<Metrics>>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    by_id: HashMap<u64, Arc<Connection>>,
}

/// The outcome of a new connection.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Its place among the open ones.
    pub(super) place: Place,
    /// The peer of the connection that ended for it, if one had to.
    pub(super) refused: Option<IpAddr>,
}

impl Connections {
    pub(super) fn new(limit: usize, metrics: Option<Arc<Metrics>>) -> Arc<Self> {
        Arc::new(Self {
            limit,
            metrics,
            open: Mutex::default(),
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // No code panics while it holds the lock.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a new connection, if need be in place of another one.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Admitted {
        let peer = peer_of(peer);
        let mut open = self.open();
        let mut refused = None;
        if open.by_id.len() >= self.limit {
            let least = least_useful(
                peer,
                &open.summaries(self.limit / SPARED, Instant::now()),
                self.limit / MANY,
            );
            if let Some(ended) = least.and_then(|id| open.by_id.remove(&id)) {
                refused = Some(ended.peer);
                ended.ended.notify_one();
            }
        }
        open.last += 1;
        let id = open.last;
        let connection = Arc::new(Connection {
            peer,
            opened: Instant::now(),
            activity: Mutex::default(),
            ended: Notify::new(),
        });
        open.by_id.insert(id, Arc::clone(&connection));
        if let Some(metrics) = &self.metrics {
            metrics.port.connection_opened();
        }
        let place = Place {
            connections: Arc::clone(self),
            id,
            connection,
        };
        Admitted { place, refused }
    }
}

/// Who a connection from this address counts for.
fn peer_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address @ IpAddr::V4(_) => address,
    }
}

impl Open {
    /// What the open connections are good for, of which that many are spared at most.
    fn summaries(&self, spared: usize, now: Instant) -> Vec<OpenConnection> {
        let mut open: Vec<_> = self
            .by_id
            .iter()
            .map(|(id, connection)| {
                let activity = connection.activity();
                let (usefulness, last) = if activity.answered {
                    (Usefulness::Answered, activity.last)
                } else {
                    (Usefulness::None, None)
                };
                OpenConnection {
                    id: *id,
                    peer: connection.peer,
                    usefulness,
                    used: last.unwrap_or(connection.opened),
                }
            })
            .collect();
        let is_new = |connection: &&mut OpenConnection| {
            connection.usefulness == Usefulness::None && now.duration_since(connection.used) < SPARED_INTERVAL
        };
        let mut new: Vec<_> = open.iter_mut().filter(is_new).collect();
        new.sort_unstable_by_key(|connection| Reverse(connection.id));
        for connection in new.into_iter().take(spared) {
            connection.usefulness = Usefulness::Spared;
        }
        open
    }
}

/// The place of an open connection, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    id: u64,
    pub(super) connection: Arc<Connection>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().by_id.remove(&self.id);
        if let Some(metrics) = &self.connections.metrics {
            metrics.port.connection_closed();
        }
    }
}

/// Of what use a connection is; those of less end first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Usefulness {
    /// No review was ever answered on it.
    None,
    /// One was.
    Answered,
    /// None was, and it is too new for that to say anything.
    Spared,
}

/// What an open connection was good for.
#[derive(Debug, Clone)]
struct OpenConnection {
    id: u64,
    peer: IpAddr,
    usefulness: Usefulness,
    /// When it was used last if a review was answered on it, else when it was opened.
    used: Instant,
}

/// Which connection ends for one of `newcomer`; none if none is open. A peer with no more than `few` connections does
/// not have many.
fn least_useful(newcomer: IpAddr, open: &[OpenConnection], few: usize) -> Option<u64> {
    let mut counts = HashMap::from([(newcomer, 1_usize)]);
    for connection in open {
        *counts.entry(connection.peer).or_default() += 1;
    }
    let own = counts.get(&newcomer).copied().unwrap_or_default();
    let (count, heaviest) = counts.into_iter().map(|(peer, count)| (count, peer)).max()?;
    let from = if count == own { newcomer } else { heaviest };
    open.iter()
        // Many peers with a few connections each: none has more than it should, so that use alone decides.
        .filter(|connection| count <= few || connection.peer == from)
        .min_by_key(|connection| (connection.usefulness, connection.used, connection.id))
        .map(|connection| connection.id)
}

#[cfg(test)]
mod tests;

//! Which connections are open, and which one ends when there are too many.
//!
//! A new connection is taken although the limit is reached, and the one of least use ends: one of the peer that
//! has the most, and of these one that never had a review answered, or else the longest unused. So a client that
//! opens many connections competes with itself, and API servers reach the port, also where a proxy makes all of
//! them one peer. Where no peer has many, the least useful one of all ends: a new connection that has no review
//! answered is the first to go for the next one, so that many addresses do not displace those in use.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::Metrics;

/// A peer has many connections if it has more than this part of what is allowed: more than 8 of 512.
const MANY: usize = 64;

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
        let peer = peer.to_canonical();
        let mut open = self.open();
        let mut refused = None;
        if open.by_id.len() >= self.limit {
            let least = least_useful(peer, &open.summaries(), self.limit / MANY);
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

impl Open {
    fn summaries(&self) -> Vec<OpenConnection> {
        self.by_id
            .iter()
            .map(|(id, connection)| {
                let activity = connection.activity();
                OpenConnection {
                    id: *id,
                    peer: connection.peer,
                    used: activity
                        .last
                        .filter(|_| activity.answered)
                        .unwrap_or(connection.opened),
                    is_useful: activity.answered,
                }
            })
            .collect()
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

/// What an open connection was good for.
#[derive(Debug, Clone)]
struct OpenConnection {
    id: u64,
    peer: IpAddr,
    /// Whether a review was ever answered on it.
    is_useful: bool,
    /// When it was used last if it is useful, else when it was opened.
    used: Instant,
}

/// Which connection ends for one of `newcomer`; none where none is open. A peer with no more
/// than `few` connections does not have many.
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
        .min_by_key(|connection| (connection.is_useful, connection.used, connection.id))
        .map(|connection| connection.id)
}

#[cfg(test)]
mod tests;

//! Pull secrets that this process wrote on demand a moment ago: they are there, and are not written again for the next Pod, or
//! for the sighting of the same one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::sync::pair::Pair;

/// How long a pull secret that was written is taken to be there, unless a kubelet says that it can't pull with it.
const WRITE_RECENT_INTERVAL: Duration = Duration::from_secs(5);
/// How many are remembered.
const MAX_RECENT: usize = 16_384;

/// The version that was written of each, and when.
#[derive(Debug, Default)]
pub struct RecentWrites(Mutex<HashMap<Pair, (Timestamp, Instant)>>);

impl RecentWrites {
    /// This version was written just now; one too many is written again.
    pub(super) fn add(&self, pair: Pair, version: Timestamp, now: Instant) {
        let mut recent = self.recent();
        if recent.len() < MAX_RECENT || recent.contains_key(&pair) {
            recent.insert(pair, (version, now));
        }
    }

    /// Whether this version was.
    pub(super) fn has(&self, pair: &Pair, version: Timestamp, now: Instant) -> bool {
        let recent = self.recent();
        let written = recent.get(pair);
        written.is_some_and(|(written, at)| *written == version && is_recent(*at, now))
    }

    /// Forgets a pull secret that was deleted, or whose namespace was.
    pub(super) fn remove(&self, pair: &Pair) {
        self.recent().remove(pair);
    }

    /// Forgets what was written longer ago.
    pub(super) fn expire(&self, now: Instant) {
        self.recent().retain(|_, (_, at)| is_recent(*at, now));
    }

    /// No code panics while it holds the lock.
    fn recent(&self) -> MutexGuard<'_, HashMap<Pair, (Timestamp, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_recent(written: Instant, now: Instant) -> bool {
    now.saturating_duration_since(written) < WRITE_RECENT_INTERVAL
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(namespace: &str) -> Pair {
        (namespace.to_owned(), "mine".to_owned())
    }

    #[test]
    fn a_version_is_there_for_seconds_after_its_write() {
        let (recent, begin) = (RecentWrites::default(), Instant::now());
        let version = Timestamp::UNIX_EPOCH;
        recent.add(pair("apps"), version, begin);
        assert!(recent.has(&pair("apps"), version, begin));
        assert!(
            !recent.has(&pair("apps"), Timestamp::MAX, begin),
            "another version"
        );
        assert!(!recent.has(&pair("other"), version, begin));
        assert!(!recent.has(&pair("apps"), version, begin + WRITE_RECENT_INTERVAL));
        recent.remove(&pair("apps"));
        assert!(!recent.has(&pair("apps"), version, begin), "it was deleted");
    }

    #[test]
    fn recent_writes_are_bounded() {
        let (recent, begin) = (RecentWrites::default(), Instant::now());
        for number in 0..MAX_RECENT + 10 {
            recent.add(pair(&number.to_string()), Timestamp::UNIX_EPOCH, begin);
        }
        assert_eq!(recent.recent().len(), MAX_RECENT);
        recent.add(pair("0"), Timestamp::MAX, begin);
        assert!(recent.has(&pair("0"), Timestamp::MAX, begin));
        recent.expire(begin + WRITE_RECENT_INTERVAL);
        assert_eq!(recent.recent().len(), 0);
    }
}

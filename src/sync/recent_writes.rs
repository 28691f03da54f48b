//! Pull secrets that this process wrote on demand a moment ago: they are there, and are not written again for the next Pod, or
//! for the sighting of the same one. They are remembered for longer, since the credential may have been a former one: by what
//! this process knew, or when the write arrived.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::base::pair_map::PairMap;
use crate::base::time_order::TimeOrder;
use crate::sync::credentials::Version;
use crate::sync::pair::Pair;
use crate::sync::stored::EMPTIED_INTERVAL;

/// How long a pull secret that was written is taken to be there, unless a kubelet says that it can't pull with it.
const WRITE_RECENT_INTERVAL: Duration = Duration::from_secs(5);
/// How many are remembered.
const MAX_RECENT: usize = 16_384;

/// What was written last of each, by namespace and registry.
#[derive(Debug, Default)]
pub struct RecentWrites(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    writes: PairMap<Write>,
    /// Each of them once.
    order: TimeOrder<(Arc<str>, Arc<str>)>,
}

#[derive(Debug, Clone, Copy)]
struct Write {
    /// The version of the credential.
    credential: Timestamp,
    /// The version of the Secret that it was written to, in the API server's order.
    version: Option<Version>,
    at: Instant,
    /// Whether the pull secret may be gone since.
    is_doubted: bool,
}

/// The credential of a registry that is to be in its pull secrets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newest {
    /// Its version.
    pub(super) credential: Timestamp,
    /// The version in which it was stored, in the API server's order.
    pub(super) stored_in: Option<Version>,
}

impl Newest {
    /// Whether a pull secret that was written with this credential, in this version of it, was written after another credential
    /// was stored: the leader may have written that one before. What was written before it was stored, the leader writes still.
    pub(super) fn overtakes(&self, credential: Timestamp, version: Option<Version>) -> bool {
        let order = version.zip(self.stored_in);
        credential != self.credential && order.is_none_or(|(written, stored)| written >= stored)
    }
}

impl RecentWrites {
    /// This version was written just now; one too many is written again.
    pub(super) fn add(
        &self,
        (namespace, registry): &Pair,
        credential: Timestamp,
        version: Option<Version>,
        now: Instant,
    ) {
        let write = Write {
            credential,
            version,
            at: now,
            is_doubted: false,
        };
        let mut recent = self.recent();
        // Its time is another one.
        recent.remove(namespace, registry);
        if recent.writes.len() >= MAX_RECENT {
            recent.expire(now, WRITE_RECENT_INTERVAL);
        }
        if recent.writes.len() < MAX_RECENT {
            recent.insert(namespace, registry, write);
        }
    }

    /// Whether this version was.
    pub(super) fn has(&self, (namespace, registry): &Pair, credential: Timestamp, now: Instant) -> bool {
        let recent = self.recent();
        let written = recent.writes.get(namespace, registry);
        written.is_some_and(|write| write.credential == credential && write.is_recent(now))
    }

    /// Takes out the pull secrets of a registry that were overtaken, as [`Newest::overtakes`] says.
    pub(super) fn take_overtaken(&self, registry: &str, newest: Newest) -> Vec<Pair> {
        let mut recent = self.recent();
        let written = recent.writes.firsts_of(registry).into_iter();
        let overtaken: Vec<_> = written
            .filter(|namespace| {
                let write = recent.writes.get(namespace, registry);
                write.is_some_and(|write| newest.overtakes(write.credential, write.version))
            })
            .collect();
        for namespace in &overtaken {
            recent.remove(namespace, registry);
        }
        let pairs = overtaken.into_iter();
        pairs
            .map(|namespace| (namespace.to_string(), registry.to_owned()))
            .collect()
    }

    /// The registries of which anything was written.
    pub(super) fn registries(&self) -> Vec<Arc<str>> {
        self.recent().writes.seconds().cloned().collect()
    }

    /// Forgets a pull secret that was deleted, or whose namespace was.
    pub(super) fn remove(&self, (namespace, registry): &Pair) {
        self.recent().remove(namespace, registry);
    }

    /// Takes the pull secrets of a namespace, which may be gone, not to be there any more.
    pub(super) fn doubt_namespace(&self, namespace: &str) {
        doubt(self.recent().writes.of_first_mut(namespace));
    }

    /// Does so with those of a registry, which may be gone, or lack what they are to have.
    pub(super) fn doubt_registry(&self, registry: &str) {
        let mut recent = self.recent();
        for namespace in recent.writes.firsts_of(registry) {
            doubt(recent.writes.get_mut(&namespace, registry));
        }
    }

    /// Does so with all.
    pub(super) fn doubt_all(&self) {
        doubt(self.recent().writes.values_mut());
    }

    /// Forgets what was written so long ago that the watch has brought every credential that was stored before.
    pub(super) fn expire(&self, now: Instant) {
        self.recent().expire(now, EMPTIED_INTERVAL);
    }

    /// No code panics while it holds the lock.
    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn insert(&mut self, namespace: &str, registry: &str, write: Write) {
        self.writes.insert(namespace, registry, write);
        if let Some(names) = self.writes.names(namespace, registry) {
            self.order.insert(write.at, names);
        }
    }

    fn remove(&mut self, namespace: &str, registry: &str) {
        let names = self.writes.names(namespace, registry);
        let write = self.writes.remove(namespace, registry);
        if let Some((names, write)) = names.zip(write) {
            self.order.remove(write.at, names);
        }
    }

    /// Forgets what was written so long ago.
    fn expire(&mut self, now: Instant, interval: Duration) {
        let is_due = |at| now.saturating_duration_since(at) >= interval;
        while let Some((namespace, registry)) = self.order.pop_if(is_due) {
            self.writes.remove(&namespace, &registry);
        }
    }
}

impl Write {
    fn is_recent(&self, now: Instant) -> bool {
        !self.is_doubted && now.saturating_duration_since(self.at) < WRITE_RECENT_INTERVAL
    }
}

fn doubt<'a>(writes: impl IntoIterator<Item = &'a mut Write>) {
    for write in writes {
        write.is_doubted = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Recent {
        fn looks(&self) -> usize {
            self.writes.looks() + self.order.looks()
        }

        fn len(&self) -> usize {
            assert_eq!(self.writes.len(), self.order.len(), "each is in the order once");
            self.writes.len()
        }
    }

    fn pair(namespace: &str) -> Pair {
        (namespace.to_owned(), "mine".to_owned())
    }

    #[test]
    fn a_version_is_there_for_seconds_after_its_write() {
        let (recent, begin) = (RecentWrites::default(), Instant::now());
        let version = Timestamp::UNIX_EPOCH;
        recent.add(&pair("apps"), version, None, begin);
        assert!(recent.has(&pair("apps"), version, begin));
        assert!(
            !recent.has(&pair("apps"), Timestamp::MAX, begin),
            "another version"
        );
        assert!(!recent.has(&pair("other"), version, begin));
        assert!(!recent.has(&pair("apps"), version, begin + WRITE_RECENT_INTERVAL));
        recent.remove(&pair("apps"));
        assert!(!recent.has(&pair("apps"), version, begin), "it was deleted");
        recent.add(&pair("gone"), version, None, begin);
        recent.add(&pair("other"), version, None, begin);
        recent.doubt_namespace("gone");
        assert!(!recent.has(&pair("gone"), version, begin));
        assert!(recent.has(&pair("other"), version, begin));
        recent.doubt_registry("another");
        assert!(recent.has(&pair("other"), version, begin));
        recent.doubt_registry("mine");
        assert!(!recent.has(&pair("other"), version, begin));
        recent.add(&pair("other"), version, None, begin);
        recent.doubt_all();
        assert!(!recent.has(&pair("other"), version, begin));
    }

    #[test]
    fn a_change_costs_what_was_written_of_it() {
        const ALL: usize = 2_000;
        let (recent, begin) = (RecentWrites::default(), Instant::now());
        let of = |number: usize| (format!("n{number}"), format!("r{}", number % 100));
        for number in 0..ALL {
            recent.add(&of(number), Timestamp::UNIX_EPOCH, None, begin);
        }
        let newest = Newest {
            credential: Timestamp::MAX,
            stored_in: None,
        };
        let looks = || recent.recent().looks();
        let before = looks();
        for number in 0..100 {
            recent.doubt_namespace(&format!("n{number}"));
            recent.doubt_namespace("another");
        }
        assert_eq!(looks() - before, 100);
        recent.doubt_registry("r7");
        assert_eq!(recent.take_overtaken("r7", newest).len(), ALL / 100);
        assert!(recent.take_overtaken("r7", newest).is_empty(), "once");
        assert_eq!(looks() - before, 100 + 2 * ALL / 100);
        assert_eq!(recent.registries().len(), 99);
    }

    #[test]
    fn an_expiry_costs_the_writes_that_expire() {
        let (recent, begin) = (RecentWrites::default(), Instant::now());
        let at = |second: usize| begin + Duration::from_secs(u64::try_from(second).unwrap());
        for number in 0..1_000 {
            recent.add(
                &pair(&number.to_string()),
                Timestamp::UNIX_EPOCH,
                None,
                at(number / 10),
            );
        }
        // These are newer than the others now, and one of them is there no more.
        for number in 0..10 {
            recent.add(&pair(&number.to_string()), Timestamp::UNIX_EPOCH, None, at(100));
        }
        recent.remove(&pair("500"));
        let looks = || recent.recent().looks();
        let before = looks();
        for second in 0..100 {
            recent.expire(at(second) + EMPTIED_INTERVAL.saturating_sub(Duration::from_nanos(1)));
        }
        assert_eq!(recent.recent().len(), 20, "those of the last two seconds");
        assert_eq!(looks() - before, 979 + 100);
        recent.expire(at(99) + EMPTIED_INTERVAL);
        assert_eq!(recent.recent().len(), 10, "the time of the last write counts");
        recent.expire(at(100) + EMPTIED_INTERVAL);
        assert_eq!(recent.recent().len(), 0);
    }

    #[test]
    fn recent_writes_are_bounded() {
        let (recent, begin) = (RecentWrites::default(), Instant::now());
        for number in 0..MAX_RECENT + 10 {
            recent.add(&pair(&number.to_string()), Timestamp::UNIX_EPOCH, None, begin);
        }
        assert_eq!(recent.recent().len(), MAX_RECENT);
        recent.add(&pair("0"), Timestamp::MAX, None, begin);
        assert!(recent.has(&pair("0"), Timestamp::MAX, begin));
        let later = begin + WRITE_RECENT_INTERVAL;
        recent.add(&pair("more"), Timestamp::MAX, None, later);
        assert_eq!(recent.recent().len(), 1, "earlier ones make room");
        recent.expire(later + EMPTIED_INTERVAL);
        assert_eq!(recent.recent().len(), 0);
    }

    #[test]
    fn a_write_after_a_newer_credential_is_overtaken() {
        let version = |number: u8| Version::parse(Some(&number.to_string()));
        for (credential, written, stored_in, expected) in [
            (0, version(20), version(10), true),
            (0, version(5), version(10), false),
            (0, None, version(10), true),
            (0, version(5), None, true),
            (9, version(20), version(10), false),
        ] {
            let at = |second| Timestamp::from_second(second).unwrap();
            let recent = RecentWrites::default();
            recent.add(&pair("apps"), at(credential), written, Instant::now());
            let newest = Newest {
                credential: at(9),
                stored_in,
            };
            let take = |registry: &str| recent.take_overtaken(registry, newest);
            assert!(take("other").is_empty());
            assert_eq!(
                take("mine").len(),
                usize::from(expected),
                "{credential} {written:?}"
            );
            assert!(take("mine").is_empty(), "once");
        }
    }
}

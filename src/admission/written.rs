//! Which pull secrets were demanded a moment ago, and whether they are written: a review waits for those of its Pod, so that
//! the Pod's kubelet finds them at its first try.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::Shared;
use tokio::sync::oneshot;

use crate::base::pair_map::PairMap;

/// How long a pull secret that was written is taken to be there: the next Pod of its namespace waits for nothing.
const WRITTEN_INTERVAL: Duration = Duration::from_mins(1);
/// How long after its demand a pull secret is waited for.
const JOIN_INTERVAL: Duration = Duration::from_secs(1);
/// How long after its demand a pull secret that was not written is demanded of nobody who waits: only a few of its Pods do.
const FAILED_INTERVAL: Duration = Duration::from_secs(5);
/// How many pull secrets are remembered. Of further ones, each Pod waits until the writer says that they are there.
const MAX_REMEMBERED: usize = 4096;
/// How often room is made among them at most.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Ends when the pull secret is written; with an error if nobody is going to write it soon.
pub type Written = Shared<oneshot::Receiver<()>>;

/// A pull secret, in the form that a Pod needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PullSecretForm {
    /// Its namespace.
    pub(super) namespace: String,
    /// Its AcrRegistry.
    pub(super) registry: String,
    /// Whether it is to have the keys with a port or a wildcard, too.
    pub(super) every_key: bool,
}

/// The pull secrets that were demanded.
#[derive(Debug, Default)]
pub(super) struct Demanded(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    /// Those with a registry's own hosts, by namespace and registry.
    hosts: PairMap<Entry>,
    /// Those with every key.
    every_key: PairMap<Entry>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    written: Written,
}

/// What a review is to do about a pull secret of its Pod.
#[derive(Debug)]
pub(super) enum Claim {
    /// Nothing: it was written a moment ago, or could not be, or takes longer than a review waits.
    Settled,
    /// Wait: another review demanded it.
    Joined(Written),
    /// Demand it, and wait: the writer tells the sender.
    New(oneshot::Sender<()>, Written),
}

impl Entry {
    /// Whether it was written; nothing while it is to be.
    fn outcome(&self) -> Option<bool> {
        self.written.clone().now_or_never().map(|outcome| outcome.is_ok())
    }

    /// Whether what it says still holds.
    fn holds(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.at);
        match self.outcome() {
            Some(true) => age < WRITTEN_INTERVAL,
            Some(false) | None => age < FAILED_INTERVAL,
        }
    }
}

impl Remembered {
    fn all(&mut self) -> [&mut PairMap<Entry>; 2] {
        [&mut self.hosts, &mut self.every_key]
    }

    fn len(&self) -> usize {
        self.hosts.len() + self.every_key.len()
    }

    /// Those of the same kind as a form.
    fn like(&mut self, form: &PullSecretForm) -> &mut PairMap<Entry> {
        if form.every_key {
            &mut self.every_key
        } else {
            &mut self.hosts
        }
    }
}

impl Demanded {
    /// What a review is to do about a pull secret of its Pod.
    pub(super) fn claim(&self, form: &PullSecretForm, now: Instant) -> Claim {
        let PullSecretForm {
            namespace, registry, ..
        } = form;
        let mut remembered = self.remembered();
        let known = remembered.like(form).get(namespace, registry);
        let is_known = known.is_some();
        if let Some(entry) = known.filter(|entry| entry.holds(now)) {
            let is_open = entry.outcome().is_none();
            return if is_open && now.saturating_duration_since(entry.at) < JOIN_INTERVAL {
                Claim::Joined(entry.written.clone())
            } else {
                Claim::Settled
            };
        }
        let swept = remembered.swept;
        let is_swept = swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP_INTERVAL);
        if remembered.len() >= MAX_REMEMBERED && !is_swept {
            for entries in remembered.all() {
                entries.retain(|entry| entry.holds(now));
            }
            remembered.swept = Some(now);
        }
        let (sender, receiver) = oneshot::channel();
        let written = receiver.shared();
        if remembered.len() < MAX_REMEMBERED || is_known {
            let written = written.clone();
            let entry = Entry { at: now, written };
            remembered.like(form).insert(namespace, registry, entry);
        }
        Claim::New(sender, written)
    }

    /// Forgets the pull secrets of a namespace, which may be gone.
    pub(super) fn forget_namespace(&self, namespace: &str) {
        for entries in self.remembered().all() {
            entries.remove_first(namespace);
        }
    }

    /// Forgets those of a registry.
    pub(super) fn forget_registry(&self, registry: &str) {
        for entries in self.remembered().all() {
            entries.remove_second(registry);
        }
    }

    /// Forgets one of them.
    pub(super) fn forget_pull_secret(&self, namespace: &str, registry: &str) {
        for entries in self.remembered().all() {
            entries.remove(namespace, registry);
        }
    }

    /// Forgets all of them.
    pub(super) fn forget_all(&self) {
        for entries in self.remembered().all() {
            *entries = PairMap::default();
        }
    }

    /// No code panics while it holds the lock.
    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(namespace: &str) -> PullSecretForm {
        PullSecretForm {
            namespace: namespace.to_owned(),
            registry: "mine".to_owned(),
            every_key: false,
        }
    }

    fn new(claim: Claim) -> oneshot::Sender<()> {
        match claim {
            Claim::New(sender, _) => sender,
            Claim::Settled | Claim::Joined(_) => panic!("{claim:?}"),
        }
    }

    #[test]
    fn a_pull_secret_is_demanded_once_and_waited_for() {
        let (demanded, begin) = (Demanded::default(), Instant::now());
        let sender = new(demanded.claim(&form("apps"), begin));
        let Claim::Joined(written) = demanded.claim(&form("apps"), begin) else {
            panic!("it is not joined");
        };
        assert_eq!(written.clone().now_or_never(), None);
        sender.send(()).unwrap();
        assert_eq!(written.now_or_never(), Some(Ok(())));
        let almost = begin + WRITTEN_INTERVAL.mul_f64(0.99);
        assert!(matches!(demanded.claim(&form("apps"), almost), Claim::Settled));
        new(demanded.claim(&form("apps"), begin + WRITTEN_INTERVAL));
    }

    #[test]
    fn a_write_that_hangs_delays_the_pods_of_one_second() {
        let (demanded, begin) = (Demanded::default(), Instant::now());
        let _hangs = new(demanded.claim(&form("apps"), begin));
        let late = begin + JOIN_INTERVAL;
        assert!(matches!(demanded.claim(&form("apps"), late), Claim::Settled));
        new(demanded.claim(&form("apps"), begin + FAILED_INTERVAL));
    }

    #[test]
    fn a_form_with_more_keys_is_demanded_by_itself() {
        let (demanded, begin) = (Demanded::default(), Instant::now());
        new(demanded.claim(&form("apps"), begin)).send(()).unwrap();
        let every_key = PullSecretForm {
            every_key: true,
            ..form("apps")
        };
        new(demanded.claim(&every_key, begin));
    }

    #[test]
    fn a_failed_write_is_waited_for_again_seconds_later() {
        let (demanded, begin) = (Demanded::default(), Instant::now());
        drop(new(demanded.claim(&form("apps"), begin)));
        assert!(matches!(demanded.claim(&form("apps"), begin), Claim::Settled));
        new(demanded.claim(&form("apps"), begin + FAILED_INTERVAL));
    }

    #[test]
    fn a_namespace_that_goes_takes_its_pull_secrets_along() {
        let (demanded, begin) = (Demanded::default(), Instant::now());
        for namespace in ["apps", "other"] {
            new(demanded.claim(&form(namespace), begin)).send(()).unwrap();
        }
        demanded.forget_namespace("apps");
        new(demanded.claim(&form("apps"), begin)).send(()).unwrap();
        assert!(matches!(demanded.claim(&form("other"), begin), Claim::Settled));
        demanded.forget_pull_secret("apps", "mine");
        demanded.forget_pull_secret("other", "another");
        new(demanded.claim(&form("apps"), begin));
        assert!(matches!(demanded.claim(&form("other"), begin), Claim::Settled));
        demanded.forget_registry("mine");
        new(demanded.claim(&form("other"), begin)).send(()).unwrap();
        demanded.forget_all();
        new(demanded.claim(&form("other"), begin));
    }

    #[test]
    fn a_change_costs_what_was_demanded_of_it() {
        let (demanded, begin) = (Demanded::default(), Instant::now());
        for number in 0..2_000 {
            let form = PullSecretForm {
                registry: format!("r{}", number % 100),
                every_key: number % 2 == 1,
                ..form(&format!("n{number}"))
            };
            drop(new(demanded.claim(&form, begin)));
        }
        let looks = || {
            let remembered = demanded.remembered();
            remembered.hosts.looks() + remembered.every_key.looks()
        };
        for number in 0..100 {
            demanded.forget_namespace(&format!("n{number}"));
            demanded.forget_namespace("another");
            demanded.forget_pull_secret("n1000", "another");
        }
        assert_eq!(looks(), 100);
        demanded.forget_registry("r7");
        assert_eq!(looks(), 119);
    }

    #[test]
    fn remembered_pull_secrets_are_bounded() {
        let (demanded, begin) = (Demanded::default(), Instant::now());
        let mut senders = Vec::new();
        for number in 0..MAX_REMEMBERED + 10 {
            senders.push(new(demanded.claim(&form(&number.to_string()), begin)));
        }
        assert_eq!(demanded.remembered().len(), MAX_REMEMBERED);
        drop(senders);
        // What failed gives way, but not to each of many.
        new(demanded.claim(&form("more"), begin + FAILED_INTERVAL / 2));
        assert_eq!(demanded.remembered().len(), MAX_REMEMBERED);
        new(demanded.claim(&form("more"), begin + FAILED_INTERVAL));
        assert_eq!(demanded.remembered().len(), 1);
    }

    #[test]
    fn old_pull_secrets_give_way_where_there_is_no_room() {
        let (demanded, begin) = (Demanded::default(), Instant::now());
        let kept = || demanded.remembered().len();
        drop(new(demanded.claim(&form("old"), begin)));
        new(demanded.claim(&form("new"), begin + FAILED_INTERVAL));
        assert_eq!(kept(), 2, "there is room for both");

        let (demanded, begin) = (Demanded::default(), Instant::now());
        let kept = || demanded.remembered().len();
        for number in 0..MAX_REMEMBERED {
            drop(new(demanded.claim(&form(&number.to_string()), begin)));
        }
        let looked = begin + FAILED_INTERVAL.saturating_sub(SWEEP_INTERVAL / 2);
        new(demanded.claim(&form("more"), looked));
        new(demanded.claim(&form("more"), looked + SWEEP_INTERVAL / 2));
        assert_eq!(kept(), MAX_REMEMBERED, "it was looked a moment ago");
        new(demanded.claim(&form("more"), looked + SWEEP_INTERVAL));
        assert_eq!(kept(), 1);
    }
}

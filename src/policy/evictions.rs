//! When Pods of an owner may be evicted, depending on what happened after earlier evictions. Pure: the time is an
//! argument.
//!
//! An eviction helps if the API server asks pullpass about the replacement. If it does not, the replacement can't pull
//! either: once such a Pod is seen, evictions for its owner are paused, each time for longer.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::base::backoff::{Backoff, Jitter};

/// How many Pods of an owner are evicted in a [`OWNER_INTERVAL`].
const PER_OWNER: usize = 10;
/// See [`PER_OWNER`].
const OWNER_INTERVAL: SignedDuration = SignedDuration::from_mins(1);
/// How long evictions are paused for an owner whose Pods they do not help.
const EVICTION_BACKOFF: Backoff = Backoff::new(Duration::from_mins(10), Duration::from_hours(6));
/// How many owners are remembered. No Pod of another is evicted until one of them is forgotten.
const OWNERS: usize = 10_000;

/// What is remembered of evictions, by the uid of the Pods' owner.
#[derive(Debug, Default)]
pub struct Evictions(HashMap<String, OwnerHistory>);

#[derive(Debug)]
struct OwnerHistory {
    /// The uids of Pods that were evicted in the last [`OWNER_INTERVAL`], and when.
    recent: Vec<(String, Timestamp)>,
    attempt: Attempt,
}

/// Whether evictions help.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Attempt {
    /// They did, as far as is known.
    Helped,
    /// It shows by the Pods that are made from `since` on.
    Open {
        since: Timestamp,
        /// How many attempts in a row failed before.
        failures: u32,
    },
    /// They did not: a Pod that was made from `since` on has no secret either.
    Failed {
        since: Timestamp,
        seen: Timestamp,
        /// How many did in a row, this one included.
        failures: u32,
    },
}

impl Attempt {
    /// Whether it is of no more use to know.
    fn is_stale(self, now: Timestamp) -> bool {
        match self {
            Self::Helped => true,
            Self::Open { since, failures } => {
                now.duration_since(since) >= backoff(failures.saturating_add(1))
            }
            Self::Failed { seen, failures, .. } => {
                now.duration_since(seen) >= backoff(failures) + backoff(failures.saturating_add(1))
            }
        }
    }
}

/// How long evictions are paused after so many that did not help. It is exact, since users are told about it.
fn backoff(failures: u32) -> SignedDuration {
    let delay = EVICTION_BACKOFF.delay(failures, None, Jitter::NONE);
    SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX)
}

impl Evictions {
    /// Whether this Pod of this owner may be evicted now.
    pub fn allow(&mut self, owner: &str, uid: &str, now: Timestamp) -> bool {
        self.forget(now);
        let Some(owner) = self.0.get(owner) else {
            return self.0.len() < OWNERS;
        };
        let is_paused = match owner.attempt {
            Attempt::Failed { seen, failures, .. } => now.duration_since(seen) < backoff(failures),
            Attempt::Helped | Attempt::Open { .. } => false,
        };
        let is_known = owner.recent.iter().any(|(known, _)| known == uid);
        !is_paused && !is_known && owner.recent.len() < PER_OWNER
    }

    /// Takes note that a Pod is evicted. Those that are made after the first of them show whether that helps: the first, so
    /// that none slips through where the API server's clock is behind.
    pub fn add(&mut self, owner: &str, uid: &str, now: Timestamp) {
        let owner = self.0.entry(owner.to_owned()).or_insert_with(|| OwnerHistory {
            recent: Vec::new(),
            attempt: Attempt::Helped,
        });
        owner.recent.push((uid.to_owned(), now));
        owner.attempt = match owner.attempt {
            Attempt::Helped => Attempt::Open {
                since: now,
                failures: 0,
            },
            Attempt::Failed { failures, .. } => Attempt::Open { since: now, failures },
            open @ Attempt::Open { .. } => open,
        };
    }

    /// Takes the note of an eviction back that the API server did not make.
    pub fn withdraw(&mut self, owner: &str, uid: &str, at: Timestamp) {
        let Some(owner) = self.0.get_mut(owner) else {
            return;
        };
        owner.recent.retain(|(known, _)| known != uid);
        let opened = Attempt::Open {
            since: at,
            failures: 0,
        };
        if owner.attempt == opened {
            owner.attempt = Attempt::Helped;
        }
    }

    /// Takes note of a Pod that was admitted with its pull secrets, or without. If that is news, and bad, it says how long
    /// evictions for the owner are paused.
    pub fn see(
        &mut self,
        owner: &str,
        uid: &str,
        created: Timestamp,
        injected: bool,
        now: Timestamp,
    ) -> Option<SignedDuration> {
        let owner = self.0.get_mut(owner)?;
        let (Attempt::Open { since, .. } | Attempt::Failed { since, .. }) = owner.attempt else {
            return None;
        };
        // The API server leaves out what is less than a second, so that one which was evicted in the second in which it was
        // made looks as if it had come after.
        let is_evicted = owner.recent.iter().any(|(known, _)| known == uid);
        if is_evicted || created.as_second() < since.as_second() {
            return None;
        }
        match owner.attempt {
            _ if injected => {
                owner.attempt = Attempt::Helped;
                None
            }
            Attempt::Open { since, failures } => {
                let failures = failures.saturating_add(1);
                owner.attempt = Attempt::Failed {
                    since,
                    seen: now,
                    failures,
                };
                Some(backoff(failures))
            }
            Attempt::Helped | Attempt::Failed { .. } => None,
        }
    }

    fn forget(&mut self, now: Timestamp) {
        self.0.retain(|_, owner| {
            owner
                .recent
                .retain(|(_, since)| now.duration_since(*since) < OWNER_INTERVAL);
            !owner.recent.is_empty() || !owner.attempt.is_stale(now)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Timestamp = Timestamp::UNIX_EPOCH;
    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn at(seconds: i64) -> Timestamp {
        BEGIN + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_pod_is_not_its_own_successor() {
        let mut evictions = Evictions::default();
        evictions.add("web", "1", BEGIN);
        assert_eq!(evictions.see("web", "1", BEGIN, false, BEGIN), None);
        assert!(evictions.see("web", "2", BEGIN, false, BEGIN).is_some());
    }

    #[test]
    fn an_eviction_that_was_not_made_leaves_no_trace() {
        let mut evictions = Evictions::default();
        evictions.add("web", "1", BEGIN);
        evictions.withdraw("web", "1", BEGIN);
        assert!(evictions.allow("web", "1", BEGIN), "it may be tried again");
        assert_eq!(evictions.see("web", "next", at(1), false, at(1)), None);
        // Another one that was created still counts.
        evictions.add("web", "2", at(2));
        evictions.add("web", "3", at(3));
        evictions.withdraw("web", "3", at(3));
        assert!(evictions.see("web", "next", at(4), false, at(4)).is_some());
    }

    #[test]
    fn an_owner_loses_a_few_pods_a_minute_and_each_once() {
        let mut evictions = Evictions::default();
        let mut take = |owner: &str, uid: usize, now: Timestamp| {
            let uid = uid.to_string();
            let allowed = evictions.allow(owner, &uid, now);
            if allowed {
                evictions.add(owner, &uid, now);
            }
            (allowed, evictions.0.len())
        };
        assert_eq!(take("web", 0, BEGIN), (true, 1));
        assert_eq!(take("web", 0, BEGIN), (false, 1), "it is going");
        for uid in 1..PER_OWNER {
            assert_eq!(take("web", uid, BEGIN), (true, 1));
        }
        assert_eq!(take("web", PER_OWNER, BEGIN), (false, 1));
        assert_eq!(take("api", 0, BEGIN), (true, 2), "another owner has its own");
        assert_eq!(take("web", PER_OWNER, BEGIN + OWNER_INTERVAL), (true, 2));
        assert_eq!(
            take("web", PER_OWNER + 1, BEGIN + DAY),
            (true, 1),
            "what is long ago is forgotten"
        );
    }

    #[test]
    fn a_pod_that_was_not_evicted_is_proposed_again() {
        let mut evictions = Evictions::default();
        assert!(evictions.allow("web", "a", BEGIN));
        assert!(evictions.allow("web", "a", BEGIN));
    }

    #[test]
    fn an_owner_that_eviction_does_not_help_is_paused_for_longer() {
        let mut evictions = Evictions::default();
        let mut now = at(1_000);
        let mut rests = Vec::new();
        for attempt in 0..8 {
            assert!(evictions.allow("web", &format!("{attempt}"), now));
            evictions.add("web", &format!("{attempt}"), now);
            let older = now - SignedDuration::from_secs(1);
            assert_eq!(
                evictions.see("web", "next", older, false, now),
                None,
                "it was made before the eviction"
            );
            let rest = evictions.see("web", "next", now, false, now).unwrap();
            assert_eq!(
                evictions.see("web", "next", now, false, now),
                None,
                "that is no news"
            );
            let end = now + rest;
            assert!(!evictions.allow("web", "next", end - SignedDuration::from_secs(1)));
            assert!(evictions.allow("api", "next", now), "others are not meant");
            rests.push(rest.as_mins());
            now = end;
        }
        assert_eq!(rests, [10, 20, 40, 80, 160, 320, 360, 360]);
    }

    #[test]
    fn a_pod_with_its_secret_ends_the_rest() {
        let mut evictions = Evictions::default();
        evictions.add("web", "a", at(1_000));
        assert!(
            evictions
                .see("web", "next", at(1_001), false, at(1_001))
                .is_some()
        );
        assert_eq!(evictions.see("web", "next", at(500), true, at(1_002)), None);
        assert!(
            !evictions.allow("web", "b", at(1_003)),
            "that Pod was made before: it says nothing"
        );
        assert_eq!(evictions.see("web", "next", at(1_003), true, at(1_003)), None);
        assert!(evictions.allow("web", "b", at(1_003)));
        assert_eq!(
            evictions.see("web", "next", at(1_003), false, at(1_003)),
            None,
            "another outage is another matter"
        );
    }

    #[test]
    fn no_more_owners_are_remembered_than_there_is_room_for() {
        let mut evictions = Evictions::default();
        for owner in 0..OWNERS {
            evictions.add(&owner.to_string(), "a", BEGIN);
        }
        assert!(!evictions.allow("web", "a", BEGIN));
        assert!(evictions.allow("0", "b", BEGIN));
        assert!(evictions.allow("web", "a", BEGIN + DAY));
    }

    /// How often rests that grow from 10 minutes to 6 hours begin in a day.
    const ATTEMPTS: usize = 9;

    /// A day of an owner whose Pods are stuck from the beginning: how many were evicted, and how many are stuck in the end.
    /// pullpass is asked about Pods from then on; the API server's clock differs from pullpass'.
    fn day(replicas: usize, asked_from: Timestamp, skew: SignedDuration) -> (usize, usize) {
        let step = SignedDuration::from_secs(15);
        let until_stuck = SignedDuration::from_secs(30);
        let mut evictions = Evictions::default();
        let mut evicted = 0;
        let mut pods: Vec<_> = (0..replicas).map(|uid| (uid, BEGIN, false)).collect();
        let mut now = BEGIN + SignedDuration::from_hours(1);
        while now < BEGIN + DAY {
            for (uid, made, injected) in &mut pods {
                evictions.see("web", "next", *made + skew, *injected, now);
                let is_stuck = !*injected && now.duration_since(*made) >= until_stuck;
                if is_stuck && evictions.allow("web", &uid.to_string(), now) {
                    evictions.add("web", &uid.to_string(), now);
                    evicted += 1;
                    (*uid, *made, *injected) = (replicas + evicted, now, now >= asked_from);
                }
            }
            now += step;
        }
        (evicted, pods.iter().filter(|(.., injected)| !injected).count())
    }

    #[test]
    fn evictions_repair_every_pod_where_the_webhook_is_asked() {
        let never = BEGIN + DAY + DAY;
        for minutes in [-4, 0, 4] {
            let skew = SignedDuration::from_mins(minutes);
            for replicas in [1, 3, 30] {
                let (evicted, stuck) = day(replicas, never, skew);
                assert_eq!(stuck, replicas);
                let minutes_behind = usize::try_from(-minutes).unwrap_or_default();
                assert!(
                    evicted <= ATTEMPTS * PER_OWNER * (minutes_behind + 1),
                    "{evicted} of {replicas} Pods, the API server is {minutes} minutes ahead"
                );
                let (evicted, stuck) = day(replicas, BEGIN, skew);
                assert_eq!(
                    (evicted, stuck),
                    (replicas, 0),
                    "the API server is {minutes} minutes ahead"
                );
                let (_, stuck) = day(replicas, BEGIN + SignedDuration::from_hours(4), skew);
                assert_eq!(stuck, 0, "the API server is {minutes} minutes ahead");
            }
        }
        let (evicted, _) = day(1, never, SignedDuration::ZERO);
        assert_eq!(evicted, ATTEMPTS);
    }
}

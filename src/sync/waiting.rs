//! Demands that can't be met yet: few, of few bytes, and for a short time.
//!
//! Every client that reaches the webhook's port can cause demands. Their texts are bounded where a review is read (a
//! namespace has at most 63 bytes) and by the schema of `AcrRegistries` (a registry's name too). Here their number and
//! their time are bounded. The leader sees the Pods themselves, so a demand that is dropped here is only served later.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::pair::Pair;
use crate::metrics::DropReason;

/// How many demands wait for a credential, or for a write to be tried again.
pub(super) const MAX_KNOWN: usize = 4096;
/// How long. The leader goes on after that.
pub(super) const WAIT_TIMEOUT: Duration = Duration::from_mins(2);
/// How many demands wait for the watch to bring their namespace. A namespace is created seconds before its first Pod at
/// the soonest, and only few at a time: more are made up, or the watch is behind.
pub(super) const MAX_UNKNOWN: usize = 512;
/// How long. A watch that works brings a namespace within milliseconds.
const UNKNOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// What a demand waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// The namespace is not known here.
    Namespace,
    /// The credential is not known here, or the write failed.
    Credential,
}

/// The demands that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    known: HashMap<Pair, Instant>,
    unknown: HashMap<Pair, Instant>,
}

impl Waiting {
    /// Has a demand wait, unless too many do.
    pub(super) fn add(&mut self, pair: Pair, since: Instant, reason: For) -> Result<(), DropReason> {
        let (waiting, most, dropped) = match reason {
            For::Namespace => (&mut self.unknown, MAX_UNKNOWN, DropReason::NamespaceUnknown),
            For::Credential => (&mut self.known, MAX_KNOWN, DropReason::Full),
        };
        if waiting.len() >= most && !waiting.contains_key(&pair) {
            return Err(dropped);
        }
        waiting.entry(pair).or_insert(since);
        Ok(())
    }

    /// Ends the wait for one demand.
    pub(super) fn remove(&mut self, pair: &Pair) {
        self.known.remove(pair);
        self.unknown.remove(pair);
    }

    /// Takes out demands that can be tried now, no more than so many.
    pub(super) fn take(&mut self, most: usize, can_try: impl Fn(&Pair) -> bool) -> Vec<(Pair, Instant)> {
        let ready: Vec<Pair> = self
            .known
            .keys()
            .chain(self.unknown.keys())
            .filter(|pair| can_try(pair))
            .take(most)
            .cloned()
            .collect();
        ready
            .into_iter()
            .filter_map(|pair| {
                let since = self.known.remove(&pair).or_else(|| self.unknown.remove(&pair));
                since.map(|since| (pair, since))
            })
            .collect()
    }

    /// Drops what waited too long; says how many, and why.
    pub(super) fn expire(&mut self, now: Instant) -> [(DropReason, usize); 2] {
        let before = (self.known.len(), self.unknown.len());
        let waited = |since: &Instant| now.saturating_duration_since(*since);
        self.known.retain(|_, since| waited(since) < WAIT_TIMEOUT);
        self.unknown.retain(|_, since| waited(since) < UNKNOWN_TIMEOUT);
        [
            (DropReason::Expired, before.0 - self.known.len()),
            (DropReason::NamespaceUnknown, before.1 - self.unknown.len()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(namespace: &str) -> Pair {
        (namespace.to_owned(), "mine".to_owned())
    }

    #[test]
    fn made_up_namespaces_are_few_and_leave_room() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        for number in 0..MAX_UNKNOWN {
            assert_eq!(
                waiting.add(pair(&number.to_string()), now, For::Namespace),
                Ok(())
            );
        }
        let more = waiting.add(pair("more"), now, For::Namespace);
        assert_eq!(more, Err(DropReason::NamespaceUnknown));
        assert_eq!(
            waiting.add(pair("0"), now, For::Namespace),
            Ok(()),
            "it waits already"
        );
        assert_eq!(waiting.unknown.len(), MAX_UNKNOWN);
        for number in 0..MAX_KNOWN {
            assert_eq!(
                waiting.add(pair(&number.to_string()), now, For::Credential),
                Ok(())
            );
        }
        let more = waiting.add(pair("more"), now, For::Credential);
        assert_eq!(more, Err(DropReason::Full));
        assert_eq!(waiting.known.len(), MAX_KNOWN);
    }

    #[test]
    fn an_unknown_namespace_is_waited_for_for_seconds() {
        let (mut waiting, begin) = (Waiting::default(), Instant::now());
        waiting.add(pair("new"), begin, For::Namespace).unwrap();
        waiting.add(pair("apps"), begin, For::Credential).unwrap();
        assert_eq!(
            waiting.expire(begin + UNKNOWN_TIMEOUT / 2).map(|(_, n)| n),
            [0, 0]
        );
        assert_eq!(
            waiting.expire(begin + UNKNOWN_TIMEOUT),
            [(DropReason::Expired, 0), (DropReason::NamespaceUnknown, 1)]
        );
        assert_eq!(
            waiting.expire(begin + WAIT_TIMEOUT),
            [(DropReason::Expired, 1), (DropReason::NamespaceUnknown, 0)]
        );
    }

    #[test]
    fn a_demand_keeps_the_time_of_its_first_pod() {
        let (mut waiting, begin) = (Waiting::default(), Instant::now());
        waiting.add(pair("apps"), begin, For::Credential).unwrap();
        waiting
            .add(pair("apps"), begin + WAIT_TIMEOUT / 2, For::Credential)
            .unwrap();
        assert_eq!(waiting.take(1, |_| true), [(pair("apps"), begin)]);
        assert_eq!(waiting.take(1, |_| true), []);
    }

    #[test]
    fn no_more_are_taken_than_there_is_room_for() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        for number in 0..10 {
            waiting
                .add(pair(&number.to_string()), now, For::Credential)
                .unwrap();
        }
        assert_eq!(waiting.take(3, |pair| pair.0 != "0").len(), 3);
        waiting.remove(&pair("0"));
        assert!(waiting.take(10, |_| true).len() >= 6);
        assert!(waiting.known.is_empty());
    }
}

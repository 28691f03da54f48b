//! How far the end of a detached registry is, and what comes next: a pure decision.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::time::{Duration, Instant};

use crate::sync::failures::Retry;
use crate::sync::secrets::detach::namespaces::{Difference, Name};
use crate::sync::stored::{Emptied, Stored};

/// What there is to do about a registry that is detached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::sync::secrets) enum DetachStep {
    /// Empty its credential.
    Empty,
    /// Delete its pull secrets.
    Sweep(Round),
    /// Note that they are deleted.
    MarkSwept,
    /// Nothing yet: a replica may be behind.
    Keep,
    /// Delete what is left of its credential.
    Delete,
}

/// Which sweep of the namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::sync::secrets) enum Round {
    /// Right away.
    First,
    /// When no replica can be behind any more.
    Second,
}

/// Decides on a registry that is detached. It is pure. `kept_for` is how long this process has known the content of
/// the Secret, by its monotonic clock: no wall clock is trusted, neither of this machine nor of the one that wrote the
/// Secret, so a clock that jumps deletes nothing early. A process that starts counts from the beginning.
pub(in crate::sync::secrets) fn next_step(
    stored: &Stored,
    kept_for: Duration,
    interval: Duration,
    is_cleared: impl FnOnce(Round) -> bool,
) -> DetachStep {
    let (round, done) = match stored {
        Stored::Minted(_) | Stored::Unreadable => return DetachStep::Empty,
        Stored::Emptied(Emptied { is_swept: false, .. }) => (Round::First, DetachStep::MarkSwept),
        Stored::Emptied(_) if kept_for < interval => return DetachStep::Keep,
        Stored::Emptied(_) => (Round::Second, DetachStep::Delete),
    };
    if is_cleared(round) {
        done
    } else {
        DetachStep::Sweep(round)
    }
}

/// How far a leader is with a registry that is detached.
#[derive(Debug, Default)]
pub(in crate::sync::secrets) struct Detached {
    /// The sweep that is under way.
    pub(super) round: Option<Round>,
    /// The namespaces that it has dealt with.
    pub(in crate::sync::secrets) cleared: HashSet<Name>,
    /// Those that it has not.
    left: BTreeSet<Name>,
    /// The last one of them that had its turn.
    last: Option<Name>,
    /// The writes of its Secret that were tried, whatever followed. One that is due again failed, or somebody undid it, as
    /// a webhook may each time: either way it waits longer each time.
    pub(super) tried: HashMap<DetachStep, Retry>,
    /// Its Secret is being written.
    pub(super) is_busy: bool,
    /// Its Secret was deleted by this process; the watch is yet to bring that.
    pub(super) is_deleted: bool,
    /// How many namespaces had their turn.
    #[cfg(test)]
    pub(super) turns: usize,
}

impl Detached {
    pub(super) fn waits(&self, step: DetachStep, now: Instant) -> bool {
        self.tried.get(&step).is_some_and(|retry| retry.waits(now))
    }

    /// Begins a sweep of these namespaces.
    pub(super) fn begin(&mut self, round: Round, namespaces: impl Iterator<Item = Name>) {
        self.round = Some(round);
        self.cleared.clear();
        self.left = namespaces.collect();
    }

    /// Whether a sweep was begun and has dealt with all namespaces.
    pub(super) fn is_cleared(&self, round: Round) -> bool {
        self.round == Some(round) && self.left.is_empty()
    }

    /// Whether the sweep under way has dealt with a namespace.
    pub(super) fn has_dealt_with(&self, namespace: &str) -> bool {
        self.round.is_some() && self.cleared.contains(namespace)
    }

    /// Notes that a namespace has no pull secret.
    pub(in crate::sync::secrets) fn clear(&mut self, namespace: &str) {
        // One that is gone meanwhile is forgotten.
        self.cleared.extend(self.left.take(namespace));
    }

    /// Takes which namespaces came and which are gone. Those that come during a sweep are part of it.
    pub(super) fn take(&mut self, difference: &Difference) {
        for name in difference.came.iter().chain(&difference.gone) {
            self.left.remove(name);
            self.cleared.remove(name);
        }
        if self.round.is_some() {
            self.left.extend(difference.came.iter().cloned());
        }
    }

    /// The next namespaces that are not dealt with, no more than so many. They take turns: some wait for long.
    pub(super) fn next(&mut self, most: usize) -> Vec<Name> {
        let last = self.last.take();
        let after = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.left.range::<str, _>((after, Bound::Unbounded));
        let from_here = rest.chain(&self.left);
        let next: Vec<Name> = from_here.take(most.min(self.left.len())).cloned().collect();
        self.last = next.last().cloned().or(last);
        #[cfg(test)]
        {
            self.turns += next.len();
        }
        next
    }
}

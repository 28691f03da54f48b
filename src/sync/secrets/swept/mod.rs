//! What a leader has swept, recorded for the next one: pairs that must have no pull secret, and are known to have
//! none.
//!
//! For each registry, the note has the state of the namespaces up to which no deletion is pending, including the
//! second one. It applies only to what has not changed since: another label makes a namespace newer, and another spec
//! changes the mark. So a note that is old, or lost, only causes more deletions, and a note that was true stays true.

pub(in crate::sync::secrets) mod basis;
pub(in crate::sync::secrets) mod note;

use std::collections::HashMap;

use self::basis::NoteBasis;
pub use self::note::SweptNote;
use self::note::{Left, Swept};
use super::work::Work;
use super::{SecretsController, SharedPair, Step, now};
use crate::policy::attached::AttachedRegistries;
use crate::sync::versions::{Mark, Versions};

/// While more pairs than that wait for something, the note is written when everything is looked at, and not each second:
/// that takes a while, in which the watches wait.
pub(super) const MAX_PENDING: usize = 10_000;

impl SecretsController {
    /// What the leader before told. A note of other rules is blotted out: until those are in force again, namespaces may get
    /// what they must not have by them.
    pub(super) fn read_note(&self) -> Swept {
        let Some(text) = self.note.get() else {
            return Swept::default();
        };
        let swept = Swept::parse(&text, &self.scope);
        if swept == Swept::default() {
            self.note.set(Some(String::new()));
        }
        swept
    }

    /// Whether a pair that must have no pull secret is known to have none.
    pub(super) fn is_swept(&self, work: &Work, pair: &SharedPair) -> bool {
        if work.is_wanted(pair) {
            // A replica that has not heard of a change yet may write it at any time.
            return false;
        }
        let (namespace, registry) = &**pair;
        let versions = self.watches.versions();
        let is_covered = versions
            .mark(registry)
            .zip(versions.namespace(namespace))
            .is_some_and(|(mark, version)| work.swept.covers(mark, version));
        is_covered || work.is_absent(pair)
    }

    /// Has pairs looked at, and swept once more, that may have had and lost their right while nothing was watched.
    pub(super) fn sweep_in_doubt(&self, work: &mut Work) {
        let doubts = self.watches.versions().take_doubts();
        if doubts.namespaces.is_empty() && doubts.registries.is_empty() {
            return;
        }
        let registries = self.watches.view.registries();
        for namespace in self.watches.view.namespaces() {
            let labels = self.watches.view.labels(&namespace);
            let is_in_doubt = doubts.namespaces.contains(&namespace);
            for registry in registries.each() {
                if !is_in_doubt && !doubts.registries.contains(registry.name()) {
                    continue;
                }
                let pair = work.pair(namespace.clone(), registry.name().to_owned());
                let wanted = work.is_wanted(&pair);
                if self.decide(&registries, &pair, labels.as_ref(), wanted).0 == Step::Delete {
                    work.may_be_present(&pair);
                    self.lose(work, &pair);
                    work.sweep(pair);
                }
            }
        }
    }

    /// Notes what is swept by now, where no more pairs than `most` wait for something. `has_seen_all` says whether every change
    /// that was told is dealt with.
    pub(super) fn note_swept(&self, work: &mut Work, most: usize, has_seen_all: impl FnOnce() -> bool) {
        if !work.is_begun || work.due.is_some() || work.knows_all_for(now()) < self.emptied_interval {
            // What changed may not have been told one by one, and a replica may write still what it did not know to be forbidden.
            return;
        }
        // Of a registry that was detached just now, nobody has begun to delete what there is.
        if work.is_detached || work.left_len() > most {
            return;
        }
        let registries = self.watches.view.registries();
        // Nothing is told while this is locked.
        let versions = self.watches.versions();
        // What is in doubt is swept first.
        if versions.has_doubts() || !has_seen_all() {
            return;
        }
        let basis = NoteBasis::new(work.revision(), versions.revision(), &registries);
        if work.basis.as_ref() == Some(&basis) {
            return;
        }
        let Some(swept) = swept_by_now(work, &versions, &registries) else {
            return;
        };
        drop(versions);
        work.basis = Some(basis);
        if swept != work.swept {
            if let Some(text) = swept.text(&self.scope) {
                self.note.set(Some(text));
            }
            work.swept = swept;
        }
    }
}

/// What is swept by now; none while no version of a namespace is known.
fn swept_by_now(work: &Work, versions: &Versions, registries: &AttachedRegistries) -> Option<Swept> {
    let newest = versions.newest()?;
    let mut left: HashMap<&str, (Mark, Left)> = HashMap::new();
    for registry in registries.each() {
        let name = registry.name();
        let is_unknown = work.detached.contains_key(name) || work.left_out.contains(name);
        let known = if is_unknown { Left::Unknown } else { Left::Nothing };
        left.extend(versions.mark(name).map(|mark| (name, (mark, known))));
    }
    for pair in work.left() {
        #[cfg(test)]
        tests::LOOKS.set(tests::LOOKS.get() + 1);
        // With a namespace that is gone its Secrets are, and one of that name is newer.
        if let (Some((_, left)), Some(version)) = (left.get_mut(&*pair.1), versions.namespace(&pair.0)) {
            *left = left.and(version);
        }
    }
    Some(work.swept.advance(newest, left.into_values()))
}

#[cfg(test)]
mod tests;

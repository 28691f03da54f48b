//! What a leader has swept, told to the next one: which pairs that must have no pull secret are known to have none.
//!
//! For each registry that is the state of the namespaces up to which no deletion is left, a second one included. It says
//! something of what has not changed since: another label makes a namespace newer, another spec is another mark. So a note
//! that is old, or lost, costs deletions and nothing else, and one that was true stays true.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::work::Work;
use super::{Pair, SecretsController, Step, now};
use crate::policy::scope::Scope;
use crate::sync::credentials::Version;
use crate::sync::versions::Mark;

/// The form of the note. What another release means by a spec may be something else: raise it then.
const FORMAT: u32 = 1;
/// The longest note: it is part of each version of the Lease. It has room for some 900 registries.
const MAX_BYTES: usize = 16 * 1024;
/// While more pairs than that wait for something, the note stays as it is.
const MAX_PENDING: usize = 10_000;

/// The note of a leader to the next one. Who holds the Lease keeps it there.
#[derive(Debug, Default)]
pub struct SweptNote(Mutex<Option<String>>);

impl SweptNote {
    /// The note as it is now.
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes another one.
    pub fn set(&self, note: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = note;
    }
}

/// Up to which version of the namespaces each registry is swept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Swept(HashMap<Mark, Version>);

/// The note's text.
#[derive(Debug, Serialize, Deserialize)]
struct Text {
    format: u32,
    /// What decides which namespaces have any pull secret.
    scope: String,
    /// The marks of registries, by the version up to which they are swept.
    swept: BTreeMap<String, String>,
}

/// What is left to delete of a registry's pull secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing.
    Nothing,
    /// Something in namespaces of this version or newer ones.
    From(Version),
    /// Nobody can tell.
    Unknown,
}

impl Left {
    fn and(self, namespace: Version) -> Self {
        match self {
            Self::Nothing => Self::From(namespace),
            Self::From(version) => Self::From(version.min(namespace)),
            Self::Unknown => Self::Unknown,
        }
    }
}

impl Swept {
    /// Whether a namespace of this version has no pull secret of a registry that must not be there.
    pub(super) fn covers(&self, registry: Mark, namespace: Version) -> bool {
        self.0.get(&registry).is_some_and(|swept| namespace <= *swept)
    }

    /// The same after more work. `newest` is the version of the newest namespace, to which every change is known. Registries
    /// that are not named are forgotten.
    fn advance(&self, newest: Version, registries: impl IntoIterator<Item = (Mark, Left)>) -> Self {
        let swept = registries.into_iter().filter_map(|(mark, left)| {
            let before = self.0.get(&mark).map(|before| *before.min(&newest));
            let swept = match left {
                Left::Nothing => Some(newest),
                Left::From(version) => before.max(Some(version.before().min(newest))),
                Left::Unknown => before,
            };
            Some((mark, swept?))
        });
        Self(swept.collect())
    }

    /// Reads a note; one that can't be read, or that was written under other rules, says nothing.
    fn parse(text: &str, scope: &Scope) -> Self {
        let read = serde_json::from_str::<Text>(text).ok();
        let valid = read.filter(|text| text.format == FORMAT && text.scope == scope_mark(scope));
        let of = |(version, marks): (String, String)| -> Option<Vec<(Mark, Version)>> {
            let version = Version::parse(Some(&version))?;
            let marks = marks.split(' ').map(|mark| u64::from_str_radix(mark, 16).ok());
            marks.map(|mark| Some((Mark(mark?), version))).collect()
        };
        let swept = valid.and_then(|text| text.swept.into_iter().map(of).collect::<Option<Vec<_>>>());
        Self(swept.unwrap_or_default().into_iter().flatten().collect())
    }

    /// Writes a note; none where it would be too long.
    fn text(&self, scope: &Scope) -> Option<String> {
        let mut marks: Vec<_> = self.0.iter().collect();
        marks.sort();
        let mut swept = BTreeMap::<String, Vec<String>>::new();
        for (Mark(mark), version) in marks {
            let marks = swept.entry(version.to_string()).or_default();
            marks.push(format!("{mark:016x}"));
        }
        let swept = swept.into_iter();
        let text = Text {
            format: FORMAT,
            scope: scope_mark(scope),
            swept: swept.map(|(version, marks)| (version, marks.join(" "))).collect(),
        };
        let text = serde_json::to_string(&text).ok();
        text.filter(|text| text.len() <= MAX_BYTES)
    }
}

fn scope_mark(scope: &Scope) -> String {
    let excluded: Vec<&str> = scope.excluded().collect();
    let Mark(mark) = Mark::digest(&format!("{} {excluded:?}", scope.mode().as_str()));
    format!("{mark:016x}")
}

impl SecretsController {
    /// What the leader before told.
    pub(super) fn read_note(&self) -> Swept {
        let note = self.note.get();
        note.map(|text| Swept::parse(&text, &self.scope))
            .unwrap_or_default()
    }

    /// Whether a pair that must have no pull secret is known to have none.
    pub(super) fn is_swept(&self, work: &Work, pair: &Pair) -> bool {
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
            for registry in registries.all() {
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

    /// Notes what is swept by now. `has_seen_all` says whether every change that was told is dealt with.
    pub(super) fn note_swept(&self, work: &mut Work, has_seen_all: impl FnOnce() -> bool) {
        if !work.is_begun || work.knows_all_for(now()) < self.emptied_interval {
            // A replica may write still what it did not know to be forbidden.
            return;
        }
        let Some(swept) = self.swept_by_now(work, has_seen_all) else {
            return;
        };
        if swept != work.swept {
            if let Some(text) = swept.text(&self.scope) {
                self.note.set(Some(text));
            }
            work.swept = swept;
        }
    }

    fn swept_by_now(&self, work: &Work, has_seen_all: impl FnOnce() -> bool) -> Option<Swept> {
        let registries = self.watches.view.registries();
        let failing = work.failures.pairs().filter(|pair| {
            let wanted = work.is_wanted(pair);
            self.step_of(&registries, pair, wanted) == Step::Delete
        });
        let pending: Vec<&Pair> = work.pending().chain(failing).take(MAX_PENDING + 1).collect();
        if pending.len() > MAX_PENDING {
            return None;
        }
        // Nothing is told while this is locked.
        let versions = self.watches.versions();
        let newest = versions.newest()?;
        if !has_seen_all() {
            return None;
        }
        let mut left: HashMap<&str, (Mark, Left)> = HashMap::new();
        for registry in registries.all() {
            let name = registry.name();
            let is_unknown = work.detached.contains_key(name) || work.left_out.contains(name);
            let known = if is_unknown { Left::Unknown } else { Left::Nothing };
            left.extend(versions.mark(name).map(|mark| (name, (mark, known))));
        }
        for pair in pending {
            // With a namespace that is gone its Secrets are, and one of that name is newer.
            if let (Some((_, left)), Some(version)) = (left.get_mut(&*pair.1), versions.namespace(&pair.0)) {
                *left = left.and(version);
            }
        }
        Some(work.swept.advance(newest, left.into_values()))
    }
}

#[cfg(test)]
mod tests;

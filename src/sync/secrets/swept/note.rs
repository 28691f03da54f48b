//! The note itself, and how it grows: a pure decision.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::policy::scope::Scope;
use crate::sync::credentials::Version;
use crate::sync::versions::Mark;

/// The form of the note. What another release means by a spec may be something else: raise it then.
const FORMAT: u32 = 1;
/// The longest note: it is part of each version of the Lease. It has room for some 900 registries.
pub(super) const MAX_BYTES: usize = 16 * 1024;

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
pub(in crate::sync::secrets) struct Swept(pub(super) HashMap<Mark, Version>);

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
pub(in crate::sync::secrets) enum Left {
    /// Nothing.
    Nothing,
    /// Something in namespaces of this version or newer ones.
    From(Version),
    /// Nobody can tell.
    Unknown,
}

impl Left {
    pub(super) fn and(self, namespace: Version) -> Self {
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
    pub(super) fn advance(
        &self,
        newest: Version,
        registries: impl IntoIterator<Item = (Mark, Left)>,
    ) -> Self {
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
    pub(super) fn parse(text: &str, scope: &Scope) -> Self {
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

    /// Writes a note; none if it would be too long.
    pub(super) fn text(&self, scope: &Scope) -> Option<String> {
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
    let mut text = format!("{} {excluded:?}", scope.mode().as_str());
    // Without a selector it is the mark of releases that knew none.
    if !scope.selector().selects_all() {
        text = format!("{text} {}", scope.selector());
    }
    let Mark(mark) = Mark::digest(&text);
    format!("{mark:016x}")
}

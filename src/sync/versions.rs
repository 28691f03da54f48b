//! How far the watches of namespaces and registries have come, in the API server's order.
//!
//! A leader tells the next one by this what it has swept. So everything here counts as long as nothing was missed: what may
//! have been something else in between, while nobody watched, is in doubt.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::time::Instant;

use kube::core::ObjectMeta;
use ring::digest::{SHA256, digest};
use serde_json::json;

use crate::policy::attached::AttachedRegistry;
use crate::sync::credentials::Version;
use crate::sync::stored::EMPTIED_INTERVAL;

/// How many deleted namespaces are remembered.
const MAX_GONE: usize = 10_000;

/// Which object a registry is, in which version of its spec, and who may have its pull secret by that. The digest is
/// cryptographic, since who may write an `AcrRegistry` chooses what goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Mark(pub(super) u64);

impl Mark {
    fn of(uid: &str, generation: i64, registry: &AttachedRegistry) -> Self {
        let (name, namespaces) = (registry.name(), format!("{:?}", registry.namespaces()));
        Self::digest(&json!([name, uid, generation, registry.is_anonymous(), namespaces]).to_string())
    }

    /// The mark of a text.
    pub(super) fn digest(text: &str) -> Self {
        let digest = digest(&SHA256, text.as_bytes());
        let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
        Self(u64::from_be_bytes(first))
    }
}

/// A registry as the API server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RegistryVersion {
    uid: String,
    generation: i64,
    /// None while it can't be acted on: only this process knows what it meant before.
    mark: Option<Mark>,
}

impl RegistryVersion {
    /// That of an object, which means this, if it can be acted on.
    pub(super) fn of(metadata: &ObjectMeta, registry: Option<&AttachedRegistry>) -> Self {
        let uid = metadata.uid.clone().unwrap_or_default();
        // Without a number nobody knows whether it changed.
        let generation = metadata.generation;
        let mark = registry.zip(generation);
        Self {
            mark: mark.map(|(registry, generation)| Mark::of(&uid, generation, registry)),
            uid,
            generation: generation.unwrap_or_default(),
        }
    }

    /// Whether the spec was a third one between the two, as far as anybody knows.
    fn may_have_been_another_before(&self, next: &Self) -> bool {
        let generations = [self.generation, self.generation.saturating_add(1)];
        self.uid != next.uid || !generations.contains(&next.generation)
    }
}

/// What may have been something else while it was not watched.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Doubts {
    pub(super) namespaces: BTreeSet<String>,
    pub(super) registries: BTreeSet<String>,
}

/// The versions of all namespaces and registries. Who changes them tells of the change before they can be read again.
#[derive(Debug, Default)]
pub(super) struct Versions {
    namespaces: HashMap<Box<str>, Version>,
    /// That of the newest namespace: every change up to it is known.
    newest: Option<Version>,
    registries: HashMap<String, RegistryVersion>,
    /// Namespaces that were deleted, and when: a replica that is behind may take one of that name for them.
    gone: HashMap<Box<str>, Instant>,
    /// When one was deleted last for which there was no room in these.
    gone_unnoted: Option<Instant>,
    /// Registries that changed, and at which nobody has looked since.
    unseen: BTreeSet<String>,
    doubts: Doubts,
}

/// Namespaces of a list.
pub(super) type Listed = HashMap<Box<str>, Version>;

impl Versions {
    /// That of a namespace.
    pub(super) fn namespace(&self, name: &str) -> Option<Version> {
        self.namespaces.get(name).copied()
    }

    /// That of the newest namespace.
    pub(super) fn newest(&self) -> Option<Version> {
        self.newest
    }

    /// The mark of a registry that can be acted on.
    pub(super) fn mark(&self, registry: &str) -> Option<Mark> {
        self.registries.get(registry)?.mark
    }

    /// Whether anything is in doubt.
    pub(super) fn has_doubts(&self) -> bool {
        self.doubts != Doubts::default()
    }

    /// A registry is looked at as it is while this is locked. One that changes twice without that is in doubt: it may have
    /// been the same before and after, and something else in between.
    pub(super) fn look_at(&mut self, registry: &str) {
        self.unseen.remove(registry);
    }

    /// Takes out what is in doubt.
    pub(super) fn take_doubts(&mut self) -> Doubts {
        mem::take(&mut self.doubts)
    }

    /// A namespace came or changed.
    pub(super) fn set_namespace(&mut self, name: &str, version: Option<Version>, now: Instant) {
        self.gone
            .retain(|_, at| now.saturating_duration_since(*at) < EMPTIED_INTERVAL);
        let is_new = !self.namespaces.contains_key(name);
        if self.gone.remove(name).is_some() || is_new && self.may_be_gone(now) {
            // A replica may take it for the former one.
            self.doubts.namespaces.insert(name.to_owned());
        }
        match version {
            Some(version) => {
                self.namespaces.insert(name.into(), version);
                self.newest = self.newest.max(Some(version));
            }
            None => {
                self.namespaces.remove(name);
            }
        }
    }

    /// A namespace is gone.
    pub(super) fn remove_namespace(&mut self, name: &str, now: Instant) {
        self.namespaces.remove(name);
        self.doubts.namespaces.remove(name);
        self.note_gone(name.into(), now);
    }

    fn note_gone(&mut self, name: Box<str>, now: Instant) {
        if self.gone.len() < MAX_GONE {
            self.gone.insert(name, now);
        } else {
            self.gone_unnoted = Some(now);
        }
    }

    /// Whether any name may be that of a namespace which was deleted a moment ago.
    fn may_be_gone(&self, now: Instant) -> bool {
        self.gone_unnoted
            .is_some_and(|at| now.saturating_duration_since(at) < EMPTIED_INTERVAL)
    }

    /// A list has all namespaces. The newest of them counts, also where it is older than before: the API server may have
    /// been restored from a backup.
    pub(super) fn set_namespaces(&mut self, listed: Listed, now: Instant) {
        let known = mem::take(&mut self.namespaces);
        self.gone
            .retain(|_, at| now.saturating_duration_since(*at) < EMPTIED_INTERVAL);
        let in_doubt: Vec<String> = listed
            .iter()
            .filter(|(name, version)| match known.get(*name) {
                Some(known) => known != *version,
                None => self.gone.contains_key(*name) || self.may_be_gone(now),
            })
            .map(|(name, _)| name.to_string())
            .collect();
        self.gone.retain(|name, _| !listed.contains_key(name));
        for name in known.into_keys().filter(|name| !listed.contains_key(name)) {
            self.note_gone(name, now);
        }
        self.doubts.namespaces.extend(in_doubt);
        self.doubts.namespaces.retain(|name| listed.contains_key(&**name));
        self.newest = listed.values().max().copied();
        self.namespaces = listed;
    }

    /// A registry came, changed or went.
    pub(super) fn set_registry(&mut self, name: &str, next: Option<&RegistryVersion>) {
        let Some(next) = next else {
            self.registries.remove(name);
            self.unseen.remove(name);
            self.doubts.registries.remove(name);
            return;
        };
        let known = self.registries.insert(name.to_owned(), next.clone());
        let Some(known) = known.filter(|known| known != next) else {
            return;
        };
        let is_unseen = !self.unseen.insert(name.to_owned());
        if is_unseen || known.may_have_been_another_before(next) {
            self.doubts.registries.insert(name.to_owned());
        }
    }

    /// A list has all registries.
    pub(super) fn set_registries(&mut self, registries: &HashMap<String, RegistryVersion>) {
        for (name, next) in registries {
            self.set_registry(name, Some(next));
        }
        let gone = self
            .registries
            .keys()
            .filter(|name| !registries.contains_key(*name));
        for name in gone.cloned().collect::<Vec<_>>() {
            self.set_registry(&name, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version((uid, generation): (u8, i64)) -> RegistryVersion {
        let metadata = ObjectMeta {
            uid: Some(uid.to_string()),
            generation: Some(generation),
            ..ObjectMeta::default()
        };
        RegistryVersion::of(&metadata, None)
    }

    proptest! {
        #[test]
        fn registries_one_by_one_are_those_of_a_list(
            steps in proptest::collection::vec(
                proptest::collection::hash_map("[a-d]", (0..2_u8, 0..5_i64), 0..4), 0..6
            )
        ) {
            let (mut listed, mut single) = (Versions::default(), Versions::default());
            let mut before: HashMap<String, RegistryVersion> = HashMap::new();
            for step in steps {
                let now: HashMap<_, _> = step.into_iter().map(|(name, of)| (name, version(of))).collect();
                listed.set_registries(&now);
                let names: BTreeSet<_> = before.keys().chain(now.keys()).collect();
                for name in names.into_iter().filter(|name| before.get(*name) != now.get(*name)) {
                    single.set_registry(name, now.get(name));
                }
                prop_assert_eq!(&listed.registries, &now);
                prop_assert_eq!(&single.registries, &now);
                prop_assert_eq!(&listed.unseen, &single.unseen);
                prop_assert_eq!(&listed.doubts, &single.doubts);
                before = now;
            }
        }
    }
}

//! How far the watches of namespaces and registries have come, in the API server's order.
//!
//! A leader tells the next one by this what it has swept. So everything here counts as long as nothing was missed: what may
//! have been something else in between, while nobody watched, is in doubt.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
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
    gone: GoneNamespaces,
    /// Registries that changed, and at which nobody has looked since.
    unseen: BTreeSet<String>,
    doubts: Doubts,
    /// Another one whenever a version is another.
    revision: u64,
}

/// Namespaces that were deleted a moment ago: a replica that is behind may take one of that name for them.
#[derive(Debug, Default)]
struct GoneNamespaces {
    /// When each was deleted last.
    at: HashMap<Arc<str>, Instant>,
    /// The same in the order of time, so that those that have expired are found without a look at the others.
    order: VecDeque<(Arc<str>, Instant)>,
    /// When one was deleted last for which there was no room in these.
    unnoted: Option<Instant>,
}

impl GoneNamespaces {
    /// One was deleted.
    fn note(&mut self, name: &str, now: Instant) {
        self.expire(now);
        if self.order.len() < MAX_GONE {
            let name = Arc::from(name);
            self.order.push_back((Arc::clone(&name), now));
            self.at.insert(name, now);
        } else {
            self.unnoted = Some(now);
        }
    }

    /// Whether a namespace that is new may be taken for one that was deleted.
    fn may_have_been(&self, name: &str, now: Instant) -> bool {
        self.at.get(name).is_some_and(|at| was_recent(*at, now)) || self.may_have_been_any(now)
    }

    /// Whether that is so whatever its name is.
    fn may_have_been_any(&self, now: Instant) -> bool {
        self.unnoted.is_some_and(|at| was_recent(at, now))
    }

    /// A namespace is there again; says whether one of its name was deleted a moment ago.
    fn take(&mut self, name: &str, now: Instant) -> bool {
        self.at.remove(name).is_some_and(|at| was_recent(at, now))
    }

    fn expire(&mut self, now: Instant) {
        while let Some((name, at)) = self.order.pop_front_if(|(_, at)| !was_recent(*at, now)) {
            // It may have been there again, and deleted later.
            if self.at.get(&name) == Some(&at) {
                self.at.remove(&name);
            }
        }
    }
}

fn was_recent(deleted: Instant, now: Instant) -> bool {
    #[cfg(test)]
    tests::LOOKS.set(tests::LOOKS.get() + 1);
    now.saturating_duration_since(deleted) < EMPTIED_INTERVAL
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

    /// Another number whenever any of these may be another than before.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    fn revise(&mut self) {
        self.revision = self.revision.wrapping_add(1);
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
        let is_new = !self.namespaces.contains_key(name);
        if self.gone.take(name, now) || is_new && self.gone.may_have_been_any(now) {
            // A replica may take it for the former one.
            self.doubts.namespaces.insert(name.to_owned());
        }
        self.revise();
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
        self.revise();
        self.namespaces.remove(name);
        self.doubts.namespaces.remove(name);
        self.gone.note(name, now);
    }

    /// A list has all namespaces. The newest of them counts, also where it is older than before: the API server may have
    /// been restored from a backup.
    pub(super) fn set_namespaces(&mut self, listed: Listed, now: Instant) {
        self.revise();
        let known = mem::take(&mut self.namespaces);
        let in_doubt: Vec<String> = listed
            .iter()
            .filter(|(name, version)| match known.get(*name) {
                Some(known) => known != *version,
                None => self.gone.may_have_been(name, now),
            })
            .map(|(name, _)| name.to_string())
            .collect();
        self.gone.at.retain(|name, _| !listed.contains_key(&**name));
        for name in known.keys().filter(|name| !listed.contains_key(*name)) {
            self.gone.note(name, now);
        }
        self.doubts.namespaces.extend(in_doubt);
        self.doubts.namespaces.retain(|name| listed.contains_key(&**name));
        self.newest = listed.values().max().copied();
        self.namespaces = listed;
    }

    /// A registry came, changed or went.
    pub(super) fn set_registry(&mut self, name: &str, next: Option<&RegistryVersion>) {
        if self.registries.get(name) != next {
            self.revise();
        }
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
    use std::cell::Cell;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    thread_local! {
        /// How many deletions were looked at.
        pub(super) static LOOKS: Cell<usize> = const { Cell::new(0) };
    }

    fn doubted(versions: &mut Versions) -> Vec<String> {
        versions.take_doubts().namespaces.into_iter().collect()
    }

    #[test]
    fn a_namespace_that_is_recreated_within_minutes_is_in_doubt() {
        let (mut versions, begin) = (Versions::default(), Instant::now());
        let version = Version::parse(Some("7"));
        let almost = EMPTIED_INTERVAL.saturating_sub(Duration::from_nanos(1));
        versions.remove_namespace("a", begin);
        versions.set_namespace("b", version, begin);
        versions.set_namespace("a", version, begin + almost);
        assert_eq!(doubted(&mut versions), ["a"]);
        versions.set_namespace("a", version, begin + almost);
        assert!(!versions.has_doubts(), "it was told");
        versions.remove_namespace("a", begin);
        versions.set_namespace("a", version, begin + EMPTIED_INTERVAL);
        assert!(!versions.has_doubts(), "nobody is so far behind");
        // It went twice: the second time counts.
        versions.remove_namespace("a", begin);
        versions.set_namespace("a", version, begin + EMPTIED_INTERVAL);
        versions.remove_namespace("a", begin + almost);
        versions.remove_namespace("c", begin + EMPTIED_INTERVAL);
        versions.set_namespace("a", version, begin + EMPTIED_INTERVAL);
        assert_eq!(doubted(&mut versions), ["a"]);
        let listed = |names: &[&str]| -> Listed {
            let all = names.iter().zip(version.into_iter().cycle());
            all.map(|(name, version)| ((*name).into(), version)).collect()
        };
        versions.set_namespaces(listed(&["a", "b"]), begin);
        versions.set_namespaces(listed(&["a", "c"]), begin + EMPTIED_INTERVAL);
        assert_eq!(doubted(&mut versions), ["c"]);
        versions.set_namespaces(listed(&["a", "b", "c"]), begin + EMPTIED_INTERVAL + almost);
        assert_eq!(doubted(&mut versions), ["b"]);
    }

    #[test]
    fn a_namespace_event_costs_the_same_among_any_number() {
        let (mut versions, begin) = (Versions::default(), Instant::now());
        let version = Version::parse(Some("7"));
        let looks = || LOOKS.replace(0);
        for number in 0..MAX_GONE {
            versions.remove_namespace(&number.to_string(), begin);
        }
        assert!(looks() < 2 * MAX_GONE);
        for number in 0..100 {
            versions.set_namespace(&number.to_string(), version, begin);
            versions.set_namespace(&format!("new-{number}"), version, begin);
        }
        assert!(looks() <= 200);
        assert_eq!(doubted(&mut versions).len(), 100);
        versions.remove_namespace("more", begin);
        versions.set_namespace("any", version, begin);
        assert_eq!(doubted(&mut versions), ["any"], "there was no room for it");
        assert_eq!(versions.gone.order.len(), MAX_GONE);
        versions.remove_namespace("later", begin + EMPTIED_INTERVAL);
        assert_eq!((versions.gone.at.len(), versions.gone.order.len()), (1, 1));
    }

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

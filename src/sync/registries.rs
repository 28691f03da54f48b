//! Which registries are attached, derived from the events of a watch.
//!
//! If pullpass can't act on an AcrRegistry, the registry is still attached: the previous spec stays in force, and
//! nothing that resulted from it is deleted. That is the case for a wrong spec, and for one that a later version of
//! the schema allows and this version of the program can't read. Neither keeps the others from being read.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kube::core::ObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Resource, ResourceExt};

use crate::api::acr_registry::{AcrRegistry, AcrRegistrySpec};
use crate::api::names::binding_key;
use crate::api::unread::Unread;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::listed;
pub(super) use crate::policy::listed::UnreadRegistry;
use crate::registry::other_cloud::OtherCloud;
use crate::sync::versions::RegistryVersion;

/// The attached registries.
#[derive(Debug, Default)]
pub(super) struct KnownRegistries {
    other_cloud: OtherCloud,
    current: Known,
    /// What a list has told so far.
    listed: Known,
}

#[derive(Debug, Default)]
struct Known {
    /// Shared with what was told: one that stays the same is the same piece of memory.
    registries: AttachedRegistries,
    versions: HashMap<String, RegistryVersion>,
}

/// Which registries may have changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// Any of them: a list was read.
    Any,
    /// The one that an event is about, and those that got or lost a custom domain by that.
    These(BTreeSet<String>),
}

impl KnownRegistries {
    /// None yet, for a process that knows this of another cloud.
    pub(super) fn new(other_cloud: OtherCloud) -> Self {
        Self {
            other_cloud,
            ..Self::default()
        }
    }

    /// Takes an event; tells which may have changed by it, as soon as all of them are known.
    pub(super) fn take(&mut self, event: Event<UnreadRegistry>) -> Option<Changed> {
        match event {
            Event::Init => {
                self.listed = Known::default();
                None
            }
            Event::InitApply(object) => {
                let before = self.current.registries.shared(&object.name_any()).cloned();
                self.listed.insert(object, before, &self.other_cloud);
                None
            }
            Event::InitDone => {
                self.current = std::mem::take(&mut self.listed);
                Some(Changed::Any)
            }
            Event::Apply(object) => {
                let changed = self.current.insert(object, None, &self.other_cloud);
                changed.map(Changed::These)
            }
            Event::Delete(object) => self.current.remove(&object.name_any()).map(Changed::These),
        }
    }

    /// All of them.
    pub(super) fn registries(&self) -> &AttachedRegistries {
        &self.current.registries
    }

    /// The versions of all of them.
    pub(super) fn versions(&self) -> &HashMap<String, RegistryVersion> {
        &self.current.versions
    }
}

impl Known {
    /// Takes an object; `before` is what it meant where it was known before. Returns the names of those that changed, if any did.
    fn insert(
        &mut self,
        object: UnreadRegistry,
        before: Option<Arc<AttachedRegistry>>,
        other_cloud: &OtherCloud,
    ) -> Option<BTreeSet<String>> {
        let name = object.name_any();
        let metadata = object.meta().clone();
        let parsed = listed::read(object, other_cloud);
        let version = RegistryVersion::of(&metadata, parsed.as_ref().ok());
        self.versions.insert(name.clone(), version);
        let known = self.registries.shared(&name).cloned();
        let (registry, is_new) = match parsed {
            Ok(registry) => {
                let same = known.clone().or(before).filter(|known| **known == registry);
                let was_unusable = self.registries.unset_unusable(&name);
                (Some(same.unwrap_or_else(|| Arc::new(registry))), was_unusable)
            }
            Err(error) => {
                tracing::warn!(registry = name, %error, "an AcrRegistry can't be acted on");
                (before, self.registries.set_unusable(&name))
            }
        };
        // Another piece of memory is another registry, or one that a list has brought back.
        let is_known = |registry: &Arc<_>| known.is_some_and(|known| Arc::ptr_eq(&known, registry));
        let registry = registry.filter(|registry| !is_known(registry));
        if registry.is_none() && !is_new {
            return None;
        }
        let mut changed = registry.map_or_else(BTreeSet::new, |registry| self.registries.set(&registry));
        changed.insert(name);
        Some(changed)
    }

    fn remove(&mut self, name: &str) -> Option<BTreeSet<String>> {
        self.versions.remove(name);
        let was_unusable = self.registries.unset_unusable(name);
        let affected = self.registries.remove(name);
        let affected = affected.or_else(|| was_unusable.then(BTreeSet::new));
        affected.map(|mut changed| {
            changed.insert(name.to_owned());
            changed
        })
    }
}

/// What an object that can't be read is known by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) String);

/// What makes the event of an object that could be read.
type Made<K> = fn(K) -> Event<K>;

/// Reads the object of an event, for callers that work on those that can be read.
pub(super) fn read<K: Resource>(
    event: watcher::Result<Event<Unread<K>>>,
    nothing_of: fn(ObjectMeta) -> K,
) -> Result<watcher::Result<Event<K>>, Unreadable> {
    let (object, made): (_, Made<K>) = match event {
        Err(error) => return Ok(Err(error)),
        Ok(Event::Init) => return Ok(Ok(Event::Init)),
        Ok(Event::InitDone) => return Ok(Ok(Event::InitDone)),
        Ok(Event::InitApply(object)) => (object, Event::InitApply),
        Ok(Event::Apply(object)) => (object, Event::Apply),
        // Whatever it held: it may have been one that could be read.
        Ok(Event::Delete(Unread(object))) => {
            let gone = object.unwrap_or_else(|unreadable| nothing_of(unreadable.metadata));
            return Ok(Ok(Event::Delete(gone)));
        }
    };
    match object.0 {
        Ok(object) => Ok(Ok(made(object))),
        Err(unreadable) => {
            let ObjectMeta { name, namespace, .. } = unreadable.metadata;
            let name = name.unwrap_or_default();
            Err(Unreadable(match namespace {
                Some(namespace) => binding_key(&namespace, &name),
                None => name,
            }))
        }
    }
}

/// An `AcrRegistry` of which nothing else is known.
pub(super) fn nothing_of(metadata: ObjectMeta) -> AcrRegistry {
    AcrRegistry {
        metadata,
        spec: AcrRegistrySpec::default(),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::listed::tests::object;
    use serde_json::json;

    fn sound(name: &str) -> UnreadRegistry {
        let host = format!("{name}.azurecr.io");
        object(
            name,
            &json!({"loginServer": host, "identity": {"managedIdentity": {}}}),
        )
    }

    /// Wrong, and from a later version.
    fn unusable(name: &str) -> [UnreadRegistry; 2] {
        let identity = json!({"managedIdentity": {}});
        [
            object(
                name,
                &json!({"loginServer": "registry.example", "identity": identity}),
            ),
            object(
                name,
                &json!({"loginServer": "registry1.azurecr.io", "identity": identity, "credential": {"kind": "OfLater"}}),
            ),
        ]
    }

    fn take(attached: &mut KnownRegistries, event: Event<UnreadRegistry>) -> Option<AttachedRegistries> {
        attached.take(event).map(|_| attached.registries().clone())
    }

    fn listed(
        attached: &mut KnownRegistries,
        objects: impl IntoIterator<Item = UnreadRegistry>,
    ) -> AttachedRegistries {
        assert!(take(attached, Event::Init).is_none());
        for object in objects {
            assert!(take(attached, Event::InitApply(object)).is_none());
        }
        take(attached, Event::InitDone).unwrap()
    }

    fn names(registries: &AttachedRegistries) -> Vec<&str> {
        registries.all().iter().map(|registry| registry.name()).collect()
    }

    #[test]
    fn an_unusable_registry_is_attached_and_blocks_no_other() {
        for bad in unusable("registry1") {
            let mut attached = KnownRegistries::default();
            let registries = listed(&mut attached, [bad, sound("registry2")]);
            assert_eq!(names(&registries), ["registry2"]);
            assert!(registries.is_attached("registry1") && registries.is_attached("registry2"));
            assert!(!registries.is_attached("registry3"));
            let registries = take(&mut attached, Event::Apply(sound("registry1"))).unwrap();
            assert_eq!(names(&registries), ["registry1", "registry2"]);
        }
    }

    #[test]
    fn an_unusable_registry_keeps_its_meaning_through_a_list() {
        for index in 0..2 {
            let bad = || {
                let [wrong, later] = unusable("registry1");
                if index == 0 { wrong } else { later }
            };
            let mut attached = KnownRegistries::default();
            listed(&mut attached, [sound("registry1")]);
            let registries = take(&mut attached, Event::Apply(bad())).unwrap();
            assert_eq!(names(&registries), ["registry1"]);
            assert!(
                take(&mut attached, Event::Apply(bad())).is_none(),
                "nothing is new"
            );
            assert_eq!(names(&listed(&mut attached, [bad()])), ["registry1"]);
            let registries = take(&mut attached, Event::Delete(bad())).unwrap();
            assert!(names(&registries).is_empty() && !registries.is_attached("registry1"));
        }
    }

    #[test]
    fn an_edit_copies_the_registry_that_it_changes() {
        let mut attached = KnownRegistries::default();
        let all = || (0..100).map(|number| sound(&format!("registry{number}")));
        let first = listed(&mut attached, all());
        let copied = |before: &AttachedRegistries, after: &AttachedRegistries| {
            let is_copied = |name: &&str| match (before.by_name(name), after.by_name(name)) {
                (Some(before), Some(after)) => !std::ptr::eq(before, after),
                _ => true,
            };
            after.names().filter(is_copied).count()
        };
        let edit = object(
            "registry7",
            &json!({"loginServer": "other1.azurecr.io", "identity": {"managedIdentity": {}}}),
        );
        let second = take(&mut attached, Event::Apply(edit)).unwrap();
        assert_eq!(copied(&first, &second), 1);
        let third = listed(&mut attached, all());
        assert_eq!(
            copied(&second, &third),
            1,
            "a list brings it back, and 99 as they were"
        );
        assert_eq!(first.by_name("registry7"), third.by_name("registry7"));
    }

    #[test]
    fn registries_gone_from_a_list_are_detached() {
        let mut attached = KnownRegistries::default();
        let [_, later] = unusable("registry1");
        listed(&mut attached, [later, sound("registry2")]);
        let registries = listed(&mut attached, []);
        assert!(!registries.is_attached("registry1") && !registries.is_attached("registry2"));
    }

    #[test]
    fn an_unreadable_one_is_told_by_its_name_and_its_end_is_an_end() {
        let [_, later] = unusable("registry1");
        let told = |event| match read(Ok(event), nothing_of) {
            Err(Unreadable(name)) => format!("unreadable {name}"),
            Ok(Ok(Event::Apply(object))) => format!("apply {}", object.name_any()),
            Ok(Ok(Event::Delete(object))) => format!("delete {}", object.name_any()),
            Ok(_) => "another".to_owned(),
        };
        assert_eq!(told(Event::Apply(sound("registry2"))), "apply registry2");
        assert_eq!(told(Event::Apply(later.clone())), "unreadable registry1");
        assert_eq!(told(Event::InitApply(later.clone())), "unreadable registry1");
        assert_eq!(told(Event::Delete(later)), "delete registry1");
    }
}

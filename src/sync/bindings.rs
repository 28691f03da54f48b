//! Which `AcrPullBindings` there are, as the events of a watch tell, and which of them are served. One that can't be acted on
//! stays what it meant before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::runtime::watcher::Event;

use crate::policy::attached::AttachedRegistry;
use crate::policy::attached::bindings::served;
pub(super) use crate::policy::listed::UnreadBinding;
use crate::policy::listed::{is_of, key_of_binding as key_of, read_binding};
use crate::registry::other_cloud::OtherCloud;
use crate::view::Bindings;

/// The bindings that can be acted on, or could be before.
#[derive(Debug, Default)]
pub(super) struct KnownBindings {
    other_cloud: OtherCloud,
    current: Bindings,
    /// Those of them that are served.
    served: Bindings,
    /// What a list has told so far.
    listed: Bindings,
}

impl KnownBindings {
    /// None yet, for a process that knows this of another cloud.
    pub(super) fn new(other_cloud: OtherCloud) -> Self {
        Self {
            other_cloud,
            ..Self::default()
        }
    }

    /// Those that are served.
    pub(super) fn served(&self) -> &Bindings {
        &self.served
    }

    /// Takes an event; gives the keys of those that are others now, or are served now or no more, where all are known.
    pub(super) fn take(&mut self, event: Event<UnreadBinding>) -> Option<Vec<String>> {
        match event {
            Event::Init => {
                self.listed.clear();
                None
            }
            Event::InitApply(object) => {
                let (namespace, key) = key_of(&object);
                let known = self.current.get(&namespace).and_then(|known| known.get(&key));
                let known = known.filter(|known| is_of(&object, known)).cloned();
                if let Some(binding) = self.read(object).or(known) {
                    self.listed.entry(namespace).or_default().insert(key, binding);
                }
                None
            }
            Event::InitDone => {
                let before = std::mem::replace(&mut self.current, std::mem::take(&mut self.listed));
                let all = self.current.iter();
                let serves = all
                    .map(|(namespace, all)| (namespace.clone(), served_of(all)))
                    .collect();
                let served_before = std::mem::replace(&mut self.served, serves);
                let mut keys = changed(&before, &self.current);
                keys.append(&mut changed(&served_before, &self.served));
                Some(keys.into_iter().collect())
            }
            Event::Apply(object) => {
                let (namespace, key) = key_of(&object);
                let binding = self.read(object)?;
                let here = self.current.entry(namespace.clone()).or_default();
                let before = here.insert(key.clone(), Arc::clone(&binding));
                (before.as_ref() != Some(&binding)).then(|| self.changed_in(&namespace, key))
            }
            Event::Delete(object) => {
                let (namespace, key) = key_of(&object);
                if let Some(here) = self.current.get_mut(&namespace) {
                    here.remove(&key);
                    if here.is_empty() {
                        self.current.remove(&namespace);
                    }
                }
                // One that could never be acted on has a status and series too, which its end concerns.
                Some(self.changed_in(&namespace, key))
            }
        }
    }

    /// Chooses again which bindings of a namespace are served; gives the keys of those that this concerns, and this one.
    fn changed_in(&mut self, namespace: &str, key: String) -> Vec<String> {
        let now = self.current.get(namespace).map(served_of).unwrap_or_default();
        let before = self.served.remove(namespace).unwrap_or_default();
        let moved = before.keys().chain(now.keys());
        let moved = moved.filter(|key| before.contains_key(*key) != now.contains_key(*key));
        let keys: BTreeSet<_> = moved.cloned().chain([key]).collect();
        if !now.is_empty() {
            self.served.insert(namespace.to_owned(), now);
        }
        keys.into_iter().collect()
    }

    fn read(&self, object: UnreadBinding) -> Option<Arc<AttachedRegistry>> {
        let (_, key) = key_of(&object);
        read_binding(object, &self.other_cloud)
            .inspect_err(|error| tracing::warn!(binding = key, %error, "an AcrPullBinding can't be acted on"))
            .ok()
            .map(Arc::new)
    }
}

/// Those of the bindings of a namespace that are served.
fn served_of(all: &BTreeMap<String, Arc<AttachedRegistry>>) -> BTreeMap<String, Arc<AttachedRegistry>> {
    let served = served(all.values()).into_iter();
    served
        .map(|binding| (binding.name().to_owned(), Arc::clone(binding)))
        .collect()
}

/// The keys of those that are not the same in both.
fn changed(before: &Bindings, after: &Bindings) -> BTreeSet<String> {
    let all = |bindings: &Bindings| -> BTreeMap<String, Arc<AttachedRegistry>> {
        let all = bindings.values().flatten();
        all.map(|(key, binding)| (key.clone(), Arc::clone(binding)))
            .collect()
    };
    let (before, after) = (all(before), all(after));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = |key: &&String| before.get(*key) != after.get(*key);
    keys.into_iter().filter(differs).cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::attached::bindings::MAX_SERVED;
    use crate::policy::listed::read_bindings;

    fn binding(namespace: &str, name: &str, spec: &Value) -> UnreadBinding {
        serde_json::from_value(json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {"name": name, "namespace": namespace, "uid": "u"}, "spec": spec,
        }))
        .unwrap()
    }

    fn sound(namespace: &str, name: &str) -> UnreadBinding {
        let spec = json!({"loginServer": "registry1.azurecr.io", "serviceAccountName": "puller"});
        binding(namespace, name, &spec)
    }

    fn listed(known: &mut KnownBindings, objects: impl IntoIterator<Item = UnreadBinding>) -> Vec<String> {
        assert!(known.take(Event::Init).is_none());
        for object in objects {
            assert!(known.take(Event::InitApply(object)).is_none());
        }
        known.take(Event::InitDone).unwrap()
    }

    #[test]
    fn events_tell_which_bindings_are_others() {
        let mut known = KnownBindings::default();
        let all = || [sound("shop", "app"), sound("blog", "app")];
        assert_eq!(listed(&mut known, all()), ["blog/app", "shop/app"]);
        assert!(listed(&mut known, all()).is_empty(), "nothing is new");
        assert_eq!(known.take(Event::Apply(sound("shop", "app"))), None);
        let other = json!({"loginServer": "registry2.azurecr.io", "serviceAccountName": "puller"});
        let told = known.take(Event::Apply(binding("shop", "app", &other)));
        assert_eq!(told, Some(vec!["shop/app".to_owned()]));
        let told = known.take(Event::Delete(sound("blog", "app")));
        assert_eq!(told, Some(vec!["blog/app".to_owned()]));
        assert_eq!(known.served().keys().collect::<Vec<_>>(), ["shop"]);
        assert_eq!(listed(&mut known, []), ["shop/app"]);
    }

    #[test]
    fn the_next_binding_is_served_where_an_older_one_goes() {
        let created = |name: &str, second: usize| {
            let object = json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
                "metadata": {
                    "name": name, "namespace": "shop", "uid": "u",
                    "creationTimestamp": format!("2026-11-28T10:00:{second:02}Z"),
                },
                "spec": {"loginServer": "registry1.azurecr.io", "serviceAccountName": "puller"},
            });
            serde_json::from_value::<UnreadBinding>(object).unwrap()
        };
        let mut known = KnownBindings::default();
        let old = (0..MAX_SERVED).map(|number| created(&format!("b{number:02}"), number));
        assert_eq!(listed(&mut known, old).len(), MAX_SERVED);
        let serves = |known: &KnownBindings, name: &str| known.served()["shop"].contains_key(name);
        for name in ["a", "c"] {
            let told = known.take(Event::Apply(created(name, 59)));
            assert_eq!(told, Some(vec![format!("shop/{name}")]));
            assert!(!serves(&known, &format!("shop/{name}")));
        }
        let told = known.take(Event::Delete(created("b07", 7)));
        assert_eq!(told, Some(vec!["shop/a".to_owned(), "shop/b07".to_owned()]));
        assert!(serves(&known, "shop/a") && !serves(&known, "shop/c"));
        let without = (1..MAX_SERVED).map(|number| created(&format!("b{number:02}"), number));
        let told = listed(&mut known, without.chain([created("a", 59), created("c", 59)]));
        assert_eq!(told, ["shop/b00", "shop/b07"]);
    }

    #[test]
    fn an_unusable_binding_keeps_its_meaning() {
        let mut known = KnownBindings::default();
        listed(&mut known, [sound("shop", "app")]);
        let wrong = || {
            let spec = json!({"loginServer": "registry.example", "serviceAccountName": "puller"});
            binding("shop", "app", &spec)
        };
        assert_eq!(known.take(Event::Apply(wrong())), None);
        assert!(listed(&mut known, [wrong()]).is_empty());
        assert_eq!(known.served().len(), 1);
        let later = binding("shop", "app", &json!({"ofLater": 1}));
        assert_eq!(known.take(Event::Apply(later)), None);
    }

    #[test]
    fn an_unusable_binding_means_nothing_that_another_one_meant() {
        let mut known = KnownBindings::default();
        listed(&mut known, [sound("shop", "app")]);
        let recreated: UnreadBinding = serde_json::from_value(json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {"name": "app", "namespace": "shop", "uid": "v"}, "spec": {"ofLater": 1},
        }))
        .unwrap();
        // As a review's list reads it, which the watch is behind.
        let here = &known.served()["shop"];
        assert!(read_bindings([recreated.clone()], here, &OtherCloud::default()).is_empty());
        assert_eq!(listed(&mut known, [recreated]), ["shop/app"]);
        assert!(known.served().is_empty());
    }

    #[test]
    fn the_end_of_a_binding_is_told_whatever_it_was() {
        let mut known = KnownBindings::default();
        let wrong = || {
            binding(
                "shop",
                "app",
                &json!({"loginServer": "registry.example", "serviceAccountName": "a"}),
            )
        };
        assert_eq!(known.take(Event::Apply(wrong())), None);
        assert_eq!(
            known.take(Event::Delete(wrong())),
            Some(vec!["shop/app".to_owned()])
        );
        assert!(known.served().is_empty());
    }
}

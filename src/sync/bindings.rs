//! Which `AcrPullBindings` there are, as the events of a watch tell. One that can't be acted on stays what it meant before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::runtime::watcher::Event;

use crate::policy::attached::AttachedRegistry;
pub(super) use crate::policy::listed::UnreadBinding;
use crate::policy::listed::{key_of_binding as key_of, read_binding};
use crate::registry::other_cloud::OtherCloud;
use crate::view::Bindings;

/// The bindings that can be acted on, or could be before.
#[derive(Debug, Default)]
pub(super) struct KnownBindings {
    other_cloud: OtherCloud,
    current: Bindings,
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

    /// All of them.
    pub(super) fn current(&self) -> &Bindings {
        &self.current
    }

    /// Takes an event; gives the keys of those that are others now, where all are known.
    pub(super) fn take(&mut self, event: Event<UnreadBinding>) -> Option<Vec<String>> {
        match event {
            Event::Init => {
                self.listed.clear();
                None
            }
            Event::InitApply(object) => {
                let (namespace, key) = key_of(&object);
                let known = self.current.get(&namespace).and_then(|known| known.get(&key));
                if let Some(binding) = self.read(object).or_else(|| known.cloned()) {
                    self.listed.entry(namespace).or_default().insert(key, binding);
                }
                None
            }
            Event::InitDone => {
                let before = std::mem::replace(&mut self.current, std::mem::take(&mut self.listed));
                Some(changed(&before, &self.current))
            }
            Event::Apply(object) => {
                let (namespace, key) = key_of(&object);
                let binding = self.read(object)?;
                let here = self.current.entry(namespace).or_default();
                let before = here.insert(key.clone(), Arc::clone(&binding));
                (before.as_ref() != Some(&binding)).then(|| vec![key])
            }
            Event::Delete(object) => {
                let (namespace, key) = key_of(&object);
                let here = self.current.get_mut(&namespace)?;
                let before = here.remove(&key);
                if here.is_empty() {
                    self.current.remove(&namespace);
                }
                before.map(|_| vec![key])
            }
        }
    }

    fn read(&self, object: UnreadBinding) -> Option<Arc<AttachedRegistry>> {
        let (_, key) = key_of(&object);
        read_binding(object, &self.other_cloud)
            .inspect_err(|error| tracing::warn!(binding = key, %error, "an AcrPullBinding can't be acted on"))
            .ok()
            .map(Arc::new)
    }
}

/// The keys of those that are not the same in both.
fn changed(before: &Bindings, after: &Bindings) -> Vec<String> {
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
        assert_eq!(known.current().keys().collect::<Vec<_>>(), ["shop"]);
        assert_eq!(listed(&mut known, []), ["shop/app"]);
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
        assert_eq!(known.current().len(), 1);
        let later = binding("shop", "app", &json!({"ofLater": 1}));
        assert_eq!(known.take(Event::Apply(later)), None);
    }
}

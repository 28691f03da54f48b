//! `AcrRegistries` and `AcrPullBindings` as the API server lists them, whether or not they can be acted on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::{Resource, ResourceExt};

use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::acr_registry::AcrRegistry;
use crate::api::names::binding_key;
use crate::api::unread::Unread;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::registry::other_cloud::OtherCloud;

/// An `AcrRegistry` as the API server has it, whether or not it can be read.
pub type UnreadRegistry = Unread<AcrRegistry>;

/// The same of an AcrPullBinding.
pub type UnreadBinding = Unread<AcrPullBinding>;

/// Reads one, for a process that knows this of another cloud; an error says why it can't be acted on.
pub fn read(object: UnreadRegistry, other_cloud: &OtherCloud) -> Result<AttachedRegistry, String> {
    match object.0 {
        Ok(object) => AttachedRegistry::parse_for(&object, other_cloud).map_err(|error| error.to_string()),
        Err(unreadable) => Err(unread(&unreadable.error)),
    }
}

/// The same of an AcrPullBinding.
pub fn read_binding(object: UnreadBinding, other_cloud: &OtherCloud) -> Result<AttachedRegistry, String> {
    match object.0 {
        Ok(object) => {
            AttachedRegistry::parse_binding(&object, other_cloud).map_err(|error| error.to_string())
        }
        Err(unreadable) => Err(unread(&unreadable.error)),
    }
}

fn unread(error: &str) -> String {
    format!("this version of pullpass can't read it: {error}")
}

/// The namespace of an AcrPullBinding, and what it is known by.
pub fn key_of_binding(object: &UnreadBinding) -> (String, String) {
    let namespace = object.namespace().unwrap_or_default();
    let key = binding_key(&namespace, &object.name_any());
    (namespace, key)
}

/// Whether this is what an AcrPullBinding meant before: another one of its name may be somebody else's.
pub fn is_of(object: &UnreadBinding, known: &AttachedRegistry) -> bool {
    let uid = known.owner().map(|owner| &*owner.uid);
    uid == object.meta().uid.as_deref()
}

/// The registries of a list: one that can't be acted on is attached all the same, and stays what it was before.
pub fn read_all(
    objects: impl IntoIterator<Item = UnreadRegistry>,
    before: &AttachedRegistries,
    other_cloud: &OtherCloud,
) -> AttachedRegistries {
    let mut unusable = BTreeSet::new();
    let usable: AttachedRegistries = objects
        .into_iter()
        .filter_map(|object| {
            let name = object.name_any();
            read(object, other_cloud).ok().or_else(|| {
                let before = before.by_name(&name).cloned();
                unusable.insert(name);
                before
            })
        })
        .collect();
    usable.with_unusable(unusable)
}

/// The bindings of one namespace's list: one that can't be acted on stays what it was before.
pub fn read_bindings(
    objects: impl IntoIterator<Item = UnreadBinding>,
    before: &BTreeMap<String, Arc<AttachedRegistry>>,
    other_cloud: &OtherCloud,
) -> Vec<Arc<AttachedRegistry>> {
    let read = |object: UnreadBinding| {
        let (_, key) = key_of_binding(&object);
        let known = before.get(&key).filter(|known| is_of(&object, known)).cloned();
        read_binding(object, other_cloud).ok().map(Arc::new).or(known)
    };
    objects.into_iter().filter_map(read).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// An object as the API server lists it.
    pub(crate) fn object(name: &str, spec: &Value) -> UnreadRegistry {
        serde_json::from_value(json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name}, "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn a_list_keeps_what_the_unusable_meant_before() {
        let identity = json!({"managedIdentity": {}});
        let sound = |host: &str| json!({"loginServer": host, "identity": identity});
        let nothing = OtherCloud::default();
        let before = read_all(
            [
                object("wrong", &sound("registry1.azurecr.io")),
                object("gone", &sound("registry2.azurecr.io")),
            ],
            &AttachedRegistries::default(),
            &nothing,
        );
        let mut in_other_cloud = sound("registry.contoso.com");
        in_other_cloud["cloud"] = json!("Other");
        let now = read_all(
            [
                object("wrong", &sound("registry.example")),
                object("never", &json!({"identity": {"ofLater": {}}})),
                object("new", &sound("registry3.azurecr.io")),
                object("elsewhere", &in_other_cloud),
            ],
            &before,
            &nothing,
        );
        let names: Vec<_> = now.all().iter().map(|registry| registry.name()).collect();
        assert_eq!(names, ["new", "wrong"]);
        let attached = ["wrong", "never", "new", "elsewhere", "gone"].map(|name| now.is_attached(name));
        assert_eq!(attached, [true, true, true, true, false]);
        let known = OtherCloud {
            suffix: Some("contoso.com".parse().unwrap()),
            has_authority: true,
        };
        let now = read_all([object("elsewhere", &in_other_cloud)], &before, &known);
        assert!(now.by_name("elsewhere").is_some());
    }
}

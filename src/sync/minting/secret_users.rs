//! Which AcrRegistries a Secret of pullpass' own namespace concerns: it is their minted credential, or their identity names it.
//! A list brings each Secret, and must not lead to a look at each AcrRegistry for each of them.

use std::mem;
use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::watcher::Event;

use crate::api::acr_registry::AcrRegistry;
use crate::api::names::minted_credential;
use crate::base::pair_map::PairMap;

/// The Secrets of each AcrRegistry, as the events of a watch tell.
#[derive(Debug, Default)]
pub(super) struct SecretUsers {
    current: PairMap<()>,
    /// What a list has told so far.
    listed: PairMap<()>,
}

impl SecretUsers {
    /// Takes an event.
    pub(super) fn take(&mut self, event: &Event<AcrRegistry>) {
        match event {
            Event::Init => self.listed = PairMap::default(),
            Event::InitApply(object) => add(&mut self.listed, object),
            Event::InitDone => self.current = mem::take(&mut self.listed),
            Event::Apply(object) => {
                self.current.remove_first(&object.name_any());
                add(&mut self.current, object);
            }
            Event::Delete(object) => self.current.remove_first(&object.name_any()),
        }
    }

    /// The AcrRegistries that a Secret of this name concerns.
    pub(super) fn of(&self, secret: &str) -> Vec<Arc<str>> {
        self.current.firsts_of(secret)
    }
}

fn add(known: &mut PairMap<()>, object: &AcrRegistry) {
    let name = object.name_any();
    known.insert(&name, &minted_credential(&name), ());
    for secret in object.spec.identity.secrets() {
        known.insert(&name, secret, ());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn naming(name: &str, secret: &str) -> AcrRegistry {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
            "spec": {
                "loginServer": "myregistry.azurecr.io", "identity": {"basic": {"secretRef": {"name": secret}}},
            },
        });
        serde_json::from_value(object).unwrap()
    }

    fn users(users: &SecretUsers, secret: &str) -> Vec<String> {
        let mut names: Vec<_> = users.of(secret).iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn a_secret_concerns_those_that_name_it_and_its_own() {
        let mut known = SecretUsers::default();
        known.take(&Event::Init);
        known.take(&Event::InitApply(naming("mine", "shared")));
        known.take(&Event::InitApply(naming("yours", "shared")));
        assert!(users(&known, "shared").is_empty(), "the list is not complete");
        known.take(&Event::InitDone);
        assert_eq!(users(&known, "shared"), ["mine", "yours"]);
        assert_eq!(users(&known, "credential-mine"), ["mine"]);
        assert!(users(&known, "another").is_empty());
        known.take(&Event::Apply(naming("mine", "another")));
        assert_eq!(users(&known, "shared"), ["yours"]);
        assert_eq!(users(&known, "another"), ["mine"]);
        known.take(&Event::Delete(naming("yours", "shared")));
        assert!(users(&known, "shared").is_empty() && users(&known, "credential-yours").is_empty());
        known.take(&Event::Init);
        assert_eq!(users(&known, "another"), ["mine"], "until the list is complete");
        known.take(&Event::InitDone);
        assert!(users(&known, "another").is_empty());
    }

    #[test]
    fn a_secret_costs_the_registries_that_it_concerns() {
        let mut known = SecretUsers::default();
        for number in 0..2_000 {
            let (name, secret) = (format!("r{number}"), format!("identity-{}", number % 1_000));
            known.take(&Event::Apply(naming(&name, &secret)));
        }
        let before = known.current.looks();
        for number in 0..1_000 {
            assert_eq!(known.of(&format!("identity-{number}")).len(), 2);
            assert_eq!(known.of(&format!("credential-r{number}")).len(), 1);
            assert!(known.of(&format!("foreign-{number}")).is_empty());
        }
        assert_eq!(known.current.looks() - before, 3_000);
    }
}

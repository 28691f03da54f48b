//! The `ServiceAccounts` that enforce mountable secrets. There are few, or none: Kubernetes deprecates it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::policy::mountable::Mountable;

/// How much memory they may take. Anybody who may create `ServiceAccounts` can fill that: the namespace that takes most is then
/// left out.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// About how much one takes besides its texts.
const OVERHEAD: usize = 100;

/// What their Pods may name, by namespace and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StrictAccounts {
    namespaces: HashMap<Box<str>, Here>,
    /// The namespaces that took most when there was no more room. Nothing is remembered of their `ServiceAccounts`.
    left_out: BTreeSet<Box<str>>,
    bytes: usize,
}

/// Those of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Here {
    accounts: HashMap<Box<str>, Arc<Mountable>>,
    bytes: usize,
}

/// About how much memory one takes.
fn size(namespace: &str, name: &str, mountable: &Mountable) -> usize {
    OVERHEAD + namespace.len() + name.len() + mountable.size()
}

/// What was done with a ServiceAccount that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Its Pods may name other pull secrets than before.
    Changed,
    /// It is as it was, or its namespace is left out.
    Same,
    /// There was no room for it, so that these namespaces are left out from now on.
    LeftOut(Vec<String>),
}

impl StrictAccounts {
    /// What a Pod of this ServiceAccount may name; `None` if it may name any pull secret. If its namespace is left out,
    /// that is unknown, and the Pod may name nothing: otherwise the API server would refuse the Pods of strict
    /// ServiceAccounts.
    pub fn of(&self, namespace: &str, name: &str) -> Option<Arc<Mountable>> {
        if self.left_out.contains(namespace) {
            return Some(Arc::new(Mountable::unknown()));
        }
        self.known(namespace, name).cloned()
    }

    fn known(&self, namespace: &str, name: &str) -> Option<&Arc<Mountable>> {
        self.namespaces.get(namespace)?.accounts.get(name)
    }

    /// Takes a ServiceAccount as it is now, which lets its Pods name any pull secret where nothing else is given.
    pub fn take(&mut self, namespace: &str, name: &str, mountable: Option<Mountable>) -> Taken {
        let is_known = self.known(namespace, name).map(AsRef::as_ref) == mountable.as_ref();
        if is_known || self.left_out.contains(namespace) {
            return Taken::Same;
        }
        self.remove(namespace, name);
        let Some(mountable) = mountable else {
            return Taken::Changed;
        };
        let bytes = size(namespace, name, &mountable);
        self.bytes += bytes;
        let here = self.namespaces.entry(namespace.into()).or_default();
        here.bytes += bytes;
        here.accounts.insert(name.into(), Arc::new(mountable));
        let left_out: Vec<_> = std::iter::from_fn(|| self.make_room()).collect();
        if left_out.is_empty() {
            return Taken::Changed;
        }
        Taken::LeftOut(left_out)
    }

    /// Forgets that a deleted namespace was left out: one that is created under its name is seen from its beginning.
    pub fn readmit(&mut self, namespace: &str) {
        self.left_out.remove(namespace);
    }

    /// Leaves out the namespace that takes most, where all of them take more than there is room for.
    fn make_room(&mut self) -> Option<String> {
        if self.bytes <= MAX_BYTES {
            return None;
        }
        let by_size = self
            .namespaces
            .iter()
            .map(|(namespace, here)| (here.bytes, namespace));
        let (_, namespace) = by_size.max()?;
        let namespace = namespace.clone();
        let here = self.namespaces.remove(&namespace)?;
        self.bytes -= here.bytes;
        let name = namespace.to_string();
        self.left_out.insert(namespace);
        Some(name)
    }

    /// Forgets a ServiceAccount; says whether it was remembered.
    pub fn remove(&mut self, namespace: &str, name: &str) -> bool {
        let Some(here) = self.namespaces.get_mut(namespace) else {
            return false;
        };
        let removed = here.accounts.remove(name);
        if let Some(mountable) = &removed {
            let bytes = size(namespace, name, mountable);
            here.bytes -= bytes;
            self.bytes -= bytes;
        }
        if here.accounts.is_empty() {
            self.namespaces.remove(namespace);
        }
        removed.is_some()
    }

    /// The namespaces in which something is other than before.
    pub fn changed_since(&self, before: &Self) -> Vec<String> {
        let all = self.namespaces.keys().chain(before.namespaces.keys());
        let known = all.filter(|name| self.namespaces.get(*name) != before.namespaces.get(*name));
        let left_out = self.left_out.symmetric_difference(&before.left_out);
        let names: BTreeSet<_> = known.chain(left_out).collect();
        names.into_iter().map(ToString::to_string).collect()
    }

    /// All that are remembered, by namespace and name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str, &Mountable)> {
        self.namespaces.iter().flat_map(|(namespace, here)| {
            here.accounts
                .iter()
                .map(move |(name, mountable)| (namespace.as_ref(), name.as_ref(), mountable.as_ref()))
        })
    }

    /// The namespaces that are left out.
    pub fn left_out(&self) -> impl Iterator<Item = &str> {
        self.left_out.iter().map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mountable::tests::listing;

    #[test]
    fn strict_accounts_come_change_and_go() {
        let mut accounts = StrictAccounts::default();
        assert_eq!(accounts.take("apps", "default", None), Taken::Same);
        assert_eq!(
            accounts.take("apps", "strict", Some(listing(&[]))),
            Taken::Changed
        );
        assert_eq!(accounts.take("apps", "strict", Some(listing(&[]))), Taken::Same);
        assert_eq!(
            accounts.take("apps", "strict", Some(listing(&["pullpass-a"]))),
            Taken::Changed
        );
        assert!(accounts.of("apps", "strict").unwrap().allows("pullpass-a"));
        assert!(accounts.of("apps", "default").is_none() && accounts.of("other", "strict").is_none());
        assert_eq!(accounts.all().count(), 1);
        assert_eq!(accounts.take("apps", "strict", None), Taken::Changed);
        assert!(accounts.of("apps", "strict").is_none());
        assert!(!accounts.remove("apps", "strict"));
    }

    /// As much as a ServiceAccount can list.
    fn large() -> Mountable {
        let secrets: Vec<String> = (0..256)
            .map(|number| format!("pullpass-{number:0>240}"))
            .collect();
        listing(&secrets.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn a_crowded_namespace_costs_no_other_its_place() {
        // Whether it comes first or last.
        for crowded in ["apps", "team"] {
            let mut accounts = StrictAccounts::default();
            let (mut left_out, large) = (Vec::new(), large());
            let mut crowd = |accounts: &mut StrictAccounts| {
                for number in 0..5_000 {
                    let name = format!("strict-{number}");
                    if let Taken::LeftOut(now) = accounts.take(crowded, &name, Some(large.clone())) {
                        left_out.extend(now);
                    }
                    assert!(accounts.bytes <= MAX_BYTES, "{number}");
                }
            };
            if crowded == "apps" {
                crowd(&mut accounts);
            }
            let taken = accounts.take("shop", "strict", Some(listing(&["pullpass-a"])));
            assert_eq!(taken, Taken::Changed);
            if crowded == "team" {
                crowd(&mut accounts);
            }
            assert_eq!(left_out, [crowded], "it is told once");
            assert!(accounts.left_out().eq([crowded]));
            assert_eq!(accounts.all().count(), 1);
            let strict = accounts.of("shop", "strict").unwrap();
            assert!(strict.is_known() && strict.allows("pullpass-a"));
            assert!(accounts.of("shop", "default").is_none());
            for name in ["strict-0", "strict-4999", "default"] {
                let unknown = accounts.of(crowded, name).unwrap();
                assert!(!unknown.is_known() && !unknown.allows("pullpass-a"), "{name}");
            }
            assert!(!accounts.remove(crowded, "strict-0"));
            assert_eq!(accounts.take(crowded, "more", Some(listing(&[]))), Taken::Same);
            assert_eq!(accounts.changed_since(&StrictAccounts::default()).len(), 2);
            accounts.readmit(crowded);
            assert_eq!(accounts.take(crowded, "more", Some(listing(&[]))), Taken::Changed);
            assert!(accounts.of(crowded, "default").is_none());
            assert!(accounts.remove(crowded, "more") && accounts.remove("shop", "strict"));
            assert_eq!(accounts, StrictAccounts::default());
        }
    }

    #[test]
    fn five_thousand_accounts_in_a_namespace_have_room() {
        let mut accounts = StrictAccounts::default();
        for number in 0..5_000 {
            let taken = accounts.take(
                "apps",
                &format!("strict-{number}"),
                Some(listing(&["pullpass-a"])),
            );
            assert_eq!(taken, Taken::Changed);
        }
        assert_eq!(accounts.left_out().count(), 0);
        for number in 0..5_000 {
            assert!(accounts.remove("apps", &format!("strict-{number}")));
        }
        assert_eq!(accounts, StrictAccounts::default());
    }

    #[test]
    fn many_namespaces_are_left_out_one_by_one() {
        let mut accounts = StrictAccounts::default();
        let large = large();
        for number in 0..100 {
            accounts.take(&format!("team-{number}"), "strict", Some(large.clone()));
        }
        let (known, left_out) = (accounts.all().count(), accounts.left_out().count());
        assert!(known > 50 && left_out > 10 && known + left_out == 100, "{known}");
        assert!(accounts.bytes <= MAX_BYTES);
    }
}

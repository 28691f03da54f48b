//! The `ServiceAccounts` that enforce mountable secrets. There are few, or none: Kubernetes deprecates it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::policy::mountable::Mountable;

/// How many are remembered, and how much memory they may take. Anybody who may create `ServiceAccounts` can fill both, at which
/// Pods of the others are injected as if these enforced nothing.
const MAX_ACCOUNTS: usize = 4_096;
const MAX_BYTES: usize = 1024 * 1024;

/// What their Pods may name, by namespace and name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StrictAccounts {
    accounts: HashMap<Box<str>, HashMap<Box<str>, Arc<Mountable>>>,
    count: usize,
    bytes: usize,
}

/// About how much memory one takes.
fn size(namespace: &str, name: &str, mountable: &Mountable) -> usize {
    namespace.len() + name.len() + mountable.size()
}

/// What was done with a ServiceAccount that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Its Pods may name other pull secrets than before.
    Changed,
    /// It is as it was.
    Same,
    /// There is no room for it.
    LeftOut,
}

impl StrictAccounts {
    /// What a Pod of this ServiceAccount may name; none where it may name any pull secret.
    pub fn of(&self, namespace: &str, name: &str) -> Option<&Arc<Mountable>> {
        self.accounts.get(namespace)?.get(name)
    }

    /// Takes a ServiceAccount as it is now, which lets its Pods name any pull secret where nothing else is given.
    pub fn take(&mut self, namespace: &str, name: &str, mountable: Option<Mountable>) -> Taken {
        if self.of(namespace, name).map(AsRef::as_ref) == mountable.as_ref() {
            return Taken::Same;
        }
        self.remove(namespace, name);
        let Some(mountable) = mountable else {
            return Taken::Changed;
        };
        let bytes = self.bytes + size(namespace, name, &mountable);
        if self.count >= MAX_ACCOUNTS || bytes > MAX_BYTES {
            return Taken::LeftOut;
        }
        self.count += 1;
        self.bytes = bytes;
        let here = self.accounts.entry(namespace.into()).or_default();
        here.insert(name.into(), Arc::new(mountable));
        Taken::Changed
    }

    /// Forgets a ServiceAccount; says whether it was remembered.
    pub fn remove(&mut self, namespace: &str, name: &str) -> bool {
        let Some(here) = self.accounts.get_mut(namespace) else {
            return false;
        };
        let removed = here.remove(name);
        if here.is_empty() {
            self.accounts.remove(namespace);
        }
        if let Some(mountable) = &removed {
            self.count -= 1;
            self.bytes -= size(namespace, name, mountable);
        }
        removed.is_some()
    }

    /// The namespaces in which something is other than before.
    pub fn changed_since(&self, before: &Self) -> Vec<String> {
        let all = self.accounts.keys().chain(before.accounts.keys());
        let names: BTreeSet<_> = all
            .filter(|name| self.accounts.get(*name) != before.accounts.get(*name))
            .collect();
        names.into_iter().map(ToString::to_string).collect()
    }

    /// All of them, by namespace and name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str, &Mountable)> {
        self.accounts.iter().flat_map(|(namespace, here)| {
            here.iter()
                .map(move |(name, mountable)| (namespace.as_ref(), name.as_ref(), mountable.as_ref()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mountable::tests::listing;

    #[test]
    fn strict_accounts_take_a_bounded_memory() {
        let mut accounts = StrictAccounts::default();
        let secrets: Vec<String> = (0..256)
            .map(|number| format!("pullpass-{number:0>240}"))
            .collect();
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let taken: Vec<_> = (0..100)
            .map(|number| accounts.take("apps", &format!("strict-{number}"), Some(listing(&secrets))))
            .collect();
        let kept = taken.iter().filter(|taken| **taken == Taken::Changed).count();
        assert!((1..100).contains(&kept) && accounts.bytes <= MAX_BYTES, "{kept}");
        assert_eq!(accounts.all().count(), kept);
        for number in 0..100 {
            accounts.remove("apps", &format!("strict-{number}"));
        }
        assert_eq!((accounts.count, accounts.bytes), (0, 0));
    }

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

    #[test]
    fn strict_accounts_are_bounded() {
        let mut accounts = StrictAccounts::default();
        for number in 0..MAX_ACCOUNTS {
            assert_eq!(
                accounts.take("apps", &number.to_string(), Some(listing(&[]))),
                Taken::Changed
            );
        }
        assert_eq!(accounts.take("apps", "more", Some(listing(&[]))), Taken::LeftOut);
        assert_eq!(
            accounts.take("apps", "0", Some(listing(&["pullpass-a"]))),
            Taken::Changed
        );
        assert!(accounts.remove("apps", "0"));
        assert_eq!(accounts.take("apps", "more", Some(listing(&[]))), Taken::Changed);
    }
}

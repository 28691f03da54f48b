//! What the index says of `ServiceAccounts` that enforce mountable secrets.

use std::collections::BTreeMap;

use crate::api::acr_index::EVERY;
use crate::policy::index::fair::{Fitting, Named, fit};
use crate::policy::mountable::Mountable;

/// How many bytes they may take.
pub const MAX_ACCOUNTS_BYTES: usize = 64 * 1024;

/// Those that have room, by namespace. Nobody knows those of namespaces that are `left_out` already.
pub fn strict_accounts<'a>(
    accounts: impl IntoIterator<Item = (&'a str, &'a str, &'a Mountable)>,
    left_out: impl IntoIterator<Item = &'a str>,
) -> Fitting {
    let mut all: BTreeMap<String, Named> = BTreeMap::new();
    for (namespace, name, mountable) in accounts {
        let here = all.entry(namespace.to_owned()).or_default();
        let listed = mountable.listed().map(str::to_owned);
        here.insert(name.to_owned(), listed.collect());
    }
    let left_out: Vec<_> = left_out.into_iter().map(str::to_owned).collect();
    let marks = left_out.iter().cloned();
    all.extend(marks.map(|namespace| (namespace, Named::from([(EVERY.to_owned(), Vec::new())]))));
    let mut fitting = fit(all, MAX_ACCOUNTS_BYTES);
    fitting.left_out.extend(left_out);
    fitting.left_out.sort_unstable();
    fitting.left_out.dedup();
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mountable::tests::listing;
    use serde_json::json;

    #[test]
    fn strict_accounts_are_told_by_namespace() {
        let (one, none) = (listing(&["pullpass-a", "by-hand"]), listing(&[]));
        let told = strict_accounts(
            [("shop", "b", &none), ("shop", "a", &one), ("apps", "a", &none)],
            [],
        );
        assert_eq!(told.left_out, [""; 0]);
        assert_eq!(
            serde_json::to_value(told.namespaces).unwrap(),
            json!({"apps": {"a": []}, "shop": {"a": ["pullpass-a"], "b": []}})
        );
    }

    #[test]
    fn a_namespace_of_many_accounts_costs_no_other_its_place() {
        let (one, none) = (listing(&["pullpass-a"]), listing(&[]));
        // Each takes less than the one of the other namespace.
        let names: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
        let many = names.iter().map(|name| ("apps", name.as_str(), &none));
        let told = strict_accounts(many.chain([("shop", "of-a-long-name", &one)]), ["team"]);
        assert_eq!(told.left_out, ["apps", "team"]);
        assert_eq!(
            serde_json::to_value(told.namespaces).unwrap(),
            json!({"apps": {"*": []}, "shop": {"of-a-long-name": ["pullpass-a"]}, "team": {"*": []}})
        );
    }

    /// What docs/limits.md says of namespaces whose names have 20 characters.
    #[test]
    fn two_thousand_namespaces_have_a_mark() {
        let none = listing(&[]);
        let names: Vec<String> = (0..2_000).map(|number| format!("{number:0>20}")).collect();
        let long = "of-a-long-name".repeat(10);
        let all = names.iter().map(|name| (name.as_str(), long.as_str(), &none));
        let told = strict_accounts(all, []);
        assert_eq!(told.namespaces.len(), 2_000, "each has a mark at least");
        assert!(serde_json::to_string(&told.namespaces).unwrap().len() <= MAX_ACCOUNTS_BYTES + 2);
    }
}

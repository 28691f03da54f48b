//! What the index says of `ServiceAccounts` that enforce mountable secrets.

use std::collections::BTreeMap;

use crate::api::acr_index::StrictServiceAccounts;
use crate::policy::mountable::Mountable;

/// How many bytes they may take.
pub const MAX_ACCOUNTS_BYTES: usize = 64 * 1024;
/// What one takes beside its names.
const FIELDS: usize = 16;

/// Those that have room, by namespace, and how many have none.
pub fn strict_accounts<'a>(
    accounts: impl IntoIterator<Item = (&'a str, &'a str, &'a Mountable)>,
) -> (BTreeMap<String, StrictServiceAccounts>, usize) {
    let (mut told, mut left_out): (BTreeMap<String, StrictServiceAccounts>, _) = (BTreeMap::new(), 0);
    let mut sorted: Vec<_> = accounts
        .into_iter()
        .map(|(namespace, name, mountable)| {
            let listed: Vec<String> = mountable.listed().map(str::to_owned).collect();
            let size: usize = listed.iter().map(|secret| secret.len() + FIELDS).sum();
            (
                namespace.len() + name.len() + FIELDS + size,
                namespace,
                name,
                listed,
            )
        })
        .collect();
    // Those that take the least first, so that one of any length costs no other its place.
    sorted.sort_unstable();
    let mut total: usize = 0;
    for (size, namespace, name, listed) in sorted {
        total = total.saturating_add(size);
        if total > MAX_ACCOUNTS_BYTES {
            left_out += 1;
            continue;
        }
        let here = told.entry(namespace.to_owned()).or_default();
        here.insert(name.to_owned(), listed);
    }
    (told, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mountable::tests::listing;

    #[test]
    fn strict_accounts_have_their_place_and_a_bound() {
        let (one, none) = (listing(&["pullpass-a", "by-hand"]), listing(&[]));
        let (told, left_out) =
            strict_accounts([("shop", "b", &none), ("shop", "a", &one), ("apps", "a", &none)]);
        assert_eq!(left_out, 0);
        assert_eq!(
            serde_json::to_value(told).unwrap(),
            serde_json::json!({"apps": {"a": []}, "shop": {"a": ["pullpass-a"], "b": []}})
        );
        let names: Vec<String> = (0..2_000).map(|number| format!("{number:0>60}")).collect();
        let many = names.iter().map(|name| ("apps", name.as_str(), &none));
        let (told, left_out) = strict_accounts(many.chain([("apps", "first", &none)]));
        assert!(told["apps"].contains_key("first"));
        assert_eq!(told["apps"].len() + left_out, 2_001);
        assert!(left_out > 1_000 && serde_json::to_string(&told).unwrap().len() < MAX_ACCOUNTS_BYTES);
    }
}

//! How namespaces share the room of an index, so that one with any number of objects costs no other one its place.

use std::collections::BTreeMap;

use crate::api::acr_index::EVERY;

/// What a namespace has: names by hosts, or by `ServiceAccounts`.
pub type Named = BTreeMap<String, Vec<String>>;

/// What of it an index has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fitting {
    /// By namespace.
    pub namespaces: BTreeMap<String, Named>,
    /// The namespaces for which there is no room, in order: their Pods are left to the webhook.
    pub left_out: Vec<String>,
}

/// What of them has room. Namespaces that take most are left out first. One that is left out takes the room of its mark, and none
/// where even the marks have no room.
pub(super) fn fit(all: BTreeMap<String, Named>, most: usize) -> Fitting {
    let mark = || Named::from([(EVERY.to_owned(), Vec::new())]);
    let size_of_mark = json_size(&mark());
    let mut by_size: Vec<_> = all
        .into_iter()
        .map(|(namespace, named)| (json_size(&named), namespace, named))
        .collect();
    by_size.sort_unstable();
    // With its quotes, a colon, and a comma behind.
    let size_of_key = |namespace: &str| namespace.len() + 4;
    let mut total = 0;
    let mut has_mark = Vec::with_capacity(by_size.len());
    for (_, namespace, _) in &by_size {
        let after = total + size_of_key(namespace) + size_of_mark;
        has_mark.push(after <= most);
        if after <= most {
            total = after;
        }
    }
    let mut fitting = Fitting::default();
    for ((size, namespace, named), has_mark) in by_size.into_iter().zip(has_mark) {
        let after = total + size.saturating_sub(size_of_mark);
        if has_mark && after <= most {
            total = after;
            fitting.namespaces.insert(namespace, named);
            continue;
        }
        fitting.left_out.push(namespace.clone());
        if has_mark {
            fitting.namespaces.insert(namespace, mark());
        }
    }
    fitting.left_out.sort_unstable();
    fitting
}

/// How many bytes a value takes as JSON.
pub(super) fn json_size(value: &impl serde::Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(namespace: &str, count: usize) -> (String, Named) {
        let host = |number| {
            (
                format!("registry{number}.azurecr.io"),
                vec!["pullpass-binding-app".to_owned()],
            )
        };
        (namespace.to_owned(), (0..count).map(host).collect())
    }

    #[test]
    fn the_namespaces_that_take_most_are_left_out_first() {
        let all: BTreeMap<_, _> = [many("a", 1_000), many("b", 1), many("c", 100), many("d", 1)].into();
        let mark = Named::from([(EVERY.to_owned(), Vec::new())]);
        for (most, left_out) in [
            (100_000, &[][..]),
            (20_000, &["a"]),
            (1_000, &["a", "c"]),
            (130, &["a", "c", "d"]),
            (60, &["a", "b", "c", "d"]),
        ] {
            let fitting = fit(all.clone(), most);
            assert_eq!(fitting.left_out, left_out, "{most}");
            for (namespace, hosts) in &all {
                let is_left_out = left_out.contains(&namespace.as_str());
                let expected = if is_left_out { &mark } else { hosts };
                assert_eq!(
                    fitting.namespaces.get(namespace),
                    Some(expected),
                    "{most} {namespace}"
                );
            }
            let size = json_size(&fitting.namespaces);
            assert!(size <= most + 2, "{size} of {most}");
        }
    }

    #[test]
    fn no_number_of_namespaces_takes_more_than_the_room() {
        let all: BTreeMap<_, _> = (0..1_000)
            .map(|number| many(&format!("team-{number}"), 1))
            .collect();
        let fitting = fit(all, 10_000);
        assert_eq!(fitting.left_out.len(), 1_000, "even their marks need more");
        assert!(fitting.namespaces.len() > 400, "{}", fitting.namespaces.len());
        let size = json_size(&fitting.namespaces);
        assert!((9_900..=10_002).contains(&size), "{size}");
    }
}

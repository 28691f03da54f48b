//! What the API server's own admission policies are told of the `AcrPullBindings`: in which namespace which pull secrets belong
//! to a host. Each namespace is looked up by its name, so that a Pod costs the same however many have bindings.

use std::collections::BTreeMap;

use crate::api::acr_index::{AcrIndexSpec, BoundHosts, EVERY_HOST};
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::index::{MAX_INDEX_BYTES, MAX_LISTED_BYTES};

/// How many bytes an index may take with its bindings: the object has a head and `ServiceAccounts` besides, and 1.5 MiB at most.
const MAX_BYTES: usize = 1408 * 1024;
/// How many of these its registries may take.
const MAX_OF_REGISTRIES: usize = MAX_INDEX_BYTES + MAX_LISTED_BYTES;

/// The bindings of an index.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IndexedBindings {
    /// By namespace.
    pub bindings: BTreeMap<String, BoundHosts>,
    /// The namespaces for whose bindings there is no room, in order: their Pods are left to the webhook.
    pub left_out: Vec<String>,
}

/// The bindings beside what an index has already, which is that of these registries.
pub fn indexed_bindings<'a>(
    registries: &AttachedRegistries,
    bindings: impl IntoIterator<Item = &'a AttachedRegistry>,
    index: &AcrIndexSpec,
) -> IndexedBindings {
    // What the API server notes of a field takes no more than the field.
    let taken = json_size(index).saturating_mul(2);
    fit(
        bound_hosts(registries, bindings),
        MAX_BYTES - taken.min(MAX_OF_REGISTRIES),
    )
}

/// The hosts of the bindings by namespace, and their pull secrets by name. A binding whose pull secret is an AcrRegistry's by
/// its name attaches nothing.
fn bound_hosts<'a>(
    registries: &AttachedRegistries,
    bindings: impl IntoIterator<Item = &'a AttachedRegistry>,
) -> BTreeMap<String, BoundHosts> {
    let mut all: BTreeMap<String, BoundHosts> = BTreeMap::new();
    for binding in bindings {
        let Some(owner) = binding.owner() else {
            continue;
        };
        if registries.namesake_of(binding).is_some() {
            continue;
        }
        let here = all.entry(owner.namespace.clone()).or_default();
        let secrets = here
            .entry(binding.login_server().as_str().to_owned())
            .or_default();
        secrets.push(binding.pull_secret().to_owned());
    }
    for secrets in all.values_mut().flat_map(BTreeMap::values_mut) {
        secrets.sort_unstable();
    }
    all
}

/// What of them has room. Namespaces that take most are left out first, so that one with any number of bindings costs no other
/// one its place. One that is left out takes the room of its mark, and none where even the marks have no room.
fn fit(all: BTreeMap<String, BoundHosts>, most: usize) -> IndexedBindings {
    let mark = || BoundHosts::from([(EVERY_HOST.to_owned(), Vec::new())]);
    let size_of_mark = json_size(&mark());
    let mut by_size: Vec<_> = all
        .into_iter()
        .map(|(namespace, hosts)| (json_size(&hosts), namespace, hosts))
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
    let mut fitting = IndexedBindings::default();
    for ((size, namespace, hosts), has_mark) in by_size.into_iter().zip(has_mark) {
        let after = total + size.saturating_sub(size_of_mark);
        if has_mark && after <= most {
            total = after;
            fitting.bindings.insert(namespace, hosts);
            continue;
        }
        fitting.left_out.push(namespace.clone());
        if has_mark {
            fitting.bindings.insert(namespace, mark());
        }
    }
    fitting.left_out.sort_unstable();
    fitting
}

/// How many bytes a value takes as JSON.
fn json_size(value: &impl serde::Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::acr_registry::AcrRegistry;
    use crate::policy::decision::Settings;
    use crate::policy::index::index;
    use crate::registry::other_cloud::OtherCloud;
    use serde_json::{Value, json};

    fn binding(namespace: &str, name: &str, spec: &Value) -> AttachedRegistry {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {"name": name, "namespace": namespace, "uid": "u"}, "spec": spec,
        });
        let other_cloud = OtherCloud::default();
        AttachedRegistry::parse_binding(&serde_json::from_value(object).unwrap(), &other_cloud).unwrap()
    }

    fn on(namespace: &str, name: &str, host: &str) -> AttachedRegistry {
        let spec = json!({"loginServer": host, "serviceAccountName": "puller"});
        binding(namespace, name, &spec)
    }

    fn registries(names: &[&str]) -> AttachedRegistries {
        let parse = |name: &&str| {
            let object = json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
                "spec": {"loginServer": format!("{name}.azurecr.io"), "identity": {"managedIdentity": {}}},
            });
            let object: AcrRegistry = serde_json::from_value(object).unwrap();
            AttachedRegistry::parse(&object).unwrap()
        };
        names.iter().map(parse).collect()
    }

    #[test]
    fn a_namespace_has_the_hosts_of_its_bindings() {
        let cluster = registries(&["binding-taken", "shared1"]);
        let bindings = [
            on("shop", "z", "Shared1.azurecr.io"),
            on("shop", "a", "shared1.azurecr.io"),
            on("shop", "other", "labelled-a1b2.azurecr.us"),
            on("blog", "z", "shared1.azurecr.io"),
            on("blog", "taken", "other1.azurecr.io"),
        ];
        let indexed = indexed_bindings(&cluster, &bindings, &AcrIndexSpec::default());
        assert_eq!(indexed.left_out, [""; 0]);
        assert_eq!(
            serde_json::to_value(indexed.bindings).unwrap(),
            json!({
                "blog": {"shared1.azurecr.io": ["pullpass-binding-z"]},
                "shop": {
                    "labelled-a1b2.azurecr.us": ["pullpass-binding-other"],
                    "shared1.azurecr.io": ["pullpass-binding-a", "pullpass-binding-z"],
                },
            })
        );
    }

    #[test]
    fn without_bindings_the_index_says_nothing_of_them() {
        let cluster = registries(&["shared1"]);
        let spec = index(&cluster, &Settings::default()).spec;
        let indexed = indexed_bindings(&cluster, cluster.all(), &spec);
        assert_eq!(indexed, IndexedBindings::default());
        assert_eq!(serde_json::to_value(spec).unwrap().get("bindings"), None);
    }

    fn many(namespace: &str, count: usize) -> (String, BoundHosts) {
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
        let mark = BoundHosts::from([(EVERY_HOST.to_owned(), Vec::new())]);
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
                    fitting.bindings.get(namespace),
                    Some(expected),
                    "{most} {namespace}"
                );
            }
            let size = json_size(&fitting.bindings);
            assert!(size <= most + 2, "{size} of {most}");
        }
    }

    #[test]
    fn no_number_of_namespaces_takes_more_than_the_room() {
        let all: BTreeMap<_, _> = (0..1_000)
            .map(|number| many(&format!("team-{number}"), 1))
            .collect();
        let fitting = fit(all, 10_000);
        assert_eq!(fitting.left_out.len(), 1_000, "their marks alone take more");
        assert!(fitting.bindings.len() > 400, "{}", fitting.bindings.len());
        let size = json_size(&fitting.bindings);
        assert!((9_900..=10_002).contains(&size), "{size}");
    }

    /// What docs/operations.md and docs/policy.md say.
    #[test]
    fn bindings_have_the_room_that_registries_leave() {
        let cluster = registries(&["shared1"]);
        let bindings: Vec<_> = (0..12_000)
            .map(|number| on(&format!("team-{number:05}"), "app", "contosoapps.azurecr.io"))
            .collect();
        let left_out = |hosts: usize, namespaces: usize| {
            let hosts = (0..hosts).map(|number| (format!("registry{number:06}"), Vec::new()));
            let spec = AcrIndexSpec {
                hosts: hosts.collect(),
                ..AcrIndexSpec::default()
            };
            let indexed = indexed_bindings(&cluster, &bindings[..namespaces], &spec);
            assert_eq!(indexed.bindings.len(), namespaces, "each has a mark at least");
            let registries = (2 * json_size(&spec)).min(MAX_OF_REGISTRIES);
            assert!(registries + json_size(&indexed.bindings) <= MAX_BYTES + 2);
            indexed.left_out.len()
        };
        assert_eq!(left_out(0, 12_000), 0);
        // What the registries of a full index take, and more.
        assert_eq!(left_out(30_000, 6_000), 0);
        let some = left_out(30_000, 12_000);
        assert!((1_000..11_000).contains(&some), "{some}");
    }
}

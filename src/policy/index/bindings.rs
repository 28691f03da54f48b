//! What the API server's own admission policies are told about the `AcrPullBindings`: in which namespace which pull
//! secrets belong to a host. Each namespace is looked up by its name, so that a Pod costs the same however many have
//! bindings.

use std::collections::BTreeMap;

use crate::api::acr_index::{AcrIndexSpec, BoundHosts};
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::index::fair::{Fitting, fit, json_size};
use crate::policy::index::{MAX_INDEX_BYTES, MAX_LISTED_BYTES};

/// How many bytes an index may take with its bindings: the object has a head and `ServiceAccounts` besides, and 1.5 MiB at most.
const MAX_BYTES: usize = 1408 * 1024;
/// How many of these its registries may take.
const MAX_OF_REGISTRIES: usize = MAX_INDEX_BYTES + MAX_LISTED_BYTES;

/// The bindings beside what an index has already, which is that of these registries.
pub fn indexed_bindings<'a>(
    registries: &AttachedRegistries,
    bindings: impl IntoIterator<Item = &'a AttachedRegistry>,
    index: &AcrIndexSpec,
) -> Fitting {
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
            serde_json::to_value(indexed.namespaces).unwrap(),
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
        assert_eq!(indexed, Fitting::default());
        assert_eq!(serde_json::to_value(spec).unwrap().get("bindings"), None);
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
            assert_eq!(indexed.namespaces.len(), namespaces, "each has a mark at least");
            let registries = (2 * json_size(&spec)).min(MAX_OF_REGISTRIES);
            assert!(registries + json_size(&indexed.namespaces) <= MAX_BYTES + 2);
            indexed.left_out.len()
        };
        assert_eq!(left_out(0, 12_000), 0);
        // What the registries of a full index take, and more.
        assert_eq!(left_out(30_000, 6_000), 0);
        let some = left_out(30_000, 12_000);
        assert!((1_000..11_000).contains(&some), "{some}");
    }
}

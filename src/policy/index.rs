//! What the API server's own admission policies are told of the attached registries, so that they decide as admission
//! does while no replica answers.

use std::collections::{HashMap, HashSet};

use kube::core::Expression;

use crate::api::acr_index::{AcrIndexSpec, IndexedRegistry, Requirement};
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::decision::Settings;
use crate::registry::custom_domain::CustomDomain;

/// How many bytes the registries of an index may take. An API server takes a request of 3 MiB and an object of 1.5 MiB, of
/// which its own bookkeeping is a part.
pub const MAX_INDEX_BYTES: usize = 768 * 1024;

/// An index, and what had no room in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Index {
    /// What the admission policies are told.
    pub spec: AcrIndexSpec,
    /// The names of the registries that they are not told of: Pods with their images are left to the webhook.
    pub left_out: Vec<String>,
}

/// The index of the registries under these settings.
pub fn index(registries: &AttachedRegistries, settings: &Settings) -> Index {
    index_within(registries, settings, MAX_INDEX_BYTES)
}

/// The same with another limit. The registries that take most, be it by their selectors or by their custom domains, are left
/// out first, so that one of any length costs no other one its place. What the index says of one that is left out counts too:
/// its login server, which is no stranger's, and the custom domains that another one has which is kept.
fn index_within(registries: &AttachedRegistries, settings: &Settings, most: usize) -> Index {
    let mut spec = AcrIndexSpec {
        mode: settings.scope.mode().as_str().to_owned(),
        excluded_namespaces: settings.scope.excluded().map(str::to_owned).collect(),
        unattached: settings.policy.unattached.as_str().to_owned(),
        forbidden: settings.policy.forbidden.as_str().to_owned(),
        ..AcrIndexSpec::default()
    };
    let all = registries.all();
    let Fitting {
        mut kept,
        mut left_out,
        domains,
    } = fit(registries, &all, most);
    for registry in all {
        let secret = registry.pull_secret().to_owned();
        let indexed = kept.remove(registry.name());
        for host in hosts(registries, registry) {
            let is_shown = host == registry.login_server().as_str() || domains.contains(host);
            if !is_shown {
                // Nobody's by what the index can say, as any host that is not on ACR: the webhook decides.
                continue;
            }
            let secrets = spec.hosts.entry(host.to_owned()).or_default();
            match &indexed {
                Some(_) if !registry.is_anonymous() => secrets.push(secret.clone()),
                // The host of an anonymous registry is attached all the same. One without room is attached, and nobody's by
                // what the index can say: the webhook decides.
                indexed => {
                    let anywhere = || IndexedRegistry {
                        registry: registry.name().to_owned(),
                        ..IndexedRegistry::default()
                    };
                    let sharing = spec.anonymous.entry(host.to_owned()).or_default();
                    sharing.push(indexed.clone().unwrap_or_else(anywhere));
                }
            }
        }
        if let Some(indexed) = indexed.filter(|_| !registry.is_anonymous()) {
            spec.pull_secrets.insert(secret, indexed);
        }
    }
    left_out.sort();
    Index { spec, left_out }
}

/// The hosts of a registry: its login server and the custom domains that it has.
fn hosts<'a>(
    registries: &'a AttachedRegistries,
    registry: &'a AttachedRegistry,
) -> impl Iterator<Item = &'a str> {
    let domains = registries.domains_of(registry).map(CustomDomain::as_str);
    std::iter::once(registry.login_server().as_str()).chain(domains)
}

/// What has room in an index.
struct Fitting<'a> {
    /// The registries that do, by name.
    kept: HashMap<&'a str, IndexedRegistry>,
    /// The names of the others.
    left_out: Vec<String>,
    /// The custom domains of those that do.
    domains: HashSet<&'a str>,
}

fn fit<'a>(registries: &'a AttachedRegistries, all: &[&'a AttachedRegistry], most: usize) -> Fitting<'a> {
    let mut by_size: Vec<_> = all
        .iter()
        .map(|registry| {
            let indexed = indexed(registry);
            let least = least_size(registry, registry.login_server().as_str());
            let more = size(registries, registry, &indexed).saturating_sub(least);
            (more, *registry, indexed)
        })
        .collect();
    by_size.sort_by(|(more, a, _), (other, b, _)| (more, a.name()).cmp(&(other, b.name())));
    // What all that share a custom domain take there, once one of them is kept.
    let mut sharing = HashMap::<&str, usize>::new();
    for registry in all {
        for domain in registries.domains_of(registry).map(CustomDomain::as_str) {
            *sharing.entry(domain).or_default() += least_size(registry, domain);
        }
    }
    let least = all
        .iter()
        .map(|registry| least_size(registry, registry.login_server().as_str()));
    let mut total: usize = least.sum();
    let mut fitting = Fitting {
        kept: HashMap::new(),
        left_out: Vec::new(),
        domains: HashSet::new(),
    };
    for (more, registry, indexed) in by_size {
        let domains = registries.domains_of(registry).map(CustomDomain::as_str);
        let new: Vec<_> = domains
            .filter(|domain| !fitting.domains.contains(domain))
            .collect();
        let of_others = new.iter().map(|domain| {
            let all = sharing.get(domain).copied().unwrap_or_default();
            all.saturating_sub(least_size(registry, domain))
        });
        let after = total.saturating_add(more).saturating_add(of_others.sum());
        if after <= most {
            total = after;
            fitting.domains.extend(new);
            fitting.kept.insert(registry.name(), indexed);
        } else {
            fitting.left_out.push(registry.name().to_owned());
        }
    }
    fitting
}

/// How many bytes a registry that is left out takes for one of its hosts, about: its name, and the host in two maps, each of
/// which the API server notes once more.
fn least_size(registry: &AttachedRegistry, host: &str) -> usize {
    const FIELDS: usize = 96;
    FIELDS + registry.name().len() + 4 * host.len()
}

/// How many bytes a registry takes in the object, about, with what the API server notes of each field.
fn size(registries: &AttachedRegistries, registry: &AttachedRegistry, indexed: &IndexedRegistry) -> usize {
    const FIELDS: usize = 256;
    const FIELDS_OF_HOST: usize = 16;
    let requirements = indexed.namespaces.iter().map(|requirement| {
        let values: usize = requirement.values.iter().map(|value| value.len() + 4).sum();
        requirement.key.len() + values + 64
    });
    let requirements: usize = requirements.sum();
    let mut hosts_size = 0;
    for host in hosts(registries, registry) {
        hosts_size += FIELDS_OF_HOST + 2 * host.len() + registry.pull_secret().len();
        // Under each of its hosts an anonymous registry is there with its selector.
        if registry.is_anonymous() {
            hosts_size += registry.name().len() + requirements;
        }
    }
    FIELDS + registry.name().len() + 2 * registry.pull_secret().len() + hosts_size + requirements
}

fn indexed(registry: &AttachedRegistry) -> IndexedRegistry {
    let selector = registry.namespaces().cloned().into_iter().flatten();
    IndexedRegistry {
        registry: registry.name().to_owned(),
        namespaces: selector.map(requirement).collect(),
    }
}

fn requirement(expression: Expression) -> Requirement {
    let (key, operator, values) = match expression {
        Expression::In(key, values) => (key, "In", values.into_iter().collect()),
        Expression::NotIn(key, values) => (key, "NotIn", values.into_iter().collect()),
        Expression::Equal(key, value) => (key, "In", vec![value]),
        Expression::NotEqual(key, value) => (key, "NotIn", vec![value]),
        Expression::Exists(key) => (key, "Exists", Vec::new()),
        Expression::DoesNotExist(key) => (key, "DoesNotExist", Vec::new()),
    };
    Requirement {
        key,
        operator: operator.to_owned(),
        values,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::acr_registry::AcrRegistry;
    use crate::policy::rules::{Action, Policy};
    use crate::policy::scope::{Mode, Scope};
    use serde_json::{Value, json};

    fn registry(name: &str, namespaces: &Value) -> AttachedRegistry {
        let object: AcrRegistry = serde_json::from_value(json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
            "spec": {"loginServer": "Shared.azurecr.io", "identity": {"managedIdentity": {}}, "namespaces": namespaces},
        }))
        .unwrap();
        AttachedRegistry::parse(&object).unwrap()
    }

    #[test]
    fn an_anonymous_registry_has_a_host_and_no_secret() {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "free"},
            "spec": {
                "loginServer": "freeregistry.azurecr.io", "identity": {"anonymous": {}},
                "namespaces": {"matchLabels": {"team": "a"}},
            },
        });
        let registry = AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap();
        let index = index(&std::iter::once(registry).collect(), &Settings::default()).spec;
        assert_eq!(
            index.hosts,
            [("freeregistry.azurecr.io".to_owned(), Vec::new())].into()
        );
        assert!(index.pull_secrets.is_empty());
        assert_eq!(
            serde_json::to_value(index.anonymous).unwrap(),
            json!({"freeregistry.azurecr.io": [{
                "registry": "free",
                "namespaces": [{"key": "team", "operator": "In", "values": ["a"]}],
            }]})
        );
    }

    #[test]
    fn custom_domains_are_hosts_of_the_index() {
        let with = |name: &str, identity: &Value, domains: &[&str]| {
            let object = json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
                "spec": {
                    "loginServer": format!("{name}registry.azurecr.io"),
                    "identity": identity,
                    "customDomains": domains,
                },
            });
            AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap()
        };
        let managed = json!({"managedIdentity": {}});
        let registries: AttachedRegistries = [
            with("one", &managed, &["one.contoso.com"]),
            // One of these is of the other registry already.
            with("two", &managed, &["one.contoso.com", "two.contoso.com"]),
            with("free", &json!({"anonymous": {}}), &["free.contoso.com"]),
        ]
        .into_iter()
        .collect();
        let index = index_within(&registries, &Settings::default(), MAX_INDEX_BYTES).spec;
        let hosts: Vec<_> = index.hosts.keys().map(String::as_str).collect();
        assert_eq!(
            hosts,
            [
                "free.contoso.com",
                "freeregistry.azurecr.io",
                "one.contoso.com",
                "oneregistry.azurecr.io",
                "two.contoso.com",
                "tworegistry.azurecr.io",
            ]
        );
        assert_eq!(index.hosts["two.contoso.com"], ["pullpass-two"]);
        assert_eq!(index.anonymous["free.contoso.com"][0].registry, "free");
        assert!(!index.hosts["one.contoso.com"].contains(&"pullpass-two".to_owned()));
        let without_room = index_within(&registries, &Settings::default(), 0).spec;
        let hosts: Vec<_> = without_room.hosts.keys().map(String::as_str).collect();
        assert_eq!(
            hosts,
            [
                "freeregistry.azurecr.io",
                "oneregistry.azurecr.io",
                "tworegistry.azurecr.io"
            ],
            "no stranger's, and a custom domain without an entry is judged by nobody"
        );
    }

    /// A registry of this login server with so many custom domains of its own, and these.
    fn with_domains(name: &str, server: &str, count: usize, more: &[&str]) -> AttachedRegistry {
        let own = (0..count).map(|number| format!("d{number}.{name}.{}.example", "x".repeat(60)));
        let domains: Vec<String> = own
            .chain(more.iter().map(|domain| (*domain).to_owned()))
            .collect();
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
            "spec": {
                "loginServer": format!("{server}.azurecr.io"),
                "identity": {"managedIdentity": {}},
                "customDomains": domains,
            },
        });
        AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap()
    }

    #[test]
    fn many_custom_domains_cost_no_other_registry_its_place() {
        const MOST: usize = 300_000;
        let many =
            (0..900).map(|number| with_domains(&format!("r{number}"), &format!("server{number}"), 16, &[]));
        let few =
            (0..100).map(|number| with_domains(&format!("f{number}"), &format!("other{number}"), 1, &[]));
        let registries: AttachedRegistries = many.chain(few).collect();
        let index = index_within(&registries, &Settings::default(), MOST);
        let kept: HashSet<_> = index.spec.pull_secrets.keys().cloned().collect();
        assert!((0..100).all(|number| kept.contains(&format!("pullpass-f{number}"))));
        assert!(
            kept.len() > 110 && kept.len() + index.left_out.len() == 1_000,
            "{}",
            kept.len()
        );
        let size = stored(&registries, MOST);
        assert!(size < MOST + 1_000, "{size}");
        assert!((0..900).all(|number| {
            index
                .spec
                .hosts
                .contains_key(&format!("server{number}.azurecr.io"))
        }));
    }

    #[test]
    fn a_domain_that_is_kept_is_of_all_that_share_it() {
        let registries: AttachedRegistries = [
            with_domains("short", "shared", 0, &["both.example"]),
            with_domains("long", "shared", 10, &["both.example"]),
        ]
        .into_iter()
        .collect();
        let index = index_within(&registries, &Settings::default(), 2_000);
        assert_eq!(index.left_out, ["long"]);
        assert_eq!(index.spec.hosts["both.example"], ["pullpass-short"]);
        // It is forbidden to no namespace to which the one that is left out may give it.
        assert_eq!(index.spec.anonymous["both.example"][0].registry, "long");
        assert_eq!(index.spec.hosts.len(), 2);
    }

    #[test]
    fn all_that_share_a_domain_count_once_it_is_kept() {
        const MOST: usize = 200_000;
        let shared: Vec<String> = (0..8)
            .map(|number| format!("d{number}.{}.example", "x".repeat(60)))
            .collect();
        let shared: Vec<&str> = shared.iter().map(String::as_str).collect();
        // One has the domains, which cost hundreds of others a line each.
        let first = with_domains("first", "shared", 0, &shared);
        let others = (0..300).map(|number| with_domains(&format!("r{number}"), "shared", 10, &shared));
        let registries: AttachedRegistries = others.chain([first]).collect();
        let index = index_within(&registries, &Settings::default(), MOST);
        assert_eq!(index.left_out.len(), 301);
        let size = stored(&registries, MOST);
        assert!(size <= MOST, "{size}");
    }

    #[test]
    fn an_index_has_hosts_secrets_and_settings() {
        let registries = [
            registry("b", &Value::Null),
            registry(
                "a",
                &json!({"matchLabels": {"team": "a"}, "matchExpressions": [
                    {"key": "stage", "operator": "NotIn", "values": ["dev", "test"]},
                    {"key": "x", "operator": "Exists"}, {"key": "y", "operator": "DoesNotExist"}]}),
            ),
        ]
        .into_iter()
        .collect();
        let settings = Settings {
            scope: Scope::new(Mode::OptIn, "own", ["legacy".to_owned()]),
            policy: Policy {
                unattached: Action::Deny,
                ..Policy::default()
            },
        };
        assert_eq!(
            serde_json::to_value(index(&registries, &settings).spec).unwrap(),
            json!({
                "mode": "opt-in",
                "excludedNamespaces": ["kube-node-lease", "kube-public", "kube-system", "legacy", "own"],
                "unattached": "deny",
                "forbidden": "warn",
                "hosts": {"shared.azurecr.io": ["pullpass-a", "pullpass-b"]},
                "pullSecrets": {
                    "pullpass-a": {"registry": "a", "namespaces": [
                        {"key": "team", "operator": "In", "values": ["a"]},
                        {"key": "stage", "operator": "NotIn", "values": ["dev", "test"]},
                        {"key": "x", "operator": "Exists"},
                        {"key": "y", "operator": "DoesNotExist"},
                    ]},
                    "pullpass-b": {"registry": "b"},
                },
            })
        );
    }

    /// A registry with a selector of so many values.
    fn long(name: &str, count: usize) -> AttachedRegistry {
        let values: Vec<_> = (0..count).map(|number| format!("{number:0>63}")).collect();
        let requirement = json!({"key": "team", "operator": "In", "values": values});
        registry(name, &json!({"matchExpressions": [requirement]}))
    }

    #[test]
    fn registries_that_are_left_out_count_too() {
        const MOST: usize = 300_000;
        let registries = (0..1_000).map(|number| long(&format!("r{number}"), 100));
        let index = index_within(&registries.collect(), &Settings::default(), MOST);
        let kept = index.spec.pull_secrets.len();
        assert!(kept > 10 && kept + index.left_out.len() == 1_000, "{kept}");
        let size = serde_json::to_string(&index.spec).unwrap().len();
        assert!(size < MOST, "{size}");
    }

    #[test]
    fn the_longest_selectors_are_what_has_no_room() {
        let registries: AttachedRegistries = [
            long("a", 1_000),
            long("b", 100),
            registry("c", &Value::Null),
            long("d", 1_001),
        ]
        .into_iter()
        .collect();
        let settings = Settings::default();
        for (most, left_out) in [
            (MAX_INDEX_BYTES, &[][..]),
            (100_000, &["d"]),
            (20_000, &["a", "d"]),
            (1_000, &["a", "b", "d"]),
            (100, &["a", "b", "c", "d"]),
        ] {
            let index = index_within(&registries, &settings, most);
            assert_eq!(index.left_out, left_out, "{most}");
            let size = serde_json::to_string(&index.spec).unwrap().len();
            assert!(size <= most + 500, "{size} of {most}");
            assert_eq!(index.spec.pull_secrets.len() + left_out.len(), 4);
            // They are no strangers to the rules, and forbidden to no namespace.
            let anywhere = index.spec.anonymous.values().flatten();
            let allowed = anywhere.filter(|registry| registry.namespaces.is_empty());
            let allowed: Vec<_> = allowed.map(|registry| registry.registry.as_str()).collect();
            assert_eq!(allowed, left_out, "by name, as a record has it");
            assert_eq!(index.spec.hosts.len(), 1);
        }
    }

    /// What the API server notes of who set each field.
    fn noted(value: &Value) -> Value {
        let fields = value.as_object().into_iter().flatten();
        fields
            .map(|(key, value)| (format!("f:{key}"), noted(value)))
            .collect()
    }

    /// How many bytes an index takes in the object.
    fn stored(registries: &AttachedRegistries, most: usize) -> usize {
        let spec = index_within(registries, &Settings::default(), most).spec;
        let spec = serde_json::to_value(spec).unwrap();
        spec.to_string().len() + noted(&spec).to_string().len()
    }

    #[test]
    fn the_room_of_a_registry_is_what_it_takes_or_more() {
        let nothing = stored(&AttachedRegistries::default(), 0);
        let selector = json!({"matchExpressions": [
            {"key": "k".repeat(63), "operator": "In", "values": vec!["v".repeat(63); 50]},
            {"key": "l".repeat(63), "operator": "Exists"},
        ]});
        let all_domains: Vec<String> = (0..4).map(|number| format!("d{number}.contoso.com")).collect();
        let identities = [json!({"managedIdentity": {}}), json!({"anonymous": {}})];
        for (name, host) in [(1, 5), (1, 50), (240, 5), (240, 50)] {
            for (namespaces, identity, domains) in [
                (&Value::Null, 0, 0),
                (&selector, 0, 0),
                (&selector, 0, 4),
                (&Value::Null, 1, 0),
                (&selector, 1, 4),
            ] {
                let object = json!({
                    "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "n".repeat(name)},
                    "spec": {
                        "loginServer": format!("{}.azurecr.io", "h".repeat(host)),
                        "identity": identities[identity],
                        "namespaces": namespaces,
                        "customDomains": all_domains[..domains],
                    },
                });
                let registry = AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap();
                let one: AttachedRegistries = std::iter::once(registry.clone()).collect();
                let full = size(&one, &registry, &indexed(&registry));
                let least = least_size(&registry, registry.login_server().as_str());
                for (estimate, most) in [(full, MAX_INDEX_BYTES), (least, 0)] {
                    let taken = stored(&one, most) - nothing;
                    // It counts the name of a pull secret for an anonymous one, too.
                    let bounds = taken..=(2 + 2 * identity) * taken + 256;
                    assert!(
                        bounds.contains(&estimate),
                        "{estimate} for {taken}: {name} {host} {namespaces} {identity} {domains}"
                    );
                }
            }
        }
    }
}

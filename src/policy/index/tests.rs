use super::*;
use crate::api::acr_registry::AcrRegistry;
use crate::policy::rules::{Action, Policy};
use crate::policy::scope::{Mode, Scope};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::HashSet;

/// The index with another limit of what its registries accept.
fn within(registries: &AttachedRegistries, registries_room: usize) -> Index {
    let room = Room {
        registries: registries_room,
        listed: MAX_LISTED_BYTES,
    };
    index_within(registries, &Settings::default(), room)
}

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
fn a_registry_that_was_never_minted_is_marked() {
    for (status, unminted) in [
        (json!(null), false),
        (
            json!({"conditions": [{"type": "Ready", "status": "False", "reason": "EntraRejected", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
            true,
        ),
        (
            json!({"conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
            false,
        ),
    ] {
        let mut object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "mine"},
            "spec": {"loginServer": "myregistry.azurecr.io", "identity": {"managedIdentity": {}}},
        });
        if !status.is_null() {
            object["status"] = status.clone();
        }
        let registry = AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap();
        let index = index(&std::iter::once(registry).collect(), &Settings::default()).spec;
        assert_eq!(index.pull_secrets["pullpass-mine"].unminted, unminted, "{status}");
    }
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
    let index = within(&registries, MAX_INDEX_BYTES).spec;
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
    let without_room = within(&registries, 0).spec;
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
    let few = (0..100).map(|number| with_domains(&format!("f{number}"), &format!("other{number}"), 1, &[]));
    let registries: AttachedRegistries = many.chain(few).collect();
    let index = within(&registries, MOST);
    let kept: HashSet<_> = index.spec.pull_secrets.keys().cloned().collect();
    assert!((0..100).all(|number| kept.contains(&format!("pullpass-f{number}"))));
    assert!(
        kept.len() > 110 && kept.len() + index.left_out.len() == 1_000,
        "{}",
        kept.len()
    );
    let size = stored(&index);
    assert!(size < MOST + 60_000, "{size}");
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
        with_domains("longer", "shared", 11, &["both.example"]),
    ]
    .into_iter()
    .collect();
    let index = within(&registries, 2_000);
    assert_eq!(index.left_out, ["long", "longer"]);
    assert_eq!(index.spec.hosts["both.example"], ["pullpass-short"]);
    // It is forbidden to no namespace to which one that is left out may give it.
    assert_eq!(index.spec.anonymous["both.example"], [IndexedRegistry::default()]);
    assert_eq!(
        index.spec.anonymous["shared.azurecr.io"],
        [IndexedRegistry::default()]
    );
    assert_eq!((index.spec.hosts.len(), index.spec.anonymous.len()), (2, 2));
}

#[test]
fn room_is_kept_for_those_that_share_a_domain() {
    const MOST: usize = 200_000;
    let shared: Vec<String> = (0..8)
        .map(|number| format!("d{number}.{}.example", "x".repeat(60)))
        .collect();
    let shared: Vec<&str> = shared.iter().map(String::as_str).collect();
    let first = with_domains("first", "shared", 0, &shared);
    let others = (0..300).map(|number| with_domains(&format!("r{number}"), "shared", 10, &shared));
    let registries: AttachedRegistries = others.chain([first]).collect();
    let index = within(&registries, MOST);
    assert!(index.spec.pull_secrets.contains_key("pullpass-first"));
    assert!(index.left_out.len() > 200, "{}", index.left_out.len());
    assert!(shared.iter().all(|host| index.spec.anonymous.contains_key(*host)));
    let size = stored(&index);
    assert!(size <= MOST, "{size}");
}

/// So many registries, each of a login server of its own.
fn numbered(count: usize) -> AttachedRegistries {
    (0..count)
        .map(|number| with_domains(&format!("r{number:05}"), &format!("server{number:05}"), 0, &[]))
        .collect()
}

#[test]
fn registries_beyond_the_room_take_nobodys_place() {
    let most = |count| {
        let index = index(&numbered(count), &Settings::default());
        let kept = index.spec.pull_secrets.len();
        assert_eq!(kept + index.left_out.len(), count);
        let size = stored(&index);
        assert!(size < MAX_INDEX_BYTES + MAX_LISTED_BYTES, "{size}");
        (kept, index.spec)
    };
    let (kept, spec) = most(3_000);
    assert!((1_500..3_000).contains(&kept), "{kept}");
    assert_eq!(
        (spec.hosts.len(), spec.omits_hosts),
        (3_000, false),
        "none is a stranger's"
    );
    // More hosts than there is room for: those of the registries that are kept are there, and no other is a stranger's.
    let (of_many, spec) = most(20_000);
    assert_eq!((of_many, spec.hosts.len(), spec.omits_hosts), (kept, kept, true));
    let spec = index(&numbered(kept), &Settings::default()).spec;
    assert_eq!((spec.pull_secrets.len(), spec.omits_hosts), (kept, false));
}

#[test]
fn login_servers_are_listed_as_long_as_all_have_room() {
    let registries = numbered(10);
    let needed = 10 * listed_size("server00000.azurecr.io");
    for (listed, omits_hosts) in [(needed, false), (needed - 1, true)] {
        let room = Room {
            registries: 0,
            listed,
        };
        let index = index_within(&registries, &Settings::default(), room);
        let expected = if omits_hosts { 0 } else { 10 };
        assert_eq!(
            (index.spec.omits_hosts, index.spec.hosts.len()),
            (omits_hosts, expected)
        );
        assert!(index.spec.hosts.values().all(Vec::is_empty));
    }
}

/// A registry of any kind: alone or not on its login server and its domains, which others have too.
fn any_registry() -> impl Strategy<Value = (u8, u8, Vec<u8>, usize, bool)> {
    (
        any::<u8>(),
        0..20_u8,
        proptest::collection::vec(0..10_u8, 0..5),
        0..20_usize,
        any::<bool>(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn more_registries_never_lower_the_number_that_is_kept(
        offered in proptest::collection::vec(any_registry(), 1..24),
        most in 0..20_000_usize,
    ) {
        let mut before = 0;
        let mut attached = Vec::new();
        for (number, (name, server, domains, values, is_anonymous)) in offered.into_iter().enumerate() {
            let identity = if is_anonymous { "anonymous" } else { "managedIdentity" };
            let domains: HashSet<String> =
                domains.into_iter().map(|domain| format!("d{domain}.contoso.com")).collect();
            let values: Vec<_> = (0..values).map(|number| format!("{number:0>63}")).collect();
            let object = json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry",
                "metadata": {"name": format!("r{name}-{number}")},
                "spec": {
                    "loginServer": format!("server{server}.azurecr.io"),
                    "identity": {identity: {}},
                    "customDomains": domains,
                    "namespaces": {"matchExpressions": [{"key": "team", "operator": "In", "values": values}]},
                },
            });
            // An operator that wants values has some.
            let Ok(registry) = AttachedRegistry::parse(&serde_json::from_value(object).unwrap()) else {
                continue;
            };
            attached.push(registry);
            let registries: AttachedRegistries = attached.iter().cloned().collect();
            let index = within(&registries, most);
            let kept = attached.len() - index.left_out.len();
            prop_assert!(kept >= before, "{kept} of {}, and {before} of one less", attached.len());
            before = kept;
            let listed: usize = index.spec.hosts.iter()
                .filter(|(host, secrets)| secrets.is_empty() && !index.spec.anonymous.contains_key(*host))
                .map(|(host, _)| listed_size(host))
                .sum();
            let nothing = stored(&within(&AttachedRegistries::default(), 0));
            prop_assert!(stored(&index) <= nothing + most + listed + 200);
            for registry in &attached {
                let is_left_out = index.left_out.iter().any(|name| name == registry.name());
                let entry = index.spec.anonymous.get(registry.login_server().as_str());
                let host = index.spec.hosts.get(registry.login_server().as_str());
                // Forbidden to no namespace: by the entry, or since the host has none at all.
                let allows = entry.map_or(
                    host.is_some_and(Vec::is_empty),
                    |entry| entry.contains(&IndexedRegistry::default()),
                );
                prop_assert!(host.is_some() && (!is_left_out || allows), "{}", registry.name());
            }
        }
    }
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
        scope: Scope::new(Mode::OptIn, "own", ["legacy".to_owned()])
            .with_selector(&"team in (b,a),env!=test,owner,!sandbox".parse().unwrap()),
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
            "namespaceSelector": [
                {"key": "team", "operator": "In", "values": ["a", "b"]},
                {"key": "env", "operator": "NotIn", "values": ["test"]},
                {"key": "owner", "operator": "Exists"},
                {"key": "sandbox", "operator": "DoesNotExist"},
            ],
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
    let index = within(&registries.collect(), MOST);
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
    for (most, left_out) in [
        (MAX_INDEX_BYTES, &[][..]),
        (100_000, &["d"]),
        (20_000, &["a", "d"]),
        (1_000, &["a", "b", "d"]),
        (100, &["a", "b", "c", "d"]),
    ] {
        let index = within(&registries, most);
        assert_eq!(index.left_out, left_out, "{most}");
        let size = serde_json::to_string(&index.spec).unwrap().len();
        assert!(size <= most + 500, "{size} of {most}");
        assert_eq!(index.spec.pull_secrets.len() + left_out.len(), 4);
        // They are no strangers to the rules, and forbidden to no namespace: by an entry that stands for them, or by none at
        // all.
        let anywhere = index.spec.anonymous.values().flatten();
        let allowed = anywhere.filter(|registry| **registry == IndexedRegistry::default());
        let is_shared = !left_out.is_empty() && left_out.len() < 4;
        assert_eq!(allowed.count(), usize::from(is_shared), "{most}");
        assert_eq!(index.spec.hosts.len(), 1);
    }
}

/// What the API server notes of who set each field.
fn noted(value: &Value) -> Value {
    let fields = value.as_object().into_iter().flatten();
    let noted: serde_json::Map<_, _> = fields
        .map(|(key, value)| (format!("f:{key}"), noted(value)))
        .collect();
    let itself = (!noted.is_empty()).then(|| (".".to_owned(), json!({})));
    itself.into_iter().chain(noted).collect()
}

/// How many bytes an index takes in the object.
fn stored(index: &Index) -> usize {
    let spec = serde_json::to_value(&index.spec).unwrap();
    spec.to_string().len() + noted(&spec).to_string().len()
}

#[test]
fn the_room_of_a_registry_is_what_it_takes_or_more() {
    let nothing = stored(&within(&AttachedRegistries::default(), 0));
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
            let full = size(&registry, &indexed(&registry));
            // With what stands for others on each of its hosts.
            let mut shared = within(&one, MAX_INDEX_BYTES);
            for host in shared.spec.hosts.keys().cloned().collect::<Vec<_>>() {
                shared
                    .spec
                    .anonymous
                    .entry(host)
                    .or_default()
                    .push(IndexedRegistry::default());
            }
            // With the map, which is there once.
            let listed = 32 + listed_size(registry.login_server().as_str());
            for (estimate, index) in [(full, shared), (listed, within(&one, 0))] {
                let taken = stored(&index) - nothing;
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

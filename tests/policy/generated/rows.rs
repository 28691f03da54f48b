//! Pods, namespaces and registries that are put together at random, the same ones each time. Nothing here is shared with what
//! is tested: what an image is, is known from its parts.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};

/// A registry of the rows.
struct Registry {
    name: &'static str,
    host: &'static str,
    /// Its custom domain.
    domain: Option<&'static str>,
    is_anonymous: bool,
    /// The selector of its namespaces.
    namespaces: Option<fn() -> Value>,
}

const fn registry(name: &'static str, host: &'static str, namespaces: Option<fn() -> Value>) -> Registry {
    Registry {
        name,
        host,
        domain: None,
        is_anonymous: false,
        namespaces,
    }
}

const REGISTRIES: [Registry; 14] = [
    Registry {
        domain: Some("open.contoso.com"),
        ..registry("open", "openregistry.azurecr.io", None)
    },
    registry("in", "inregistry.azurecr.io", Some(|| team("In", &["a", "c"]))),
    registry(
        "notin",
        "notinregistry.azurecr.io",
        Some(|| team("NotIn", &["a", "c"])),
    ),
    registry(
        "exists",
        "existsregistry.azurecr.io",
        Some(|| team("Exists", &[])),
    ),
    registry(
        "absent",
        "absentregistry.azurecr.io",
        Some(|| team("DoesNotExist", &[])),
    ),
    registry(
        "both",
        "bothregistry.azurecr.io",
        Some(|| {
            json!({
                "matchLabels": {"team": "b"},
                "matchExpressions": [{"key": "stage", "operator": "Exists"}],
            })
        }),
    ),
    // Three of one login server, of which two share a domain.
    Registry {
        domain: Some("shared.contoso.com"),
        ..registry(
            "shared-a",
            "sharedregistry.azurecr.io",
            Some(|| team("In", &["a"])),
        )
    },
    Registry {
        domain: Some("shared.contoso.com"),
        ..registry(
            "shared-b",
            "sharedregistry.azurecr.io",
            Some(|| team("NotIn", &["b"])),
        )
    },
    Registry {
        is_anonymous: true,
        ..registry(
            "shared-free",
            "sharedregistry.azurecr.io",
            Some(|| team("In", &["b"])),
        )
    },
    Registry {
        is_anonymous: true,
        ..registry("free", "freeregistry.azurecr.io", Some(|| team("NotIn", &["c"])))
    },
    Registry {
        domain: Some("closed.contoso.com"),
        ..registry(
            "closed",
            "closedregistry.azurecr.io",
            Some(|| team("In", &["nobody"])),
        )
    },
    registry("gov", "govregistry.azurecr.us", Some(|| team("In", &["b"]))),
    registry("hash", "hashregistry-a1b2.azurecr.cn", None),
    registry("other", OTHER_HOST, Some(|| team("Exists", &[]))),
];
/// A login server of a cloud that is none of Azure's own.
const OTHER_HOST: &str = "generatedregistry.azurecr.contoso.com";

/// Hosts that no AcrRegistry has, or that are none of a registry.
const OTHER_HOSTS: [&str; 9] = [
    "strangeregistry.azurecr.io",
    "stranger-b3c4.azurecr.us",
    "strangeregistry.azurecr.cn",
    "abcd.azurecr.io",
    "strange.contoso.com",
    "openregistry.westeurope.data.azurecr.io",
    "openregistry.azurecr.io.example",
    "registry.k8s.io",
    "",
];

fn team(operator: &str, values: &[&str]) -> Value {
    json!({"matchExpressions": [{"key": "team", "operator": operator, "values": values}]})
}

/// The registries, as objects.
pub fn registries() -> Vec<Value> {
    REGISTRIES
        .iter()
        .map(|registry| {
            let identity = if registry.is_anonymous {
                json!({"anonymous": {}})
            } else {
                json!({"basic": {"secretRef": {"name": "token"}}})
            };
            let mut spec = json!({"loginServer": registry.host, "identity": identity});
            if let Some(fields) = spec.as_object_mut() {
                if registry.host == OTHER_HOST {
                    fields.insert("cloud".to_owned(), json!("Other"));
                }
                if let Some(domain) = registry.domain {
                    fields.insert("customDomains".to_owned(), json!([domain]));
                }
                if let Some(namespaces) = registry.namespaces {
                    fields.insert("namespaces".to_owned(), namespaces());
                }
            }
            json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry",
                "metadata": {"name": registry.name}, "spec": spec,
            })
        })
        .collect()
}

/// The hosts of the registries, each once.
pub fn hosts() -> BTreeSet<&'static str> {
    REGISTRIES.iter().map(|registry| registry.host).collect()
}

/// The names of the registries that have pull secrets.
pub fn with_secrets() -> Vec<&'static str> {
    let with = REGISTRIES.iter().filter(|registry| !registry.is_anonymous);
    with.map(|registry| registry.name).collect()
}

/// What the webhook's configuration has to name.
pub fn custom_domains() -> Vec<&'static str> {
    let domains = REGISTRIES.iter().filter_map(|registry| registry.domain);
    let domains: BTreeSet<_> = domains.chain([OTHER_HOST, "strange.contoso.com"]).collect();
    domains.into_iter().collect()
}

/// What a path is, after a reference's first slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Of a reference.
    Valid,
    /// Of none, for a reason that is none of the following.
    Malformed,
    /// Of none, only because of the length of a part.
    Length,
    /// Of none, only because of the case of its digest.
    Case,
}

/// An image of the rows.
#[derive(Clone, Debug)]
pub struct Image {
    pub reference: String,
    pub path: Path,
    /// The pull secrets of the host that it names, whichever namespaces they are for.
    pub secrets: Vec<String>,
}

fn path() -> impl Strategy<Value = (String, Path)> {
    let valid = [
        "app".to_owned(),
        "app:v1".to_owned(),
        "team/b_c__d-e.f:V.1-x".to_owned(),
        format!("app@sha256:{}", "0a".repeat(32)),
        format!("app:1@other+x:{}", "0A".repeat(20)),
        "a".repeat(255),
        format!("app:{}", "t".repeat(128)),
        format!("app@other:{}", "0".repeat(1_200)),
    ];
    let malformed = [
        "App",
        "app:",
        "",
        "app//b",
        "app/",
        "app@sha256",
        "-app",
        "app:.1",
        "app@1:0",
    ];
    let length = [
        "a".repeat(256),
        format!("{}b", "a/".repeat(700)),
        format!("app@sha256:{}", "0a".repeat(31)),
        format!("app@sha512:{}", "0".repeat(1_100)),
    ];
    let case = [("sha256", 64), ("sha384", 96), ("sha512", 128)];
    let case = case.map(|(algorithm, digits)| format!("app@{algorithm}:{}", "0A".repeat(digits / 2)));
    prop_oneof![
        10 => select(valid[..2].to_vec()).prop_map(|path| (path, Path::Valid)),
        6 => select(valid.to_vec()).prop_map(|path| (path, Path::Valid)),
        2 => select(malformed.to_vec()).prop_map(|path| (path.to_owned(), Path::Malformed)),
        2 => select(length.to_vec()).prop_map(|path| (path, Path::Length)),
        1 => select(case.to_vec()).prop_map(|path| (path, Path::Case)),
    ]
}

/// The host of an image: what is attached under it by its form, which case and port change, and what is written.
fn host() -> impl Strategy<Value = (String, String)> {
    let own = REGISTRIES.iter().map(|registry| registry.host);
    let domains = REGISTRIES.iter().filter_map(|registry| registry.domain);
    let hosts: Vec<_> = own.chain(domains).chain(OTHER_HOSTS).collect();
    let region = prop_oneof![
        8 => Just(None),
        2 => Just(Some("westeurope".to_owned())),
        1 => select(vec![Some("r".repeat(63)), Some("r".repeat(64)), Some("west-europe".to_owned())]),
    ];
    (select(hosts), region).prop_map(|(host, region)| {
        let Some(region) = region.filter(|_| !host.is_empty()) else {
            return (host.to_owned(), host.to_owned());
        };
        let (label, zone) = host.split_once('.').unwrap_or_default();
        let is_regional = zone.strip_prefix("azurecr.").is_some_and(|zone| zone.len() == 2);
        let is_region = region.len() <= 63 && !region.contains('-');
        let known = if is_regional && is_region { host } else { "" };
        (known.to_owned(), format!("{label}.{region}.geo.{zone}"))
    })
}

fn image() -> impl Strategy<Value = Image> {
    let port = prop_oneof![
        8 => Just(String::new()),
        2 => Just(":443".to_owned()),
        2 => select(vec![":0443".to_owned(), ":5000".to_owned(), ":4430".to_owned(), ":".to_owned()]),
        2 => Just(format!(":{}443", "0".repeat(1_100))),
    ];
    (host(), 0..4_u8, port, path()).prop_map(|((known, host), case, port, (path, kind))| {
        let host = match case {
            0 => host.to_ascii_uppercase(),
            1 => host
                .chars()
                .enumerate()
                .map(|(place, c)| if place % 3 == 0 { c.to_ascii_uppercase() } else { c })
                .collect(),
            _ => host,
        };
        let digits = port.strip_prefix(':').unwrap_or("443");
        let is_https = digits.trim_start_matches('0') == "443";
        let named = REGISTRIES.iter().filter(|registry| {
            let has = registry.host == known || registry.domain == Some(&known);
            has && is_https && !registry.is_anonymous
        });
        let reference = if host.is_empty() {
            path.clone()
        } else {
            format!("{host}{port}/{path}")
        };
        Image {
            secrets: named
                .map(|registry| format!("pullpass-{}", registry.name))
                .collect(),
            // Nothing is no image for an API server, and a host alone none on a registry.
            reference: if reference.is_empty() {
                "nginx".to_owned()
            } else {
                reference
            },
            path: kind,
        }
    })
}

/// A Pod of the rows. Its parts have its name, so that what is reported about one can be told from what is reported
/// about another.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    pub images: Vec<Image>,
    pub object: Value,
}

const MIRROR: &str = "kubernetes.io/config.mirror";
/// The names of pull secrets that a Pod may have before.
const OWN: [&str; 5] = [
    "own",
    "pullpass-open",
    "another",
    "pullpass-in",
    "pullpass-unknown",
];

/// What of a Pod is not its images.
#[derive(Clone, Debug)]
struct Around {
    metadata: Map<String, Value>,
    /// Its pull secrets.
    own: Option<Vec<Value>>,
    is_mirror: bool,
}

fn around() -> impl Strategy<Value = Around> {
    let label = prop_oneof![6 => Just(None), 1 => Just(Some("disabled")), 1 => Just(Some("enabled"))];
    let own = prop_oneof![
        3 => Just(None),
        1 => proptest::sample::subsequence(OWN.to_vec(), 0..=OWN.len()).prop_shuffle().prop_map(Some),
    ];
    let annotation = prop_oneof![5 => Just(None), 2 => Just(Some("mine")), 1 => Just(Some(MIRROR))];
    (label, own, annotation).prop_map(|(label, own, annotation)| {
        let labels = label.map(|label| ("labels", json!({"pullpass.dev/inject": label})));
        let annotations = annotation.map(|annotation| ("annotations", json!({annotation: "x"})));
        let metadata = labels.into_iter().chain(annotations);
        let is_mirror = annotation == Some(MIRROR);
        let own = own.map(|own| own.iter().map(|name| json!({"name": name})).collect());
        Around {
            metadata: metadata.map(|(key, value)| (key.to_owned(), value)).collect(),
            // With Secrets the API server refuses a mirror Pod before any policy is asked.
            own: own.filter(|_| !is_mirror),
            is_mirror,
        }
    })
}

/// A Pod that has no name yet.
#[derive(Clone, Debug)]
struct Drawn {
    init: Vec<Image>,
    volumes: Vec<Image>,
    main: Vec<Image>,
    around: Around,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let images = proptest::collection::vec(image(), 1..6);
    let places = (any::<Index>(), any::<Index>());
    (images, places, around()).prop_map(|(mut init, (first, second), around)| {
        // At least one is a container's; the others are init containers' and volumes'.
        let mut volumes = init.split_off(first.index(init.len()));
        let main = volumes.split_off(second.index(volumes.len()));
        Drawn {
            init,
            volumes,
            main,
            around,
        }
    })
}

fn containers(prefix: &str, images: &[Image]) -> Vec<Value> {
    let images = images.iter().enumerate();
    images
        .map(|(number, image)| json!({"name": format!("{prefix}-{number}"), "image": image.reference}))
        .collect()
}

fn pod(name: &str, namespace: &str, drawn: Drawn) -> Row {
    let Drawn {
        init,
        volumes,
        main,
        around,
    } = drawn;
    let mounted = volumes.iter().enumerate();
    let mounted: Vec<_> = mounted
        .map(|(number, image)| json!({"name": format!("{name}-v{number}"), "image": {"reference": image.reference}}))
        .chain([json!({"name": format!("{name}-empty"), "emptyDir": {}})])
        .collect();
    let mut metadata = around.metadata;
    metadata.insert("name".to_owned(), json!(name));
    metadata.insert("namespace".to_owned(), json!(namespace));
    let spec = json!({
        "initContainers": containers(&format!("{name}-i"), &init),
        "containers": containers(&format!("{name}-c"), &main),
        "volumes": mounted,
        "imagePullSecrets": around.own,
        // Without a node the API server refuses a mirror Pod, too.
        "nodeName": around.is_mirror.then_some("node"),
    });
    Row {
        name: name.to_owned(),
        images: [init, volumes, main].concat(),
        object: json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}),
    }
}

/// Labels that a selector of namespaces is about, one namespace after the other. Most are selected, so that the rows there say
/// something.
const OF_PLATFORM: [[(&str, Option<&str>); 3]; 8] = [
    [("tier", Some("web")), ("owner", Some("a")), ("frozen", None)],
    [("tier", Some("api")), ("owner", Some("")), ("frozen", None)],
    [("tier", Some("db")), ("owner", Some("b")), ("frozen", None)],
    [("tier", Some("web")), ("owner", Some("a")), ("frozen", None)],
    [("tier", None), ("owner", Some("b")), ("frozen", None)],
    [("tier", Some("web")), ("owner", None), ("frozen", Some(""))],
    [("tier", Some("api")), ("owner", Some("a")), ("frozen", None)],
    [("tier", Some("web")), ("owner", Some("b")), ("frozen", None)],
];

/// Labels of a namespace that every selector of the rows selects, and these.
pub fn selected(mut labels: Value) -> Value {
    if let Some(labels) = labels.as_object_mut() {
        labels.extend([
            ("tier".to_owned(), json!("web")),
            ("owner".to_owned(), json!("a")),
        ]);
    }
    labels
}

/// What comes out of strategies, the same each time for a seed.
pub struct Generator(TestRunner);

impl Generator {
    pub fn new(seed: u8) -> Self {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        Self(TestRunner::new_with_rng(Config::default(), rng))
    }

    fn draw<T: std::fmt::Debug>(&mut self, strategy: &impl Strategy<Value = T>) -> Result<T, String> {
        let tree = strategy.new_tree(&mut self.0);
        Ok(tree.map_err(|reason| reason.to_string())?.current())
    }

    /// The labels of so many namespaces.
    pub fn namespaces(&mut self, count: usize) -> Result<Vec<Map<String, Value>>, String> {
        let value = |weight, values: &'static [&'static str]| prop_oneof![weight => Just(None), 3 => select(values).prop_map(Some)];
        let labels = (
            value(1, &["a", "b", "c"]),
            value(3, &["test"]),
            value(2, &["enabled", "enabled", "disabled", "Enabled"]),
            value(8, &["true", "yes"]),
        );
        (0..count)
            .zip(OF_PLATFORM.into_iter().cycle())
            .map(|(_, of_platform)| {
                let (team, stage, inject, always) = self.draw(&labels)?;
                let keys = [
                    "team",
                    "stage",
                    "pullpass.dev/inject",
                    "pullpass.dev/always-inject",
                ];
                let values = [team, stage, inject, always];
                let labels = keys.into_iter().zip(values).chain(of_platform);
                let labels = labels.filter_map(|(key, value)| Some((key.to_owned(), json!(value?))));
                Ok(labels.collect())
            })
            .collect()
    }

    /// Pods of a namespace.
    pub fn pods(&mut self, namespace: &str, count: usize) -> Result<Vec<Row>, String> {
        let strategy = drawn();
        (0..count)
            .map(|number| {
                let drawn = self.draw(&strategy)?;
                Ok(pod(&format!("{namespace}r{number}"), namespace, drawn))
            })
            .collect()
    }

    /// Images to change a Pod's to, or to debug it with.
    pub fn images(&mut self, count: usize) -> Result<Vec<Image>, String> {
        self.draw(&proptest::collection::vec(image(), count..=count))
    }
}

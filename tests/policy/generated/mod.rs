//! Rows that are put together at random: the policies of the API server, with no pullpass, beside the webhook, row by row.
//! What may differ is listed here and in docs/policy.md, and each of these differences has to show.

mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;

use pullpass_test_support::{ControlPlane, wait_for};
use serde_json::{Value, json};

pub use self::rows::hosts;
use self::rows::{Generator, Image, Path, Row};
use crate::admission_policy;
use crate::enforce;
use crate::world::{
    SOON, Test, cluster, items, list, namespace, pull_secrets, pullpass, text, token, wait_for_index,
};

/// The namespace that a flag excludes. As all of them it has no hyphen, up to which a part's name is its row's.
const EXCLUDED: &str = "excluded";
/// One that is injected in both modes.
const OPTED_IN: &str = "optedin";
/// One that would be, if the selector selected it.
const UNSELECTED: &str = "unselected";
const NAMESPACES: usize = 8;
/// How many Pods there are in each namespace.
const PODS: usize = 30;
/// How many Pods of each namespace are changed, and debugged.
const CHANGED: usize = 4;

#[test]
fn generated_rows_are_the_same_cluster_wide() -> Test {
    let selector = [
        json!({"key": "tier", "operator": "In", "values": ["web", "api"]}),
        json!({"key": "frozen", "operator": "DoesNotExist"}),
    ];
    in_mode("cluster-wide", 1, "tier in (web,api),!frozen", &selector)
}

#[test]
fn generated_rows_are_the_same_opt_in() -> Test {
    let selector = [
        json!({"key": "tier", "operator": "NotIn", "values": ["db"]}),
        json!({"key": "owner", "operator": "Exists"}),
    ];
    in_mode("opt-in", 2, "tier!=db,owner", &selector)
}

/// How the policies may differ from the webhook, in the words of docs/policy.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// A name is added for an image that no kubelet pulls.
    NoReference,
    /// A name is missing of an image whose reference is long.
    LongReference,
    /// An image is judged that no kubelet pulls, since a part has a wrong length.
    JudgedByHost,
    /// The same, since its digest has upper-case letters.
    DigestCase,
}

impl Difference {
    const ALL: [Self; 4] = [
        Self::NoReference,
        Self::LongReference,
        Self::JudgedByHost,
        Self::DigestCase,
    ];

    fn documented(self) -> &'static str {
        match self {
            Self::NoReference => "If an image is not a valid reference",
            Self::LongReference => {
                "leaves an image to the webhook if its reference has more than 1,024 characters"
            }
            Self::JudgedByHost => "They do not check the lengths of an image reference's parts",
            Self::DigestCase => {
                "or only because a `sha256`, `sha384` or `sha512` digest has upper-case letters"
            }
        }
    }
}

/// A namespace of the rows, and what is done in it.
struct Rows {
    namespace: String,
    labels: Value,
    pods: Vec<Row>,
    /// What Pods that are there are changed to, and debugged with.
    changes: Vec<Vec<Image>>,
}

fn generate(seed: u8) -> Result<Vec<Rows>, String> {
    let mut generator = Generator::new(seed);
    let labels = generator.namespaces(NAMESPACES)?;
    let named = labels.into_iter().enumerate();
    let named = named.map(|(number, labels)| (format!("n{number}"), json!(labels)));
    // Some rows are of no use if their namespaces are not injected.
    let opted_in = rows::selected(json!({"pullpass.dev/inject": "enabled", "team": "a"}));
    let excluded = rows::selected(json!({"pullpass.dev/inject": "enabled"}));
    let unselected = json!({"pullpass.dev/inject": "enabled", "pullpass.dev/always-inject": "true", "tier": "db", "owner": "a"});
    let more = [
        (OPTED_IN.to_owned(), opted_in),
        (EXCLUDED.to_owned(), excluded),
        (UNSELECTED.to_owned(), unselected),
    ];
    named
        .chain(more)
        .map(|(namespace, labels)| {
            Ok(Rows {
                pods: generator.pods(&namespace, PODS)?,
                changes: (0..CHANGED)
                    .map(|_| generator.images(3))
                    .collect::<Result<_, _>>()?,
                labels,
                namespace,
            })
        })
        .collect()
}

/// What is reported about the rows, by their names.
#[derive(Default)]
struct Answers {
    /// The pull secrets of the Pod that would be stored.
    names: BTreeMap<String, Vec<String>>,
    /// The refusals, each of which names a part of the row.
    refusals: BTreeMap<String, BTreeSet<String>>,
}

/// The selector is said to pullpass and to the API server.
fn in_mode(mode: &str, seed: u8, flag: &str, selector: &[Value]) -> Test {
    let all = generate(seed)?;
    let cluster = cluster()?;
    let always = json!({"pullpass.dev/inject": "enabled", "pullpass.dev/always-inject": "true"});
    namespace(&cluster, "default", &rows::selected(always))?;
    for rows in &all {
        namespace(&cluster, &rows.namespace, &rows.labels)?;
        let live: Vec<_> = (0..CHANGED).map(|number| live(rows, number)).collect();
        cluster.create(&list(&live))?;
    }
    let scope = Selection { mode, flag, selector };
    let by_webhook = Answers {
        names: with_webhook(&cluster, &scope, "allow", || names(&cluster, &all))?,
        refusals: with_webhook(&cluster, &scope, "deny", || refusals(&cluster, &all))?,
    };
    let apply = |component| cluster.run(&["apply", "--filename", component]);
    apply(admission_policy::COMPONENT)?;
    let probe = |namespace: &str, image: &str| {
        let spec = json!({"containers": [{"name": "probe", "image": image}]});
        admission_policy::injected(&cluster, &admission_policy::pod(namespace, &spec))
    };
    // One of them looks at images, and the other one at namespaces.
    for (namespace, image) in [(OPTED_IN, "openregistry.azurecr.io/probe"), ("default", "nginx")] {
        wait_for("the policies to inject", SOON, || {
            let names = probe(namespace, image).map_err(|error| error.to_string())?;
            (!names.is_empty()).then_some(()).ok_or("no names".to_owned())
        })?;
    }
    let names = names(&cluster, &all)?;
    apply(enforce::COMPONENT)?;
    wait_for("the policy to refuse", SOON, || {
        probe(OPTED_IN, "strangeregistry.azurecr.io/probe").is_err()
    })?;
    let by_policies = Answers {
        names,
        refusals: refusals(&cluster, &all)?,
    };
    let rows: Vec<_> = all.iter().flat_map(named_rows).collect();
    assert!(by_webhook.names.values().filter(|names| names.len() > 2).count() > 20);
    assert!(by_webhook.refusals.len() > 20, "{}", by_webhook.refusals.len());
    for (kind, is_of_kind) in [
        ("created", (|name| name.contains('r')) as fn(&str) -> bool),
        ("changed", |name| name.contains('u') && !name.ends_with('e')),
        ("debugged", |name| name.contains('u') && name.ends_with('e')),
    ] {
        let mut refused = by_webhook.refusals.keys();
        assert!(
            refused.any(|name| is_of_kind(name)),
            "none is refused that is {kind}"
        );
    }
    for name in by_webhook.refusals.keys().chain(by_policies.refusals.keys()) {
        assert!(rows.iter().any(|(row, ..)| row == name), "{name} is no row");
    }
    let mut differences = BTreeSet::new();
    for (name, images, own) in &rows {
        differences.extend(compare(name, images, own, &by_webhook, &by_policies));
    }
    let documentation = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/policy.md"))?;
    let documentation = documentation.split_whitespace().collect::<Vec<_>>().join(" ");
    for difference in Difference::ALL {
        assert!(differences.contains(&difference), "{difference:?} does not show");
        assert!(documentation.contains(difference.documented()), "{difference:?}");
    }
    Ok(())
}

/// Which namespaces are injected.
struct Selection<'a> {
    mode: &'a str,
    /// As pullpass is told.
    flag: &'a str,
    /// The same, as the API server is.
    selector: &'a [Value],
}

/// Has a replica lead, whose action of both rules is this, and asks it.
fn with_webhook<T>(
    cluster: &ControlPlane,
    scope: &Selection<'_>,
    action: &str,
    ask: impl FnOnce() -> Result<T, Box<dyn Error>>,
) -> Result<T, Box<dyn Error>> {
    let replica = pullpass(cluster)
        .overlay(scope.mode)
        .namespace_selector(scope.selector)
        .whole_cluster("generated")
        .label("pullpass.dev/inject", "enabled")
        .label("tier", "web")
        .label("owner", "a")
        .custom_domains(&rows::custom_domains())
        .flag(format!("--mode={}", scope.mode))
        .flag(format!("--namespace-selector={}", scope.flag))
        .flag(format!("--unattached={action}"))
        .flag(format!("--forbidden={action}"))
        .flag(format!("--exclude-namespaces={EXCLUDED}"))
        .start()?;
    cluster.apply(&list(&[vec![token()], rows::registries()].concat()))?;
    wait_for_index(cluster, &rows::with_secrets())?;
    let ready = [
        "wait",
        "--for=condition=Ready",
        "acrregistries",
        "--all",
        "--timeout=60s",
    ];
    cluster.run(&ready)?;
    wait_for("the index to have the rules", SOON, || {
        let index = cluster.get_json(&["acrindex", "pullpass"])?;
        if text(&index, "/spec/unattached") == action {
            return Ok(());
        }
        Err(Box::<dyn Error>::from(index.to_string()))
    })?;
    let answers = ask()?;
    drop(replica);
    Ok(answers)
}

/// A Pod that is there, with containers for as many images as it is changed to.
fn live(rows: &Rows, number: usize) -> Value {
    let name = format!("{}u{number}", rows.namespace);
    let containers = (0..3).map(|container| {
        // One of them was a stranger's before there was a rule.
        let image = if container == 1 {
            "strangeregistry.azurecr.io/before:1"
        } else {
            "nginx"
        };
        json!({"name": format!("{name}-c-{container}"), "image": image})
    });
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": rows.namespace},
        "spec": {"containers": containers.collect::<Vec<_>>()},
    })
}

/// The names of pull secrets that each Pod would have.
fn names(cluster: &ControlPlane, all: &[Rows]) -> Result<BTreeMap<String, Vec<String>>, Box<dyn Error>> {
    let mut names = BTreeMap::new();
    for rows in all {
        let objects: Vec<_> = rows.pods.iter().map(|row| row.object.clone()).collect();
        for pod in admission_policy::create(cluster, &list(&objects))? {
            let secrets = pull_secrets(&pod).into_iter().map(str::to_owned).collect();
            names.insert(text(&pod, "/metadata/name").to_owned(), secrets);
        }
    }
    Ok(names)
}

/// What each Pod is refused for, at its creation, when its images are changed, and when it is debugged.
fn refusals(
    cluster: &ControlPlane,
    all: &[Rows],
) -> Result<BTreeMap<String, BTreeSet<String>>, Box<dyn Error>> {
    let mut refusals = BTreeMap::<_, BTreeSet<_>>::new();
    for rows in all {
        let objects: Vec<_> = rows.pods.iter().map(|row| row.object.clone()).collect();
        let mut said = enforce::create(cluster, &list(&objects)).text;
        let live = cluster.get_json(&["pods", "--namespace", &rows.namespace])?;
        let (mut changed, mut debugged) = (Vec::new(), Vec::new());
        for (pod, images) in items(&live, "/items").zip(&rows.changes) {
            let name = text(pod, "/metadata/name");
            let mut other = pod.clone();
            for (container, image) in images.iter().enumerate().filter(|(container, _)| *container != 1) {
                if let Some(changed) = other.pointer_mut(&format!("/spec/containers/{container}/image")) {
                    *changed = json!(image.reference);
                }
            }
            changed.push(other);
            let mut other = pod.clone();
            let debuggers = images.iter().enumerate();
            let debuggers = debuggers.map(
                |(number, image)| json!({"name": format!("{name}-e-{number}"), "image": image.reference}),
            );
            if let Some(spec) = other.pointer_mut("/spec").and_then(Value::as_object_mut) {
                spec.insert("ephemeralContainers".to_owned(), debuggers.collect());
            }
            debugged.push((name.to_owned(), other));
        }
        let replace = ["replace", "--dry-run=server", "--filename", "-"];
        said += &enforce::send(cluster, &replace, &list(&changed)).text;
        for (name, pod) in debugged {
            let path = format!(
                "/api/v1/namespaces/{}/pods/{name}/ephemeralcontainers?dryRun=All",
                rows.namespace
            );
            let arguments = ["replace", "--raw", &path, "--filename", "-"];
            said += "\n";
            said += &enforce::send(cluster, &arguments, &pod.to_string()).text;
        }
        for (row, sentence) in sentences(&said) {
            refusals.entry(row).or_default().insert(sentence);
        }
    }
    Ok(refusals)
}

/// What is reported about a rule, and of which row.
fn sentences(said: &str) -> impl Iterator<Item = (String, String)> {
    let sentences = said.split("pullpass: spec.").skip(1);
    let sentences = sentences.filter_map(|rest| rest.lines().next());
    let of_rules = sentences.filter(|sentence| sentence.contains("(rule: "));
    of_rules.map(|sentence| {
        let place = sentence.split_once('[').map_or("", |(_, place)| place);
        let row = place.split('-').next().unwrap_or_default();
        let debugged = if sentence.starts_with("ephemeral") {
            "e"
        } else {
            ""
        };
        let sentence = sentence.trim_end_matches([';', ' ']).to_owned();
        (format!("{row}{debugged}"), sentence)
    })
}

/// A row's name, its images, and the pull secrets that it has by itself.
fn named_rows(rows: &Rows) -> Vec<(String, Vec<&Image>, Vec<&str>)> {
    let pods = rows.pods.iter().map(|row| {
        let own = items(&row.object, "/spec/imagePullSecrets").map(|own| text(own, "/name"));
        (row.name.clone(), row.images.iter().collect(), own.collect())
    });
    let changes = rows.changes.iter().enumerate().flat_map(|(number, images)| {
        let name = format!("{}u{number}", rows.namespace);
        let changed = images.iter().enumerate().filter(|(container, _)| *container != 1);
        let changed = changed.map(|(_, image)| image).collect();
        [
            (name.clone(), changed, Vec::new()),
            (name + "e", images.iter().collect(), Vec::new()),
        ]
    });
    pods.chain(changes).collect()
}

/// Compares what is reported about a row, and returns how it differs.
fn compare(
    name: &str,
    images: &[&Image],
    own: &[&str],
    by_webhook: &Answers,
    by_policies: &Answers,
) -> BTreeSet<Difference> {
    let mut differences = BTreeSet::new();
    let of = |answers: &Answers| answers.names.get(name).cloned().unwrap_or_default();
    let (webhook, policies) = (of(by_webhook), of(by_policies));
    let context = format!("{name}: {own:?} {images:?}\nwebhook {webhook:?}\npolicies {policies:?}");
    for names in [&webhook, &policies]
        .into_iter()
        .filter(|names| !names.is_empty())
    {
        assert!(names.iter().take(own.len()).eq(own), "kept in order: {context}");
        let once: BTreeSet<_> = names.iter().collect();
        assert_eq!(once.len(), names.len(), "each once: {context}");
    }
    let [webhook, policies] = [webhook, policies].map(|names| names.into_iter().collect::<BTreeSet<_>>());
    let of_kind = |is_of_kind: &dyn Fn(&Image) -> bool| -> BTreeSet<String> {
        let images = images.iter().filter(|image| is_of_kind(image));
        images.flat_map(|image| image.secrets.iter().cloned()).collect()
    };
    let unpulled = of_kind(&|image| image.path != Path::Valid);
    let long = of_kind(&|image| image.reference.len() > 1_024);
    for added in policies.difference(&webhook) {
        assert!(unpulled.contains(added), "{added} is added: {context}");
        differences.insert(Difference::NoReference);
    }
    for missing in webhook.difference(&policies) {
        assert!(long.contains(missing), "{missing} is missing: {context}");
        differences.insert(Difference::LongReference);
    }
    let of = |answers: &Answers| answers.refusals.get(name).cloned().unwrap_or_default();
    let (webhook, policies) = (of(by_webhook), of(by_policies));
    if webhook != policies {
        // One that is judged only by its host may stand before the one that the webhook names.
        let difference = [
            (Path::Length, Difference::JudgedByHost),
            (Path::Case, Difference::DigestCase),
        ]
        .into_iter()
        .find(|(path, _)| images.iter().any(|image| image.path == *path));
        let is_stricter = webhook.len() <= policies.len();
        assert!(
            difference.is_some() && is_stricter,
            "{images:?}\nwebhook {webhook:?}\npolicies {policies:?}"
        );
        differences.extend(difference.map(|(_, difference)| difference));
    }
    differences
}

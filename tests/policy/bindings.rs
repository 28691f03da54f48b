//! Namespaces with `AcrPullBindings`: what the webhook adds, records and refuses there, and that the API server's own policies add
//! and refuse the same with no replica.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use pullpass_test_support::{ControlPlane, InstallationBuilder, wait_for};
use serde_json::{Value, json};

use crate::admission_policy::{COMPONENT, create, pod, wait_for_record_by_policy};
use crate::enforce;
use crate::world::{
    CLOSED, FREE, OPEN, OTHER_HOST, SOON, Test, attach, cluster, items, list, namespace, pull_secrets,
    pullpass, text, wait_for_index,
};

const BINDINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/components/bindings");
/// A host that only bindings attach.
const OWN: &str = "teamregistry.azurecr.io";
/// One with a domain name label, in another of Azure's clouds.
const LABELLED: &str = "teamregistry-a1b2c3d4e5f6a7b8.azurecr.us";
/// One of the cloud that the settings describe.
const OTHER_OWN: &str = "teamregistry.azurecr.contoso.com";

/// Namespaces, their labels, and whether they have bindings.
fn namespaces() -> [(&'static str, Value, bool); 5] {
    [
        ("shop", json!({}), true),
        ("blog", json!({}), false),
        ("always", json!({"pullpass.dev/always-inject": "true"}), true),
        ("alone", json!({"pullpass.dev/always-inject": "true"}), false),
        ("opted-out", json!({"pullpass.dev/inject": "disabled"}), true),
    ]
}

/// The bindings of a namespace.
fn bindings(namespace: &str) -> Vec<Value> {
    let azure = |name: &str| format!("{name}.azurecr.io");
    [
        ("z-open", azure(OPEN), None),
        ("a-open", azure(OPEN), None),
        ("own", OWN.to_owned(), None),
        ("labelled", LABELLED.to_owned(), None),
        ("closed", azure(CLOSED), None),
        ("free", azure(FREE), None),
        ("other", OTHER_HOST.to_owned(), Some("Other")),
        ("other-own", OTHER_OWN.to_owned(), Some("Other")),
    ]
    .into_iter()
    .map(|(name, host, cloud)| {
        let fields = [
            ("loginServer", json!(host)),
            ("serviceAccountName", json!("puller")),
        ];
        let cloud = cloud.map(|cloud| ("cloud", json!(cloud)));
        let spec: BTreeMap<_, _> = fields.into_iter().chain(cloud).collect();
        json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        })
    })
    .collect()
}

/// A cluster with the component, and a pullpass that carries it out.
fn with_component(cluster: &ControlPlane) -> Result<InstallationBuilder<'_>, Box<dyn Error>> {
    for file in ["crd.yaml", "rbac.yaml"] {
        let path = format!("{BINDINGS}/{file}");
        cluster.run(&["apply", "--server-side", "--filename", &path])?;
    }
    let domains = [
        OTHER_HOST,
        OTHER_OWN,
        &format!("{OPEN}.contoso.com"),
        &format!("{CLOSED}.contoso.com"),
    ];
    Ok(pullpass(cluster)
        .flag("--bindings")
        .flag("--other-cloud-authority=https://login.contoso.com")
        .flag("--other-cloud-audience=https://registry.contoso.com")
        .custom_domains(&domains))
}

/// Attaches what there is, everywhere, and waits until the index has it.
fn attach_and_bind(cluster: &ControlPlane) -> Test {
    attach(cluster)?;
    let bound = namespaces()
        .into_iter()
        .filter(|(.., has_bindings)| *has_bindings);
    let objects: Vec<_> = bound.flat_map(|(name, ..)| bindings(name)).collect();
    cluster.apply(&list(&objects))?;
    wait_for_index(cluster, &[OPEN, CLOSED])?;
    wait_for("the bindings in the index", SOON, || {
        let index = cluster
            .get_json(&["acrindex", "pullpass"])
            .map_err(|error| error.to_string())?;
        let hosts = ["shop", "always", "opted-out"].map(|namespace| {
            let hosts = index.pointer(&format!("/spec/bindings/{namespace}"));
            hosts.and_then(Value::as_object).map(serde_json::Map::len)
        });
        (hosts == [Some(7); 3]).then_some(()).ok_or(index.to_string())
    })?;
    Ok(())
}

/// The images of Pods.
fn images() -> Vec<Vec<String>> {
    let one = |image: &str| vec![image.to_owned()];
    vec![
        one(&format!("{OPEN}.azurecr.io/app:1")),
        one("OpenRegistry.westeurope.geo.azurecr.io:443/app:1"),
        // A binding has only its login server.
        one(&format!("{OPEN}.contoso.com/app:1")),
        one(&format!("{OWN}/app:1")),
        one("TeamRegistry.AzureCR.io:0443/app:1"),
        one("teamregistry.westeurope.geo.azurecr.io/app:1"),
        one(&format!("{OWN}:5000/app:1")),
        one("teamregistry.azurecr.cn/app:1"),
        one(&format!("{LABELLED}/app:1")),
        one(&format!("{CLOSED}.azurecr.io/app:1")),
        one(&format!("{CLOSED}.contoso.com/app:1")),
        one(&format!("{FREE}.azurecr.io/app:1")),
        one(&format!("{OTHER_HOST}/app:1")),
        one(&format!("{OTHER_OWN}:443/app:1")),
        one("strangeregistry.azurecr.io/app:1"),
        one("nginx:1"),
        vec![
            format!("{OPEN}.azurecr.io/app:1"),
            format!("{OWN}/app:1"),
            "nginx:1".to_owned(),
        ],
        vec![
            format!("{OWN}/app:1"),
            format!("{OPEN}.azurecr.io/app:1"),
            format!("{OWN}/other:1"),
        ],
        vec![
            format!("{CLOSED}.azurecr.io/app:1"),
            format!("{LABELLED}/app:1"),
            format!("{OTHER_OWN}/app:1"),
        ],
    ]
}

/// The pull secrets and the label that a Pod has from its author.
const AUTHORED: [(&[&str], Option<&str>); 4] = [
    (&[], None),
    (&["mine", "pullpass-binding-z-open"], None),
    (&["pullpass-openregistry"], None),
    (&[], Some("disabled")),
];

/// A Pod with a container for each image.
fn containers_in(namespace: &str, images: Vec<String>) -> String {
    let containers = images.into_iter().enumerate();
    let containers: Vec<_> = containers
        .map(|(number, image)| json!({"name": format!("c{number}"), "image": image}))
        .collect();
    pod(namespace, &json!({"containers": containers}))
}

/// A Pod for each row.
fn pods(namespace: &str) -> Vec<Value> {
    let mut pods = Vec::new();
    for images in images() {
        for (secrets, label) in AUTHORED {
            let containers: Vec<_> = images
                .iter()
                .enumerate()
                .map(|(number, image)| json!({"name": format!("c{number}"), "image": image}))
                .collect();
            let secrets: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
            let labels = label.map(|label| json!({"pullpass.dev/inject": label}));
            pods.push(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("pod-{}", pods.len()), "namespace": namespace, "labels": labels},
                "spec": {"containers": containers, "imagePullSecrets": secrets},
            }));
        }
    }
    pods
}

/// What the API server would store of the Pods of a namespace.
fn stored(cluster: &ControlPlane, namespace: &str) -> Result<Vec<Vec<String>>, Box<dyn Error>> {
    let pods = pods(namespace);
    let created = create(cluster, &list(&pods))?;
    assert_eq!(created.len(), pods.len());
    let names = created
        .iter()
        .map(|pod| pull_secrets(pod).into_iter().map(str::to_owned).collect());
    Ok(names.collect())
}

fn sorted(names: &[String]) -> Vec<&str> {
    let mut names: Vec<_> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn bindings_are_injected_as_by_the_webhook() -> Test {
    let cluster = cluster()?;
    let pullpass = with_component(&cluster)?.start()?;
    let mut webhook = BTreeMap::new();
    for (name, labels, _) in namespaces() {
        let labels: Vec<_> = labels.as_object().into_iter().flatten().collect();
        let labels: Vec<_> = labels
            .into_iter()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
            .collect();
        pullpass.add_namespace(name, &labels)?;
    }
    attach_and_bind(&cluster)?;
    for (name, ..) in namespaces() {
        webhook.insert(name, stored(&cluster, name)?);
    }
    // What is compared with is what docs/teams.md says.
    let first = |namespace: &str| {
        webhook
            .get(namespace)
            .and_then(|rows| rows.first())
            .cloned()
            .unwrap_or_default()
    };
    let of_open = [
        "pullpass-binding-a-open",
        "pullpass-binding-z-open",
        "pullpass-openregistry",
    ];
    assert_eq!(
        (first("shop"), first("blog")),
        (of_open.map(str::to_owned).into(), vec![of_open[2].to_owned()])
    );
    assert_eq!((first("always").len(), first("opted-out").len()), (9, 0));
    drop(pullpass);
    cluster.run(&["apply", "--filename", COMPONENT])?;
    wait_for("the API server to follow the policies", SOON, || {
        let rows = ["shop", "always"].map(|name| stored(&cluster, name));
        let rows: Result<Vec<_>, _> = rows.into_iter().collect();
        let rows = rows.map_err(|error| error.to_string())?;
        let lengths: Vec<_> = rows.iter().map(|rows| rows.first().map(Vec::len)).collect();
        (lengths == [Some(3), Some(9)])
            .then_some(())
            .ok_or(format!("{lengths:?}"))
    })?;
    for (namespace, expected) in webhook {
        let rows = stored(&cluster, namespace)?;
        for ((pod, expected), names) in pods(namespace).iter().zip(&expected).zip(&rows) {
            let context = format!("{namespace} {pod}: {names:?} and {expected:?}");
            assert_eq!(sorted(names), sorted(expected), "{context}");
            let is_on_one_host = items(pod, "/spec/containers").count() == 1;
            if is_on_one_host && !namespace.starts_with("al") {
                assert_eq!(names, expected, "{context}");
            }
            // What the policies added: after what was there, and of each host the bindings' first.
            let own: Vec<_> = pull_secrets(pod);
            let (before, added) = names.split_at(own.len());
            assert_eq!(before, own, "{context}");
            let at = |name: &str| added.iter().position(|added| added == name);
            // pullpass-always adds what no image of the Pod needs after what pullpass added for its images.
            let names_host = items(pod, "/spec/containers")
                .any(|container| !text(container, "/image").contains(".contoso.com"));
            if let Some(registry) = at(&format!("pullpass-{OPEN}")).filter(|_| names_host) {
                let bound = ["pullpass-binding-a-open", "pullpass-binding-z-open"].map(at);
                assert!(
                    bound.into_iter().flatten().all(|binding| binding < registry),
                    "{context}"
                );
            }
        }
    }
    Ok(())
}

/// What is reported about each Pod of a namespace by what refuses it; nothing of one that is admitted.
fn refusals(cluster: &ControlPlane, namespace: &str, before: &str) -> Result<Vec<String>, Box<dyn Error>> {
    images()
        .into_iter()
        .map(|images| {
            let said = enforce::create(cluster, &containers_in(namespace, images));
            if !said.refused {
                return Ok(String::new());
            }
            let (_, text) = said.text.split_once(before).ok_or_else(|| said.text.clone())?;
            Ok(text.trim_end().to_owned())
        })
        .collect()
}

#[test]
fn bindings_attach_for_the_rules_as_for_the_webhook() -> Test {
    let cluster = cluster()?;
    let pullpass = with_component(&cluster)?
        .flag("--unattached=deny")
        .flag("--forbidden=deny")
        .start()?;
    for (name, ..) in namespaces().into_iter().take(2) {
        pullpass.add_namespace(name, &[])?;
    }
    namespace(&cluster, "always", &json!({}))?;
    namespace(&cluster, "opted-out", &json!({}))?;
    attach_and_bind(&cluster)?;
    let by_webhook = ["shop", "blog"].map(|name| refusals(&cluster, name, "denied the request: "));
    let [shop, blog] = by_webhook;
    let (shop, blog) = (shop?, blog?);
    let refused = |rows: &[String]| rows.iter().filter(|row| !row.is_empty()).count();
    assert_eq!((refused(&shop), refused(&blog)), (3, 12), "{shop:#?} {blog:#?}");
    drop(pullpass);
    cluster.run(&["apply", "--filename", enforce::COMPONENT])?;
    enforce::wait_for_action(&cluster, "blog", "deny")?;
    for (namespace, expected) in [("shop", shop), ("blog", blog)] {
        let rows = refusals(&cluster, namespace, "denied request: ")?;
        // Which rule is told about first differs, where an image violates each.
        let told = |rows: Vec<String>| -> Vec<BTreeSet<String>> {
            let rows = rows.into_iter();
            rows.map(|row| row.split("; ").map(str::to_owned).collect())
                .collect()
        };
        assert_eq!(told(rows), told(expected), "{namespace}");
    }
    Ok(())
}

#[test]
fn the_webhook_records_a_binding_after_the_policy() -> Test {
    let cluster = cluster()?;
    let pullpass = with_component(&cluster)?.flag("--unattached=deny").start()?;
    cluster.run(&["apply", "--filename", COMPONENT])?;
    for (name, ..) in namespaces() {
        pullpass.add_namespace(name, &[])?;
    }
    attach_and_bind(&cluster)?;
    let on = |image: &str| containers_in("shop", vec![format!("{image}/app:1")]);
    let record = wait_for_record_by_policy(&cluster, &pullpass, "shop", &on(OWN))?;
    assert_eq!(text(&record, "/decision"), "already-present", "{record}");
    assert_eq!(text(&record, "/images/0/registry"), "shop/own", "{record}");
    assert_eq!(items(&record, "/injected").count(), 0, "{record}");
    // The rules hold for all other images, and in all other namespaces.
    let two = vec![
        format!("{OWN}/app:1"),
        "strangeregistry.azurecr.io/app:1".to_owned(),
    ];
    for (namespace, images) in [("shop", two), ("blog", vec![format!("{OWN}/app:1")])] {
        let said = enforce::create(&cluster, &containers_in(namespace, images));
        assert!(
            said.refused && said.text.contains("(rule: unattached)"),
            "{namespace}: {}",
            said.text
        );
    }
    Ok(())
}

/// Somebody who deletes or edits a binding is followed within seconds.
#[test]
fn the_index_follows_the_bindings() -> Test {
    let cluster = cluster()?;
    let pullpass = with_component(&cluster)?.start()?;
    for (name, ..) in namespaces() {
        pullpass.add_namespace(name, &[])?;
    }
    attach_and_bind(&cluster)?;
    let secrets = |namespace: &str, host: &str| -> Result<Option<Vec<String>>, String> {
        let index = cluster
            .get_json(&["acrindex", "pullpass"])
            .map_err(|error| error.to_string())?;
        let hosts = index.pointer(&format!("/spec/bindings/{namespace}"));
        let secrets = hosts.and_then(|hosts| hosts.get(host)?.as_array());
        Ok(secrets.map(|secrets| {
            secrets
                .iter()
                .filter_map(|secret| Some(secret.as_str()?.to_owned()))
                .collect()
        }))
    };
    let expect = |namespace: &str, host: &str, expected: Option<&[&str]>| {
        wait_for("the index to follow", SOON, || {
            let secrets = secrets(namespace, host)?;
            let expected =
                expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
            if secrets == expected {
                Ok(())
            } else {
                Err(format!("{secrets:?}"))
            }
        })
    };
    let open = format!("{OPEN}.azurecr.io");
    expect(
        "shop",
        &open,
        Some(&["pullpass-binding-a-open", "pullpass-binding-z-open"]),
    )?;
    cluster.run(&["delete", "acrpullbinding", "a-open", "--namespace", "shop"])?;
    expect("shop", &open, Some(&["pullpass-binding-z-open"]))?;
    let moved = json!({"spec": {"loginServer": "movedregistry.azurecr.io"}}).to_string();
    let patch = [
        "patch",
        "acrpullbinding",
        "own",
        "--namespace=shop",
        "--type=merge",
        "--patch",
        &moved,
    ];
    cluster.run(&patch)?;
    expect(
        "shop",
        "movedregistry.azurecr.io",
        Some(&["pullpass-binding-own"]),
    )?;
    expect("shop", OWN, None)?;
    expect("always", OWN, Some(&["pullpass-binding-own"]))?;
    // An AcrRegistry of its name takes its pull secret, and with it the host.
    let namesake = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "binding-own"},
        "spec": {"loginServer": "namesake1.azurecr.io", "identity": {"anonymous": {}}},
    });
    cluster.apply(&namesake.to_string())?;
    expect("always", OWN, None)?;
    Ok(())
}

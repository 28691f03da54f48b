//! The same rows, with no pullpass: the API server's own admission policy adds what the webhook would.

use std::error::Error;
use std::fs;

use pullpass_test_support::{ControlPlane, Installation, wait_for};
use serde_json::{Value, json};

use crate::intruder::Intruder;
use crate::rows::{Image, MODES, Pod, is_asked, namespaces, pods, say};
use crate::world::{
    CLOSED, OPEN, SOON, Test, attach, cluster, items, list, namespace, pull_secrets, pullpass, text,
    wait_for_index, with_written_index,
};

pub const COMPONENT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/manifests/components/admission-policy/policy.yaml"
);
/// The namespace that a flag excludes.
const EXCLUDED: &str = "policy-excluded";

/// A Pod with these images and as many pull secrets of its own.
pub fn with_own(namespace: &str, images: impl IntoIterator<Item = impl Into<String>>, own: usize) -> String {
    let containers = images.into_iter().enumerate();
    let containers: Vec<_> = containers
        .map(|(number, image)| json!({"name": format!("c{number}"), "image": image.into()}))
        .collect();
    let own: Vec<_> = (0..own)
        .map(|number| json!({"name": format!("own-{number}")}))
        .collect();
    pod(
        namespace,
        &json!({"containers": containers, "imagePullSecrets": own}),
    )
}

/// Waits until a Pod has so many names.
pub fn wait_for_names(cluster: &ControlPlane, pod: &str, count: usize) -> Test {
    wait_for("the policy to inject", SOON, || match injected(cluster, pod) {
        Ok(names) if names.len() == count => Ok(()),
        Ok(names) => Err(format!("{} names", names.len())),
        Err(error) => Err(error.to_string()),
    })?;
    Ok(())
}

/// Waits until a Pod that is created there is recorded as injected by the policy, and gives the record.
pub fn wait_for_record_by_policy(
    cluster: &ControlPlane,
    pullpass: &Installation<'_>,
    namespace: &str,
    pod: &str,
) -> Result<Value, Box<dyn Error>> {
    let record = wait_for("the policy to be asked before the webhook", SOON, || {
        create(cluster, pod).map_err(|error| error.to_string())?;
        let records = pullpass
            .records_in(namespace)
            .map_err(|error| error.to_string())?;
        let by_policy = |record: &&Value| text(record, "/injectedBy") == "admission-policy";
        records
            .iter()
            .find(by_policy)
            .cloned()
            .ok_or(format!("{records:?}"))
    })?;
    Ok(record)
}

#[test]
fn every_row_is_injected_without_a_replica() -> Test {
    for mode in MODES {
        let cluster = cluster()?;
        learn_and_end(&cluster, mode, &[OPEN, CLOSED])?;
        for (number, kind) in namespaces().into_iter().enumerate() {
            let name = if kind.excluded {
                EXCLUDED.to_owned()
            } else {
                format!("policy-{number}")
            };
            let labels: serde_json::Map<_, _> = kind
                .labels()
                .into_iter()
                .map(|(key, value)| (key.to_owned(), json!(value)))
                .collect();
            namespace(&cluster, &name, &json!(labels))?;
            let objects: Vec<Value> = pods().into_iter().map(|pod| pod.object(&name)).collect();
            let created = create(&cluster, &list(&objects))?;
            for pod in pods() {
                let injected = is_asked(mode, kind, pod) && say(mode, "allow", kind, pod).injected;
                let secret = format!("pullpass-{OPEN}");
                let expected: Vec<&str> = Some(secret.as_str()).filter(|_| injected).into_iter().collect();
                let object = created
                    .iter()
                    .find(|object| text(object, "/metadata/name") == pod.name());
                let object = object.ok_or_else(|| format!("{} is not there: {created:?}", pod.name()))?;
                assert_eq!(pull_secrets(object), expected, "{mode} {kind:?} {pod:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn the_webhook_records_what_the_policy_did() -> Test {
    let cluster = cluster()?;
    let pullpass = pullpass(&cluster).start()?;
    attach(&cluster)?;
    cluster.run(&["apply", "--filename", COMPONENT])?;
    wait_for_index(&cluster, &[OPEN, CLOSED])?;
    let namespace = pullpass.new_namespace(&[])?;
    let attached = Pod {
        label: None,
        image: Image::Attached,
    };
    let pod = attached.object(&namespace).to_string();
    let record = wait_for_record_by_policy(&cluster, &pullpass, &namespace, &pod)?;
    assert_eq!(text(&record, "/decision"), "already-present", "{record}");
    assert!(text(&record, "/reason").contains("admission policy"), "{record}");
    let injected = record.get("injected").and_then(Value::as_array);
    assert!(injected.is_some_and(Vec::is_empty), "{record}");
    // What the author of a Pod wrote is nobody's.
    let mut own = attached.object(&namespace);
    let spec = own.get_mut("spec").and_then(Value::as_object_mut);
    let names = json!([{"name": format!("pullpass-{OPEN}")}]);
    spec.ok_or("there is no spec")?
        .insert("imagePullSecrets".to_owned(), names);
    create(&cluster, &own.to_string())?;
    wait_for("the record of a Pod that named its pull secret", SOON, || {
        let records = pullpass
            .records_in(&namespace)
            .map_err(|error| error.to_string())?;
        let own = |record: &Value| {
            text(record, "/decision") == "already-present" && text(record, "/injectedBy").is_empty()
        };
        records
            .iter()
            .any(own)
            .then_some(())
            .ok_or(format!("{records:?}"))
    })?;
    Ok(())
}

/// The policy does not take the place of what follows: the Secret is written, and the rules are judged.
#[test]
fn the_webhook_demands_and_judges_after_the_policy() -> Test {
    let cluster = cluster()?;
    let pullpass = pullpass(&cluster)
        .flag("--unattached=warn")
        .flag("--forbidden=deny")
        .start()?;
    attach(&cluster)?;
    cluster.run(&["apply", "--filename", COMPONENT])?;
    wait_for_index(&cluster, &[OPEN, CLOSED])?;
    let namespace = pullpass.new_namespace(&[])?;
    let probe = Pod {
        label: None,
        image: Image::Attached,
    };
    let by = "/metadata/annotations/pullpass.dev~1injected-by";
    wait_for("the policy to inject", SOON, || {
        let created = create(&cluster, &probe.object(&namespace).to_string());
        let created = created.map_err(|error| error.to_string())?;
        let by_policy = created.iter().any(|pod| text(pod, by) == "admission-policy");
        by_policy.then_some(()).ok_or(format!("{created:?}"))
    })?;
    // Nothing was stored, and no Secret is needed.
    let secret = format!("pullpass-{OPEN}");
    let get = ["get", "secret", "--namespace", &namespace, &secret];
    assert!(cluster.run(&get).is_err());
    let pod = |name: &str, images: &[Image]| {
        let containers = images.iter().enumerate();
        let containers: Vec<_> = containers
            .map(|(number, image)| json!({"name": format!("c{number}"), "image": image.reference()}))
            .collect();
        let metadata = json!({"name": name, "namespace": namespace});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}})
            .to_string()
    };
    let both = cluster.run_with_input(
        &["create", "--filename", "-"],
        &pod("strange", &[Image::Attached, Image::Unattached]),
    )?;
    assert!(
        both.stderr
            .contains("no AcrRegistry has strangeregistry.azurecr.io"),
        "{both:?}"
    );
    let stored = cluster.get_json(&["pod", "strange", "--namespace", &namespace])?;
    assert_eq!(
        (pull_secrets(&stored), text(&stored, by)),
        (vec![secret.as_str()], "admission-policy")
    );
    wait_for("the Secret that the policy named", SOON, || cluster.run(&get))?;
    let refused = cluster.run_with_input(
        &["create", "--filename", "-"],
        &pod("forbidden", &[Image::Attached, Image::Forbidden]),
    );
    let refused = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("(rule: forbidden)"), "{refused}");
    wait_for("the records", SOON, || {
        let records = pullpass
            .records_in(&namespace)
            .map_err(|error| error.to_string())?;
        let rules_of = |name: &str| -> Option<Vec<&str>> {
            let record = records.iter().find(|record| text(record, "/pod/name") == name)?;
            let rules = items(record, "/violations").map(|violation| text(violation, "/rule"));
            Some(rules.collect())
        };
        let expected = (Some(vec!["unattached"]), Some(vec!["forbidden"]));
        ((rules_of("strange"), rules_of("forbidden")) == expected)
            .then_some(())
            .ok_or(format!("{records:?}"))
    })?;
    // The leader would write the Secret of any Pod that it sees: this one was demanded by its review, which waited for it.
    let records = pullpass.records_in(&namespace)?;
    let of_pod = |name: &str| records.iter().find(|record| text(record, "/pod/name") == name);
    let stored = of_pod("strange").ok_or("there is no record")?;
    assert_eq!(text(stored, "/injectedBy"), "admission-policy", "{stored}");
    assert!(
        ["written", "failed"].contains(&text(stored, "/waited/pullSecret")),
        "{stored}"
    );
    let refused = of_pod("forbidden").ok_or("there is no record")?;
    assert_eq!(text(refused, "/waited/pullSecret"), "", "{refused}");
    Ok(())
}

/// `kubectl get acrindex` shows what the leader derives: an edit, be it of a field that was empty, lasts seconds.
#[test]
fn an_index_that_somebody_edits_is_written_again() -> Test {
    let cluster = cluster()?;
    let pullpass = pullpass(&cluster).start()?;
    attach(&cluster)?;
    wait_for_index(&cluster, &[OPEN, CLOSED])?;
    let read = || cluster.get_json(&["acrindex", "pullpass"]);
    let spec = |index: &Value| index.pointer("/spec").cloned().unwrap_or_default();
    let derived = spec(&read()?);
    for edit in [
        json!({"unattached": "deny"}),
        json!({"excludedNamespaces": ["apps"]}),
        json!({"namespaceSelector": [{"key": "team", "operator": "Exists"}]}),
        json!({"hosts": {"intruder.azurecr.io": ["pullpass-intruder"], format!("{OPEN}.azurecr.io"): null}}),
        json!({"pullSecrets": null}),
    ] {
        let edit = json!({"spec": edit}).to_string();
        let arguments = [
            "patch",
            "acrindex",
            "pullpass",
            "--type=merge",
            "--output=json",
            "--patch",
            &edit,
        ];
        let edited: Value = serde_json::from_str(&cluster.run(&arguments)?.stdout)?;
        assert_ne!(spec(&edited), derived, "{edit}");
        wait_for("the leader to write the index again", SOON, || {
            let index = read().map_err(|error| error.to_string())?;
            (spec(&index) == derived).then_some(()).ok_or(index.to_string())
        })?;
    }
    let recreated = |count: u8| -> Result<bool, Box<dyn std::error::Error>> {
        let line = format!("pullpass_index_recreated_total {count}");
        Ok(pullpass.metrics()?.lines().any(|one| one == line))
    };
    assert!(recreated(0)?);
    cluster.run(&["delete", "acrindex", "pullpass"])?;
    wait_for("the leader to create the index again", SOON, || {
        let index = read().map_err(|error| error.to_string())?;
        (spec(&index) == derived).then_some(()).ok_or(index.to_string())
    })?;
    wait_for("it to be counted", SOON, || {
        recreated(1).unwrap_or_default().then_some(())
    })?;
    // The next leader knows from the Lease that there was one.
    drop(pullpass);
    cluster.run(&["delete", "acrindex", "pullpass"])?;
    let next = self::pullpass(&cluster).start()?;
    wait_for("the next leader to count it", SOON, || {
        let text = next.metrics().map_err(|error| error.to_string())?;
        let counted = text
            .lines()
            .any(|line| line == "pullpass_index_recreated_total 1");
        counted.then_some(()).ok_or(text)
    })?;
    Ok(())
}

/// What `reinvocationPolicy: IfNeeded` is for. The API server asks again what it asked before: a Pod's first image on ACR, added
/// by a webhook, is left to pullpass' own.
#[test]
fn an_image_that_a_later_webhook_adds_is_injected() -> Test {
    let cluster = with_index(&json!({
        "mode": "cluster-wide", "unattached": "allow", "forbidden": "warn",
        "hosts": {"added.azurecr.io": ["pullpass-added"], "own.azurecr.io": ["pullpass-own"]},
        "pullSecrets": {"pullpass-added": {"registry": "added"}, "pullpass-own": {"registry": "own"}},
    }))?;
    namespace(&cluster, "apps", &json!({}))?;
    let one = |image: &str| pod("apps", &json!({"containers": [{"name": "main", "image": image}]}));
    wait_for("the policy to inject", SOON, || {
        match injected(&cluster, &one("own.azurecr.io/app:1")) {
            Ok(names) if names == ["pullpass-own"] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    let intruder = Intruder::start(&cluster, "later", "added.azurecr.io/sidecar:1")?;
    wait_for("the later webhook to be called", SOON, || {
        intruder.was_called_by(|| {
            let _ = injected(&cluster, &one("nginx"));
        })
    })?;
    for (image, expected) in [
        ("own.azurecr.io/app:1", &["pullpass-own", "pullpass-added"][..]),
        ("stranger.azurecr.io/app:1", &["pullpass-added"]),
        ("added.azurecr.io/app:1", &["pullpass-added"]),
        ("nginx", &[]),
    ] {
        assert_eq!(injected(&cluster, &one(image))?, expected, "{image}");
    }
    Ok(())
}

/// A pullpass leads until the index has these registries, and ends with its webhook.
fn learn_and_end(cluster: &ControlPlane, mode: &str, registries: &[&str]) -> Test {
    let pullpass = pullpass(cluster)
        .overlay(mode)
        .label("pullpass.dev/inject", "enabled")
        .flag(format!("--mode={mode}"))
        .flag(format!("--exclude-namespaces={EXCLUDED}"))
        .start()?;
    attach(cluster)?;
    cluster.run(&["apply", "--filename", COMPONENT])?;
    wait_for_index(cluster, registries)?;
    drop(pullpass);
    namespace(cluster, "probe", &json!({"pullpass.dev/inject": "enabled"}))?;
    let probe = Pod {
        label: None,
        image: Image::Attached,
    };
    wait_for("the API server to follow the policy", SOON, || {
        let created = create(cluster, &probe.object("probe").to_string())?;
        if !created.iter().any(|pod| !pull_secrets(pod).is_empty()) {
            return Err(Box::<dyn std::error::Error>::from(format!("{created:?}")));
        }
        Ok(())
    })?;
    Ok(())
}

/// What the API server would store.
pub fn create(cluster: &ControlPlane, objects: &str) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let arguments = ["create", "--dry-run=server", "--output=json", "--filename", "-"];
    let created = cluster.run_with_input(&arguments, objects)?;
    let objects = serde_json::Deserializer::from_str(&created.stdout).into_iter();
    Ok(objects.collect::<Result<_, _>>()?)
}

/// A cluster whose index is written by hand, and these policies.
pub fn with_index(index: &Value) -> Result<ControlPlane, Box<dyn std::error::Error>> {
    let cluster = with_written_index(index)?;
    // An error would be hidden otherwise, and the Pod left to the webhook.
    let policies = fs::read_to_string(COMPONENT)?.replace("failurePolicy: Ignore", "failurePolicy: Fail");
    cluster.run_with_input(&["apply", "--filename", "-"], &policies)?;
    Ok(cluster)
}

pub fn pod(namespace: &str, spec: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "namespace": namespace}, "spec": spec}).to_string()
}

/// The names in the Pod that the API server would store.
pub fn injected(cluster: &ControlPlane, pod: &str) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let created = create(cluster, pod)?;
    let names = created.iter().flat_map(pull_secrets);
    Ok(names.map(str::to_owned).collect())
}

#[test]
fn selectors_order_and_duplicates_are_as_in_the_webhook() -> Test {
    let requirement = |operator: &str, values: &[&str]| {
        let requirement = json!({"key": "team", "operator": operator, "values": values});
        json!({"registry": operator.to_lowercase(), "namespaces": [requirement]})
    };
    let cluster = with_index(&json!({
        "mode": "cluster-wide", "unattached": "allow", "forbidden": "warn",
        "hosts": {"shared.azurecr.io": ["pullpass-in", "pullpass-notin", "pullpass-exists", "pullpass-doesnotexist", "pullpass-both"]},
        "pullSecrets": {
            "pullpass-in": requirement("In", &["a", "c"]),
            "pullpass-notin": requirement("NotIn", &["a", "c"]),
            "pullpass-exists": requirement("Exists", &[]),
            "pullpass-doesnotexist": requirement("DoesNotExist", &[]),
            "pullpass-both": {"registry": "both", "namespaces": [
                {"key": "team", "operator": "In", "values": ["d"]}, {"key": "stage", "operator": "Exists", "values": []},
            ]},
        },
    }))?;
    let image = |name: &str| json!({"name": name, "image": "shared.azurecr.io/app:1"});
    let plain = json!({"containers": [image("main")]});
    let [isin, notin, exists, absent, both] =
        ["in", "notin", "exists", "doesnotexist", "both"].map(|name| format!("pullpass-{name}"));
    for (name, labels, expected) in [
        ("none", json!({}), vec![&notin, &absent]),
        ("a", json!({"team": "a"}), vec![&isin, &exists]),
        ("b", json!({"team": "b"}), vec![&notin, &exists]),
        // Each requirement has to hold.
        ("stage", json!({"stage": "test"}), vec![&notin, &absent]),
        ("d", json!({"team": "d"}), vec![&notin, &exists]),
        (
            "both",
            json!({"team": "d", "stage": "test"}),
            vec![&notin, &exists, &both],
        ),
    ] {
        namespace(&cluster, name, &labels)?;
        wait_for("the policy to inject", SOON, || {
            match injected(&cluster, &pod(name, &plain)) {
                Ok(names) if names.iter().eq(expected.iter().copied()) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
    }
    let spec = json!({
        "imagePullSecrets": [{"name": "own"}, {"name": "pullpass-exists"}],
        "initContainers": [image("init")],
        "containers": [image("one"), {"name": "two", "image": "Shared.azurecr.io:443/other:2"}],
        "volumes": [{"name": "data", "image": {"reference": "shared.azurecr.io/data:1"}}],
    });
    let names = injected(&cluster, &pod("a", &spec))?;
    assert_eq!(names, ["own", "pullpass-exists", "pullpass-in"]);
    // Who added a name is said on the Pod, and on no other.
    let mine = json!({"mine": "1"});
    let by = "pullpass.dev/injected-by";
    for (annotations, spec, expected) in [
        (Value::Null, &plain, json!({by: "admission-policy"})),
        (mine.clone(), &plain, json!({by: "admission-policy", "mine": "1"})),
        (
            Value::Null,
            &json!({"containers": [{"name": "main", "image": "nginx"}]}),
            Value::Null,
        ),
        (
            mine.clone(),
            &json!({"containers": [image("main")], "imagePullSecrets": [{"name": "pullpass-in"}, {"name": "pullpass-exists"}]}),
            mine,
        ),
    ] {
        let mut object: Value = serde_json::from_str(&pod("a", spec))?;
        let metadata = object.pointer_mut("/metadata").and_then(Value::as_object_mut);
        metadata
            .ok_or("there is no metadata")?
            .insert("annotations".to_owned(), annotations);
        let created = create(&cluster, &object.to_string())?;
        let said = created
            .first()
            .and_then(|pod| pod.pointer("/metadata/annotations"));
        assert_eq!(said.unwrap_or(&Value::Null), &expected, "{object}");
    }
    Ok(())
}

#[test]
fn images_in_every_place_are_injected_by_the_policy_alone() -> Test {
    let hosts = ["init", "main", "data"].map(|place| format!("{place}registry.azurecr.io"));
    let secret = |host: &String| format!("pullpass-{}", host.trim_end_matches(".azurecr.io"));
    let of: serde_json::Map<_, _> = hosts
        .iter()
        .map(|host| (host.clone(), json!([secret(host)])))
        .collect();
    let secrets: serde_json::Map<_, _> = hosts
        .iter()
        .map(|host| (secret(host), json!({"registry": host, "namespaces": []})))
        .collect();
    let cluster = with_index(&json!({
        "mode": "cluster-wide", "unattached": "allow", "forbidden": "warn", "hosts": of, "pullSecrets": secrets,
    }))?;
    namespace(&cluster, "apps", &json!({}))?;
    let image = |host: &str| format!("{host}registry.azurecr.io/app:1");
    let plain = json!({"name": "plain", "image": "nginx"});
    for (spec, expected) in [
        (
            json!({"containers": [{"name": "main", "image": image("main")}]}),
            "main",
        ),
        (
            json!({"initContainers": [{"name": "init", "image": image("init")}], "containers": [plain]}),
            "init",
        ),
        (
            json!({"containers": [plain], "volumes": [{"name": "data", "image": {"reference": image("data")}}]}),
            "data",
        ),
    ] {
        let expected = [format!("pullpass-{expected}registry")];
        wait_for("the policy to inject", SOON, || {
            match injected(&cluster, &pod("apps", &spec)) {
                Ok(names) if names == expected => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
    }
    Ok(())
}

#[test]
fn a_large_pod_and_a_large_index_fit_the_budget() -> Test {
    let registries: Vec<String> = (0..2000).map(|number| format!("registry{number:04}")).collect();
    let hosts: serde_json::Map<_, _> = registries
        .iter()
        .map(|name| (format!("{name}.azurecr.io"), json!([format!("pullpass-{name}")])))
        .collect();
    let secrets: serde_json::Map<_, _> = registries
        .iter()
        .map(|name| (format!("pullpass-{name}"), json!({"registry": name})))
        .collect();
    let cluster = with_index(&json!({
        "mode": "cluster-wide", "unattached": "allow", "forbidden": "warn", "hosts": hosts, "pullSecrets": secrets,
    }))?;
    namespace(&cluster, "apps", &json!({}))?;
    let containers = |count: usize| {
        let containers: Vec<_> = registries
            .iter()
            .take(count)
            .enumerate()
            .map(|(number, name)| json!({"name": format!("c{number}"), "image": format!("{name}.azurecr.io/app:1")}))
            .collect();
        pod("apps", &json!({"containers": containers}))
    };
    wait_for("the policy to inject", SOON, || {
        match injected(&cluster, &containers(1)) {
            Ok(names) if names == ["pullpass-registry0000"] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    // The API server adds a volume with a token.
    assert_eq!(injected(&cluster, &containers(255))?.len(), 255);
    let more = injected(&cluster, &containers(256))?;
    assert_eq!(more, [""; 0], "it is left to the webhook");
    // As much as the API server takes: nothing is refused for what it costs.
    let own = "registry0000.azurecr.io";
    let long = |count: usize, length: usize| {
        let images = (0..count).map(|number| {
            let text = "x".repeat(length);
            json!({"name": format!("c{number}"), "image": if number == 0 { format!("{own}/app:1") } else { format!("{own}/{text}") }})
        });
        pod("apps", &json!({"containers": images.collect::<Vec<_>>()}))
    };
    for (count, length, is_injected) in [
        (255, 1_000, true),
        (255, 4_000, true),
        (2, 1_000_000, true),
        (1_000, 1_000, false),
    ] {
        let names = injected(&cluster, &long(count, length))?;
        assert_eq!(
            !names.is_empty(),
            is_injected,
            "{count} images of {length}: {names:?}"
        );
    }
    let port = "0".repeat(990);
    let ports = (0..255).map(|number| {
        let image = if number == 254 {
            format!("{own}/app:1")
        } else {
            format!("{own}:{port}44/a")
        };
        json!({"name": format!("c{number}"), "image": image})
    });
    let ports = pod("apps", &json!({"containers": ports.collect::<Vec<_>>()}));
    assert_eq!(injected(&cluster, &ports)?, ["pullpass-registry0000"]);
    assert_full_annotations_refuse_no_pod(&cluster, &format!("{own}/app:1"))
}

/// Annotations may take so many bytes, of which the policies' own needs some.
fn assert_full_annotations_refuse_no_pod(cluster: &ControlPlane, image: &str) -> Test {
    const LIMIT: usize = 262_144;
    const OWN: usize = 40;
    assert_eq!("pullpass.dev/injected-by".len() + "admission-policy".len(), OWN);
    for (namespace, labels) in [
        ("apps", json!({})),
        ("always", json!({"pullpass.dev/always-inject": "true"})),
    ] {
        self::namespace(cluster, namespace, &labels)?;
        for (letter, bytes, is_annotated) in [
            ("x", LIMIT - OWN, true),
            ("x", LIMIT - OWN + 1, false),
            ("x", LIMIT, false),
            // Bytes count, and not letters.
            ("\u{e9}", LIMIT - OWN, true),
            ("\u{e9}", LIMIT - OWN + 2, false),
        ] {
            let value = letter.repeat((bytes - "an".len()) / letter.len());
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "pod", "namespace": namespace, "annotations": {"an": value}},
                "spec": {"containers": [{"name": "main", "image": image}]},
            });
            let created = create(cluster, &pod.to_string())?;
            let pod = created.first().ok_or("no Pod")?;
            let context = format!("{namespace}: {bytes} bytes of {letter}");
            assert!(pull_secrets(pod).contains(&"pullpass-registry0000"), "{context}");
            let by = text(pod, "/metadata/annotations/pullpass.dev~1injected-by");
            assert_eq!(by == "admission-policy", is_annotated, "{context}");
        }
        // So many cost more than the API server lets an expression cost.
        let short: serde_json::Map<_, _> = (0..43_000)
            .map(|number| (format!("a{number}"), json!("")))
            .collect();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "namespace": namespace, "annotations": short},
            "spec": {"containers": [{"name": "main", "image": image}]},
        });
        let created = create(cluster, &pod.to_string())?;
        let pod = created.first().ok_or("no Pod")?;
        assert!(
            pull_secrets(pod).contains(&"pullpass-registry0000"),
            "{namespace}"
        );
    }
    Ok(())
}

#[test]
fn every_cloud_is_injected_and_no_mirror_pod() -> Test {
    let hosts = ["gov.azurecr.us", "china.azurecr.cn"];
    let of = |host: &str| host.split('.').next().unwrap_or_default().to_owned();
    let entries: serde_json::Map<_, _> = hosts
        .iter()
        .map(|host| ((*host).to_owned(), json!([format!("pullpass-{}", of(host))])))
        .collect();
    let secrets: serde_json::Map<_, _> = hosts
        .iter()
        .map(|host| (format!("pullpass-{}", of(host)), json!({"registry": of(host)})))
        .collect();
    let cluster = with_index(&json!({
        "mode": "cluster-wide", "unattached": "allow", "forbidden": "warn", "hosts": entries, "pullSecrets": secrets,
    }))?;
    namespace(&cluster, "apps", &json!({}))?;
    let one = |image: &str| pod("apps", &json!({"containers": [{"name": "main", "image": image}]}));
    for (image, secret) in [
        ("gov.azurecr.us/app:1", "pullpass-gov"),
        ("Gov.AzureCR.us:443/app:1", "pullpass-gov"),
        ("gov.usgovvirginia.geo.azurecr.us/app:1", "pullpass-gov"),
        (
            "china.azurecr.cn/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "pullpass-china",
        ),
        ("china.chinaeast2.geo.azurecr.cn:443/app", "pullpass-china"),
    ] {
        wait_for("the policy to inject", SOON, || {
            match injected(&cluster, &one(image)) {
                Ok(names) if names == [secret] => Ok(()),
                other => Err(format!("{image}: {other:?}")),
            }
        })?;
    }
    let spec = json!({"nodeName": "node", "containers": [{"name": "main", "image": "gov.azurecr.us/app:1"}]});
    assert_eq!(injected(&cluster, &pod("apps", &spec))?, ["pullpass-gov"]);
    let mut mirror: Value = serde_json::from_str(&pod("apps", &spec))?;
    let metadata = mirror.pointer_mut("/metadata").and_then(Value::as_object_mut);
    metadata.ok_or("there is no metadata")?.insert(
        "annotations".to_owned(),
        json!({"kubernetes.io/config.mirror": "x"}),
    );
    assert_eq!(injected(&cluster, &mirror.to_string())?, [""; 0]);
    Ok(())
}

//! The rules with no pullpass: the API server's own policies refuse and warn as the webhook would, and what changes a Pod
//! after pullpass does not evade them.

mod limits;
mod selected;
mod updates;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::process::Command;

use pullpass_test_support::{ControlPlane, Installation, Scratch, wait_for};
use serde_json::{Value, json};

use crate::intruder::Intruder;
use crate::rows::{MODES, POLICIES, Pod, is_asked, namespaces, pods};
use crate::world::{
    CLOSED, OPEN, SOON, Test, attach, cluster, items, list, namespace, pullpass, registries, text,
    wait_for_index, with_written_index,
};

pub const COMPONENT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/manifests/components/enforce/policy.yaml"
);
/// The namespace that a flag excludes.
const EXCLUDED: &str = "policy-excluded";
const STRANGE: &str = "strangeregistry.azurecr.io/app:v1";

/// What the API server says of a request, and whether it refuses it.
pub struct Said {
    pub refused: bool,
    pub text: String,
}

/// Sends a request that may be refused.
pub fn send(cluster: &ControlPlane, arguments: &[&str], input: &str) -> Said {
    match cluster.run_with_input(arguments, input) {
        Ok(output) => Said {
            refused: false,
            text: output.stderr,
        },
        Err(error) => Said {
            refused: true,
            text: error.to_string(),
        },
    }
}

pub fn create(cluster: &ControlPlane, objects: &str) -> Said {
    send(
        cluster,
        &["create", "--dry-run=server", "--filename", "-"],
        objects,
    )
}

/// What the API server is to be told by the index about both rules.
fn set_rules(cluster: &ControlPlane, unattached: &str, forbidden: &str) -> Test {
    let patch = json!({"spec": {"unattached": unattached, "forbidden": forbidden}}).to_string();
    let arguments = ["patch", "acrindex", "pullpass", "--type=merge", "--patch", &patch];
    cluster.run(&arguments)?;
    Ok(())
}

/// Waits until a Pod with a stranger's image is treated by this action, and so that the API server follows.
pub fn wait_for_action(cluster: &ControlPlane, namespace: &str, action: &str) -> Test {
    let probe = pod(
        namespace,
        &json!({"containers": [{"name": "probe", "image": STRANGE}]}),
    );
    wait_for(&format!("the API server to {action}"), SOON, || {
        let said = create(cluster, &probe);
        let warned = said.text.contains("'pullpass-warn'");
        if (said.refused, warned) == (action == "deny", action == "warn") {
            Ok(())
        } else {
            Err(said.text)
        }
    })?;
    Ok(())
}

fn pod(namespace: &str, spec: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "namespace": namespace}, "spec": spec}).to_string()
}

/// The text of a refusal, without what the API server writes before it.
fn refusal(said: &Said) -> &str {
    let text = said
        .text
        .split_once("denied request: ")
        .map_or("", |(_, text)| text);
    text.trim_end()
}

/// A kind of Pod, and one of it.
type Row = (Pod, Value);

/// A namespace of the rows, and a Pod of every kind in it. The container has the Pod's name, so that what is reported
/// about one can be told from what is reported about another.
fn rows() -> Vec<(String, crate::rows::Namespace, Vec<Row>)> {
    namespaces()
        .into_iter()
        .enumerate()
        .map(|(number, kind)| {
            let name = if kind.excluded {
                EXCLUDED.to_owned()
            } else {
                format!("policy-{number}")
            };
            let objects = pods().into_iter().map(|pod| {
                let mut object = pod.object(&name);
                if let Some(container) = object.pointer_mut("/spec/containers/0/name") {
                    *container = json!(pod.name());
                }
                (pod, object)
            });
            let objects = objects.collect();
            (name, kind, objects)
        })
        .collect()
}

fn labels(kind: crate::rows::Namespace) -> Value {
    let labels: BTreeMap<_, _> = kind.labels().into_iter().collect();
    json!(labels)
}

/// What the webhook answers to every row, in their order.
fn answers(mode: &str, action: &str) -> Result<Vec<Value>, Box<dyn Error>> {
    let scratch = Scratch::new()?;
    let manifests = scratch.path().join("manifests");
    fs::create_dir(&manifests)?;
    let (mut objects, mut known) = (Vec::new(), registries());
    for (name, kind, row) in rows() {
        let metadata = json!({"name": name, "labels": labels(kind)});
        known.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
        objects.extend(row.into_iter().map(|(_, object)| object));
    }
    fs::write(manifests.join("cluster.json"), list(&known))?;
    let file = scratch.path().join("pods.json");
    fs::write(&file, list(&objects))?;
    let output = Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .args(["review", "--output=json", "--filename"])
        .arg(&file)
        .arg("--manifests")
        .arg(&manifests)
        .arg(format!("--mode={mode}"))
        .arg(format!("--unattached={action}"))
        .arg(format!("--forbidden={action}"))
        .arg(format!("--exclude-namespaces={EXCLUDED}"))
        .output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let decisions: Vec<Value> = items(&report, "/decisions").cloned().collect();
    assert_eq!(decisions.len(), objects.len());
    Ok(decisions)
}

#[test]
fn every_row_is_judged_without_a_replica() -> Test {
    for mode in MODES {
        let cluster = cluster()?;
        let pullpass = pullpass(&cluster)
            .overlay(mode)
            .label("pullpass.dev/inject", "enabled")
            .flag(format!("--mode={mode}"))
            .flag(format!("--exclude-namespaces={EXCLUDED}"))
            .start()?;
        attach(&cluster)?;
        cluster.run(&["apply", "--filename", COMPONENT])?;
        wait_for_index(&cluster, &[OPEN, CLOSED])?;
        drop(pullpass);
        namespace(&cluster, "probe", &json!({"pullpass.dev/inject": "enabled"}))?;
        for (name, kind, _) in rows() {
            namespace(&cluster, &name, &labels(kind))?;
        }
        for action in POLICIES {
            set_rules(&cluster, action, action)?;
            wait_for_action(&cluster, "probe", action)?;
            let mut answers = answers(mode, action)?.into_iter();
            for (_, kind, row) in rows() {
                let objects: Vec<_> = row.iter().map(|(_, object)| object.clone()).collect();
                let said = create(&cluster, &list(&objects)).text;
                let mut expected_warnings = 0;
                for ((pod, object), answer) in row.iter().zip(&mut answers) {
                    let context = format!("{mode} {action} {kind:?} {pod:?}: {answer} {said}");
                    let asked = is_asked(mode, kind, *pod);
                    let denial = answer.get("denial").and_then(Value::as_str).filter(|_| asked);
                    let name = text(object, "/metadata/name");
                    let refused = said.contains(&format!("pods \"{name}\" is forbidden"));
                    assert_eq!(refused, denial.is_some(), "{context}");
                    let whole = |denial| format!("denied request: {denial}\n");
                    assert!(
                        denial.is_none_or(|denial| said.contains(&whole(denial))),
                        "{context}"
                    );
                    let warnings = items(&answer, "/warnings").filter_map(Value::as_str);
                    for warning in warnings.filter(|warning| asked && warning.contains("(rule: ")) {
                        expected_warnings += 1;
                        let whole = format!("with binding 'pullpass-warn': {warning}\n");
                        assert!(said.contains(&whole), "{context}");
                    }
                }
                let warnings = said.matches("with binding 'pullpass-warn'").count();
                assert_eq!(warnings, expected_warnings, "{mode} {action} {kind:?}: {said}");
            }
        }
    }
    Ok(())
}

/// Registries with selectors of all kinds.
fn index() -> Value {
    let requirement = |operator: &str, values: &[&str]| {
        let requirement = json!({"key": "team", "operator": operator, "values": values});
        json!({"registry": operator.to_lowercase(), "namespaces": [requirement]})
    };
    json!({
        "mode": "cluster-wide", "unattached": "deny", "forbidden": "deny", "excludedNamespaces": ["excluded"],
        "hosts": {
            "openregistry.azurecr.io": ["pullpass-open"],
            "inregistry.azurecr.io": ["pullpass-in"],
            "notinregistry.azurecr.io": ["pullpass-notin"],
            "existsregistry.azurecr.io": ["pullpass-exists"],
            "notexistsregistry.azurecr.io": ["pullpass-doesnotexist"],
            "sharedregistry.azurecr.io": ["pullpass-in", "pullpass-exists"],
            "bothregistry.azurecr.io": ["pullpass-both"],
            "freeregistry.azurecr.io": [],
            "teamregistry.azurecr.io": [],
            // As where the index has no room for the registries that have it, or for one that shares it.
            "roomlessregistry.azurecr.io": [],
            "crowdedregistry.azurecr.io": ["pullpass-in"],
        },
        "pullSecrets": {
            "pullpass-open": {"registry": "open"},
            "pullpass-in": requirement("In", &["a", "c"]),
            "pullpass-notin": requirement("NotIn", &["a", "c"]),
            "pullpass-exists": requirement("Exists", &[]),
            "pullpass-doesnotexist": requirement("DoesNotExist", &[]),
            "pullpass-both": {"registry": "both", "namespaces": [
                {"key": "team", "operator": "In", "values": ["b"]}, {"key": "stage", "operator": "Exists", "values": []},
            ]},
        },
        "anonymous": {
            "freeregistry.azurecr.io": [{"registry": "free"}],
            "teamregistry.azurecr.io": [requirement("In", &["b"])],
            "crowdedregistry.azurecr.io": [{"registry": ""}],
            "sharedregistry.azurecr.io": [{"registry": "a-first", "namespaces": [{"key": "team", "operator": "In", "values": ["z"]}]}],
        },
    })
}

/// A cluster with an index and the policies in force, and namespaces of teams.
fn enforced(index: &Value) -> Result<ControlPlane, Box<dyn Error>> {
    let cluster = with_written_index(index)?;
    cluster.run(&["apply", "--filename", COMPONENT])?;
    for (name, labels) in [
        ("none", json!({})),
        ("a", json!({"team": "a"})),
        ("b", json!({"team": "b"})),
        ("stage", json!({"stage": "test"})),
        ("both", json!({"team": "b", "stage": "test"})),
        ("excluded", json!({})),
        ("exempt", json!({"pullpass.dev/inject": "disabled"})),
    ] {
        namespace(&cluster, name, &labels)?;
    }
    wait_for_action(&cluster, "none", "deny")?;
    Ok(cluster)
}

#[test]
fn selectors_decide_as_in_the_webhook() -> Test {
    let cluster = enforced(&index())?;
    for (namespace, host, registry) in [
        ("none", "open", None),
        ("none", "in", Some("in")),
        ("a", "in", None),
        ("b", "in", Some("in")),
        ("none", "notin", None),
        ("a", "notin", Some("notin")),
        ("b", "notin", None),
        ("none", "exists", Some("exists")),
        ("a", "exists", None),
        ("none", "notexists", None),
        ("b", "notexists", Some("doesnotexist")),
        // One of several is enough, and the first by name is told about.
        ("b", "shared", None),
        ("none", "shared", Some("a-first")),
        ("none", "free", None),
        ("none", "team", Some("in")),
        ("b", "team", None),
        ("none", "roomless", None),
        ("none", "crowded", None),
        // Each requirement has to hold.
        ("b", "both", Some("both")),
        ("stage", "both", Some("both")),
        ("both", "both", None),
    ] {
        let image = format!("{host}registry.azurecr.io/app:1");
        let spec = json!({"containers": [{"name": "main", "image": image}]});
        let said = create(&cluster, &pod(namespace, &spec));
        let expected = registry.map_or_else(String::new, |registry| {
            format!(
                "pullpass: spec.containers[main] names {image}, and AcrRegistry {registry} is not for namespace {namespace} \
                 (rule: forbidden). An administrator of the cluster can change spec.namespaces of {registry} or the \
                 namespace's labels"
            )
        });
        assert_eq!(refusal(&said), expected, "{namespace} {host}: {}", said.text);
        assert_eq!(
            said.refused,
            registry.is_some(),
            "{namespace} {host}: {}",
            said.text
        );
    }
    Ok(())
}

#[test]
fn every_place_and_spelling_of_an_image_is_judged() -> Test {
    let cluster = enforced(&index())?;
    let main = json!([{"name": "main", "image": "nginx"}]);
    let strange = |image: &str| json!({"containers": [{"name": "main", "image": image}]});
    let of = |path: &str, image: &str, host: &str| {
        Some(format!(
            "pullpass: {path} names {image}, and no AcrRegistry has {host} (rule: unattached). An administrator of the \
             cluster can attach it: pullpass attach {host}"
        ))
    };
    let host = "strangeregistry.azurecr.io";
    let in_main = |image: &str, host: &str| (strange(image), of("spec.containers[main]", image, host));
    let long = format!("{host}/{}", "a".repeat(150));
    let too_long = format!("{host}/{}", "a".repeat(2_000));
    let zeros = "0".repeat(3_000);
    let long_port = format!("{host}:{zeros}443/app");
    let long_regional = format!(
        "strangeregistry.westeurope.geo.azurecr.io:{}443/app",
        "0".repeat(300)
    );
    let other_port = format!("{host}:{zeros}444/app");
    let start = |text: &str| text.chars().take(100).chain(['…']).collect::<String>();
    for (spec, expected) in [
        in_main(STRANGE, host),
        in_main("StrangeRegistry.AzureCR.io/app:v1", host),
        in_main("strangeregistry.azurecr.io:443/app", host),
        in_main("strangeregistry.azurecr.io:0443/app", host),
        in_main(
            "strangeregistry.westeurope.geo.azurecr.us/app",
            "strangeregistry.azurecr.us",
        ),
        in_main(
            "strange-hash1.azurecr.cn/a/b_c__d-e.f:V.1",
            "strange-hash1.azurecr.cn",
        ),
        in_main(&format!("{host}/a@other:{}", "0".repeat(64)), host),
        (strange(&long), of("spec.containers[main]", &start(&long), host)),
        // Of text that is too long to be matched, nobody says that it is no reference.
        (
            strange(&too_long),
            of("spec.containers[main]", &start(&too_long), host),
        ),
        (
            strange(&long_port),
            of("spec.containers[main]", &start(&long_port), host),
        ),
        (
            strange(&long_regional),
            of("spec.containers[main]", &start(&long_regional), host),
        ),
        (
            json!({"containers": main, "initContainers": [{"name": "init", "image": STRANGE}]}),
            of("spec.initContainers[init]", STRANGE, host),
        ),
        (
            json!({"containers": main, "volumes": [{"name": "data", "image": {"reference": STRANGE}}]}),
            of("spec.volumes[data].image", STRANGE, host),
        ),
        // An image volume without a reference, and a container without an image, as a Pod template may have them.
        (
            json!({"containers": main, "volumes": [{"name": "data", "emptyDir": {}}]}),
            None,
        ),
        // No login server, another port, and what no kubelet pulls.
        (strange("strangeregistry.westeurope.data.azurecr.io/app"), None),
        (strange("abcd.azurecr.io/app"), None),
        (strange("strangeregistry.azurecr.io:5000/app"), None),
        (strange(&other_port), None),
        (strange("strangeregistry.azurecr.io.example/app"), None),
        (strange("example.com/strangeregistry.azurecr.io/app"), None),
        (strange("strangeregistry.azurecr.io"), None),
        (strange("strangeregistry.azurecr.io/App"), None),
        (strange("strangeregistry.azurecr.io/app:"), None),
    ] {
        if spec.pointer("/volumes/0/image").is_some() && !takes_image_volumes(&cluster)? {
            continue;
        }
        let said = create(&cluster, &pod("none", &spec));
        assert_eq!(
            refusal(&said),
            expected.as_deref().unwrap_or_default(),
            "{spec}: {}",
            said.text
        );
        assert_eq!(said.refused, expected.is_some(), "{spec}: {}", said.text);
    }
    let both = json!({"containers": [
        {"name": "one", "image": STRANGE}, {"name": "two", "image": "inregistry.azurecr.io/app"},
    ]});
    let said = create(&cluster, &pod("none", &both));
    let rules: Vec<_> = said.text.matches("(rule: ").collect();
    assert_eq!(rules.len(), 2, "{}", said.text);
    assert_exempt_by_namespace_or_mirror(&cluster, &strange(STRANGE))
}

/// Whether an API server is of a version whose Pods have image volumes.
fn takes_image_volumes(cluster: &ControlPlane) -> Result<bool, Box<dyn Error>> {
    is_of_version(cluster, 35, "image volumes")
}

/// Whether an API server is of this version or newer. Of one that is older, it is said what is left out.
fn is_of_version(cluster: &ControlPlane, first: u32, what: &str) -> Result<bool, Box<dyn Error>> {
    let version: Value = serde_json::from_str(&cluster.run(&["get", "--raw", "/version"])?.stdout)?;
    let minor = text(&version, "/minor");
    let is_newer = minor.trim_end_matches('+').parse::<u32>()? >= first;
    if !is_newer {
        // Not by a macro, whose words are shown of failed tests only.
        let mut stderr = std::io::stderr();
        writeln!(
            stderr,
            "LEFT OUT on Kubernetes 1.{minor}: {what}, which need 1.{first}"
        )?;
    }
    Ok(is_newer)
}

/// What exempts a Pod is its namespace, or that it mirrors a static Pod and comes from a kubelet; its own label does not.
fn assert_exempt_by_namespace_or_mirror(cluster: &ControlPlane, spec: &Value) -> Test {
    const KUBELET: [&str; 3] = [
        "--as=kubelet",
        "--as-group=system:nodes",
        // Who may create Pods in this cluster.
        "--as-group=system:masters",
    ];
    let declining = json!({"labels": {"pullpass.dev/inject": "disabled"}});
    let mirror = json!({"annotations": {"kubernetes.io/config.mirror": "x"}});
    for (namespace, metadata, user, refused) in [
        ("excluded", &json!({}), &[][..], false),
        ("exempt", &json!({}), &[], false),
        ("none", &declining, &[], true),
        // Anybody can write the annotation.
        ("none", &mirror, &[], true),
        ("none", &mirror, &KUBELET, false),
        ("none", &json!({}), &KUBELET, true),
    ] {
        let mut object: Value = serde_json::from_str(&pod(namespace, spec))?;
        let own = object.pointer_mut("/metadata").and_then(Value::as_object_mut);
        let own = own.ok_or("there is no metadata")?;
        own.extend(metadata.as_object().cloned().unwrap_or_default());
        if metadata.get("annotations").is_some() {
            // Without a node the API server refuses a mirror Pod before any policy is asked.
            let spec = object.pointer_mut("/spec").and_then(Value::as_object_mut);
            let spec = spec.ok_or("there is no spec")?;
            spec.insert("nodeName".to_owned(), json!("node-1"));
        }
        let create = ["create", "--dry-run=server", "--filename", "-"];
        let arguments: Vec<_> = create.iter().chain(user).copied().collect();
        let said = send(cluster, &arguments, &object.to_string());
        let context = format!("{namespace} {metadata} {user:?}: {}", said.text);
        assert_eq!(said.text.contains("pullpass-enforce"), refused, "{context}");
        assert_eq!(said.refused, refused, "{context}");
    }
    Ok(())
}

/// An API server that starts has not read the index yet. What docs/policy.md says of that: it refuses rather than admit
/// what it can't judge, and that only in the namespaces that the policy's selector picks.
#[test]
fn strangers_are_refused_from_an_api_servers_start_on() -> Test {
    let cluster = enforced(&index())?;
    let stranger = with_image(STRANGE);
    let plain = with_image("nginx");
    let exempt = pod(
        "exempt",
        &json!({"containers": [{"name": "main", "image": STRANGE}]}),
    );
    let mut refused = 0;
    for _ in 0..3 {
        cluster.restart_api_server()?;
        wait_for("the API server to have read the index", SOON, || {
            let said = create(&cluster, &stranger);
            assert!(said.refused, "it is admitted: {}", said.text);
            let is_judged = refusal(&said).contains("(rule: unattached)");
            let said = create(&cluster, &exempt);
            assert!(!said.text.contains("pullpass"), "{}", said.text);
            let said = create(&cluster, &plain);
            if said.refused {
                refused += 1;
                assert!(!is_judged, "the index is there: {}", said.text);
                // What docs/operations.md says of it: the policy is not evaluated, and nothing counts that.
                let by_us = said.text.contains("ValidatingAdmissionPolicy 'pullpass-enforce'")
                    && said.text.contains("failed to configure ");
                assert!(by_us || said.text.contains("not yet ready"), "{}", said.text);
            }
            (is_judged && !said.refused).then_some(()).ok_or(said.text)
        })?;
    }
    // Not by a macro, whose words are shown of failed tests only.
    writeln!(
        std::io::stderr(),
        "Pods without an image on ACR were refused {refused} times"
    )?;
    Ok(())
}

#[test]
fn without_an_index_nothing_is_refused() -> Test {
    let cluster = enforced(&index())?;
    cluster.run(&["delete", "acrindex", "pullpass"])?;
    wait_for_action(&cluster, "none", "allow")?;
    Ok(())
}

/// What `docs/install.md` says to do first where pullpass is uninstalled, and why.
#[test]
fn without_the_definition_the_binding_has_to_go() -> Test {
    let cluster = enforced(&index())?;
    let live = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "live", "namespace": "none", "finalizers": ["example.com/kept"]},
        "spec": {"containers": [{"name": "main", "image": "nginx"}]},
    });
    cluster.create(&live.to_string())?;
    cluster.run(&["delete", "crd", "acrindexes.pullpass.dev"])?;
    let plain = pod(
        "none",
        &json!({"containers": [{"name": "main", "image": "nginx"}]}),
    );
    // An API server that runs goes on with what it knew of the definition, as if there were no index.
    assert!(!create(&cluster, &plain).refused);
    cluster.restart_api_server()?;
    let said = wait_for("the policy to refuse", SOON, || {
        let said = create(&cluster, &plain);
        said.text.contains("pullpass-enforce").then_some(said)
    })?;
    assert!(said.refused, "{}", said.text);
    assert_only_status_and_deletion_pass(&cluster)?;
    let bindings = [
        "delete",
        "validatingadmissionpolicybinding",
        "pullpass-enforce",
        "pullpass-warn",
    ];
    cluster.run(&bindings)?;
    wait_for("the policy to be gone", SOON, || {
        !create(&cluster, &plain).refused
    })?;
    Ok(())
}

/// What happens to a Pod that was there before, where no policy can be evaluated.
fn assert_only_status_and_deletion_pass(cluster: &ControlPlane) -> Test {
    let of_pod = ["live", "--namespace=none"];
    let update = |verb: &[&str], change: &[&str]| send(cluster, &[verb, &of_pod, change].concat(), "");
    let mut debugged = cluster.get_json(&["pod", "live", "--namespace=none"])?;
    let spec = debugged.pointer_mut("/spec").and_then(Value::as_object_mut);
    spec.ok_or("the Pod has no spec")?.insert(
        "ephemeralContainers".to_owned(),
        json!([{"name": "debugger", "image": "nginx"}]),
    );
    let path = "/api/v1/namespaces/none/pods/live/ephemeralcontainers";
    let no_finalizers = r#"--patch={"metadata": {"finalizers": null}}"#;
    for said in [
        update(&["label", "pod"], &["some=label"]),
        update(&["patch", "pod"], &["--type=merge", no_finalizers]),
        send(
            cluster,
            &["replace", "--raw", path, "--filename", "-"],
            &debugged.to_string(),
        ),
    ] {
        assert!(
            said.refused && said.text.contains("pullpass-enforce"),
            "{}",
            said.text
        );
    }
    let status = r#"--patch={"status": {"message": "seen"}}"#;
    for said in [
        update(
            &["patch", "pod"],
            &["--subresource=status", "--type=merge", status],
        ),
        update(
            &["delete", "pod"],
            &["--wait=false", "--grace-period=0", "--force"],
        ),
    ] {
        assert!(!said.refused, "{}", said.text);
    }
    Ok(())
}

/// A cluster's only replica, registered as it is shipped, which refuses strangers; and the index that it keeps.
fn refusing_replica(cluster: &ControlPlane) -> Result<Installation<'_>, Box<dyn Error>> {
    // No controller makes its service account, which the installation's probe needs.
    namespace(cluster, "default", &json!({}))?;
    let builder = pullpass(cluster).whole_cluster("apps");
    let replica = builder.flag("--unattached=deny").start()?;
    attach(cluster)?;
    wait_for_index(cluster, &[OPEN, CLOSED])?;
    namespace(cluster, "none", &json!({}))?;
    Ok(replica)
}

fn with_image(image: &str) -> String {
    pod("none", &json!({"containers": [{"name": "main", "image": image}]}))
}

/// How many reviews the API server sent that nobody answered.
fn unanswered(cluster: &ControlPlane) -> Result<u64, Box<dyn Error>> {
    let metrics = cluster.run(&["get", "--raw", "/metrics"])?.stdout;
    let of_ours = |line: &&str| {
        line.starts_with("apiserver_admission_webhook_fail_open_count{")
            && line.contains(r#"name="pods.pullpass.dev""#)
    };
    let counts = metrics.lines().filter(of_ours);
    Ok(counts
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum())
}

#[test]
fn strangers_are_refused_while_every_replica_is_stopped() -> Test {
    let cluster = cluster()?;
    let mut replica = refusing_replica(&cluster)?;
    replica.stop()?;
    assert!(replica.process().check_running().is_err());
    let before = unanswered(&cluster)?;
    let stranger = with_image(STRANGE);
    // The API server asks, nobody answers, and `Ignore` admits what the replica refused.
    assert!(!create(&cluster, &stranger).refused);
    assert!(unanswered(&cluster)? > before);

    cluster.run(&["apply", "--filename", COMPONENT])?;
    let said = wait_for("the policy to refuse", SOON, || {
        let said = create(&cluster, &stranger);
        said.refused.then_some(said)
    })?;
    assert!(said.text.contains("'pullpass-enforce'"), "{}", said.text);
    assert!(refusal(&said).contains("(rule: unattached)"), "{}", said.text);
    let before = unanswered(&cluster)?;
    let said = create(&cluster, &with_image("openregistry.azurecr.io/app:1"));
    assert!(!said.refused, "{}", said.text);
    assert!(unanswered(&cluster)? > before, "no replica has come back");
    Ok(())
}

#[test]
fn a_webhook_that_comes_later_does_not_evade_the_rules() -> Test {
    let cluster = cluster()?;
    let replica = refusing_replica(&cluster)?;
    // pullpass is not asked about this one, and so not a second time either.
    let plain = with_image("nginx");
    let intruder = Intruder::start(&cluster, "zz-intruder", STRANGE)?;
    assert!(replica.configuration() < "zz-intruder");
    wait_for("the later webhook to be called", SOON, || {
        intruder.was_called_by(|| {
            create(&cluster, &plain);
        })
    })?;
    let said = create(&cluster, &plain);
    assert!(!said.refused, "it evades only the webhook: {}", said.text);

    cluster.run(&["apply", "--filename", COMPONENT])?;
    let said = wait_for("the policy to refuse", SOON, || {
        let said = create(&cluster, &plain);
        said.refused.then_some(said)
    })?;
    let by_intruder = "spec.containers[intruder] names";
    assert!(
        refusal(&said).starts_with(&format!("pullpass: {by_intruder}")),
        "{}",
        said.text
    );
    assert_eq!(replica.records_in("none")?.len(), 0, "only the policy refuses it");
    // One with an image on ACR is shown to pullpass once more, after the intruder.
    let said = create(&cluster, &with_image("openregistry.azurecr.io/app:1"));
    assert!(said.refused && said.text.contains(by_intruder), "{}", said.text);
    let decisions: Vec<_> = replica.wait_for_records("none", 2)?;
    let decisions: Vec<_> = decisions.iter().map(|record| text(record, "/decision")).collect();
    assert_eq!(decisions, ["injected", "denied"]);
    Ok(())
}

#[test]
fn the_two_policies_differ_by_their_action_alone() -> Test {
    let text = std::fs::read_to_string(COMPONENT)?;
    let judging: Vec<String> = text
        .split("\n---\n")
        .filter(|document| document.contains("kind: ValidatingAdmissionPolicy\n"))
        .map(|document| {
            let lines = document.lines().skip_while(|line| *line != "spec:");
            let judging = lines.take_while(|line| *line != "  validations:");
            let said = judging.filter(|line| {
                let line = line.trim_start();
                !line.starts_with('#') && !line.starts_with("failurePolicy: ")
            });
            said.collect::<Vec<_>>().join("\n")
        })
        .collect();
    let [enforce, warn] = &judging[..] else {
        return Err(format!("there are {} policies", judging.len()).into());
    };
    assert!(warn.len() > 4_000, "{warn}");
    let as_warn = enforce
        .replace("'deny'", "'warn'")
        .replace("says-deny", "says-warn");
    assert_eq!(&as_warn, warn);
    Ok(())
}

#[test]
fn a_registry_is_a_stranger_until_the_index_has_it() -> Test {
    let cluster = enforced(&index())?;
    let new = pod(
        "none",
        &json!({"containers": [{"name": "main", "image": "justattached.azurecr.io/app:1"}]}),
    );
    assert!(refusal(&create(&cluster, &new)).contains("(rule: unattached)"));
    let attached = json!({"spec": {
        "hosts": {"justattached.azurecr.io": ["pullpass-just"]},
        "pullSecrets": {"pullpass-just": {"registry": "just", "namespaces": []}},
    }});
    let patch = [
        "patch",
        "acrindex",
        "pullpass",
        "--type=merge",
        "--patch",
        &attached.to_string(),
    ];
    cluster.run(&patch)?;
    wait_for("the API server to know the index", SOON, || {
        let said = create(&cluster, &new);
        if said.refused { Err(said.text) } else { Ok(()) }
    })?;
    Ok(())
}

/// Of an index without room for all login servers nobody can tell whose a host is that it does not have.
#[test]
fn an_index_that_omits_hosts_has_no_strangers() -> Test {
    let cluster = enforced(&index())?;
    let forbidden = with_image("inregistry.azurecr.io/app:1");
    for action in ["deny", "warn"] {
        set_rules(&cluster, action, action)?;
        wait_for_action(&cluster, "none", action)?;
        let omits = |omits: bool| {
            let patch = json!({"spec": {"omitsHosts": omits}}).to_string();
            cluster.run(&["patch", "acrindex", "pullpass", "--type=merge", "--patch", &patch])
        };
        omits(true)?;
        wait_for_action(&cluster, "none", "allow")?;
        let said = create(&cluster, &forbidden);
        assert_eq!(said.refused, action == "deny", "{}", said.text);
        assert!(said.text.contains("(rule: forbidden)"), "{}", said.text);
        omits(false)?;
        wait_for_action(&cluster, "none", action)?;
    }
    Ok(())
}

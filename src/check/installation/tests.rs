use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::*;
use crate::api::acr_registry::AcrRegistry;
use crate::api::names::NAMESPACE_NAME_LABEL;

const OWN: &str = "pullpass-system";

fn configuration() -> Value {
    let entry = |name: &str, path: &str| {
        let service = json!({"namespace": OWN, "name": "pullpass", "path": path});
        json!({
            "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"caBundle": "UEVNCg==", "service": service},
            "namespaceSelector": {"matchExpressions": [
                {"key": NAMESPACE_NAME_LABEL, "operator": "NotIn", "values": ["kube-system", OWN]},
            ]},
        })
    };
    let entries = [
        entry("pods.pullpass.dev", "/mutate"),
        entry("always.pullpass.dev", "/mutate/always"),
    ];
    json!({"metadata": {"name": "pullpass"}, "webhooks": entries})
}

fn webhook(value: Value) -> MutatingWebhookConfiguration {
    serde_json::from_value(value).unwrap()
}

/// The image of this version.
const CURRENT: &str = concat!("pullpass:", env!("CARGO_PKG_VERSION"));

fn pod(image: &str) -> Pod {
    let pod = json!({"metadata": {"name": "pullpass-0"}, "spec": {"containers": [{"name": "pullpass", "image": image}]}});
    serde_json::from_value(pod).unwrap()
}

/// A Pod whose container has started, and is not ready.
fn running(on_the_nodes_network: bool) -> Pod {
    let pod = json!({
        "metadata": {"name": "pullpass-0"}, "status": {"phase": "Running"},
        "spec": {"hostNetwork": on_the_nodes_network, "containers": [{"name": "pullpass", "image": CURRENT}]},
    });
    serde_json::from_value(pod).unwrap()
}

/// The command that opens the port, where the network policy is taken to be why no replica is ready.
fn opened_by(replica: Pod, egress: &Value) -> Option<String> {
    let mut facts = healthy();
    facts.endpoints = Ok(0);
    facts.replicas = Ok(vec![replica]);
    let policy = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": egress});
    facts.egress = Ok(Egress {
        ports: [7443].into(),
        policy: serde_json::from_value(policy).unwrap(),
    });
    let findings = facts.findings();
    let failure = findings.iter().find_map(Finding::failure)?;
    (failure.code == Code::EgressBlocked).then(|| failure.cures[0].command.clone().unwrap_or_default())
}

#[test]
fn a_network_policy_is_blamed_where_it_can_be_at_fault() {
    let rules = json!([{"ports": [{"port": 443}]}]);
    let patch = opened_by(running(false), &rules).unwrap_or_default();
    assert!(
        patch.contains(r#""path":"/spec/egress/-","value":{"ports":[{"port":7443}]}"#),
        "{patch}"
    );
    // An empty list is not stored.
    let patch = opened_by(running(false), &Value::Null).unwrap_or_default();
    assert!(
        patch.contains(r#""path":"/spec/egress","value":[{"ports":[{"port":7443}]}]"#),
        "{patch}"
    );
    // It is not in the network that the policy is about, or has not started.
    assert_eq!(opened_by(running(true), &rules), None);
    assert_eq!(opened_by(pod(CURRENT), &rules), None);
}

fn policy(name: &str) -> FencePolicy {
    let condition = format!("request.userInfo.username == 'system:serviceaccount:{OWN}:pullpass'");
    FencePolicy {
        name: name.to_owned(),
        conditions: Some(vec![condition]),
        is_enforced: true,
    }
}

fn in_namespace(membership: Membership) -> LookedAt {
    let name = "apps".to_owned();
    LookedAt { name, membership }
}

fn definitions() -> BTreeMap<String, Value> {
    let definition = serde_json::to_value(AcrRegistry::crd()).unwrap();
    [("acrregistries.pullpass.dev".to_owned(), definition)].into()
}

fn healthy() -> Facts {
    Facts {
        own_namespace: OWN.to_owned(),
        expected_definitions: definitions(),
        definitions: Ok(definitions()),
        idle_bindings: Ok(false),
        deployed_in: Ok(vec![OWN.to_owned()]),
        missing_rights: Ok(Vec::new()),
        fence: Ok(FENCES.map(policy).into()),
        webhook: Ok(Some(webhook(configuration()))),
        disagreements: Ok(Some(Vec::new())),
        unasked: Ok(Unasked {
            hosts: 1,
            unasked: Vec::new(),
        }),
        trust: Err("not looked at".to_owned()),
        egress: Err("not looked at".to_owned()),
        replicas: Ok(vec![pod("registry.example:5000/pullpass@sha256:00")]),
        endpoints: Ok(2),
        leader: Ok(Leader::Leads {
            holder: "pullpass-0".to_owned(),
        }),
        looked_at: Ok(Some(in_namespace(Membership::Injected { always: false }))),
        answer: Ok(Answer::Answered {
            version: Facts::CLIENT_VERSION.to_owned(),
        }),
    }
}

/// The codes of what failed.
fn codes(change: impl FnOnce(&mut Facts)) -> Vec<&'static str> {
    let mut facts = healthy();
    change(&mut facts);
    let findings = facts.findings();
    let failures = findings.iter().filter_map(Finding::failure);
    failures
        .map(|failure| {
            let has_command = failure.cures.iter().any(|cure| cure.command.is_some());
            assert!(has_command, "{failure:?}");
            failure.code.as_str()
        })
        .collect()
}

#[test]
fn a_custom_domain_that_no_condition_names_is_found() {
    let unasked = |count: usize| {
        let hosts = (0..count).map(|number| (format!("r{number}.contoso.com"), "mine".to_owned()));
        Ok(Unasked {
            hosts: 7,
            unasked: hosts.collect(),
        })
    };
    assert_eq!(codes(|facts| facts.unasked = unasked(0)), [""; 0]);
    assert_eq!(codes(|facts| facts.unasked = Ok(Unasked::default())), [""; 0]);
    let facts = Facts {
        unasked: unasked(6),
        ..healthy()
    };
    let findings = facts.findings();
    let failure = findings.iter().find_map(Finding::failure).unwrap();
    assert_eq!(failure.code, Code::CustomDomain);
    let named = "names r0.contoso.com (AcrRegistry mine), ";
    assert!(
        failure.cause.contains(named) && failure.cause.contains("and 1 more"),
        "{failure:?}"
    );
}

fn changed(change: impl FnOnce(&mut Value)) -> MutatingWebhookConfiguration {
    let mut value = configuration();
    change(&mut value);
    webhook(value)
}

#[test]
fn a_healthy_installation_has_no_fault() {
    let findings = healthy().findings();
    let is_passed = |finding: &Finding<_>| matches!(finding.outcome, StepOutcome::Passed { .. });
    assert!(findings.iter().all(is_passed), "{findings:#?}");
}

/// What was expected of a fault, and the codes that were found.
type Case = (&'static str, Vec<&'static str>);

fn assert_found(cases: impl IntoIterator<Item = Case>) {
    for (expected, found) in cases {
        assert_eq!(found, [expected]);
    }
}

#[test]
fn each_fault_of_an_object_has_a_code_of_its_own() {
    assert_found([
        (
            "CRD_MISSING_ERROR",
            codes(|facts| facts.definitions = Ok(BTreeMap::new())),
        ),
        (
            "CRD_OUTDATED_ERROR",
            codes(|facts| {
                let mut older = definitions();
                let definition = older.values_mut().next().unwrap();
                let schema = definition
                    .pointer_mut("/spec/versions/0/schema/openAPIV3Schema")
                    .unwrap();
                schema["properties"]["spec"]["properties"]
                    .as_object_mut()
                    .unwrap()
                    .remove("customDomains");
                facts.definitions = Ok(older);
            }),
        ),
        (
            "RIGHTS_MISSING_ERROR",
            codes(|facts| facts.missing_rights = Ok(RIGHTS.to_vec())),
        ),
        (
            "FENCE_MISSING_ERROR",
            codes(|facts| facts.fence.as_mut().unwrap()[1].conditions = None),
        ),
        (
            "FENCE_UNBOUND_ERROR",
            codes(|facts| facts.fence.as_mut().unwrap()[1].is_enforced = false),
        ),
    ]);
}

#[test]
fn an_entry_that_calls_something_else_is_found() {
    for (entry, field, value, said) in [
        (
            1,
            "port",
            json!(8443),
            "always.pullpass.dev calls port 8443 of the Service pullpass, and pods.pullpass.dev calls port 443",
        ),
        (
            0,
            "port",
            json!(8443),
            "always.pullpass.dev calls port 443 of the Service pullpass, and pods.pullpass.dev calls port 8443",
        ),
        (
            1,
            "path",
            json!("/mutate"),
            "always.pullpass.dev posts to /mutate, and not to /mutate/always",
        ),
        (
            0,
            "path",
            Value::Null,
            "pods.pullpass.dev posts to /, and not to /mutate",
        ),
        (
            1,
            "name",
            json!("other"),
            "always.pullpass.dev calls the Service other, and not pullpass",
        ),
    ] {
        let facts = Facts {
            webhook: Ok(Some(changed(|value_of| {
                value_of["webhooks"][entry]["clientConfig"]["service"][field] = value;
            }))),
            ..healthy()
        };
        let findings = facts.findings();
        let failure = findings.iter().find_map(Finding::failure).unwrap();
        assert_eq!(
            (failure.code, failure.cause.as_str()),
            (Code::Unreachable, format!("the entry {said}").as_str())
        );
    }
    // The port that is called where none is named, and the same other one.
    for port in [443, 8443] {
        let same = codes(|facts| {
            facts.webhook = Ok(Some(changed(|value| {
                for entry in value["webhooks"].as_array_mut().into_iter().flatten() {
                    entry["clientConfig"]["service"]["port"] = json!(port);
                }
            })));
        });
        assert_eq!(same, [""; 0]);
    }
}

fn distrust() -> Distrust {
    Distrust {
        entry: "always.pullpass.dev".to_owned(),
        reason: "invalid peer certificate: UnknownIssuer".to_owned(),
    }
}

#[test]
fn an_answer_does_not_vouch_for_another_bundle() {
    assert!(!healthy().bundles_differ());
    let facts = Facts {
        webhook: Ok(Some(changed(|value| {
            value["webhooks"][1]["clientConfig"]["caBundle"] = json!("b3RoZXIK");
        }))),
        trust: Err("you may not read Secrets".to_owned()),
        ..healthy()
    };
    assert!(facts.bundles_differ());
    let answer = facts.findings().pop().unwrap().outcome;
    let StepOutcome::Passed { detail } = answer else {
        panic!("{answer:?}");
    };
    assert!(
        detail.contains("is not known: you may not read Secrets"),
        "{detail}"
    );
}

#[test]
fn each_fault_of_the_webhook_has_a_code_of_its_own() {
    let refusal = "failed calling webhook \"pods.pullpass.dev\": x509";
    assert_found([
        ("WEBHOOK_MISSING_ERROR", codes(|facts| facts.webhook = Ok(None))),
        (
            "WEBHOOK_MISSING_ERROR",
            codes(|facts| {
                facts.webhook = Ok(Some(changed(|value| {
                    drop(value["webhooks"].as_array_mut().unwrap().pop());
                })));
            }),
        ),
        (
            "WEBHOOK_CA_MISSING_ERROR",
            codes(|facts| {
                facts.webhook = Ok(Some(changed(|value| {
                    value["webhooks"][1]["clientConfig"]["caBundle"] = Value::Null;
                })));
            }),
        ),
        (
            "WEBHOOK_CA_WRONG_ERROR",
            codes(|facts| {
                facts.answer = Ok(Answer::of([], Some(refusal)));
                facts.trust = Ok(Err(distrust()));
            }),
        ),
        // The entry that the dry run is about is trusted.
        (
            "WEBHOOK_CA_WRONG_ERROR",
            codes(|facts| facts.trust = Ok(Err(distrust()))),
        ),
        (
            "WEBHOOK_NO_ENDPOINTS_ERROR",
            codes(|facts| facts.endpoints = Ok(0)),
        ),
        (
            "EGRESS_BLOCKED_ERROR",
            codes(|facts| {
                facts.endpoints = Ok(0);
                facts.replicas = Ok(vec![running(false)]);
                let policy = json!({"podSelector": {}, "egress": [{"ports": [{"port": 443}]}]});
                facts.egress = Ok(Egress {
                    ports: [7443].into(),
                    policy: serde_json::from_value(policy).unwrap(),
                });
            }),
        ),
        (
            "WEBHOOK_UNREACHABLE_ERROR",
            codes(|facts| {
                facts.answer = Ok(Answer::Silence);
                facts.trust = Ok(Ok(()));
            }),
        ),
        (
            "WEBHOOK_UNREACHABLE_ERROR",
            codes(|facts| facts.answer = Ok(Answer::of([], Some(refusal)))),
        ),
    ]);
}

#[test]
fn each_fault_of_replicas_and_namespaces_has_a_code() {
    assert_found([
        ("NO_LEADER_ERROR", codes(|facts| facts.leader = Ok(Leader::Never))),
        (
            "NO_LEADER_ERROR",
            codes(|facts| facts.leader = Ok(Leader::Nobody)),
        ),
        (
            "VERSION_SKEW_ERROR",
            codes(|facts| facts.replicas = Ok(vec![pod("pullpass:v9.1.0")])),
        ),
        (
            "VERSION_SKEW_ERROR",
            codes(|facts| facts.replicas = Ok(["a", "b"].map(pod).into())),
        ),
        (
            "SETTINGS_DIFFER_ERROR",
            codes(|facts| facts.disagreements = Ok(Some(vec!["they differ".to_owned()]))),
        ),
        (
            "VERSION_SKEW_ERROR",
            codes(|facts| {
                let version = "9.0.0".to_owned();
                facts.answer = Ok(Answer::Answered { version });
            }),
        ),
        (
            "NAMESPACE_MOVED_ERROR",
            codes(|facts| facts.deployed_in = Ok(vec!["elsewhere".to_owned()])),
        ),
        (
            "NAMESPACE_MOVED_ERROR",
            codes(|facts| {
                facts.own_namespace = "elsewhere".to_owned();
                facts.deployed_in = Ok(vec!["elsewhere".to_owned()]);
                facts.webhook = Err("unknown".to_owned());
                facts.answer = Err("unknown".to_owned());
            }),
        ),
    ]);
    let excluded = [
        Membership::Excluded,
        Membership::OptedOut,
        Membership::NotOptedIn,
        Membership::NotSelected,
    ];
    let not_injected = excluded.map(|membership| {
        let codes = codes(|facts| facts.looked_at = Ok(Some(in_namespace(membership))));
        ("NAMESPACE_NOT_INJECTED_ERROR", codes)
    });
    assert_found(not_injected);
}

#[test]
fn an_older_definition_is_told_by_its_missing_fields() {
    let mut facts = healthy();
    let definition = json!({"spec": {"versions": [{"name": "v1alpha1"}]}});
    facts.definitions = Ok([("acrregistries.pullpass.dev".to_owned(), definition)].into());
    let findings = facts.findings();
    let cause = &findings[0].failure().unwrap().cause;
    assert!(
        cause.contains("v1alpha1: spec, v1alpha1: spec.audience"),
        "{cause}"
    );
    assert!(cause.contains(" more"), "{cause}");
}

#[test]
fn patch_releases_and_unknown_versions_are_no_skew() {
    let client = Facts::CLIENT_VERSION;
    let (release, _) = client.rsplit_once('.').unwrap();
    let later = format!("pullpass:v{release}.99");
    assert!(codes(|facts| facts.replicas = Ok(vec![pod(&later)])).is_empty());
    assert!(codes(|facts| facts.replicas = Ok(Vec::new())).is_empty());
    let mut evicted = pod("pullpass:v0.0.1");
    evicted.status.get_or_insert_default().phase = Some("Failed".to_owned());
    let current = pod(&format!("pullpass:v{client}"));
    assert!(codes(|facts| facts.replicas = Ok(vec![current, evicted])).is_empty());
}

#[test]
fn versions_are_read_from_tags_alone() {
    for (image, version) in [
        ("pullpass:0.1.0", Some("0.1.0")),
        (
            "registry:5000/a/pullpass:v1.20.3-rc.1@sha256:00",
            Some("1.20.3-rc.1"),
        ),
        ("registry:5000/pullpass", None),
        ("pullpass:latest", None),
        ("pullpass:1.2", None),
        ("pullpass:1.2.3.4", None),
        ("pullpass:1..3", None),
        ("pullpass@sha256:00", None),
    ] {
        assert_eq!(version_of_image(image), version, "{image}");
    }
}

#[test]
fn facts_that_can_not_be_read_are_not_checked() {
    let unknown = || "you may not".to_owned();
    let facts = Facts {
        definitions: Err(unknown()),
        deployed_in: Err(unknown()),
        missing_rights: Err(unknown()),
        fence: Err(unknown()),
        webhook: Err(unknown()),
        disagreements: Err(unknown()),
        unasked: Err(unknown()),
        replicas: Err(unknown()),
        endpoints: Err(unknown()),
        leader: Err(unknown()),
        looked_at: Err(unknown()),
        answer: Err(unknown()),
        ..healthy()
    };
    for finding in facts.findings() {
        assert_eq!(finding.outcome, skipped(unknown()), "{:?}", finding.step);
    }
}

#[test]
fn a_refused_pod_shows_an_answer_by_its_warning() {
    let echo = "299 - \"pullpass.dev/echo: 0.1.0\"";
    let answered = Answer::Answered {
        version: "0.1.0".to_owned(),
    };
    assert_eq!(Answer::of(["299 - \"other\"", echo], None), answered);
    assert_eq!(Answer::of([echo], Some("denied by a policy")), answered);
    assert_eq!(Answer::of(["299 - \"other\""], None), Answer::Silence);
    let enforced =
        "ValidatingAdmissionPolicy 'pullpass-enforce' with binding 'pullpass-enforce' denied request: no";
    let message = enforced.to_owned();
    assert_eq!(Answer::of([], Some(enforced)), Answer::NotCalled { message });
    assert_eq!(
        Answer::of([], Some("exceeded quota")),
        Answer::Refused {
            message: "exceeded quota".to_owned()
        }
    );
}

/// The words of a list in a rule; where there is no such list, none.
fn words<'a>(rule: &'a Value, key: &str) -> Vec<Option<&'a str>> {
    let words = rule.get(key).and_then(Value::as_array);
    words.map_or_else(|| vec![None], |words| words.iter().map(Value::as_str).collect())
}

/// The rights of manifests, as text.
fn shipped_rights(manifests: &str) -> BTreeSet<String> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(manifests).unwrap();
    let mut rights = BTreeSet::new();
    for object in &objects {
        let own_namespace = object["kind"] == "Role";
        for rule in object["rules"].as_array().into_iter().flatten() {
            let (groups, resources) = (words(rule, "apiGroups"), words(rule, "resources"));
            let (names, verbs) = (words(rule, "resourceNames"), words(rule, "verbs"));
            let pairs = groups
                .iter()
                .flat_map(|group| resources.iter().map(move |resource| (group, resource)));
            for (group, resource) in pairs {
                for (name, verb) in names
                    .iter()
                    .flat_map(|name| verbs.iter().map(move |verb| (name, verb)))
                {
                    rights.insert(format!(
                        "{verb:?} {group:?} {resource:?} {name:?} {own_namespace}"
                    ));
                }
            }
        }
    }
    rights
}

fn as_text(rights: &[&Right]) -> BTreeSet<String> {
    let rights = rights.iter().map(|right| {
        let Right {
            verb,
            group,
            resource,
            name,
            own_namespace,
        } = right;
        format!(
            "{:?} {:?} {:?} {name:?} {own_namespace}",
            Some(verb),
            Some(group),
            Some(resource)
        )
    });
    rights.collect()
}

#[test]
fn the_rights_are_those_that_are_shipped() {
    let rights: Vec<_> = RIGHTS.iter().chain(OWN_CERTIFICATE).collect();
    let shipped = shipped_rights(include_str!("../../../manifests/base/rbac.yaml"));
    assert_eq!(as_text(&rights), shipped);
    let rights: Vec<_> = BINDING_RIGHTS.iter().collect();
    let shipped = shipped_rights(include_str!("../../../manifests/components/bindings/rbac.yaml"));
    assert_eq!(as_text(&rights), shipped);
    let rights: Vec<_> = REPORT_RIGHTS.iter().collect();
    let shipped = shipped_rights(include_str!("../../../manifests/components/reports/rbac.yaml"));
    assert_eq!(as_text(&rights), shipped);
}

#[test]
fn bindings_that_nobody_carries_out_are_a_fault() {
    assert_eq!(
        codes(|facts| facts.idle_bindings = Ok(true)),
        ["BINDINGS_OFF_ERROR"]
    );
    assert_eq!(codes(|facts| facts.idle_bindings = Err("no".to_owned())), [""; 0]);
}

#[test]
fn the_definition_of_bindings_has_a_command_of_its_own() {
    let mut facts = healthy();
    let name = "acrpullbindings.pullpass.dev".to_owned();
    facts.expected_definitions.insert(name, json!({}));
    let findings = facts.findings();
    let failure = findings[0].failure().unwrap();
    assert_eq!(failure.code.as_str(), "CRD_MISSING_ERROR");
    let command = failure.cures[0].command.as_deref().unwrap();
    assert!(command.starts_with("pullpass crd --bindings |"), "{command}");
}

#[test]
fn the_fence_is_the_one_that_is_shipped() {
    for (manifests, names) in [
        (include_str!("../../../manifests/base/fence.yaml"), &FENCES[..]),
        (
            include_str!("../../../manifests/components/reports/rbac.yaml"),
            &REPORT_FENCES,
        ),
    ] {
        let objects: Vec<Value> = serde_saphyr::from_multiple(manifests).unwrap();
        for kind in ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"] {
            let named = objects.iter().filter(|object| object["kind"] == kind);
            let found: Vec<_> = named.map(|object| &object["metadata"]["name"]).collect();
            assert_eq!(found, names);
        }
    }
}

fn before() -> PreFacts {
    PreFacts {
        own_namespace: OWN.to_owned(),
        kubernetes: ("1".to_owned(), "30+".to_owned()),
        missing_apis: Ok(Vec::new()),
        missing_rights: Ok(Vec::new()),
        registered_in: Ok(None),
        api_server_ports: Ok([443].into()),
    }
}

#[test]
fn before_an_installation_each_obstacle_has_its_code() {
    let codes = |facts: PreFacts| -> Vec<_> {
        let findings = facts.findings();
        let failures = findings.iter().filter_map(Finding::failure);
        failures.map(|failure| failure.code.as_str()).collect()
    };
    assert!(codes(before()).is_empty());
    let version = |minor: &str| ("1".to_owned(), minor.to_owned());
    let registered = |namespace: &str| Ok(Some(namespace.to_owned()));
    for (facts, expected) in [
        (
            PreFacts {
                kubernetes: version("29"),
                ..before()
            },
            vec!["KUBERNETES_VERSION_ERROR"],
        ),
        (
            PreFacts {
                missing_apis: Ok(vec!["leases"]),
                ..before()
            },
            vec!["API_MISSING_ERROR"],
        ),
        (
            PreFacts {
                missing_rights: Ok(vec!["namespaces"]),
                ..before()
            },
            vec!["INSTALL_RIGHTS_ERROR"],
        ),
        (
            PreFacts {
                registered_in: registered("elsewhere"),
                ..before()
            },
            vec!["OTHER_INSTALLATION_ERROR"],
        ),
        (
            PreFacts {
                registered_in: registered(OWN),
                ..before()
            },
            vec![],
        ),
    ] {
        assert_eq!(codes(facts), expected);
    }
}

#[test]
fn rights_to_install_cover_every_kind_of_the_manifests() {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/base");
    for file in files.read_dir().unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            let word = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
            let (group, kind) = (word("apiVersion").rsplit_once('/'), word("kind").to_lowercase());
            if kind == "kustomization" {
                continue;
            }
            let plural = match kind.strip_suffix('y') {
                Some(stem) => format!("{stem}ies"),
                None if kind.ends_with('s') => format!("{kind}es"),
                None => format!("{kind}s"),
            };
            let right = (group.map_or("", |(group, _)| group), plural.as_str());
            assert!(INSTALL_RIGHTS.contains(&right), "{right:?}");
        }
    }
}

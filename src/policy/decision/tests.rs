use std::sync::Arc;

use super::*;
use crate::admission::patch::PullSecretsPatch;
use crate::api::acr_registry::AcrRegistry;
use crate::policy::attached::AttachedRegistry;
use crate::policy::mountable::Mountable;
use crate::policy::mountable::tests::listing;
use crate::policy::request::{ImageField, PodView};
use crate::policy::scope::{Mode, Picked};
use proptest::prelude::*;
use serde_json::{Value, json};

fn registry(name: &str, host: &str, spec: &Value) -> AttachedRegistry {
    let mut object = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
        "spec": {"loginServer": host, "identity": {"managedIdentity": {}}},
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    let object: AcrRegistry = serde_json::from_value(object).unwrap();
    AttachedRegistry::parse(&object).unwrap()
}

fn registries() -> AttachedRegistries {
    [
        registry("mine", "myregistry.azurecr.io", &json!({})),
        registry(
            "team-a",
            "teamregistry.azurecr.io",
            &json!({"namespaces": {"matchLabels": {"team": "a"}}}),
        ),
        registry(
            "team-b",
            "teamregistry.azurecr.io",
            &json!({"namespaces": {"matchLabels": {"team": "b"}}}),
        ),
        registry(
            "scoped",
            "scopedregistry.azurecr.io",
            &json!({"credential": {"kind": "AccessToken", "repositories": ["team/app"]}}),
        ),
        registry(
            "public",
            "publicregistry.azurecr.io",
            &json!({"identity": {"anonymous": {}}}),
        ),
    ]
    .into_iter()
    .collect()
}

fn pod(images: &[&str]) -> Value {
    let containers: Vec<_> = images
        .iter()
        .enumerate()
        .map(|(n, image)| json!({"name": format!("c{n}"), "image": image}))
        .collect();
    json!({"metadata": {"generateName": "web-"}, "spec": {"containers": containers}})
}

fn create(pod: &Value) -> Value {
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE", "namespace": "apps",
        "userInfo": {"username": "jane"}, "object": pod, "dryRun": false,
    }})
}

fn update(old: &Value, new: &Value, sub_resource: &str) -> Value {
    let mut review = create(new);
    review["request"]["operation"] = json!("UPDATE");
    review["request"]["subResource"] = json!(sub_resource);
    review["request"]["oldObject"] = old.clone();
    review
}

/// What a test looks at, owned.
#[derive(Debug, PartialEq)]
struct Outline {
    outcome: Outcome,
    secrets: Vec<String>,
    demanded: Vec<String>,
    needing_every_key: Vec<String>,
    violations: Vec<(Rule, String, Action)>,
    warnings: Vec<String>,
    denial: Option<String>,
    hosts: Vec<Option<String>>,
}

fn seen(review: &Value, labels: Option<&[(&str, &str)]>, settings: &Settings) -> Outline {
    let body = review.to_string();
    let request = ReviewRequest::decode(body.as_bytes()).unwrap();
    let registries = registries();
    let labels: Option<Labels> = labels.map(|labels| {
        labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    });
    let decision = decide(&request, &registries, labels.as_ref(), settings);
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Outline {
        outcome: decision.outcome,
        secrets: owned(&decision.secrets),
        demanded: owned(&decision.demanded),
        needing_every_key: owned(&decision.needing_every_key),
        violations: decision
            .violations
            .iter()
            .map(|violation| (violation.rule, violation.host.to_string(), violation.action))
            .collect(),
        warnings: decision.warnings.clone(),
        denial: decision.refusal(),
        hosts: decision
            .images
            .iter()
            .map(|judged| judged.host.as_ref().map(ToString::to_string))
            .collect(),
    }
}

fn outcome_of(review: &Value) -> (Outcome, Vec<String>) {
    let seen = seen(review, Some(&[]), &Settings::default());
    (seen.outcome, seen.secrets)
}

#[test]
fn images_are_found_wherever_a_pod_names_them() {
    let image = "myregistry.azurecr.io/app:1";
    for spec in [
        json!({"containers": [{"name": "c", "image": image}]}),
        json!({"containers": [{"name": "c", "image": "nginx"}], "initContainers": [{"name": "i", "image": image}]}),
        json!({"containers": [{"name": "c", "image": "nginx"}], "volumes": [{"name": "v", "image": {"reference": image}}]}),
        json!({"containers": [{"name": "c", "image": "nginx"}], "ephemeralContainers": [{"name": "e", "image": image}]}),
        json!({"containers": [{"name": "c", "image": "MYREGISTRY.azurecr.io:443/app"}]}),
    ] {
        let expected = (Outcome::Injected, vec!["pullpass-mine".to_owned()]);
        assert_eq!(outcome_of(&create(&json!({"spec": spec}))), expected, "{spec}");
    }
}

#[test]
fn look_alikes_and_other_registries_are_not_touched() {
    for image in [
        "nginx",
        "docker.io/library/nginx",
        "myregistry.azurecr.io.evil.example/a",
        "evil.example/myregistry.azurecr.io/a",
        "azurecr.io/a",
        "user@myregistry.azurecr.io/a",
        "myregistry.azurecr.io:5000/a",
        "myregistry.azurecr.io",
        "",
    ] {
        assert_eq!(
            outcome_of(&create(&pod(&[image]))),
            (Outcome::NotApplicable, Vec::new()),
            "{image}"
        );
    }
}

#[test]
fn several_registries_are_appended_once_and_in_order_of_name() {
    let images = [
        "scopedregistry.azurecr.io/team/app",
        "myregistry.azurecr.io/a",
        "myregistry.azurecr.io/b",
    ];
    assert_eq!(
        outcome_of(&create(&pod(&images))),
        (
            Outcome::Injected,
            vec!["pullpass-mine".to_owned(), "pullpass-scoped".to_owned()]
        )
    );
}

#[test]
fn a_port_or_a_region_asks_for_every_key() {
    for (images, needing) in [
        (&["myregistry.azurecr.io/a"][..], &[][..]),
        (
            &["myregistry.azurecr.io/a", "myregistry.azurecr.io:443/b"],
            &["mine"],
        ),
        (&["myregistry.westeurope.geo.azurecr.io/a"], &["mine"]),
        (
            &[
                "myregistry.azurecr.io/a",
                "scopedregistry.azurecr.io:443/team/app",
            ],
            &["scoped"],
        ),
        // No key helps these, and nothing is there for that.
        (&["MyRegistry.azurecr.io:443/a"], &[]),
        (&["strangeregistry.azurecr.io:443/a"], &[]),
    ] {
        let seen = seen(&create(&pod(images)), Some(&[]), &Settings::default());
        assert_eq!(seen.needing_every_key, needing, "{images:?}");
        assert!(
            needing
                .iter()
                .all(|name| seen.demanded.contains(&(*name).to_owned()))
        );
    }
    let declining = {
        let mut pod = pod(&["myregistry.azurecr.io:443/a"]);
        pod["metadata"]["labels"] = json!({"pullpass.dev/inject": "disabled"});
        seen(&create(&pod), Some(&[]), &Settings::default())
    };
    assert_eq!(declining.needing_every_key, [""; 0]);
}

#[test]
fn a_strict_account_lets_a_pod_have_what_it_lists() {
    let (mine, scoped) = ("myregistry.azurecr.io/app", "scopedregistry.azurecr.io/team/app");
    let always = [("pullpass.dev/always-inject", "true")];
    for (images, listed, labels, outcome, secrets, demanded, warned) in [
        (
            &[mine][..],
            &[][..],
            &[][..],
            Outcome::Uncovered,
            &[][..],
            &[][..],
            1,
        ),
        (
            &[mine],
            &["pullpass-mine"],
            &[],
            Outcome::Injected,
            &["pullpass-mine"],
            &["mine"],
            0,
        ),
        (
            &[mine, scoped],
            &["pullpass-mine"],
            &[],
            Outcome::Injected,
            &["pullpass-mine"],
            &["mine"],
            1,
        ),
        (
            &["nginx"],
            &["pullpass-mine"],
            &always,
            Outcome::Injected,
            &["pullpass-mine"],
            &["mine"],
            0,
        ),
        (&["nginx"], &[], &always, Outcome::NotApplicable, &[], &[], 0),
    ] {
        let body = create(&pod(images)).to_string();
        let request = ReviewRequest {
            mountable: Some(Arc::new(listing(listed))),
            ..ReviewRequest::decode(body.as_bytes()).unwrap()
        };
        let registries = registries();
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let decision = decide(
            &request,
            &registries,
            Some(&labels.collect()),
            &Settings::default(),
        );
        assert_eq!(decision.outcome, outcome, "{images:?} {listed:?}");
        assert_eq!(
            (&decision.secrets[..], &decision.demanded[..]),
            (secrets, demanded)
        );
        assert_eq!(decision.warnings.len(), warned, "{:?}", decision.warnings);
        let notices = decision.notices.iter().map(|notice| notice.matter);
        let expected = std::iter::repeat_n(Matter::MountableSecrets, warned);
        assert!(notices.eq(expected), "{:?}", decision.notices);
        if outcome == Outcome::Uncovered {
            assert!(
                decision.reason.contains("enforces mountable secrets"),
                "{}",
                decision.reason
            );
            let warning = &decision.warnings[0];
            assert!(
                warning.ends_with("add pullpass-mine to its imagePullSecrets"),
                "{warning}"
            );
        }
    }
    // The API server has given the Pod what its ServiceAccount lists, and the Pod needs one more.
    let mut pod = pod(&[mine, scoped]);
    pod["spec"]["imagePullSecrets"] = json!([{"name": "pullpass-mine"}]);
    let body = create(&pod).to_string();
    let request = ReviewRequest {
        mountable: Some(Arc::new(listing(&["pullpass-mine"]))),
        ..ReviewRequest::decode(body.as_bytes()).unwrap()
    };
    let registries = registries();
    let decision = decide(&request, &registries, Some(&Labels::new()), &Settings::default());
    assert_eq!(
        (decision.outcome, &decision.demanded[..]),
        (Outcome::Uncovered, &["mine"][..])
    );
    assert_eq!(decision.secrets, [""; 0]);
}

#[test]
fn a_pod_in_a_namespace_of_too_many_strict_accounts_gets_none() {
    let body = create(&pod(&["myregistry.azurecr.io/app"])).to_string();
    let request = ReviewRequest {
        mountable: Some(Arc::new(Mountable::unknown())),
        ..ReviewRequest::decode(body.as_bytes()).unwrap()
    };
    let registries = registries();
    let decision = decide(&request, &registries, Some(&Labels::new()), &Settings::default());
    assert_eq!(decision.outcome, Outcome::Uncovered);
    assert_eq!(decision.demanded, [""; 0]);
    let said = [
        &*decision.reason,
        &*decision.warnings[0],
        &decision.notices[0].message,
    ];
    assert!(
        said.iter().all(|text| text.contains("too many ServiceAccounts")),
        "{said:?}"
    );
}

#[test]
fn a_secret_that_is_there_is_demanded_but_not_added() {
    let mut pod = pod(&["myregistry.azurecr.io/a"]);
    pod["spec"]["imagePullSecrets"] = json!([{"name": "own"}, {"name": "pullpass-mine"}]);
    let seen = seen(&create(&pod), Some(&[]), &Settings::default());
    assert_eq!((seen.outcome, seen.secrets.len()), (Outcome::AlreadyPresent, 0));
    assert_eq!(seen.demanded, ["mine"]);
}

#[test]
fn exemptions_come_before_images() {
    let mut opted_out = pod(&["myregistry.azurecr.io/a"]);
    opted_out["metadata"]["labels"] = json!({"pullpass.dev/inject": "disabled"});
    let mut mirror = pod(&["myregistry.azurecr.io/a"]);
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    let plain = pod(&["myregistry.azurecr.io/a"]);
    let opt_in = Settings {
        scope: Scope::new(Mode::OptIn, "own", []),
        ..Settings::default()
    };
    let excluded = Settings {
        scope: Scope::new(Mode::ClusterWide, "own", ["apps".to_owned()]),
        ..Settings::default()
    };
    let defaults = Settings::default();
    let none: &[(&str, &str)] = &[];
    for (pod, labels, settings) in [
        (&opted_out, none, &defaults),
        (&mirror, none, &defaults),
        (&plain, &[("pullpass.dev/inject", "disabled")], &defaults),
        (&plain, none, &opt_in),
        (&plain, none, &excluded),
    ] {
        let seen = seen(&create(pod), Some(labels), settings);
        assert_eq!(
            (seen.outcome, seen.demanded.len()),
            (Outcome::Skipped, 0),
            "{pod} {labels:?}"
        );
        assert_eq!(seen.hosts, [Some("myregistry.azurecr.io".to_owned())]);
    }
    assert_eq!(
        seen(&create(&plain), None, &opt_in).outcome,
        Outcome::Injected,
        "an unknown namespace is trusted"
    );
}

/// The API server drops the annotation after the webhooks, where it is sent with an ephemeral container.
#[test]
fn an_ephemeral_container_is_judged_despite_the_annotation() {
    let mirrors = |subresource: &str| {
        let old = pod(&["myregistry.azurecr.io/app"]);
        let mut new = old.clone();
        new["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        new["spec"]["ephemeralContainers"] =
            json!([{"name": "d", "image": "strangerregistry.azurecr.io/app"}]);
        outcome_of(&update(&old, &new, subresource)).0
    };
    assert_eq!(mirrors("ephemeralcontainers"), Outcome::Uncovered);
    assert_eq!(mirrors(""), Outcome::Skipped);
}

/// Anybody can write the annotation.
#[test]
fn a_mirror_pod_is_exempt_from_rules_as_a_kubelets_alone() {
    let settings = Settings {
        policy: Policy {
            unattached: Action::Deny,
            ..Policy::default()
        },
        ..Settings::default()
    };
    let mut mirror = pod(&["strangerregistry.azurecr.io/app"]);
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    for (groups, outcome) in [
        (json!(["system:nodes", "system:authenticated"]), Outcome::Skipped),
        (json!(["system:masters", "system:authenticated"]), Outcome::Denied),
        (json!([]), Outcome::Denied),
        (Value::Null, Outcome::Denied),
    ] {
        for mut review in [create(&mirror), update(&pod(&[]), &mirror, "")] {
            review["request"]["userInfo"]["groups"] = groups.clone();
            let seen = seen(&review, Some(&[]), &settings);
            assert_eq!(seen.outcome, outcome, "{groups}");
        }
    }
    // The API server refuses a mirror Pod that names a Secret.
    let mut of_ours = mirror.clone();
    of_ours["spec"]["containers"] = json!([{"name": "app", "image": "myregistry.azurecr.io/app"}]);
    let seen = seen(&create(&of_ours), Some(&[]), &settings);
    assert_eq!((seen.outcome, seen.secrets.len()), (Outcome::Skipped, 0));
}

#[test]
fn a_pods_label_declines_secrets_and_not_rules() {
    for (action, outcome, warnings) in [
        (Action::Allow, Outcome::Skipped, 0),
        (Action::Warn, Outcome::Skipped, 1),
        (Action::Deny, Outcome::Denied, 0),
    ] {
        let settings = Settings {
            policy: Policy {
                unattached: action,
                forbidden: action,
            },
            ..Settings::default()
        };
        for (rule, image) in [
            (Rule::Unattached, "otherregistry.azurecr.io/a"),
            (Rule::Forbidden, "teamregistry.azurecr.io/a"),
        ] {
            // What could be added is not, and nothing is reported about it.
            let mut pod = pod(&[image, "MyRegistry.azurecr.io/a", "no reference"]);
            pod["metadata"]["labels"] = json!({"pullpass.dev/inject": "disabled"});
            let always = [("pullpass.dev/always-inject", "true")];
            for review in [create(&pod), update(&json!({"spec": {}}), &pod, "")] {
                let seen = seen(&review, Some(&always), &settings);
                let context = format!("{action:?} {rule:?} {seen:?}");
                assert_eq!(seen.outcome, outcome, "{context}");
                assert_eq!((seen.secrets.len(), seen.demanded.len()), (0, 0), "{context}");
                assert_eq!(seen.warnings.len(), warnings, "{context}");
                let host = image.trim_end_matches("/a").to_owned();
                assert_eq!(seen.violations, [(rule, host, action)], "{context}");
                assert_eq!(seen.denial.is_some(), action == Action::Deny, "{context}");
            }
        }
    }
}

#[test]
fn unknown_label_values_count_as_not_set_and_are_said() {
    let mut pod = pod(&["myregistry.azurecr.io/a"]);
    pod["metadata"]["labels"] = json!({"pullpass.dev/inject": "no"});
    let seen = seen(
        &create(&pod),
        Some(&[("pullpass.dev/inject", "yes")]),
        &Settings::default(),
    );
    assert_eq!(seen.outcome, Outcome::Injected);
    assert_eq!(seen.warnings.len(), 2, "{:?}", seen.warnings);
}

#[test]
fn always_inject_adds_every_registry_of_the_namespace() {
    let labels = [("pullpass.dev/always-inject", "true"), ("team", "b")];
    let seen = seen(&create(&pod(&["nginx"])), Some(&labels), &Settings::default());
    assert_eq!(seen.outcome, Outcome::Injected);
    assert_eq!(
        seen.secrets,
        ["pullpass-mine", "pullpass-scoped", "pullpass-team-b"]
    );
}

#[test]
fn always_inject_leaves_out_what_could_not_be_minted() {
    let registry = |name: &str, status: &Value| {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
            "spec": {"loginServer": format!("{name}registry.azurecr.io"), "identity": {"managedIdentity": {}}},
            "status": status,
        });
        AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap()
    };
    let ready = |status: &str| {
        json!([{
            "type": "Ready", "status": status, "reason": "Because", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }])
    };
    let registries: AttachedRegistries = [
        registry("untried", &json!({"observedGeneration": -1})),
        registry("waiting", &json!({"conditions": ready("Unknown")})),
        registry("broken", &json!({"conditions": ready("False")})),
        // It has one that expires, and pull secrets.
        registry(
            "failing",
            &json!({"conditions": ready("False"), "credential": {"issuedAt": "2026-01-01T00:00:00Z"}}),
        ),
    ]
    .into_iter()
    .collect();
    let always = [("pullpass.dev/always-inject".to_owned(), "true".to_owned())].into();
    for (image, secrets) in [
        (
            "nginx",
            &["pullpass-failing", "pullpass-untried", "pullpass-waiting"][..],
        ),
        (
            "brokenregistry.azurecr.io/app",
            &[
                "pullpass-broken",
                "pullpass-failing",
                "pullpass-untried",
                "pullpass-waiting",
            ],
        ),
    ] {
        let body = create(&pod(&[image])).to_string();
        let request = ReviewRequest::decode(body.as_bytes()).unwrap();
        let decision = decide(&request, &registries, Some(&always), &Settings::default());
        assert_eq!(decision.secrets, secrets, "{image}");
    }
}

#[test]
fn every_row_of_the_policy() {
    let actions = [Action::Allow, Action::Warn, Action::Deny];
    for (rule, image) in [
        (Rule::Unattached, "otherregistry.azurecr.io/a"),
        (Rule::Forbidden, "teamregistry.azurecr.io/a"),
    ] {
        for action in actions {
            for covered in [false, true] {
                let policy = match rule {
                    Rule::Unattached => Policy {
                        unattached: action,
                        ..Policy::default()
                    },
                    Rule::Forbidden => Policy {
                        forbidden: action,
                        ..Policy::default()
                    },
                };
                let settings = Settings {
                    policy,
                    ..Settings::default()
                };
                let images: &[&str] = if covered {
                    &[image, "myregistry.azurecr.io/a"]
                } else {
                    &[image]
                };
                let seen = seen(&create(&pod(images)), Some(&[]), &settings);
                let context = format!("{rule:?} {action:?} {covered}");
                let expected = match (action, covered) {
                    (Action::Deny, _) => Outcome::Denied,
                    (_, true) => Outcome::Injected,
                    (_, false) => Outcome::Uncovered,
                };
                assert_eq!(seen.outcome, expected, "{context}");
                assert_eq!(
                    seen.secrets.is_empty(),
                    !covered || action == Action::Deny,
                    "{context}"
                );
                assert_eq!(seen.violations.len(), 1, "{context}");
                assert_eq!(
                    seen.warnings.len(),
                    usize::from(action == Action::Warn),
                    "{context}"
                );
                let said = seen
                    .denial
                    .iter()
                    .chain(&seen.warnings)
                    .all(|text| text.contains(image) && text.contains(rule.as_str()));
                assert!(
                    said && seen.denial.is_some() == (action == Action::Deny),
                    "{context} {seen:?}"
                );
            }
        }
    }
}

#[test]
fn outcomes_and_operations_have_the_words_of_records() {
    let outcomes = [
        "injected",
        "already-present",
        "skipped",
        "not-applicable",
        "uncovered",
        "denied",
    ];
    assert_eq!(Outcome::ALL.map(Outcome::as_str), outcomes);
    for (operation, word) in [
        (Operation::Create, "CREATE"),
        (Operation::Update, "UPDATE"),
        (Operation::Delete, "DELETE"),
        (Operation::Connect, "CONNECT"),
    ] {
        assert_eq!(operation.as_str(), word);
    }
}

#[test]
fn a_rule_refuses_once_and_every_rule_refuses() {
    let policy = |unattached, forbidden| Settings {
        policy: Policy {
            unattached,
            forbidden,
        },
        ..Settings::default()
    };
    let deny = policy(Action::Deny, Action::Deny);
    let strangers = ["oneregistry.azurecr.io/app", "tworegistry.azurecr.io/app"];
    let both = [strangers[0], strangers[1], "teamregistry.azurecr.io/app"];
    for (images, rules) in [
        (&strangers[..], &[Rule::Unattached][..]),
        (&both[..], &[Rule::Unattached, Rule::Forbidden]),
    ] {
        let body = create(&pod(images)).to_string();
        let request = ReviewRequest::decode(body.as_bytes()).unwrap();
        let registries = registries();
        let decision = decide(&request, &registries, Some(&Labels::new()), &deny);
        let refused: Vec<_> = decision.denials.iter().map(|denial| denial.rule).collect();
        assert_eq!(refused, rules, "{images:?}");
        assert!(decision.denials[0].message.contains("oneregistry.azurecr.io"));
        assert_eq!(decision.violations.len(), images.len());
    }
}

#[test]
fn the_reason_says_why_it_was_decided_so() {
    let always = [("pullpass.dev/always-inject", "true")];
    let none: [(&str, &str); 0] = [];
    let mine = pod(&["myregistry.azurecr.io/app"]);
    let other = pod(&["nginx"]);
    for (review, labels, says) in [
        (create(&mine), &none[..], "names images of attached registries"),
        (create(&mine), &always[..], "names images of attached registries"),
        (
            create(&other),
            &always[..],
            "labelled pullpass.dev/always-inject=true",
        ),
        (create(&other), &none[..], "names no image on ACR"),
        (update(&mine, &other, ""), &none[..], "no image on ACR was added"),
        (
            create(&pod(&["tworegistry.azurecr.io/app"])),
            &none[..],
            "no attached registry",
        ),
        (
            create(&pod(&["publicregistry.azurecr.io/app"])),
            &none[..],
            "need no credential",
        ),
        (
            update(&other, &mine, ""),
            &none[..],
            "has no pull secret for myregistry.azurecr.io",
        ),
    ] {
        let body = review.to_string();
        let request = ReviewRequest::decode(body.as_bytes()).unwrap();
        let labels: Labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let registries = registries();
        let decision = decide(&request, &registries, Some(&labels), &Settings::default());
        assert!(decision.reason.contains(says), "{says}: {}", decision.reason);
    }
}

#[test]
fn a_selector_picks_the_team_whose_identity_is_used() {
    for (team, secrets) in [("a", ["pullpass-team-a"]), ("b", ["pullpass-team-b"])] {
        let seen = seen(
            &create(&pod(&["teamregistry.azurecr.io/x"])),
            Some(&[("team", team)]),
            &Settings::default(),
        );
        assert_eq!(seen.secrets, secrets);
    }
}

#[test]
fn decisions_say_who_added_the_pull_secrets() {
    let annotated_by = |by: &str, secrets: &[&str]| {
        let mut pod = pod(&["myregistry.azurecr.io/app"]);
        pod["metadata"]["annotations"] = json!({"pullpass.dev/injected-by": by});
        pod["spec"]["imagePullSecrets"] = secrets.iter().map(|name| json!({"name": name})).collect();
        pod
    };
    let annotated = |secrets: &[&str]| annotated_by("admission-policy", secrets);
    let mut plain = annotated(&["pullpass-mine"]);
    plain["metadata"]["annotations"] = json!({});
    let elsewhere = {
        let mut pod = annotated(&[]);
        pod["spec"]["containers"][0]["image"] = json!("nginx");
        pod
    };
    let by_policy = annotated(&["pullpass-mine"]);
    for (review, outcome, injector, says) in [
        (
            create(&by_policy),
            Outcome::AlreadyPresent,
            Some(Injector::AdmissionPolicy),
            "an admission policy in the API server added them, as the Pod's annotation says",
        ),
        (
            create(&annotated_by("somebody", &["pullpass-mine"])),
            Outcome::AlreadyPresent,
            None,
            "has every pull secret",
        ),
        (
            create(&annotated(&[])),
            Outcome::Injected,
            Some(Injector::Webhook),
            "names images",
        ),
        (
            create(&plain),
            Outcome::AlreadyPresent,
            None,
            "has every pull secret that it needs.",
        ),
        (
            create(&elsewhere),
            Outcome::NotApplicable,
            None,
            "names no image on ACR",
        ),
        (
            update(&elsewhere, &by_policy, ""),
            Outcome::AlreadyPresent,
            None,
            "has every pull secret",
        ),
    ] {
        let body = review.to_string();
        let request = ReviewRequest::decode(body.as_bytes()).unwrap();
        let registries = registries();
        let decision = decide(&request, &registries, Some(&Labels::new()), &Settings::default());
        assert_eq!(
            (decision.outcome, decision.injected_by),
            (outcome, injector),
            "{review}"
        );
        // A full stop stands for the end of the sentence.
        let reason = format!("{}.", decision.reason);
        assert!(reason.contains(says), "{says}: {reason}");
    }
}

#[test]
fn a_live_pod_is_only_told() {
    let old = pod(&["nginx"]);
    let mut new = pod(&["nginx"]);
    new["spec"]["ephemeralContainers"] =
        json!([{"name": "debugger", "image": "myregistry.azurecr.io/debug"}]);
    let seen_now = seen(
        &update(&old, &new, "ephemeralcontainers"),
        Some(&[]),
        &Settings::default(),
    );
    assert_eq!(
        (seen_now.outcome, seen_now.secrets.len()),
        (Outcome::Uncovered, 0)
    );
    let warning = &seen_now.warnings[0];
    assert!(
        warning.contains("spec.ephemeralContainers[debugger]"),
        "{warning}"
    );
    // A user who debugs a Pod can't have it recreated.
    assert!(warning.contains("before its Pods are created"), "{warning}");
    let image_changed = pod(&["myregistry.azurecr.io/app"]);
    let edited = seen(&update(&old, &image_changed, ""), Some(&[]), &Settings::default());
    assert!(
        edited.warnings[0].ends_with(": re-create the Pod"),
        "{:?}",
        edited.warnings
    );

    new["spec"]["imagePullSecrets"] = json!([{"name": "pullpass-mine"}]);
    let seen_now = seen(
        &update(&old, &new, "ephemeralcontainers"),
        Some(&[]),
        &Settings::default(),
    );
    assert_eq!(
        (seen_now.outcome, seen_now.warnings.len()),
        (Outcome::AlreadyPresent, 0)
    );
}

#[test]
fn an_update_is_judged_by_the_images_that_it_brings() {
    let deny = Settings {
        policy: Policy {
            unattached: Action::Deny,
            forbidden: Action::Deny,
        },
        ..Settings::default()
    };
    let old = pod(&["otherregistry.azurecr.io/a"]);
    assert_eq!(
        seen(&update(&old, &old, ""), Some(&[]), &deny).outcome,
        Outcome::NotApplicable
    );
    let new = pod(&["otherregistry.azurecr.io/b"]);
    assert_eq!(
        seen(&update(&old, &new, ""), Some(&[]), &deny).outcome,
        Outcome::Denied
    );
    let new = pod(&["nginx:2"]);
    assert_eq!(
        seen(&update(&old, &new, ""), Some(&[]), &deny).outcome,
        Outcome::NotApplicable
    );
}

#[test]
fn other_requests_do_not_apply() {
    let pod = pod(&["myregistry.azurecr.io/a"]);
    for (operation, sub_resource) in [
        ("DELETE", ""),
        ("CONNECT", "exec"),
        ("CREATE", "eviction"),
        ("UPDATE", "resize"),
    ] {
        let mut review = create(&pod);
        review["request"]["operation"] = json!(operation);
        review["request"]["subResource"] = json!(sub_resource);
        assert_eq!(
            outcome_of(&review).0,
            Outcome::NotApplicable,
            "{operation} {sub_resource}"
        );
    }
    let mut review = create(&pod);
    review["request"]["kind"] = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    assert_eq!(outcome_of(&review).0, Outcome::NotApplicable);
}

#[test]
fn spellings_that_a_kubelet_will_not_match_are_said() {
    let warnings = |image: &str| seen(&create(&pod(&[image])), Some(&[]), &Settings::default()).warnings;
    assert!(warnings("MyRegistry.azurecr.io/a")[0].contains("write myregistry.azurecr.io"));
    assert!(warnings("myregistry.azurecr.io:443/a").is_empty());
    for (image, names, how) in [
        (
            "MyRegistry.azurecr.io/a",
            "names MyRegistry.azurecr.io:",
            "by case",
        ),
        (
            "MyRegistry.azurecr.io:0443/a",
            "names MyRegistry.azurecr.io:",
            "by case",
        ),
        (
            "myregistry.azurecr.io:0443/a",
            "names myregistry.azurecr.io:0443:",
            "by the port's text",
        ),
    ] {
        let warning = warnings(image).remove(0);
        assert!(warning.contains(names) && warning.contains(how), "{warning}");
    }
    assert!(warnings("scopedregistry.azurecr.io/team/other")[0].contains("team/other"));
    assert!(warnings("scopedregistry.azurecr.io/team/app").is_empty());
    assert!(warnings("myregistry.azurecr.io/App")[0].contains("lower-case"));
}

#[test]
fn warnings_stay_short_and_few_whatever_a_pod_says() {
    let long = format!("{}\n{}", "\u{1f4a9}".repeat(500), "x".repeat(60_000));
    let images: Vec<_> = (0..40).map(|n| format!("{long}{n}:")).collect();
    let images: Vec<_> = images.iter().map(String::as_str).collect();
    let seen = seen(&create(&pod(&images)), Some(&[]), &Settings::default());
    assert_eq!(seen.warnings.len(), 11);
    assert!(
        seen.warnings
            .iter()
            .all(|warning| warning.len() < 800 && !warning.contains('\n'))
    );
}

#[test]
fn hosts_and_old_images_cost_no_more_than_their_number() {
    // Comparing each with all takes minutes of a processor, looking each up a second or two.
    let images: Vec<_> = (0..100_000)
        .map(|n| PodImage {
            field: ImageField::Containers,
            name: Cow::Borrowed("main"),
            reference: Cow::Owned(format!("registry{n}.azurecr.io/a")),
        })
        .collect();
    let request = ReviewRequest {
        uid: Cow::Borrowed("u"),
        operation: Operation::Create,
        is_pod: true,
        sub_resource: None,
        namespace: Cow::Borrowed("apps"),
        name: Cow::Borrowed(""),
        dry_run: false,
        user: Cow::Borrowed("jane"),
        is_by_node: false,
        pod: PodView {
            images: images.clone(),
            ..PodView::default()
        },
        old_images: Vec::new(),
        picked: None,
        labels_are_read: false,
        mountable: None,
        account_is_uncached: false,
    };
    let (registries, settings) = (registries(), Settings::default());
    let begun = processor_seconds();
    let created = decide(&request, &registries, None, &settings);
    assert_eq!(created.violations.len(), 100_000);
    let request = ReviewRequest {
        operation: Operation::Update,
        old_images: images,
        ..request.clone()
    };
    let updated = decide(&request, &registries, None, &settings);
    assert_eq!(updated.outcome, Outcome::NotApplicable);
    let took = processor_seconds() - begun;
    assert!(took < 30, "{took} s");
}

/// How long this thread had a processor, whatever else the machine did meanwhile.
fn processor_seconds() -> u64 {
    let state = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds = state.split_whitespace().next().unwrap();
    nanoseconds.parse::<u64>().unwrap() / 1_000_000_000
}

proptest! {
    #[test]
    fn a_patched_pod_needs_no_second_patch(
        images in proptest::collection::vec(prop_oneof![
            Just("nginx"), Just("myregistry.azurecr.io/a"), Just("MYREGISTRY.azurecr.io/b"),
            Just("scopedregistry.azurecr.io/team/app"), Just("teamregistry.azurecr.io/a"), Just("otherregistry.azurecr.io/a"),
        ], 1..6),
        own in proptest::option::of(proptest::collection::vec(prop_oneof![
            Just("own"), Just("pullpass-mine"), Just("pullpass-scoped"),
        ], 0..3)),
    ) {
        let mut pod = pod(&images);
        if let Some(own) = &own {
            pod["spec"]["imagePullSecrets"] = own.iter().map(|name| json!({"name": name})).collect();
        }
        let first = seen(&create(&pod), Some(&[]), &Settings::default());
        let names: Vec<_> = first.secrets.iter().map(String::as_str).collect();
        let mut patched = pod.clone();
        let patch = json!(PullSecretsPatch { secrets: &names, has_list: own.is_some() });
        json_patch::patch(&mut patched, &serde_json::from_value::<json_patch::Patch>(patch).unwrap()).unwrap();
        let kept = own.unwrap_or_default();
        let list = patched["spec"].get("imagePullSecrets").map_or(Vec::new(), |list| list.as_array().unwrap().clone());
        let expected: Vec<_> = kept.iter().copied().chain(names.iter().copied()).map(|name| json!({"name": name})).collect();
        prop_assert_eq!(list, expected);
        let second = seen(&create(&patched), Some(&[]), &Settings::default());
        prop_assert!(second.secrets.is_empty());
        prop_assert_eq!(second.demanded, first.demanded);
    }
}

/// What a decision on a Pod with these images wants to know better.
fn fresher_of(
    images: &[&str],
    registries: &AttachedRegistries,
    labels: Option<&[(&str, &str)]>,
    picked: Picked,
) -> (bool, bool) {
    let body = create(&pod(images)).to_string();
    let request = ReviewRequest {
        picked: Some(picked),
        ..ReviewRequest::decode(body.as_bytes()).unwrap()
    };
    let labels: Option<Labels> = labels.map(|labels| {
        let pairs = labels.iter();
        pairs.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    });
    let fresher = decide(&request, registries, labels.as_ref(), &Settings::default()).fresher;
    (fresher.registries, fresher.labels)
}

#[test]
fn only_what_could_change_a_decision_is_wanted_fresher() {
    let (mine, team) = ("myregistry.azurecr.io/app", "teamregistry.azurecr.io/app");
    let known: Option<&[(&str, &str)]> = Some(&[("team", "a")]);
    let other: Option<&[(&str, &str)]> = Some(&[("team", "c")]);
    let opted_out: Option<&[(&str, &str)]> = Some(&[("pullpass.dev/inject", "disabled")]);
    let labelled: Option<&[(&str, &str)]> = Some(&[("pullpass.dev/always-inject", "true")]);
    let (by_mode, always) = (Picked::ByMode, Picked::Always);
    for (image, labels, picked, expected) in [
        (mine, known, by_mode, (false, false)),
        (team, known, by_mode, (false, false)),
        ("nginx", labelled, always, (false, false)),
        // The API server asked about such a Pod for a custom domain.
        ("stranger.example/app", known, by_mode, (true, false)),
        ("stranger.example/app", labelled, always, (false, false)),
        ("nginx", known, by_mode, (false, false)),
        // Somebody may have attached it, or opened it for the namespace, or changed the namespace.
        ("stranger.azurecr.io/app", known, by_mode, (true, false)),
        ("stranger.azurecr.io:5000/app", known, by_mode, (false, false)),
        (team, other, by_mode, (true, true)),
        // Selectors and always-inject depend on labels that are not known.
        (team, None, by_mode, (false, true)),
        (mine, None, by_mode, (false, true)),
        ("nginx", None, always, (false, true)),
        (mine, opted_out, by_mode, (false, true)),
    ] {
        let fresher = fresher_of(&[image], &registries(), labels, picked);
        assert_eq!(fresher, expected, "{image} {labels:?} {picked:?}");
    }
    // Labels change nothing if the only registry is for all.
    let one: AttachedRegistries =
        std::iter::once(registry("mine", "myregistry.azurecr.io", &json!({}))).collect();
    assert_eq!(fresher_of(&[mine], &one, None, by_mode), (false, false));
    assert_eq!(fresher_of(&["nginx"], &one, None, always), (false, false));
    assert_eq!(fresher_of(&["nginx"], &one, None, by_mode), (false, true));
}

#[test]
fn an_uncached_account_is_wanted_where_a_name_is_added() {
    let mine = "myregistry.azurecr.io/app";
    let mut held = pod(&[mine]);
    held["spec"]["imagePullSecrets"] = json!([{"name": "pullpass-mine"}]);
    let mut declined = pod(&[mine]);
    declined["metadata"]["labels"] = json!({"pullpass.dev/inject": "disabled"});
    let always = &[("pullpass.dev/always-inject", "true")][..];
    let registries = registries();
    let settings = Settings {
        policy: Policy {
            unattached: Action::Deny,
            ..Policy::default()
        },
        ..Settings::default()
    };
    for (body, labels, is_wanted) in [
        (create(&pod(&[mine])), &[][..], true),
        (create(&pod(&["nginx"])), always, true),
        (create(&pod(&["nginx"])), &[], false),
        (create(&pod(&["stranger.azurecr.io/app"])), &[], false),
        (create(&held), &[], false),
        (create(&declined), &[], false),
        (update(&pod(&["nginx"]), &pod(&[mine]), ""), &[], false),
        // The policy refuses it whatever its ServiceAccount is.
        (create(&pod(&[mine, "stranger.azurecr.io/app"])), &[], false),
    ] {
        let body = body.to_string();
        let wants = |is_uncached: bool, mountable: Option<Mountable>| {
            let request = ReviewRequest {
                account_is_uncached: is_uncached,
                mountable: mountable.map(Arc::new),
                ..ReviewRequest::decode(body.as_bytes()).unwrap()
            };
            let labels = labels.iter();
            let labels = labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let decision = decide(&request, &registries, Some(&labels.collect()), &settings);
            decision.fresher.account
        };
        assert_eq!(wants(true, None), is_wanted, "{body}");
        assert!(!wants(false, None), "{body}");
        // What is known to enforce mountable secrets is asked for no more.
        assert!(!wants(true, Some(listing(&["pullpass-mine"]))), "{body}");
    }
}

#[test]
fn an_update_wants_nothing_fresher_for_the_images_it_leaves() {
    let settings = Settings::default();
    let registries = registries();
    let fresher = |old: &[&str], new: &[&str]| {
        let body = update(&pod(old), &pod(new), "").to_string();
        let request = ReviewRequest::decode(body.as_bytes()).unwrap();
        decide(&request, &registries, None, &settings).fresher.is_wanted()
    };
    let stranger = "stranger.azurecr.io/app";
    assert!(!fresher(&[stranger], &[stranger]));
    assert!(fresher(&["nginx"], &[stranger]));
}

#[test]
fn waits_are_recorded_by_their_outcome() {
    let both = Fresher {
        registries: true,
        labels: true,
        account: false,
    };
    let account = Fresher {
        account: true,
        ..Fresher::default()
    };
    let (none, registries) = (
        Fresher::default(),
        Fresher {
            labels: false,
            ..both
        },
    );
    assert_eq!(Waited::of(none, none, both, None), None);
    let written = Waited::of(none, none, none, Some(WaitOutcome::Written)).unwrap();
    assert_eq!(
        serde_json::to_value(written).unwrap(),
        json!({"pullSecret": "written"})
    );
    assert_eq!(
        written.outcomes().collect::<Vec<_>>(),
        [("pull-secret", WaitOutcome::Written)]
    );
    for (asked, failed, wants, expected) in [
        (registries, none, none, json!({"registry": "changed"})),
        (registries, none, both, json!({"registry": "unchanged"})),
        (registries, registries, none, json!({"registry": "failed"})),
        (
            both,
            registries,
            registries,
            json!({"registry": "failed", "namespace": "changed"}),
        ),
        (account, none, none, json!({"service-account": "changed"})),
        (account, none, account, json!({"service-account": "unchanged"})),
    ] {
        let waited = Waited::of(asked, failed, wants, None).unwrap();
        let record = serde_json::to_string(&waited).unwrap();
        let record = record.replace("serviceAccount", "service-account");
        assert_eq!(serde_json::from_str::<Value>(&record).unwrap(), expected);
        let outcomes = waited
            .outcomes()
            .map(|(word, outcome)| (word, json!(outcome.as_str())));
        assert_eq!(outcomes.collect::<Value>(), expected);
    }
}

/// What docs/policy.md says of `--forbidden=deny`. Whether a pull secret is written is decided by labels that are known.
#[test]
fn a_namespace_of_unknown_labels_is_forbidden_nothing() {
    let settings = Settings {
        policy: Policy {
            forbidden: Action::Deny,
            ..Policy::default()
        },
        ..Settings::default()
    };
    let review = create(&pod(&["teamregistry.azurecr.io/app"]));
    for (labels, outcome, secrets) in [
        (
            None,
            Outcome::Injected,
            &["pullpass-team-a", "pullpass-team-b"][..],
        ),
        (
            Some(&[("team", "a")][..]),
            Outcome::Injected,
            &["pullpass-team-a"],
        ),
        (Some(&[("team", "c")][..]), Outcome::Denied, &[]),
    ] {
        let seen = seen(&review, labels, &settings);
        assert_eq!(seen.outcome, outcome, "{labels:?}");
        assert_eq!(seen.secrets, secrets, "{labels:?}");
    }
}

#[test]
fn labels_read_since_are_judged_by_whatever_a_selector_says() {
    for (team, is_read, expected) in [
        // They are older than the selector, and may be so in all else.
        ("a", false, &["pullpass-team-a", "pullpass-team-b"][..]),
        ("a", true, &["pullpass-team-a"]),
        ("c", true, &[]),
    ] {
        let body = create(&pod(&["teamregistry.azurecr.io/app"])).to_string();
        let request = ReviewRequest {
            picked: Some(Picked::ByMode),
            labels_are_read: is_read,
            ..ReviewRequest::decode(body.as_bytes()).unwrap()
        };
        let labels = [("team", team), ("pullpass.dev/inject", "disabled")];
        let labels: Labels = labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let (registries, settings) = (registries(), Settings::default());
        let decision = decide(&request, &registries, Some(&labels), &settings);
        assert_eq!(decision.secrets, expected, "{team} {is_read}");
        let is_forbidden = decision
            .violations
            .iter()
            .any(|violation| violation.rule == Rule::Forbidden);
        assert_eq!(is_forbidden, expected.is_empty(), "{team} {is_read}");
    }
}

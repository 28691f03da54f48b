use kube::ResourceExt;
use serde_json::{Value, json};

use super::*;
use crate::policy::attached::AttachedRegistry;
use crate::policy::scope::Mode;

fn registries() -> AttachedRegistries {
    [
        ("open", json!({"loginServer": "openreg.azurecr.io"})),
        (
            "team-b",
            json!({"loginServer": "teamb.azurecr.io", "namespaces": {"matchLabels": {"team": "b"}}}),
        ),
        (
            "free",
            json!({"loginServer": "freereg.azurecr.io", "identity": {"anonymous": {}}}),
        ),
        (
            "listed",
            json!({"loginServer": "listed.azurecr.io", "credential": {"kind": "AccessToken", "repositories": ["team/app"]}}),
        ),
    ]
    .into_iter()
    .map(|(name, mut spec)| {
        if spec["identity"].is_null() {
            spec["identity"] = json!({"managedIdentity": {}});
        }
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name}, "spec": spec,
        });
        AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap()
    })
    .collect()
}

fn pod(images: &[&str], secrets: &[&str]) -> Value {
    let named = |key: &str, values: &[&str]| -> Vec<Value> {
        values.iter().map(|value| json!({key: value})).collect()
    };
    json!({
        "metadata": {"name": "web", "namespace": "apps"},
        "spec": {"containers": named("image", images), "imagePullSecrets": named("name", secrets)},
    })
}

fn judged(pod: Value, labels: &[(&str, &str)], mode: Mode) -> Vec<(String, Option<String>, CoverageState)> {
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let labels: Labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let scope = Scope::new(mode, "pullpass-system", []);
    findings(
        &pod,
        &pod.namespace().unwrap(),
        &registries(),
        Some(&labels),
        &scope,
        None,
    )
    .into_iter()
    .map(|finding| {
        (
            finding.host.into_owned(),
            finding.registry.map(str::to_owned),
            finding.state,
        )
    })
    .collect()
}

#[test]
fn every_state_has_its_pod() {
    for (images, secrets, host, registry, state) in [
        (
            "openreg.azurecr.io/a",
            &["pullpass-open"][..],
            "openreg.azurecr.io",
            Some("open"),
            CoverageState::Covered,
        ),
        (
            "openreg.azurecr.io/a",
            &[],
            "openreg.azurecr.io",
            Some("open"),
            CoverageState::Uncovered(Gap::NotInjected),
        ),
        (
            "openreg.azurecr.io:443/a",
            &["by-hand"],
            "openreg.azurecr.io",
            Some("open"),
            CoverageState::Uncovered(Gap::OtherSecret),
        ),
        (
            "OpenReg.azurecr.io/a",
            &["pullpass-open"],
            "openreg.azurecr.io",
            Some("open"),
            CoverageState::Uncovered(Gap::Spelling),
        ),
        (
            "OpenReg.azurecr.io/a",
            &[],
            "openreg.azurecr.io",
            Some("open"),
            CoverageState::Uncovered(Gap::Spelling),
        ),
        (
            "OpenReg.azurecr.io/a",
            &["by-hand"],
            "openreg.azurecr.io",
            Some("open"),
            CoverageState::Uncovered(Gap::OtherSecretSpelling),
        ),
        (
            "openreg.westeurope.geo.azurecr.io/a",
            &["pullpass-open"],
            "openreg.azurecr.io",
            Some("open"),
            CoverageState::Covered,
        ),
        (
            "FreeReg.azurecr.io/a",
            &[],
            "freereg.azurecr.io",
            Some("free"),
            CoverageState::Covered,
        ),
        (
            "teamb.azurecr.io/a",
            &[],
            "teamb.azurecr.io",
            Some("team-b"),
            CoverageState::Uncovered(Gap::Forbidden),
        ),
        (
            "stranger.azurecr.io/a",
            &["by-hand"],
            "stranger.azurecr.io",
            None,
            CoverageState::Uncovered(Gap::Unattached),
        ),
        (
            "listed.azurecr.io/team/app",
            &["pullpass-listed"],
            "listed.azurecr.io",
            Some("listed"),
            CoverageState::Covered,
        ),
        (
            "listed.azurecr.io/team/other",
            &["pullpass-listed"],
            "listed.azurecr.io",
            Some("listed"),
            CoverageState::Uncovered(Gap::OtherRepository),
        ),
    ] {
        assert_eq!(
            judged(pod(&[images], secrets), &[], Mode::ClusterWide),
            [(host.to_owned(), registry.map(str::to_owned), state)],
            "{images} {secrets:?}"
        );
    }
}

#[test]
fn images_that_are_not_on_acr_have_no_finding() {
    let images = [
        "nginx",
        "registry.example/a",
        "openreg.azurecr.io.evil.example/a",
        "openreg.azurecr.io:5000/a",
        "not a reference",
    ];
    assert!(judged(pod(&images, &[]), &[], Mode::ClusterWide).is_empty());
}

#[test]
fn an_exempt_pod_is_never_uncovered_and_may_be_covered() {
    let image = ["openreg.azurecr.io/a"];
    let alone = pod(&image, &[]);
    let opted_out = [("pullpass.dev/inject", "disabled")];
    let state = |pod: Value, labels: &[(&str, &str)], mode| judged(pod, labels, mode)[0].2;
    assert_eq!(
        state(alone.clone(), &opted_out, Mode::ClusterWide),
        CoverageState::Skipped(Exemption::NamespaceOptedOut)
    );
    assert_eq!(
        state(alone.clone(), &[], Mode::OptIn),
        CoverageState::Skipped(Exemption::NamespaceNotOptedIn)
    );
    assert_eq!(
        state(pod(&image, &["pullpass-open"]), &opted_out, Mode::ClusterWide),
        CoverageState::Covered
    );
    let mut labelled = alone.clone();
    labelled["metadata"]["labels"] = json!({"pullpass.dev/inject": "disabled"});
    assert_eq!(
        state(labelled, &[], Mode::ClusterWide),
        CoverageState::Skipped(Exemption::PodOptedOut)
    );
    for (image, gap) in [
        ("stranger.azurecr.io/a", Gap::Unattached),
        ("teamb.azurecr.io/a", Gap::Forbidden),
    ] {
        let mut labelled = pod(&[image], &[]);
        labelled["metadata"]["labels"] = json!({"pullpass.dev/inject": "disabled"});
        assert_eq!(
            state(labelled, &[], Mode::ClusterWide),
            CoverageState::Uncovered(gap),
            "the rules hold"
        );
    }
    let mut mirror = alone;
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
    assert_eq!(
        state(mirror, &[], Mode::ClusterWide),
        CoverageState::Skipped(Exemption::MirrorPod)
    );
}

#[test]
fn images_count_wherever_they_stand() {
    let pod = json!({
        "metadata": {"name": "web", "namespace": "apps"},
        "spec": {
            "containers": [{"image": "nginx"}],
            "initContainers": [{"image": "openreg.azurecr.io/init"}],
            "ephemeralContainers": [{"image": "openreg.azurecr.io/debug"}],
            "volumes": [{"name": "empty", "emptyDir": {}}, {"name": "model", "image": {"reference": "teamb.azurecr.io/model"}}],
        },
    });
    let found = judged(pod, &[("team", "b")], Mode::ClusterWide);
    let hosts: Vec<_> = found.iter().map(|(host, ..)| host.as_str()).collect();
    assert_eq!(hosts, ["openreg.azurecr.io", "teamb.azurecr.io"]);
}

#[test]
fn a_pod_counts_once_and_its_worst_state_tells() {
    let registries = registries();
    let scope = Scope::new(Mode::ClusterWide, "pullpass-system", []);
    let mut summary = Summary::default();
    for (images, secrets) in [
        (
            &["openreg.azurecr.io/a", "stranger.azurecr.io/b"][..],
            &["pullpass-open"][..],
        ),
        (
            &["openreg.azurecr.io/a", "openreg.azurecr.io/b"],
            &["pullpass-open"],
        ),
        (&["nginx"], &[]),
    ] {
        let pod: Pod = serde_json::from_value(pod(images, secrets)).unwrap();
        summary.add(
            "apps",
            &findings(&pod, "apps", &registries, Some(&Labels::new()), &scope, None),
        );
    }
    assert_eq!((summary.covered, summary.uncovered, summary.skipped), (1, 1, 0));
    let groups: Vec<_> = summary
        .groups
        .iter()
        .map(|(group, pods)| (group.host.as_str(), group.state.as_str(), *pods))
        .collect();
    assert_eq!(
        groups,
        [
            ("openreg.azurecr.io", "covered", 2),
            ("stranger.azurecr.io", "uncovered", 1)
        ]
    );
}

#[test]
fn states_and_gaps_have_the_words_of_tables_and_metrics() {
    let words = Gap::ALL.map(|gap| (gap.as_str(), CoverageState::Uncovered(gap)));
    let expected = [
        "unattached",
        "forbidden",
        "not-injected",
        "other-secret",
        "other-repository",
        "spelling",
        "other-secret-spelling",
        "mountable-secrets",
    ];
    assert_eq!(words.map(|(word, _)| word), expected);
    for (word, state) in words {
        assert_eq!((state.as_str(), state.reason()), ("uncovered", Some(word)));
    }
    assert_eq!(
        (CoverageState::Covered.as_str(), CoverageState::Covered.reason()),
        ("covered", None)
    );
    let skipped = CoverageState::Skipped(Exemption::PodOptedOut);
    assert_eq!(
        (skipped.as_str(), skipped.reason()),
        ("skipped", Some("pod-opted-out"))
    );
}

#[test]
fn every_gap_has_advice_of_its_own() {
    for (gap, says) in [
        (Gap::Unattached, "attach it"),
        (Gap::Forbidden, "spec.namespaces"),
        (Gap::NotInjected, "kubectl rollout restart"),
        (Gap::OtherSecret, "pullpass does not manage"),
        (Gap::OtherRepository, "spec.credential.repositories"),
        (Gap::Spelling, "lower case"),
    ] {
        assert!(gap.advice().contains(says), "{}", gap.advice());
    }
}

#[test]
fn pods_that_are_left_alone_are_counted() {
    let skipped = CoverageFinding {
        host: "openreg.azurecr.io".into(),
        registry: Some("open"),
        state: CoverageState::Skipped(Exemption::PodOptedOut),
        images: Vec::new(),
    };
    let mut summary = Summary::default();
    for _ in 0..2 {
        summary.add("apps", std::slice::from_ref(&skipped));
    }
    summary.add("apps", &[]);
    assert_eq!((summary.covered, summary.uncovered, summary.skipped), (0, 0, 2));
    assert_eq!(summary.groups.values().copied().collect::<Vec<_>>(), [2]);
}

#[test]
fn a_pod_has_ended_when_it_succeeded_or_failed() {
    for (phase, has_ended) in [
        (Some("Succeeded"), true),
        (Some("Failed"), true),
        (Some("Pending"), false),
        (Some("Running"), false),
        (Some("Unknown"), false),
        (None, false),
    ] {
        let mut pod = pod(&["nginx"], &[]);
        if let Some(phase) = phase {
            pod["status"] = json!({"phase": phase});
        }
        let pod: Pod = serde_json::from_value(pod).unwrap();
        assert_eq!(crate::policy::pod::has_ended(&pod), has_ended, "{phase:?}");
    }
}

//! What is reported about a Pod that runs is what admission says of it.

use std::borrow::Cow;
use std::sync::Arc;

use kube::ResourceExt;
use serde_json::{Value, json};

use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::coverage::{CoverageFinding, CoverageState, Gap, findings};
use crate::policy::decision::{Decision, Outcome, Settings, decide};
use crate::policy::mountable::Mountable;
use crate::policy::mountable::tests::listing;
use crate::policy::pod::{Pod, inject_label};
use crate::policy::request::{ImageField, Operation, PodImage, PodView, ReviewRequest};
use crate::policy::rules::Rule;
use crate::policy::scope::Labels;
use crate::registry::other_cloud::OtherCloud;

const IMAGES: [&str; 13] = [
    "nginx",
    "registry.example/a",
    "not a reference",
    "stranger.azurecr.io/a",
    "openreg.azurecr.io/a",
    "openreg.azurecr.io:443/a",
    "OpenReg.azurecr.io/a",
    "openreg.westeurope.geo.azurecr.io/a",
    "freereg.azurecr.io/a",
    "teams.azurecr.io/a",
    "listed.azurecr.io/team/app",
    "listed.azurecr.io/team/other",
    "shared.azurecr.io/team/app",
];
const SECRETS: [&str; 7] = [
    "pullpass-open",
    "pullpass-team-a",
    "pullpass-team-b",
    "pullpass-listed",
    "pullpass-shared-app",
    "pullpass-shared-other",
    "by-hand",
];

fn registries() -> AttachedRegistries {
    let of_team =
        |team| json!({"loginServer": "teams.azurecr.io", "namespaces": {"matchLabels": {"team": team}}});
    let lists = |host, repository| json!({"loginServer": host, "credential": {"kind": "AccessToken", "repositories": [repository]}});
    [
        ("open", json!({"loginServer": "openreg.azurecr.io"})),
        ("free", json!({"loginServer": "freereg.azurecr.io", "identity": {"anonymous": {}}})),
        ("team-a", of_team("a")),
        ("team-b", of_team("b")),
        ("listed", lists("listed.azurecr.io", "team/app")),
        ("shared-app", lists("shared.azurecr.io", "team/app")),
        ("shared-other", lists("shared.azurecr.io", "team/other")),
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

fn pod(image: &str, secrets: &[&str], label: Option<&str>) -> Pod {
    let secrets: Vec<Value> = secrets.iter().map(|name| json!({"name": name})).collect();
    let labels = label.map(|label| json!({"pullpass.dev/inject": label}));
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "apps", "labels": labels},
        "spec": {"containers": [{"name": "main", "image": image}], "imagePullSecrets": secrets},
    }))
    .unwrap()
}

/// The request that brings the Pod's images.
fn request<'a>(pod: &'a Pod, operation: Operation, mountable: Option<&Arc<Mountable>>) -> ReviewRequest<'a> {
    let images = pod.spec.images().map(|image| PodImage {
        field: ImageField::Containers,
        name: Cow::Borrowed("main"),
        reference: Cow::Borrowed(image),
    });
    ReviewRequest {
        uid: Cow::Borrowed("u"),
        operation,
        is_pod: true,
        sub_resource: None,
        namespace: Cow::Owned(pod.namespace().unwrap()),
        name: Cow::Owned(pod.name_any()),
        dry_run: false,
        user: Cow::Borrowed("jane"),
        is_by_node: false,
        pod: PodView {
            inject_label: inject_label(pod).map(Cow::Borrowed),
            images: images.collect(),
            pull_secrets: Some(pod.spec.pull_secrets().map(Cow::Borrowed).collect()),
            ..PodView::default()
        },
        old_images: Vec::new(),
        picked: None,
        labels_are_read: false,
        mountable: mountable.cloned(),
        account_is_uncached: false,
    }
}

fn agree(finding: Option<&CoverageFinding<'_>>, created: &Decision<'_>, updated: &Decision<'_>) -> bool {
    let rules: Vec<Rule> = updated
        .violations
        .iter()
        .map(|violation| violation.rule)
        .collect();
    let Some(finding) = finding else {
        return rules.is_empty() && [Outcome::NotApplicable, Outcome::Skipped].contains(&updated.outcome);
    };
    let image = &updated.images[0];
    let registry = updated
        .violations
        .first()
        .map_or(image.registry, |violation| violation.registry);
    let is_exempt = updated.outcome == Outcome::Skipped && image.registry.is_none();
    let is_named = image.host.as_ref() == Some(&finding.host) && (is_exempt || registry == finding.registry);
    let warned = !updated.warnings.is_empty();
    is_named
        && match finding.state {
            CoverageState::Uncovered(Gap::Unattached) => rules == [Rule::Unattached],
            CoverageState::Uncovered(Gap::Forbidden) => rules == [Rule::Forbidden],
            CoverageState::Uncovered(Gap::NotInjected | Gap::OtherSecret) => {
                (updated.outcome, created.outcome) == (Outcome::Uncovered, Outcome::Injected)
                    && rules.is_empty()
            }
            CoverageState::Uncovered(Gap::OtherRepository) => {
                updated.outcome == Outcome::AlreadyPresent && warned && rules.is_empty()
            }
            // Before the Pod has the secret, and after.
            CoverageState::Uncovered(Gap::Spelling | Gap::OtherSecretSpelling) => {
                let outcomes = [
                    (Outcome::Uncovered, Outcome::Uncovered),
                    (Outcome::Uncovered, Outcome::Injected),
                    (Outcome::AlreadyPresent, Outcome::AlreadyPresent),
                ];
                outcomes.contains(&(updated.outcome, created.outcome)) && warned && rules.is_empty()
            }
            // It may be given another pull secret, which does not help.
            CoverageState::Uncovered(Gap::MountableSecrets) => {
                let outcomes = [Outcome::Uncovered, Outcome::Injected];
                updated.outcome == Outcome::Uncovered
                    && outcomes.contains(&created.outcome)
                    && !created.warnings.is_empty()
                    && rules.is_empty()
            }
            CoverageState::Covered => {
                [Outcome::AlreadyPresent, Outcome::Skipped].contains(&updated.outcome)
                    && !warned
                    && rules.is_empty()
            }
            CoverageState::Skipped(_) => updated.outcome == Outcome::Skipped && rules.is_empty(),
        }
}

#[test]
fn coverage_says_what_admission_says() {
    assert_agreement(&registries(), &IMAGES, &SECRETS);
}

#[test]
fn coverage_agrees_with_admission_about_bindings() {
    let binding = |name: &str, spec: Value| {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {"name": name, "namespace": "apps", "uid": "u"}, "spec": spec,
        });
        let object = serde_json::from_value(object).unwrap();
        Arc::new(AttachedRegistry::parse_binding(&object, &OtherCloud::default()).unwrap())
    };
    let on = |host: &str| json!({"loginServer": host, "serviceAccountName": "puller"});
    let mut lists = on("ownlisted.azurecr.io");
    lists["credential"] = json!({"kind": "AccessToken", "repositories": ["team/app"]});
    let here = registries().with_bindings(&[
        binding("own", on("ownreg.azurecr.io")),
        binding("open", on("openreg.azurecr.io")),
        binding("team", on("teams.azurecr.io")),
        binding("listed", lists),
    ]);
    let images = [
        "ownreg.azurecr.io/a",
        "OwnReg.azurecr.io:443/a",
        "openreg.westeurope.geo.azurecr.io/a",
        "teams.azurecr.io/a",
        "ownlisted.azurecr.io/team/app",
        "ownlisted.azurecr.io/team/other",
        "stranger.azurecr.io/a",
    ];
    let secrets = [
        "pullpass-binding-own",
        "pullpass-binding-open",
        "pullpass-binding-team",
        "pullpass-binding-listed",
        "pullpass-open",
        "by-hand",
    ];
    assert_agreement(&here, &images, &secrets);
    for (secret, state) in [
        (None, CoverageState::Uncovered(Gap::NotInjected)),
        (Some("by-hand"), CoverageState::Uncovered(Gap::OtherSecret)),
        (Some("pullpass-binding-own"), CoverageState::Covered),
    ] {
        let pod = pod("ownreg.azurecr.io/a", secret.as_slice(), None);
        let labels = Labels::new();
        let findings = findings(
            &pod,
            "apps",
            &here,
            Some(&labels),
            &Settings::default().scope,
            None,
        );
        let states: Vec<_> = findings
            .iter()
            .map(|finding| (finding.registry, finding.state))
            .collect();
        assert_eq!(states, [(Some("apps/own"), state)]);
    }
}

/// What is reported about every Pod with one of the images and some of the pull secrets.
fn assert_agreement(registries: &AttachedRegistries, images: &[&str], all: &[&str]) {
    let settings = Settings::default();
    let labelled = |labels: &[(&str, &str)]| -> Labels {
        let owned = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        owned.collect()
    };
    let namespaces = [
        None,
        Some(labelled(&[])),
        Some(labelled(&[("team", "a")])),
        Some(labelled(&[("team", "a"), ("pullpass.dev/inject", "disabled")])),
    ];
    let accounts = [
        None,
        Some(&[][..]),
        Some(&["pullpass-open", "pullpass-shared-other"]),
    ];
    let accounts = accounts.map(|listed| listed.map(|listed| Arc::new(listing(listed))));
    for image in images {
        for chosen in 0..1_u32 << all.len() {
            let secrets: Vec<_> = (0..all.len())
                .filter(|bit| chosen & (1 << bit) != 0)
                .map(|bit| all[bit])
                .collect();
            let pods = namespaces
                .iter()
                .flat_map(|labels| [(labels, None), (labels, Some("disabled"))])
                .flat_map(|(labels, label)| {
                    accounts
                        .iter()
                        .map(move |account| (labels, label, account.as_ref()))
                });
            for (labels, label, account) in pods {
                let pod = pod(image, &secrets, label);
                let mountable = account.map(AsRef::as_ref);
                let scope = &settings.scope;
                let findings = findings(&pod, "apps", registries, labels.as_ref(), scope, mountable);
                let requests =
                    [Operation::Create, Operation::Update].map(|operation| request(&pod, operation, account));
                let [created, updated] = requests
                    .each_ref()
                    .map(|request| decide(request, registries, labels.as_ref(), &settings));
                assert!(
                    findings.len() < 2 && agree(findings.first(), &created, &updated),
                    "{image} {secrets:?} {labels:?} {label:?} {account:?}: {findings:?} {updated:?} {created:?}"
                );
            }
        }
    }
}

use super::*;
use crate::policy::exemption::Exemption;

const UID: &str = "7b795fb9-09d3-42f4-a494-38864f99ba3c";

fn now() -> Timestamp {
    "2026-11-28T12:00:00.5Z".parse().unwrap()
}

fn workloads(standings: impl IntoIterator<Item = Standing>) -> Workloads {
    let tally = Tally {
        pods: 3,
        waiting: 1,
        images: [
            "shop.azurecr.io/api:1".to_owned(),
            "shop.azurecr.io/web:1".to_owned(),
        ]
        .into(),
        ..Tally::default()
    };
    let standings = standings.into_iter();
    standings.map(|standing| (standing, tally.clone())).collect()
}

/// The objects of these workloads.
fn list(
    standings: impl IntoIterator<Item = Standing>,
    context: &ReportContext,
    uncovered: bool,
) -> Vec<Value> {
    let workloads = workloads(standings);
    let reports = reports(&workloads, context, uncovered);
    reports.map(|report| report.at(now())).collect()
}

fn standing(uid: &str, host: &str, state: CoverageState) -> Standing {
    Standing {
        namespace: "apps".to_owned(),
        workload: Workload {
            kind: "ReplicaSet".to_owned(),
            name: "web-5d4f8c7b9".to_owned(),
            api_version: "apps/v1".to_owned(),
            uid: uid.to_owned(),
            restarts_as: None,
        },
        host: format!("{host}.azurecr.io"),
        registry: Some(host.to_owned()),
        state,
    }
}

#[test]
fn a_workload_has_one_report_that_goes_with_it() {
    let not_injected = CoverageState::Uncovered(Gap::NotInjected);
    let found = [
        standing(UID, "shop", not_injected),
        standing(UID, "base", CoverageState::Covered),
    ];
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8c7b9", "uid": UID});
    let result = |host: &str, rule: &str, result: &str, severity: &str, message: &str| {
        json!({
            "source": "pullpass", "policy": "pull-secrets", "rule": rule, "category": "Image Pull Credentials", "severity": severity,
            "result": result, "scored": true, "message": message, "timestamp": {"seconds": 1_795_867_200, "nanos": 0},
            "properties": {
                "host": format!("{host}.azurecr.io"), "acrRegistry": host, "pullSecret": format!("pullpass-{host}"),
                "pods": "3", "waitingForImage": "1", "images": "shop.azurecr.io/api:1 shop.azurecr.io/web:1",
            },
        })
    };
    let expected = json!([{
            "apiVersion": "openreports.io/v1alpha1", "kind": "Report",
            "metadata": {
                "name": format!("pullpass-{UID}"), "namespace": "apps", "labels": {"app.kubernetes.io/managed-by": "pullpass"},
                "ownerReferences": [owner],
            },
            "source": "pullpass",
            "scope": {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8c7b9", "namespace": "apps", "uid": UID},
            "summary": {"pass": 1, "fail": 1, "warn": 0, "error": 0, "skip": 0},
            "results": [
                result("shop", "not-injected", "fail", "high", Gap::NotInjected.advice()),
                result("base", "covered", "pass", "info", "the Pods name the pull secret that their images need"),
            ],
    }]);
    let context = ReportContext::default();
    let mut reports = json!(list(found.clone(), &context, false));
    for result in reports[0]["results"].as_array_mut().unwrap() {
        let properties = result["properties"].as_object_mut().unwrap();
        assert!(properties.remove("resultID").is_some());
    }
    assert_eq!(reports, expected);
    let only = list(found, &context, true);
    assert_eq!(only[0]["summary"]["pass"], 0);
    assert_eq!(only[0]["results"].as_array().unwrap().len(), 1);
}

#[test]
fn results_follow_the_state_and_the_rules() {
    let strict = Policy {
        unattached: Action::Deny,
        forbidden: Action::Deny,
    };
    let uncovered = CoverageState::Uncovered;
    for (state, by_default, under_deny) in [
        (CoverageState::Covered, "pass", "pass"),
        (CoverageState::Skipped(Exemption::PodOptedOut), "skip", "skip"),
        (uncovered(Gap::NotInjected), "fail", "fail"),
        (uncovered(Gap::OtherRepository), "fail", "fail"),
        (uncovered(Gap::Spelling), "fail", "fail"),
        (uncovered(Gap::MountableSecrets), "fail", "fail"),
        (uncovered(Gap::OtherSecret), "warn", "warn"),
        (uncovered(Gap::OtherSecretSpelling), "warn", "warn"),
        (uncovered(Gap::Unattached), "warn", "fail"),
        (uncovered(Gap::Forbidden), "warn", "fail"),
    ] {
        for (rules, expected) in [(Policy::default(), by_default), (strict, under_deny)] {
            let context = ReportContext {
                rules,
                ..ReportContext::default()
            };
            let list = list([standing(UID, "shop", state)], &context, false);
            let report = &list[0];
            assert_eq!(report["results"][0]["result"], expected, "{state:?}");
            assert_eq!(report["summary"][expected], 1, "{state:?}");
        }
    }
}

#[test]
fn a_registry_without_credentials_has_no_pull_secret() {
    let context = ReportContext {
        anonymous: ["shop".to_owned()].into(),
        ..ReportContext::default()
    };
    let list = list([standing(UID, "shop", CoverageState::Covered)], &context, false);
    let properties = &list[0]["results"][0]["properties"];
    assert_eq!(
        (&properties["acrRegistry"], &properties["pullSecret"]),
        (&json!("shop"), &Value::Null)
    );
}

#[test]
fn a_node_is_in_no_namespace() {
    let mut of_node = standing(UID, "shop", CoverageState::Skipped(Exemption::MirrorPod));
    of_node.workload.kind = "Node".to_owned();
    let list = list([of_node], &ReportContext::default(), false);
    assert_eq!(list[0]["scope"].get("namespace"), None);
    assert_eq!(list[0]["metadata"]["namespace"], "apps");
}

#[test]
fn a_report_keeps_the_worst_results_and_counts_all() {
    let covered = (0..150).map(|number| standing(UID, &format!("r{number:03}"), CoverageState::Covered));
    let worst = standing(UID, "zlast", CoverageState::Uncovered(Gap::NotInjected));
    let list = list(covered.chain([worst]), &ReportContext::default(), false);
    let report = &list[0];
    assert_eq!(report["results"].as_array().unwrap().len(), MAX_RESULTS);
    assert_eq!(report["results"][0]["result"], "fail");
    assert_eq!(
        (&report["summary"]["pass"], &report["summary"]["fail"]),
        (&json!(150), &json!(1))
    );
    assert_eq!(report["configuration"], json!({"limits": {"maxResults": 100}}));
}

#[test]
fn each_result_has_an_id_of_its_own() {
    let mut elsewhere = standing(UID, "shop", CoverageState::Covered);
    elsewhere.namespace = "other".to_owned();
    let mut shared = standing(UID, "shop", CoverageState::Covered);
    shared.registry = Some("team".to_owned());
    let all = [
        standing(UID, "shop", CoverageState::Covered),
        shared,
        elsewhere,
        standing(UID, "base", CoverageState::Covered),
        standing(UID, "base", CoverageState::Uncovered(Gap::Unattached)),
        standing("other", "shop", CoverageState::Covered),
    ];
    let ids = |rules| -> BTreeSet<String> {
        let context = ReportContext {
            rules,
            ..ReportContext::default()
        };
        let reports = list(all.clone(), &context, false);
        let results = reports
            .iter()
            .flat_map(|report| report["results"].as_array().unwrap());
        let ids = results.map(|result| result["properties"]["resultID"].as_str().unwrap().to_owned());
        ids.collect()
    };
    let first = ids(Policy::default());
    assert_eq!(first.len(), all.len());
    assert_eq!(ids(Policy::default()), first);
    // What was a warning is a failure now, and told as a new one.
    let strict = Policy {
        unattached: Action::Deny,
        ..Policy::default()
    };
    assert_eq!(ids(strict).difference(&first).count(), 1);
}

#[test]
fn a_uid_in_two_namespaces_gives_a_report_in_each() {
    let mut elsewhere = standing(UID, "shop", CoverageState::Covered);
    elsewhere.namespace = "other".to_owned();
    let here = standing(UID, "shop", CoverageState::Covered);
    let list = list([elsewhere, here], &ReportContext::default(), false);
    let namespaces: Vec<_> = list.iter().map(|item| &item["metadata"]["namespace"]).collect();
    assert_eq!(namespaces, ["apps", "other"]);
}

#[test]
fn a_fingerprint_tells_what_changed_and_not_when() {
    let fingerprint = |state| {
        let (workloads, context) = (
            workloads([standing(UID, "shop", state)]),
            ReportContext::default(),
        );
        reports(&workloads, &context, false)
            .next()
            .map(|report| report.fingerprint())
    };
    let covered = fingerprint(CoverageState::Covered);
    assert_eq!(covered, fingerprint(CoverageState::Covered));
    assert_ne!(covered, fingerprint(CoverageState::Uncovered(Gap::NotInjected)));
}

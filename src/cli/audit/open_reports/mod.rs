//! `pullpass audit --output openreports`: the findings as Reports of `openreports.io/v1alpha1`, which tools that show the
//! results of policies read. A pure function of the findings.
//!
//! There is one Report for each workload: named by its UID, owned by it, and so deleted with it. The name has a prefix, since
//! other tools name their own Reports of the workload by the bare UID.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::report::Findings;
use super::workloads::{Standing, Tally, Workload};
use crate::api::names::{MANAGED_BY_LABEL, MANAGER, pull_secret_of};
use crate::policy::coverage::{CoverageState, Gap};
use crate::policy::rules::{Action, Policy, Rule};

/// What all results are of.
const POLICY: &str = "pull-secrets";
/// Policies are filtered by it.
const CATEGORY: &str = "Image Pull Credentials";
/// How many results a Report has, so that it fits an object of the API server.
const MAX_RESULTS: usize = 100;

/// How a result is counted, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Fail,
    Warn,
    Skip,
    Pass,
}

impl Outcome {
    fn of(state: CoverageState, rules: Policy) -> Self {
        let by_rule = |rule| match rules.action(rule) {
            Action::Deny => Self::Fail,
            Action::Warn | Action::Allow => Self::Warn,
        };
        match state {
            CoverageState::Covered => Self::Pass,
            CoverageState::Skipped(_) => Self::Skip,
            CoverageState::Uncovered(gap) => match gap {
                Gap::Unattached => by_rule(Rule::Unattached),
                Gap::Forbidden => by_rule(Rule::Forbidden),
                Gap::NotInjected | Gap::OtherRepository | Gap::Spelling | Gap::MountableSecrets => Self::Fail,
                Gap::OtherSecret | Gap::OtherSecretSpelling => Self::Warn,
            },
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Warn => "warn",
            Self::Skip => "skip",
            Self::Pass => "pass",
        }
    }

    fn severity(self) -> &'static str {
        match self {
            Self::Fail => "high",
            Self::Warn => "medium",
            Self::Skip | Self::Pass => "info",
        }
    }
}

/// A List of Reports. Without what is covered or left alone, where only the uncovered are asked for.
pub(super) fn list(findings: &Findings, now: Timestamp, uncovered: bool) -> Value {
    // A UID is taken from an owner reference, which a Pod's author writes: the namespace keeps Reports apart.
    let mut workloads: BTreeMap<(&str, &str), Vec<(&Standing, &Tally)>> = BTreeMap::new();
    for (standing, tally) in &findings.workloads {
        if !uncovered || matches!(standing.state, CoverageState::Uncovered(_)) {
            let key = (standing.namespace.as_str(), standing.workload.uid.as_str());
            workloads.entry(key).or_default().push((standing, tally));
        }
    }
    let reports = workloads.into_values().filter_map(|standings| {
        let (first, _) = standings.first()?;
        Some(report(
            &first.namespace,
            &first.workload,
            &standings,
            findings,
            now,
        ))
    });
    json!({"apiVersion": "v1", "kind": "List", "items": reports.collect::<Vec<_>>()})
}

fn report(
    namespace: &str,
    workload: &Workload,
    standings: &[(&Standing, &Tally)],
    findings: &Findings,
    now: Timestamp,
) -> Value {
    let mut outcomes: Vec<_> = standings
        .iter()
        .map(|(standing, tally)| (Outcome::of(standing.state, findings.rules), *standing, *tally))
        .collect();
    outcomes.sort_by_key(|(outcome, ..)| *outcome);
    let number = |wanted| outcomes.iter().filter(|(outcome, ..)| *outcome == wanted).count();
    let results: Vec<_> = outcomes
        .iter()
        .take(MAX_RESULTS)
        .map(|(outcome, standing, tally)| result(*outcome, standing, tally, findings, now))
        .collect();
    let Workload {
        api_version,
        kind,
        name,
        uid,
        ..
    } = workload;
    let owner = json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid});
    let mut report = json!({
        "apiVersion": "openreports.io/v1alpha1",
        "kind": "Report",
        "metadata": {
            "name": format!("{MANAGER}-{uid}"),
            "namespace": namespace,
            "labels": {MANAGED_BY_LABEL: MANAGER},
            "ownerReferences": [owner],
        },
        "source": MANAGER,
        "scope": owner,
        "summary": {
            "pass": number(Outcome::Pass), "fail": number(Outcome::Fail), "warn": number(Outcome::Warn), "error": 0,
            "skip": number(Outcome::Skip),
        },
        "results": results,
    });
    // A static Pod's controller is its Node, which is in no namespace.
    if let Some(scope) = report
        .pointer_mut("/scope")
        .and_then(Value::as_object_mut)
        .filter(|_| kind != "Node")
    {
        scope.insert("namespace".to_owned(), json!(namespace));
    }
    if let Some(fields) = report.as_object_mut().filter(|_| outcomes.len() > MAX_RESULTS) {
        fields.insert(
            "configuration".to_owned(),
            json!({"limits": {"maxResults": MAX_RESULTS}}),
        );
    }
    report
}

fn result(
    outcome: Outcome,
    standing: &Standing,
    tally: &Tally,
    findings: &Findings,
    now: Timestamp,
) -> Value {
    let (rule, message) = match standing.state {
        CoverageState::Covered => ("covered", "the Pods name the pull secret that their images need"),
        CoverageState::Skipped(exemption) => (exemption.as_str(), exemption.sentence()),
        CoverageState::Uncovered(gap) => (gap.as_str(), gap.advice()),
    };
    let images: Vec<_> = tally.images.iter().map(String::as_str).collect();
    let mut properties = BTreeMap::from([
        ("host", standing.host.clone()),
        ("images", images.join(" ")),
        ("pods", tally.pods.to_string()),
        ("waitingForImage", tally.waiting.to_string()),
    ]);
    if let Some(registry) = &standing.registry {
        properties.insert("acrRegistry", registry.clone());
        let mut anonymous = findings.registries.iter().filter(|row| row.is_anonymous);
        if !anonymous.any(|row| row.name == *registry) {
            properties.insert("pullSecret", pull_secret_of(registry));
        }
    }
    json!({
        "policy": POLICY,
        "rule": rule,
        "category": CATEGORY,
        "severity": outcome.severity(),
        "result": outcome.as_str(),
        "scored": true,
        "message": message,
        "timestamp": {"seconds": now.as_second(), "nanos": 0},
        "properties": properties,
    })
}

#[cfg(test)]
mod tests;

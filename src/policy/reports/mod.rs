//! The state of workloads, as Reports of `openreports.io/v1alpha1`, for tools that show the results of policies. A
//! pure function of the workloads.
//!
//! There is one Report for each workload: named by its UID and owned by it, so that it is deleted with the workload.
//! The name has a prefix, because other tools name their own Reports of the workload by the bare UID.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::names::{MANAGED_BY_LABEL, MANAGER, REPORT_PREFIX, pull_secret_of};
use crate::policy::coverage::{CoverageState, Gap};
use crate::policy::fingerprint;
use crate::policy::rules::{Action, Policy, Rule};
use crate::policy::workloads::{Standing, Tally, Workload, Workloads};

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

/// What Reports depend on beside the workloads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportContext {
    /// The action for images without an attached registry.
    pub rules: Policy,
    /// The registries that have no pull secrets, by the names of what attaches them.
    pub anonymous: BTreeSet<String>,
}

/// A Report, without the time at which it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    namespace: String,
    name: String,
    object: Value,
}

impl Report {
    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Identifies its content: a Report with the same content is not written again.
    pub fn fingerprint(&self) -> String {
        fingerprint::digest_of(&self.object)
    }

    /// The object, as it is written now.
    pub fn at(&self, now: Timestamp) -> Value {
        let mut object = self.object.clone();
        let results = object.get_mut("results").and_then(Value::as_array_mut);
        for result in results.into_iter().flatten().filter_map(Value::as_object_mut) {
            let timestamp = json!({"seconds": now.as_second(), "nanos": 0});
            result.insert("timestamp".to_owned(), timestamp);
        }
        object
    }
}

/// The Reports of workloads, one after the other; only those of uncovered Pods, if that is asked for.
pub fn reports<'a>(
    workloads: &'a Workloads,
    context: &'a ReportContext,
    uncovered: bool,
) -> impl Iterator<Item = Report> + 'a {
    // A UID is taken from an owner reference, which a Pod's author writes: the namespace keeps Reports apart.
    let mut owners: BTreeMap<(&str, &str), Vec<(&Standing, &Tally)>> = BTreeMap::new();
    for (standing, tally) in workloads {
        if !uncovered || matches!(standing.state, CoverageState::Uncovered(_)) {
            let key = (standing.namespace.as_str(), standing.workload.uid.as_str());
            owners.entry(key).or_default().push((standing, tally));
        }
    }
    owners.into_values().filter_map(|standings| {
        let (first, _) = standings.first()?;
        Some(report(&first.namespace, &first.workload, &standings, context))
    })
}

fn report(
    namespace: &str,
    workload: &Workload,
    standings: &[(&Standing, &Tally)],
    context: &ReportContext,
) -> Report {
    let mut outcomes: Vec<_> = standings
        .iter()
        .map(|(standing, tally)| (Outcome::of(standing.state, context.rules), *standing, *tally))
        .collect();
    outcomes.sort_by_key(|(outcome, ..)| *outcome);
    let number = |wanted| outcomes.iter().filter(|(outcome, ..)| *outcome == wanted).count();
    let results: Vec<_> = outcomes
        .iter()
        .take(MAX_RESULTS)
        .map(|(outcome, standing, tally)| result(*outcome, standing, tally, context))
        .collect();
    let Workload {
        api_version,
        kind,
        name,
        uid,
        ..
    } = workload;
    let report_name = format!("{REPORT_PREFIX}{uid}");
    let owner = json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid});
    let mut report = json!({
        "apiVersion": "openreports.io/v1alpha1",
        "kind": "Report",
        "metadata": {
            "name": report_name,
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
    Report {
        namespace: namespace.to_owned(),
        name: report_name,
        object: report,
    }
}

fn result(outcome: Outcome, standing: &Standing, tally: &Tally, context: &ReportContext) -> Value {
    let (rule, message) = match standing.state {
        CoverageState::Covered => ("covered", "the Pods name the pull secret that their images need"),
        CoverageState::Skipped(exemption) => (exemption.as_str(), exemption.sentence()),
        CoverageState::Uncovered(gap) => (gap.as_str(), gap.advice()),
    };
    // By it Policy Reporter tells results apart; without it, by what two registries of a workload have in common.
    let id = json!([
        standing.namespace,
        standing.workload.uid,
        standing.host,
        standing.registry,
        rule,
        outcome.as_str()
    ]);
    let images: Vec<_> = tally.images.iter().map(String::as_str).collect();
    let mut properties = BTreeMap::from([
        ("host", standing.host.clone()),
        ("images", images.join(" ")),
        ("pods", tally.pods.to_string()),
        ("resultID", fingerprint::digest_of(&id)),
        ("waitingForImage", tally.waiting.to_string()),
    ]);
    if let Some(registry) = &standing.registry {
        properties.insert("acrRegistry", registry.clone());
        if !context.anonymous.contains(registry) {
            properties.insert("pullSecret", pull_secret_of(registry));
        }
    }
    json!({
        // Policy Reporter reads it here, and not of the Report.
        "source": MANAGER,
        "policy": POLICY,
        "rule": rule,
        "category": CATEGORY,
        "severity": outcome.severity(),
        "result": outcome.as_str(),
        "scored": true,
        "message": message,
        "properties": properties,
    })
}

#[cfg(test)]
mod tests;

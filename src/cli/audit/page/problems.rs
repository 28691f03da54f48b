//! What is wrong: everything that the page tells somebody to do something about, the most urgent first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::remedies::{every_pod, of_gap, of_status};
use super::text::{count, sentence};
use crate::api::condition::{CUSTOM_DOMAINS, DISTRIBUTED, PULL_AUTHORIZED, READY};
use crate::api::names::{WEBHOOK_CONFIGURATION, binding_of_key};
use crate::base::abridged::abridged;
use crate::base::remedy::{Remedy, run};
use crate::cli::audit::bindings::{described, object};
use crate::cli::audit::registries::RegistryRow;
use crate::cli::audit::report::Findings;
use crate::policy::coverage::{CoverageState, Gap};
use crate::policy::workloads::{Standing, Tally};

/// How many names a fact lists.
const MAX_NAMES: usize = 8;
/// How many hosts that are not attached are problems of their own. Anybody who creates Pods names any number of hosts, which
/// must not drive what else is wrong off the list.
pub(super) const MAX_UNATTACHED: usize = 10;

/// Workloads that are uncovered alike.
type Workloads<'a> = Vec<(&'a Standing, &'a Tally)>;

/// Something that is wrong.
#[derive(Debug, PartialEq)]
pub(super) struct Problem {
    /// Whether Pods can't pull or will not get pull secrets for it, now or soon.
    pub(super) is_urgent: bool,
    pub(super) title: String,
    /// Since when it is so; of Pods, since when the oldest of them is there.
    pub(super) since: Option<Timestamp>,
    pub(super) facts: Vec<String>,
    pub(super) remedies: Vec<Remedy>,
}

/// Everything that is wrong.
pub(super) fn problems(findings: &Findings, now: Timestamp) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !findings.is_installed {
        problems.push(Problem {
            is_urgent: true,
            title: "The webhook is not installed".to_owned(),
            since: None,
            facts: vec![format!(
                "There is no MutatingWebhookConfiguration {WEBHOOK_CONFIGURATION}: new Pods get no pull secrets."
            )],
            remedies: vec![run("see what the installation lacks", "pullpass check")],
        });
    }
    problems.extend(findings.registries.iter().flat_map(|row| of_registry(row, now)));
    problems.extend(of_gaps(findings));
    problems.extend((!findings.policies.disagreements.is_empty()).then(|| {
        Problem {
            is_urgent: false,
            title: "Settings of the admission differ".to_owned(),
            since: None,
            facts: findings
                .policies
                .disagreements
                .iter()
                .map(|disagreement| sentence(&disagreement.text))
                .collect(),
            remedies: vec![run("see how the installation is set up", "pullpass check")],
        }
    }));
    problems.sort_by_key(|problem| !problem.is_urgent);
    problems
}

fn of_registry(row: &RegistryRow, now: Timestamp) -> Vec<Problem> {
    let name = &row.name;
    let what = described(name);
    let mut problems = Vec::new();
    let ready = row.unmet(READY);
    if let (None, Some(invalid)) = (ready, &row.invalid) {
        problems.push(Problem {
            is_urgent: true,
            title: format!("{what} is not ready"),
            since: None,
            facts: vec![sentence(invalid)],
            remedies: vec![run("correct its spec", format!("kubectl edit {}", object(name)))],
        });
    }
    problems.extend(ready.map(|condition| {
        let mut problem = of_condition(condition, format!("{what} is not ready"), true);
        let checked = match binding_of_key(name) {
            Some((namespace, name)) => format!("{name} --namespace {namespace}"),
            None => name.clone(),
        };
        problem.remedies.push(run(
            "try its identity step by step",
            format!("pullpass check {checked}"),
        ));
        problem
    }));
    for (kind, title) in [
        (DISTRIBUTED, format!("{what} lacks some of its pull secrets")),
        (
            PULL_AUTHORIZED,
            format!("{what} is not authorized to pull images that Pods name"),
        ),
        (
            CUSTOM_DOMAINS,
            format!("The webhook is not asked about all hosts of {what}"),
        ),
    ] {
        // What is not known yet is told by the table of registries, as far as it matters.
        let unmet = row.unmet(kind).filter(|condition| condition.status == "False");
        problems.extend(unmet.map(|condition| of_condition(condition, title, false)));
    }
    // One that is not ready says why it has no other.
    let expired = row.expires_at.filter(|at| *at <= now && ready.is_none());
    problems.extend(expired.map(|at| Problem {
        is_urgent: true,
        title: format!("The credential of {what} has expired"),
        since: Some(at),
        facts: vec![
            "Pods can't pull with it. A leading replica would have replaced it: check that pullpass runs and has a leader.".to_owned(),
        ],
        remedies: vec![run("check whether pullpass runs", "pullpass check")],
    }));
    problems
}

fn of_condition(condition: &Condition, title: String, is_urgent: bool) -> Problem {
    let (cause, remedies) = of_status(&condition.message);
    Problem {
        is_urgent,
        title,
        since: Some(condition.last_transition_time.0),
        facts: vec![format!("{}: {cause}", condition.reason)],
        remedies,
    }
}

/// Pods that are uncovered for the same reason of the same registry.
fn of_gaps(findings: &Findings) -> Vec<Problem> {
    type Key<'a> = (Gap, &'a str, Option<&'a str>);
    let mut groups: BTreeMap<Key<'_>, Workloads<'_>> = BTreeMap::new();
    for (standing, tally) in &findings.workloads {
        if let CoverageState::Uncovered(gap) = standing.state {
            let key = (gap, standing.host.as_str(), standing.registry.as_deref());
            groups.entry(key).or_default().push((standing, tally));
        }
    }
    let (mut unattached, others): (Vec<_>, Vec<_>) = groups
        .into_iter()
        .partition(|((gap, ..), _)| *gap == Gap::Unattached);
    // First those that most namespaces use: the owner of one namespace can't put an invented host before them.
    unattached.sort_by_key(|(_, workloads)| Reverse((namespaces(workloads).len(), pods(workloads))));
    let more = unattached.split_off(unattached.len().min(MAX_UNATTACHED));
    let more: BTreeMap<&str, Workloads<'_>> = more
        .into_iter()
        .map(|((_, host, _), workloads)| (host, workloads))
        .collect();
    unattached
        .into_iter()
        .chain(others)
        .map(|((gap, host, registry), workloads)| of_group(gap, host, registry, &workloads))
        .chain((!more.is_empty()).then(|| of_more_unattached(&more)))
        .collect()
}

/// All further hosts that are not attached.
fn of_more_unattached(hosts: &BTreeMap<&str, Workloads<'_>>) -> Problem {
    let workloads: Workloads<'_> = hosts.values().flatten().copied().collect();
    let mut facts = vec![format!("Hosts: {}.", abridged(hosts.keys(), MAX_NAMES))];
    facts.extend(facts_of(Gap::Unattached, &workloads));
    facts.push("A Pod with images of several of them counts for each.".to_owned());
    Problem {
        is_urgent: waiting(&workloads) > 0,
        title: count(
            hosts.len() as u64,
            "more registry is not attached",
            "more registries are not attached",
        ),
        since: since(&workloads),
        facts,
        remedies: vec![every_pod()],
    }
}

fn pods(workloads: &[(&Standing, &Tally)]) -> u64 {
    workloads.iter().map(|(_, tally)| tally.pods).sum()
}

fn waiting(workloads: &[(&Standing, &Tally)]) -> u64 {
    workloads.iter().map(|(_, tally)| tally.waiting).sum()
}

fn since(workloads: &[(&Standing, &Tally)]) -> Option<Timestamp> {
    workloads.iter().filter_map(|(_, tally)| tally.since).min()
}

fn namespaces<'a>(workloads: &[(&'a Standing, &Tally)]) -> BTreeSet<&'a str> {
    let namespaces = workloads.iter().map(|(standing, _)| standing.namespace.as_str());
    namespaces.collect()
}

fn facts_of(gap: Gap, workloads: &[(&Standing, &Tally)]) -> Vec<String> {
    let waiting = waiting(workloads);
    let namespaces = namespaces(workloads);
    let in_namespaces = if namespaces.len() == 1 {
        "in namespace"
    } else {
        "in namespaces"
    };
    let mut facts = vec![
        sentence(gap.advice()),
        format!(
            "{} {in_namespaces} {}.",
            count(pods(workloads), "Pod", "Pods"),
            abridged(&namespaces, MAX_NAMES)
        ),
    ];
    if waiting > 0 {
        facts.push(format!(
            "{} for an image now that could not be pulled.",
            count(waiting, "Pod waits", "Pods wait")
        ));
    }
    if matches!(
        gap,
        Gap::OtherRepository | Gap::Spelling | Gap::OtherSecretSpelling
    ) {
        let images: BTreeSet<_> = workloads.iter().flat_map(|(_, tally)| &tally.images).collect();
        facts.push(format!("Images: {}.", abridged(&images, MAX_NAMES)));
    }
    facts
}

fn of_group(gap: Gap, host: &str, registry: Option<&str>, workloads: &[(&Standing, &Tally)]) -> Problem {
    let registry_or_host = registry.unwrap_or(host);
    Problem {
        is_urgent: waiting(workloads) > 0,
        title: match gap {
            Gap::Unattached => format!("{host} is not attached"),
            Gap::Forbidden => format!("AcrRegistry {registry_or_host} is not for all namespaces that use it"),
            Gap::NotInjected => format!("Pods lack the pull secret of {registry_or_host}"),
            Gap::OtherSecret => {
                format!("Pods pull from {host} with pull secrets that pullpass does not manage")
            }
            Gap::OtherRepository => {
                format!("The credential of {registry_or_host} is not for all repositories that Pods name")
            }
            Gap::Spelling | Gap::OtherSecretSpelling => format!("Pods write {host} with upper-case letters"),
            Gap::MountableSecrets => {
                format!("ServiceAccounts do not let their Pods name the pull secret of {registry_or_host}")
            }
        },
        since: since(workloads),
        facts: facts_of(gap, workloads),
        remedies: of_gap(gap, host, registry, workloads),
    }
}

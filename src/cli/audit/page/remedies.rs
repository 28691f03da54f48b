//! What to do about what the page tells, as commands that can be copied.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::advice::parted;
use crate::base::abridged::abridged;
use crate::base::remedy::{Remedy, run, say};
use crate::cli::audit::bindings::object;
use crate::policy::coverage::Gap;
use crate::policy::workloads::{Standing, Tally};

/// How many namespaces have commands of their own.
pub(super) const MAX_NAMESPACES: usize = 10;
/// How many workloads a command names.
const MAX_WORKLOADS: usize = 20;
/// How many bytes their names have at most, so that a terminal takes the command as one line. One name is always shorter.
const MAX_NAMES: usize = 2000;

/// What a status advises: a cause, and what to do about it. The commands in the advice become commands again.
pub(super) fn of_status(message: &str) -> (&str, Vec<Remedy>) {
    let (cause, advice) = parted(message);
    (cause, advice.map(parsed).unwrap_or_default())
}

/// The reverse of how remedies are joined.
fn parsed(advice: &str) -> Vec<Remedy> {
    let mut remedies = Vec::new();
    let mut parts = advice.split('`');
    while let Some(texts) = parts.next() {
        let command = parts.next();
        let mut texts: Vec<_> = texts
            .split("; ")
            .map(|text| text.trim().trim_end_matches(':'))
            .collect();
        let last = command.and_then(|command| Some(run(texts.pop()?, command)));
        remedies.extend(texts.into_iter().filter(|text| !text.is_empty()).map(say));
        remedies.extend(last);
    }
    remedies
}

/// What to do about Pods that are uncovered for a reason.
pub(super) fn of_gap(
    gap: Gap,
    host: &str,
    registry: Option<&str>,
    workloads: &[(&Standing, &Tally)],
) -> Vec<Remedy> {
    let edit = || registry.map(|name| format!("kubectl edit {}", object(name)));
    match gap {
        Gap::Unattached => vec![run(
            "attach it, for example as the managed identity of the nodes; pullpass attach --help lists the other identities",
            format!("pullpass attach {host} --managed-identity"),
        )],
        Gap::Forbidden => {
            let first = workloads.first().map(|(standing, _)| standing.namespace.as_str());
            let labels = first.map(|namespace| {
                run(
                    "compare the namespace's labels with spec.namespaces",
                    format!("kubectl get namespace {namespace} --show-labels"),
                )
            });
            let edit = edit().map(|command| run("change spec.namespaces, or label the namespace", command));
            labels.into_iter().chain(edit).collect()
        }
        Gap::NotInjected | Gap::OtherSecret => restarts(workloads),
        Gap::OtherRepository => edit()
            .map(|command| run("add the repository to spec.credential.repositories", command))
            .into_iter()
            .collect(),
        Gap::Spelling | Gap::OtherSecretSpelling => edits(workloads, host),
        Gap::MountableSecrets => listings(workloads),
    }
}

/// Workloads by namespace.
fn by_namespace<'a>(workloads: &[(&'a Standing, &Tally)]) -> BTreeMap<&'a str, Vec<&'a Standing>> {
    let mut namespaces: BTreeMap<&str, Vec<&Standing>> = BTreeMap::new();
    for (standing, _) in workloads {
        namespaces.entry(&standing.namespace).or_default().push(standing);
    }
    namespaces
}

/// Shows which `ServiceAccounts` enforce mountable secrets.
fn listings(workloads: &[(&Standing, &Tally)]) -> Vec<Remedy> {
    let namespaces = by_namespace(workloads).into_keys().take(MAX_NAMESPACES);
    let shown = namespaces.map(|namespace| {
        run(
            format!(
                "find the ServiceAccounts that enforce mountable secrets in namespace {namespace}, and add the pull secret \
                 to their imagePullSecrets"
            ),
            format!("kubectl --namespace {namespace} get serviceaccounts --output yaml"),
        )
    });
    shown.collect()
}

fn restarts(workloads: &[(&Standing, &Tally)]) -> Vec<Remedy> {
    let (mut remedies, mut others) = (Vec::new(), Vec::new());
    let mut is_abridged = false;
    for (namespace, standings) in by_namespace(workloads) {
        let names: BTreeSet<_> = standings
            .iter()
            .filter_map(|standing| standing.workload.restarts_as.as_deref())
            .collect();
        let rest = standings.iter().map(|standing| &standing.workload);
        let rest = rest.filter(|workload| workload.restarts_as.is_none());
        others.extend(rest.map(|workload| format!("{} {namespace}/{}", workload.kind, workload.name)));
        if names.is_empty() {
            continue;
        }
        if remedies.len() == MAX_NAMESPACES {
            is_abridged = true;
            continue;
        }
        let listed = first(&names);
        let text = match names.len().saturating_sub(listed.len()) {
            0 => format!("restart what runs in namespace {namespace}"),
            more => {
                is_abridged = true;
                format!(
                    "restart the first workloads in namespace {namespace} ({more} more are left out here)"
                )
            }
        };
        let command = format!(
            "kubectl --namespace {namespace} rollout restart {}",
            listed.join(" ")
        );
        remedies.push(run(text, command));
    }
    if !others.is_empty() {
        is_abridged |= others.len() > MAX_NAMESPACES;
        let names = abridged(&others, MAX_NAMESPACES);
        remedies.push(say(format!(
            "kubectl can't restart these, create their Pods again: {names}"
        )));
    }
    remedies.extend(is_abridged.then(every_pod));
    remedies
}

/// The names that fit into a command.
fn first<'a>(names: &BTreeSet<&'a str>) -> Vec<&'a str> {
    let mut length = 0;
    let fits = |name: &&str| {
        length += name.len() + 1;
        length <= MAX_NAMES
    };
    names
        .iter()
        .copied()
        .take(MAX_WORKLOADS)
        .take_while(fits)
        .collect()
}

pub(super) fn every_pod() -> Remedy {
    run(
        "see all Pods, including those that are left out here",
        "pullpass audit --uncovered --output wide",
    )
}

fn edits(workloads: &[(&Standing, &Tally)], host: &str) -> Vec<Remedy> {
    let mut remedies: Vec<_> = workloads
        .iter()
        .filter_map(|(standing, _)| {
            let workload = standing.workload.restarts_as.as_deref()?;
            let namespace = &standing.namespace;
            Some(run(
                format!("write {host} in the images of {workload}, and in its manifest"),
                format!("kubectl --namespace {namespace} edit {workload}"),
            ))
        })
        .take(MAX_NAMESPACES)
        .collect();
    if remedies.len() < workloads.len() {
        remedies.push(every_pod());
    }
    remedies
}

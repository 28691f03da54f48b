//! The page's tables: registries with their credentials, and namespaces with their Pods.

use std::collections::BTreeMap;

use jiff::Timestamp;
use maud::{Markup, html};

use super::Subject;
use super::text::{count, data, grouped, or_dash, time};
use crate::api::condition::{PULL_AUTHORIZED, READY};
use crate::cli::audit::registries::RegistryRow;
use crate::cli::audit::report::Findings;
use crate::policy::coverage::{CoverageState, Group};
use crate::policy::exemption::Exemption;

/// How many rows a table has, so that a browser shows and searches it without a pause.
pub(super) const MAX_ROWS: usize = 2000;

/// Pods of a registry, by coverage state.
#[derive(Default, Clone, Copy)]
struct Pods {
    covered: u64,
    uncovered: u64,
}

pub(super) fn registries(findings: &Findings, subject: &Subject) -> Markup {
    let now = subject.now;
    let mut pods: BTreeMap<&str, Pods> = BTreeMap::new();
    for (group, number) in &findings.summary.groups {
        let of_registry = pods
            .entry(group.registry.as_deref().unwrap_or_default())
            .or_default();
        match group.state {
            CoverageState::Covered => of_registry.covered += number,
            CoverageState::Uncovered(_) => of_registry.uncovered += number,
            CoverageState::Skipped(_) => {}
        }
    }
    // Those that are not well come first: they are not what is left out.
    let mut rows: Vec<&RegistryRow> = findings.registries.iter().collect();
    rows.sort_by_key(|row| row.condition(READY).is_some_and(|ready| ready.status == "True"));
    let left_out = rows.len().saturating_sub(MAX_ROWS);
    rows.truncate(MAX_ROWS);
    html! {
        section aria-labelledby="registries" {
            h2 #registries tabindex="-1" { "Registries" }
            @if rows.is_empty() {
                p { "No registry is attached." }
            } @else {
                div.scroll role="region" aria-labelledby="registries" tabindex="0" {
                    table data-sortable {
                        caption { "Attached registries, and when their credentials expire. pullpass replaces a credential before it expires." }
                        thead { tr {
                            th scope="col" { "AcrRegistry" }
                            th scope="col" { "Login server" }
                            th scope="col" { "Ready" }
                            th scope="col" { "May pull" }
                            th scope="col" { "Credential expires" }
                            th.figure scope="col" { "Namespaces" }
                            th.figure scope="col" { "Covered Pods" }
                            th.figure scope="col" { "Uncovered Pods" }
                        } }
                        tbody {
                            @for row in rows {
                                (registry(row, pods.get(row.name.as_str()).copied().unwrap_or_default(), now))
                            }
                        }
                    }
                }
                (left_out_rows(left_out, "ready registry is", "ready registries are", &subject.command("kubectl get acrregistries")))
            }
        }
    }
}

fn registry(row: &RegistryRow, pods: Pods, now: Timestamp) -> Markup {
    let pods_of = |number: u64| html! { td.figure data-value=(number) { (grouped(number)) } };
    let is_expired = row.expires_at.is_some_and(|at| at <= now);
    html! {
        tr {
            th scope="row" { (data(&row.name)) }
            td { (or_dash(row.login_server.as_deref())) }
            td { (condition(row, READY)) }
            td { (condition(row, PULL_AUTHORIZED)) }
            @match row.expires_at {
                Some(at) => td data-value=(at.as_second()) {
                    @if is_expired { span.state.bad { "expired" } " " }
                    (time(at, now))
                },
                None if row.is_anonymous => td { "needs none" },
                None => td { "not known" },
            }
            td.figure data-value=(row.served) {
                (row.served)
                @if row.failed > 0 { " " span.state.bad { (row.failed) " failed" } }
            }
            (pods_of(pods.covered)) (pods_of(pods.uncovered))
        }
    }
}

fn condition(row: &RegistryRow, kind: &str) -> Markup {
    html! {
        @match row.condition(kind) {
            None => (or_dash(None)),
            Some(condition) if condition.status == "True" => span.state.good { "yes" },
            Some(condition) if condition.status == "False" => { span.state.bad { "no" } " " (data(&condition.reason)) },
            Some(condition) => { span.state.skipped { "not known" } " " (data(&condition.reason)) },
        }
    }
}

pub(super) fn namespaces(findings: &Findings, subject: &Subject) -> Markup {
    let uncovered = subject.uncovered;
    let is_wanted = |group: &Group| !uncovered || matches!(group.state, CoverageState::Uncovered(_));
    let mut rows: Vec<(&Group, u64)> = findings
        .summary
        .groups
        .iter()
        .filter(|(group, _)| is_wanted(group))
        .map(|(group, pods)| (group, *pods))
        .collect();
    // The sort is stable: within each state they stay by namespace.
    rows.sort_by_key(|(group, _)| {
        group.state.as_str() != CoverageState::Uncovered(crate::policy::coverage::Gap::Unattached).as_str()
    });
    let left_out = rows.split_off(rows.len().min(MAX_ROWS));
    html! {
        section aria-labelledby="namespaces" {
            h2 #namespaces tabindex="-1" { "Namespaces" }
            (selected(findings, subject))
            @if rows.is_empty() {
                p { @if uncovered { "No Pod is uncovered." } @else { "No running Pod has an image on Azure Container Registry." } }
            } @else {
                form.search role="search" hidden {
                    label for="search" { "Search namespaces, registries and reasons" }
                    input #search type="search" autocomplete="off" spellcheck="false";
                    output for="search" {}
                }
                div.scroll role="region" aria-labelledby="namespaces" tabindex="0" {
                    table #coverage data-sortable {
                        caption { "Pod counts by coverage state, namespace and registry. A Pod with images of several registries counts in several rows." }
                        thead { tr {
                            th scope="col" { "Namespace" }
                            th scope="col" { "Registry" }
                            th scope="col" { "AcrRegistry" }
                            th scope="col" { "State" }
                            th scope="col" { "Reason" }
                            th.figure scope="col" { "Pods" }
                        } }
                        tbody { @for (group, pods) in rows { (coverage(group, pods)) } }
                    }
                }
                @let pods: u64 = left_out.iter().map(|(_, pods)| pods).sum();
                @let what = format!("row is ({})", count(pods, "Pod", "Pods"));
                @let whats = format!("rows are ({})", count(pods, "Pod", "Pods"));
                (left_out_rows(left_out.len(), &what, &whats, &subject.command("pullpass audit --output json")))
            }
        }
    }
}

/// Which namespaces are injected at all, where that depends on labels of the platform.
fn selected(findings: &Findings, subject: &Subject) -> Markup {
    let labels = subject.command("kubectl get namespaces --show-labels");
    html! {
        @if !findings.selector.selects_all() {
            p.note {
                "pullpass injects Pods in namespaces whose labels match " (data(&findings.selector.to_string())) ", and skips all others with the reason "
                code { (Exemption::NamespaceNotSelected.as_str()) } ": " code { (labels) } " shows the labels."
            }
        }
    }
}

fn coverage(group: &Group, pods: u64) -> Markup {
    let (class, state) = match group.state {
        CoverageState::Covered => ("good", "covered"),
        CoverageState::Uncovered(_) => ("bad", "uncovered"),
        CoverageState::Skipped(_) => ("skipped", "skipped"),
    };
    html! {
        tr {
            th scope="row" { (data(&group.namespace)) }
            td { (data(&group.host)) }
            td { (or_dash(group.registry.as_deref())) }
            td { span.state.(class) { (state) } }
            td { (or_dash(group.state.reason())) }
            td.figure data-value=(pods) { (grouped(pods)) }
        }
    }
}

/// What a table leaves out, and which command has it.
fn left_out_rows(number: usize, one: &str, several: &str, command: &str) -> Markup {
    html! {
        @if number > 0 {
            p.left-out { (count(number as u64, one, several)) " left out here, to keep the page usable: " code { (command) } " has all." }
        }
    }
}

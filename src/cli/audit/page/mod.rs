//! `pullpass audit --output html`: the findings as one self-contained page. A pure function of the findings.
//!
//! maud writes everything, and escapes text and attributes. Styles and script are constants, whose hash is in the
//! page's Content-Security-Policy, so that a browser runs nothing else and makes no request.

mod commands;
mod problems;
mod remedies;
mod tables;
mod text;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use ring::digest::{SHA256, digest};

use self::commands::in_context;
use self::problems::{Problem, problems};
use self::text::{count, data, distance, grouped, sentence, time};
use super::report::Findings;
use crate::api::condition::READY;
use crate::base::remedy::Remedy;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// How many things that are wrong are listed.
const MAX_PROBLEMS: usize = 100;

/// What the findings are about.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    /// When the cluster was read.
    pub(super) now: Timestamp,
    /// The kubeconfig's name for the cluster.
    pub(super) context: Option<String>,
    /// The same, where a flag named it: then commands name it too.
    pub(super) given_context: Option<String>,
    /// The only namespace that was looked at.
    pub(super) namespace: Option<String>,
    /// The Pods that were looked at.
    pub(super) selector: Option<String>,
    /// Whether covered and skipped Pods are left out.
    pub(super) uncovered: bool,
}

impl Subject {
    /// A command as it is shown.
    fn command(&self, command: &str) -> String {
        text::command(&in_context(command, self.given_context.as_deref()))
    }
}

/// The page.
pub(super) fn render(findings: &Findings, subject: &Subject) -> String {
    let problems = problems(findings, subject.now);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { "Pull secrets for Azure Container Registry" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#wrong" { "Skip to what is wrong" }
                (header(findings, subject, problems.len()))
                main {
                    (summary(findings, &problems, subject.now))
                    (wrong(&problems, subject))
                    (tables::registries(findings, subject))
                    (tables::namespaces(findings, subject))
                }
                (footer())
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// Nothing is loaded, and only the constants above are applied and run.
fn policy() -> String {
    let hash = |text: &str| STANDARD.encode(digest(&SHA256, text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

fn header(findings: &Findings, subject: &Subject, problems: usize) -> Markup {
    html! {
        header {
            p.product { "pullpass audit" }
            h1 { "Pull secrets for Azure Container Registry" }
            dl.about {
                @if let Some(context) = &subject.context { div { dt { "Context" } dd { (data(context)) } } }
                div { dt { "Namespaces" } dd { @match &subject.namespace { Some(name) => (data(name)), None => "all" } } }
                @if let Some(selector) = &subject.selector { div { dt { "Pods with labels" } dd { (data(selector)) } } }
                div { dt { "Read" } dd { time datetime=(subject.now.strftime("%Y-%m-%dT%H:%M:%SZ")) { (subject.now.strftime("%Y-%m-%d %H:%M UTC")) } } }
                div { dt { "Mode" } dd { (findings.mode.as_str()) } }
                @if !findings.selector.selects_all() {
                    div { dt { "Namespace selector" } dd { (data(&findings.selector.to_string())) } }
                }
            }
            nav aria-label="On this page" {
                ul {
                    li { a href="#wrong" { "What is wrong " span.number { (problems) } } }
                    li { a href="#registries" { "Registries " span.number { (findings.registries.len()) } } }
                    li { a href="#namespaces" { "Namespaces" } }
                }
            }
        }
    }
}

/// Whether anything is wrong, in a sentence, and the numbers.
fn summary(findings: &Findings, problems: &[Problem], now: Timestamp) -> Markup {
    let totals = &findings.summary;
    let all = totals.covered + totals.uncovered + totals.skipped;
    let ready = findings
        .registries
        .iter()
        .filter(|row| row.condition(READY).is_some_and(|ready| ready.status == "True"))
        .count();
    let kind = match problems.first() {
        None => "good",
        Some(first) if first.is_urgent => "bad",
        Some(_) => "warn",
    };
    html! {
        section.summary aria-labelledby="summary" {
            h2 #summary .hidden { "Summary" }
            p.verdict.(kind) { (verdict(findings, problems, now)) }
            @if all > 0 { (bar([totals.covered, totals.uncovered, totals.skipped])) }
            dl.figures {
                div.good { dt { "Pods covered" } dd { (grouped(totals.covered)) } }
                div.bad { dt { "Pods uncovered" } dd { (grouped(totals.uncovered)) } }
                div.skipped { dt { "Pods skipped" } dd { (grouped(totals.skipped)) } }
                div { dt { "Registries ready" } dd { (ready) " of " (findings.registries.len()) } }
            }
            @if let Some(does) = findings.policies.does() {
                p.note { "Admission policies in the API server " (does) " too, whether or not a replica answers." }
            }
        }
    }
}

fn verdict(findings: &Findings, problems: &[Problem], now: Timestamp) -> Markup {
    let totals = &findings.summary;
    let all = totals.covered + totals.uncovered + totals.skipped;
    let since = problems.iter().filter_map(|problem| problem.since).min();
    html! {
        @if problems.is_empty() {
            strong { "Nothing is wrong. " }
            @if all == 0 { "No running Pod has an image on Azure Container Registry." }
            @else if totals.skipped == 0 { "Every Pod with images on Azure Container Registry has its pull secrets." }
            @else { "Every Pod with images on Azure Container Registry has its pull secrets, or is skipped on purpose." }
        } @else {
            strong { (count(problems.len() as u64, "thing is wrong", "things are wrong")) ". " }
            @if totals.uncovered > 0 {
                (grouped(totals.uncovered)) " of " (count(all, "Pod", "Pods"))
                @if totals.uncovered == 1 { " has" } @else { " have" }
                " no pull secret that pullpass keeps for an image. "
            }
            @if let Some(since) = since { "The oldest began " (distance(since, now)) "." }
        }
    }
}

/// The states of the Pods, as a picture of what the numbers below it say. It has no style of its own, which the policy forbids.
fn bar(parts: [u64; 3]) -> Markup {
    let total = parts.iter().sum::<u64>().max(1);
    let mut begin = 0;
    let places = parts.map(|part| {
        let x = begin;
        begin += part;
        // A part that is there is seen.
        let width = (part * 1000 / total).max(u64::from(part > 0) * 4);
        (x * 1000 / total, width)
    });
    html! {
        svg.bar viewBox="0 0 1000 12" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            @for ((x, width), class) in places.into_iter().zip(["good", "bad", "skipped"]) {
                rect class=(class) x=(x.min(996)) y="0" width=(width) height="12" {}
            }
        }
    }
}

fn wrong(problems: &[Problem], subject: &Subject) -> Markup {
    let left_out = problems.len().saturating_sub(MAX_PROBLEMS);
    let every_problem = subject.command("pullpass audit --output json");
    html! {
        section aria-labelledby="wrong" {
            h2 #wrong tabindex="-1" { "What is wrong" }
            @if problems.is_empty() { p { "Nothing that this command looks at." } }
            @for problem in problems.iter().take(MAX_PROBLEMS) {
                article.problem.urgent[problem.is_urgent] {
                    h3 { (data(&problem.title)) }
                    @if let Some(since) = problem.since { p.since { "Since " (time(since, subject.now)) } }
                    @for fact in &problem.facts { p { (data(fact)) } }
                    @if !problem.remedies.is_empty() {
                        h4 { "What to do" }
                        ol { @for remedy in &problem.remedies { li { (remedy_item(remedy, subject)) } } }
                    }
                }
            }
            @if left_out > 0 {
                p.left-out { (count(left_out as u64, "more is", "more are")) " left out here: " code { (every_problem) } " has all." }
            }
        }
    }
}

fn remedy_item(remedy: &Remedy, subject: &Subject) -> Markup {
    let text = sentence(&remedy.text);
    html! {
        @match &remedy.command {
            Some(command) => {
                p { (data(text.trim_end_matches('.'))) ":" }
                div.command { pre { code { (subject.command(command)) } } }
            }
            None => p { (data(&text)) },
        }
    }
}

fn footer() -> Markup {
    html! {
        footer {
            p { "Written by " code { "pullpass audit --output html" } " " (env!("CARGO_PKG_VERSION")) ". The page shows the state at the time when the cluster was read; it loads nothing, and contains no credential." }
        }
    }
}

#[cfg(test)]
mod tests;

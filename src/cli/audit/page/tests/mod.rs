mod commands;

use std::collections::BTreeMap;

use serde_json::json;

use super::problems::MAX_UNATTACHED;
use super::tables::MAX_ROWS;
use super::*;
use crate::cli::audit::registries::RegistryRow;
use crate::policy::coverage::{CoverageState, Gap, Group, Summary};
use crate::policy::exemption::Exemption;
use crate::policy::namespace_selector::NamespaceSelector;
use crate::policy::rules::Policy;
use crate::policy::scope::Mode;
use crate::policy::server_policies::ServerPolicies;
use crate::policy::workloads::{Standing, Tally, Workload};

const NOW: &str = "2026-11-28T12:00:00Z";

fn subject() -> Subject {
    Subject {
        now: NOW.parse().unwrap(),
        context: Some("production".to_owned()),
        given_context: None,
        namespace: None,
        selector: None,
        uncovered: false,
    }
}

fn registry(name: &str, conditions: &[(&str, &str, &str, &str)]) -> RegistryRow {
    let conditions = conditions.iter().map(|(kind, status, reason, message)| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-11-28T09:00:00Z",
        })
    });
    RegistryRow {
        name: name.to_owned(),
        login_server: Some(format!("{name}.azurecr.io")),
        conditions: serde_json::from_value(conditions.collect()).unwrap(),
        expires_at: Some("2026-11-28T14:30:00Z".parse().unwrap()),
        served: 7,
        ..RegistryRow::default()
    }
}

fn nothing() -> Findings {
    Findings {
        mode: Mode::ClusterWide,
        selector: NamespaceSelector::default(),
        summary: Summary::default(),
        pods: Vec::new(),
        workloads: BTreeMap::new(),
        registries: Vec::new(),
        is_installed: true,
        policies: ServerPolicies::default(),
        rules: Policy::default(),
    }
}

/// Adds Pods of a workload.
fn add(findings: &mut Findings, namespace: &str, name: &str, state: CoverageState, pods: u64) {
    let (host, registry) = ("shop.azurecr.io".to_owned(), Some("shop".to_owned()));
    let group = Group {
        namespace: namespace.to_owned(),
        host: host.clone(),
        registry: registry.clone(),
        state,
    };
    *findings.summary.groups.entry(group).or_default() += pods;
    match state {
        CoverageState::Covered => findings.summary.covered += pods,
        CoverageState::Uncovered(_) => findings.summary.uncovered += pods,
        CoverageState::Skipped(_) => findings.summary.skipped += pods,
    }
    let standing = Standing {
        namespace: namespace.to_owned(),
        workload: Workload {
            kind: "ReplicaSet".to_owned(),
            name: format!("{name}-5d4f8c7b9"),
            api_version: "apps/v1".to_owned(),
            uid: String::new(),
            restarts_as: Some(format!("deployment/{name}")),
        },
        host,
        registry,
        state,
    };
    let tally = Tally {
        pods,
        since: Some("2026-11-27T12:00:00Z".parse().unwrap()),
        images: ["shop.azurecr.io/web:1".to_owned()].into(),
        ..Tally::default()
    };
    findings.workloads.insert(standing, tally);
}

const NOT_INJECTED: CoverageState = CoverageState::Uncovered(Gap::NotInjected);

#[test]
fn a_cluster_that_is_well_is_said_to_be() {
    let page = render(&nothing(), &subject());
    assert!(page.contains("Nothing is wrong"), "{page}");
    assert!(page.contains("No running Pod has an image on Azure Container Registry."));
    assert!(page.contains("No registry is attached."));
    let mut findings = nothing();
    findings
        .registries
        .push(registry("shop", &[(READY, "True", "Minted", "")]));
    add(&mut findings, "apps", "web", CoverageState::Covered, 3);
    let page = render(&findings, &subject());
    assert!(
        page.contains("Nothing is wrong. </strong>Every Pod with images"),
        "{page}"
    );
    assert!(page.contains("2026-11-28 14:30 UTC</time> <span class=\"ago\">(in 2 h)"));
    assert!(page.contains("1 of 1"));
    assert!(!page.contains("class=\"problem"));
    add(
        &mut findings,
        "apps",
        "old",
        CoverageState::Skipped(Exemption::PodOptedOut),
        1,
    );
    assert!(render(&findings, &subject()).contains("or is skipped on purpose"));
}

#[test]
fn pods_that_wait_for_images_are_urgent() {
    let mut findings = nothing();
    add(&mut findings, "apps", "web", NOT_INJECTED, 2);
    assert!(render(&findings, &subject()).contains("<p class=\"verdict warn\">"));
    for tally in findings.workloads.values_mut() {
        tally.waiting = 1;
    }
    let page = render(&findings, &subject());
    assert!(page.contains("<p class=\"verdict bad\">"), "{page}");
    assert!(page.contains("1 Pod waits for an image now that could not be pulled."));
}

#[test]
fn registries_that_are_not_well_are_told_with_their_commands() {
    let mut findings = nothing();
    let advice = "Entra ID refuses it. What to do: look: `az ad sp show --id 1`; wait; give another: `pullpass attach x`";
    findings.registries = vec![
        registry("broken", &[(READY, "False", "EntraRejected", advice)]),
        registry(
            "partly",
            &[
                (READY, "True", "Minted", ""),
                ("Distributed", "False", "NameConflict", "a Secret has its name"),
                ("PullAuthorized", "False", "PullDenied", "app may not be pulled"),
                ("CustomDomains", "Unknown", "NotAsked", "nobody knows"),
            ],
        ),
        RegistryRow {
            invalid: Some("spec.loginServer is missing".to_owned()),
            ..registry("odd", &[])
        },
        RegistryRow {
            expires_at: Some("2026-11-28T11:00:00Z".parse().unwrap()),
            ..registry("late", &[(READY, "True", "Minted", "")])
        },
    ];
    findings.is_installed = false;
    findings.policies.disagreements = vec!["they differ".to_owned().into()];
    let page = render(&findings, &subject());
    for text in [
        "7 things are wrong. ",
        "AcrRegistry broken is not ready",
        "EntraRejected: Entra ID refuses it<",
        "Look</bdi>:</p><div class=\"command\"><pre><code>az ad sp show --id 1</code>",
        "<bdi>Wait.</bdi>",
        "<code>pullpass attach x</code>",
        "<code>pullpass check broken</code>",
        "AcrRegistry partly lacks some of its pull secrets",
        "AcrRegistry partly is not authorized to pull images that Pods name",
        "Spec.loginServer is missing.",
        "<code>kubectl edit acrregistry odd</code>",
        "The credential of AcrRegistry late has expired",
        "The webhook is not installed",
        "They differ.",
        "2 of 4",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(!page.contains("nobody knows"), "{page}");
    let urgent = page.find("The credential of AcrRegistry late").unwrap();
    assert!(urgent < page.find("AcrRegistry partly lacks some").unwrap());
}

#[test]
fn text_of_others_stays_text() {
    let hostile =
        "</style></script><script>document.title=1</script>\"'><img src=x onerror=alert(1)>\u{202e}&amp;";
    let mut findings = nothing();
    let message = format!("{hostile}. What to do: {hostile}: `{hostile}`");
    findings.registries = vec![RegistryRow {
        login_server: Some(hostile.to_owned()),
        invalid: Some(hostile.to_owned()),
        ..registry(
            hostile,
            &[
                (READY, "False", hostile, &message),
                ("Distributed", "False", hostile, &message),
            ],
        )
    }];
    findings.policies.disagreements = vec![hostile.to_owned().into()];
    add(&mut findings, hostile, hostile, NOT_INJECTED, 1);
    add(
        &mut findings,
        hostile,
        hostile,
        CoverageState::Uncovered(Gap::Spelling),
        1,
    );
    let subject = Subject {
        context: Some(hostile.to_owned()),
        given_context: Some(hostile.to_owned()),
        namespace: Some(hostile.to_owned()),
        selector: Some(hostile.to_owned()),
        ..subject()
    };
    let page = render(&findings, &subject);
    let without = render(
        &nothing(),
        &Subject {
            context: None,
            given_context: None,
            ..subject.clone()
        },
    );
    for tag in ["<script", "</script", "<style", "</style", "<img"] {
        assert_eq!(page.matches(tag).count(), without.matches(tag).count(), "{tag}");
    }
    assert!(page.contains("&lt;script&gt;document.title=1"));
    assert!(!page.contains('\u{202e}'));
    assert!(!page.contains("\" onerror"));
}

#[test]
fn the_page_loads_nothing_and_runs_only_its_own_script() {
    let page = render(&nothing(), &subject());
    assert!(page.contains(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-"
    ));
    assert!(!page.contains("unsafe"), "{page}");
    for attribute in [
        " src=",
        " style=",
        " onclick=",
        "url(",
        "@import",
        "fetch(",
        "http://",
        "https://",
    ] {
        assert!(!page.contains(attribute), "{attribute}");
    }
    assert!(
        page.split("href=\"")
            .skip(1)
            .all(|target| target.starts_with('#'))
    );
    let policy = page.find("Content-Security-Policy").unwrap();
    assert!(policy < page.find("<style").unwrap());
    // Nothing in the constants ends them early.
    assert!(!STYLE.contains("</") && !SCRIPT.contains("</") && !SCRIPT.contains("<!--"));
}

#[test]
fn a_large_cluster_leaves_a_page_that_says_what_is_left_out() {
    let mut findings = nothing();
    for number in 0..5000 {
        let state = if number % 100 == 0 {
            NOT_INJECTED
        } else {
            CoverageState::Covered
        };
        add(&mut findings, &format!("team-{number:05}"), "web", state, 20);
        let name = format!("registry{number}");
        findings
            .registries
            .push(registry(&name, &[(READY, "True", "Minted", "")]));
    }
    findings
        .registries
        .push(registry("zbroken", &[(READY, "False", "EntraRejected", "no")]));
    let page = render(&findings, &subject());
    assert!(page.len() < 4 << 20, "{}", page.len());
    assert_eq!(page.matches("<tr>").count(), 2 * MAX_ROWS + 2);
    assert!(
        page.contains("3,000 rows are (60,000 Pods) left out here"),
        "the namespaces"
    );
    assert!(
        page.contains("3,001 ready registries are left out here"),
        "the registries"
    );
    // What is uncovered or broken is there.
    assert!(page.contains("<bdi>team-04900</bdi>") && page.contains("<bdi>zbroken</bdi>"));
    assert!(page.contains("1,000 Pods in namespaces team-00000, "));
    assert_eq!(page.matches(" rollout restart ").count(), 10);
    assert!(page.contains("pullpass audit --uncovered --output wide"));
}

#[test]
fn unattached_hosts_leave_room_for_other_problems() {
    let mut findings = nothing();
    for number in 0..150 {
        unattached(&mut findings, "tenant", &format!("fake{number:03}"), 1000);
    }
    for namespace in ["apps", "web"] {
        unattached(&mut findings, namespace, "zreal", 1);
    }
    add(&mut findings, "apps", "web", NOT_INJECTED, 1);
    let page = render(&findings, &subject());
    for text in [
        "<bdi>zreal.azurecr.io is not attached</bdi>",
        "<bdi>fake008.azurecr.io is not attached</bdi>",
        "<bdi>141 more registries are not attached</bdi>",
        "Hosts: fake009.azurecr.io, ",
        "141,000 Pods in namespace tenant.",
        "Pods lack the pull secret of shop",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert_eq!(page.matches("<article").count(), MAX_UNATTACHED + 2);
}

/// Adds Pods of a registry that nobody attached, which wait for their images.
fn unattached(findings: &mut Findings, namespace: &str, registry: &str, pods: u64) {
    let mut others = nothing();
    add(
        &mut others,
        namespace,
        "web",
        CoverageState::Uncovered(Gap::Unattached),
        pods,
    );
    let added = others.workloads.into_iter().map(|(mut standing, mut tally)| {
        standing.host = format!("{registry}.azurecr.io");
        standing.registry = None;
        tally.waiting = pods;
        (standing, tally)
    });
    findings.workloads.extend(added);
}

#[test]
fn more_than_a_hundred_problems_are_counted() {
    let mut findings = nothing();
    for number in 0..150 {
        findings.registries.push(registry(
            &format!("r{number:03}"),
            &[(READY, "False", "Throttled", "wait")],
        ));
    }
    let page = render(&findings, &subject());
    assert_eq!(page.matches("<article").count(), MAX_PROBLEMS);
    assert!(page.contains("50 more are left out here"));
}

#[test]
fn only_the_uncovered_are_listed_where_that_is_asked_for() {
    let mut findings = nothing();
    add(&mut findings, "apps", "web", NOT_INJECTED, 1);
    add(&mut findings, "other", "web", CoverageState::Covered, 1);
    let only = Subject {
        uncovered: true,
        ..subject()
    };
    let page = render(&findings, &only);
    assert!(
        page.contains("<bdi>apps</bdi>") && !page.contains("<bdi>other</bdi>"),
        "{page}"
    );
    assert!(render(&nothing(), &only).contains("No Pod is uncovered."));
}

#[test]
fn a_namespace_selector_is_named_where_namespaces_are() {
    let reason = "<code>namespace-not-selected</code>";
    let without = render(&nothing(), &subject());
    assert!(
        !without.contains("Namespace selector") && !without.contains(reason),
        "{without}"
    );
    let mut findings = nothing();
    findings.selector = "team in (a,b),env!=test".parse().unwrap();
    let shown = "<bdi>team in (a,b),env!=test</bdi>";
    // Whether or not a Pod runs in a namespace that is skipped.
    for page in [render(&findings, &subject()), {
        let skipped = CoverageState::Skipped(Exemption::NamespaceNotSelected);
        add(&mut findings, "apps", "web", skipped, 1);
        render(&findings, &subject())
    }] {
        let (head, namespaces) = page.split_once("<h2 id=\"namespaces\"").unwrap();
        assert!(
            head.contains(&format!("<dt>Namespace selector</dt><dd>{shown}</dd>")),
            "{head}"
        );
        assert!(
            namespaces.contains(shown) && namespaces.contains(reason),
            "{namespaces}"
        );
        assert!(
            namespaces.contains("kubectl get namespaces --show-labels"),
            "{namespaces}"
        );
    }
}

#[test]
fn tables_have_headings_that_say_what_they_are_for() {
    let mut findings = nothing();
    findings.registries.push(registry("shop", &[]));
    add(&mut findings, "apps", "web", NOT_INJECTED, 1);
    let page = render(&findings, &subject());
    for element in [
        "<html lang=\"en\">",
        "<header>",
        "<main>",
        "<nav aria-label=",
        "<footer>",
        "<caption>",
        "<th scope=\"col\">",
        "<th scope=\"row\">",
        "<meta name=\"color-scheme\" content=\"light dark\">",
    ] {
        assert!(page.contains(element), "{element}");
    }
    assert_eq!(
        page.matches("<th").count() - page.matches("<thead").count(),
        page.matches(" scope=\"").count()
    );
    assert_eq!(page.matches("<table").count(), page.matches("<caption>").count());
}

#[test]
fn a_bar_shows_even_a_small_part() {
    let bar = bar([9_999_999, 1, 0]).into_string();
    assert!(
        bar.contains("class=\"bad\" x=\"996\" y=\"0\" width=\"4\""),
        "{bar}"
    );
    assert!(
        bar.contains("class=\"skipped\" x=\"996\" y=\"0\" width=\"0\""),
        "{bar}"
    );
    assert!(!bar.contains("style"));
}

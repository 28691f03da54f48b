//! What the page says to do, and by which commands.

use super::*;
use crate::api::advice::{with_advice, without_advice};

#[test]
fn uncovered_pods_come_with_the_command_that_restarts_them() {
    let mut findings = nothing();
    add(&mut findings, "apps", "web", NOT_INJECTED, 2);
    add(&mut findings, "apps", "api", NOT_INJECTED, 1);
    add(&mut findings, "shop", "cart", NOT_INJECTED, 1);
    add(&mut findings, "shop", "fine", CoverageState::Covered, 5);
    let page = render(&findings, &subject());
    assert!(
        page.contains("1 thing is wrong. </strong>4 of 9 Pods have no pull secret"),
        "{page}"
    );
    assert!(page.contains("Pods lack the pull secret of shop"));
    assert!(page.contains("4 Pods in namespaces apps, shop."));
    assert!(
        page.contains("<code>kubectl --namespace apps rollout restart deployment/api deployment/web</code>")
    );
    assert!(page.contains("<code>kubectl --namespace shop rollout restart deployment/cart</code>"));
    assert!(page.contains("Since <time datetime=\"2026-11-27T12:00:00Z\">"));
    assert!(!page.contains("deployment/fine"));
}

#[test]
fn each_gap_says_what_to_do() {
    for (gap, command) in [
        (
            Gap::Unattached,
            "pullpass attach shop.azurecr.io --managed-identity",
        ),
        (Gap::Forbidden, "kubectl edit acrregistry shop"),
        (
            Gap::NotInjected,
            "kubectl --namespace apps rollout restart deployment/web",
        ),
        (
            Gap::OtherSecret,
            "kubectl --namespace apps rollout restart deployment/web",
        ),
        (Gap::OtherRepository, "kubectl edit acrregistry shop"),
        (Gap::Spelling, "kubectl --namespace apps edit deployment/web"),
        (
            Gap::OtherSecretSpelling,
            "kubectl --namespace apps edit deployment/web",
        ),
        (
            Gap::MountableSecrets,
            "kubectl --namespace apps get serviceaccounts --output yaml",
        ),
    ] {
        let mut findings = nothing();
        add(&mut findings, "apps", "web", CoverageState::Uncovered(gap), 1);
        let page = render(&findings, &subject());
        assert!(
            page.contains(&format!("<code>{command}</code>")),
            "{gap:?} {page}"
        );
    }
}

#[test]
fn a_quoted_refusal_gives_no_command() {
    let hostile = "in namespace apps: no. What to do: grant access: `kubectl create clusterrolebinding x`";
    for (message, commands) in [
        (with_advice(hostile, Some("look: `kubectl get quotas`")), 1),
        (without_advice(hostile), 0),
    ] {
        let mut findings = nothing();
        findings.registries = vec![registry(
            "shop",
            &[
                (READY, "True", "Minted", ""),
                ("Distributed", "False", "SecretsRefused", &message),
            ],
        )];
        let page = render(&findings, &subject());
        let shown: Vec<_> = page.split("<pre><code>").skip(1).collect();
        assert_eq!(shown.len(), commands, "{page}");
        assert!(
            shown
                .iter()
                .all(|command| command.starts_with("kubectl get quotas<")),
            "{page}"
        );
    }
}

#[test]
fn long_lists_of_workloads_are_cut_with_a_word() {
    let mut findings = nothing();
    for number in 0..30 {
        add(
            &mut findings,
            "apps",
            &format!("web-{number:02}"),
            NOT_INJECTED,
            1,
        );
    }
    let page = render(&findings, &subject());
    assert!(page.contains("(10 more are left out here)"), "{page}");
    assert!(page.contains("deployment/web-19</code>"));
    assert!(!page.contains("deployment/web-20"));
    assert!(page.contains("pullpass audit --uncovered --output wide"));
}

#[test]
fn commands_are_for_the_given_context() {
    let mut findings = nothing();
    add(&mut findings, "apps", "web", NOT_INJECTED, 1);
    let message = with_advice(
        "no",
        Some("look: `kubectl get quotas`; look there: `az account show`"),
    );
    findings.registries = vec![registry("shop", &[(READY, "False", "EntraRejected", &message)])];
    let page = render(&findings, &subject());
    assert!(
        page.contains("<dt>Context</dt><dd><bdi>production</bdi>"),
        "{page}"
    );
    assert!(!page.contains("--context"), "{page}");
    let given = Subject {
        given_context: Some("it's $HOME".to_owned()),
        ..subject()
    };
    let page = render(&findings, &given);
    for command in [
        "kubectl --context 'it'\\''s $HOME' --namespace apps rollout restart deployment/web",
        "kubectl --context 'it'\\''s $HOME' get quotas",
        "az account show",
        "pullpass check --context 'it'\\''s $HOME' shop",
    ] {
        assert!(
            page.contains(&format!("<code>{command}</code>")),
            "{command}: {page}"
        );
    }
}

#[test]
fn commands_with_long_names_are_whole() {
    let mut findings = nothing();
    for number in 0..20 {
        let name = format!("{}-{number:02}", "w".repeat(240));
        add(&mut findings, "apps", &name, NOT_INJECTED, 1);
    }
    let page = render(&findings, &subject());
    let mut commands = page.split("<pre><code>").skip(1);
    let (restart, _) = commands.next().unwrap().split_once("</code>").unwrap();
    let names = restart
        .strip_prefix("kubectl --namespace apps rollout restart ")
        .unwrap();
    assert_eq!(names.split(' ').count(), 7, "{restart}");
    assert!(names.ends_with("-06"), "{restart}");
    assert!(page.contains("(13 more are left out here)"), "{page}");
    assert!(commands.next().unwrap().starts_with("pullpass audit --uncovered"));
}

#[test]
fn pods_that_nothing_restarts_are_named() {
    let mut findings = nothing();
    add(&mut findings, "apps", "web", NOT_INJECTED, 1);
    let (mut standing, tally) = findings.workloads.pop_first().unwrap();
    standing.workload.restarts_as = None;
    findings.workloads.insert(standing, tally);
    let page = render(&findings, &subject());
    assert!(
        page.contains("create their Pods again: ReplicaSet apps/web-5d4f8c7b9."),
        "{page}"
    );
}

//! The state of a registry, by what is found in the cluster.

use super::*;
use crate::api::acr_registry::AcrRegistrySpec;
use crate::registry::cloud::CloudName;
use serde_json::{Value, json};

fn facts(status: &Value) -> Facts {
    let object = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry",
        "metadata": {"name": "myregistry", "generation": 2},
        "spec": {"loginServer": "myregistry.azurecr.io", "identity": {"managedIdentity": {}}},
        "status": status,
    });
    Facts {
        object: AttachingObject::Registry(serde_json::from_value(object).unwrap()),
        minted: Minted::There { refreshed_at: None },
        own_namespace: "pullpass-system".to_owned(),
        policies: ServerPolicies {
            inject: Some(true),
            enforce: Some(false),
            disagreements: Vec::new(),
        },
        now: "2026-11-22T18:00:00Z".parse().unwrap(),
    }
}

fn spec(facts: &mut Facts) -> &mut AcrRegistrySpec {
    match &mut facts.object {
        AttachingObject::Registry(object) => &mut object.spec,
        AttachingObject::Binding(_) => panic!("it is an AcrPullBinding"),
    }
}

fn codes(facts: &Facts) -> Vec<&'static str> {
    facts
        .findings()
        .iter()
        .map(|finding| match &finding.outcome {
            StepOutcome::Passed { .. } => "ok",
            StepOutcome::Skipped { .. } => "skipped",
            StepOutcome::Failed(failure) => failure.code.as_str(),
        })
        .collect()
}

fn status(ready: &str, reason: &str, message: &str) -> Value {
    json!({
        "observedGeneration": 2,
        "conditions": [
            {
                "type": "Ready", "status": ready, "reason": reason, "message": message,
                "lastTransitionTime": "2026-11-22T17:00:00Z",
            },
            {
                "type": "PullAuthorized", "status": "True", "reason": "Authorized", "message": "it may",
                "lastTransitionTime": "2026-11-22T17:00:00Z",
            },
        ],
        "credential": {
            "issuedAt": "2026-11-22T17:00:00Z", "expiresAt": "2026-11-22T20:00:00Z",
            "nextRefresh": "2026-11-22T18:30:00Z",
        },
        "namespaces": {"served": 3, "failed": 0},
    })
}

fn facts_of_binding(status: &Value) -> Facts {
    let object = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
        "metadata": {"name": "app", "namespace": "shop", "generation": 2},
        "spec": {"loginServer": "myregistry.azurecr.io", "serviceAccountName": "puller"},
        "status": status,
    });
    Facts {
        object: AttachingObject::Binding(serde_json::from_value(object).unwrap()),
        ..facts(status)
    }
}

#[test]
fn a_binding_stands_as_its_status_says() {
    let mut well = status("True", "Minted", "the credential is fresh");
    well["namespaces"] = json!({"served": 1, "failed": 0});
    let known = facts_of_binding(&well);
    assert_eq!(codes(&known), ["ok"; 7]);
    let StepOutcome::Passed { detail } = &known.findings()[4].outcome else {
        panic!("{known:?}")
    };
    assert_eq!(detail, "in namespace shop");
    assert_eq!(codes(&facts_of_binding(&Value::Null))[1], "CONTROLLER_ERROR");

    let mut gone = facts_of_binding(&well);
    gone.minted = Minted::Missing;
    let findings = gone.findings();
    let cause = &findings[3].failure().unwrap().cause;
    assert!(
        cause.contains("Secret binding-credential-shop.app in namespace"),
        "{cause}"
    );
    let mut refused = well.clone();
    refused["conditions"] = json!([
        well["conditions"][0],
        {
            "type": "Distributed", "status": "False", "reason": "NameConflict", "message": "said",
            "lastTransitionTime": "2026-11-22T17:00:00Z",
        },
    ]);
    let refused = facts_of_binding(&refused);
    let findings = refused.findings();
    let cures = format!("{:?}", findings[4].failure().unwrap().cures);
    assert!(
        cures.contains("kubectl delete secret pullpass-binding-app --namespace shop"),
        "{cures}"
    );
    let wrong = facts_of_binding(&status("False", "InvalidSpec", "set one"));
    let cures = format!("{:?}", wrong.findings()[2].failure().unwrap().cures);
    assert!(
        cures.contains("kubectl edit acrpullbinding app --namespace shop"),
        "{cures}"
    );
}

#[test]
fn custom_domains_without_an_effect_are_a_failure() {
    let with_domains = |condition: Value| {
        let mut told = status("True", "Minted", "the credential is fresh");
        if !condition.is_null() {
            told["conditions"].as_array_mut().unwrap().push(condition);
        }
        let mut facts = facts(&told);
        spec(&mut facts).custom_domains = vec!["registry.contoso.com".to_owned()];
        facts
    };
    let condition = |status: &str| {
        json!({
            "type": "CustomDomains", "status": status, "reason": "NotAsked",
            "message": "nobody asks. What to do: name them", "lastTransitionTime": "2026-11-22T17:00:00Z",
        })
    };
    for (condition, expected) in [
        (condition("True"), "ok"),
        (condition("Unknown"), "skipped"),
        (Value::Null, "skipped"),
        (condition("False"), "CUSTOM_DOMAIN_ERROR"),
    ] {
        assert_eq!(codes(&with_domains(condition))[6], expected);
    }
    let mut other_cloud = with_domains(condition("False"));
    spec(&mut other_cloud).custom_domains.clear();
    assert_eq!(codes(&other_cloud).len(), 7);
    spec(&mut other_cloud).login_server = Some("registry.contoso.com".to_owned());
    spec(&mut other_cloud).cloud = Some(CloudName::Other);
    assert_eq!(codes(&other_cloud)[6], "CUSTOM_DOMAIN_ERROR");
    let facts = with_domains(condition("False"));
    let findings = facts.findings();
    let failure = findings[6].failure().unwrap();
    assert_eq!(failure.cause, "NotAsked: nobody asks");
    assert_eq!(failure.cures[0].text, "Name them.");
}

#[test]
fn steps_nobody_looks_at_are_told_from_those_that_are_well() {
    let well = status("True", "Minted", "the credential is fresh");
    assert_eq!(codes(&facts(&well)), ["ok"; 7]);
    let unseen = [
        "ok",
        "CONTROLLER_ERROR",
        "skipped",
        "skipped",
        "skipped",
        "skipped",
        "ok",
    ];
    assert_eq!(codes(&facts(&Value::Null)), unseen);
    let mut old = well.clone();
    old["observedGeneration"] = json!(1);
    assert_eq!(codes(&facts(&old)), unseen);
    for (field, value) in [
        ("expiresAt", "2026-11-22T17:59:00Z"),
        ("nextRefresh", "2026-11-22T17:30:00Z"),
    ] {
        let mut late = well.clone();
        late["credential"][field] = json!(value);
        assert_eq!(codes(&facts(&late))[3], "CONTROLLER_ERROR", "{field}");
    }
    let mut gone = facts(&well);
    gone.minted = Minted::Missing;
    assert_eq!(codes(&gone)[3], "CONTROLLER_ERROR");
    let mut unwritten = well;
    unwritten["namespaces"]["failed"] = json!(1);
    assert_eq!(codes(&facts(&unwritten))[4], "PULL_SECRET_ERROR");
}

#[test]
fn reasons_have_codes_and_messages_have_cause_and_cure() {
    for (reason, message, code) in [
        ("InvalidSpec", "set one", "LOGIN_SERVER_ERROR"),
        (
            "CredentialSecretMissing",
            "no Secret",
            "CONNECTIVITY_AAD_LOGIN_ERROR",
        ),
        (
            "EntraRejected",
            "Entra ID refused",
            "CONNECTIVITY_AAD_LOGIN_ERROR",
        ),
        (
            "ExchangeRejected",
            "no pull token from r: refused (HTTP 401)",
            "CONNECTIVITY_REFRESH_TOKEN_ERROR",
        ),
        (
            "ExchangeRejected",
            "no pull token from r: refused (HTTP 403)",
            "CONNECTIVITY_FORBIDDEN_ERROR",
        ),
        (
            "ExchangeRejected",
            "no pull token from r: the token does not allow pulling from app",
            "CONNECTIVITY_ACCESS_TOKEN_ERROR",
        ),
        (
            "Throttled",
            "no pull token from r: too many calls",
            "CONNECTIVITY_REFRESH_TOKEN_ERROR",
        ),
        (
            "Throttled",
            "no token from Entra ID: too many calls",
            "CONNECTIVITY_AAD_LOGIN_ERROR",
        ),
        (
            "Unreachable",
            "no pull token from r: r: the host name does not resolve",
            "CONNECTIVITY_DNS_ERROR",
        ),
        (
            "Unreachable",
            "no pull token from r: r: TLS failed (x)",
            "CONNECTIVITY_SSL_ERROR",
        ),
        (
            "Unreachable",
            "no pull token from r: r: no TCP connection in time",
            "CONNECTIVITY_TCP_ERROR",
        ),
        (
            "Unreachable",
            "the minted credential could not be stored",
            "CONTROLLER_ERROR",
        ),
        ("NameConflict", "a Secret", "PULL_SECRET_ERROR"),
    ] {
        let told = facts(&status("False", reason, &format!("{message}. What to do: act")));
        let findings = told.findings();
        let failure = findings[2].failure().unwrap();
        assert_eq!(failure.code.as_str(), code, "{reason} {message}");
        assert_eq!(failure.cause, format!("{reason}: {message}"));
        assert_eq!(failure.cures[0].text, "Act.");
    }
}

#[test]
fn a_denied_pull_is_a_failure_and_an_unknown_one_is_not() {
    let mut told = status("True", "Minted", "the credential is fresh");
    let mut codes_of = |status: &str, message: &str| {
        told["conditions"][1]["status"] = json!(status);
        told["conditions"][1]["message"] = json!(message);
        let findings = facts(&told).findings();
        (codes(&facts(&told))[5], findings[5].failure().cloned())
    };
    assert_eq!(codes_of("Unknown", "nobody knows").0, "skipped");
    let (code, failure) = codes_of("False", "it may not pull from app. What to do: give it a role");
    assert_eq!(code, "CONNECTIVITY_ACCESS_TOKEN_ERROR");
    let failure = failure.unwrap();
    assert_eq!(failure.cause, "Authorized: it may not pull from app");
    assert_eq!(failure.cures[0].text, "Give it a role.");
    let mut earlier = status("True", "Minted", "the credential is fresh");
    earlier["conditions"].as_array_mut().unwrap().pop();
    assert_eq!(codes(&facts(&earlier))[5], "skipped");
}

#[test]
fn undistributed_secrets_have_advice_by_reason() {
    for (reason, message, advised) in [
        (
            "NameConflict",
            "a Secret that is not pullpass' has the pull secret's name in namespace apps",
            "--field-selector metadata.name=pullpass-myregistry",
        ),
        (
            "SecretsRefused",
            "pull secrets could not be written in 2 namespaces, for example in apps: denied by policy",
            "--as system:serviceaccount:pullpass-system:pullpass",
        ),
        ("OfLater", "who knows", "kubectl describe acrregistry myregistry"),
    ] {
        let mut told = status("True", "Minted", "the credential is fresh");
        told["namespaces"]["failed"] = json!(2);
        let condition = json!({
            "type": "Distributed", "status": "False", "reason": reason,
            "message": format!("{message}. What to do: the same"),
            "lastTransitionTime": "2026-11-22T17:00:00Z",
        });
        told["conditions"].as_array_mut().unwrap().push(condition);
        let findings = facts(&told).findings();
        assert!(findings[2].failure().is_none(), "the credential works");
        let failure = findings[4].failure().unwrap();
        assert_eq!(failure.code.as_str(), "PULL_SECRET_ERROR");
        assert_eq!(
            failure.cause,
            format!("{reason}: {message} (could not be written in 2 namespaces, and were in 3)")
        );
        let commands: Vec<_> = failure
            .cures
            .iter()
            .filter_map(|cure| cure.command.as_deref())
            .collect();
        assert!(commands[0].contains(advised), "{commands:?}");
    }
    let mut told = status("True", "Minted", "the credential is fresh");
    let condition = json!({
        "type": "Distributed", "status": "True", "reason": "Distributed", "message": "well",
        "lastTransitionTime": "2026-11-22T17:00:00Z",
    });
    told["conditions"].as_array_mut().unwrap().push(condition);
    assert_eq!(codes(&facts(&told)), ["ok"; 7]);
}

#[test]
fn the_api_servers_policies_are_told_and_where_they_disagree() {
    let well = status("True", "Minted", "the credential is fresh");
    for (inject, enforce, disagreements, expected, says) in [
        (
            Some(true),
            Some(true),
            vec![],
            "ok",
            "add pull secrets and judge the rules",
        ),
        (Some(false), Some(true), vec![], "ok", "judge the rules"),
        (
            Some(false),
            Some(false),
            vec![],
            "skipped",
            "the API server has none",
        ),
        (None, Some(false), vec![], "skipped", "can't be read"),
        (
            Some(false),
            Some(false),
            vec!["pullpass is in mode opt-in by --mode", "and more"],
            "ADMISSION_POLICY_ERROR",
            "pullpass is in mode opt-in by --mode; and more",
        ),
    ] {
        let mut facts = facts(&well);
        facts.policies = ServerPolicies {
            inject,
            enforce,
            disagreements: disagreements
                .into_iter()
                .map(|text| text.to_owned().into())
                .collect(),
        };
        assert_eq!(codes(&facts)[6], expected);
        let finding = facts.findings().remove(6);
        let text = match &finding.outcome {
            StepOutcome::Passed { detail: text } | StepOutcome::Skipped { why: text } => text,
            StepOutcome::Failed(failure) => {
                assert_eq!(failure.cures.len(), 2);
                &failure.cause
            }
        };
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn policies_not_as_shipped_differ_from_other_versions() {
    let (kind, name) = ("ValidatingAdmissionPolicy", "pullpass-enforce");
    let of = |abouts: &[About]| {
        let mut facts = facts(&status("True", "Minted", "the credential is fresh"));
        let told = |about: &About| Disagreement {
            about: *about,
            text: format!("{about:?}"),
        };
        facts.policies.disagreements = abouts.iter().map(told).collect();
        facts.findings().remove(6).outcome
    };
    let StepOutcome::Passed { detail } = of(&[About::Version]) else {
        panic!("a command line of another version says so");
    };
    assert!(
        detail.starts_with("add pull secrets in") && detail.ends_with("; Version"),
        "{detail}"
    );
    let policy = About::Policy { kind, name };
    let commands = |abouts: &[About]| {
        let StepOutcome::Failed(failure) = of(abouts) else {
            panic!("{abouts:?}");
        };
        assert_eq!(
            failure.cause.split("; ").count(),
            abouts.len(),
            "{}",
            failure.cause
        );
        let cures = failure.cures.into_iter();
        cures.filter_map(|cure| cure.command).collect::<Vec<_>>()
    };
    let see = format!(
        "kubectl get validatingadmissionpolicy/{name} validatingadmissionpolicybinding/{name} --output yaml"
    );
    let apply = "kubectl apply --server-side -k my-pullpass";
    assert_eq!(commands(&[policy, policy, About::Version]), [see.as_str(), apply]);
    let all = commands(&[About::Settings, policy]);
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(all[0].starts_with("kubectl get acrindex"), "{all:?}");
}

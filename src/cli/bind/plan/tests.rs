use clap::Parser;
use serde_json::Value;

use super::*;
use crate::cli::bind::BindArgs;

const ID: &str = "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/MyRegistry";

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    bind: BindArgs,
}

fn parsed(flags: &[&str]) -> Result<BindArgs, String> {
    let is_given = flags.iter().any(|flag| flag.starts_with("--service-account"));
    let account: &[&str] = if is_given {
        &[]
    } else {
        &["--service-account=puller"]
    };
    let flags = [&["bind"], account, flags].concat();
    let program = Program::try_parse_from(flags).map_err(|error| error.to_string())?;
    program.bind.check().map_err(|error| error.to_string())?;
    Ok(program.bind)
}

fn planned(flags: &[&str], existing: Option<&AcrPullBinding>) -> Result<BindPlan, PlanError> {
    let args = parsed(flags).unwrap();
    let name = args.object_name();
    let place = Place {
        namespace: "shop",
        name: name.as_str(),
        account: args.service_account.as_str(),
    };
    plan(&args.target, place, &args.spec, existing)
}

fn existing(spec: &Value) -> AcrPullBinding {
    serde_json::from_value(json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
        "metadata": {"name": "myregistry", "namespace": "shop", "uid": "u", "generation": 3}, "spec": spec,
    }))
    .unwrap()
}

#[test]
fn a_registry_is_named_in_each_of_its_forms() {
    let cases = [
        ("MyRegistry", json!({"loginServer": "myregistry.azurecr.io"})),
        (
            "myregistry.azurecr.us",
            json!({"loginServer": "myregistry.azurecr.us"}),
        ),
        (ID, json!({"resourceId": ID})),
    ];
    for (text, expected) in cases {
        let plan = planned(&[text], None).unwrap();
        let mut spec = serde_json::to_value(&plan.object.spec).unwrap();
        assert_eq!(
            spec.as_object_mut().unwrap().remove("serviceAccountName"),
            Some(json!("puller"))
        );
        assert_eq!((spec, plan.write), (expected, Write::Create), "{text}");
        assert_eq!(plan.object.name_any(), "myregistry");
        assert_eq!(plan.pull_secret, "pullpass-binding-myregistry");
    }
    let other = planned(&["images.contoso.com", "--cloud=Other"], None).unwrap();
    assert_eq!(other.login_server.as_str(), "images.contoso.com");
    let refused = planned(&["images.contoso.com"], None).unwrap_err().to_string();
    assert!(refused.contains("--cloud Other"), "{refused}");
    assert!(planned(&["myregistry", "--cloud=Other"], None).is_err());
}

#[test]
fn only_what_is_given_changes() {
    let before = existing(&json!({
        "loginServer": "myregistry.azurecr.io", "serviceAccountName": "puller",
        "credential": {"kind": "AccessToken", "repositories": ["app"], "refreshFraction": 0.4},
    }));
    let patch = |flags: &[&str]| {
        planned(&[&["myregistry"], flags].concat(), Some(&before))
            .unwrap()
            .write
    };
    assert_eq!(patch(&[]), Write::Nothing);
    let spec = |spec: Value| Write::Patch(json!({"spec": spec}));
    assert_eq!(
        patch(&["--service-account=other"]),
        spec(json!({"serviceAccountName": "other"}))
    );
    assert_eq!(
        patch(&["--repository=web", "--repository=app"]),
        spec(json!({"credential": {"repositories": ["web", "app"]}}))
    );
    assert_eq!(
        patch(&["--credential-kind=refreshtoken"]),
        spec(json!({"credential": {"kind": "RefreshToken", "repositories": null}}))
    );
    let other = planned(&["otherregistry", "--name=myregistry"], Some(&before)).unwrap_err();
    assert!(matches!(other, PlanError::OtherRegistry { .. }), "{other}");
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    for (flags, says) in [
        (
            &["--repository=app", "--credential-kind=RefreshToken"][..],
            "only with --credential-kind AccessToken",
        ),
        (&["--create"], "--client-id"),
        (&["--client-id=x"], "--create"),
        (&["--tenant-id=x"], "--create"),
        (&["--credential-kind=ServicePrincipalPassword"], "possible values"),
        (&["--namespace=Shop"], "lower-case"),
    ] {
        let said = parsed(&[&["myregistry"], flags].concat()).unwrap_err();
        assert!(said.contains(says), "{flags:?}: {said}");
    }
    let nothing = planned(&["myregistry", "--credential-kind=AccessToken"], None);
    assert_eq!(nothing, Err(PlanError::NoRepositories));
}

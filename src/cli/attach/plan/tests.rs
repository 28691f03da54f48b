use clap::Parser;

use super::*;
use crate::cli::attach::AttachArgs;

const TENANT: &str = "11111111-1111-4111-8111-111111111111";
const CLIENT: &str = "22222222-2222-4222-8222-222222222222";
const ID: &str = "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/MyRegistry";

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    attach: AttachArgs,
}

/// The flags as typed, in place of `attach`.
fn args(flags: &[&str]) -> AttachArgs {
    Program::try_parse_from([&["attach"], flags].concat())
        .unwrap_or_else(|error| panic!("{flags:?}: {error}"))
        .attach
}

fn refused(flags: &[&str]) -> String {
    match Program::try_parse_from([&["attach"], flags].concat()) {
        Err(error) => error.to_string(),
        Ok(program) => program.attach.check().unwrap_err().to_string(),
    }
}

fn planned(
    flags: &[&str],
    existing: Option<&AcrRegistry>,
) -> Result<(AttachPlan, Option<Wanted>), PlanError> {
    let args = args(flags);
    crate::cli::attach::decide(&args, &args.object_name(), existing)
}

fn existing(spec: &Value) -> AcrRegistry {
    serde_json::from_value(json!({
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "AcrRegistry",
        "metadata": {"name": "myregistry", "uid": "u", "generation": 3},
        "spec": spec,
    }))
    .unwrap()
}

fn with_principal() -> AcrRegistry {
    existing(&json!({
        "loginServer": "myregistry.azurecr.io",
        "identity": {"servicePrincipal": {
            "tenantId": TENANT, "clientId": CLIENT,
            "clientSecretRef": {"name": "identity-myregistry", "key": "password"},
        }},
        "namespaces": {"matchLabels": {"team": "a", "stage": "prod"}},
        "credential": {"refreshFraction": 0.4},
    }))
}

#[test]
fn each_kind_of_identity_becomes_its_part_of_the_spec() {
    let own = |key: &str| json!({"name": "identity-myregistry", "key": key});
    let principal = |field: &str, reference: Value| json!({"servicePrincipal": {"tenantId": TENANT, "clientId": CLIENT, field: reference}});
    let ids = ["--tenant-id", TENANT, "--client-id", CLIENT];
    let file = || SecretSource::File("f".into());
    let client_id = || CLIENT.to_owned();
    for (flags, identity, wanted) in [
        (
            [&ids[..], &["--client-secret-file=f"]].concat(),
            principal("clientSecretRef", own("password")),
            Some(Wanted::ClientSecret {
                client_id: client_id(),
                from: file(),
            }),
        ),
        (
            [&ids[..], &["--client-secret-file=-"]].concat(),
            principal("clientSecretRef", own("password")),
            Some(Wanted::ClientSecret {
                client_id: client_id(),
                from: SecretSource::StandardInput,
            }),
        ),
        (
            ids.to_vec(),
            principal("clientSecretRef", own("password")),
            Some(Wanted::ClientSecret {
                client_id: client_id(),
                from: SecretSource::Prompt,
            }),
        ),
        (
            [&ids[..], &["--client-secret=acr-sp"]].concat(),
            principal("clientSecretRef", json!({"name": "acr-sp", "key": "password"})),
            None,
        ),
        (
            [&ids[..], &["--client-secret=acr-sp/secret"]].concat(),
            principal("clientSecretRef", json!({"name": "acr-sp", "key": "secret"})),
            None,
        ),
        (
            [&ids[..], &["--client-certificate-file=f"]].concat(),
            principal("clientCertificateRef", own("certificate.pem")),
            Some(Wanted::Certificate {
                client_id: client_id(),
                from: file(),
            }),
        ),
        (
            [&ids[..], &["--client-certificate=acr-sp/tls.pem"]].concat(),
            principal(
                "clientCertificateRef",
                json!({"name": "acr-sp", "key": "tls.pem"}),
            ),
            None,
        ),
        (vec!["--workload-identity"], json!({"workloadIdentity": {}}), None),
        (
            [&ids[..], &["--workload-identity"]].concat(),
            json!({"workloadIdentity": {"tenantId": TENANT, "clientId": CLIENT}}),
            None,
        ),
        (vec!["--managed-identity"], json!({"managedIdentity": {}}), None),
        (
            vec!["--managed-identity", "--client-id", CLIENT],
            json!({"managedIdentity": {"clientId": CLIENT}}),
            None,
        ),
        (
            vec!["--managed-identity", "--identity-resource-id=/subscriptions/x"],
            json!({"managedIdentity": {"resourceId": "/subscriptions/x"}}),
            None,
        ),
        (
            vec!["--token-name=puller", "--token-password-file=f"],
            json!({"basic": {"secretRef": {"name": "identity-myregistry", "usernameKey": "username", "passwordKey": "password"}}}),
            Some(Wanted::Token {
                name: "puller".to_owned(),
                from: file(),
            }),
        ),
        (
            vec!["--basic=acr-token"],
            json!({"basic": {"secretRef": {"name": "acr-token", "usernameKey": "username", "passwordKey": "password"}}}),
            None,
        ),
    ] {
        let (plan, wants) = planned(&[&["MyRegistry"], &flags[..]].concat(), None).unwrap();
        assert_eq!(plan.write, Write::Create);
        assert_eq!(json!(plan.object.spec.identity), identity, "{flags:?}");
        assert_eq!(wants, wanted, "{flags:?}");
        assert_eq!(plan.object.name_any(), "myregistry");
        assert_eq!(
            plan.object.spec.login_server.as_deref(),
            Some("myregistry.azurecr.io")
        );
    }
}

#[test]
fn the_other_flags_become_the_rest_of_the_spec() {
    for (flags, expected) in [
        (
            vec!["myregistry.azurecr.cn", "--cloud=china"],
            json!({"loginServer": "myregistry.azurecr.cn", "cloud": "China"}),
        ),
        (vec![ID], json!({"resourceId": ID})),
        (
            vec![
                "myregistry",
                "--cloud=USGovernment",
                "--eager",
                "--namespaces=team=a",
            ],
            json!({
                "loginServer": "myregistry.azurecr.us", "cloud": "USGovernment", "provision": "Eager",
                "namespaces": {"matchLabels": {"team": "a"}},
            }),
        ),
        (
            vec![
                "myregistry",
                "--repository=team/app",
                "--repository=b",
                "--audience=https://a.example",
            ],
            json!({
                "loginServer": "myregistry.azurecr.io", "audience": "https://a.example",
                "credential": {"kind": "AccessToken", "repositories": ["team/app", "b"]},
            }),
        ),
    ] {
        let flags = [&flags[..], &["--managed-identity"]].concat();
        let (plan, _) = planned(&flags, None).unwrap();
        let mut spec = json!(plan.object.spec);
        spec.as_object_mut().unwrap().remove("identity");
        assert_eq!(spec, expected, "{flags:?}");
    }
}

#[test]
fn attaching_again_changes_what_is_given_and_nothing_else() {
    let before = with_principal();
    let patch = |flags: &[&str]| {
        let (plan, _) = planned(&[&["myregistry"], flags].concat(), Some(&before)).unwrap();
        match plan.write {
            Write::Patch(patch) => patch["spec"].clone(),
            Write::Nothing => Value::Null,
            Write::Create => panic!("it is there already"),
        }
    };
    for (flags, expected) in [
        (vec![], Value::Null),
        // A new password is only in the Secret.
        (vec!["--client-secret-file=f"], Value::Null),
        (vec!["--namespaces=stage=prod,team=a"], Value::Null),
        (vec!["--namespaces="], json!({"namespaces": null})),
        (
            vec!["--namespaces=team=b"],
            json!({"namespaces": {"matchLabels": {"team": "b", "stage": null}}}),
        ),
        (
            vec!["--managed-identity"],
            json!({"identity": {
                "servicePrincipal": null, "workloadIdentity": null, "basic": null, "anonymous": null,
                "managedIdentity": {"clientId": null, "resourceId": null},
            }}),
        ),
        (
            vec!["--client-certificate-file=f"],
            json!({"identity": {
                "servicePrincipal": {
                    "tenantId": TENANT, "clientId": CLIENT, "clientSecretRef": null,
                    "clientCertificateRef": {"name": "identity-myregistry", "key": "certificate.pem"},
                },
                "workloadIdentity": null, "managedIdentity": null, "basic": null, "anonymous": null,
            }}),
        ),
        (
            vec!["--anonymous"],
            json!({"credential": null, "identity": {
                "servicePrincipal": null, "workloadIdentity": null, "managedIdentity": null, "basic": null, "anonymous": {},
            }}),
        ),
        (vec!["--eager"], json!({"provision": "Eager"})),
        (
            vec!["--credential-kind=refreshtoken"],
            json!({"credential": {"kind": "RefreshToken"}}),
        ),
    ] {
        assert_eq!(patch(&flags), expected, "{flags:?}");
    }
    let (by_id, _) = planned(&[ID], Some(&before)).unwrap();
    assert_eq!(by_id.write, Write::Patch(json!({"spec": {"resourceId": ID}})));
}

#[test]
fn a_secret_that_nobody_names_any_more_is_left_behind() {
    let before = with_principal();
    for (flags, leaves) in [
        (vec!["--client-secret-file=f"], false),
        (vec!["--token-name=t", "--token-password-file=f"], false),
        (vec!["--client-secret=identity-myregistry"], false),
        (vec!["--eager"], false),
        (vec!["--client-secret=acr-sp"], true),
        (vec!["--workload-identity"], true),
    ] {
        let (plan, _) = planned(&[&["myregistry"], &flags[..]].concat(), Some(&before)).unwrap();
        assert_eq!(plan.leaves_secret, leaves, "{flags:?}");
    }
}

#[test]
fn a_token_has_no_kind_whatever_was_there() {
    let before = existing(&json!({
        "loginServer": "myregistry.azurecr.io",
        "identity": {"managedIdentity": {}},
        "credential": {"kind": "AccessToken", "repositories": ["a"]},
    }));
    let (plan, _) = planned(&["myregistry", "--basic=acr-token"], Some(&before)).unwrap();
    let Write::Patch(patch) = plan.write else {
        panic!("{:?}", plan.write)
    };
    assert_eq!(
        patch["spec"]["credential"],
        json!({"kind": null, "repositories": null})
    );
}

#[test]
fn plans_that_can_not_be_done_say_what_can() {
    let before = with_principal();
    for (flags, existing, says) in [
        (vec!["myregistry"], None, "say who pulls"),
        (
            vec!["myregistry", "--client-id", CLIENT],
            None,
            "needs --tenant-id",
        ),
        (
            vec!["myregistry", "--client-secret-file=f"],
            None,
            "az ad sp create-for-rbac",
        ),
        (
            vec!["otherregistry", "--name=myregistry"],
            Some(&before),
            "AcrRegistry myregistry exists for another registry, myregistry.azurecr.io",
        ),
        (
            vec!["myregistry.azurecr.io", "--cloud=China", "--managed-identity"],
            None,
            "spec.cloud does not fit",
        ),
        (
            vec!["registry.contoso.com", "--managed-identity"],
            None,
            "registry.contoso.com is in none of Azure's clouds",
        ),
        (
            vec!["myregistry", "--cloud=other", "--managed-identity"],
            None,
            "a login server of another cloud is a DNS name",
        ),
        (
            vec![
                "myregistry",
                "--credential-kind=AccessToken",
                "--managed-identity",
            ],
            None,
            "add --repository",
        ),
    ] {
        let error = planned(&flags, existing).unwrap_err().to_string();
        assert!(error.contains(says), "{flags:?}: {error}");
    }
    for (flags, says) in [
        (vec![], "NAME|LOGIN-SERVER|RESOURCE-ID"),
        (
            vec!["my_registry"],
            "Name the registry as myregistry, as myregistry.azurecr.io",
        ),
        (
            vec!["myregistry", "--managed-identity", "--workload-identity"],
            "cannot be used with",
        ),
        (
            vec!["myregistry", "--client-secret-file=f", "--client-secret=s"],
            "cannot be used with",
        ),
        (
            vec!["myregistry", "--managed-identity", "--tenant-id=t"],
            "cannot be used with",
        ),
        (vec!["myregistry", "--token-password-file=f"], "--token-name"),
        (vec!["myregistry", "--tenant-id=not a tenant"], "az account show"),
        (vec!["myregistry", "--client-id=a:b"], "az ad sp list"),
        (vec!["myregistry", "--audience=http://a"], "https URL"),
        (
            vec!["myregistry", "--repository=App:v1"],
            "az acr repository list",
        ),
        (
            vec!["myregistry", "--namespaces=a b"],
            "where one of =, !=, in, notin is expected",
        ),
        (vec!["myregistry", "--name=Big"], "lower-case letters"),
        (vec!["myregistry", "--client-secret=a/b/c"], "a Secret's key"),
        (
            vec!["myregistry", "--timeout=soon"],
            "a number of seconds or a duration",
        ),
        (
            vec!["myregistry", "--basic=s", "--repository=a"],
            "az acr scope-map update",
        ),
        (
            vec![
                "myregistry",
                "--managed-identity",
                "--repository=a",
                "--credential-kind=RefreshToken",
            ],
            "only with --credential-kind AccessToken",
        ),
    ] {
        let error = refused(&flags);
        assert!(error.contains(says), "{flags:?}: {error}");
    }
}

#[test]
fn the_secret_is_known_again_and_is_no_minted_credential() {
    let content: Content = [(PASSWORD_KEY, "hush".into())].into();
    let manifest = secret_manifest("s", "n", Some(&content), "a,b", owner(&with_principal()).as_ref());
    assert_eq!(
        manifest,
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"password": "aHVzaA=="},
            "metadata": {
                "name": "s", "namespace": "n", "annotations": {"pullpass.dev/registries": "a,b"},
                "ownerReferences": [{
                    "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "name": "myregistry", "uid": "u",
                }],
            },
        })
    );
    assert!(secret_manifest("s", "n", None, "a", None).get("data").is_none());
}

#[test]
fn a_secret_that_is_shared_keeps_the_names_that_it_has() {
    let metadata = |annotations: Value| -> ObjectMeta {
        serde_json::from_value(json!({"annotations": annotations})).unwrap()
    };
    let shared = metadata(json!({"pullpass.dev/registries": "betareg", "note": "n"}));
    assert_eq!(users(Some(&shared), "myregistry"), "betareg,myregistry");
    assert_eq!(
        users(Some(&metadata(json!({"note": "n"}))), "myregistry"),
        "myregistry"
    );
    assert_eq!(users(None, "myregistry"), "myregistry");
}

#[test]
fn a_registry_of_another_cloud_is_attached_by_its_host() {
    let host = "myregistry.azurecr.contoso.com";
    let (plan, _) = planned(&[host, "--cloud=Other", "--managed-identity"], None).unwrap();
    assert_eq!((&*plan.login_server, plan.write), (host, Write::Create));
    let spec = serde_json::to_value(&plan.object.spec).unwrap();
    assert_eq!(
        (&spec["loginServer"], &spec["cloud"]),
        (&json!(host), &json!("Other"))
    );
    // What is there is known by the same name, and stays as it is.
    let (again, _) = planned(&[host, "--managed-identity"], Some(&plan.object)).unwrap();
    assert_eq!(again.write, Write::Nothing);
}

#[test]
fn custom_domains_are_replaced_and_taken_away() {
    let mut before = with_principal();
    before.spec.custom_domains = vec!["old.contoso.com".to_owned()];
    let patch = |flags: &[&str]| {
        let (plan, _) = planned(&[&["myregistry"], flags].concat(), Some(&before)).unwrap();
        (plan.object.spec.custom_domains, plan.write)
    };
    let to = |domains: Value| Write::Patch(json!({"spec": {"customDomains": domains}}));
    assert_eq!(patch(&[]), (vec!["old.contoso.com".to_owned()], Write::Nothing));
    let (domains, write) = patch(&[
        "--custom-domain=b.contoso.com",
        "--custom-domain=A.contoso.com",
        "--custom-domain=b.contoso.com",
    ]);
    assert_eq!(domains, ["a.contoso.com", "b.contoso.com"]);
    assert_eq!(write, to(json!(["a.contoso.com", "b.contoso.com"])));
    assert_eq!(patch(&["--custom-domain="]), (Vec::new(), to(Value::Null)));
    for (text, words) in [
        ("other.azurecr.io", "does not end in .azurecr.io"),
        ("registry.contoso.com:443", "is a DNS name in lower case"),
    ] {
        let refused = refused(&["myregistry", "--custom-domain", text]);
        assert!(refused.contains(words), "{refused}");
    }
}

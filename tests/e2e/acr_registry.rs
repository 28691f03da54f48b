//! What the API server itself says to an AcrRegistry.

use std::error::Error;
use std::sync::OnceLock;

use pullpass_test_support::ControlPlane;
use serde_json::{Value, json};

use crate::cluster::Test;
use crate::schemas;

const SUBSCRIPTION: &str = "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590";

/// The shared control plane, with the custom resource.
fn with_crd() -> Result<&'static ControlPlane, Box<dyn Error>> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    schemas::with_crd(&INSTALLED, "manifests/base/crd.yaml")
}

fn registry(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "AcrRegistry",
        "metadata": {"name": name},
        "spec": spec,
    })
}

/// A spec that holds, with some of its fields changed; a field that is `null` goes.
fn changed(change: &Value) -> Value {
    let spec = json!({"loginServer": "myregistry.azurecr.io", "identity": {"managedIdentity": {}}});
    schemas::changed(spec, change)
}

fn resource_id(name: &str) -> String {
    format!("{SUBSCRIPTION}/resourceGroups/apps/providers/Microsoft.ContainerRegistry/registries/{name}")
}

fn service_principal(more: &Value) -> Value {
    let mut principal =
        json!({"tenantId": "contoso.example", "clientId": "11111111-2222-3333-4444-555555555555"});
    if let (Some(fields), Some(more)) = (principal.as_object_mut(), more.as_object()) {
        fields.extend(more.clone());
    }
    json!({"servicePrincipal": principal})
}

fn secret() -> Value {
    json!({"clientSecretRef": {"name": "acr-sp", "key": "password"}})
}

#[test]
fn sound_specs_are_accepted() -> Test {
    let cluster = with_crd()?;
    let both = json!({
        "loginServer": "myregistry-a1b2c3.azurecr.io",
        "resourceId": resource_id("myregistry"),
    });
    let specs = [
        json!({}),
        json!({"loginServer": "MyRegistry.azurecr.io"}),
        json!({"loginServer": "myregistry.azurecr.us", "cloud": "USGovernment"}),
        json!({"loginServer": "myregistry.azurecr.cn", "cloud": "China"}),
        json!({"loginServer": null, "resourceId": resource_id("MyRegistry")}),
        json!({"loginServer": null, "resourceId": resource_id("myregistry").to_lowercase(), "cloud": "China"}),
        both,
        json!({"loginServer": "registry.contoso.com", "cloud": "Other"}),
        json!({"loginServer": "my-registry.azurecr.appliance.contoso.com", "cloud": "Other", "resourceId": resource_id("my1registry")}),
        json!({"loginServer": format!("{}.{}.example", "a".repeat(63), vec!["b"; 90].join(".")), "cloud": "Other"}),
        json!({"audience": "https://containerregistry.azure.net"}),
        json!({"identity": service_principal(&secret())}),
        json!({"identity": service_principal(&json!({"clientCertificateRef": {"name": "acr-sp", "key": "tls.pem"}}))}),
        json!({"identity": {"workloadIdentity": {}}}),
        json!({"identity": {"workloadIdentity": {"tenantId": "contoso.example", "clientId": "1-2"}}}),
        json!({"identity": {"managedIdentity": {"clientId": "1-2"}}}),
        json!({"identity": {"managedIdentity": {"resourceId": "/subscriptions/x"}}}),
        json!({"identity": {"basic": {"secretRef": {"name": "acr-token"}}}}),
        json!({"identity": {"basic": {"secretRef": {"name": "acr-token"}}, "managedIdentity": null}}),
        json!({"identity": {"anonymous": {}}, "namespaces": {"matchLabels": {"team": "a"}}}),
        json!({"credential": {}}),
        json!({"credential": {"kind": "RefreshToken", "refreshFraction": 0.1}}),
        json!({"credential": {"kind": "AccessToken", "repositories": ["app", "team/app", "a.b_c__d--e/f"], "refreshFraction": 0.9}}),
        json!({"credential": access_token_for(16, 125)}),
        json!({"identity": service_principal(&secret()), "credential": {"kind": "ServicePrincipalPassword"}}),
        json!({"namespaces": {"matchLabels": {"team": "a"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]}}),
        json!({"provision": "Eager"}),
        json!({"customDomains": []}),
        json!({"customDomains": ["registry.contoso.com", "1.xn--p1ai", "azurecr.io.contoso.com"]}),
        json!({"customDomains": domains(16), "identity": {"anonymous": {}}}),
        json!({"customDomains": domains(3), "credential": access_token_for(4, 125)}),
    ];
    let items: Vec<_> = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| registry(&format!("sound-{index}"), &changed(spec)))
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    assert_eq!(schemas::accepted(cluster, &list)?, specs.len());
    Ok(())
}

/// So many custom domains.
fn domains(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("d{number}.contoso.com"))
        .collect()
}

#[test]
fn texts_that_are_no_custom_domain_are_refused() -> Test {
    let item = "spec.customDomains[0]";
    for text in [
        "",
        "registry",
        "Registry.contoso.com",
        "registry.contoso.com:443",
        "registry.contoso.com/app",
        "https://registry.contoso.com",
        "*.contoso.com",
        "registry.contoso.com.",
        "10.0.0.1",
    ] {
        rejects(&json!({"customDomains": [text]}), item, "Invalid value")?;
    }
    for text in [
        "azurecr.io",
        "other.azurecr.io",
        "myregistry.westeurope.geo.azurecr.cn",
        "myregistry.westeurope.data.azurecr.us",
        "docker.io",
        "index.docker.io",
    ] {
        rejects(
            &json!({"customDomains": ["registry.contoso.com", text]}),
            "spec.customDomains",
            "a custom domain does not end in .azurecr.io, .azurecr.us or .azurecr.cn",
        )?;
    }
    rejects(
        &json!({"customDomains": domains(17)}),
        "spec.customDomains",
        "must have at most 16 items",
    )?;
    rejects(
        &json!({"customDomains": ["a.contoso.com", "a.contoso.com"]}),
        "spec.customDomains[1]",
        "Duplicate value",
    )?;
    rejects(
        &json!({"customDomains": domains(4), "credential": access_token_for(4, 1)}),
        "spec",
        "more than 16 in all do not fit",
    )
}

/// An access token for so many repositories, whose names have so many characters each.
fn access_token_for(count: usize, length: usize) -> Value {
    let repositories = vec!["a".repeat(length); count];
    json!({"kind": "AccessToken", "repositories": repositories})
}

#[test]
fn specs_that_name_no_registry_are_refused() -> Test {
    let host = "must be the host of a registry that ends in .azurecr.io, .azurecr.us or .azurecr.cn, without scheme, port or path, unless spec.cloud is Other";
    let other = "with spec.cloud Other, spec.loginServer must be a DNS name in lower case, without scheme, port or path, that does not end in .azurecr.io, .azurecr.us or .azurecr.cn, nor in docker.io";
    let form = "must be /subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.ContainerRegistry/registries/{name}";
    let neither = "set spec.loginServer, for instance myregistry.azurecr.io, or spec.resourceId";
    let cloud = "spec.cloud does not fit the suffix of spec.loginServer: leave spec.cloud out, or correct it";
    let audience = "must be an https URL without a path, for instance https://containerregistry.azure.net";
    let clouds = "supported values: \"Public\", \"USGovernment\", \"China\", \"Other\"";
    for text in [
        "registry.example",
        "https://myregistry.azurecr.io",
        "myregistry.azurecr.io:443",
        "myregistry.azurecr.io/app",
        "myregistry.azurecr.io.evil.example",
        "my.registry.azurecr.io",
        "myregistry.westeurope.geo.azurecr.io",
        "myregistry.westeurope.data.azurecr.io",
        "four.azurecr.io",
    ] {
        rejects(&json!({"loginServer": text}), "spec.loginServer", host)?;
    }
    for text in [
        "myregistry".to_owned(),
        resource_id("my-registry"),
        format!("{SUBSCRIPTION}/resourceGroups/apps"),
    ] {
        rejects(&json!({"resourceId": text}), "spec.resourceId", form)?;
    }
    let too_long = format!("{}-{}.azurecr.io", "a".repeat(50), "b".repeat(20));
    rejects(&json!({"loginServer": too_long}), "spec.loginServer", host)?;
    rejects(
        &json!({"loginServer": "registry.contoso.com", "cloud": "Public"}),
        "spec.loginServer",
        host,
    )?;
    for text in [
        "registry",
        "Registry.contoso.com",
        "registry.contoso.com:443",
        "https://registry.contoso.com",
        "registry.contoso.com/app",
        "10.0.0.1",
        "myregistry.azurecr.io",
        "myregistry.westeurope.geo.azurecr.cn",
        "registry-1.docker.io",
    ] {
        rejects(
            &json!({"loginServer": text, "cloud": "Other"}),
            "spec.loginServer",
            other,
        )?;
    }
    rejects(
        &json!({"loginServer": null, "resourceId": resource_id("myregistry"), "cloud": "Other"}),
        "spec.loginServer",
        other,
    )?;
    rejects(&json!({"loginServer": null}), "spec", neither)?;
    rejects(&json!({"cloud": "China"}), "spec", cloud)?;
    rejects(&json!({"cloud": "Mars"}), "spec.cloud", clouds)?;
    rejects(
        &json!({"audience": "registry.example"}),
        "spec.audience",
        audience,
    )
}

#[test]
fn other_than_exactly_one_whole_identity_is_refused() -> Test {
    let one_of_five =
        "set exactly one of servicePrincipal, workloadIdentity, managedIdentity, basic and anonymous";
    let one_reference = "set exactly one of clientSecretRef and clientCertificateRef";
    let one_name = "set at most one of clientId and resourceId; neither means the system-assigned identity";
    let reference = json!({"name": "acr-sp", "key": "password"});
    let both = service_principal(&json!({"clientSecretRef": reference, "clientCertificateRef": reference}));
    let no_tenant = json!({"servicePrincipal": {"clientId": "1-2", "clientSecretRef": reference}});
    for (identity, field, words) in [
        (json!(null), "", "Required value"),
        (json!({}), "", one_of_five),
        (
            json!({"managedIdentity": {}, "workloadIdentity": {}}),
            "",
            one_of_five,
        ),
        (json!({"anonymous": {}, "managedIdentity": {}}), "", one_of_five),
        (service_principal(&json!({})), ".servicePrincipal", one_reference),
        (both, ".servicePrincipal", one_reference),
        (no_tenant, ".servicePrincipal.tenantId", "Required value"),
        (
            json!({"managedIdentity": {"clientId": "1", "resourceId": "/x"}}),
            ".managedIdentity",
            one_name,
        ),
        (
            json!({"basic": {"secretRef": {}}}),
            ".basic.secretRef.name",
            "Required value",
        ),
    ] {
        rejects(
            &json!({"identity": identity}),
            &format!("spec.identity{field}"),
            words,
        )?;
    }
    Ok(())
}

#[test]
fn a_credential_that_can_not_be_had_is_refused() -> Test {
    let repositories = "repositories goes with kind AccessToken, which needs at least one";
    let password =
        "spec.credential.kind ServicePrincipalPassword needs spec.identity.servicePrincipal.clientSecretRef";
    let basic = "spec.credential.kind does not go with spec.identity.basic, whose user name and password are used as they are";
    let certificate = json!({"clientCertificateRef": {"name": "acr-sp", "key": "tls.pem"}});
    for credential in [
        json!({"kind": "AccessToken"}),
        json!({"kind": "AccessToken", "repositories": []}),
        json!({"repositories": ["team/app"]}),
    ] {
        rejects(
            &json!({"credential": credential}),
            "spec.credential",
            repositories,
        )?;
    }
    // Whole numbers too, for which the API server truncates a schema's own bounds.
    for fraction in [json!(0), json!(0.05), json!(0.95), json!(1)] {
        rejects(
            &json!({"credential": {"refreshFraction": fraction}}),
            "spec.credential.refreshFraction",
            "must be from 0.1 to 0.9",
        )?;
    }
    rejects(
        &json!({"credential": {"kind": "AccessToken", "repositories": ["team/*"]}}),
        "spec.credential.repositories[0]",
        "should match",
    )?;
    rejects(
        &json!({"credential": access_token_for(17, 1)}),
        "spec.credential.repositories",
        "must have at most 16 items",
    )?;
    rejects(
        &json!({"credential": access_token_for(15, 134)}),
        "spec.credential",
        "the names in repositories have more than 2000 characters together",
    )?;
    let long_lived = json!({"kind": "ServicePrincipalPassword"});
    rejects(&json!({"credential": long_lived}), "spec", password)?;
    rejects(
        &json!({"credential": long_lived, "identity": service_principal(&certificate)}),
        "spec",
        password,
    )?;
    rejects(
        &json!({
            "credential": {"kind": "RefreshToken"},
            "identity": {"basic": {"secretRef": {"name": "acr-token"}}},
        }),
        "spec",
        basic,
    )?;
    let anonymous =
        "spec.credential and spec.audience do not go with spec.identity.anonymous, which has no credential";
    for (field, value) in [
        ("credential", json!({"refreshFraction": 0.5})),
        ("audience", json!("https://containerregistry.azure.net")),
    ] {
        rejects(
            &json!({"identity": {"anonymous": {}}, field: value}),
            "spec",
            anonymous,
        )?;
    }
    rejects(
        &json!({"provision": "Later"}),
        "spec.provision",
        "supported values: \"OnDemand\", \"Eager\"",
    )
}

#[test]
fn a_name_that_is_no_labels_value_is_refused() -> Test {
    refuses(
        &registry(&"a".repeat(64), &changed(&json!({}))),
        "is invalid",
        "metadata.name must be at most 63 characters: it becomes a label's value",
    )
}

/// A selector that is misspelt would let everyone in.
#[test]
fn unknown_fields_are_refused() -> Test {
    for (change, field) in [
        (
            json!({"namespace": {"matchLabels": {"team": "a"}}}),
            "spec.namespace",
        ),
        (
            json!({"namespaces": {"matchLabel": {"team": "a"}}}),
            "spec.namespaces.matchLabel",
        ),
    ] {
        refuses(
            &registry("unsound", &changed(&change)),
            "strict decoding error",
            &format!("unknown field \"{field}\""),
        )?;
    }
    Ok(())
}

/// A spec that holds is refused with this change: what a person sees names the field, and has these words.
fn rejects(change: &Value, field: &str, words: &str) -> Test {
    refuses(
        &registry("unsound", &changed(change)),
        &format!(" {field}: "),
        words,
    )
}

fn refuses(object: &Value, place: &str, words: &str) -> Test {
    schemas::refuses(with_crd()?, object, place, words)
}

#[test]
fn kubectl_get_acr_tells_what_matters() -> Test {
    let cluster = with_crd()?;
    let name = "columns";
    cluster.create(&registry(name, &changed(&json!({}))).to_string())?;
    let status = json!({"status": {
        "observedGeneration": 1,
        "loginServer": "myregistry.azurecr.io",
        "conditions": [{
            "type": "Ready",
            "status": "True",
            "reason": "Minted",
            "message": "The credential is good.",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
        "credential": {"expiresAt": "2026-01-01T03:00:00Z", "nextRefresh": "2026-01-01T02:00:00Z"},
        "namespaces": {"served": 12, "failed": 0},
    }});
    cluster.run(&[
        "patch",
        "acr",
        name,
        "--subresource=status",
        "--type=merge",
        "--patch",
        &status.to_string(),
    ])?;
    let table = cluster.run(&["get", "acr", name])?.stdout;
    let [header, row] = &schemas::rows(&table)[..] else {
        return Err(table.into());
    };
    assert_eq!(
        header[..],
        [
            "NAME",
            "LOGIN SERVER",
            "READY",
            "REASON",
            "EXPIRES",
            "NAMESPACES",
            "PULL AUTHORIZED",
            "AGE"
        ]
    );
    assert_eq!(
        row.get(..6),
        Some(
            &[
                name,
                "myregistry.azurecr.io",
                "True",
                "Minted",
                "2026-01-01T03:00:00Z",
                "12"
            ][..]
        )
    );
    let table = cluster.run(&["get", "acr", name, "--output=wide"])?.stdout;
    let [header, row] = &schemas::rows(&table)[..] else {
        return Err(table.into());
    };
    assert!(
        header.ends_with(&["FAILED NAMESPACES", "NEXT REFRESH", "MESSAGE"]),
        "{table}"
    );
    assert!(
        row.ends_with(&["0", "2026-01-01T02:00:00Z", "The credential is good."]),
        "{table}"
    );
    Ok(())
}

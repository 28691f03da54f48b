//! What the API server itself says to an AcrPullBinding.

use std::error::Error;
use std::sync::OnceLock;

use pullpass_test_support::ControlPlane;
use serde_json::{Value, json};

use crate::cluster::Test;
use crate::schemas;

const RESOURCE_ID: &str = "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/apps/providers/Microsoft.ContainerRegistry/registries/myregistry";

/// The shared control plane, with the custom resource.
fn with_crd() -> Result<&'static ControlPlane, Box<dyn Error>> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    schemas::with_crd(&INSTALLED, "manifests/components/bindings/crd.yaml")
}

/// A binding whose spec holds, with some of its fields changed; a field that is `null` goes.
fn binding(name: &str, change: &Value) -> Value {
    let spec = json!({"loginServer": "myregistry.azurecr.io", "serviceAccountName": "puller"});
    json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
        "metadata": {"name": name, "namespace": "default"},
        "spec": schemas::changed(spec, change),
    })
}

#[test]
fn sound_bindings_are_accepted() -> Test {
    let access_token = json!({"kind": "AccessToken", "repositories": ["team/app"], "refreshFraction": 0.9});
    let specs = [
        json!({}),
        json!({"loginServer": "MyRegistry-a1b2.azurecr.io", "resourceId": RESOURCE_ID}),
        json!({"loginServer": null, "resourceId": RESOURCE_ID}),
        json!({"loginServer": null, "resourceId": RESOURCE_ID, "cloud": "China"}),
        json!({"loginServer": "myregistry.azurecr.us", "cloud": "USGovernment"}),
        json!({"loginServer": "registry.contoso.com", "cloud": "Other"}),
        json!({"audience": "https://containerregistry.azure.net"}),
        json!({"credential": {"kind": "RefreshToken"}}),
        json!({"credential": access_token}),
        json!({"serviceAccountName": format!("a.{}", "b".repeat(251))}),
    ];
    let named = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| binding(&format!("sound-{index}"), spec));
    let longest = binding(&"a".repeat(63), &json!({}));
    let items: Vec<_> = named.chain([longest]).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    assert_eq!(schemas::accepted(with_crd()?, &list)?, specs.len() + 1);
    Ok(())
}

#[test]
fn wrong_bindings_are_refused() -> Test {
    let host = "must be the host of a registry that ends in .azurecr.io, .azurecr.us or .azurecr.cn, without scheme, port or path, unless spec.cloud is Other";
    let other = "with spec.cloud Other, spec.loginServer must be a DNS name in lower case";
    let neither = "set spec.loginServer, for instance myregistry.azurecr.io, or spec.resourceId";
    let cloud = "spec.cloud does not fit the suffix of spec.loginServer: leave spec.cloud out, or correct it";
    let password = "spec.credential.kind is RefreshToken or AccessToken: there is no password";
    let repositories = "repositories goes with kind AccessToken, which needs at least one";
    for (change, place, words) in [
        (json!({"loginServer": null}), "spec", neither),
        (
            json!({"loginServer": "registry.example"}),
            "spec.loginServer",
            host,
        ),
        (
            json!({"loginServer": "registry.contoso.com", "cloud": "Public"}),
            "spec.loginServer",
            host,
        ),
        (json!({"cloud": "China"}), "spec", cloud),
        (
            json!({"loginServer": "myregistry.azurecr.cn", "cloud": "USGovernment"}),
            "spec",
            cloud,
        ),
        (json!({"cloud": "Other"}), "spec.loginServer", other),
        (
            json!({"loginServer": null, "resourceId": RESOURCE_ID, "cloud": "Other"}),
            "spec.loginServer",
            other,
        ),
        (
            json!({"cloud": "Mars"}),
            "spec.cloud",
            "supported values: \"Public\", \"USGovernment\", \"China\", \"Other\"",
        ),
        (
            json!({"resourceId": "myregistry"}),
            "spec.resourceId",
            "must be /subscriptions/{subscription}/resourceGroups/{group}",
        ),
        (
            json!({"audience": "registry.example"}),
            "spec.audience",
            "must be an https URL without a path",
        ),
        (
            json!({"serviceAccountName": null}),
            "spec.serviceAccountName",
            "Required value",
        ),
        (
            json!({"serviceAccountName": ""}),
            "spec.serviceAccountName",
            "should be at least 1 chars long",
        ),
        (
            json!({"serviceAccountName": "Puller"}),
            "spec.serviceAccountName",
            "should match",
        ),
        (
            json!({"serviceAccountName": "a".repeat(254)}),
            "spec.serviceAccountName",
            "Too long",
        ),
        (
            json!({"credential": {"kind": "ServicePrincipalPassword"}}),
            "spec",
            password,
        ),
        (
            json!({"credential": {"kind": "AccessToken"}}),
            "spec.credential",
            repositories,
        ),
        (
            json!({"credential": {"repositories": ["team/app"]}}),
            "spec.credential",
            repositories,
        ),
        (
            json!({"credential": {"refreshFraction": 1}}),
            "spec.credential.refreshFraction",
            "must be from 0.1 to 0.9",
        ),
    ] {
        let object = binding("unsound", &change);
        schemas::refuses(with_crd()?, &object, &format!(" {place}: "), words)?;
    }
    Ok(())
}

#[test]
fn a_bindings_name_that_is_no_labels_value_is_refused() -> Test {
    let object = binding(&"a".repeat(64), &json!({}));
    let words = "metadata.name must be at most 63 characters: it becomes a label's value";
    schemas::refuses(with_crd()?, &object, "is invalid", words)
}

/// An AcrRegistry has them, and a binding that seems to take them would let more in than its owner means.
#[test]
fn fields_of_an_acr_registry_alone_are_refused() -> Test {
    for (field, value) in [
        ("identity", json!({"managedIdentity": {}})),
        ("namespaces", json!({"matchLabels": {"team": "a"}})),
        ("customDomains", json!(["registry.contoso.com"])),
        ("provision", json!("OnDemand")),
    ] {
        let object = binding("unsound", &json!({field: value}));
        let words = format!("unknown field \"spec.{field}\"");
        schemas::refuses(with_crd()?, &object, "strict decoding error", &words)?;
    }
    Ok(())
}

#[test]
fn kubectl_get_acrb_tells_what_matters() -> Test {
    let (cluster, name) = (with_crd()?, "columns");
    cluster.create(&binding(name, &json!({})).to_string())?;
    let condition = |kind: &str, reason: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": "It is good.",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let status = json!({"status": {
        "observedGeneration": 1,
        "loginServer": "myregistry.azurecr.io",
        "conditions": [condition("Ready", "Minted"), condition("PullAuthorized", "Authorized")],
        "credential": {"expiresAt": "2026-01-01T03:00:00Z", "nextRefresh": "2026-01-01T02:00:00Z"},
    }});
    cluster.run(&[
        "patch",
        "acrb",
        name,
        "--namespace=default",
        "--subresource=status",
        "--type=merge",
        "--patch",
        &status.to_string(),
    ])?;
    let table = cluster.run(&["get", "acrb", name, "--namespace=default"])?.stdout;
    let [header, row] = &schemas::rows(&table)[..] else {
        return Err(table.into());
    };
    let expected = [
        ("NAME", name),
        ("LOGIN SERVER", "myregistry.azurecr.io"),
        ("SERVICE ACCOUNT", "puller"),
        ("READY", "True"),
        ("REASON", "Minted"),
        ("EXPIRES", "2026-01-01T03:00:00Z"),
        ("PULL AUTHORIZED", "True"),
    ];
    let Some(("AGE", columns)) = header.split_last().map(|(last, columns)| (*last, columns)) else {
        return Err(table.into());
    };
    let told: Vec<_> = columns.iter().copied().zip(row.iter().copied()).collect();
    assert_eq!(told, expected);
    let table = cluster
        .run(&["get", "acrb", name, "--namespace=default", "--output=wide"])?
        .stdout;
    let [header, row] = &schemas::rows(&table)[..] else {
        return Err(table.into());
    };
    assert!(header.ends_with(&["NEXT REFRESH", "MESSAGE"]), "{table}");
    assert!(row.ends_with(&["2026-01-01T02:00:00Z", "It is good."]), "{table}");
    Ok(())
}

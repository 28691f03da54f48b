//! Every kind of identity that the flags can name.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pullpass_emulator::{Cloud, ManagedIdentity, RsaSigner, Step};
use pullpass_test_support::{Azure, Login};
use serde_json::{Value, json};

use crate::world::{Test, assert_said, identity, login, pullpass, run};

const RESOURCE: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/puller";

#[test]
fn a_client_certificate_is_checked() -> Test {
    let login = login();
    let leaf = RsaSigner::FIRST.certificate(&login.name)?;
    let azure = Azure::with(std::slice::from_ref(&login), |config| {
        config.principals[0].certificates = vec![leaf.clone()];
    })?;
    let file = azure.directory().join("certificate.pem");
    fs::write(&file, format!("{leaf}{}", RsaSigner::FIRST.pem()))?;
    let output = run(pullpass().arg(&login.host).args(azure.flags()).args([
        format!("--tenant-id={}", login.tenant),
        format!("--client-id={}", login.client),
        format!("--client-certificate-file={}", file.display()),
    ]))?;
    assert_said(&azure, "well", &output, 0)
}

#[test]
fn a_token_of_a_cluster_without_rsa_keys_is_not_sent() -> Test {
    let login = login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = part(json!({"iss": "https://cluster.example", "sub": "system:serviceaccount:a:b"}));
    let file = azure.directory().join("token");
    fs::write(&file, format!("{}.{claims}.c2ln", part(json!({"alg": "ES256"}))))?;
    let output = run(pullpass().arg(&login.host).args(azure.flags()).args([
        "--workload-identity".to_owned(),
        format!("--tenant-id={}", login.tenant),
        format!("--client-id={}", login.client),
        format!("--federated-token-file={}", file.display()),
    ]))?;
    assert_said(&azure, "token-algorithm", &output, 1)?;
    assert_eq!(azure.counts().calls(Step::EntraToken), 0);
    Ok(())
}

#[test]
fn a_managed_identity_is_named_by_its_resource_id() -> Test {
    let login = login();
    let azure = Azure::with(std::slice::from_ref(&login), |config| {
        config.principals[0].managed_identity = Some(ManagedIdentity {
            resource_id: Some(RESOURCE.to_owned()),
        });
    })?;
    let output = run(pullpass().arg(&login.host).args(azure.flags()).args([
        "--managed-identity".to_owned(),
        format!("--identity-resource-id={RESOURCE}"),
    ]))?;
    let said = String::from_utf8(output.stdout)?;
    assert!(said.contains(&format!("managed identity {RESOURCE}")), "{said}");
    assert!(said.ends_with("All is well.\n"), "{said}");
    Ok(())
}

#[test]
fn a_token_of_the_registry_is_checked_by_its_password() -> Test {
    let login = login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    let file = azure.directory().join("token-password");
    for (password, end, code) in [("test-admin", "All is well.\n", 0), ("wrong~one", "", 1)] {
        fs::write(&file, password)?;
        let output = run(pullpass().arg(&login.host).args(azure.flags()).args([
            format!("--token-name={}", login.name),
            format!("--token-password-file={}", file.display()),
        ]))?;
        let said = String::from_utf8(output.stdout)?;
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("as user myregistry"), "{said}");
        assert!(said.ends_with(end), "{said}");
    }
    Ok(())
}

/// Without a cluster, like one of Azure's own.
#[test]
fn another_clouds_registry_is_checked_by_the_flags() -> Test {
    let audience = "https://management.contoso.example";
    let login = Login {
        host: "myregistry.azurecr.contoso.example".to_owned(),
        ..login()
    };
    let azure = Azure::with(std::slice::from_ref(&login), |config| {
        config.tenants[0].cloud = Cloud::Other;
        config.tenants[0].audiences = Some(vec![audience.to_owned()]);
    })?;
    let suffix = vec!["--other-cloud-suffix=azurecr.contoso.example".to_owned()];
    let mut entra = suffix.clone();
    entra.extend([
        "--other-cloud-authority=https://login.contoso.example".to_owned(),
        format!("--other-cloud-audience={audience}"),
    ]);
    let file = azure.directory().join("token-password");
    fs::write(&file, "test-admin")?;
    let token = vec![
        format!("--token-name={}", login.name),
        format!("--token-password-file={}", file.display()),
    ];
    let principal = identity(&azure, &login, &login.password)?;
    for (settings, identity, says, code) in [
        (&suffix, &token, "as user myregistry", 0),
        (&entra, &principal, "as application", 0),
        (&suffix, &principal, "set --other-cloud-authority", 2),
        (&Vec::new(), &token, "the cluster can't be used", 1),
    ] {
        let host = login.host.to_ascii_uppercase();
        let output = run(pullpass()
            .arg(format!("{host}:443"))
            .args(azure.flags())
            .args(settings)
            .args(identity))?;
        let said = String::from_utf8([output.stdout, output.stderr].concat())?;
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(says), "{says}: {said}");
        assert_eq!(said.ends_with("All is well.\n"), code == 0, "{said}");
    }
    Ok(())
}

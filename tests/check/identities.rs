//! Every kind of identity that the flags can name.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pullpass_emulator::{ManagedIdentity, RsaSigner, Step};
use pullpass_test_support::Azure;
use serde_json::{Value, json};

use crate::world::{Test, assert_said, login, pullpass, run};

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

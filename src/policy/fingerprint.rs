//! A fingerprint of the part of a spec that a credential is made of: it tells whether a credential is the one that the
//! spec in force asks for.

use std::fmt::Write;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::api::acr_registry::{AcrRegistrySpec, CredentialSpec};
use crate::registry::login_server::LoginServer;

/// The fingerprint of a spec. It does not include who may use the credential and when the credential is refreshed, nor
/// the versions of the Secrets that the spec names: a rotated password is still the same identity.
///
/// Replicas of different releases compare fingerprints, and everyone who may write an `AcrRegistry` chooses the input.
/// So this is a cryptographic digest of a stable text, and not the standard library's hash.
pub(super) fn of(spec: &AcrRegistrySpec, login_server: &LoginServer) -> String {
    of_parts(
        login_server,
        spec.audience.as_deref(),
        &json!(spec.identity),
        spec.credential.as_ref(),
    )
}

/// The same of a spec whose identity is said in another way.
pub(super) fn of_parts(
    login_server: &LoginServer,
    audience: Option<&str>,
    identity: &Value,
    credential: Option<&CredentialSpec>,
) -> String {
    let credential = credential.cloned().unwrap_or_default();
    let relevant = json!([
        login_server.as_str(),
        audience,
        identity,
        credential.kind.unwrap_or_default(),
        credential.repositories,
    ]);
    digest_of(&relevant)
}

/// The fingerprint of the namespaces that may use a registry.
pub(super) fn of_namespaces(selector: Option<&LabelSelector>) -> String {
    digest_of(&json!(selector))
}

pub(super) fn digest_of(value: &Value) -> String {
    let mut text = String::new();
    for byte in digest(&SHA256, value.to_string().as_bytes()).as_ref() {
        // Writing to a text can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(change: &[(&str, Value)]) -> String {
        let mut spec = json!({"loginServer": "myregistry.azurecr.io", "identity": {"managedIdentity": {}}});
        for (field, value) in change {
            spec[*field] = value.clone();
        }
        let spec: AcrRegistrySpec = serde_json::from_value(spec).unwrap();
        let login_server = LoginServer::parse(spec.login_server.as_deref().unwrap()).unwrap();
        of(&spec, &login_server)
    }

    #[test]
    fn fingerprint_differs_where_the_credential_would() {
        let token = |repository: &str| json!({"kind": "AccessToken", "repositories": [repository]});
        let changes = [
            ("loginServer", json!("other1.azurecr.io")),
            ("audience", json!("https://management.azure.com")),
            ("identity", json!({"managedIdentity": {"clientId": "c"}})),
            ("identity", json!({"workloadIdentity": {}})),
            ("identity", json!({"basic": {"secretRef": {"name": "one"}}})),
            ("identity", json!({"basic": {"secretRef": {"name": "two"}}})),
            ("credential", token("app")),
            ("credential", token("other")),
            ("credential", json!({"kind": "ServicePrincipalPassword"})),
        ];
        let mut seen = vec![fingerprint(&[])];
        for change in changes {
            let fingerprint = fingerprint(std::slice::from_ref(&change));
            assert!(!seen.contains(&fingerprint), "{change:?}");
            seen.push(fingerprint);
        }
    }

    #[test]
    fn fingerprint_is_the_same_for_the_same_credential() {
        for change in [
            ("loginServer", json!("MyRegistry.azurecr.io")),
            ("namespaces", json!({"matchLabels": {"team": "a"}})),
            ("provision", json!("Eager")),
            (
                "credential",
                json!({"kind": "RefreshToken", "refreshFraction": 0.2}),
            ),
        ] {
            assert_eq!(
                fingerprint(&[]),
                fingerprint(std::slice::from_ref(&change)),
                "{change:?}"
            );
        }
        // Held by other releases too: a change of it mints every credential again.
        assert!(fingerprint(&[]).starts_with("ef04f4939fd88621"));
    }
}

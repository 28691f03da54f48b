//! The content of a `kubernetes.io/dockerconfigjson` Secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::base::secret_text::SecretText;
use crate::registry::login_server::LoginServer;

/// The `.dockerconfigjson` of a pull secret.
///
/// The kubelet compares a key's host and port with an image's as the Pod wrote them, and wants the key's path to be a
/// prefix of the image's (`pkg/credentialprovider`, `URLsMatch`). So each key is there with and without `:443`, and a
/// credential that is good for some repositories only has a key for each of them. With no repositories the credential
/// is the whole registry's. `identitytoken` is never written, since the kubelet does not read it.
///
/// The same input gives the same bytes.
pub fn docker_config(
    login_server: &LoginServer,
    username: &str,
    password: &SecretText,
    repositories: &[String],
) -> Vec<u8> {
    let password = password.expose();
    let entry = json!({
        "username": username,
        "password": password,
        "auth": STANDARD.encode(format!("{username}:{password}")),
    });
    let host = login_server.as_str();
    let hosts = [host.to_owned(), format!("{host}:443")];
    let auths: Map<String, Value> = hosts
        .iter()
        .flat_map(|host| keys(host, repositories))
        .map(|key| (key, entry.clone()))
        .collect();
    json!({ "auths": auths }).to_string().into_bytes()
}

fn keys(host: &str, repositories: &[String]) -> Vec<String> {
    if repositories.is_empty() {
        return vec![host.to_owned()];
    }
    repositories
        .iter()
        .map(|repository| format!("{host}/{repository}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NULL_GUID: &str = "00000000-0000-0000-0000-000000000000";

    fn config(username: &str, password: &str, repositories: &[&str]) -> Vec<u8> {
        let login_server = LoginServer::parse("MyRegistry.azurecr.io").unwrap();
        let repositories: Vec<String> = repositories.iter().map(|&name| name.to_owned()).collect();
        docker_config(&login_server, username, &password.into(), &repositories)
    }

    #[test]
    fn a_registry_wide_credential_is_keyed_by_host_with_and_without_port() {
        let entry = r#"{"auth":"MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwOnRva2Vu","password":"token","username":"00000000-0000-0000-0000-000000000000"}"#;
        assert_eq!(
            String::from_utf8(config(NULL_GUID, "token", &[])).unwrap(),
            format!(r#"{{"auths":{{"myregistry.azurecr.io":{entry},"myregistry.azurecr.io:443":{entry}}}}}"#)
        );
    }

    #[test]
    fn a_repository_credential_is_keyed_by_repository_and_never_by_host() {
        let value: Value = serde_json::from_slice(&config("u", "p", &["team/b", "a"])).unwrap();
        let keys: Vec<_> = value["auths"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(
            keys,
            [
                "myregistry.azurecr.io/a",
                "myregistry.azurecr.io/team/b",
                "myregistry.azurecr.io:443/a",
                "myregistry.azurecr.io:443/team/b",
            ]
        );
    }

    #[test]
    fn the_order_of_repositories_does_not_show() {
        assert_eq!(config("u", "p", &["a", "b"]), config("u", "p", &["b", "a"]));
    }

    proptest! {
        #[test]
        fn every_entry_says_the_same_in_both_forms(username in "[^:]*", password in ".*") {
            let value: Value = serde_json::from_slice(&config(&username, &password, &[])).unwrap();
            for entry in value["auths"].as_object().unwrap().values() {
                prop_assert_eq!(entry["username"].as_str(), Some(username.as_str()));
                prop_assert_eq!(entry["password"].as_str(), Some(password.as_str()));
                let auth = STANDARD.decode(entry["auth"].as_str().unwrap()).unwrap();
                prop_assert_eq!(auth, format!("{username}:{password}").into_bytes());
                prop_assert!(entry.get("identitytoken").is_none());
            }
        }
    }
}

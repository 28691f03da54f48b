//! The content of a `kubernetes.io/dockerconfigjson` Secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::base::secret_text::SecretText;
use crate::registry::custom_domain::CustomDomain;
use crate::registry::image::RegistryHost;
use crate::registry::login_server::LoginServer;

/// The `.dockerconfigjson` of a credential, keyed only by the registry's own host: every client accepts such keys.
///
/// If a credential is only for some repositories, each of them has a key, because the kubelet requires that the key's
/// path is a prefix of the image's. Without repositories, the credential is for the whole registry. `identitytoken` is
/// never written, because the kubelet does not read it.
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
    let auths: Map<String, Value> = keys(login_server.as_str(), repositories)
        .into_iter()
        .map(|key| (key, entry.clone()))
        .collect();
    json!({ "auths": auths }).to_string().into_bytes()
}

/// The user name and the password that a docker config has for a registry as a whole.
pub fn credential_of(config: &[u8], login_server: &LoginServer) -> Option<(String, SecretText)> {
    let config: Value = serde_json::from_slice(config).ok()?;
    let entry = config.get("auths")?.get(login_server.as_str())?;
    let text = |field: &str| entry.get(field)?.as_str();
    Some((text("username")?.to_owned(), text("password")?.into()))
}

/// Which keys a docker config has for each of a registry's hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Only the host. Every client accepts such keys.
    Hosts,
    /// Also with `:443`, and for regional endpoints with a wildcard. Clients other than kubelets refuse them: Azure Container
    /// Instances takes every key for the name of a server.
    Every,
}

impl Keys {
    /// The keys that a kubelet needs to find a credential for a host as it is written. It compares a key's host and port with
    /// an image's, part by part and with wildcards (`pkg/credentialprovider`, `URLsMatch`). Where no key helps, none is needed.
    pub fn of(host: &RegistryHost<'_>) -> Self {
        if (LoginServer::is_regional(host) || host.port().is_some()) && host.is_matched_by_kubelets() {
            Self::Every
        } else {
            Self::Hosts
        }
    }
}

/// The same docker config of a registry with these keys for every host of it, custom domains among them.
///
/// What is no docker config comes back as it is. Doing it twice changes nothing.
pub fn for_every_host(
    config: &[u8],
    login_server: &LoginServer,
    domains: &[CustomDomain],
    keys: Keys,
) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<Value>(config) else {
        return config.to_vec();
    };
    let Some(auths) = value.get_mut("auths").and_then(Value::as_object_mut) else {
        return config.to_vec();
    };
    let more: Vec<(String, Value)> = auths
        .iter()
        .flat_map(|(key, entry)| {
            let others = other_keys(key, login_server, domains, keys).into_iter();
            others.map(|key| (key, entry.clone()))
        })
        .collect();
    for (key, entry) in more {
        auths.entry(key).or_insert(entry);
    }
    value.to_string().into_bytes()
}

/// The other keys that stand for the same as one that begins with a registry's own host; none for any other key.
fn other_keys(key: &str, login_server: &LoginServer, domains: &[CustomDomain], keys: Keys) -> Vec<String> {
    let (host, path) = match key.find('/') {
        Some(slash) => key.split_at(slash),
        None => (key, ""),
    };
    // By its form, but in a cloud whose hosts have none: what was minted for another host of Azure's has all of its keys.
    let by_form = LoginServer::parse(host).ok();
    let Some(own) = by_form.or_else(|| Some(login_server.clone()).filter(|own| own.as_str() == host)) else {
        return Vec::new();
    };
    let regional = own.regional_pattern();
    let domains = domains.iter().map(CustomDomain::as_str);
    match keys {
        Keys::Hosts => domains.map(|host| format!("{host}{path}")).collect(),
        Keys::Every => domains
            .chain(std::iter::once(host))
            .chain(regional.as_deref())
            .flat_map(|host| [format!("{host}{path}"), format!("{host}:443{path}")])
            .filter(|other| other != key)
            .collect(),
    }
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

    fn login_server() -> LoginServer {
        LoginServer::parse("MyRegistry.azurecr.io").unwrap()
    }

    fn config(username: &str, password: &str, repositories: &[&str]) -> Vec<u8> {
        let repositories: Vec<String> = repositories.iter().map(|&name| name.to_owned()).collect();
        docker_config(&login_server(), username, &password.into(), &repositories)
    }

    fn keys_of(config: &[u8]) -> Vec<String> {
        let value: Value = serde_json::from_slice(config).unwrap();
        value["auths"].as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn a_registry_wide_credential_is_keyed_by_host_alone() {
        let entry = r#"{"auth":"MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwOnRva2Vu","password":"token","username":"00000000-0000-0000-0000-000000000000"}"#;
        assert_eq!(
            String::from_utf8(config(NULL_GUID, "token", &[])).unwrap(),
            format!(r#"{{"auths":{{"myregistry.azurecr.io":{entry}}}}}"#)
        );
    }

    #[test]
    fn a_registry_wide_credential_is_read_back() {
        let read = |config: &[u8]| credential_of(config, &login_server());
        let expected = Some(("u".to_owned(), "p".into()));
        assert_eq!(read(&config("u", "p", &[])), expected);
        assert_eq!(
            read(&for_every_host(
                &config("u", "p", &[]),
                &login_server(),
                &[],
                Keys::Every
            )),
            expected
        );
        assert_eq!(
            read(&config("u", "p", &["a"])),
            None,
            "not for the whole registry"
        );
        assert_eq!(read(b"hush"), None);
    }

    #[test]
    fn a_repository_credential_is_never_keyed_by_host() {
        let keys = keys_of(&config("u", "p", &["team/b", "a"]));
        assert_eq!(keys, ["myregistry.azurecr.io/a", "myregistry.azurecr.io/team/b"]);
    }

    #[test]
    fn every_host_has_the_same_credential() {
        for (repositories, keys) in [
            (
                &[][..],
                &[
                    "myregistry.*.geo.azurecr.io",
                    "myregistry.*.geo.azurecr.io:443",
                    "myregistry.azurecr.io",
                    "myregistry.azurecr.io:443",
                ],
            ),
            (
                &["a"],
                &[
                    "myregistry.*.geo.azurecr.io/a",
                    "myregistry.*.geo.azurecr.io:443/a",
                    "myregistry.azurecr.io/a",
                    "myregistry.azurecr.io:443/a",
                ],
            ),
        ] {
            let every = for_every_host(&config("u", "p", repositories), &login_server(), &[], Keys::Every);
            assert_eq!(keys_of(&every), keys);
            assert_eq!(for_every_host(&every, &login_server(), &[], Keys::Every), every);
            let value: Value = serde_json::from_slice(&every).unwrap();
            let mut entries = value["auths"].as_object().unwrap().values();
            assert!(entries.all(|entry| entry["username"] == "u" && entry["password"] == "p"));
        }
    }

    #[test]
    fn a_custom_domain_is_a_key_as_the_login_server_is() {
        let domain = CustomDomain::parse("registry.contoso.com").unwrap();
        for (repositories, path) in [(&[][..], ""), (&["team/a"], "/team/a")] {
            let plain = config("u", "p", repositories);
            let with = for_every_host(
                &plain,
                &login_server(),
                std::slice::from_ref(&domain),
                Keys::Every,
            );
            let mut expected = keys_of(&for_every_host(&plain, &login_server(), &[], Keys::Every));
            expected.extend(["", ":443"].map(|port| format!("registry.contoso.com{port}{path}")));
            assert_eq!(keys_of(&with), expected);
            assert_eq!(
                for_every_host(&with, &login_server(), std::slice::from_ref(&domain), Keys::Every),
                with
            );
        }
    }

    #[test]
    fn a_host_of_another_cloud_has_a_port_and_no_regions() {
        let host = "registry.azurecr.contoso.com";
        let login_server = LoginServer::of_other_cloud(host).unwrap();
        let domain = CustomDomain::parse("images.contoso.com").unwrap();
        let plain = docker_config(&login_server, "u", &"p".into(), &["a".to_owned()]);
        assert_eq!(keys_of(&plain), [format!("{host}/a")]);
        let every = for_every_host(&plain, &login_server, &[domain], Keys::Every);
        let expected = [
            "images.contoso.com",
            "images.contoso.com:443",
            host,
            &format!("{host}:443"),
        ];
        assert_eq!(keys_of(&every), expected.map(|key| format!("{key}/a")));
        assert_eq!(for_every_host(&every, &login_server, &[], Keys::Every), every);
        let whole = docker_config(&login_server, "u", &"p".into(), &[]);
        let read = credential_of(&whole, &login_server);
        assert_eq!(read, Some(("u".to_owned(), "p".into())));
    }

    #[test]
    fn hosts_alone_are_names_of_servers() {
        let domain = CustomDomain::parse("registry.contoso.com").unwrap();
        let plain = config("u", "p", &[]);
        let hosts = for_every_host(
            &plain,
            &login_server(),
            std::slice::from_ref(&domain),
            Keys::Hosts,
        );
        assert_eq!(keys_of(&hosts), ["myregistry.azurecr.io", "registry.contoso.com"]);
        assert_eq!(for_every_host(&plain, &login_server(), &[], Keys::Hosts), plain);
    }

    #[test]
    fn a_port_and_a_region_need_every_key() {
        for (image, keys) in [
            ("myregistry.azurecr.io/a", Keys::Hosts),
            ("registry.contoso.com/a", Keys::Hosts),
            ("myregistry.azurecr.io:443/a", Keys::Every),
            ("registry.contoso.com:443/a", Keys::Every),
            ("myregistry.westeurope.geo.azurecr.io/a", Keys::Every),
            ("myregistry.westeurope.geo.azurecr.io:443/a", Keys::Every),
            // No key helps these.
            ("MyRegistry.azurecr.io:443/a", Keys::Hosts),
            ("myregistry.azurecr.io:0443/a", Keys::Hosts),
        ] {
            let host = crate::registry::image::ImageReference::parse(image)
                .unwrap()
                .registry()
                .unwrap();
            assert_eq!(Keys::of(&host), keys, "{image}");
        }
    }

    #[test]
    fn texts_that_are_no_docker_config_stay_as_they_are() {
        for text in [
            "",
            "hush",
            "{}",
            r#"{"auths":[]}"#,
            r#"{"auths":{"registry.example":{}}}"#,
        ] {
            assert_eq!(
                for_every_host(text.as_bytes(), &login_server(), &[], Keys::Every),
                text.as_bytes(),
                "{text}"
            );
        }
    }

    #[test]
    fn the_order_of_repositories_does_not_show() {
        assert_eq!(config("u", "p", &["a", "b"]), config("u", "p", &["b", "a"]));
    }

    proptest! {
        #[test]
        fn every_entry_says_the_same_in_all_forms(username in "[^:]*", password in ".*") {
            let every = for_every_host(&config(&username, &password, &[]), &login_server(), &[], Keys::Every);
            let value: Value = serde_json::from_slice(&every).unwrap();
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

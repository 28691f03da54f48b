//! The docker config that a pull secret holds, and the Secret that a minted credential lies in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use pullpass::base::secret_text::SecretText;
use pullpass::registry::docker_config::{Keys, docker_config, for_every_host};
use pullpass::registry::login_server::LoginServer;
use pullpass::sync::held_credential::HeldCredential;
use serde_json::Value;

const HOSTS: [&str; 4] = [
    "myregistry.azurecr.io",
    "myregistry.azurecr.io:443",
    "myregistry.*.geo.azurecr.io",
    "myregistry.*.geo.azurecr.io:443",
];

/// A docker config says what it was given, twice, for each host and repository and nothing else; a Secret that anybody
/// may have spoilt is read or not, and what is read is written again as it was.
///
/// The input is a user name, a password and repositories, a line each; or the JSON of a Secret.
pub fn check(input: &[u8]) {
    if let Ok(secret) = serde_json::from_slice::<Secret>(input) {
        check_secret(&secret);
    }
    let Some([username, password, repositories]) = crate::lines(input) else {
        return;
    };
    let repositories: Vec<_> = repositories.lines().map(str::to_owned).collect();
    let login_server = LoginServer::parse("myregistry.azurecr.io").expect("a login server");
    let password = SecretText::from(password);
    let config = docker_config(&login_server, username, &password, &repositories);
    assert_eq!(
        config,
        docker_config(&login_server, username, &password, &repositories)
    );
    let config = for_every_host(&config, &login_server, &[], Keys::Every);
    assert_eq!(config, for_every_host(&config, &login_server, &[], Keys::Every));
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    let entries = config["auths"].as_object().expect("entries");
    for (key, entry) in entries {
        let (host, repository) = key.split_once('/').unzip();
        let host = host.unwrap_or(key);
        assert!(HOSTS.contains(&host), "{key}");
        let is_given = |repository: &str| repositories.iter().any(|given| given == repository);
        assert_eq!(repository.is_some(), !repositories.is_empty(), "{key}");
        assert!(repository.is_none_or(is_given), "{key}");
        assert_eq!(entry["username"], username);
        assert_eq!(entry["password"], password.expose());
        let auth = STANDARD.decode(entry["auth"].as_str().expect("text"));
        assert_eq!(
            auth.expect("base64"),
            format!("{username}:{}", password.expose()).into_bytes()
        );
        assert_eq!(entry.as_object().expect("an entry").len(), 3);
    }
    assert!(entries.len() >= 4);
}

fn check_secret(secret: &Secret) {
    let Some(held) = HeldCredential::parse(secret) else {
        return;
    };
    let manifest = held.manifest("mine", "own");
    let written: Secret = serde_json::from_value(manifest).expect("a Secret");
    assert_eq!(HeldCredential::parse(&written), Some(held));
}

//! Names of registries: login servers and resource IDs.

use pullpass::registry::login_server::LoginServer;
use pullpass::registry::resource_id::ResourceId;

/// Whatever parses is a name that leads nowhere else, and parses to itself again.
pub fn check(input: &[u8]) {
    let Some(text) = crate::text(input) else { return };
    if let Ok(login_server) = LoginServer::parse(text) {
        let host = login_server.as_str();
        assert_eq!(host, text.to_ascii_lowercase());
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        assert!(host.bytes().all(is_host), "{host}");
        let cloud = login_server.cloud().expect("one of Azure's");
        assert!(host.ends_with(&format!(".{}", cloud.login_server_suffix())));
        assert_eq!(LoginServer::parse(host).as_ref(), Ok(&login_server));
        let url: http::Uri = format!("https://{host}/v2/").parse().expect("a host");
        assert_eq!(url.authority().map(http::uri::Authority::as_str), Some(host));
    }
    if let Ok(login_server) = LoginServer::of_host(text) {
        assert_eq!(
            LoginServer::parse(login_server.as_str()).as_ref(),
            Ok(&login_server)
        );
    }
    if let Ok(login_server) = LoginServer::of_other_cloud(text) {
        assert_eq!((login_server.as_str(), login_server.cloud()), (text, None));
        assert!(LoginServer::parse(text).is_err() && LoginServer::of_host(text).is_err());
    }
    if let Ok(id) = ResourceId::parse(text) {
        assert_eq!(id.to_string(), normalised(text));
        assert_eq!(ResourceId::parse(&id.to_string()).as_ref(), Ok(&id));
        let registry = id.registry();
        assert!(registry.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let cloud = pullpass::registry::cloud::Cloud::Public;
        assert!(LoginServer::of_registry(registry, cloud).is_ok());
    }
}

/// A resource ID with its keywords as Azure writes them; the rest is kept as it was written.
fn normalised(text: &str) -> String {
    let parts: Vec<_> = text.split('/').collect();
    let [_, _, subscription, _, group, _, _, _, registry] = parts[..] else {
        panic!("{text} has other parts");
    };
    format!(
        "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.ContainerRegistry/registries/{registry}"
    )
}

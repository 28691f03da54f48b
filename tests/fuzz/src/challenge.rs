//! What a registry asks for, in `WWW-Authenticate`.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use pullpass::azure::acr::{Challenge, challenge_in};
use pullpass::http::Response;
use pullpass::registry::login_server::LoginServer;

/// A challenge that is followed leads to the registry itself, over TLS.
pub fn check(input: &[u8]) {
    if let Some(text) = crate::text(input) {
        // What is no header's value has to be survived too.
        let _ = Challenge::parse(text);
    }
    let Ok(value) = HeaderValue::from_bytes(input) else {
        return;
    };
    let response = Response {
        status: StatusCode::UNAUTHORIZED,
        headers: HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]),
        body: Vec::new().into(),
    };
    let login_server = LoginServer::parse("myregistry.azurecr.io").expect("a login server");
    let Ok(challenge) = challenge_in(&response, &login_server, Timestamp::UNIX_EPOCH) else {
        return;
    };
    let lower = challenge.realm.to_ascii_lowercase();
    let rest = lower
        .strip_prefix("https://myregistry.azurecr.io")
        .unwrap_or_else(|| panic!("it leads to {lower}"));
    let rest = rest.strip_prefix(":443").unwrap_or(rest);
    assert!(
        rest.is_empty() || rest.starts_with(['/', '?', '#']),
        "it leads to {lower}"
    );
}

//! The docker-registry behind all registries: its settings, and the requests that are passed on to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderName, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::acr::ISSUER;
use crate::jwt::{guid, text};
use crate::reply::{Reply, registry_error, set};
use crate::shared::Shared;

/// docker-registry knows one audience, and there are many registries in front of it.
const SERVICE: &str = "pullpass-emulator";
const REALM: &str = "https://registry.invalid/oauth2/token";

/// How long a token for one request to the backend lives.
const TOKEN_SECONDS: i64 = 300;

/// The connections to the backend.
pub(crate) struct Client(legacy::Client<HttpConnector, Incoming>);

impl Client {
    pub(crate) fn new() -> Self {
        Self(legacy::Client::builder(TokioExecutor::new()).build_http())
    }
}

/// The text of a docker-registry configuration that takes this emulator's tokens and nothing else.
///
/// JSON, which is YAML too, so that no path needs quoting.
pub(crate) fn config_text(addr: SocketAddr, storage: &Path, root_certificates: &Path) -> String {
    let config = json!({
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": true}},
        "storage": {
            "filesystem": {"rootdirectory": storage},
            "delete": {"enabled": true},
        },
        "http": {"addr": addr.to_string(), "secret": "not-a-secret"},
        "auth": {"token": {
            "realm": REALM,
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": root_certificates,
        }},
    });
    format!("{config:#}\n")
}

/// Writes what `docker-registry serve` needs into a directory; gives the configuration's path back.
pub(crate) fn write_config(shared: &Shared, addr: SocketAddr, directory: &Path) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(directory)?;
    let roots = directory.join("token-roots.pem");
    std::fs::write(&roots, &shared.keys.registry_certificate.1)?;
    let config = directory.join("config.yml");
    std::fs::write(&config, config_text(addr, &directory.join("data"), &roots))?;
    Ok(config)
}

/// Passes a request on, with a token that the backend takes in place of the registry's own.
///
/// The backend verifies times by the real clock, so its token is signed here and is not the client's.
pub(crate) async fn forward(
    shared: &Shared,
    backend: &str,
    host: &str,
    claims: &Value,
    request: Request<Incoming>,
) -> Reply {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let now = Timestamp::now().as_second();
    let claims = json!({
        "jti": guid(),
        "sub": text(claims, "sub"),
        "iss": ISSUER,
        "aud": SERVICE,
        "iat": now,
        "nbf": now,
        "exp": now + TOKEN_SECONDS,
        "access": claims.get("access"),
    });
    let Ok(token) = shared
        .keys
        .registry
        .sign(&claims, Some(&shared.keys.registry_certificate.0))
    else {
        return unavailable("signing failed");
    };
    let Ok(uri) = format!("{}{path}", backend.trim_end_matches('/')).parse() else {
        return unavailable("backend is no URL");
    };

    // Those that belong to one connection, and those that are set here.
    for name in [CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, HOST, AUTHORIZATION] {
        parts.headers.remove(name);
    }
    // From these the backend builds the `Location` of an upload at the registry's own address.
    for (name, value) in [
        (HOST, host),
        (HeaderName::from_static("x-forwarded-proto"), "https"),
        (AUTHORIZATION, &format!("Bearer {token}")),
    ] {
        let Ok(value) = HeaderValue::try_from(value) else {
            return unavailable("header");
        };
        parts.headers.insert(name, value);
    }
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = parts.method;
    *outgoing.uri_mut() = uri;
    *outgoing.headers_mut() = parts.headers;

    match shared.client.0.request(outgoing).await {
        Ok(response) => {
            let mut reply = response.map(|body| body.map_err(Into::into).boxed_unsync());
            for name in [CONNECTION, TRANSFER_ENCODING] {
                reply.headers_mut().remove(name);
            }
            own_challenge(&mut reply, host);
            reply
        }
        Err(error) => unavailable(&error.to_string()),
    }
}

/// Puts the registry's own realm and service into a challenge of the backend.
fn own_challenge(reply: &mut Reply, host: &str) {
    let challenge = reply
        .headers()
        .get(WWW_AUTHENTICATE)
        .and_then(|value| value.to_str().ok());
    if let Some(challenge) = challenge {
        let challenge = challenge
            .replace(REALM, &format!("https://{host}/oauth2/token"))
            .replace(&format!("\"{SERVICE}\""), &format!("\"{host}\""));
        set(reply, WWW_AUTHENTICATE, &challenge);
    }
}

fn unavailable(reason: &str) -> Reply {
    let message = "the registry's content can't be reached";
    registry_error(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message, reason)
}

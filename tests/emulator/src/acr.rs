//! A registry's challenge and its token service.
//!
//! Source: Azure/acr `docs/AAD-OAuth.md` and `docs/Token-BasicAuth.md`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::config::{DeniedScope, Registry, TenantField};
use crate::content::grants;
use crate::directory::{Directory, Identity, NULL_GUID, client_of};
use crate::jwt::{guid, text};
use crate::reply::{Form, Reply, because, json_reply, registry_error, reply, set, unauthorized};
use crate::shared::Shared;

/// The longest password that a registry's front end lets through, in characters.
///
/// Source: Azure/acr, issue 797.
const MAX_PASSWORD: usize = 6089;

/// The issuer of all that a registry signs.
pub(crate) const ISSUER: &str = "Azure Container Registry";

/// The answer to a call without a token that will do: where to get one, and for what.
pub(crate) fn challenge(host: &str, realm_host: &str, parameters: &str, reason: &str) -> Reply {
    let mut reply = unauthorized(reason);
    let value = format!("Bearer realm=\"https://{realm_host}/oauth2/token\",service=\"{host}\"{parameters}");
    set(&mut reply, WWW_AUTHENTICATE, &value);
    reply
}

/// `POST /oauth2/exchange`: an Entra access token for a refresh token.
pub(crate) fn exchange(shared: &Shared, host: &str, form: &Form) -> Reply {
    let now = shared.clock.now();
    let directory = shared.directory();
    let Some(registry) = directory.registry(host) else {
        return unauthorized("no such registry");
    };
    if form.get("grant_type") != Some("access_token") {
        return invalid("grant_type is not access_token");
    }
    if form.get("service") != Some(host) {
        return invalid("service is not this registry");
    }
    let Some(token) = form.get("access_token") else {
        return invalid("access_token is missing");
    };
    let claims = match shared.keys.entra.verify(token, now) {
        Ok(claims) => claims,
        Err(refused) => return unauthorized(&refused.to_string()),
    };
    if !registry.takes(text(&claims, "aud")) {
        return unauthorized("audience");
    }
    let tenant = text(&claims, "tid");
    let is_named = form.get("tenant").map(|named| named.eq_ignore_ascii_case(tenant));
    if !is_named.unwrap_or(registry.tenant_field == TenantField::Optional) {
        return unauthorized("tenant");
    }
    if !registry.tenant.eq_ignore_ascii_case(tenant) {
        return unauthorized("a token of another tenant");
    }
    let client_id = client_of(&claims);
    // With Entra repository permissions the registry asks for a role only when it is asked for a repository.
    if !registry.abac && !directory.has_role(client_id, host, now) {
        return unauthorized("no role");
    }

    let identity = Identity::Principal(client_id.to_owned());
    let rights = directory.rights(registry, &identity, "", now);
    let may = |action: &str, verb| rights.iter().any(|right| right == action).then_some(verb);
    let permissions: Vec<_> = [may("pull", "read"), may("push", "write")]
        .into_iter()
        .flatten()
        .collect();
    let claims = json!({
        "jti": guid(),
        "sub": text(&claims, "oid"),
        "iss": ISSUER,
        "aud": host,
        "iat": now.as_second(),
        "nbf": now.as_second(),
        "exp": now.as_second() + i64::from(directory.lifetimes.refresh_seconds),
        "version": "1.0",
        "grant_type": "refresh_token",
        "appid": client_id,
        "tenant": tenant,
        "permissions": {"actions": permissions, "notActions": null},
        "roles": [],
    });
    signed(shared, &claims, "refresh_token")
}

/// Who asks for an access token, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// None were sent.
    Anonymous,
    RefreshToken(String),
    /// A refresh token or an access token, in the place of a password.
    TokenAsPassword(String),
    Password {
        username: String,
        password: String,
    },
}

impl Credentials {
    /// From HTTP's Basic authentication (RFC 7617).
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        if !headers.contains_key(AUTHORIZATION) {
            return Some(Self::Anonymous);
        }
        let (username, password) = basic(headers)?;
        Some(Self::from_password(&username, &password))
    }

    /// From the `OAuth2` form of `POST /oauth2/token`.
    pub(crate) fn from_form(form: &Form) -> Option<Self> {
        match form.get("grant_type")? {
            "refresh_token" => Some(Self::RefreshToken(form.get("refresh_token")?.to_owned())),
            "password" => Some(Self::from_password(form.get("username")?, form.get("password")?)),
            _ => None,
        }
    }

    fn from_password(username: &str, password: &str) -> Self {
        if username == NULL_GUID {
            Self::TokenAsPassword(password.to_owned())
        } else {
            Self::Password {
                username: username.to_owned(),
                password: password.to_owned(),
            }
        }
    }
}

/// The user name and the password of HTTP's Basic authentication.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some((username.to_owned(), password.to_owned()))
}

/// What the front end of a registry answers to a request before anybody looks who it comes from.
///
/// Source: Azure/acr, issue 797.
pub(crate) fn front_end(headers: &HeaderMap) -> Option<Reply> {
    let (_, password) = basic(headers)?;
    (password.len() > MAX_PASSWORD).then(|| {
        let page = "<html><head><title>400 Request Header Or Cookie Too Large</title></head></html>";
        because(
            reply(StatusCode::BAD_REQUEST, "text/html", page),
            "the password is too long",
        )
    })
}

/// `GET` and `POST /oauth2/token`: an access token for what is asked and granted.
pub(crate) fn token(
    shared: &Shared,
    host: &str,
    credentials: Option<&Credentials>,
    parameters: &Form,
) -> Reply {
    let now = shared.clock.now();
    let directory = shared.directory();
    let Some(registry) = directory.registry(host) else {
        return unauthorized("no such registry");
    };
    if parameters.get("service").is_some_and(|service| service != host) {
        return invalid("service is not this registry");
    }
    let caller = match identify(shared, &directory, registry, credentials, now) {
        Ok(caller) => caller,
        Err(reason) => return unauthorized(&reason),
    };

    let scopes: Vec<_> = parameters.all("scope").flat_map(str::split_whitespace).collect();
    let access: Vec<_> = scopes
        .iter()
        .filter_map(|scope| granted(&directory, registry, &caller, scope, now))
        .collect();
    if access.is_empty() && !scopes.is_empty() {
        match registry.denied_scope {
            DeniedScope::Unauthorized => return unauthorized("scope"),
            DeniedScope::Forbidden => {
                let message = "requested access to the resource is denied";
                return registry_error(StatusCode::FORBIDDEN, "DENIED", message, "scope");
            }
            DeniedScope::Omit => {}
        }
    }
    let ends = now.as_second() + i64::from(directory.lifetimes.access_seconds);
    let claims = json!({
        "jti": guid(),
        "sub": caller.identity.name(),
        "iss": ISSUER,
        "aud": host,
        "iat": now.as_second(),
        "nbf": now.as_second(),
        "exp": caller.ends().map_or(ends, |first| first.min(ends)),
        "version": "1.0",
        "grant_type": "access_token",
        "appid": caller.identity.name(),
        "access": access,
        "roles": [],
    });
    signed(shared, &claims, "access_token")
}

/// Who asks, as far as it is known.
struct Caller {
    identity: Identity,
    /// The claims of the access token that it came with, beyond which nothing is given.
    bounds: Option<Value>,
}

impl Caller {
    /// When the access token expires that it came with.
    fn ends(&self) -> Option<i64> {
        self.bounds.as_ref()?.get("exp")?.as_i64()
    }
}

impl From<Identity> for Caller {
    fn from(identity: Identity) -> Self {
        Self {
            identity,
            bounds: None,
        }
    }
}

fn identify(
    shared: &Shared,
    directory: &Directory,
    registry: &Registry,
    credentials: Option<&Credentials>,
    now: Timestamp,
) -> Result<Caller, String> {
    match credentials {
        Some(Credentials::Anonymous) if registry.anonymous_pull => Ok(Identity::Anonymous.into()),
        None | Some(Credentials::Anonymous) => Err("no credentials".to_owned()),
        Some(Credentials::RefreshToken(token) | Credentials::TokenAsPassword(token)) => {
            let claims = shared
                .keys
                .registry
                .verify(token, now)
                .map_err(|refused| refused.to_string())?;
            if text(&claims, "aud") != registry.host {
                return Err("not a token of this registry".to_owned());
            }
            let identity = Identity::Principal(client_of(&claims).to_owned());
            let as_password = matches!(credentials, Some(Credentials::TokenAsPassword(_)));
            match text(&claims, "grant_type") {
                "refresh_token" => Ok(identity.into()),
                "access_token" if as_password => Ok(Caller {
                    identity,
                    bounds: Some(claims),
                }),
                _ => Err("not a refresh token".to_owned()),
            }
        }
        Some(Credentials::Password { username, password }) => directory
            .log_in(registry, username, password, now)
            .map(Caller::from)
            .ok_or_else(|| "user name or password".to_owned()),
    }
}

/// The part of a scope, `repository:{name}:{actions}`, that an identity has.
fn granted(
    directory: &Directory,
    registry: &Registry,
    caller: &Caller,
    scope: &str,
    now: Timestamp,
) -> Option<Value> {
    let (name, wanted) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    let wanted: Vec<_> = wanted.split(',').collect();
    let mut actions = directory.rights(registry, &caller.identity, name, now);
    actions.retain(|action| wanted.iter().any(|want| want == action || *want == "*"));
    if let Some(bounds) = &caller.bounds {
        actions.retain(|action| grants(bounds, name, action));
    }
    actions.sort_unstable();
    actions.dedup();
    (!actions.is_empty()).then(|| json!({"type": "repository", "name": name, "actions": actions}))
}

fn signed(shared: &Shared, claims: &Value, field: &str) -> Reply {
    match shared.keys.registry.sign(claims, None) {
        Ok(token) => json_reply(StatusCode::OK, &json!({ field: token })),
        Err(ring::error::Unspecified) => because(
            json_reply(StatusCode::INTERNAL_SERVER_ERROR, &json!({"errors": []})),
            "signing failed",
        ),
    }
}

fn invalid(reason: &str) -> Reply {
    registry_error(StatusCode::BAD_REQUEST, "INVALID_REQUEST", reason, reason)
}

//! ACR's token service: challenge, exchange, scoped access tokens.
//!
//! Source: Azure/acr, `docs/AAD-OAuth.md`.

mod blob;
mod challenge;
mod content;
mod rights;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::request::Builder;
use http::{Method, Request, StatusCode};
use hyper::body::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use thiserror::Error;

pub use self::blob::{BlobSource, blob_source, configuration_digest, first_byte};
pub use self::challenge::Challenge;
pub use self::content::{Manifest, first_tag, manifest};
pub use self::rights::denied_pull;
use crate::azure::jwt::{Claims, JwtError};
use crate::azure::service_error::ServiceError;
use crate::base::secret_text::SecretText;
use crate::http::headers;
use crate::http::{Barrier, HttpClient, HttpError, Response, Service};
use crate::registry::login_server::LoginServer;

/// The audience of Azure Container Registry itself.
///
/// Source: Microsoft Learn, "Disable authentication as ARM template".
pub const REGISTRY_AUDIENCE: &str = "https://containerregistry.azure.net";

/// The user name for a token that is used as a password.
pub const TOKEN_USERNAME: &str = "00000000-0000-0000-0000-000000000000";

/// The longest password of Basic authentication that the front end of a registry lets through, in characters. It answers
/// 400 to others, before anybody looks at the token.
///
/// Source: Azure/acr, issue 797.
const MAX_PASSWORD: usize = 6089;

const REFUSED: &str = "refused (";
const HTTP: &str = "HTTP ";
const NO_ACCESS: &str = "the token does not allow pulling from";

/// The longest error code that is passed on.
const MAX_CODE: usize = 40;

/// A token of a registry's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryToken {
    /// The token.
    pub token: SecretText,
    /// When it expires, by our clock.
    pub expires_at: Timestamp,
}

impl RegistryToken {
    /// Whether a client can send it in the place of a password.
    pub fn check_as_password(&self) -> Result<(), AcrError> {
        if self.token.expose().len() > MAX_PASSWORD {
            return Err(AcrError::TooLong);
        }
        Ok(())
    }
}

/// Why a registry gave nothing. The same failure always reads the same.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AcrError {
    /// No sound answer.
    #[error("{0}")]
    ServiceError(ServiceError),
    /// The registry refuses.
    #[error("{REFUSED}{0})")]
    Refused(AcrRefusal),
    /// `/v2/` does not ask for a token in the way that ACR does.
    #[error("it does not ask for a token as a container registry of Azure does")]
    NoChallenge,
    /// The challenge sends clients, with their passwords, to another host.
    #[error("its challenge sends credentials to another host ({realm})")]
    WrongRealm {
        /// The realm's host, or the realm if it has none.
        realm: String,
    },
    /// The token is not one that can be used.
    #[error("{0}")]
    Token(JwtError),
    /// The token is good, and longer than what the registry's front end lets through as a password.
    #[error(
        "the token is longer than {MAX_PASSWORD} characters, which is the longest password that the \
         registry's front end accepts, so nobody could pull with it"
    )]
    TooLong,
    /// The token is good, and not for this.
    #[error("{NO_ACCESS} {repository}")]
    NoAccess {
        /// The repository.
        repository: String,
    },
}

/// The cause of a registry's failure, as far as its text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcrFault {
    /// Requests don't reach the registry.
    Barred(Barrier),
    /// The registry keeps the caller's network out.
    Forbidden,
    /// The token is not for a repository.
    NoAccess,
    /// The registry gives no token, for another reason.
    NoToken,
}

impl AcrError {
    /// What a failure is about, by the text of its error, which is all that a status has of it.
    pub fn fault_in(text: &str) -> AcrFault {
        let is_forbidden = || {
            let refusal = text.strip_prefix(REFUSED);
            let status = refusal.and_then(|refusal| refusal.strip_prefix(HTTP));
            status.is_some_and(|status| status.starts_with(StatusCode::FORBIDDEN.as_str()))
        };
        if text.starts_with(NO_ACCESS) {
            AcrFault::NoAccess
        } else if is_forbidden() {
            AcrFault::Forbidden
        } else {
            HttpError::barrier_in(text).map_or(AcrFault::NoToken, AcrFault::Barred)
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcrRefusal {
    /// The HTTP status.
    pub status: u16,
    /// The registry's own error code, such as `UNAUTHORIZED`.
    pub code: Option<String>,
    /// Whether its words are about the customer-managed key that its content is encrypted with.
    pub is_about_encryption: bool,
}

impl fmt::Display for AcrRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{HTTP}{} {code}", self.status),
            None => write!(f, "{HTTP}{}", self.status),
        }
    }
}

/// Asks `/v2/` without credentials, and holds the challenge against the registry.
pub async fn challenge(
    http: &HttpClient,
    login_server: &LoginServer,
    now: Timestamp,
) -> Result<Challenge, AcrError> {
    let response = greet(http, login_server).await?;
    challenge_in(&response, login_server, now)
}

/// Asks `/v2/` without credentials.
pub async fn greet(http: &HttpClient, login_server: &LoginServer) -> Result<Response, AcrError> {
    send(http, login_server, Method::GET, "/v2/", Bytes::new()).await
}

/// Holds the answer of [`greet`] against the registry.
pub fn challenge_in(
    response: &Response,
    login_server: &LoginServer,
    now: Timestamp,
) -> Result<Challenge, AcrError> {
    let challenge = read_challenge(response, now)?;
    challenge.check(&[login_server.as_str()])?;
    Ok(challenge)
}

/// Asks `/v2/` of another host of the registry, without credentials, and checks the challenge: the host may send its
/// clients for a token to itself, or to the login server.
pub async fn challenge_at(
    http: &HttpClient,
    host: &str,
    login_server: &LoginServer,
    now: Timestamp,
) -> Result<(), AcrError> {
    let request = Request::builder()
        .method(Method::GET)
        .uri(format!("https://{host}/v2/"));
    let response = answer(http, request, Bytes::new()).await?;
    read_challenge(&response, now)?.check(&[login_server.as_str(), host])
}

fn read_challenge(response: &Response, now: Timestamp) -> Result<Challenge, AcrError> {
    if let Some(trouble) = ServiceError::of(response, now) {
        return Err(AcrError::ServiceError(trouble));
    }
    if response.status != StatusCode::UNAUTHORIZED {
        return Err(if response.status.is_client_error() {
            AcrError::Refused(refusal(response))
        } else {
            AcrError::NoChallenge
        });
    }
    let values = response.headers.get_all(WWW_AUTHENTICATE);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(Challenge::parse)
        .ok_or(AcrError::NoChallenge)
}

/// Exchanges an Entra token for a refresh token, which has every right that the identity has on the registry.
pub async fn exchange(
    http: &HttpClient,
    login_server: &LoginServer,
    tenant: Option<&str>,
    entra_token: &SecretText,
    now: Timestamp,
) -> Result<RegistryToken, AcrError> {
    let required = [
        ("grant_type", "access_token"),
        ("service", login_server.as_str()),
        ("access_token", entra_token.expose()),
    ];
    let body = form(
        required
            .into_iter()
            .chain(tenant.map(|tenant| ("tenant", tenant))),
    );
    let response = send(http, login_server, Method::POST, "/oauth2/exchange", body).await?;
    refresh_token_in(&response, now)
}

/// The refresh token in the answer to an exchange, or why there is none.
pub fn refresh_token_in(response: &Response, now: Timestamp) -> Result<RegistryToken, AcrError> {
    let (token, claims) = token_of(response, "refresh_token", now)?;
    dated(token, &claims, response, now)
}

/// Asks for an access token that allows pulling from these repositories and nothing else.
pub async fn access_token(
    http: &HttpClient,
    login_server: &LoginServer,
    refresh_token: &SecretText,
    repositories: &[String],
    now: Timestamp,
) -> Result<RegistryToken, AcrError> {
    let scopes: Vec<_> = repositories
        .iter()
        .map(|name| format!("repository:{name}:pull"))
        .collect();
    let required = [
        ("grant_type", "refresh_token"),
        ("service", login_server.as_str()),
        ("refresh_token", refresh_token.expose()),
    ];
    let body = form(
        required
            .into_iter()
            .chain(scopes.iter().map(|scope| ("scope", scope.as_str()))),
    );
    let response = send(http, login_server, Method::POST, "/oauth2/token", body).await?;
    access_token_in(&response, repositories, now)
}

/// Asks for an access token in the way of a client that has a user name and a password; for no repository, only whether
/// they are right.
pub async fn password_token(
    http: &HttpClient,
    login_server: &LoginServer,
    username: &str,
    password: &SecretText,
    repository: Option<&str>,
    now: Timestamp,
) -> Result<RegistryToken, AcrError> {
    let repositories: Vec<_> = repository.iter().map(|&name| name.to_owned()).collect();
    scoped_password_token(http, login_server, username, password, &repositories, now).await
}

/// The same for several repositories, all of which it has to be for.
async fn scoped_password_token(
    http: &HttpClient,
    login_server: &LoginServer,
    username: &str,
    password: &SecretText,
    repositories: &[String],
    now: Timestamp,
) -> Result<RegistryToken, AcrError> {
    let scopes = repositories.iter().map(|name| format!("repository:{name}:pull"));
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("service", login_server.as_str())
        .extend_pairs(scopes.map(|scope| ("scope", scope)))
        .finish();
    let credentials = STANDARD.encode(format!("{username}:{}", password.expose()));
    let request = request(login_server, Method::GET, &format!("/oauth2/token?{query}"))
        .header(AUTHORIZATION, format!("Basic {credentials}"));
    let response = answer(http, request, Bytes::new()).await?;
    access_token_in(&response, repositories, now)
}

/// The access token in an answer, or why there is none that allows pulling from all of these repositories.
pub fn access_token_in(
    response: &Response,
    repositories: &[String],
    now: Timestamp,
) -> Result<RegistryToken, AcrError> {
    let (token, claims) = token_of(response, "access_token", now)?;
    // The distribution specification has a registry leave out what it does not grant, and answer 200.
    let denied = repositories
        .iter()
        .find(|name| claims.may_pull(name) == Some(false));
    if let Some(repository) = denied {
        return Err(AcrError::NoAccess {
            repository: repository.clone(),
        });
    }
    dated(token, &claims, response, now)
}

fn form<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Bytes {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
        .into()
}

async fn send(
    http: &HttpClient,
    login_server: &LoginServer,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Response, AcrError> {
    let mut request = request(login_server, method, path);
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    answer(http, request, body).await
}

fn request(login_server: &LoginServer, method: Method, path: &str) -> Builder {
    Request::builder()
        .method(method)
        .uri(format!("https://{login_server}{path}"))
}

async fn answer(http: &HttpClient, request: Builder, body: Bytes) -> Result<Response, AcrError> {
    // A login server is a host by its type, so there is always a request.
    let request = request.extension(Service::Acr).body(body);
    let request = request.map_err(|_| AcrError::NoChallenge)?;
    let answer = http.send(request).await;
    answer.map_err(|error| AcrError::ServiceError(ServiceError::NoAnswer(error)))
}

/// The token in an answer, or why there is none.
fn token_of(
    response: &Response,
    field: &'static str,
    now: Timestamp,
) -> Result<(SecretText, Claims), AcrError> {
    if let Some(trouble) = ServiceError::of(response, now) {
        return Err(AcrError::ServiceError(trouble));
    }
    if !response.status.is_success() {
        return Err(AcrError::Refused(refusal(response)));
    }
    let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let token = body.get(field).and_then(Value::as_str).unwrap_or_default();
    if token.is_empty() {
        return Err(AcrError::ServiceError(ServiceError::Garbled {
            status: response.status.as_u16(),
            what: "no token",
        }));
    }
    let claims = Claims::parse(token).map_err(AcrError::Token)?;
    Ok((token.into(), claims))
}

fn dated(
    token: SecretText,
    claims: &Claims,
    response: &Response,
    now: Timestamp,
) -> Result<RegistryToken, AcrError> {
    let expires_at = claims.expiry(now, headers::date(&response.headers));
    Ok(RegistryToken {
        token,
        expires_at: expires_at.map_err(AcrError::Token)?,
    })
}

/// Messages are left out, since some name the address that the call came from, which may differ each time.
fn refusal(response: &Response) -> AcrRefusal {
    let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let code = body.pointer("/errors/0/code").and_then(Value::as_str);
    let is_code = |code: &&str| {
        (1..=MAX_CODE).contains(&code.len())
            && code
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let message = body.pointer("/errors/0/message").and_then(Value::as_str);
    let message = message.unwrap_or_default().to_ascii_lowercase();
    let about_encryption = ["customer-managed key", "customer managed key", "key vault"];
    AcrRefusal {
        is_about_encryption: about_encryption.iter().any(|words| message.contains(words)),
        status: response.status.as_u16(),
        code: code.filter(is_code).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use http::HeaderMap;
    use proptest::prelude::*;
    use serde_json::json;

    fn answer(status: u16, body: impl AsRef<[u8]>) -> Response {
        Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.as_ref().to_vec().into(),
        }
    }

    fn decode(status: u16, body: impl AsRef<[u8]>) -> Result<SecretText, AcrError> {
        let decoded = token_of(&answer(status, body), "refresh_token", Timestamp::UNIX_EPOCH);
        decoded.map(|(token, _)| token)
    }

    #[test]
    fn a_token_is_taken_and_nothing_less() {
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(r#"{"exp":1}"#));
        let body = json!({"refresh_token": token, "more": []}).to_string();
        assert_eq!(decode(200, body), Ok(token.into()));
        for body in [
            "",
            "{}",
            "[]",
            "null",
            "<html>",
            r#"{"refresh_token":""}"#,
            r#"{"refresh_token":7}"#,
            r#"{"access_token":"a.b.c"}"#,
            r#"{"refresh_token":"a"#,
        ] {
            let error = decode(200, body).unwrap_err();
            assert!(
                matches!(error, AcrError::ServiceError(ServiceError::Garbled { .. })),
                "{body}: {error}"
            );
        }
        let opaque = decode(200, r#"{"refresh_token":"hunter2"}"#).unwrap_err();
        assert_eq!(opaque, AcrError::Token(JwtError::Malformed));
        assert!(!opaque.to_string().contains("hunter2"));
    }

    #[test]
    fn a_password_has_6089_characters_at_most() {
        let check = |length| {
            let token = RegistryToken {
                token: "a".repeat(length).into(),
                expires_at: Timestamp::UNIX_EPOCH,
            };
            token.check_as_password()
        };
        assert_eq!(check(1), Ok(()));
        assert_eq!(check(6089), Ok(()));
        assert_eq!(check(6090), Err(AcrError::TooLong));
    }

    #[test]
    fn a_challenge_comes_with_401_and_nothing_else() {
        let login_server = LoginServer::parse("myregistry.azurecr.io").unwrap();
        let challenge = |status| {
            let mut response = answer(status, "");
            let header = r#"Bearer realm="https://myregistry.azurecr.io/oauth2/token",service="myregistry.azurecr.io""#;
            response.headers.insert(WWW_AUTHENTICATE, header.parse().unwrap());
            challenge_in(&response, &login_server, Timestamp::UNIX_EPOCH)
        };
        assert!(challenge(401).is_ok());
        assert_eq!(challenge(200), Err(AcrError::NoChallenge));
        assert!(matches!(challenge(403), Err(AcrError::Refused(refusal)) if refusal.status == 403));
        let silent = challenge_in(&answer(401, ""), &login_server, Timestamp::UNIX_EPOCH);
        assert_eq!(silent, Err(AcrError::NoChallenge));
    }

    #[test]
    fn an_access_token_allows_all_that_was_asked_for_or_is_none() {
        let access = json!([{"type": "repository", "name": "a", "actions": ["pull"]}]);
        let claims = URL_SAFE_NO_PAD.encode(json!({"exp": 2000, "access": access}).to_string());
        let body = json!({"access_token": format!("e30.{claims}.c2ln")}).to_string();
        let asked = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            access_token_in(&answer(200, &body), &names, Timestamp::UNIX_EPOCH)
        };
        assert!(asked(&["a"]).is_ok());
        let repository = "b".to_owned();
        assert_eq!(asked(&["a", "b"]), Err(AcrError::NoAccess { repository }));
    }

    #[test]
    fn a_refusal_has_status_and_code_and_no_message() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"client with IP '192.0.2.1' is not allowed access"}]}"#,
                "refused (HTTP 403 DENIED)",
            ),
            (r#"{"errors":[]}"#, "refused (HTTP 403)"),
            (r#"{"errors":[{"code":"<script>"}]}"#, "refused (HTTP 403)"),
            (r#"{"errors":[{"code":""}]}"#, "refused (HTTP 403)"),
            ("<html>", "refused (HTTP 403)"),
            ("", "refused (HTTP 403)"),
        ] {
            assert_eq!(decode(403, body).unwrap_err().to_string(), expected, "{body}");
        }
    }

    #[test]
    fn a_token_ends_by_the_clock_that_its_answer_was_dated_by() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"iat":900,"exp":2000}"#);
        let claims = Claims::parse(&format!("e30.{claims}.c2ln")).unwrap();
        let mut response = answer(200, "");
        let at = |second| Timestamp::from_second(second).unwrap();
        let ends = |response: &Response| dated("t".into(), &claims, response, at(5000)).unwrap().expires_at;
        assert_eq!(ends(&response), at(6100));
        let date = "Thu, 01 Jan 1970 00:20:00 GMT".parse().unwrap();
        response.headers.insert(http::header::DATE, date);
        assert_eq!(ends(&response), at(5800));
    }

    proptest! {
        #[test]
        fn no_body_panics(status in 200_u16..600, body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(status, body);
        }
    }
}

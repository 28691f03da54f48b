//! Entra ID: the token endpoint of an authority, and what it has in common with the managed identity endpoint.

use http::StatusCode;
use http::header::CACHE_CONTROL;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::assertion::{self, Rejection};
use crate::cloud::Cloud;
use crate::config::{Principal, Tenant};
use crate::directory::{Directory, SecretCheck, check_secret};
use crate::jwt::{Compact, guid};
use crate::reply::{Form, Reply, because, json_reply, set};
use crate::shared::Shared;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A refusal, with the AADSTS code that says why.
///
/// Source of codes and words: Microsoft Learn, "Microsoft Entra authentication and authorization error codes".
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: &'static str,
    code: u32,
    message: String,
}

impl Refusal {
    fn new(error: &'static str, code: u32, message: impl Into<String>) -> Self {
        // RFC 6749, 5.2: a client that can't be authenticated gets 401, everything else 400.
        let status = match error {
            "invalid_client" => StatusCode::UNAUTHORIZED,
            _ => StatusCode::BAD_REQUEST,
        };
        Self {
            status,
            error,
            code,
            message: message.into(),
        }
    }

    /// The answer: no two are the same, because of the IDs and the time in it.
    pub(crate) fn reply(&self, now: Timestamp, authority: &str) -> Reply {
        let (trace, correlation) = (guid(), guid());
        let timestamp = now.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        let Self { code, message, .. } = self;
        let body = json!({
            "error": self.error,
            "error_description": format!(
                "AADSTS{code}: {message}\r\nTrace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {timestamp}"
            ),
            "error_codes": [code],
            "timestamp": timestamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("https://{authority}/error?code={code}"),
        });
        because(json_reply(self.status, &body), &format!("AADSTS{code}"))
    }
}

/// `POST /{tenant}/oauth2/v2.0/token`.
pub(crate) fn token(shared: &Shared, cloud: Cloud, tenant: &str, form: &Form) -> Reply {
    let now = shared.clock.now();
    let directory = shared.directory();
    let mut reply = match authorise(&directory, cloud, tenant, form, now) {
        Ok((tenant, principal, audience)) => {
            let seconds = directory.lifetimes.entra_seconds;
            match access_token(shared, tenant, principal, audience, now, seconds) {
                Ok(token) => json_reply(
                    StatusCode::OK,
                    &json!({
                        "token_type": "Bearer",
                        "expires_in": seconds,
                        "ext_expires_in": seconds,
                        "access_token": token,
                    }),
                ),
                Err(ring::error::Unspecified) => generic(503, cloud.authority(), now),
            }
        }
        Err(refusal) => refusal.reply(now, cloud.authority()),
    };
    set(&mut reply, CACHE_CONTROL, "no-store, no-cache");
    reply
}

/// The answer to a request that fails with a status for no reason of its own.
pub(crate) fn generic(status: u16, authority: &str, now: Timestamp) -> Reply {
    let (error, code, message) = match status {
        429 => (
            "temporarily_unavailable",
            90_055,
            "The tenant is throttled, too many requests.",
        ),
        500.. => (
            "server_error",
            90_033,
            "A transient error has occurred. Please try again.",
        ),
        _ => ("invalid_request", 90_014, "The request is refused."),
    };
    let mut reply = Refusal::new(error, code, message).reply(now, authority);
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    reply
}

/// An access token of a principal for an audience.
pub(crate) fn access_token(
    shared: &Shared,
    tenant: &Tenant,
    principal: &Principal,
    audience: &str,
    now: Timestamp,
    seconds: u32,
) -> Result<String, ring::error::Unspecified> {
    let now = now.as_second();
    let claims = json!({
        "aud": audience,
        "iss": format!("https://sts.windows.net/{}/", tenant.id),
        "iat": now,
        "nbf": now,
        "exp": now + i64::from(seconds),
        "appid": principal.client_id,
        "azp": principal.client_id,
        "idtyp": "app",
        "oid": principal.client_id,
        "sub": principal.client_id,
        "tid": tenant.id,
        "uti": guid(),
        "ver": "1.0",
    });
    shared.keys.entra.sign(&claims, None)
}

/// The refusal of an audience that a tenant gives no tokens for.
pub(crate) fn unknown_resource(tenant: &Tenant, audience: &str) -> Refusal {
    Refusal::new(
        "invalid_resource",
        500_011,
        format!(
            "The resource principal named {audience} was not found in the tenant named {}. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant.",
            tenant.id
        ),
    )
}

fn authorise<'a>(
    directory: &'a Directory,
    cloud: Cloud,
    tenant: &str,
    form: &'a Form,
    now: Timestamp,
) -> Result<(&'a Tenant, &'a Principal, &'a str), Refusal> {
    let tenant = directory.tenant(cloud, tenant).ok_or_else(|| {
        Refusal::new(
            "invalid_request",
            90_002,
            format!("Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant."),
        )
    })?;
    let grant = required(form, "grant_type")?;
    if grant != "client_credentials" {
        return Err(Refusal::new(
            "unsupported_grant_type",
            70_003,
            format!("The app requested an unsupported grant type '{grant}'."),
        ));
    }
    let client_id = required(form, "client_id")?;
    let scope = required(form, "scope")?;
    let principal = directory
        .principal(client_id)
        .filter(|principal| principal.tenant.eq_ignore_ascii_case(&tenant.id))
        .ok_or_else(|| {
            Refusal::new(
                "unauthorized_client",
                700_016,
                format!("Application with identifier '{client_id}' was not found in the directory '{}'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant.", tenant.id),
            )
        })?;
    authenticate(cloud, tenant, principal, form, now)?;
    let audience = scope.strip_suffix("/.default").ok_or_else(|| {
        Refusal::new(
            "invalid_scope",
            1_002_012,
            format!("The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."),
        )
    })?;
    if !tenant.issues(audience) {
        return Err(unknown_resource(tenant, audience));
    }
    Ok((tenant, principal, audience))
}

fn authenticate(
    cloud: Cloud,
    tenant: &Tenant,
    principal: &Principal,
    form: &Form,
    now: Timestamp,
) -> Result<(), Refusal> {
    let client_id = &principal.client_id;
    if let Some(secret) = form.get("client_secret") {
        return match check_secret(principal, secret, now) {
            SecretCheck::Right => Ok(()),
            SecretCheck::Wrong => Err(Refusal::new(
                "invalid_client",
                7_000_215,
                format!(
                    "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{client_id}'."
                ),
            )),
            SecretCheck::Expired => Err(Refusal::new(
                "invalid_client",
                7_000_222,
                format!(
                    "The provided client secret keys for app '{client_id}' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds."
                ),
            )),
        };
    }
    let (Some(assertion), Some(ASSERTION_TYPE)) =
        (form.get("client_assertion"), form.get("client_assertion_type"))
    else {
        return Err(Refusal::new(
            "invalid_client",
            7_000_218,
            "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
        ));
    };
    let base = format!("https://{}/{}", cloud.authority(), tenant.id);
    let endpoints = [
        format!("{base}/oauth2/v2.0/token"),
        format!("{base}/v2.0"),
        format!("{base}/oauth2/token"),
    ];
    assertion::verify(assertion, principal, &endpoints, now)
        .map_err(|rejection| refusal_of(rejection, assertion))
}

fn refusal_of(rejection: Rejection, assertion: &str) -> Refusal {
    let (code, message) = match rejection {
        Rejection::Malformed => {
            return Refusal::new("invalid_request", 50_027, "JWT token is invalid or malformed.");
        }
        Rejection::Issuer => return no_federation(700_211, "issuer", "iss", assertion),
        Rejection::FederatedAudience => {
            return no_federation(700_212, "audience", "aud", assertion);
        }
        Rejection::Subject => return no_federation(700_213, "subject", "sub", assertion),
        Rejection::Algorithm => {
            let algorithm = Compact::parse(assertion)
                .map(|token| token.header_text("alg").to_owned())
                .unwrap_or_default();
            return Refusal::new(
                "invalid_client",
                5_002_738,
                format!("'{algorithm}' is not a supported signature algorithm."),
            );
        }
        Rejection::NotRegistered => (
            700_027,
            "The certificate with identifier used to sign the client assertion is not registered on application. [Reason - The key was not found.]",
        ),
        Rejection::CertificateTime => (
            700_027,
            "Client assertion failed signature validation. [Reason - The key used is expired.]",
        ),
        Rejection::CertificateSignature => (
            700_027,
            "Client assertion failed signature validation. [Reason - The signature is invalid.]",
        ),
        Rejection::OwnSubject => (
            700_021,
            "Client assertion application identifier doesn't match 'client_id' parameter.",
        ),
        Rejection::Time => (700_024, "Client assertion is not within its valid time range."),
        Rejection::Audience => (
            700_023,
            "Client assertion audience claim does not match Realm issuer. Review the documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials .",
        ),
        Rejection::FederatedKey => (
            50_013,
            "Assertion failed signature validation. [Reason - The key was not found.]",
        ),
        Rejection::FederatedSignature => (
            5_000_131,
            "Assertion failed signature validation. [Reason - The provided signature value did not match the expected signature value.]",
        ),
    };
    Refusal::new("invalid_client", code, message)
}

/// The refusal of a federated token for a claim that none of the application's federated credentials has.
fn no_federation(code: u32, what: &str, claim: &str, assertion: &str) -> Refusal {
    let value = match Compact::parse(assertion).and_then(|token| token.claims.get(claim).cloned()) {
        Some(Value::String(value)) => value,
        Some(value) => value.to_string(),
        None => String::new(),
    };
    Refusal::new(
        "invalid_client",
        code,
        format!(
            "No matching federated identity record found for presented assertion {what} '{value}'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion. https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
        ),
    )
}

fn required<'a>(form: &'a Form, name: &str) -> Result<&'a str, Refusal> {
    form.get(name).ok_or_else(|| {
        Refusal::new(
            "invalid_request",
            900_144,
            format!("The request body must contain the following parameter: '{name}'."),
        )
    })
}

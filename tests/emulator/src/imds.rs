//! The Azure Instance Metadata Service's managed identity endpoint.
//!
//! Source: Microsoft Learn, "How to use managed identities for Azure resources on an Azure VM to acquire an access token".

use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::config::Principal;
use crate::directory::Directory;
use crate::entra::{access_token, generic, unknown_resource};
use crate::reply::{Form, Reply, because, json_reply};
use crate::shared::Shared;

/// The endpoint's path.
pub(crate) const PATH: &str = "/metadata/identity/oauth2/token";

/// `GET /metadata/identity/oauth2/token`.
pub(crate) fn token(shared: &Shared, headers: &HeaderMap, query: &Form) -> Reply {
    // Both keep a server-side request forgery from getting a token.
    let metadata = headers
        .get("metadata")
        .is_some_and(|value| value.as_bytes() == b"true");
    if !metadata || headers.contains_key("x-forwarded-for") {
        return refuse("invalid_request", "Required metadata header not specified");
    }
    if query.get("api-version").is_none() {
        return version_missing();
    }
    let Some(resource) = query.get("resource") else {
        return refuse("invalid_request", "Required query variable 'resource' is missing");
    };

    let now = shared.clock.now();
    let directory = shared.directory();
    let principal = match select(&directory, query) {
        Ok(principal) => principal,
        Err(description) => return refuse("invalid_request", description),
    };
    let Some(tenant) = directory.tenant_of(principal) else {
        return refuse("invalid_request", "Identity not found");
    };
    let authority = tenant.cloud.authority();
    if !tenant.issues(resource) {
        return unknown_resource(tenant, resource).reply(now, authority);
    }
    let seconds = directory.lifetimes.entra_seconds;
    match access_token(shared, tenant, principal, resource, now, seconds) {
        // All numbers are texts here.
        Ok(token) => json_reply(
            StatusCode::OK,
            &json!({
                "access_token": token,
                "client_id": principal.client_id,
                "expires_in": seconds.to_string(),
                "expires_on": (now.as_second() + i64::from(seconds)).to_string(),
                "ext_expires_in": seconds.to_string(),
                "not_before": now.as_second().to_string(),
                "resource": resource,
                "token_type": "Bearer",
            }),
        ),
        Err(ring::error::Unspecified) => generic(503, authority, now),
    }
}

/// The identity that a request means: the one that it names, or else the system-assigned one, or else the only one.
fn select<'a>(directory: &'a Directory, query: &Form) -> Result<&'a Principal, &'static str> {
    let mut identities = directory
        .principals
        .iter()
        .filter_map(|principal| Some((principal, principal.managed_identity.as_ref()?)));
    let not_found = "Identity not found";
    if let Some(client_id) = query.get("client_id").or_else(|| query.get("object_id")) {
        return identities
            .find(|(principal, _)| principal.client_id.eq_ignore_ascii_case(client_id))
            .map(|(principal, _)| principal)
            .ok_or(not_found);
    }
    if let Some(id) = query.get("mi_res_id").or_else(|| query.get("msi_res_id")) {
        return identities
            .find(|(_, identity)| {
                identity
                    .resource_id
                    .as_deref()
                    .is_some_and(|known| known.eq_ignore_ascii_case(id))
            })
            .map(|(principal, _)| principal)
            .ok_or(not_found);
    }
    let identities: Vec<_> = identities.collect();
    if let Some((principal, _)) = identities
        .iter()
        .find(|(_, identity)| identity.resource_id.is_none())
    {
        return Ok(principal);
    }
    match identities.as_slice() {
        [] => Err(not_found),
        [(principal, _)] => Ok(principal),
        _ => Err(
            "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request",
        ),
    }
}

/// The answer of an endpoint that is still starting (404, 410), is asked too often (429) or is out of order.
///
/// Source: Microsoft Learn, "How to use managed identities for Azure resources on an Azure VM to acquire an access token",
/// section "Retry guidance".
pub(crate) fn failing(status: u16) -> Reply {
    let (error, description) = match status {
        404 | 410 => ("not_found", "The endpoint is being updated"),
        429 => ("too_many_requests", "Too many requests"),
        500.. => ("server_error", "Failed to acquire a token"),
        _ => ("invalid_request", "The request is refused"),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json_reply(status, &json!({"error": error, "error_description": description}))
}

fn refuse(error: &str, description: &str) -> Reply {
    let body = json!({"error": error, "error_description": description});
    because(json_reply(StatusCode::BAD_REQUEST, &body), description)
}

fn version_missing() -> Reply {
    let error = "Bad request. api-version was not specified in the request. For more information refer to aka.ms/azureimds";
    json_reply(
        StatusCode::BAD_REQUEST,
        &json!({"error": error, "newest-versions": ["2021-12-13", "2021-11-15", "2021-11-01"]}),
    )
}

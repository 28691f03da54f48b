//! The managed identity endpoint.

use std::time::{Duration, Instant};

use http::Method;
use pullpass_emulator::{ConfigPatch, Emulator, Failure, Fault, ManagedIdentity, Principal, Step};

use crate::client::*;

const USER_ASSIGNED: &str = "33333333-3333-3333-3333-333333333333";
const RESOURCE_ID: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/puller";

fn identity(client_id: &str, resource_id: Option<&str>) -> Principal {
    let mut principal = Principal::new(TENANT, client_id);
    principal.managed_identity = Some(ManagedIdentity {
        resource_id: resource_id.map(str::to_owned),
    });
    principal
}

fn set(emulator: &Emulator, principals: Vec<Principal>) {
    let principals = Some(principals);
    emulator
        .configure(ConfigPatch {
            principals,
            ..ConfigPatch::default()
        })
        .unwrap();
}

async fn ask(emulator: &Emulator, query: &str) -> Answer {
    let path = format!("/metadata/identity/oauth2/token?{query}");
    let mut request = request(Method::GET, &path, "", "");
    request.headers_mut().insert("metadata", "true".parse().unwrap());
    plain(emulator.imds_addr(), request).await.unwrap()
}

const QUERY: &str = "api-version=2018-02-01&resource=https%3A%2F%2Fcontainerregistry.azure.net";

#[tokio::test]
async fn an_identity_is_found_by_id_or_as_the_only_one() {
    let (emulator, client) = start().await;
    set(&emulator, vec![identity(USER_ASSIGNED, Some(RESOURCE_ID))]);
    for query in [
        QUERY.to_owned(),
        format!("{QUERY}&client_id={USER_ASSIGNED}"),
        format!("{QUERY}&mi_res_id={RESOURCE_ID}"),
    ] {
        let answer = ask(&emulator, &query).await;
        let token = answer.token("access_token");
        assert_eq!(claims(&token)["appid"], USER_ASSIGNED);
        assert_eq!(claims(&token)["aud"], ACR);
        let body = answer.json();
        assert_eq!(body["expires_in"], "3599");
        assert_eq!(body["resource"], ACR);
        assert_eq!(client.exchange(REGISTRY, &token).await.unwrap().status, 401);
    }
    assert_eq!(emulator.counts().calls(Step::Imds), 3);
}

#[tokio::test]
async fn two_user_assigned_identities_are_ambiguous() {
    let (emulator, _client) = start().await;
    let others = vec![
        identity(USER_ASSIGNED, Some(RESOURCE_ID)),
        identity("other", Some("/x")),
    ];
    set(&emulator, others.clone());
    let answer = ask(&emulator, QUERY).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.json()["error_description"]
            .as_str()
            .unwrap()
            .starts_with("Multiple user")
    );

    let mut all = others;
    all.push(identity(CLIENT, None));
    set(&emulator, all);
    let token = ask(&emulator, QUERY).await.token("access_token");
    assert_eq!(claims(&token)["appid"], CLIENT);
}

#[tokio::test]
async fn an_endpoint_starts_is_throttled_and_is_slow() {
    let (emulator, _client) = start().await;
    set(&emulator, vec![identity(CLIENT, None)]);
    let statuses = [404, 410, 429, 500, 503];
    for status in statuses {
        emulator.inject(Failure::new(Step::Imds, Fault::status(status)).times(1));
    }
    emulator.inject(Failure::new(Step::Imds, Fault::Delay { millis: 200 }).times(1));
    for status in statuses {
        let answer = ask(&emulator, QUERY).await;
        assert_eq!(answer.status, status);
        assert!(answer.json()["error"].is_string(), "{answer:?}");
    }
    let start = Instant::now();
    ask(&emulator, QUERY).await.token("access_token");
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(emulator.counts().calls(Step::Imds), 6);
}

#[tokio::test]
async fn requests_that_imds_refuses() {
    let (emulator, _client) = start().await;
    set(&emulator, vec![identity(CLIENT, None)]);
    let path = format!("/metadata/identity/oauth2/token?{QUERY}");
    let bare = request(Method::GET, &path, "", "");
    assert_eq!(plain(emulator.imds_addr(), bare).await.unwrap().status, 400);
    for query in [
        "resource=https%3A%2F%2Fcontainerregistry.azure.net",
        "api-version=2018-02-01",
        &format!("{QUERY}&client_id=nobody"),
        "api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net",
    ] {
        assert_eq!(ask(&emulator, query).await.status, 400, "{query}");
    }
}

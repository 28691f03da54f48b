//! Entra ID's token endpoint.

use jiff::SignedDuration;
use pullpass_emulator::{Cloud, ConfigPatch, Principal, Secret, Step, Tenant};
use serde_json::json;

use crate::client::*;

fn aadsts(answer: &Answer, status: u16, error: &str, code: u64) {
    assert_eq!(answer.status, status, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["error"], error);
    assert_eq!(body["error_codes"], json!([code]));
    let description = body["error_description"].as_str().unwrap();
    assert!(
        description.starts_with(&format!("AADSTS{code}: ")),
        "{description}"
    );
    for volatile in ["\r\nTrace ID: ", "\r\nCorrelation ID: ", "\r\nTimestamp: "] {
        assert!(description.contains(volatile), "{description}");
    }
    for field in ["timestamp", "trace_id", "correlation_id"] {
        let value = body[field].as_str().unwrap();
        assert!(!value.is_empty() && description.contains(value), "{field}");
    }
}

#[tokio::test]
async fn a_client_secret_gets_a_token_for_either_audience() {
    let (emulator, client) = start().await;
    for audience in [ACR, ARM] {
        let answer = client.entra(audience, SECRET).await.unwrap();
        let body = answer.json();
        assert_eq!(body["token_type"], "Bearer");
        assert_eq!(body["expires_in"], 3599);
        let claims = claims(&answer.token("access_token"));
        assert_eq!(claims["aud"], audience);
        assert_eq!(claims["appid"], CLIENT);
        assert_eq!(claims["azp"], CLIENT);
        assert_eq!(claims["tid"], TENANT);
        assert_eq!(claims["nbf"], claims["iat"]);
        assert_eq!(
            claims["exp"].as_i64().unwrap(),
            claims["iat"].as_i64().unwrap() + 3599
        );
    }
    assert_eq!(emulator.counts().calls_at(Step::EntraToken, TENANT), 2);
}

#[tokio::test]
async fn a_wrong_an_expired_and_a_rotated_secret_are_told_apart() {
    let (emulator, client) = start().await;
    aadsts(
        &client.entra(ACR, "wrong").await.unwrap(),
        401,
        "invalid_client",
        7_000_215,
    );

    let mut principal = Principal::new(TENANT, CLIENT);
    let expires_at = Some(emulator.now() + SignedDuration::from_secs(60));
    principal.secrets = vec![Secret {
        value: SECRET.to_owned(),
        expires_at,
    }];
    emulator.put_principal(principal).unwrap();
    client.entra_token(ACR).await;
    emulator.advance(std::time::Duration::from_secs(61));
    aadsts(
        &client.entra(ACR, SECRET).await.unwrap(),
        401,
        "invalid_client",
        7_000_222,
    );

    assert!(emulator.rotate_secret(CLIENT, "new").unwrap());
    aadsts(
        &client.entra(ACR, SECRET).await.unwrap(),
        401,
        "invalid_client",
        7_000_215,
    );
    client.entra(ACR, "new").await.unwrap().token("access_token");
}

#[tokio::test]
async fn unknown_applications_tenants_and_resources_have_their_codes() {
    let (emulator, client) = start().await;
    emulator
        .configure(ConfigPatch {
            principals: Some(vec![]),
            ..ConfigPatch::default()
        })
        .unwrap();
    let answer = client.entra(ACR, SECRET).await.unwrap();
    aadsts(&answer, 400, "unauthorized_client", 700_016);

    let mut tenant = Tenant::new(TENANT);
    tenant.audiences = Some(vec![ARM.to_owned()]);
    emulator.put_tenant(tenant).unwrap();
    emulator
        .put_principal(Principal::new(TENANT, CLIENT).with_secret(SECRET))
        .unwrap();
    let answer = client.entra(ACR, SECRET).await.unwrap();
    aadsts(&answer, 400, "invalid_resource", 500_011);
    client.entra_token(ARM).await;

    emulator
        .configure(ConfigPatch {
            tenants: Some(vec![]),
            ..ConfigPatch::default()
        })
        .unwrap();
    aadsts(
        &client.entra(ACR, SECRET).await.unwrap(),
        400,
        "invalid_request",
        90_002,
    );
}

#[tokio::test]
async fn a_tenant_is_known_to_its_own_cloud_alone() {
    let mut config = config();
    config.tenants[0].cloud = Cloud::China;
    let (_emulator, client) = start_with(config).await;
    aadsts(
        &client.entra(ACR, SECRET).await.unwrap(),
        400,
        "invalid_request",
        90_002,
    );
    let url = format!("https://login.chinacloudapi.cn/{TENANT}/oauth2/v2.0/token");
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("client_secret", SECRET),
        ("scope", "https://management.chinacloudapi.cn/.default"),
    ];
    client.post(&url, &form).await.unwrap().token("access_token");
}

#[tokio::test]
async fn a_form_without_its_content_type_has_no_parameters() {
    let (_emulator, client) = start().await;
    let url = format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token");
    let scope = format!("{ACR}/.default");
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("client_secret", SECRET),
        ("scope", &scope),
    ];
    client.post(&url, &form).await.unwrap().token("access_token");
    let mut request = form_request(&url, &form);
    request.headers_mut().remove("content-type");
    let answer = client.send(request).await.unwrap();
    aadsts(&answer, 400, "invalid_request", 900_144);
}

#[tokio::test]
async fn incomplete_requests_are_refused_as_entra_does() {
    let (_emulator, client) = start().await;
    let url = format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token");
    let whole = [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("client_secret", SECRET),
        ("scope", "https://management.azure.com/.default"),
    ];
    for (without, error, code) in [
        ("grant_type", "invalid_request", 900_144),
        ("client_id", "invalid_request", 900_144),
        ("scope", "invalid_request", 900_144),
        ("client_secret", "invalid_client", 7_000_218),
    ] {
        let form: Vec<_> = whole.into_iter().filter(|(name, _)| *name != without).collect();
        let answer = client.post(&url, &form).await.unwrap();
        let status = if error == "invalid_client" { 401 } else { 400 };
        aadsts(&answer, status, error, code);
    }
    let mut form = whole;
    form[3].1 = "https://management.azure.com";
    aadsts(
        &client.post(&url, &form).await.unwrap(),
        400,
        "invalid_scope",
        1_002_012,
    );
    form[0].1 = "password";
    aadsts(
        &client.post(&url, &form).await.unwrap(),
        400,
        "unsupported_grant_type",
        70_003,
    );
}

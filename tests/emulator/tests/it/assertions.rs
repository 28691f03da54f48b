//! Certificates and federated tokens in place of a client secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use pullpass_emulator::{Emulator, FederatedCredential, Jwks, Principal, RsaSigner};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::client::*;

const ISSUER: &str = "https://cluster.example/";
const SUBJECT: &str = "system:serviceaccount:pullpass-system:pullpass";
const FEDERATED_AUDIENCE: &str = "api://AzureADTokenExchange";

const ALGORITHMS: [&str; 6] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

/// A token whose signature nobody looks at.
fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}.c2ln", encode(header), encode(claims))
}

fn federated(jwks: Jwks) -> Principal {
    let mut principal = Principal::new(TENANT, CLIENT);
    principal.federated_credentials.push(FederatedCredential {
        issuer: ISSUER.to_owned(),
        subject: SUBJECT.to_owned(),
        audience: FEDERATED_AUDIENCE.to_owned(),
        jwks,
    });
    principal
}

fn rsa() -> Value {
    serde_json::from_str(include_str!("rsa.json")).unwrap()
}

async fn assert_with(client: &Client, assertion: &str) -> Answer {
    let url = format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token");
    let scope = format!("{ACR}/.default");
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", assertion),
        ("scope", &scope),
    ];
    client.post(&url, &form).await.unwrap()
}

async fn code_of(client: &Client, assertion: &str) -> u64 {
    assert_with(client, assertion).await.json()["error_codes"][0]
        .as_u64()
        .unwrap()
}

/// The claims of an application's own assertion.
fn own(emulator: &Emulator) -> Value {
    let now = emulator.now().as_second();
    json!({
        "iss": CLIENT, "sub": CLIENT, "jti": "1", "nbf": now, "exp": now + 600,
        "aud": format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"),
    })
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut changed = claims.clone();
    changed[name] = value;
    changed
}

/// An emulator whose application has these certificates.
async fn start_with_certificates(certificates: Vec<String>) -> (Emulator, Client) {
    let mut principal = Principal::new(TENANT, CLIENT);
    principal.certificates = certificates;
    let (emulator, client) = start().await;
    emulator.put_principal(principal).unwrap();
    (emulator, client)
}

/// The header that goes with an algorithm.
fn header(algorithm: &str, certificate: &str) -> Value {
    let (sha1, sha256) = RsaSigner::thumbprints(certificate).unwrap();
    if algorithm.starts_with("PS") {
        json!({"alg": algorithm, "x5t#S256": sha256})
    } else {
        json!({"alg": algorithm, "x5t": sha1})
    }
}

#[tokio::test]
async fn a_certificate_signs_for_its_application() {
    let certificate = RsaSigner::FIRST.certificate("app").unwrap();
    let (emulator, client) = start_with_certificates(vec![certificate.clone()]).await;
    let header = header("PS256", &certificate);
    let claims = own(&emulator);
    let signed = |claims: &Value| RsaSigner::FIRST.sign(&header, claims).unwrap();
    let good = signed(&claims);
    assert_with(&client, &good).await.token("access_token");

    let forged = RsaSigner::SECOND.sign(&header, &claims).unwrap();
    assert_eq!(code_of(&client, &forged).await, 700_027);
    let nameless = RsaSigner::FIRST.sign(&json!({"alg": "PS256"}), &claims).unwrap();
    assert_eq!(code_of(&client, &nameless).await, 700_027);
    let nbf = claims["nbf"].as_i64().unwrap();
    for (name, value, code) in [
        ("aud", json!("https://login.example/"), 700_023),
        ("sub", json!("somebody-else"), 700_021),
        ("sub", Value::Null, 700_021),
        ("jti", Value::Null, 50_027),
        ("nbf", Value::Null, 50_027),
        ("exp", json!(nbf + 601), 700_024),
        ("nbf", json!(nbf + 60), 700_024),
    ] {
        assert_eq!(
            code_of(&client, &signed(&with(&claims, name, value))).await,
            code,
            "{name}"
        );
    }
    assert_eq!(code_of(&client, "not a token").await, 50_027);
    emulator.advance(std::time::Duration::from_secs(601));
    assert_eq!(code_of(&client, &good).await, 700_024);
}

#[tokio::test]
async fn each_rsa_algorithm_goes_with_one_kind_of_thumbprint() {
    let certificate = RsaSigner::FIRST.certificate("app").unwrap();
    let (sha1, sha256) = RsaSigner::thumbprints(&certificate).unwrap();
    let (emulator, client) = start_with_certificates(vec![certificate.clone()]).await;
    let claims = own(&emulator);
    for algorithm in ALGORITHMS {
        let good = RsaSigner::FIRST
            .sign(&header(algorithm, &certificate), &claims)
            .unwrap();
        assert_with(&client, &good).await.token("access_token");
    }
    for header in [
        json!({"alg": "RS256", "x5t#S256": sha256}),
        json!({"alg": "PS256", "x5t": sha1}),
        json!({"alg": "PS256", "x5t#S256": sha1}),
    ] {
        let wrong = RsaSigner::FIRST.sign(&header, &claims).unwrap();
        assert_eq!(code_of(&client, &wrong).await, 700_027, "{header}");
    }
}

#[tokio::test]
async fn algorithms_other_than_rsa_are_not_supported() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap().pem();
    let (emulator, client) = start_with_certificates(vec![certificate.clone()]).await;
    let (_, sha256) = RsaSigner::thumbprints(&certificate).unwrap();
    let federated = json!({"iss": ISSUER, "sub": SUBJECT, "aud": [FEDERATED_AUDIENCE]});
    for algorithm in ["ES256", "EdDSA", "HS256", "none"] {
        for claims in [&own(&emulator), &federated] {
            let header = json!({"alg": algorithm, "x5t#S256": sha256});
            let answer = assert_with(&client, &unsigned(&header, claims)).await;
            assert_eq!(answer.status, 401);
            let description = answer.json()["error_description"].as_str().unwrap().to_owned();
            let expected = format!("AADSTS5002738: '{algorithm}' is not a supported signature algorithm.");
            assert!(description.starts_with(&expected), "{description}");
        }
    }
    // Its key is no RSA key, whatever the header says.
    let disguised = unsigned(&json!({"alg": "PS256", "x5t#S256": sha256}), &own(&emulator));
    assert_eq!(code_of(&client, &disguised).await, 700_027);
}

#[tokio::test]
async fn expired_early_and_short_certificates_are_refused() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let expired = RsaSigner::FIRST
        .certificate_for("old", at("2024-01-01T00:00:00Z"), at("2025-01-01T00:00:00Z"))
        .unwrap();
    let early = RsaSigner::FIRST
        .certificate_for("new", at("2150-01-01T00:00:00Z"), at("2151-01-01T00:00:00Z"))
        .unwrap();
    let short = RsaSigner::SHORT_CERTIFICATE.to_owned();
    let certificates = vec![expired, early, short];
    let (emulator, client) = start_with_certificates(certificates.clone()).await;
    for certificate in certificates {
        let header = header("PS256", &certificate);
        let token = RsaSigner::FIRST.sign(&header, &own(&emulator)).unwrap();
        assert_eq!(code_of(&client, &token).await, 700_027);
    }
}

#[tokio::test]
async fn a_federated_token_must_match_in_every_claim_and_key() {
    let signer = RsaSigner::FIRST;
    let (emulator, client) = start().await;
    emulator
        .put_principal(federated(Jwks {
            keys: vec![signer.jwk("k1").unwrap()],
        }))
        .unwrap();
    let now = emulator.now().as_second();
    let claims = json!({
        "iss": ISSUER, "sub": SUBJECT, "aud": [FEDERATED_AUDIENCE], "nbf": now, "exp": now + 3600,
    });
    let sign = |claims: &Value| {
        signer
            .sign(&json!({"alg": "RS256", "kid": "k1"}), claims)
            .unwrap()
    };
    for algorithm in ALGORITHMS {
        let token = signer.sign(&json!({"alg": algorithm, "kid": "k1"}), &claims);
        assert_with(&client, &token.unwrap()).await.token("access_token");
    }
    let other = json!("https://other.example/");
    let refused = assert_with(&client, &sign(&with(&claims, "iss", other)))
        .await
        .json();
    assert_eq!(refused["error_codes"], json!([700_211]));
    let description = refused["error_description"].as_str().unwrap();
    assert!(
        description.contains("issuer 'https://other.example/'"),
        "{description}"
    );
    for (name, value, code) in [
        ("aud", "other", 700_212),
        ("sub", "system:serviceaccount:a:b", 700_213),
    ] {
        let token = sign(&with(&claims, name, json!(value)));
        assert_eq!(code_of(&client, &token).await, code);
    }
    for (kid, code) in [("k1", 5_000_131), ("k2", 50_013)] {
        let token = RsaSigner::SECOND.sign(&json!({"alg": "RS256", "kid": kid}), &claims);
        assert_eq!(code_of(&client, &token.unwrap()).await, code, "{kid}");
    }
    emulator.advance(std::time::Duration::from_secs(3601));
    assert_eq!(code_of(&client, &sign(&claims)).await, 700_024);
}

#[tokio::test]
async fn signatures_of_another_implementation_are_verified() {
    let rsa = rsa();
    let mut principal = federated(serde_json::from_value(rsa["jwks"].clone()).unwrap());
    principal
        .certificates
        .push(rsa["certificate"].as_str().unwrap().to_owned());
    let (emulator, client) = start().await;
    emulator.put_principal(principal).unwrap();
    assert_with(&client, rsa["federated"].as_str().unwrap())
        .await
        .token("access_token");
    // These live until 2100, which is found too long once their signature is found right.
    for (name, right, wrong) in [
        ("federated", None, 5_000_131),
        ("certificateRs256", Some(700_024), 700_027),
        ("certificatePs256", Some(700_024), 700_027),
    ] {
        let assertion = rsa[name].as_str().unwrap();
        if let Some(right) = right {
            assert_eq!(code_of(&client, assertion).await, right, "{name}");
        }
        let forged = tampered(assertion, "exp", json!(4_102_444_801_i64));
        assert_eq!(code_of(&client, &forged).await, wrong, "{name}");
    }
}

//! Certificates and federated tokens in place of a client secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pullpass_emulator::{Emulator, FederatedCredential, Jwk, Jwks, Principal};
use rcgen::{CertificateParams, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::client::*;

const ISSUER: &str = "https://cluster.example/";
const SUBJECT: &str = "system:serviceaccount:pullpass-system:pullpass";
const FEDERATED_AUDIENCE: &str = "api://AzureADTokenExchange";

struct Signer {
    pkcs8: Vec<u8>,
    pair: KeyPair,
}

impl Signer {
    fn new() -> Self {
        let pair = KeyPair::generate().unwrap();
        Self {
            pkcs8: pair.serialize_der(),
            pair,
        }
    }

    fn key(&self) -> EcdsaKeyPair {
        let random = SystemRandom::new();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.pkcs8, &random).unwrap()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.key().sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn jwk(&self) -> Jwk {
        let key = self.key();
        let point = key.public_key().as_ref();
        Jwk {
            kty: "EC".to_owned(),
            x: URL_SAFE_NO_PAD.encode(&point[1..33]),
            y: URL_SAFE_NO_PAD.encode(&point[33..]),
            ..Jwk::default()
        }
    }
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

fn times(emulator: &Emulator) -> (i64, i64) {
    let now = emulator.now().as_second();
    (now, now + 600)
}

#[tokio::test]
async fn a_certificate_signs_for_its_application() {
    let signer = Signer::new();
    let certificate = CertificateParams::default().self_signed(&signer.pair).unwrap();
    let mut principal = Principal::new(TENANT, CLIENT);
    principal.certificates.push(certificate.pem());
    let (emulator, client) = start().await;
    emulator.put_principal(principal).unwrap();

    let thumbprint = ring::digest::digest(&ring::digest::SHA256, certificate.der());
    let header = json!({"alg": "ES256", "x5t#S256": URL_SAFE_NO_PAD.encode(thumbprint)});
    let (nbf, exp) = times(&emulator);
    let claims = json!({
        "iss": CLIENT, "sub": CLIENT, "nbf": nbf, "exp": exp,
        "aud": format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"),
    });
    let good = signer.sign(&header, &claims);
    assert_with(&client, &good).await.token("access_token");

    assert_eq!(
        code_of(&client, &Signer::new().sign(&header, &claims)).await,
        700_027
    );
    assert_eq!(
        code_of(&client, &signer.sign(&json!({"alg": "ES256"}), &claims)).await,
        700_027
    );
    let mut elsewhere = claims.clone();
    elsewhere["aud"] = json!("https://login.example/");
    assert_eq!(code_of(&client, &signer.sign(&header, &elsewhere)).await, 700_023);
    assert_eq!(code_of(&client, "not a token").await, 50_027);
    emulator.advance(std::time::Duration::from_secs(601));
    assert_eq!(code_of(&client, &good).await, 700_024);
}

#[tokio::test]
async fn a_federated_token_must_fit_in_issuer_subject_audience_and_key() {
    let signer = Signer::new();
    let (emulator, client) = start().await;
    emulator
        .put_principal(federated(Jwks {
            keys: vec![signer.jwk()],
        }))
        .unwrap();
    let (nbf, exp) = times(&emulator);
    let header = json!({"alg": "ES256"});
    let claims = json!({
        "iss": ISSUER, "sub": SUBJECT, "aud": [FEDERATED_AUDIENCE], "nbf": nbf, "exp": exp,
    });
    let with = |name: &str, value: &str| {
        let mut changed = claims.clone();
        changed[name] = json!(value);
        signer.sign(&header, &changed)
    };
    assert_with(&client, &signer.sign(&header, &claims))
        .await
        .token("access_token");
    assert_eq!(
        code_of(&client, &with("iss", "https://other.example/")).await,
        700_211
    );
    let refused = assert_with(&client, &with("iss", "https://other.example/"))
        .await
        .json();
    let description = refused["error_description"].as_str().unwrap();
    assert!(
        description.contains("issuer 'https://other.example/'"),
        "{description}"
    );
    assert_eq!(code_of(&client, &with("aud", "other")).await, 700_212);
    assert_eq!(
        code_of(&client, &with("sub", "system:serviceaccount:a:b")).await,
        700_213
    );
    assert_eq!(
        code_of(&client, &Signer::new().sign(&header, &claims)).await,
        50_013
    );
}

#[tokio::test]
async fn rsa_signatures_of_kubernetes_and_of_certificates_are_taken() {
    let rsa = rsa();
    let mut principal = federated(serde_json::from_value(rsa["jwks"].clone()).unwrap());
    principal
        .certificates
        .push(rsa["certificate"].as_str().unwrap().to_owned());
    let (emulator, client) = start().await;
    emulator.put_principal(principal).unwrap();
    for name in ["federated", "certificateRs256", "certificatePs256"] {
        let assertion = rsa[name].as_str().unwrap();
        assert_with(&client, assertion).await.token("access_token");
        let forged = tampered(assertion, "exp", json!(4_102_444_801_i64));
        assert_eq!(assert_with(&client, &forged).await.status, 401, "{name}");
    }
}

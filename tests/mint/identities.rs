//! Every kind of identity, and every kind of token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use pullpass::api::reason::Reason;
use pullpass::azure::acr;
use pullpass::azure::mint::{ManagedIdentity, MintIdentity, REGISTRY_AUDIENCE};
use pullpass::registry::login_server::LoginServer;
use pullpass_emulator::{FederatedCredential, Jwk, Jwks, Step};
use rcgen::{CertificateParams, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use std::path::PathBuf;

use crate::world::{
    CLIENT, HOST, HOUR, PASSWORD, World, app, as_identity, assert_lives, claims, config, for_repositories,
    with_secret,
};

#[tokio::test]
async fn a_client_secret_mints_a_refresh_token_of_three_hours() {
    let world = World::new(config()).await;
    // A newline is what `echo SECRET | base64` leaves.
    let credential = world.mint(&with_secret(&format!("{PASSWORD}\n"))).await.unwrap();
    assert_eq!(credential.username, acr::TOKEN_USERNAME);
    assert_eq!(credential.audience.as_deref(), Some(REGISTRY_AUDIENCE));
    assert_eq!(claims(&credential)["grant_type"], "refresh_token");
    assert_eq!(claims(&credential)["aud"], HOST);
    assert_lives(&credential, HOUR * 3);
    let counts = world.emulator.counts();
    assert_eq!(
        (counts.calls(Step::EntraToken), counts.calls(Step::Exchange)),
        (1, 1)
    );
    let config: Value =
        serde_json::from_slice(&credential.docker_config(&LoginServer::parse(HOST).unwrap())).unwrap();
    assert_eq!(config["auths"][HOST]["password"], credential.password.expose());
}

#[tokio::test]
async fn a_client_certificate_mints() {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(Vec::new())
        .unwrap()
        .self_signed(&key)
        .unwrap()
        .pem();
    let mut config = config();
    config.principals[0].certificates = vec![leaf.clone()];
    let world = World::new(config).await;
    let identity = |pem: String| {
        as_identity(MintIdentity::ClientCertificate {
            app: app(),
            pem: pem.into(),
            origin: "Secret acr-sp, key tls.pem".to_owned(),
        })
    };
    assert_lives(
        &world
            .mint(&identity(format!("{leaf}{}", key.serialize_pem())))
            .await
            .unwrap(),
        HOUR * 3,
    );

    let stranger = KeyPair::generate().unwrap();
    let other = CertificateParams::new(Vec::new())
        .unwrap()
        .self_signed(&stranger)
        .unwrap()
        .pem();
    let error = world
        .refused(&identity(format!("{other}{}", stranger.serialize_pem())))
        .await;
    assert_eq!(error.reason(), Reason::EntraRejected);
    let text = error.to_string();
    assert!(
        text.contains("AADSTS700027") && text.contains("Secret acr-sp, key tls.pem"),
        "{text}"
    );

    let error = world.refused(&identity(leaf)).await;
    assert_eq!(error.reason(), Reason::CredentialSecretMissing);
    assert_eq!(
        error.to_string(),
        "the client certificate can't be used: there is no private key in PEM (BEGIN PRIVATE KEY) beside the \
         certificate. What to do: correct Secret acr-sp, key tls.pem"
    );
}

/// A cluster that signs service account tokens.
struct Issuer(KeyPair);

impl Issuer {
    const NAME: &str = "https://oidc.example/cluster/";
    const SUBJECT: &str = "system:serviceaccount:pullpass-system:pullpass";

    fn trust(&self) -> FederatedCredential {
        let point = self.0.public_key_raw();
        FederatedCredential {
            issuer: Self::NAME.to_owned(),
            subject: Self::SUBJECT.to_owned(),
            audience: "api://AzureADTokenExchange".to_owned(),
            jwks: Jwks {
                keys: vec![Jwk {
                    kty: "EC".to_owned(),
                    x: URL_SAFE_NO_PAD.encode(&point[1..33]),
                    y: URL_SAFE_NO_PAD.encode(&point[33..]),
                    ..Jwk::default()
                }],
            },
        }
    }

    fn token(&self, subject: &str) -> String {
        let now = Timestamp::now().as_second();
        let claims = json!({
            "iss": Self::NAME, "sub": subject, "aud": ["api://AzureADTokenExchange"],
            "iat": now, "nbf": now, "exp": now + 3600,
        });
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(json!({"alg": "ES256"})), part(claims));
        let random = SystemRandom::new();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.0.serialize_der(), &random);
        let signature = key.unwrap().sign(&random, signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[tokio::test]
async fn workload_identity_reads_its_token_anew_each_time() {
    let issuer = Issuer(KeyPair::generate().unwrap());
    let mut config = config();
    config.principals[0].federated_credentials = vec![issuer.trust()];
    let world = World::new(config).await;
    let directory = tempfile::tempdir().unwrap();
    let token_file = directory.path().join("token");
    let request = as_identity(MintIdentity::WorkloadIdentity {
        app: app(),
        token_file: token_file.clone(),
    });

    let missing = world.refused(&request).await;
    assert_eq!(missing.reason(), Reason::CredentialSecretMissing);
    assert!(missing.to_string().contains("entity not found"), "{missing}");

    std::fs::write(&token_file, "\n").unwrap();
    let empty = world.refused(&request).await;
    assert!(empty.to_string().contains("it is empty"), "{empty}");

    std::fs::write(&token_file, issuer.token("system:serviceaccount:default:default")).unwrap();
    let stranger = world.refused(&request).await;
    assert_eq!(stranger.reason(), Reason::EntraRejected);
    assert!(
        stranger.to_string().contains("federated-credential create"),
        "{stranger}"
    );

    std::fs::write(&token_file, issuer.token(Issuer::SUBJECT)).unwrap();
    assert_lives(&world.mint(&request).await.unwrap(), HOUR * 3);
}

#[tokio::test]
async fn managed_identities_mint_by_each_of_their_names() {
    const RESOURCE: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/puller";
    let mut user = config();
    user.principals[0].managed_identity = Some(pullpass_emulator::ManagedIdentity {
        resource_id: Some(RESOURCE.to_owned()),
    });
    let world = World::new(user).await;
    for id in [
        ManagedIdentity::ClientId(CLIENT.to_owned()),
        ManagedIdentity::ResourceId(RESOURCE.to_owned()),
    ] {
        let credential = world.mint(&as_identity(MintIdentity::ManagedIdentity(id))).await;
        assert_lives(&credential.unwrap(), HOUR * 3);
    }
    let stranger = ManagedIdentity::ClientId("00000000-0000-0000-0000-000000000002".to_owned());
    let error = world
        .refused(&as_identity(MintIdentity::ManagedIdentity(stranger)))
        .await;
    assert_eq!(error.reason(), Reason::EntraRejected);
    assert!(
        error
            .to_string()
            .starts_with("the managed identity endpoint refused: HTTP 400: "),
        "{error}"
    );

    let mut system = config();
    system.principals[0].managed_identity = Some(pullpass_emulator::ManagedIdentity::default());
    let world = World::new(system).await;
    let request = as_identity(MintIdentity::ManagedIdentity(ManagedIdentity::System));
    assert_lives(&world.mint(&request).await.unwrap(), HOUR * 3);
}

#[tokio::test]
async fn an_access_token_is_for_its_repositories() {
    let world = World::new(config()).await;
    let credential = world
        .mint(&for_repositories(&["team/app", "other"]))
        .await
        .unwrap();
    assert_eq!(credential.repositories, ["team/app", "other"]);
    assert_eq!(claims(&credential)["access"][0]["name"], "team/app");
    assert_lives(&credential, SignedDuration::from_mins(75));
    let config: Value =
        serde_json::from_slice(&credential.docker_config(&LoginServer::parse(HOST).unwrap())).unwrap();
    assert!(config["auths"][HOST].is_null());
    assert!(config["auths"][format!("{HOST}/team/app")].is_object());
}

#[tokio::test]
async fn a_rotated_secret_works_at_once_and_the_old_one_no_more() {
    let world = World::new(config()).await;
    assert!(world.mint(&with_secret(PASSWORD)).await.is_ok());
    world.emulator.rotate_secret(CLIENT, "new~one").unwrap();
    assert_eq!(
        world.refused(&with_secret(PASSWORD)).await.reason(),
        Reason::EntraRejected
    );
    assert!(world.mint(&with_secret("new~one")).await.is_ok());
}

#[test]
fn nothing_secret_is_shown() {
    let identity = MintIdentity::WorkloadIdentity {
        app: app(),
        token_file: PathBuf::from("/var/run/token"),
    };
    let shown = format!("{:?} {:?}", with_secret(PASSWORD), as_identity(identity));
    assert!(!shown.contains(PASSWORD), "{shown}");
}

//! Every kind of identity, and every kind of token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use pullpass::api::reason::Reason;
use pullpass::azure::acr;
use pullpass::azure::mint::{ManagedIdentity, MintIdentity, MintRequest, REGISTRY_AUDIENCE};
use pullpass::registry::login_server::LoginServer;
use pullpass_emulator::{FederatedCredential, Jwks, RsaSigner, Step, TenantField};
use rcgen::{CertificateParams, KeyPair};
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
async fn an_exchange_names_the_tenant_of_its_token() {
    let mut config = config();
    config.registries[0].tenant_field = TenantField::Required;
    let world = World::new(config).await;
    assert!(world.mint(&with_secret(PASSWORD)).await.is_ok());
}

fn with_certificate(pem: &str) -> MintRequest {
    as_identity(MintIdentity::ClientCertificate {
        app: app(),
        pem: pem.into(),
        origin: "Secret acr-sp, key tls.pem".to_owned(),
    })
}

#[tokio::test]
async fn a_client_certificate_mints() {
    let key = RsaSigner::FIRST.pem();
    let leaf = RsaSigner::FIRST.certificate("puller").unwrap();
    let mut config = config();
    config.principals[0].certificates = vec![leaf.clone()];
    let world = World::new(config).await;
    let credential = world.mint(&with_certificate(&format!("{leaf}{key}"))).await;
    assert_lives(&credential.unwrap(), HOUR * 3);

    let other = RsaSigner::FIRST.certificate("stranger").unwrap();
    world.emulator.reset_counts();
    let error = world.refused(&with_certificate(&format!("{other}{key}"))).await;
    assert_eq!(error.reason(), Reason::EntraRejected);
    let text = error.to_string();
    assert!(
        text.contains("AADSTS700027") && text.contains("Secret acr-sp, key tls.pem"),
        "{text}"
    );
    // Twice, for `refused` mints twice: another audience does not help a certificate.
    assert_eq!(world.emulator.counts().calls(Step::EntraToken), 2);
}

#[tokio::test]
async fn certificates_that_entra_refuses_are_not_sent() {
    let key = RsaSigner::FIRST.pem();
    let leaf = RsaSigner::FIRST.certificate("puller").unwrap();
    let expired = RsaSigner::FIRST
        .certificate_for("old", at("2024-01-01T00:00:00Z"), at("2025-01-01T00:00:00Z"))
        .unwrap();
    let early = RsaSigner::FIRST
        .certificate_for("new", at("2150-01-01T00:00:00Z"), at("2151-01-01T00:00:00Z"))
        .unwrap();
    let p256 = KeyPair::generate().unwrap();
    let p256_leaf = CertificateParams::default().self_signed(&p256).unwrap().pem();
    let mut config = config();
    config.principals[0].certificates = vec![leaf.clone(), expired.clone(), early.clone(), p256_leaf.clone()];
    let world = World::new(config).await;
    let make = format!(
        "make a certificate with an RSA key; the command prints the name of the file that has both: `az ad app \
         credential reset --id {CLIENT} --append --create-cert --query fileWithCertAndPrivateKey --output tsv`; put \
         the file's content into Secret acr-sp, key tls.pem"
    );
    for (pem, cause, cure) in [
        (
            leaf,
            "there is no private key in PEM (BEGIN PRIVATE KEY) beside the certificate",
            "correct Secret acr-sp, key tls.pem",
        ),
        (
            format!("{p256_leaf}{}", p256.serialize_pem()),
            "the certificate's key is not an RSA key, and Entra ID accepts only signatures of RSA keys",
            make.as_str(),
        ),
        (
            RsaSigner::SHORT_CERTIFICATE.to_owned(),
            "the certificate's RSA key has 1024 bits, and Entra ID accepts only RSA keys of 2048 bits or more",
            make.as_str(),
        ),
        (
            format!("{expired}{key}"),
            "the certificate expired on 2025-01-01T00:00:00Z",
            make.as_str(),
        ),
        (
            format!("{early}{key}"),
            "the certificate is not valid before 2150-01-01T00:00:00Z",
            "set this machine's clock, and synchronize it by NTP: `timedatectl set-ntp true`",
        ),
    ] {
        let error = world.refused(&with_certificate(&pem)).await;
        assert_eq!(error.reason(), Reason::CredentialSecretMissing);
        assert_eq!(
            error.to_string(),
            format!("the client certificate can't be used: {cause}. What to do: {cure}")
        );
    }
    assert_eq!(world.emulator.counts().calls(Step::EntraToken), 0);
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A cluster that signs service account tokens.
struct Issuer(RsaSigner);

impl Issuer {
    const NAME: &str = "https://oidc.example/cluster/";
    const SUBJECT: &str = "system:serviceaccount:pullpass-system:pullpass";

    fn trust(&self) -> FederatedCredential {
        FederatedCredential {
            issuer: Self::NAME.to_owned(),
            subject: Self::SUBJECT.to_owned(),
            audience: "api://AzureADTokenExchange".to_owned(),
            jwks: Jwks {
                keys: vec![self.0.jwk("one").unwrap()],
            },
        }
    }

    fn claims(subject: &str) -> Value {
        let now = Timestamp::now().as_second();
        json!({
            "iss": Self::NAME, "sub": subject, "aud": ["api://AzureADTokenExchange"],
            "iat": now, "nbf": now, "exp": now + 3600,
        })
    }

    fn token(&self, subject: &str) -> String {
        let header = json!({"alg": "RS256", "kid": "one"});
        self.0.sign(&header, &Self::claims(subject)).unwrap()
    }
}

#[tokio::test]
async fn workload_identity_reads_its_token_anew_each_time() {
    let issuer = Issuer(RsaSigner::FIRST);
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
async fn a_token_of_unknown_keys_is_no_matter_of_audiences() {
    let mut config = config();
    config.principals[0].federated_credentials = vec![Issuer(RsaSigner::FIRST).trust()];
    let world = World::new(config).await;
    let directory = tempfile::tempdir().unwrap();
    let token_file = directory.path().join("token");
    std::fs::write(&token_file, Issuer(RsaSigner::SECOND).token(Issuer::SUBJECT)).unwrap();
    let app = app();
    let error = world
        .refused(&as_identity(MintIdentity::WorkloadIdentity { app, token_file }))
        .await;
    assert_eq!(error.reason(), Reason::EntraRejected);
    assert!(error.to_string().contains("/openid/v1/jwks"), "{error}");
    // Twice, for `refused` mints twice.
    assert_eq!(world.emulator.counts().calls(Step::EntraToken), 2);
}

#[tokio::test]
async fn tokens_of_clusters_that_sign_without_rsa_are_not_sent() {
    let world = World::new(config()).await;
    let directory = tempfile::tempdir().unwrap();
    let token_file = directory.path().join("token");
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!(
        "{}.{}.c2ln",
        part(json!({"alg": "ES256"})),
        part(Issuer::claims(Issuer::SUBJECT))
    );
    std::fs::write(&token_file, token).unwrap();
    let app = app();
    let error = world
        .refused(&as_identity(MintIdentity::WorkloadIdentity { app, token_file }))
        .await;
    assert_eq!(error.reason(), Reason::EntraRejected);
    assert_eq!(
        error.to_string(),
        "the cluster signs service account tokens by ES256, and Entra ID accepts only RSA signatures (RS256, \
         PS256 and their longer forms): it can't trust the tokens of this cluster. What to do: let the \
         cluster sign service \
         account tokens with an RSA key (kube-apiserver --service-account-signing-key-file), or use another kind of \
         identity; see which keys it has: `kubectl get --raw /openid/v1/jwks`"
    );
    assert_eq!(world.emulator.counts().calls(Step::EntraToken), 0);
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

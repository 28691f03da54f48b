//! An emulator with one tenant, application and registry, and a minter that sees nothing else.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use pullpass::azure::acr::{self, AcrError};
use pullpass::azure::entra::Entra;
use pullpass::azure::mint::{
    Application, Credential, MintError, MintIdentity, MintKind, MintRequest, Minter,
};
use pullpass::base::clock::Clock;
use pullpass::http::{HttpClient, HttpOptions};
use pullpass::registry::cloud::Cloud;
use pullpass::registry::login_server::LoginServer;
use pullpass_emulator::{Config, Emulator, Principal, Registry, Role, RoleAssignment, Tenant};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use std::sync::Arc;

pub(crate) const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
pub(crate) const CLIENT: &str = "7b795fb9-09d3-42f4-a494-38864f99ba3c";
pub(crate) const HOST: &str = "myregistry.azurecr.io";
pub(crate) const PASSWORD: &str = "correct~horse";
pub(crate) const ARM: &str = "https://management.azure.com";
pub(crate) const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// An emulator, and a minter that sees nothing else.
pub(crate) struct World {
    pub(crate) emulator: Emulator,
    pub(crate) minter: Minter,
    pub(crate) http: HttpClient,
}

pub(crate) fn config() -> Config {
    Config {
        tenants: vec![Tenant::new(TENANT)],
        principals: vec![Principal::new(TENANT, CLIENT).with_secret(PASSWORD)],
        registries: vec![Registry::new(TENANT, HOST)],
        roles: vec![RoleAssignment::new(CLIENT, HOST, Role::AcrPull)],
        ..Config::default()
    }
}

pub(crate) fn options(emulator: &Emulator) -> HttpOptions {
    HttpOptions {
        resolve: emulator
            .resolve()
            .iter()
            .map(|text| text.parse().unwrap())
            .collect(),
        extra_ca: vec![CertificateDer::from_pem_slice(emulator.ca_pem().as_bytes()).unwrap()],
        ..HttpOptions::default()
    }
}

impl World {
    pub(crate) async fn new(config: Config) -> Self {
        Self::with(config, |_| {}).await
    }

    pub(crate) async fn with(config: Config, change: impl FnOnce(&mut HttpOptions)) -> Self {
        let emulator = Emulator::start(config).await.unwrap();
        let mut options = options(&emulator);
        change(&mut options);
        let http = HttpClient::new(options).unwrap();
        let minter = minter(&emulator, &http, Arc::new(Timestamp::now));
        Self {
            emulator,
            minter,
            http,
        }
    }

    pub(crate) async fn mint(&self, request: &MintRequest) -> Result<Credential, MintError> {
        self.minter.mint(request).await
    }

    /// Mints twice, since an error must read the same each time.
    pub(crate) async fn refused(&self, request: &MintRequest) -> MintError {
        let error = self.mint(request).await.unwrap_err();
        assert_eq!(self.mint(request).await.unwrap_err(), error);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(PASSWORD), "{shown}");
        error
    }

    pub(crate) async fn challenge(&self) -> Result<acr::Challenge, AcrError> {
        let login_server = LoginServer::parse(HOST).unwrap();
        acr::challenge(&self.http, &login_server, Timestamp::now()).await
    }
}

pub(crate) fn minter(emulator: &Emulator, http: &HttpClient, clock: Clock) -> Minter {
    let imds = format!("http://{}", emulator.imds_addr()).parse().unwrap();
    let entra = Entra::new(http.clone(), None, Some(imds));
    Minter::new(http.clone(), entra, clock)
}

pub(crate) fn app() -> Application {
    Application {
        tenant_id: TENANT.to_owned(),
        client_id: CLIENT.to_owned(),
    }
}

pub(crate) fn with_secret(secret: &str) -> MintRequest {
    as_identity(MintIdentity::ClientSecret {
        app: app(),
        secret: secret.into(),
        origin: "Secret acr-sp, key password".to_owned(),
    })
}

pub(crate) fn as_identity(identity: MintIdentity) -> MintRequest {
    MintRequest {
        login_server: LoginServer::parse(HOST).unwrap(),
        cloud: Some(Cloud::Public),
        audience: None,
        remembered_audience: None,
        identity,
        kind: MintKind::RefreshToken,
    }
}

pub(crate) fn for_repositories(repositories: &[&str]) -> MintRequest {
    MintRequest {
        kind: MintKind::AccessToken {
            repositories: repositories.iter().map(|&name| name.to_owned()).collect(),
        },
        ..with_secret(PASSWORD)
    }
}

pub(crate) fn claims(credential: &Credential) -> Value {
    let claims = credential.password.expose().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

/// That a credential has about this long to live, by our clock.
pub(crate) fn assert_lives(credential: &Credential, expected: SignedDuration) {
    let left = credential
        .expires_at
        .unwrap()
        .duration_since(credential.issued_at);
    assert!((left - expected).abs() < SignedDuration::from_secs(5), "{left:?}");
    let age = Timestamp::now().duration_since(credential.issued_at);
    assert!(age.abs() < SignedDuration::from_mins(1), "{age:?}");
}

//! Audiences, clouds and authorities.

use jiff::Timestamp;
use pullpass::api::reason::Reason;
use pullpass::azure::endpoint::OtherEntra;
use pullpass::azure::entra::Entra;
use pullpass::azure::mint::{MintRequest, MintStep, Minter, REGISTRY_AUDIENCE};
use pullpass::registry::login_server::LoginServer;
use pullpass_emulator::{Config, Registry, Role, RoleAssignment, Step, Tenant};
use std::sync::Arc;

use crate::world::{ARM, CLIENT, PASSWORD, TENANT, World, config, with_secret};

#[tokio::test]
async fn an_accepted_second_audience_is_remembered() {
    let mut old_registry = config();
    old_registry.registries[0].audiences = Some(vec![ARM.to_owned()]);
    let mut bare_tenant = config();
    bare_tenant.tenants[0].audiences = Some(vec![ARM.to_owned()]);
    for config in [old_registry, bare_tenant] {
        let world = World::new(config).await;
        let mut request = with_secret(PASSWORD);
        assert_eq!(world.mint(&request).await.unwrap().audience.as_deref(), Some(ARM));
        request.remembered_audience = Some(ARM.to_owned());
        world.emulator.reset_counts();
        assert_eq!(world.mint(&request).await.unwrap().audience.as_deref(), Some(ARM));
        assert_eq!(world.emulator.counts().calls(Step::EntraToken), 1);

        request.audience = Some(REGISTRY_AUDIENCE.to_owned());
        world.emulator.reset_counts();
        let error = world.mint(&request).await.unwrap_err();
        assert_eq!(world.emulator.counts().calls(Step::EntraToken), 1);
        assert!(error.to_string().contains("spec.audience"), "{error}");
    }
}

#[tokio::test]
async fn a_remembered_audience_that_no_longer_works_gives_way() {
    let mut config = config();
    config.registries[0].authentication_as_arm = false;
    let world = World::new(config).await;
    let request = MintRequest {
        remembered_audience: Some(ARM.to_owned()),
        ..with_secret(PASSWORD)
    };
    let credential = world.mint(&request).await.unwrap();
    assert_eq!(credential.audience.as_deref(), Some(REGISTRY_AUDIENCE));
}

#[tokio::test]
async fn other_clouds_have_their_own_authority_and_audience() {
    let host = "myregistry.azurecr.us";
    let world = World::new(Config {
        tenants: vec![Tenant {
            cloud: pullpass_emulator::Cloud::USGovernment,
            audiences: Some(vec!["https://management.usgovcloudapi.net".to_owned()]),
            ..Tenant::new(TENANT)
        }],
        registries: vec![Registry::new(TENANT, host)],
        roles: vec![RoleAssignment::new(CLIENT, host, Role::AcrPull)],
        ..config()
    })
    .await;
    let login_server = LoginServer::parse(host).unwrap();
    let request = MintRequest {
        cloud: login_server.cloud(),
        login_server,
        ..with_secret(PASSWORD)
    };
    let credential = world.mint(&request).await.unwrap();
    assert_eq!(
        credential.audience.as_deref(),
        Some("https://management.usgovcloudapi.net")
    );
}

#[tokio::test]
async fn an_authority_given_by_hand_goes_before_the_clouds() {
    let world = World::new(config()).await;
    let authority = "https://login.microsoftonline.us".parse().unwrap();
    let entra = Entra::new(world.http.clone(), Some(authority), None);
    let minter = Minter::new(world.http.clone(), entra, Arc::new(Timestamp::now));
    let error = minter.mint(&with_secret(PASSWORD)).await.unwrap_err();
    assert!(error.to_string().contains("AADSTS90002"), "{error}");
}

const OTHER_HOST: &str = "myregistry.azurecr.contoso.example";
const OTHER_AUDIENCE: &str = "https://management.contoso.example";

/// A world whose tenant and registry are in a cloud that is none of Azure's own.
async fn other_cloud() -> World {
    World::new(Config {
        tenants: vec![Tenant {
            cloud: pullpass_emulator::Cloud::Other,
            audiences: Some(vec![OTHER_AUDIENCE.to_owned()]),
            ..Tenant::new(TENANT)
        }],
        registries: vec![Registry::new(TENANT, OTHER_HOST)],
        roles: vec![RoleAssignment::new(CLIENT, OTHER_HOST, Role::AcrPull)],
        ..config()
    })
    .await
}

fn in_other_cloud() -> MintRequest {
    MintRequest {
        cloud: None,
        login_server: LoginServer::of_other_cloud(OTHER_HOST).unwrap(),
        ..with_secret(PASSWORD)
    }
}

#[tokio::test]
async fn another_clouds_authority_and_audience_are_those_of_settings() {
    let world = other_cloud().await;
    let other = OtherEntra {
        authority_host: "https://login.contoso.example".parse().unwrap(),
        audience: OTHER_AUDIENCE.parse().unwrap(),
    };
    // The authority that is given for Azure's own clouds is not that of another one.
    let given = "https://login.microsoftonline.us".parse().unwrap();
    let entra = Entra::new(world.http.clone(), Some(given), None).with_other_cloud(Some(other));
    let minter = Minter::new(world.http.clone(), entra, Arc::new(Timestamp::now));
    let credential = minter.mint(&in_other_cloud()).await.unwrap();
    assert_eq!(credential.audience.as_deref(), Some(OTHER_AUDIENCE));
    assert_eq!(world.emulator.counts().calls(Step::EntraToken), 1);
}

#[tokio::test]
async fn without_settings_nobody_is_sent_another_clouds_secret() {
    let world = other_cloud().await;
    for given in [None, Some("https://login.contoso.example".parse().unwrap())] {
        let entra = Entra::new(world.http.clone(), given, None);
        let minter = Minter::new(world.http.clone(), entra, Arc::new(Timestamp::now));
        let error = minter.mint(&in_other_cloud()).await.unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidSpec, "{error}");
        assert!(error.to_string().contains("--other-cloud-authority"), "{error}");
    }
    let counts = world.emulator.counts();
    assert_eq!(
        (counts.calls(Step::EntraToken), counts.calls(Step::Exchange)),
        (0, 0)
    );
}

#[tokio::test]
async fn of_several_refusals_the_one_that_came_furthest_is_told() {
    for audience in [REGISTRY_AUDIENCE, ARM] {
        let mut config = config();
        config.tenants[0].audiences = Some(vec![audience.to_owned()]);
        config.roles.clear();
        let world = World::new(config).await;
        let error = world.refused(&with_secret(PASSWORD)).await;
        assert_eq!(error.step(), MintStep::Exchange, "{error}");
        let counts = world.emulator.counts();
        assert_eq!(
            (counts.calls(Step::EntraToken), counts.calls(Step::Exchange)),
            (4, 2)
        );
    }
}

//! What Entra ID and the registry refuse, and what is advised.

use jiff::Timestamp;
use pullpass::api::acr_registry::{MAX_REPOSITORIES, MAX_REPOSITORIES_LENGTH};
use pullpass::api::reason::Reason;
use pullpass::azure::acr;
use pullpass::azure::mint::{Application, MintIdentity, MintStep};
use pullpass::registry::login_server::LoginServer;
use pullpass_emulator::{DeniedScope, Failure, Fault, Registry, Role, RoleAssignment, Secret, Step};
use std::time::Duration;

use crate::world::{
    CLIENT, HOST, PASSWORD, TENANT, World, as_identity, config, for_repositories, with_secret,
};

#[tokio::test]
async fn a_refusal_of_entra_has_code_and_cure_and_is_tried_once() {
    let mut config = config();
    config.principals[0].secrets.push(Secret {
        value: "old~one".to_owned(),
        expires_at: Some("2020-01-01T00:00:00Z".parse().unwrap()),
    });
    let world = World::new(config).await;
    let of_app = |tenant_id: &str, client_id: &str| {
        as_identity(MintIdentity::ClientSecret {
            app: Application {
                tenant_id: tenant_id.to_owned(),
                client_id: client_id.to_owned(),
            },
            secret: PASSWORD.into(),
            origin: "Secret acr-sp, key password".to_owned(),
        })
    };
    let other = "00000000-0000-0000-0000-000000000002";
    for (request, expected) in [
        (
            with_secret("wrong"),
            format!(
                "Entra ID refused: AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{CLIENT}'. What to do: make a new client secret (its value is what counts, not its ID): `az ad app credential reset --id {CLIENT} --append --query password --output tsv > secret.txt`; put its value into Secret acr-sp, key password, then remove the file"
            ),
        ),
        (
            with_secret("old~one"),
            format!(
                "Entra ID refused: AADSTS7000222: The provided client secret keys for app '{CLIENT}' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds. What to do: make a new client secret (its value is what counts, not its ID): `az ad app credential reset --id {CLIENT} --append --query password --output tsv > secret.txt`; put its value into Secret acr-sp, key password, then remove the file"
            ),
        ),
        (
            of_app(TENANT, other),
            format!(
                "What to do: check that the application is in this tenant; its client ID is not its object ID: `az ad sp show --id {other} --query '{{clientId:appId,tenant:appOwnerOrganizationId}}'`"
            ),
        ),
        (
            of_app(other, CLIENT),
            format!(
                "What to do: compare the tenant ID {other}: `az account show --query tenantId --output tsv`; check that the tenant is in the registry's cloud; AZURE_AUTHORITY_HOST names another authority"
            ),
        ),
    ] {
        world.emulator.reset_counts();
        let error = world.refused(&request).await;
        assert_eq!(
            (error.reason(), error.step()),
            (Reason::EntraRejected, MintStep::Entra)
        );
        let text = error.to_string();
        assert!(text.ends_with(&expected), "{text}");
        // Twice, for `refused` mints twice: another audience does not help a secret.
        assert_eq!(world.emulator.counts().calls(Step::EntraToken), 2);
    }
    for (request, reason) in [
        (with_secret(" \n"), Reason::CredentialSecretMissing),
        (of_app("not a tenant", CLIENT), Reason::InvalidSpec),
        (of_app(TENANT, ""), Reason::InvalidSpec),
    ] {
        world.emulator.reset_counts();
        assert_eq!(world.refused(&request).await.reason(), reason);
        assert_eq!(world.emulator.counts().calls(Step::EntraToken), 0);
    }
}

#[tokio::test]
async fn a_missing_role_is_refused_by_the_exchange_until_it_acts() {
    let mut config = config();
    config.roles[0].propagation_seconds = 300;
    let world = World::new(config).await;
    let error = world.refused(&with_secret(PASSWORD)).await;
    assert_eq!(
        (error.reason(), error.step()),
        (Reason::ExchangeRejected, MintStep::Exchange)
    );
    assert_eq!(
        error.to_string(),
        format!(
            "no pull token from {HOST}: refused (HTTP 401 UNAUTHORIZED). What to do: give the identity a role on the \
             registry: `az role assignment create --role AcrPull --assignee {CLIENT} --scope $(az acr show --name \
             myregistry --query id --output tsv)`; on a registry with Entra repository permissions (ABAC), AcrPull is \
             not honoured; give the identity this role: `az role assignment create --role \"Container Registry \
             Repository Reader\" --assignee {CLIENT} --scope $(az acr show --name myregistry --query id --output \
             tsv)`; wait some minutes if the role was just given, or is given through a group; check that the registry \
             belongs to the tenant {TENANT}: `az account show --subscription $(az acr show --name myregistry --query id \
             --output tsv | cut -d/ -f3) --query tenantId --output tsv`"
        )
    );
    world.emulator.advance(Duration::from_mins(6));
    assert!(world.mint(&with_secret(PASSWORD)).await.is_ok());
}

#[tokio::test]
async fn refusals_of_the_registry_have_a_cure_each() {
    let world = World::new(config()).await;
    for (status, cure) in [
        (401, "--role AcrPull"),
        (403, "firewall"),
        (404, "az acr show --name myregistry"),
        (413, "fewer groups"),
    ] {
        world.emulator.clear_failures();
        world
            .emulator
            .inject(Failure::new(Step::Exchange, Fault::status(status)));
        let error = world.refused(&with_secret(PASSWORD)).await;
        assert_eq!(error.reason(), Reason::ExchangeRejected);
        assert!(error.to_string().contains(cure), "{error}");
    }
}

#[tokio::test]
async fn an_abac_registry_passes_the_exchange_and_refuses_the_pull() {
    for denied in [
        DeniedScope::Unauthorized,
        DeniedScope::Forbidden,
        DeniedScope::Omit,
    ] {
        let mut config = config();
        config.registries = vec![Registry {
            denied_scope: denied,
            ..Registry::abac(TENANT, HOST)
        }];
        let world = World::new(config).await;
        assert!(world.mint(&with_secret(PASSWORD)).await.is_ok());
        // Nor does it ask for any role at all before it is asked for a repository.
        world.emulator.revoke(CLIENT, HOST).unwrap();
        assert!(world.mint(&with_secret(PASSWORD)).await.is_ok());
        world.emulator.reset_counts();
        let error = world.refused(&for_repositories(&["team/app"])).await;
        // Twice, for `refused` mints twice: another audience does not help a role.
        assert_eq!(world.emulator.counts().calls(Step::EntraToken), 2);
        assert_eq!(
            (error.reason(), error.step()),
            (Reason::ExchangeRejected, MintStep::AccessToken)
        );
        let role = format!(
            "az role assignment create --role \"Container Registry Repository Reader\" --assignee {CLIENT} --scope"
        );
        assert!(error.to_string().contains(&role), "{error}");
        world
            .emulator
            .grant(RoleAssignment::new(CLIENT, HOST, Role::RepositoryReader))
            .unwrap();
        assert!(world.mint(&for_repositories(&["team/app"])).await.is_ok());
    }
}

#[tokio::test]
async fn a_registry_of_another_tenant_is_no_matter_of_roles_alone() {
    let theirs = "00000000-0000-0000-0000-000000000003";
    let mut config = config();
    config.registries = vec![Registry::new(theirs, HOST)];
    let world = World::new(config).await;
    let error = world.refused(&with_secret(PASSWORD)).await;
    assert_eq!(
        (error.reason(), error.step()),
        (Reason::ExchangeRejected, MintStep::Exchange)
    );
    let cure = format!("check that the registry belongs to the tenant {TENANT}");
    assert!(error.to_string().contains(&cure), "{error}");
}

#[tokio::test]
async fn a_token_that_no_client_can_send_is_not_a_credential() {
    let world = World::new(config()).await;
    let names: Vec<_> = (0..64).map(|number| format!("{number:0>60}")).collect();
    let all: Vec<_> = names.iter().map(String::as_str).collect();
    let error = world.refused(&for_repositories(&all)).await;
    assert_eq!(
        (error.reason(), error.step()),
        (Reason::InvalidSpec, MintStep::AccessToken)
    );
    assert_eq!(
        error.to_string(),
        format!(
            "no pull token from {HOST}: the token is longer than 6089 characters, which is the longest password that the \
             registry's front end accepts, so nobody could pull with it. What to do: name fewer repositories in \
             spec.credential.repositories, or use spec.credential.kind RefreshToken"
        )
    );
    // Short names make a token that is not too long, and a pull secret that is too large with a copy for each.
    let names: Vec<_> = (0..64).map(|number| format!("app{number}")).collect();
    let all_short: Vec<_> = names.iter().map(String::as_str).collect();
    let error = world.refused(&for_repositories(&all_short)).await;
    assert_eq!(error.reason(), Reason::InvalidSpec);
    let expected = "a pull secret with a key for each of the 64 repositories is larger than the 1 MiB that a Secret can \
                    hold. What to do: name fewer repositories in spec.credential.repositories, or use \
                    spec.credential.kind RefreshToken";
    assert_eq!(error.to_string(), expected);
    // What the API server lets in is not too much; a client gets through with the token.
    let length = MAX_REPOSITORIES_LENGTH / MAX_REPOSITORIES;
    let names: Vec<_> = (0..MAX_REPOSITORIES)
        .map(|number| format!("{number:0>length$}"))
        .collect();
    let some: Vec<_> = names.iter().map(String::as_str).collect();
    let some = some.as_slice();
    let credential = world.mint(&for_repositories(some)).await.unwrap();
    let login_server = LoginServer::parse(HOST).unwrap();
    let answer = acr::password_token(
        &world.http,
        &login_server,
        &credential.username,
        &credential.password,
        Some(some[0]),
        Timestamp::now(),
    );
    assert!(answer.await.is_ok());
}

#[tokio::test]
async fn a_challenge_is_held_against_the_registry() {
    let world = World::new(config()).await;
    let challenge = world.challenge().await.unwrap();
    assert_eq!(challenge.realm, format!("https://{HOST}/oauth2/token"));
    assert_eq!(challenge.service.as_deref(), Some(HOST));
    let wrong_realm = Fault::WrongRealm {
        host: "evil.example".to_owned(),
    };
    for (fault, expected) in [
        (wrong_realm, "another host (evil.example)"),
        (Fault::status(403), "refused (HTTP 403 DENIED)"),
        (Fault::Empty, "does not ask for a token"),
        (Fault::status(503), "the service failed (HTTP 503)"),
        (Fault::throttled(1), "too many calls"),
    ] {
        world.emulator.clear_failures();
        world.emulator.inject(Failure::new(Step::Challenge, fault));
        let error = world.challenge().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

//! User names and passwords that are used as they are: whether the registry accepts them.

use jiff::Timestamp;
use pullpass::api::reason::Reason;
use pullpass::azure::mint::{MintIdentity, Password};
use pullpass::registry::login_server::LoginServer;
use pullpass_emulator::{Failure, Fault, Registry, ScopedToken, Step};

use crate::world::{CLIENT, HOST, PASSWORD, TENANT, World, app, config};

fn of_registry(username: &str, password: &str) -> Password {
    Password {
        username: username.to_owned(),
        password: password.into(),
        principal: None,
    }
}

fn of_principal(password: &str) -> Password {
    let identity = MintIdentity::ClientSecret {
        app: app(),
        secret: password.into(),
        origin: "Secret acr-sp, key password".to_owned(),
    };
    Password {
        principal: Some(identity),
        ..of_registry(CLIENT, password)
    }
}

async fn world() -> World {
    let mut registry = Registry::new(TENANT, HOST).with_admin("myregistry", "hunter2");
    let token = |name: &str, disabled, expires_at| ScopedToken {
        name: name.to_owned(),
        passwords: vec!["hunter2".to_owned()],
        disabled,
        expires_at,
        ..ScopedToken::default()
    };
    registry.tokens = vec![
        token("usable", false, None),
        token("disabled", true, None),
        token("expired", false, Some(Timestamp::UNIX_EPOCH)),
    ];
    let mut config = config();
    config.registries = vec![registry];
    World::new(config).await
}

#[tokio::test]
async fn a_password_is_taken_where_the_registry_takes_it() {
    let world = world().await;
    let host = LoginServer::parse(HOST).unwrap();
    for password in [
        of_registry("myregistry", "hunter2\n"),
        of_registry("usable", "hunter2"),
        of_principal(PASSWORD),
    ] {
        let credential = world.minter.try_password(&host, &password).await.unwrap();
        assert_eq!(credential.username, password.username);
        assert_eq!(credential.expires_at, None);
    }
    let counts = world.emulator.counts();
    assert_eq!(counts.calls_at(Step::EntraToken, TENANT), 0);
    assert_eq!(counts.calls_at(Step::Token, HOST), 3);
}

#[tokio::test]
async fn a_refused_password_says_what_to_do_about_it() {
    let world = world().await;
    let host = LoginServer::parse(HOST).unwrap();
    for (password, advice) in [
        (
            of_registry("myregistry", "hunter3"),
            "az acr credential show --name myregistry",
        ),
        (
            of_registry("usable", "hunter3"),
            "az acr token credential generate --name usable --registry myregistry --password2",
        ),
        (
            of_registry("disabled", "hunter2"),
            "az acr token show --name disabled --registry myregistry",
        ),
        (
            of_registry("expired", "hunter2"),
            "az acr token credential generate --name expired",
        ),
        (
            of_principal("hunter3"),
            "put its value into Secret acr-sp, key password",
        ),
    ] {
        let error = world.minter.try_password(&host, &password).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ExchangeRejected);
        let text = error.to_string();
        assert!(text.contains("refused (HTTP 401"), "{text}");
        assert!(text.contains(advice), "{text}");
        assert!(!text.contains("hunter"), "{text}");
    }
}

#[tokio::test]
async fn an_outage_and_a_firewall_are_no_wrong_password() {
    let world = world().await;
    let host = LoginServer::parse(HOST).unwrap();
    for (status, reason, advice) in [
        (503, Reason::Unreachable, None),
        (429, Reason::Throttled, None),
        (403, Reason::ExchangeRejected, Some("az acr network-rule add")),
    ] {
        world
            .emulator
            .inject(Failure::new(Step::Token, Fault::status(status)).times(1));
        let password = of_registry("usable", "hunter2");
        let error = world.minter.try_password(&host, &password).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        let text = error.to_string();
        assert_eq!(error.advice().is_some(), advice.is_some(), "{text}");
        assert!(advice.is_none_or(|advice| text.contains(advice)), "{text}");
    }
}

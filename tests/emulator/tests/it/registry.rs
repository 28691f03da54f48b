//! A registry's challenge, exchange and token service.

use std::time::Duration;

use pullpass_emulator::{
    DeniedScope, Lifetimes, Registry, RepositoryScope, Role, RoleAssignment, ScopedToken, Step,
};
use serde_json::{Value, json};

use crate::client::*;

const PULL_APP: &str = "repository:team/app:pull";

fn unauthorized(answer: &Answer, reason: &str) {
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(answer.json()["errors"][0]["code"], "UNAUTHORIZED");
    assert_eq!(answer.header("x-emulator-reason"), reason);
}

fn pulls_from(token: &str, repository: &str) -> bool {
    let access = claims(token)["access"].clone();
    access == json!([{"type": "repository", "name": repository, "actions": ["pull"]}])
}

#[tokio::test]
async fn the_challenge_names_the_registrys_own_token_service() {
    let (_emulator, client) = start().await;
    let answer = client.get(&format!("https://{REGISTRY}/v2/"), "").await.unwrap();
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.header("www-authenticate"),
        r#"Bearer realm="https://myregistry.azurecr.io/oauth2/token",service="myregistry.azurecr.io""#
    );
}

/// It is the same registry: its challenge names the login server, whose tokens it takes.
#[tokio::test]
async fn a_regional_endpoint_answers_as_its_registry() {
    const REGIONAL: &str = "myregistry.westeurope.geo.azurecr.io";
    let (emulator, client) = start().await;
    assert!(emulator.hosts().contains(&REGIONAL.to_owned()));
    let answers = [REGISTRY, REGIONAL].map(|host| format!("https://{host}/v2/"));
    let [own, regional] = [
        client.get(&answers[0], "").await.unwrap(),
        client.get(&answers[1], "").await.unwrap(),
    ];
    assert_eq!(regional.status, 401);
    assert_eq!(
        regional.header("www-authenticate"),
        own.header("www-authenticate")
    );
    let unknown = client
        .get("https://myregistry.northeurope.geo.azurecr.io/v2/", "")
        .await;
    assert!(unknown.is_err() || unknown.is_ok_and(|answer| answer.status == 404));
}

#[tokio::test]
async fn the_three_steps_lead_to_a_token_that_the_registry_takes() {
    let (emulator, client) = start().await;
    let refresh = client.refresh_token(REGISTRY).await;
    let refresh_claims = claims(&refresh);
    assert_eq!(refresh_claims["iss"], "Azure Container Registry");
    assert_eq!(refresh_claims["aud"], REGISTRY);
    assert_eq!(refresh_claims["grant_type"], "refresh_token");
    assert_eq!(refresh_claims["permissions"]["actions"], json!(["read"]));
    let iat = refresh_claims["iat"].as_i64().unwrap();
    assert_eq!(refresh_claims["exp"].as_i64().unwrap() - iat, 3 * 3600);

    let token_url = format!("https://{REGISTRY}/oauth2/token");
    let forms: [&[(&str, &str)]; 2] = [
        &[("grant_type", "refresh_token"), ("refresh_token", &refresh)],
        &[
            ("grant_type", "password"),
            ("username", NULL_GUID),
            ("password", &refresh),
        ],
    ];
    let mut answers = vec![
        client
            .scoped(REGISTRY, (NULL_GUID, &refresh), PULL_APP)
            .await
            .unwrap(),
    ];
    for form in forms {
        let form = [form, &[("service", REGISTRY), ("scope", PULL_APP)]].concat();
        answers.push(client.post(&token_url, &form).await.unwrap());
    }
    for answer in answers {
        let token = answer.token("access_token");
        assert!(pulls_from(&token, "team/app"));
        let url = format!("https://{REGISTRY}/v2/");
        let ping = client.get(&url, &format!("Bearer {token}")).await.unwrap();
        assert_eq!(ping.status, 200);
        let url = format!("https://{REGISTRY}/v2/team/app/manifests/v1");
        let manifest = client.get(&url, &format!("Bearer {token}")).await.unwrap();
        assert_eq!(manifest.status, 404, "there is no backend: {manifest:?}");
        let url = format!("https://{REGISTRY}/v2/team/other/manifests/v1");
        let other = client.get(&url, &format!("Bearer {token}")).await.unwrap();
        assert_eq!(other.status, 401);
        assert!(
            other
                .header("www-authenticate")
                .ends_with(r#"scope="repository:team/other:pull",error="insufficient_scope""#)
        );
    }
    let counts = emulator.counts();
    assert_eq!(counts.calls_at(Step::Exchange, REGISTRY), 1);
    assert_eq!(counts.calls_at(Step::Token, REGISTRY), 3);
    assert_eq!(counts.calls(Step::Manifest), 6);
}

#[tokio::test]
async fn pull_rights_do_not_grow_into_push_rights() {
    let (_emulator, client) = start().await;
    let refresh = client.refresh_token(REGISTRY).await;
    let scope = "repository:team/app:pull,push,delete";
    let answer = client
        .scoped(REGISTRY, (NULL_GUID, &refresh), scope)
        .await
        .unwrap();
    assert!(pulls_from(&answer.token("access_token"), "team/app"));
}

#[tokio::test]
async fn the_exchange_refuses_forged_expired_and_foreign_tokens() {
    let (emulator, client) = start().await;
    let good = client.entra_token(ACR).await;
    let forged = tampered(&good, "appid", json!("somebody-else"));
    unauthorized(
        &client.exchange(REGISTRY, &forged).await.unwrap(),
        "bad-signature",
    );
    unauthorized(
        &client.exchange(REGISTRY, "x.y.z").await.unwrap(),
        "malformed-token",
    );
    let refresh = client
        .exchange(REGISTRY, &good)
        .await
        .unwrap()
        .token("refresh_token");
    unauthorized(
        &client.exchange(REGISTRY, &refresh).await.unwrap(),
        "bad-signature",
    );

    let mut registry = Registry::new(TENANT, REGISTRY);
    registry.authentication_as_arm = false;
    client
        .exchange(REGISTRY, &client.entra_token(ARM).await)
        .await
        .unwrap()
        .token("refresh_token");
    emulator.put_registry(registry).unwrap();
    let arm = client.entra_token(ARM).await;
    unauthorized(&client.exchange(REGISTRY, &arm).await.unwrap(), "audience");
    client
        .exchange(REGISTRY, &good)
        .await
        .unwrap()
        .token("refresh_token");

    emulator.advance(Duration::from_hours(1));
    unauthorized(&client.exchange(REGISTRY, &good).await.unwrap(), "expired");
}

#[tokio::test]
async fn a_role_acts_after_propagation_until_it_is_removed() {
    let (emulator, client) = start().await;
    emulator.revoke(CLIENT, REGISTRY).unwrap();
    let token = client.entra_token(ACR).await;
    unauthorized(&client.exchange(REGISTRY, &token).await.unwrap(), "no role");
    let mut late = RoleAssignment::new(CLIENT, REGISTRY, Role::AcrPull);
    late.propagation_seconds = 300;
    emulator.grant(late).unwrap();
    unauthorized(&client.exchange(REGISTRY, &token).await.unwrap(), "no role");
    emulator.advance(Duration::from_secs(301));
    let refresh = client
        .exchange(REGISTRY, &token)
        .await
        .unwrap()
        .token("refresh_token");
    emulator.revoke(CLIENT, REGISTRY).unwrap();
    let answer = client
        .scoped(REGISTRY, (NULL_GUID, &refresh), PULL_APP)
        .await
        .unwrap();
    unauthorized(&answer, "scope");
}

#[tokio::test]
async fn an_abac_registry_exchanges_and_then_denies_the_repository() {
    let (emulator, client) = start().await;
    emulator.put_registry(Registry::abac(TENANT, REGISTRY)).unwrap();
    let refresh = client.refresh_token(REGISTRY).await;
    let user = (NULL_GUID, refresh.as_str());
    unauthorized(&client.scoped(REGISTRY, user, PULL_APP).await.unwrap(), "scope");

    let mut reader = RoleAssignment::new(CLIENT, REGISTRY, Role::RepositoryReader);
    reader.repositories = vec!["team/*".to_owned()];
    emulator.grant(reader).unwrap();
    let answer = client.scoped(REGISTRY, user, PULL_APP).await.unwrap();
    assert!(pulls_from(&answer.token("access_token"), "team/app"));
    let other = "repository:other:pull";
    unauthorized(&client.scoped(REGISTRY, user, other).await.unwrap(), "scope");

    for (denied_scope, status) in [(DeniedScope::Forbidden, 403), (DeniedScope::Omit, 200)] {
        emulator
            .put_registry(Registry {
                denied_scope,
                ..Registry::abac(TENANT, REGISTRY)
            })
            .unwrap();
        let answer = client.scoped(REGISTRY, user, other).await.unwrap();
        assert_eq!(answer.status, status);
        if status == 200 {
            assert_eq!(claims(&answer.token("access_token"))["access"], json!([]));
        }
    }
}

#[tokio::test]
async fn an_abac_registry_exchanges_for_everybody_of_its_tenant() {
    let (emulator, client) = start().await;
    emulator.put_registry(Registry::abac(TENANT, REGISTRY)).unwrap();
    emulator.revoke(CLIENT, REGISTRY).unwrap();
    let refresh = client.refresh_token(REGISTRY).await;
    for (user, password) in [(NULL_GUID, refresh.as_str()), (CLIENT, SECRET)] {
        let denied = client.scoped(REGISTRY, (user, password), PULL_APP).await.unwrap();
        unauthorized(&denied, "scope");
    }
}

#[tokio::test]
async fn a_registry_refuses_tokens_and_passwords_of_another_tenant() {
    let (emulator, client) = start().await;
    let other = "33333333-3333-3333-3333-333333333333";
    for registry in [Registry::new(other, REGISTRY), Registry::abac(other, REGISTRY)] {
        emulator.put_registry(registry).unwrap();
        let token = client.entra_token(ACR).await;
        let answer = client.exchange(REGISTRY, &token).await.unwrap();
        unauthorized(&answer, "a token of another tenant");
        let answer = client.scoped(REGISTRY, (CLIENT, SECRET), PULL_APP).await.unwrap();
        unauthorized(&answer, "user name or password");
    }
}

#[tokio::test]
async fn forms_without_their_content_type_are_not_read() {
    let (_emulator, client) = start().await;
    let entra_token = client.entra_token(ACR).await;
    let refresh = client.refresh_token(REGISTRY).await;
    let exchange = [
        ("grant_type", "access_token"),
        ("service", REGISTRY),
        ("access_token", &entra_token),
    ];
    let token = [
        ("grant_type", "refresh_token"),
        ("service", REGISTRY),
        ("refresh_token", &refresh),
    ];
    let (exchange_url, token_url) = (
        format!("https://{REGISTRY}/oauth2/exchange"),
        format!("https://{REGISTRY}/oauth2/token"),
    );
    for (url, form, status) in [(exchange_url, exchange, 400), (token_url, token, 401)] {
        for content_type in [
            None,
            Some("text/plain"),
            Some("application/json"),
            Some("application/x-www-form-urlencoded"),
            Some("Application/X-WWW-Form-Urlencoded; charset=utf-8"),
        ] {
            let mut request = form_request(&url, &form);
            match content_type {
                Some(value) => request
                    .headers_mut()
                    .insert("content-type", value.parse().unwrap()),
                None => request.headers_mut().remove("content-type"),
            };
            let is_form = content_type.is_some_and(|value| value.to_lowercase().contains("form"));
            let expected = if is_form { 200 } else { status };
            let answer = client.send(request).await.unwrap();
            assert_eq!(answer.status, expected, "{url} {content_type:?}");
        }
    }
}

#[tokio::test]
async fn a_password_that_is_too_long_does_not_pass_the_front_end() {
    let (emulator, client) = start().await;
    let mut registry = Registry::new(TENANT, REGISTRY);
    let (longest, too_long) = ("p".repeat(6089), "p".repeat(6090));
    registry.tokens.push(ScopedToken {
        name: "puller".to_owned(),
        passwords: vec![longest.clone(), too_long.clone()],
        scopes: vec![RepositoryScope {
            repository: "team/app".to_owned(),
            actions: vec!["pull".to_owned()],
        }],
        ..ScopedToken::default()
    });
    emulator.put_registry(registry).unwrap();
    let answer = client.scoped(REGISTRY, ("puller", &longest), PULL_APP).await;
    assert!(pulls_from(&answer.unwrap().token("access_token"), "team/app"));
    let answer = client.scoped(REGISTRY, ("puller", &too_long), PULL_APP).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("content-type"), "text/html");
}

#[tokio::test]
async fn anonymous_pull_is_for_those_who_send_no_credentials() {
    let (emulator, client) = start().await;
    let url = format!("https://{REGISTRY}/oauth2/token?service={REGISTRY}&scope={PULL_APP},push");
    unauthorized(&client.get(&url, "").await.unwrap(), "no credentials");
    let mut registry = Registry::new(TENANT, REGISTRY);
    registry.anonymous_pull = true;
    emulator.put_registry(registry).unwrap();
    let token = client.get(&url, "").await.unwrap().token("access_token");
    assert!(pulls_from(&token, "team/app"));
    for authorization in [
        basic(CLIENT, "wrong"),
        basic(NULL_GUID, "wrong"),
        "Basic ***".to_owned(),
    ] {
        let answer = client.get(&url, &authorization).await.unwrap();
        assert_eq!(answer.status, 401, "{authorization}");
    }
}

#[tokio::test]
async fn a_repository_role_is_nothing_on_a_classic_registry() {
    let (emulator, client) = start().await;
    emulator.revoke(CLIENT, REGISTRY).unwrap();
    let reader = RoleAssignment::new(CLIENT, REGISTRY, Role::RepositoryReader);
    emulator.grant(reader).unwrap();
    let refresh = client.refresh_token(REGISTRY).await;
    let answer = client
        .scoped(REGISTRY, (NULL_GUID, &refresh), PULL_APP)
        .await
        .unwrap();
    unauthorized(&answer, "scope");
}

#[tokio::test]
async fn a_disabled_or_expired_scoped_token_is_refused() {
    let (emulator, client) = start().await;
    let usable = ScopedToken {
        name: "puller".to_owned(),
        passwords: vec!["one".to_owned()],
        ..ScopedToken::default()
    };
    let ended = Some(jiff::Timestamp::UNIX_EPOCH);
    for (disabled, expires_at, status) in [(false, None, 200), (true, None, 401), (false, ended, 401)] {
        let mut registry = Registry::new(TENANT, REGISTRY);
        registry.tokens.push(ScopedToken {
            disabled,
            expires_at,
            ..usable.clone()
        });
        emulator.put_registry(registry).unwrap();
        let url = format!("https://{REGISTRY}/oauth2/token?service={REGISTRY}");
        let answer = client.get(&url, &basic("puller", "one")).await.unwrap();
        assert_eq!(
            answer.status, status,
            "disabled: {disabled}, expires: {expires_at:?}"
        );
    }
}

#[tokio::test]
async fn every_kind_of_registry_password_is_accepted() {
    let (emulator, client) = start().await;
    let mut registry = Registry::new(TENANT, REGISTRY).with_admin("myregistry", "admin-password");
    registry.tokens.push(ScopedToken {
        name: "puller".to_owned(),
        passwords: vec!["one".to_owned(), "two".to_owned()],
        scopes: vec![RepositoryScope {
            repository: "team/app".to_owned(),
            actions: vec!["pull".to_owned()],
        }],
        ..ScopedToken::default()
    });
    emulator.put_registry(registry).unwrap();
    for user in [
        ("myregistry", "admin-password"),
        ("puller", "one"),
        ("puller", "two"),
        (CLIENT, SECRET),
    ] {
        let answer = client.scoped(REGISTRY, user, PULL_APP).await.unwrap();
        assert!(pulls_from(&answer.token("access_token"), "team/app"), "{user:?}");
    }
    for user in [
        ("myregistry", "wrong"),
        ("puller", "three"),
        (CLIENT, "wrong"),
        ("nobody", "x"),
        (NULL_GUID, "x"),
    ] {
        assert_eq!(
            client.scoped(REGISTRY, user, PULL_APP).await.unwrap().status,
            401,
            "{user:?}"
        );
    }
    let other = "repository:other:pull";
    assert_eq!(
        client
            .scoped(REGISTRY, ("puller", "one"), other)
            .await
            .unwrap()
            .status,
        401
    );

    emulator.rotate_secret(CLIENT, "new").unwrap();
    let old = client.scoped(REGISTRY, (CLIENT, SECRET), PULL_APP).await.unwrap();
    unauthorized(&old, "user name or password");
    let url = format!("https://{REGISTRY}/oauth2/token?service={REGISTRY}");
    unauthorized(&client.get(&url, "").await.unwrap(), "no credentials");
}

#[tokio::test]
async fn tokens_of_a_registry_are_good_there_and_for_their_time_only() {
    let (emulator, client) = start().await;
    let other = "other.azurecr.io";
    emulator.put_registry(Registry::new(TENANT, other)).unwrap();
    emulator
        .grant(RoleAssignment::new(CLIENT, other, Role::AcrPull))
        .unwrap();
    let lifetimes = Lifetimes {
        refresh_seconds: 30,
        access_seconds: 10,
        ..Lifetimes::default()
    };
    let patch = pullpass_emulator::ConfigPatch {
        lifetimes: Some(lifetimes),
        ..pullpass_emulator::ConfigPatch::default()
    };
    emulator.configure(patch).unwrap();

    let refresh = client.refresh_token(REGISTRY).await;
    let user = (NULL_GUID, refresh.as_str());
    assert_eq!(client.scoped(other, user, PULL_APP).await.unwrap().status, 401);
    let access = client
        .scoped(REGISTRY, user, PULL_APP)
        .await
        .unwrap()
        .token("access_token");
    let form = [
        ("grant_type", "refresh_token"),
        ("service", REGISTRY),
        ("scope", PULL_APP),
        ("refresh_token", &access),
    ];
    let as_refresh = client
        .post(&format!("https://{REGISTRY}/oauth2/token"), &form)
        .await
        .unwrap();
    assert_eq!(as_refresh.status, 401);
    let bearer = format!("Bearer {access}");
    let ping = |host: &str| format!("https://{host}/v2/");
    assert_eq!(client.get(&ping(REGISTRY), &bearer).await.unwrap().status, 200);
    assert_eq!(client.get(&ping(other), &bearer).await.unwrap().status, 401);
    let forged = format!("Bearer {}", tampered(&access, "exp", Value::from(i64::MAX)));
    assert_eq!(client.get(&ping(REGISTRY), &forged).await.unwrap().status, 401);

    emulator.advance(Duration::from_secs(11));
    let expired = client.get(&ping(REGISTRY), &bearer).await.unwrap();
    assert_eq!(
        (expired.status.as_u16(), expired.header("x-emulator-reason")),
        (401, "expired")
    );
    client
        .scoped(REGISTRY, user, PULL_APP)
        .await
        .unwrap()
        .token("access_token");
    emulator.advance(Duration::from_secs(20));
    unauthorized(&client.scoped(REGISTRY, user, PULL_APP).await.unwrap(), "expired");
}

#[tokio::test]
async fn an_access_token_as_password_gives_only_what_it_says() {
    let (emulator, client) = start().await;
    let refresh = client.refresh_token(REGISTRY).await;
    let access = client
        .scoped(REGISTRY, (NULL_GUID, &refresh), PULL_APP)
        .await
        .unwrap()
        .token("access_token");
    emulator.advance(Duration::from_mins(10));
    let user = (NULL_GUID, access.as_str());
    let scope = "repository:team/app:pull,push";
    let again = client.scoped(REGISTRY, user, scope).await.unwrap();
    let again = again.token("access_token");
    assert!(pulls_from(&again, "team/app"));
    assert_eq!(claims(&again)["exp"], claims(&access)["exp"]);
    let other = "repository:team/other:pull";
    unauthorized(&client.scoped(REGISTRY, user, other).await.unwrap(), "scope");
}

#[tokio::test]
async fn a_new_host_is_served_immediately_and_an_unknown_one_fails() {
    let (emulator, client) = start().await;
    let url = "https://new.azurecr.io/v2/";
    assert!(client.get(url, "").await.is_err());
    emulator
        .put_registry(Registry::new(TENANT, "NEW.azurecr.io"))
        .unwrap();
    assert_eq!(client.get(url, "").await.unwrap().status, 401);
}

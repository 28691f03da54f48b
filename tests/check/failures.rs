//! Each way in which a check can fail, and one in which it does not.

use std::time::{Duration, Instant};

use pullpass_emulator::{DeniedScope, Failure, Fault, Registry, Secret, Step};
use pullpass_test_support::{Azure, Login, free_port};

use crate::world::{Test, assert_said, check, identity, login, pullpass, pullpass_without_network, run};

/// No registry can have a name that is so long and so odd.
const NOWHERE: &str = "pullpassnosuchregistry0pullpassnosuchregistry0abcd.azurecr.io";
const OTHER: &str = "00000000-0000-4000-8000-00000000000f";

#[test]
fn a_registry_that_is_well_is_checked_down_to_a_manifest() -> Test {
    let login = login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    azure.push_image(&login, "team/app")?;
    assert_said(&azure, "well", &check(&azure, &login, &[])?, 0)?;
    // Without a tag, the first that is listed.
    let output = check(&azure, &login, &["--repository=team/app"])?;
    assert_said(&azure, "well-repository", &output, 0)?;
    let output = check(&azure, &login, &["--repository=team/app:v9"])?;
    assert_said(&azure, "no-tag", &output, 1)?;
    let output = check(&azure, &login, &["--repository=other"])?;
    assert_said(&azure, "no-repository", &output, 1)?;
    // The registry changes its mind between token and manifest.
    for (status, name) in [(401, "manifest-401"), (403, "manifest-403")] {
        azure.clear_failures();
        azure.inject(Failure::new(Step::Manifest, Fault::status(status)));
        let output = check(&azure, &login, &["--repository=team/app:v1"])?;
        assert_said(&azure, name, &output, 1)?;
    }
    Ok(())
}

#[test]
fn a_data_endpoint_that_is_barred_is_named() -> Test {
    let login = login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    azure.push_image(&login, "team/app")?;
    let target = "--repository=team/app:v1";
    azure.inject(Failure::new(Step::Storage, Fault::status(403)));
    let output = check(&azure, &login, &[target])?;
    assert_said(&azure, "data-endpoint-403", &output, 1)?;
    azure.clear_failures();

    let storage = "pullpassemulator.blob.core.windows.net";
    let closed = format!("--resolve={storage}:443:127.0.0.1:{}", free_port()?);
    let others = azure.flags().into_iter().filter(|flag| !flag.contains(storage));
    let identity = identity(&azure, &login, &login.password)?;
    let output = run(pullpass()
        .args([&login.host, target, "--output=json", &closed])
        .args(others)
        .args(identity))?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(report["code"], "DATA_ENDPOINT_ERROR", "{report:#}");
    let cause = report["steps"][7]["cause"].as_str().unwrap_or_default();
    let expected = format!("layers come from {storage}, which can't be reached from here: no TCP connection");
    assert!(cause.starts_with(&expected), "{cause}");
    assert!(
        !report.to_string().contains("sig="),
        "the address is signed: {report:#}"
    );
    assert_eq!(azure.leaked_tokens(), 0);
    Ok(())
}

#[test]
fn a_regional_endpoint_that_is_barred_is_named() -> Test {
    let login = login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    let endpoint = "myregistry.westeurope.geo.azurecr.io";
    let identity = identity(&azure, &login, &login.password)?;
    let others: Vec<_> = azure
        .flags()
        .into_iter()
        .filter(|flag| !flag.contains(endpoint))
        .collect();
    let at = |address: &str, more: &[&str]| -> Result<serde_json::Value, Box<dyn std::error::Error>> {
        let resolve = format!("--resolve={endpoint}:443:{address}");
        let output = run(pullpass()
            .args([
                "MyRegistry.westeurope.geo.azurecr.io:443",
                "--output=json",
                &resolve,
            ])
            .args(&others)
            .args(more)
            .args(&identity))?;
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    let report = at(&azure.addr().to_string(), &[])?;
    assert_eq!(report["steps"][3]["step"], "endpoint", "{report:#}");
    assert_eq!(report["steps"][3]["status"], "ok", "{report:#}");
    let report = at(&format!("127.0.0.1:{}", free_port()?), &[])?;
    assert_eq!(report["code"], "CONNECTIVITY_TCP_ERROR", "{report:#}");
    let cause = report["steps"][3]["cause"].as_str().unwrap_or_default();
    assert!(cause.contains(endpoint), "{cause}");
    // The registry itself is asked all the same.
    assert_eq!(report["steps"][5]["status"], "ok", "{report:#}");
    // Its layers need not come the way that those of the endpoint come.
    azure.push_image(&login, "team/app")?;
    let report = at(&azure.addr().to_string(), &["--repository=team/app:v1"])?;
    let layers = report["steps"][8]["detail"].as_str().unwrap_or_default();
    assert!(
        layers.contains(
            "myregistry.westeurope.data.azurecr.io or a storage account of its region, which was not asked"
        ),
        "{report:#}"
    );
    Ok(())
}

#[test]
fn a_redirect_to_the_registry_is_followed_with_the_token() -> Test {
    let login = login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    azure.push_image(&login, "team/app")?;
    let target = "--repository=team/app:v1";
    for (times, says) in [
        (1, "come from pullpassemulator.blob.core.windows.net"),
        (100, "one redirect to itself after the other"),
    ] {
        azure.clear_failures();
        let location = "?again=1".to_owned();
        azure.inject(Failure::new(Step::Blob, Fault::Redirect { location }).times(times));
        let output = check(&azure, &login, &[target, "--output=json"])?;
        let said = String::from_utf8(output.stdout)?;
        assert!(said.contains(says), "{said}");
    }
    assert_eq!(azure.leaked_tokens(), 0);
    Ok(())
}

#[test]
fn a_blob_of_the_registry_itself_is_told_from_a_refused_one() -> Test {
    let login = login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    azure.push_image(&login, "team/app")?;
    for (status, code) in [(200, 0), (404, 1)] {
        azure.clear_failures();
        azure.inject(Failure::new(Step::Blob, Fault::status(status)));
        let output = check(&azure, &login, &["--repository=team/app:v1", "--output=json"])?;
        let said = String::from_utf8(output.stdout)?;
        assert_eq!(output.status.code(), Some(code), "{status}: {said}");
        assert_eq!(
            said.contains("come from the registry itself"),
            code == 0,
            "{status}: {said}"
        );
    }
    Ok(())
}

#[test]
fn refusals_of_entra_are_told_with_what_to_do() -> Test {
    let login = login();
    let azure = Azure::with(std::slice::from_ref(&login), |config| {
        config.principals[0].secrets.push(Secret {
            value: "old~one".to_owned(),
            expires_at: "2020-01-01T00:00:00Z".parse().ok(),
        });
    })?;
    let as_identity = |login: &Login, password: &str| {
        let identity = identity(&azure, login, password)?;
        run(pullpass().arg(&login.host).args(azure.flags()).args(identity))
    };
    assert_said(&azure, "wrong-secret", &as_identity(&login, "wrong~one")?, 1)?;
    assert_said(&azure, "expired-secret", &as_identity(&login, "old~one")?, 1)?;
    let other_client = Login {
        client: OTHER.to_owned(),
        ..login.clone()
    };
    let output = as_identity(&other_client, &login.password)?;
    assert_said(&azure, "unknown-application", &output, 1)?;
    let other_tenant = Login {
        tenant: OTHER.to_owned(),
        ..login.clone()
    };
    let output = as_identity(&other_tenant, &login.password)?;
    assert_said(&azure, "unknown-tenant", &output, 1)?;
    azure.inject(Failure::new(Step::EntraToken, Fault::throttled(17)));
    assert_said(&azure, "entra-throttled", &check(&azure, &login, &[])?, 1)
}

#[test]
fn refusals_of_the_registry_are_told_with_what_to_do() -> Test {
    let login = login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    let key_is_gone = Fault::Status {
        status: 403,
        retry_after: None,
        body: Some(
            r#"{"errors":[{"code":"DENIED","message":"The customer-managed key can't be accessed."}]}"#
                .to_owned(),
        ),
    };
    let wrong_realm = Fault::WrongRealm {
        host: "evil.example".to_owned(),
    };
    for (name, step, fault) in [
        ("forbidden", Step::Challenge, Fault::status(403)),
        ("no-such-registry", Step::Challenge, Fault::status(404)),
        ("wrong-realm", Step::Challenge, wrong_realm),
        ("no-challenge", Step::Challenge, Fault::Empty),
        ("out-of-order", Step::Challenge, Fault::status(503)),
        ("key-is-gone", Step::Challenge, key_is_gone),
        ("exchange-401", Step::Exchange, Fault::status(401)),
        ("exchange-413", Step::Exchange, Fault::status(413)),
        ("exchange-429", Step::Exchange, Fault::throttled(18)),
        ("exchange-garbage", Step::Exchange, Fault::Garbage),
        ("token-429", Step::Token, Fault::throttled(19)),
    ] {
        azure.clear_failures();
        azure.inject(Failure::new(step, fault));
        let output = check(&azure, &login, &["--repository=app"])?;
        assert_said(&azure, name, &output, 1)?;
    }
    azure.clear_failures();
    azure.revoke(&login.client, &login.host)?;
    // It reads as any other 401 of the exchange.
    let output = check(&azure, &login, &["--repository=app"])?;
    assert_said(&azure, "exchange-401", &output, 1)
}

#[test]
fn a_registry_with_abac_asks_for_another_role() -> Test {
    for (denied, name) in [
        (DeniedScope::Unauthorized, "abac-401"),
        (DeniedScope::Forbidden, "abac-403"),
        (DeniedScope::Omit, "abac-omitted"),
    ] {
        let login = login();
        let azure = Azure::with(std::slice::from_ref(&login), |config| {
            config.registries[0] = Registry {
                denied_scope: denied,
                ..Registry::abac(&login.tenant, &login.host)
            };
        })?;
        let output = check(&azure, &login, &["--repository=team/app"])?;
        assert_said(&azure, name, &output, 1)?;
    }
    Ok(())
}

#[test]
fn a_way_that_is_barred() -> Test {
    let login = login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    let is_ca = |flag: &String| flag.starts_with("--extra-ca");
    let ca = || azure.flags().into_iter().filter(is_ca);
    let output = run(pullpass_without_network()
        .args([NOWHERE, "--anonymous", "--timeout=5"])
        .args(ca()))?;
    assert_said(&azure, "dns", &output, 1)?;

    let closed = format!("--resolve={}:443:127.0.0.1:{}", login.host, free_port()?);
    let output = run(pullpass().args([&login.host, "--anonymous", &closed]).args(ca()))?;
    let text = String::from_utf8(output.stdout.clone())?;
    assert!(text.contains("CONNECTIVITY_TCP_ERROR: TCP and TLS: "), "{text}");
    assert_eq!(output.status.code(), Some(1));

    // As from a Pod with IPv6 addresses alone to a registry with IPv4 addresses.
    let elsewhere = format!("--resolve={}:443:192.0.2.1:443", login.host);
    let output = run(pullpass_without_network()
        .args([&login.host, "--anonymous", &elsewhere])
        .args(ca()))?;
    let text = String::from_utf8(output.stdout.clone())?;
    assert!(
        text.contains("no TCP connection (no route to its addresses)"),
        "{text}"
    );
    assert!(
        text.contains("by a NAT64 with DNS64, or by a proxy (HTTPS_PROXY)"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(1));

    let stranger = Azure::start(std::slice::from_ref(&login))?;
    let output = run(pullpass()
        .args([&login.host, "--anonymous"])
        .args(azure.flags().into_iter().filter(|flag| !is_ca(flag)))
        .args(stranger.flags().into_iter().filter(is_ca)))?;
    assert_said(&azure, "tls", &output, 1)
}

#[test]
fn clocks_that_differ_are_told_of_though_tokens_come() -> Test {
    let login = login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    for (seconds, name) in [(7230, "clock-behind"), (-7230, "clock-ahead")] {
        azure.set_clock_offset(jiff::SignedDuration::from_secs(seconds));
        assert_said(&azure, name, &check(&azure, &login, &[])?, 1)?;
    }
    Ok(())
}

#[test]
fn a_service_that_never_answers_ends_at_the_timeout() -> Test {
    let login = login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    for (name, step) in [
        ("challenge-hangs", Step::Challenge),
        ("entra-hangs", Step::EntraToken),
        ("exchange-hangs", Step::Exchange),
        ("token-hangs", Step::Token),
    ] {
        azure.clear_failures();
        azure.inject(Failure::new(step, Fault::Hang));
        let begun = Instant::now();
        let output = check(&azure, &login, &["--timeout=2", "--repository=app"])?;
        let took = begun.elapsed();
        assert_said(&azure, name, &output, 1)?;
        assert!(
            (Duration::from_secs(2)..Duration::from_mins(1)).contains(&took),
            "{name}: {took:?}"
        );
    }
    Ok(())
}

//! From an attached registry to a pull that works.

use pullpass_test_support::kubelet_tries;
use serde_json::json;

use crate::client::assert_pulls_when_attached;
use crate::world::{Test, pull_secret, shared, text};

#[test]
fn skopeo_pulls_only_with_the_pull_secret() -> Test {
    let world = shared()?;
    let login = world.login()?;
    world.azure.push_image(&login, "app")?;
    world.cluster.apply(&login.secret(&login.password).to_string())?;
    assert_pulls_when_attached(world, &login, &json!({}))?;
    Ok(())
}

#[test]
fn the_status_and_kubectl_get_say_how_it_stands() -> Test {
    let world = shared()?;
    let (login, namespace) = world.attached_to_one("status")?;
    world.wait_for_secret(&namespace, &login)?;
    let object = world.wait_for_served(&login, 1)?;
    assert_eq!(text(&object, "/status/loginServer"), login.host);
    assert_eq!(
        text(&object, "/status/credential/audience"),
        "https://containerregistry.azure.net"
    );
    assert_eq!(
        object.pointer("/status/observedGeneration"),
        object.pointer("/metadata/generation")
    );
    let table = world.cluster.run(&["get", "acr", &login.name])?.stdout;
    let mut lines = table.lines();
    let header: Vec<_> = lines
        .next()
        .unwrap_or_default()
        .split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect();
    assert_eq!(
        header,
        [
            "NAME",
            "LOGIN SERVER",
            "READY",
            "REASON",
            "EXPIRES",
            "NAMESPACES",
            "PULL AUTHORIZED",
            "AGE"
        ]
    );
    let row: Vec<_> = lines.next().unwrap_or_default().split_whitespace().collect();
    let expires = text(&object, "/status/credential/expiresAt");
    assert_eq!(
        row.get(..6),
        Some([&login.name, login.host.as_str(), "True", "Minted", expires, "1"].as_slice())
    );
    Ok(())
}

#[test]
fn a_kubelet_finds_the_credential_for_no_look_alike() -> Test {
    let world = shared()?;
    let login = world.attached(&json!({}))?;
    let namespace = world.namespace_in_need(&login)?;
    let secrets = [world.wait_for_secret(&namespace, &login)?];
    let host = &login.host;
    for image in [
        format!("{host}/app:v1"),
        format!("{host}/team/app@sha256:{}", "0".repeat(64)),
    ] {
        let tried = kubelet_tries(&image, &secrets)?;
        assert!(tried.contains(&pull_secret(&login)), "{image}: {tried:?}");
    }
    for image in [
        format!("{host}.evil.example/app"),
        format!("evil.example/{host}/app"),
        format!("{host}:8443/app"),
        format!("x{host}/app"),
        "azurecr.io/app".to_owned(),
    ] {
        assert_eq!(kubelet_tries(&image, &secrets)?, [""; 0], "{image}");
    }
    Ok(())
}

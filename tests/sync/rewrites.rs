//! An identity's Secret that is written again without another value is no reason to mint, nor to try again.

use pullpass_emulator::{Failure, Fault, Step};
use pullpass_test_support::{Login, wait_for};
use serde_json::json;

use crate::world::{SOON, Test, World, shared, text, wait_for_looks};

/// Writes the Secret with the password again; returns the version of what was written.
fn touch(world: &World, login: &Login, count: usize) -> Result<String, Box<dyn std::error::Error>> {
    let name = login.password_secret();
    let annotation = format!("touched={count}");
    let own = ["--namespace", "pullpass-system", "--overwrite"];
    let arguments = [&["annotate", "secret", &name, &annotation], &own[..]].concat();
    world.cluster.run(&arguments)?;
    let secret = world
        .secret("pullpass-system", &name)?
        .ok_or("the Secret is gone")?;
    Ok(text(&secret, "/metadata/resourceVersion").to_owned())
}

#[test]
fn a_rewritten_secret_mints_nothing_and_writes_no_pull_secret() -> Test {
    let world = shared()?;
    for credential in [json!({}), json!({"kind": "ServicePrincipalPassword"})] {
        let login = world.attached(&json!({"credential": credential}))?;
        let namespace = world.namespace_in_need(&login)?;
        let before = world.wait_for_secret(&namespace, &login)?;
        let calls = || {
            let counts = world.azure.counts();
            (
                counts.calls_at(Step::EntraToken, &login.tenant),
                counts.calls_at(Step::Exchange, &login.host),
            )
        };
        let minted = calls();
        for count in 0..3 {
            let version = touch(world, &login, count)?;
            let what = format!("version {version} of the Secret of {} to be noted", login.name);
            wait_for(&what, SOON, || {
                let credential = world.secret("pullpass-system", &format!("credential-{}", login.name));
                let credential = credential.map_err(|error| error.to_string())?.unwrap_or_default();
                let inputs = text(&credential, "/metadata/annotations/pullpass.dev~1inputs").to_owned();
                if inputs.ends_with(&format!("/{version}")) {
                    Ok(())
                } else {
                    Err(inputs)
                }
            })?;
        }
        wait_for_looks(world)?;
        assert_eq!(calls(), minted);
        assert_eq!(world.wait_for_secret(&namespace, &login)?, before);
        world.wait_for_reason(&login, "Minted")?;
    }
    Ok(())
}

#[test]
fn a_rewritten_secret_does_not_end_the_wait_of_a_failure() -> Test {
    let world = shared()?;
    let login = world.login()?;
    let throttled = Failure::new(Step::EntraToken, Fault::throttled(3600));
    world.azure.inject(throttled.at(&login.tenant).times(1));
    world.attach(&login, &login.password, &json!({}))?;
    world.wait_for_reason(&login, "Throttled")?;
    let calls = || world.azure.counts().calls_at(Step::EntraToken, &login.tenant);
    let tried = calls();
    touch(world, &login, 1)?;
    touch(world, &login, 2)?;
    wait_for_looks(world)?;
    assert_eq!(calls(), tried);
    world.wait_for_reason(&login, "Throttled")?;
    // Another value is tried immediately.
    assert!(world.azure.rotate_secret(&login.client, "rotated")?);
    world.cluster.apply(&login.secret("rotated").to_string())?;
    world.wait_for_reason(&login, "Minted")?;
    Ok(())
}

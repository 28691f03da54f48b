//! Credentials that live for seconds, so that a test sees them refreshed.

use jiff::Timestamp;
use pullpass_emulator::{Failure, Fault, Lifetimes, Step};
use pullpass_test_support::Login;
use serde_json::{Value, json};

use crate::client::pull;
use crate::world::{Test, World, cluster_of_its_own, text};

pub const LIFE: Lifetimes = Lifetimes {
    entra_seconds: 3599,
    // Half of it is more than the least time between two mints.
    refresh_seconds: 70,
    access_seconds: 70,
};

fn refreshed(secret: &Value) -> String {
    text(secret, "/metadata/annotations/pullpass.dev~1refreshed-at").to_owned()
}

fn wait_for_refresh(
    world: &World,
    namespace: &str,
    login: &Login,
    before: &str,
) -> Result<Value, Box<dyn std::error::Error>> {
    world.wait_for_secret_that(namespace, login, "be refreshed", |secret| {
        refreshed(secret).as_str() > before
    })
}

#[test]
fn credentials_are_refreshed_early_and_survive_an_outage() -> Test {
    let cluster = cluster_of_its_own()?;
    let world = World::start(&cluster, 1, |config| config.lifetimes = LIFE)?;
    let login = world.attached(&json!({}))?;
    world.azure.push_image(&login, "app")?;
    let namespace = world.namespace_in_need(&login)?;
    let mut secret = world.wait_for_secret(&namespace, &login)?;
    for _ in 0..2 {
        let begins: Timestamp = refreshed(&secret).parse()?;
        let ends: Timestamp = text(&secret, "/metadata/annotations/pullpass.dev~1expires-at").parse()?;
        secret = wait_for_refresh(&world, &namespace, &login, &refreshed(&secret))?;
        // Half of its life, or up to a tenth of that earlier; and what a slow machine takes.
        let life = ends.duration_since(begins).as_secs_f64();
        let age = refreshed(&secret).parse::<Timestamp>()?.duration_since(begins);
        let age = age.as_secs_f64();
        let (earliest, latest) = (life * 0.45 - 1.0, life * 0.5 + 15.0);
        assert!(age > earliest && age < latest, "{age} of {life} seconds");
        pull(&world, &login, "app", &World::docker_config(&secret)?)?;
    }

    world
        .azure
        .inject(Failure::new(Step::EntraToken, Fault::status(503)).at(&login.tenant));
    world
        .azure
        .inject(Failure::new(Step::Exchange, Fault::status(503)).at(&login.host));
    let object = world.wait_for_reason(&login, "Unreachable")?;
    let message = text(&object, "/status/conditions/0/message");
    assert!(message.contains("the previous credential"), "{message}");
    assert!(
        world
            .secret(&namespace, &format!("pullpass-{}", login.name))?
            .is_some()
    );
    let kept = world.wait_for_secret(&namespace, &login)?;
    // Admission needs nothing of Azure, and a namespace that is new has the previous credential.
    let meanwhile = world.namespace_in_need(&login)?;
    let secret = world.wait_for_secret(&meanwhile, &login)?;
    assert_eq!(secret.get("data"), kept.get("data"));

    world.azure.clear_failures();
    world.wait_for_reason(&login, "Minted")?;
    wait_for_refresh(&world, &namespace, &login, &refreshed(&kept))?;
    Ok(())
}

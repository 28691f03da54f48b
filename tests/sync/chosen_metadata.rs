//! Labels and annotations of one's choice on pull secrets.

use serde_json::{Value, json};

use crate::keys::{every_key, keys, run, wait_for_keys};
use crate::world::{RESYNC, Test, World, cluster_of_its_own, pull_secret, replica_builder, text};

const TEAM: &str = "/metadata/labels/team";
const COST: &str = "/metadata/labels/contoso.com~1cost";
const NOTE: &str = "/metadata/annotations/contoso.com~1note";
const THEIRS: &str = "/metadata/annotations/somebody.test~1key";

fn has(secret: &Value, expected: [(&str, &str); 4]) -> bool {
    expected
        .into_iter()
        .all(|(pointer, value)| text(secret, pointer) == value)
}

/// Also where a pull secret has every key, which two field managers wrote one after the other.
#[test]
fn chosen_metadata_comes_changes_and_goes() -> Test {
    let cluster = cluster_of_its_own()?;
    let world = World::with_pullpass(
        &cluster,
        1,
        |_| {},
        |builder| {
            builder
                .flag(RESYNC)
                .flag("--pull-secret-labels=team=a,contoso.com/cost=42")
                .flag("--pull-secret-annotations=contoso.com/note=a=b, c")
        },
    )?;
    let login = world.attached(&json!({"provision": "Eager"}))?;
    let plain = world.namespace_in_need(&login)?;
    let spelled = world.namespace_in_need(&login)?;
    let chosen = |secret: &Value| {
        has(
            secret,
            [(TEAM, "a"), (COST, "42"), (NOTE, "a=b, c"), (THEIRS, "")],
        )
    };
    for namespace in [&plain, &spelled] {
        let secret = world.wait_for_secret_that(namespace, &login, "have what was chosen", chosen)?;
        assert_eq!(
            text(&secret, "/metadata/labels/app.kubernetes.io~1managed-by"),
            "pullpass"
        );
        assert_eq!(
            text(&secret, "/metadata/labels/pullpass.dev~1registry"),
            login.name
        );
        world.cluster.run(&[
            "annotate",
            "secret",
            &pull_secret(&login),
            "somebody.test/key=theirs",
            "--namespace",
            namespace,
        ])?;
    }
    run(&world, &spelled, &login, &format!("{}:443/app:v1", login.host))?;
    wait_for_keys(&world, &spelled, &login, &every_key(&login, &[]))?;
    world.wait_for_secret_that(&spelled, &login, "keep it with every key", |secret| {
        has(
            secret,
            [(TEAM, "a"), (COST, "42"), (NOTE, "a=b, c"), (THEIRS, "theirs")],
        )
    })?;

    let World { pullpass, azure, .. } = world;
    drop(pullpass);
    let world = World::with_replica(&cluster, azure, |cluster, azure| {
        let builder = replica_builder(cluster, azure).flag(RESYNC);
        Ok(builder.flag("--pull-secret-labels=team=b").start()?)
    })?;
    for namespace in [&plain, &spelled] {
        world.wait_for_secret_that(namespace, &login, "have what is chosen now", |secret| {
            has(secret, [(TEAM, "b"), (COST, ""), (NOTE, ""), (THEIRS, "theirs")])
        })?;
    }
    assert_eq!(keys(&world, &plain, &login)?, [login.host.as_str()]);
    assert_eq!(keys(&world, &spelled, &login)?, every_key(&login, &[]));
    Ok(())
}

//! AcrPullBindings while two replicas run, and another one leads.

use std::error::Error;

use pullpass_emulator::{Config, Step};
use pullpass_test_support::{ControlPlane, InstallationBuilder, Signal, wait_for};
use serde_json::Value;

use crate::bound_team::{PULL_SECRET, Team};
use crate::bound_world::install_bindings;
use crate::leadership::{leads, wait_until_it_leads};
use crate::short_lives::LIFE;
use crate::world::{RESYNC, SOON, Test, World, cluster_of_its_own, replica_builder, text};

/// A world with the component in a cluster of its own, with room for so many registries and an Azure that differs from the usual.
pub fn own_with_bindings<'a>(
    cluster: &'a ControlPlane,
    logins: usize,
    change: impl FnOnce(&mut Config),
) -> Result<World<'a>, Box<dyn Error>> {
    install_bindings(cluster)?;
    let settle = |builder: InstallationBuilder<'a>| builder.flag(RESYNC).flag("--bindings");
    World::with_pullpass(cluster, logins, change, settle)
}

#[test]
fn a_binding_is_minted_once_whichever_replica_leads() -> Test {
    let cluster = cluster_of_its_own()?;
    let mut world = own_with_bindings(&cluster, 2, |_| {})?;
    wait_until_it_leads(&world.pullpass)?;
    let second = replica_builder(&cluster, &world.azure)
        .flag(RESYNC)
        .flag("--bindings")
        .start()?;
    let before = Team::bound(&world)?;
    let (login, namespace) = (before.login.clone(), before.namespace.clone());
    let secret = before.wait_for_secret(true)?;
    assert!(!leads(&second)?, "it runs beside the leader");

    // The pull secret is deleted while the Lease changes hands: the next leader writes it from what is minted already.
    let mut first = std::mem::replace(&mut world.pullpass, second);
    first.process().signal(Signal::Terminate)?;
    wait_until_it_leads(&world.pullpass)?;
    cluster.run(&["delete", "secret", PULL_SECRET, "--namespace", &namespace])?;
    let again = wait_for("the next leader to write the pull secret", SOON, || {
        let found = world.secret(&namespace, PULL_SECRET);
        let found = found.map_err(|error| error.to_string())?;
        found.ok_or_else(|| "it is not there".to_owned())
    })?;
    assert_eq!(again.get("data"), secret.get("data"));

    // Another one, which only the next leader can mint.
    let after = Team::new(&world)?;
    after.do_all()?;
    for login in [&login, &after.login] {
        let counts = world.azure.counts();
        assert_eq!(
            counts.calls_at(Step::EntraToken, &login.tenant),
            1,
            "{}",
            login.host
        );
        assert_eq!(counts.calls_at(Step::Exchange, &login.host), 1);
    }
    Ok(())
}

#[test]
fn a_refresh_of_a_binding_is_one_mint() -> Test {
    let cluster = cluster_of_its_own()?;
    let world = own_with_bindings(&cluster, 1, |config| config.lifetimes = LIFE)?;
    let team = Team::bound(&world)?;
    let refreshed =
        |secret: &Value| text(secret, "/metadata/annotations/pullpass.dev~1refreshed-at").to_owned();
    let first = refreshed(&team.wait_for_secret(true)?);
    wait_for("the refresh", SOON, || {
        let found = world.secret(&team.namespace, PULL_SECRET);
        let found = found.map_err(|error| error.to_string())?.unwrap_or_default();
        let again = refreshed(&found);
        (again > first).then_some(()).ok_or(again)
    })?;
    let counts = world.azure.counts();
    let login = &team.login;
    assert_eq!(counts.calls_at(Step::EntraToken, &login.tenant), 2);
    assert_eq!(counts.calls_at(Step::Exchange, &login.host), 2);
    Ok(())
}

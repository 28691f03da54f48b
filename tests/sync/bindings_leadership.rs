//! AcrPullBindings while two replicas run, and another one leads.

use pullpass_emulator::Step;
use pullpass_test_support::{Signal, wait_for};

use crate::bound_team::{PULL_SECRET, Team};
use crate::bound_world::install_bindings;
use crate::leadership::{leads, wait_until_it_leads};
use crate::world::{RESYNC, SOON, Test, World, cluster_of_its_own, replica_builder};

#[test]
fn a_binding_is_minted_once_whichever_replica_leads() -> Test {
    let cluster = cluster_of_its_own()?;
    install_bindings(&cluster)?;
    let mut world = World::with_pullpass(
        &cluster,
        2,
        |_| {},
        |builder| builder.flag(RESYNC).flag("--bindings"),
    )?;
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

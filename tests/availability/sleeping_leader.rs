//! A leader that sleeps until its Lease has run out, and wakes up.

use pullpass_emulator::{Lifetimes, Step};
use pullpass_test_support::{Signal, wait_for};

use crate::lease::{expect_renewals, lease};
use crate::world::{SOON, Test, World};

/// The refresh is due while the leader sleeps: it wakes up with something to do.
const LIFE: Lifetimes = Lifetimes {
    entra_seconds: 3599,
    refresh_seconds: 24,
    access_seconds: 24,
};

#[test]
fn a_leader_that_slept_through_its_lease_steps_down() -> Test {
    let world = World::start(|config| config.lifetimes = LIFE)?;
    let [first, second] = [world.login(1)?, world.login(2)?];
    let mut sleeper = world.start_replica(&[])?;
    sleeper.wait_until_it_leads()?;
    let other = world.start_replica(&[])?;
    world.attach(first)?;
    world.wait_until_minted(first)?;
    let before = lease(&world.cluster)?.holder;

    sleeper.webhook.process().signal(Signal::Stop)?;
    other.wait_until_it_leads()?;
    let own = format!("credential-{}", first.name);
    wait_for("the other one to refresh", SOON, || {
        world
            .credentials_written_by(&other)
            .is_ok_and(|written| written.contains(&own))
    })?;
    let written_before = world.credentials_written_by(&sleeper)?.len();
    let asked_before = world.azure.counts().calls_at(Step::Exchange, &first.host);
    let refreshed_before = world.credentials_written_by(&other)?.len();
    assert_ne!(lease(&world.cluster)?.holder, before);

    sleeper.webhook.process().signal(Signal::Continue)?;
    sleeper.wait_until_it_does_not_lead()?;
    // Both are there, and a registry that is attached now is minted once.
    world.attach(second)?;
    world.wait_until_minted(second)?;
    expect_renewals(&world.cluster, 2)?;
    assert!(other.leads()?);
    assert!(!sleeper.leads()?);
    // What the sleeper had begun before it knew is at most one more.
    let written = world.credentials_written_by(&sleeper)?.len() - written_before;
    assert!(written <= 1, "{:?}", world.credentials_written_by(&sleeper)?);
    let refreshed = world.credentials_written_by(&other)?.len() - refreshed_before;
    let asked = world.azure.counts().calls_at(Step::Exchange, &first.host)
        + world.azure.counts().calls_at(Step::Exchange, &second.host)
        - asked_before;
    let refreshed = u64::try_from(refreshed)?;
    // One may be under way between the two counts, and one more is the sleeper's.
    assert!(
        asked <= refreshed + 2,
        "{asked} calls for {refreshed} credentials"
    );
    sleeper.webhook.process().check_running()?;
    Ok(())
}

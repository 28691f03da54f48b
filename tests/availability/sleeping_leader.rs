//! A leader that sleeps until its Lease has run out, and wakes up.

use pullpass_emulator::Lifetimes;
use pullpass_test_support::{Signal, wait_for};

use crate::leaders::while_never_two_lead;
use crate::lease::{History, expect_renewals};
use crate::world::{Minting, SOON, Test, World};

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
    let mut history = History::begin(&world.cluster)?;

    sleeper.webhook.process().signal(Signal::Stop)?;
    other.wait_until_it_leads()?;
    let own = format!("credential-{}", first.name);
    wait_for("the other one to refresh", SOON, || {
        world
            .credentials_written_by(&other)
            .is_ok_and(|written| written.contains(&own))
    })?;
    let written_before = world.credentials_written_by(&sleeper)?;

    sleeper.webhook.process().signal(Signal::Continue)?;
    sleeper.wait_until_it_does_not_lead()?;
    while_never_two_lead(&other, &sleeper, || {
        // Both are there, and a registry that is attached now is minted once.
        world.attach(second)?;
        world.wait_until_minted(second)?;
        expect_renewals(&world.cluster, 2)?;
        assert!(other.leads()?);
        assert!(!sleeper.leads()?);
        // It did nothing of what it had to do when it woke up, before it knew or after: it neither asked nor wrote.
        world.wait_until_all_is_written(&Minting::default(), [first, second], [&sleeper, &other])?;
        assert_eq!(world.credentials_written_by(&sleeper)?, written_before);
        Ok(())
    })?;
    history.expect_one_handover()?;
    sleeper.webhook.process().check_running()?;
    Ok(())
}

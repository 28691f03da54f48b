//! A replica, the leader, that loses its way to the API server, and nothing else.

use pullpass_emulator::Lifetimes;
use pullpass_test_support::wait_for;
use serde_json::json;

use crate::ask::injects;
use crate::leaders::while_never_two_lead;
use crate::lease::{History, expect_renewals, expect_taken_soon_after, lease};
use crate::world::{Minting, NAMESPACE, SOON, Test, World};

/// Azure is still in reach: a replica that took itself for the leader would keep minting.
const LIFE: Lifetimes = Lifetimes {
    entra_seconds: 3599,
    refresh_seconds: 24,
    access_seconds: 24,
};

#[test]
fn a_leader_that_is_cut_off_answers_and_steps_down() -> Test {
    let world = World::start(|config| config.lifetimes = LIFE)?;
    let [first, second] = [world.login(1)?, world.login(2)?];
    let mut cut_off = world.start_replica(&[])?;
    cut_off.wait_until_it_leads()?;
    let other = world.start_replica(&[])?;
    world.publish(&[&cut_off, &other])?;
    world.attach(first)?;
    world.wait_until_minted(first)?;
    world.wait_until_injected(first)?;
    let bundle = world.bundle()?;
    assert!(injects(&cut_off, &bundle, NAMESPACE, first)?);

    let (logins, replicas) = ([first, second], [&cut_off, &other]);
    let mut history = History::begin(&world.cluster)?;
    while_never_two_lead(&cut_off, &other, || {
        cut_off.network.cut()?;
        let ends = lease(&world.cluster)?.ends;
        world.publish(&[&other])?;
        cut_off.webhook.readyz()?;
        assert!(injects(&cut_off, &bundle, NAMESPACE, first)?);
        // Nothing that it writes from now on arrives. To count that takes too long for the seconds in which nobody leads.
        let written = world.minting(logins, replicas)?.written;
        // The Lease runs out, which the first knows by its own clock, and seconds later the other one takes it.
        cut_off.wait_until_it_does_not_lead()?;
        let before = Minting {
            written,
            ..world.calls(logins)
        };
        assert!(!other.leads()?, "there was no time to look while nobody led");
        other.wait_until_it_leads()?;
        expect_taken_soon_after(&world.cluster, ends)?;
        world.add_namespace("meanwhile", &json!({"pullpass.dev/inject": "disabled"}))?;
        world.attach(second)?;
        world.wait_until_minted(second)?;
        world.wait_until_injected(second)?;
        // It knows nothing of either, and still answers.
        cut_off.webhook.readyz()?;
        assert!(injects(&cut_off, &bundle, NAMESPACE, first)?);
        assert!(injects(&cut_off, &bundle, "meanwhile", first)?);
        assert!(!injects(&cut_off, &bundle, NAMESPACE, second)?);

        cut_off.network.reconnect()?;
        wait_for("it to catch up", SOON, || {
            // That a namespace opted out is not seen by asking: who asks says that a selector picked it.
            match injects(&cut_off, &bundle, NAMESPACE, second) {
                Ok(true) => Ok(()),
                Ok(false) => Err("it knows no more than before".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })?;
        expect_renewals(&world.cluster, 2)?;
        assert!(other.leads()?);
        assert!(!cut_off.leads()?);
        // Nobody else has minted since.
        world.wait_until_all_is_written(&before, logins, replicas)
    })?;
    history.expect_one_handover()?;
    world.publish(&[&cut_off])?;
    world.wait_until_injected(second)?;
    cut_off.webhook.process().check_running()?;
    Ok(())
}

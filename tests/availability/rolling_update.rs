//! A rolling update of two replicas under load.

use pullpass_test_support::{Signal, wait_for};

use crate::ask::Connection;
use crate::load::Load;
use crate::world::{NAMESPACE, Replica, SOON, Test, World};

/// Between any two steps.
const ADMISSIONS: usize = 60;
/// As shipped: others have to hear of a Pod's end within it, also on a busy machine.
const FLAGS: [&str; 1] = ["--shutdown-delay=10"];

#[test]
fn a_rolling_update_loses_no_admission() -> Test {
    let world = World::start(|_| {})?;
    let login = world.login(1)?;
    let a = world.start_replica(&FLAGS)?;
    let b = world.start_replica(&FLAGS)?;
    world.publish(&[&a, &b])?;
    world.attach(login)?;
    world.wait_until_minted(login)?;
    world.wait_until_injected(login)?;
    let load = Load::start(world.cluster.kubeconfig(), login)?;
    load.wait_for_more(ADMISSIONS)?;

    // maxSurge: 1 and maxUnavailable: 0, as shipped.
    let next_a = world.start_replica(&FLAGS)?;
    world.publish(&[&a, &b, &next_a])?;
    load.wait_for_more(ADMISSIONS)?;
    retire(&world, &load, a, &[&b, &next_a])?;
    let next_b = world.start_replica(&FLAGS)?;
    world.publish(&[&b, &next_a, &next_b])?;
    load.wait_for_more(ADMISSIONS)?;
    retire(&world, &load, b, &[&next_a, &next_b])?;
    load.wait_for_more(ADMISSIONS)?;

    let outcome = load.end()?;
    assert_eq!(outcome.failures, [""; 0], "of {}", outcome.admitted);
    assert_eq!(outcome.bare, 0, "of {}", outcome.admitted);
    Ok(())
}

/// What happens to a Pod that is deleted: it is told to shut down, and only then do others hear of it.
fn retire(world: &World, load: &Load, mut replica: Replica, left: &[&Replica]) -> Test {
    let bundle = world.bundle()?;
    let login = world.login(1)?;
    let mut kept = Connection::open(&replica, &bundle)?;
    let before = kept.ask(NAMESPACE, login)?;
    assert!(
        !before.head.to_ascii_lowercase().contains("connection: close"),
        "{}",
        before.head
    );

    replica.webhook.process().signal(Signal::Terminate)?;
    wait_for("it to be unready", SOON, || replica.webhook.readyz().is_err())?;
    let asked = replica.webhook.records_in(NAMESPACE)?.len();
    // Nobody knows yet: it is asked on, and answers.
    load.burst_until("it to be asked though it ends", || {
        Ok(replica.webhook.records_in(NAMESPACE)?.len() > asked)
    })?;
    // A client that keeps a connection to it is told to take another one next time.
    let after = kept.ask(NAMESPACE, login)?;
    assert!(after.head.starts_with("HTTP/1.1 200 "), "{}", after.head);
    assert!(
        after.head.to_ascii_lowercase().contains("connection: close"),
        "{}",
        after.head
    );
    assert_eq!(after.body, before.body);
    world.publish(left)?;
    load.wait_for_more(ADMISSIONS)?;
    let status = replica.webhook.process().wait(SOON)?;
    assert_eq!(status.code(), Some(0), "{}", replica.webhook.process().log_tail());
    Ok(())
}

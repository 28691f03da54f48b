//! Who leads, and how another replica takes over.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use pullpass_emulator::Step;
use pullpass_test_support::{ControlPlane, Installation, Signal, wait_for};
use serde_json::json;

use crate::slow_watch::SlowWatch;
use crate::world::{
    SOON, Test, World, cluster_of_its_own, eager_for, make_namespaces, replica, replica_by_way, text,
};

pub fn leads(replica: &Installation<'_>) -> Result<bool, Box<dyn Error>> {
    Ok(replica.metrics()?.lines().any(|line| line == "pullpass_leader 1"))
}

pub fn wait_until_it_leads(replica: &Installation<'_>) -> Test {
    wait_for("a replica to lead", SOON, || match leads(replica) {
        Ok(true) => Ok(()),
        Ok(false) => Err("another one leads".to_owned()),
        Err(error) => Err(error.to_string()),
    })?;
    Ok(())
}

/// The Lease as it is now.
struct Lease {
    uid: String,
    holder: String,
    /// Its holder has led for long enough to renew it.
    is_renewed: bool,
    /// When its holder took it.
    acquired: Option<Timestamp>,
    /// When it ends if nobody renews it.
    ends: Option<Timestamp>,
}

fn lease(cluster: &ControlPlane) -> Result<Lease, Box<dyn Error>> {
    let lease = cluster.get_json(&["lease", "pullpass", "--namespace", "pullpass-system"])?;
    let duration = lease
        .pointer("/spec/leaseDurationSeconds")
        .and_then(serde_json::Value::as_i64);
    let renew_time = text(&lease, "/spec/renewTime");
    let acquire_time = text(&lease, "/spec/acquireTime");
    let renewed = renew_time.parse::<Timestamp>().ok();
    Ok(Lease {
        uid: text(&lease, "/metadata/uid").to_owned(),
        holder: text(&lease, "/spec/holderIdentity").to_owned(),
        is_renewed: renew_time != acquire_time,
        acquired: acquire_time.parse().ok(),
        ends: renewed
            .zip(duration)
            .map(|(renewed, duration)| renewed + SignedDuration::from_secs(duration)),
    })
}

/// Waits until the Lease has so long to go that waiting for its expiry takes long; says when it expires.
fn wait_for_a_fresh_lease(cluster: &ControlPlane) -> Result<Timestamp, Box<dyn Error>> {
    let ends = wait_for(
        "the Lease to be renewed",
        SOON,
        || -> Result<Timestamp, String> {
            let lease = lease(cluster).map_err(|error| error.to_string())?;
            let ends = lease.ends.ok_or("it is not held")?;
            let left = ends.duration_since(Timestamp::now());
            (left > SignedDuration::from_secs(12))
                .then_some(ends)
                .ok_or_else(|| format!("{left:?} are left"))
        },
    )?;
    Ok(ends)
}

#[test]
fn another_leader_continues_after_the_leader_is_killed() -> Test {
    const COUNT: usize = 100;
    let cluster = cluster_of_its_own()?;
    let mut world = World::start(&cluster, 2, |_| {})?;
    wait_until_it_leads(&world.pullpass)?;
    let second = replica(&cluster, &world.azure)?;
    let login = world.attached(&json!({}))?;
    // Each is asked about a namespace, and each writes on demand; one of them leads.
    let by_the_first = world.namespace_in_need(&login)?;
    let by_the_second = second.new_namespace(&[])?;
    world.run_pod(&by_the_second, &login)?;
    let mut before = Vec::new();
    for namespace in [&by_the_first, &by_the_second] {
        before.push(world.wait_for_secret(namespace, &login)?);
    }
    assert!(!leads(&second)?);

    make_namespaces(&cluster, "many", COUNT)?;
    let fanned_out = world.login()?;
    world.attach(&fanned_out, &fanned_out.password, &eager_for("many"))?;
    // In the midst of it.
    wait_for("the first secret", SOON, || {
        world
            .namespaces_with_secrets(&fanned_out)
            .is_ok_and(|there| there.len() > 1)
    })?;
    world.pullpass.process().kill()?;
    let meanwhile = second.new_namespace(&[])?;
    world.run_pod(&meanwhile, &login)?;
    world.wait_for_secret(&meanwhile, &login)?;
    wait_until_it_leads(&second)?;
    world.wait_for_secrets(&fanned_out, COUNT)?;
    world.wait_for_served(&login, 3)?;
    let mut after = Vec::new();
    for namespace in [&by_the_first, &by_the_second] {
        after.push(world.wait_for_secret(namespace, &login)?);
    }
    assert_eq!(after, before, "they were written twice");
    assert_eq!(world.azure.counts().calls_at(Step::Exchange, &login.host), 1);
    assert_eq!(world.azure.counts().calls_at(Step::Exchange, &fanned_out.host), 1);
    Ok(())
}

#[test]
fn an_abandoned_lease_of_a_fast_clock_is_taken() -> Test {
    let cluster = cluster_of_its_own()?;
    let mut world = World::start(&cluster, 1, |_| {})?;
    wait_until_it_leads(&world.pullpass)?;
    world.pullpass.process().kill()?;
    let renewed = Timestamp::now() + SignedDuration::from_hours(1);
    let patch = json!({"spec": {"holderIdentity": "gone", "renewTime": format!("{renewed:.6}")}});
    let patch = patch.to_string();
    cluster.run(&[
        "patch",
        "lease",
        "pullpass",
        "--namespace",
        "pullpass-system",
        "--type=merge",
        "--patch",
        &patch,
    ])?;
    let next = replica(&cluster, &world.azure)?;
    wait_until_it_leads(&next)?;
    assert_ne!(lease(&cluster)?.holder, "gone");
    Ok(())
}

#[test]
fn a_registry_detached_while_nobody_ran_leaves_no_secret() -> Test {
    let cluster = cluster_of_its_own()?;
    let mut world = World::start(&cluster, 1, |_| {})?;
    let login = world.attached(&json!({}))?;
    let namespace = world.namespace_in_need(&login)?;
    world.wait_for_secret(&namespace, &login)?;
    world.pullpass.process().kill()?;
    world.detach(&login)?;
    assert_eq!(world.namespaces_with_secrets(&login)?.len(), 2);
    let _next = replica(&cluster, &world.azure)?;
    world.wait_until_nothing_is_left(&login)
}

#[test]
fn a_registry_detached_without_a_leader_leaves_no_secret() -> Test {
    let cluster = cluster_of_its_own()?;
    let mut world = World::start(&cluster, 2, |_| {})?;
    wait_until_it_leads(&world.pullpass)?;
    let second = replica(&cluster, &world.azure)?;
    let login = world.attached(&json!({}))?;
    let kept = world.attached(&json!({}))?;
    // One that the second replica knows of from an admission, and one that it does not.
    let namespaces = [world.pullpass.new_namespace(&[])?, second.new_namespace(&[])?];
    for namespace in &namespaces {
        for login in [&login, &kept] {
            world.run_pod(namespace, login)?;
            world.wait_for_secret(namespace, login)?;
        }
    }
    wait_for_a_fresh_lease(&cluster)?;
    world.pullpass.process().kill()?;
    world.detach(&login)?;
    assert!(
        !leads(&second)?,
        "the Lease of the one that was killed has not ended yet"
    );
    world.wait_until_nothing_is_left(&login)?;
    assert!(leads(&second)?);
    world.wait_for_secrets(&kept, 2)?;
    Ok(())
}

#[test]
fn a_leader_that_shuts_down_releases_the_lease() -> Test {
    let cluster = cluster_of_its_own()?;
    let mut world = World::start(&cluster, 2, |_| {})?;
    wait_until_it_leads(&world.pullpass)?;
    let mut second = replica(&cluster, &world.azure)?;
    let before = world.attached(&json!({}))?;
    assert!(!leads(&second)?);
    let first = lease(&cluster)?.holder;
    let ends = wait_for_a_fresh_lease(&cluster)?;

    world.pullpass.process().signal(Signal::Terminate)?;
    let status = world.pullpass.process().wait(SOON)?;
    assert_eq!(status.code(), Some(0), "{}", world.pullpass.process().log_tail());
    assert_ne!(lease(&cluster)?.holder, first);
    wait_until_it_leads(&second)?;
    // The Lease says when it was taken, however long this test took to look.
    let acquired = lease(&cluster)?.acquired.ok_or("nobody took the Lease")?;
    assert!(
        acquired < ends,
        "it waited for the end of the Lease: {acquired}, {ends}"
    );

    // It does what a leader does.
    let after = world.attached(&json!({}))?;
    assert_eq!(world.azure.counts().calls_at(Step::Exchange, &after.host), 1);
    assert_eq!(world.azure.counts().calls_at(Step::Exchange, &before.host), 1);

    // Nobody is left to take it.
    second.process().signal(Signal::Terminate)?;
    assert_eq!(second.process().wait(SOON)?.code(), Some(0));
    let left = lease(&cluster)?;
    assert_eq!((left.holder.as_str(), left.ends), ("", None));
    Ok(())
}

#[test]
fn a_deleted_lease_is_created_again_and_nothing_is_minted() -> Test {
    let cluster = cluster_of_its_own()?;
    let world = World::start(&cluster, 2, |_| {})?;
    wait_until_it_leads(&world.pullpass)?;
    let second = replica(&cluster, &world.azure)?;
    let before = world.attached(&json!({}))?;
    let namespace = world.namespace_in_need(&before)?;
    let secret = world.wait_for_secret(&namespace, &before)?;
    let uid = lease(&cluster)?.uid;
    cluster.run(&["delete", "lease", "pullpass", "--namespace", "pullpass-system"])?;
    wait_for("another Lease, and one leader", SOON, || {
        let now = lease(&cluster).map_err(|error| error.to_string())?;
        if now.uid == uid || now.holder.is_empty() || !now.is_renewed {
            return Err(format!("{} has the Lease {}", now.holder, now.uid));
        }
        let leading = [&world.pullpass, &second].map(|replica| leads(replica).unwrap_or_default());
        match leading {
            [true, false] | [false, true] => Ok(()),
            [first, second] => Err(format!("the first leads: {first}; the second: {second}")),
        }
    })?;
    // Each replica that leads does what a leader does, and no more than was left to do.
    let after = world.attached(&json!({}))?;
    let other = world.namespace_in_need(&after)?;
    world.wait_for_secret(&other, &after)?;
    world.wait_for_served(&after, 1)?;
    for login in [&before, &after] {
        assert_eq!(world.azure.counts().calls_at(Step::Exchange, &login.host), 1);
    }
    assert_eq!(world.wait_for_secret(&namespace, &before)?, secret);
    world.detach(&before)?;
    world.wait_until_nothing_is_left(&before)
}

/// How long a replica is watched that must not lead: far longer than it takes to take a Lease that is free.
const IDLE: Duration = Duration::from_secs(5);

#[test]
fn nothing_is_minted_before_the_credentials_are_read() -> Test {
    let cluster = cluster_of_its_own()?;
    let mut world = World::start(&cluster, 1, |_| {})?;
    let login = world.attached(&json!({}))?;
    world.pullpass.process().signal(Signal::Terminate)?;
    assert_eq!(world.pullpass.process().wait(SOON)?.code(), Some(0));

    let way = SlowWatch::start(&cluster)?;
    way.hold_lists("secrets");
    let next = thread::scope(|scope| -> Result<_, Box<dyn Error>> {
        let starting = scope.spawn(|| {
            let replica = replica_by_way(&cluster, &world.azure, way.kubeconfig());
            replica.map_err(|error| error.to_string())
        });
        let held = (|| -> Test {
            way.wait_until_listed(&["acrregistries", "namespaces"])?;
            let begun = Instant::now();
            while begun.elapsed() < IDLE {
                let holder = lease(&cluster)?.holder;
                if !holder.is_empty() {
                    return Err(format!("{holder} leads").into());
                }
            }
            Ok(())
        })();
        way.release();
        held?;
        let started = starting.join().map_err(|_| "the start of a replica panicked")?;
        Ok(started?)
    })?;
    wait_until_it_leads(&next)?;
    let namespace = next.new_namespace(&[])?;
    world.run_pod(&namespace, &login)?;
    world.wait_for_secret(&namespace, &login)?;
    world.wait_for_served(&login, 1)?;
    assert_eq!(world.azure.counts().calls_at(Step::Exchange, &login.host), 1);
    Ok(())
}

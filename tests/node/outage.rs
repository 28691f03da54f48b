//! No replica for a while, where the API server's own policy adds pull secrets.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use pullpass_emulator::Lifetimes;
use pullpass_test_support::{ControlPlane, node_wanted, wait_for};
use serde_json::{Value, json};

use crate::pods::pod_with;
use crate::world::{Registry, SOON, Test, World, apply_component, text};

/// More than a kubelet waits between two pulls that fail: 5 minutes.
const BACKOFF: Duration = Duration::from_mins(8);

/// The refresh falls due in the outage, and the credential does not expire.
const LIFE: Lifetimes = Lifetimes {
    entra_seconds: 3599,
    refresh_seconds: 300,
    access_seconds: 300,
};
const FRACTION: f64 = 0.1;

#[test]
fn pods_start_without_a_replica_past_the_refresh() -> Test {
    node_wanted()?;
    let cluster = ControlPlane::start()?;
    let world = World::start(&cluster, |config| config.lifetimes = LIFE)?;
    outage(world, Some(FRACTION), |world, registry, served| {
        let due = next_refresh(world, registry)?;
        wait_for("the refresh to be due", SOON, || Timestamp::now() > due)?;
        start(world, served, "past", registry)
    })
}

/// With tokens of 3 hours, as ACR gives them, and a Pod a minute.
#[test]
#[ignore = "it takes half an hour: make outage"]
fn pods_start_in_an_outage_of_thirty_minutes() -> Test {
    const OUTAGE: Duration = Duration::from_mins(30);
    const INTERVAL: Duration = Duration::from_mins(1);
    node_wanted()?;
    let cluster = ControlPlane::start()?;
    let world = World::start(&cluster, |_| {})?;
    outage(world, None, |world, registry, served| {
        let begun = Instant::now();
        let mut started = 0;
        while begun.elapsed() < OUTAGE {
            let name = format!("web-{started}");
            start(world, served, &name, registry)?;
            world
                .cluster
                .run(&["delete", "pod", &name, "--namespace", served, "--wait=false"])?;
            started += 1;
            println!(
                "{started} Pods have started, {} s into the outage",
                begun.elapsed().as_secs()
            );
            thread::sleep(INTERVAL);
        }
        Ok(())
    })
}

/// A namespace that has its pull secret, and an outage in which something is done in it. A Pod of another namespace waits,
/// and runs when a replica is back.
fn outage(
    mut world: World<'_>,
    fraction: Option<f64>,
    meanwhile: impl FnOnce(&World<'_>, &Registry, &str) -> Test,
) -> Test {
    let registry = world.attached()?;
    if let Some(fraction) = fraction {
        let patch = json!({"spec": {"credential": {"refreshFraction": fraction}}}).to_string();
        let name = &registry.login.name;
        world
            .cluster
            .run(&["patch", "acrregistry", name, "--type=merge", "--patch", &patch])?;
        wait_for("the refresh to be soon", SOON, || {
            let due = next_refresh(&world, &registry).map_err(|error| error.to_string())?;
            if due < Timestamp::now() + SignedDuration::from_secs(60) {
                Ok(())
            } else {
                Err(due.to_string())
            }
        })?;
    }
    apply_component(world.cluster, "admission-policy/policy")?;
    let served = world.namespace()?;
    start(&world, &served, "before", &registry)?;
    wait_until_the_policy_injects(&world, &served, &registry)?;

    world.pullpass.stop()?;
    start(&world, &served, "after", &registry)?;
    let new = world.namespace()?;
    world.create(&always_pulls(&new, "web", &registry))?;
    world.wait_until_refused(&new, "web")?;
    let waiting = world.pod(&new, "web")?;
    assert_eq!(
        text(&waiting, "/spec/imagePullSecrets/0/name"),
        registry.pull_secret()
    );
    meanwhile(&world, &registry, &served)?;

    let _back = world.install_again()?;
    let begun = Instant::now();
    world.wait_for_secret(&new, &registry, "be there", |_| true)?;
    let written = begun.elapsed();
    // The kubelet does not learn of it before it tries again.
    let running = wait_for("the Pod of the new namespace to run", BACKOFF, || {
        let pod = world.pod(&new, "web").map_err(|error| error.to_string())?;
        let status = text(&pod, "/status/phase");
        if status == "Running" {
            Ok(pod)
        } else {
            Err(status.to_owned())
        }
    })?;
    assert_eq!(text(&running, "/metadata/uid"), text(&waiting, "/metadata/uid"));
    println!(
        "with a replica back, the Secret of the new namespace is there after {:.1} s, and its Pod runs after {:.1} s",
        written.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn next_refresh(world: &World<'_>, registry: &Registry) -> Result<Timestamp, Box<dyn Error>> {
    let object = world.cluster.get_json(&["acrregistry", &registry.login.name])?;
    Ok(text(&object, "/status/credential/nextRefresh").parse()?)
}

/// A Pod whose node asks the registry, whatever it has.
fn always_pulls(namespace: &str, name: &str, registry: &Registry) -> Value {
    let container = json!({"name": "main", "image": registry.image(), "imagePullPolicy": "Always"});
    pod_with(namespace, name, json!({"containers": [container]}))
}

fn start(world: &World<'_>, namespace: &str, name: &str, registry: &Registry) -> Test {
    world.create(&always_pulls(namespace, name, registry))?;
    world.wait_until_running(namespace, name).map(drop)
}

/// The API server acts on a policy, and on the index, a moment after they are there.
fn wait_until_the_policy_injects(world: &World<'_>, namespace: &str, registry: &Registry) -> Test {
    let dry_run = ["create", "--dry-run=server", "--output=json", "--filename", "-"];
    let pod = always_pulls(namespace, "probe", registry).to_string();
    wait_for("the policy to inject", SOON, || {
        let created = probe(world, &dry_run, &pod).map_err(|error| error.to_string())?;
        let by = text(&created, "/metadata/annotations/pullpass.dev~1injected-by");
        if by == "admission-policy" {
            Ok(())
        } else {
            Err(created.to_string())
        }
    })?;
    Ok(())
}

fn probe(world: &World<'_>, arguments: &[&str], pod: &str) -> Result<Value, Box<dyn Error>> {
    let created = world.cluster.run_with_input(arguments, pod)?;
    Ok(serde_json::from_str(&created.stdout)?)
}

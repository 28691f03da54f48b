//! Many Pods, while replicas come and go, the certificate and registries change, and the API server restarts: how many are
//! admitted without their pull secret, how many are refused, and how many of a stranger's registry are admitted, by
//! `failurePolicy` and with or without the components `admission-policy` and `enforce`.
//!
//! Events begin when so many Pods are created, and not at a time. Each of the rows has replicas of its own, and both rules
//! say `deny`: a Pod that a replica or `enforce` judged has its pull secret, or is refused.

pub mod events;
mod fleet;
mod pods;
mod race;
pub mod report;
mod strangers;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use pullpass_test_support::wait_for;
use serde_json::{Value, json};

use self::events::{Conductor, Event};
use self::fleet::Fleet;
use self::pods::{Leftovers, Pods, lock};
use self::report::{Progress, Row};
use crate::world::{NAMESPACE, SOON, Test, World, is_injected};

const ADMISSION_POLICY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/manifests/components/admission-policy/policy.yaml"
);
const ENFORCE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/manifests/components/enforce/policy.yaml"
);
/// What the policies write on a Pod.
const BY_POLICY: &str = "/metadata/annotations/pullpass.dev~1injected-by";

/// Who adds pull secrets and judges images in a row, and what happens when no replica answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    pub failure_policy: &'static str,
    /// With `admission-policy`.
    pub with_policy: bool,
    pub with_enforce: bool,
}

/// What is done in a row.
pub struct Plan {
    pub setting: Setting,
    /// How many Pods are created before the last event, which is the end of it.
    pub pods: usize,
    pub replicas: usize,
    pub events: Vec<Event>,
}

/// How a soak is done, whatever its rows.
#[derive(Clone, Copy)]
pub struct Pace {
    /// How many Pods are created concurrently.
    pub streams: usize,
    /// For how many answers the Service has the endpoint of a replica that is gone, and so on: the delay of a cluster.
    pub lag: usize,
    /// Of a replica.
    pub shutdown_delay: usize,
}

impl Setting {
    pub const ALL: [Self; 6] = [
        Self::new("Ignore", false, false),
        Self::new("Ignore", true, false),
        Self::new("Fail", false, false),
        Self::new("Fail", true, false),
        Self::new("Ignore", false, true),
        Self::new("Ignore", true, true),
    ];

    const fn new(failure_policy: &'static str, with_policy: bool, with_enforce: bool) -> Self {
        Self {
            failure_policy,
            with_policy,
            with_enforce,
        }
    }

    /// The components that the row has.
    pub fn components(self) -> &'static str {
        match (self.with_policy, self.with_enforce) {
            (false, false) => "none",
            (true, false) => "admission-policy",
            (false, true) => "enforce",
            (true, true) => "both",
        }
    }

    /// The row's name.
    pub fn name(self) -> String {
        format!("{}, components: {}", self.failure_policy, self.components())
    }
}

/// Does this, for so long at most. What is not done then ends with this process, as every process does that it started.
pub fn within(
    limit: Duration,
    work: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    let (done, end) = channel();
    thread::spawn(move || done.send(work()));
    match end.recv_timeout(limit) {
        Ok(done) => done,
        Err(RecvTimeoutError::Timeout) => Err(format!("ended after {limit:?}")),
        Err(RecvTimeoutError::Disconnected) => Err("it panicked".to_owned()),
    }
}

/// Runs one row after the other in one cluster. Where the machine is too slow for a limit, events begin earlier, with fewer
/// Pods, and in the end are left out, all but the last of a row. Rows that came to their end are there after an error, too, and
/// while others run. Nobody needs the cluster after the last one, whose Pods stay.
pub fn run(plans: Vec<Plan>, pace: Pace, limit: Option<Duration>, progress: &Mutex<Progress>) -> Test {
    let begun = Instant::now();
    let mut events_left: usize = plans.iter().map(|plan| plan.events.len()).sum();
    let world = World::start(|_| {})?;
    world.attach(world.login(1)?)?;
    let mut leftovers: Option<Leftovers> = None;
    for plan in plans {
        if let Some(leftovers) = leftovers.take() {
            leftovers.delete()?;
        }
        let setting = plan.setting;
        let say = |what: &str| eprintln!("[{:>4} s] {}: {what}", begun.elapsed().as_secs(), setting.name());
        let now = Instant::now();
        // Of the time that is left, as much as the row has of the events.
        let (events, all) = (u32::try_from(plan.events.len())?, u32::try_from(events_left)?);
        let time = limit.map(|limit| now..now + limit.saturating_sub(begun.elapsed()) * events / all);
        events_left -= plan.events.len();
        lock(progress).begin(setting);
        let end = |row: Row| {
            say(&format!(
                "ends with {} Pods: lost {}, refused {}",
                row.counts.admitted, row.counts.lost, row.counts.refused
            ));
            lock(progress).end(row);
        };
        leftovers = Some(row(&world, plan, pace, time.as_ref(), &say, end)?);
    }
    Ok(())
}

fn row(
    world: &World,
    plan: Plan,
    pace: Pace,
    time: Option<&Range<Instant>>,
    say: &dyn Fn(&str),
    end: impl FnOnce(Row),
) -> Result<Leftovers, Box<dyn Error>> {
    let Plan {
        setting,
        pods: planned,
        replicas,
        events,
    } = plan;
    say("begins");
    set(world, setting)?;
    let mut fleet = Fleet::start(world, replicas, pace.shutdown_delay)?;
    let login = world.login(1)?;
    world.wait_until_minted(login)?;
    if setting.with_enforce {
        wait_until_enforced(world)?;
    }
    fleet.publish()?;
    wait_until_all_know(world, setting)?;
    let pods = Pods::begin(world.cluster.kubeconfig(), login, pace.streams)?;
    let mut conductor = Conductor {
        world,
        fleet: &mut fleet,
        pods: &pods,
        pace,
        setting,
    };
    let mut seen = Vec::new();
    let count = events.len();
    for (number, event) in events.into_iter().enumerate() {
        let part = number + 1;
        if let Some(time) = time {
            let late = (time.end - time.start) * u32::try_from(part)? / u32::try_from(count)?;
            pods.wait_until(planned * part / count, Some(time.start + late))?;
            if Instant::now() > time.end && part < count {
                say(&format!("{} is left out: there is no time for it", event.name()));
                continue;
            }
        } else {
            pods.wait_until(planned * part / count, None)?;
        }
        let before = pods.counts();
        say(&format!("after {} Pods: {}", before.admitted, event.name()));
        conductor.perform(event)?;
        let after = pods.counts();
        let of_event = after.since(&before);
        say(&format!(
            "  lost {}, refused {}, strangers admitted {}",
            of_event.lost, of_event.refused, of_event.strangers.admitted
        ));
        seen.push((event, of_event));
    }
    let (counts, texts, leftovers) = pods.stop()?;
    end(Row {
        setting,
        planned,
        left_out: count - seen.len(),
        counts,
        seen,
        texts,
    });
    fleet.end()?;
    Ok(leftovers)
}

/// Sets the failure policy and the components, and waits until the API server acts on both: nobody answers it yet.
fn set(world: &World, setting: Setting) -> Test {
    world.publish(&[])?;
    world.set_failure_policy(setting.failure_policy)?;
    for (component, wanted) in [
        (ADMISSION_POLICY, setting.with_policy),
        (ENFORCE, setting.with_enforce),
    ] {
        if wanted {
            world.cluster.run(&["apply", "--filename", component])?;
        } else {
            let delete = ["delete", "--ignore-not-found", "--filename", component];
            world.cluster.run(&delete)?;
        }
    }
    let login = world.login(1)?;
    wait_for("the failure policy to be acted on", SOON, || {
        let created = world.create_pod(NAMESPACE, login);
        match (created, setting.failure_policy) {
            (Err(error), "Fail") if pods::is_of_the_webhook(&error.to_string()) => Ok(()),
            (Ok(pod), "Ignore") if !setting.with_policy && !is_injected(&pod, login) => Ok(()),
            // That the policy is there is looked at when there is an index.
            (Ok(_), "Ignore") if setting.with_policy => Ok(()),
            (Ok(pod), _) => Err(pod.to_string()),
            (Err(error), _) => Err(error.to_string()),
        }
    })?;
    Ok(())
}

/// Waits until the API server itself refuses a stranger's image: nobody answers it yet.
fn wait_until_enforced(world: &World) -> Test {
    wait_for("a stranger's image to be refused", SOON, || {
        match world.create_pod(NAMESPACE, &strangers::login()) {
            Err(error) if strangers::is_by_enforce(&error.to_string()) => Ok(()),
            Err(error) => Err(error.to_string()),
            Ok(pod) => Err(pod.to_string()),
        }
    })?;
    Ok(())
}

/// Waits until a Pod is injected by whom the row says.
fn wait_until_all_know(world: &World, setting: Setting) -> Test {
    let login = world.login(1)?;
    wait_for("a Pod to be injected as the row says", SOON, || {
        let pod = world
            .create_pod(NAMESPACE, login)
            .map_err(|error| error.to_string())?;
        let by_policy = pod.pointer(BY_POLICY).and_then(Value::as_str) == Some("admission-policy");
        if is_injected(&pod, login) && by_policy == setting.with_policy {
            Ok(())
        } else {
            Err(pod.to_string())
        }
    })?;
    Ok(())
}

/// The patch of an object.
fn patch(world: &World, object: &[&str], patch: &Value) -> Test {
    let patch = json!(patch).to_string();
    let mut arguments = vec!["patch"];
    arguments.extend(object);
    arguments.extend(["--type=merge", "--patch", &patch]);
    world.cluster.run(&arguments)?;
    Ok(())
}

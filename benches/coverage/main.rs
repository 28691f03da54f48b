//! What it costs to know the state of every Pod of a large cluster: what a leader's start asks the API server for, the time
//! until the gauges of coverage are right beside a client that reads the same Pods and does nothing with them, and the memory of
//! the leader and of another replica.

#[path = "../sync/calls.rs"]
mod calls;
mod pods;
mod report;
mod served;
#[expect(dead_code, reason = "other benchmarks share the rest of it")]
#[path = "../support/mod.rs"]
mod support;
#[expect(dead_code, reason = "another benchmark shares the rest of it")]
#[path = "../sync/world.rs"]
mod world;

use std::process::{ExitCode, exit};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use kube::Client;
use pullpass_test_support::{Azure, ControlPlane, Installation, Login, wait_for};
use tokio::runtime::Runtime;

use calls::Calls;
use pods::{Pods, WORKLOADS};
use report::{Memory, Report, Start};
use served::{Served, read_all_pods};
use support::{Output, Result};
use world::Administrator;

/// How many times the floor is read.
const FLOORS: usize = 3;
/// How often the gauges are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long pullpass may take for what it is waited for.
const RIGHT_TIMEOUT: Duration = Duration::from_mins(3);
/// How long a process is left alone before its memory is read.
const SETTLE_INTERVAL: Duration = Duration::from_millis(2_500);

/// Measures what it costs to know the state of every Pod of a large cluster, beside a client that only reads them
#[derive(Debug, Parser)]
struct Arguments {
    /// How many Pods there are
    #[arg(long, default_value_t = 100_000)]
    pods: usize,
    /// How many times a tenth of them is replaced
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(..=9))]
    rollouts: u8,
    /// After how many minutes it ends, however far it is
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u8).range(1..))]
    minutes: u8,
    /// How the result is written
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// What cargo adds to a benchmark's arguments
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    support::main("coverage", || run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let limit = Duration::from_mins(arguments.minutes.into());
    // Every process that was started ends with this one.
    thread::spawn(move || {
        thread::sleep(limit);
        eprintln!("coverage: ended after {limit:?}; the lines above say how far it came");
        exit(1);
    });
    let runtime = Runtime::new()?;
    eprintln!("a control plane is started");
    let cluster = ControlPlane::builder()
        .controller_manager(false)
        .api_server_argument(world::WITHOUT_LIMITS)
        .start()?;
    world::prepare(&cluster)?;
    let login = world::login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    let mut first = world::start_pullpass(&cluster, &azure)?;
    world::attach(&cluster, &login)?;
    // The Pods are made while nobody injects: so it is known which are uncovered.
    first.stop()?;
    drop(first);

    let administrator = runtime.block_on(world::client(cluster.kubeconfig()))?;
    let pods = Pods::new(administrator.clone(), &login, arguments.pods);
    let namespaces = pods.namespaces();
    eprintln!(
        "{} Pods are made in {} namespaces",
        arguments.pods,
        namespaces.len()
    );
    let begun = Instant::now();
    runtime.block_on(async {
        let making = Administrator::new(administrator.clone(), login.clone());
        making.make_namespaces(&namespaces).await?;
        pods.make_all().await
    })?;
    let making_seconds = begun.elapsed().as_secs_f64();
    eprintln!("that took {making_seconds:.0} s");

    let account = world::account_kubeconfig(&cluster)?;
    let reader = runtime.block_on(world::client(&account))?;
    let bench = Bench {
        runtime: &runtime,
        cluster: &cluster,
        azure: &azure,
        login,
        administrator,
        reader,
        pods,
    };
    let mut report = bench.measure(arguments.rollouts)?;
    report.pods = arguments.pods;
    report.namespaces = namespaces.len();
    report.making_seconds = making_seconds;
    print!("{}", report.render(arguments.output)?);
    Ok(())
}

struct Bench<'a> {
    runtime: &'a Runtime,
    cluster: &'a ControlPlane,
    azure: &'a Azure,
    login: Login,
    administrator: Client,
    /// A client of pullpass' own service account.
    reader: Client,
    pods: Pods,
}

impl Bench<'_> {
    fn measure(&self, rollouts: u8) -> Result<Report> {
        let mut report = Report::default();
        eprintln!("a leader is started, and another replica");
        let mut leader = world::start_pullpass(self.cluster, self.azure)?;
        wait_until_right(&leader, self.pods.uncovered())?;
        let mut follower = world::start_replica(self.cluster, self.azure)?;
        world::wait_for_served(&leader, &self.login, self.pods.namespaces().len())?;
        thread::sleep(SETTLE_INTERVAL);
        report.memory.push(Memory::of("leader", &mut leader)?);
        report.memory.push(Memory::of("follower", &mut follower)?);

        report.start = Some(self.take_over(leader, &follower)?);
        let mut leader = follower;
        thread::sleep(SETTLE_INTERVAL);
        report
            .memory
            .push(Memory::of("leader that was a follower", &mut leader)?);
        // One that the API server asks about every namespace.
        let mut follower = world::start_pullpass(self.cluster, self.azure)?;
        for rollout in 0..usize::from(rollouts).min(WORKLOADS) {
            eprintln!("rollout {} of {rollouts}", rollout + 1);
            self.runtime.block_on(self.pods.replace(rollout))?;
            let lag = wait_until_right(&leader, 0)?;
            thread::sleep(SETTLE_INTERVAL);
            let when = format!("leader after rollout {}", rollout + 1);
            report.memory.push(Memory::of(&when, &mut leader)?);
            report.rollout_lags_seconds.push(lag.as_secs_f64());
        }
        if rollouts > 0 {
            report
                .memory
                .push(Memory::of("follower that was asked about them", &mut follower)?);
        }
        Ok(report)
    }

    /// The leader ends and gives its Lease back, and the follower leads.
    fn take_over(&self, mut leader: Installation<'_>, follower: &Installation<'_>) -> Result<Start> {
        let mut floors = Vec::new();
        let mut read = 0;
        for _ in 0..FLOORS {
            let (pods, took) = self.runtime.block_on(read_all_pods(&self.reader))?;
            read = pods;
            floors.push(took.as_secs_f64());
        }
        let (calls, served) = self.count()?;
        leader.stop()?;
        drop(leader);
        wait_for("the follower to lead", RIGHT_TIMEOUT, || {
            has(follower, "pullpass_leader 1")
        })?;
        let begun = Instant::now();
        wait_until_right(follower, self.pods.uncovered())?;
        let seconds = begun.elapsed().as_secs_f64();
        world::wait_for_served(follower, &self.login, self.pods.namespaces().len())?;
        thread::sleep(SETTLE_INTERVAL);
        let (calls_after, served_after) = self.count()?;
        let mut made = Calls::default();
        made.add(&calls, &calls_after);
        Ok(Start::new(
            seconds,
            (&floors, read),
            &made,
            served_after.since(&served),
        ))
    }

    fn count(&self) -> Result<(Calls, Served)> {
        self.runtime.block_on(async {
            let calls = Calls::read(&self.administrator).await?;
            Ok((calls, Served::read(&self.administrator).await?))
        })
    }
}

/// Waits until the gauge tells of so many uncovered Pods; says how long.
fn wait_until_right(leader: &Installation<'_>, uncovered: usize) -> Result<Duration> {
    let begun = Instant::now();
    let line = format!("pullpass_uncovered_pods {uncovered}");
    wait_for(&line, RIGHT_TIMEOUT, || has(leader, &line))?;
    Ok(begun.elapsed())
}

/// Whether the metrics of a replica have that line.
fn has(replica: &Installation<'_>, line: &str) -> std::result::Result<(), String> {
    thread::sleep(LOOK_INTERVAL);
    let metrics = replica.metrics().map_err(|error| error.to_string())?;
    let name = line.split(' ').next().unwrap_or_default();
    let is_there = metrics.lines().any(|found| found == line);
    let found = || metrics.lines().find(|found| found.starts_with(name));
    is_there.then_some(()).ok_or_else(|| format!("{:?}", found()))
}

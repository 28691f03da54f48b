//! What keeping pull secrets costs: `pullpass serve` in a real cluster, under the shipped rights, beside a floor that
//! applies the same Secrets with no logic. Both take turns, since a machine is never quiet. And what many registries cost:
//! edits of one, new leaders, restarts of the API server, and refreshes.

mod calls;
mod edits;
mod floor;
mod many;
mod observer;
mod report;
#[path = "../support/mod.rs"]
mod support;
mod teams;
mod world;

use std::ops::Range;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use pullpass::api::names::OWN_NAMESPACE;
use pullpass_test_support::{Azure, ControlPlane, Installation, Login};
use tokio::runtime::Runtime;

use calls::Calls;
use floor::Floor;
use observer::Observer;
use report::{Lag, Lags, Report, Rounds, Row};
use support::{Output, Result};
use world::Administrator;

/// From here on fewer rounds are enough: each is an average over many writes.
const MANY: usize = 5_000;
/// How many rounds that many namespaces get, at most.
const FEW_ROUNDS: u16 = 3;
/// How long after the last Secret the status of the registry is written, at most; and how long a process is left alone
/// before its memory is read.
const SETTLE_INTERVAL: Duration = Duration::from_millis(2_500);
/// How many namespaces are made between two lines of progress.
const STEP: usize = 1_000;

/// Measures what keeping pull secrets costs, beside a floor that applies the same Secrets
#[derive(Debug, Parser)]
struct Arguments {
    /// Numbers of namespaces, from few to many
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 10_000])]
    namespaces: Vec<usize>,
    /// How many refreshes are measured for each; 3 at most from 5,000 namespaces on
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How many Pods are waited on for their Secrets, one after the other
    #[arg(long, default_value_t = 300)]
    pods: usize,
    /// How many registries there are when edits and many registries are measured; none, and they are not
    #[arg(long, default_value_t = 50)]
    registries: usize,
    /// How many namespaces all registries have together when edits, new leaders and restarts of the API server are measured
    #[arg(long, default_value_t = 10_000)]
    edited_namespaces: usize,
    /// How many namespaces all registries have together when many registries are measured
    #[arg(long, default_value_t = 10_000)]
    many_namespaces: usize,
    /// Measure only edits, new leaders and restarts of the API server
    #[arg(long)]
    edits: bool,
    /// Measure only many registries
    #[arg(long, conflicts_with = "edits")]
    many: bool,
    /// How the result is written
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// What cargo adds to a benchmark's arguments
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    support::main("sync", || run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let runtime = Runtime::new()?;
    let mut report = Report::default();
    if !arguments.edits && !arguments.many {
        measure_refreshes(arguments, &runtime, &mut report)?;
    }
    if arguments.registries > 0 && !arguments.many {
        let edits = edits::measure(
            &runtime,
            arguments.registries,
            arguments.edited_namespaces,
            arguments.rounds,
        )?;
        report.edits = Some(edits);
    }
    if arguments.registries > 0 && !arguments.edits {
        let size = many::Size {
            registries: arguments.registries,
            namespaces: arguments.many_namespaces,
            rounds: arguments.rounds,
            pods: arguments.pods,
        };
        report.many = Some(many::measure(&runtime, size)?);
    }
    print!("{}", report.render(arguments.output)?);
    Ok(())
}

fn measure_refreshes(arguments: &Arguments, runtime: &Runtime, report: &mut Report) -> Result<()> {
    let mut sizes = arguments.namespaces.clone();
    sizes.sort_unstable();
    eprintln!("a control plane is started");
    let cluster = ControlPlane::builder().controller_manager(false).start()?;
    world::prepare(&cluster)?;
    let login = world::login();
    let azure = Azure::start(std::slice::from_ref(&login))?;
    let mut pullpass = world::start_pullpass(&cluster, &azure)?;
    world::attach(&cluster, &login)?;

    let mut bench = Bench::new(runtime, &cluster, &azure, login)?;
    for size in &sizes {
        bench.grow_to(*size, &pullpass)?;
        let rounds = if *size < MANY {
            arguments.rounds
        } else {
            arguments.rounds.min(FEW_ROUNDS)
        };
        report.sizes.push(bench.measure(rounds, &mut pullpass)?);
    }
    if arguments.pods > 0 {
        report.lags = Some(bench.measure_lags(arguments.pods)?);
    }
    eprintln!("pullpass is restarted");
    let served = bench.namespaces.len() + arguments.pods;
    // Asked to end, it gives its Lease back.
    pullpass.stop()?;
    drop(pullpass);
    let mut pullpass = world::start_pullpass(&cluster, &azure)?;
    world::wait_for_served(&pullpass, &bench.login, served)?;
    thread::sleep(SETTLE_INTERVAL);
    report.restarted = Some(world::memory_of(&mut pullpass)?.into());
    let mut follower = world::start_replica(&cluster, &azure)?;
    thread::sleep(SETTLE_INTERVAL);
    report.follower = Some(world::memory_of(&mut follower)?.into());
    Ok(())
}

/// Who measures.
struct Bench<'a> {
    runtime: &'a Runtime,
    azure: &'a Azure,
    administrator: Administrator,
    observer: Observer,
    floor: Floor,
    login: Login,
    /// Those that pullpass serves.
    namespaces: Vec<String>,
    refreshes: u32,
}

impl<'a> Bench<'a> {
    fn new(runtime: &'a Runtime, cluster: &ControlPlane, azure: &'a Azure, login: Login) -> Result<Self> {
        let account = world::account_kubeconfig(cluster)?;
        runtime.block_on(async {
            let client = world::client(cluster.kubeconfig()).await?;
            let administrator = Administrator::new(client, login.clone());
            // Clients of their own, so that nobody waits for another one's connections.
            let watching = world::client(cluster.kubeconfig()).await?;
            let floor = Floor::new(
                world::client(&account).await?,
                &login,
                administrator.minted().await?,
            )?;
            Ok(Self {
                runtime,
                azure,
                administrator,
                observer: Observer::start(watching, &login.name),
                floor,
                login,
                namespaces: Vec::new(),
                refreshes: 0,
            })
        })
    }

    /// Makes namespaces with a Pod each until there are so many, and waits until pullpass serves them all.
    fn grow_to(&mut self, size: usize, pullpass: &Installation<'_>) -> Result<()> {
        while self.namespaces.len() < size {
            let begin = self.namespaces.len();
            let names = names("app", begin..size.min(begin + STEP));
            self.runtime.block_on(async {
                self.administrator.make_namespaces(&names).await?;
                self.administrator.run_pods(&names).await
            })?;
            self.namespaces.extend(names);
            eprintln!("{} of {size} namespaces are made", self.namespaces.len());
        }
        world::wait_for_served(pullpass, &self.login, size)
    }

    /// Refreshes and floors in turn.
    fn measure(&mut self, rounds: u16, pullpass: &mut Installation<'_>) -> Result<Row> {
        let size = self.namespaces.len();
        let mut results = Rounds::default();
        // One to warm up, for all sizes together: connections are open then.
        let first = u16::from(self.refreshes > 0);
        for number in first..=rounds {
            let mut taken = Rounds::default();
            let (ours, floor) = if number % 2 == 0 {
                let floor = self.fan_out_floor()?;
                (self.refresh(&mut taken)?, floor)
            } else {
                (self.refresh(&mut taken)?, self.fan_out_floor()?)
            };
            eprintln!(
                "{size} namespaces, round {number} of {rounds}: pullpass {:.3} s, floor {:.3} s",
                ours.as_secs_f64(),
                floor.as_secs_f64()
            );
            if number > 0 {
                results.push(ours, floor);
                results.merge(&taken);
            }
        }
        Ok(results.row(size, world::memory_of(pullpass)?.into()))
    }

    /// From the event of the minted credential to that of the last Secret.
    fn refresh(&mut self, rounds: &mut Rounds) -> Result<Duration> {
        self.refreshes += 1;
        let password = format!("password-{}", self.refreshes);
        let size = self.namespaces.len();
        self.observer.forget();
        self.runtime.block_on(async {
            let azure_before = world::azure_calls(self.azure, &self.login);
            let before = Calls::read(&self.administrator.client).await?;
            self.administrator.rotate(self.azure, &password).await?;
            let minted = self.observer.written_in(OWN_NAMESPACE).await?;
            let end = self.observer.written_everywhere(size, &minted.version).await?;
            // What comes after it belongs to it.
            tokio::time::sleep(SETTLE_INTERVAL).await;
            let after = Calls::read(&self.administrator.client).await?;
            rounds.add_calls(&before, &after);
            rounds.add_azure_calls(azure_before, world::azure_calls(self.azure, &self.login));
            Ok(end - minted.at)
        })
    }

    /// From the first request to the event of the last Secret.
    fn fan_out_floor(&mut self) -> Result<Duration> {
        self.observer.forget();
        let version = self.floor.renew();
        self.runtime.block_on(async {
            let begun = self.floor.fan_out(&self.namespaces).await?;
            let end = self
                .observer
                .written_everywhere(self.namespaces.len(), &version)
                .await?;
            Ok(end - begun)
        })
    }

    /// Pods one after the other, each in a namespace that never had one, and Secrets of the floor between them.
    fn measure_lags(&mut self, pods: usize) -> Result<Lags> {
        let ours = names("fresh", 0..pods);
        let floors = names("floor", 0..pods);
        self.runtime
            .block_on(self.administrator.make_namespaces(&[&*ours, &floors].concat()))?;
        thread::sleep(SETTLE_INTERVAL);
        self.floor.renew();
        self.observer.forget();
        let (mut answered, mut asked, mut floor) = (Vec::new(), Vec::new(), Vec::new());
        self.runtime.block_on(async {
            for (number, (namespace, floor_namespace)) in ours.iter().zip(&floors).enumerate() {
                let sent = Instant::now();
                self.administrator.run_pod(namespace).await?;
                let returned = Instant::now();
                let seen = self.observer.written_in(namespace).await?.at;
                // The Secret can be there before the API server is done with the Pod.
                answered.push(seen.saturating_duration_since(returned));
                asked.push(seen.saturating_duration_since(sent));

                let sent = Instant::now();
                self.floor.write(floor_namespace).await?;
                let seen = self.observer.written_in(floor_namespace).await?.at;
                floor.push(seen.saturating_duration_since(sent));
                if (number + 1) % 100 == 0 {
                    eprintln!("{} of {pods} Pods", number + 1);
                }
            }
            Ok(Lags {
                answered: Lag::of(answered),
                asked: Lag::of(asked),
                floor: Lag::of(floor),
            })
        })
    }
}

fn names(prefix: &str, numbers: Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{prefix}-{number}")).collect()
}

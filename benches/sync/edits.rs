//! Changes without a refresh, at many registries and namespaces: an AcrRegistry is edited, another replica leads, the API
//! server restarts so that every watch begins with a list. The calls of each, and its time beside a floor that writes and
//! deletes the same Secrets, or lists the same objects.

use std::thread;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, TryStreamExt, stream};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use pullpass::api::acr_registry::AcrRegistry;
use pullpass::api::names::{MANAGED_BY_LABEL, MANAGER, OWN_NAMESPACE, SWEPT_ANNOTATION, pull_secret};
use pullpass::kubernetes::follow::follow_long;
use pullpass::sync::secrets::CONCURRENCY;
use pullpass_test_support::{Azure, ControlPlane, Installation, Login, wait_for};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::calls::Calls;
use crate::floor::Floor;
use crate::observer::Observer;
use crate::report::{Refreshes, Rounds};
use crate::support::Result;
use crate::{teams, world};

/// How long pullpass may take for what it is waited for.
const TIMEOUT: Duration = Duration::from_mins(5);
/// How often the API server's counts are read.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How often it is looked whether something has happened whose time is measured.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// A case is over when nothing was written or deleted for so long: longer than it takes until what lost its right is deleted
/// a second time.
const QUIET_INTERVAL: Duration = Duration::from_secs(8);
/// How many rounds there are of each case, at most.
const FEW_ROUNDS: u16 = 3;

/// All cases.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Edits {
    pub(crate) registries: usize,
    pub(crate) namespaces: usize,
    pub(crate) cases: Vec<Case>,
}

/// A case.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Case {
    pub(crate) what: &'static str,
    #[serde(flatten)]
    pub(crate) measured: Refreshes,
}

/// Measures every case, in a control plane of its own.
pub(crate) fn measure(runtime: &Runtime, registries: usize, namespaces: usize, rounds: u16) -> Result<Edits> {
    eprintln!("a control plane is started, for {registries} registries and {namespaces} namespaces");
    let cluster = ControlPlane::builder()
        .controller_manager(false)
        .api_server_argument(world::WITHOUT_LIMITS)
        .start()?;
    world::prepare(&cluster)?;
    let logins = teams::logins(registries);
    let azure = Azure::start(&logins)?;
    let pullpass = world::start_pullpass(&cluster, &azure)?;
    let client = runtime.block_on(world::client(cluster.kubeconfig()))?;
    teams::attach(&cluster, &logins)?;
    teams::wait_until_minted(&cluster, registries)?;
    runtime.block_on(teams::make_namespaces(&client, registries, namespaces))?;
    teams::wait_for_served(&pullpass, namespaces)?;
    eprintln!("{namespaces} namespaces are served");

    let bench = Bench {
        runtime,
        cluster: &cluster,
        azure: &azure,
        floors: teams::floors(runtime, &cluster, &client, &logins)?,
        client,
        logins,
        namespaces,
        rounds: rounds.min(FEW_ROUNDS),
    };
    bench.wait_until_swept()?;
    bench.settle()?;
    let mut cases = vec![bench.edit_fraction()?, bench.edit_selector()?];
    let (leader, new_leaders) = bench.change_leaders(pullpass)?;
    cases.extend([new_leaders, bench.restart_api_server()?]);
    drop(leader);
    Ok(Edits {
        registries,
        namespaces,
        cases,
    })
}

struct Bench<'a> {
    runtime: &'a Runtime,
    cluster: &'a ControlPlane,
    azure: &'a Azure,
    client: Client,
    logins: Vec<Login>,
    /// Those of the registries, in the same order.
    floors: Vec<Floor>,
    namespaces: usize,
    rounds: u16,
}

impl<'a> Bench<'a> {
    /// One that changes no pull secret: only calls are counted.
    fn edit_fraction(&self) -> Result<Case> {
        let mut rounds = Rounds::default();
        for round in 0..self.rounds {
            let before = self.calls()?;
            self.edit(&json!({"credential": {"refreshFraction": 0.4 + f64::from(round) / 100.0}}))?;
            rounds.push_untimed(&before, &self.settle()?);
        }
        Ok(Case {
            what: "an edit of refreshFraction",
            measured: rounds.refreshes(0),
        })
    }

    /// The first registry is for the second one's namespaces, and then for its own again.
    fn edit_selector(&self) -> Result<Case> {
        let (own, others) = (self.namespaces_of(0), self.namespaces_of(1));
        let (login, floor) = (self.first_login()?, self.floors.first().ok_or("no floor")?);
        let mut observer = teams::observe(self.runtime, self.cluster, |client| {
            Observer::start(client, &login.name)
        })?;
        let mut rounds = Rounds::default();
        for round in 0..2 * self.rounds {
            let (team, to, from) = match round % 2 {
                0 => (1, &others, &own),
                _ => (0, &own, &others),
            };
            let before = self.calls()?;
            observer.forget();
            self.edit(&teams::selector(team))?;
            let begun = Instant::now();
            let ended = self.runtime.block_on(observer.moved(&login.name, to, from))?;
            let ours = ended.saturating_duration_since(begun);
            // The second deletions belong to it.
            rounds.add_calls(&before, &self.settle()?);
            // Back and forth, so that all is as pullpass left it.
            let mut took = Vec::new();
            for (to, from) in [(from, to), (to, from)] {
                observer.forget();
                let begun = Instant::now();
                let ended = self.runtime.block_on(async {
                    let moved = observer.moved(&login.name, to, from);
                    let ((), ended) = futures::try_join!(move_by_floor(floor, to, from), moved)?;
                    Result::Ok(ended)
                })?;
                took.push(ended.saturating_duration_since(begun));
            }
            let floor = took.iter().sum::<Duration>() / 2;
            tell("an edit of a selector", ours, floor);
            rounds.push(ours, floor);
        }
        Ok(Case {
            what: "an edit of a selector",
            measured: rounds.refreshes(own.len() + others.len()),
        })
    }

    /// The leader shuts down, and another replica applies every pull secret once, which changes none.
    fn change_leaders(&self, mut leader: Installation<'a>) -> Result<(Installation<'a>, Case)> {
        let mut rounds = Rounds::default();
        for _ in 0..self.rounds {
            let follower = world::start_replica(self.cluster, self.azure)?;
            self.wait_until_swept()?;
            let before = self.settle()?;
            leader.stop()?;
            leader = follower;
            let (mut led, begun) = (None, Instant::now());
            let ours = loop {
                let metrics = leader.metrics()?;
                if world::leads(&metrics) {
                    led.get_or_insert_with(Instant::now);
                }
                let written = value(&metrics, "pullpass_secret_writes_total{result=\"written\"}");
                if let Some(led) = led.filter(|_| written >= self.namespaces) {
                    break led.elapsed();
                }
                if begun.elapsed() > TIMEOUT {
                    return Err(format!("a new leader wrote {written} pull secrets").into());
                }
                thread::sleep(LOOK_INTERVAL);
            };
            rounds.add_calls(&before, &self.settle()?);
            let floor = self.runtime.block_on(self.apply_unchanged())?;
            tell("a new leader", ours, floor);
            rounds.push(ours, floor);
        }
        let case = Case {
            what: "a new leader",
            measured: rounds.refreshes(self.namespaces),
        };
        Ok((leader, case))
    }

    /// What a new leader writes, which is there already.
    async fn apply_unchanged(&self) -> Result<Duration> {
        let first = self.floors.first().ok_or("no floor")?;
        let name = teams::namespace(0);
        let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(self.client.clone(), &name);
        let known = secrets.get(&pull_secret(&self.first_login()?.name)).await?;
        if first.write(&name).await? != known.metadata.resource_version {
            return Err("the floor's Secret is not the one that pullpass writes".into());
        }
        let begun = Instant::now();
        let numbers = 0..self.namespaces;
        stream::iter(numbers)
            .map(|number| async move {
                let floor = self.floors.get(number % self.floors.len());
                let floor = floor.ok_or("a registry has no floor")?;
                floor.write(&teams::namespace(number)).await.map(drop)
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        Ok(begun.elapsed())
    }

    /// The API server restarts on a compacted etcd. The time is from when it is ready until a namespace that comes then has its
    /// pull secret; the floor's until a client without logic has listed the same objects and has written one.
    fn restart_api_server(&self) -> Result<Case> {
        let account = world::account_kubeconfig(self.cluster)?;
        let bare = self.runtime.block_on(world::client(&account))?;
        let floor = self.floors.get(1).ok_or("a registry has no floor")?;
        let mut rounds = Rounds::default();
        for round in 0..self.rounds {
            self.cluster.compact_etcd()?;
            self.cluster.restart_api_server()?;
            let name = format!("after-restart-{round}");
            let (ours, floor) = self
                .runtime
                .block_on(async { futures::try_join!(self.serve_new(&name), relist(&bare, floor)) })?;
            // The API server counts from zero.
            rounds.add_calls(&Calls::default(), &self.settle()?);
            tell("the API server restarts", ours, floor);
            rounds.push(ours, floor);
        }
        Ok(Case {
            what: "a restart of the API server",
            measured: rounds.refreshes(1),
        })
    }

    /// Creates a namespace of the first team, and waits for its pull secret.
    async fn serve_new(&self, name: &str) -> Result<Duration> {
        let begun = Instant::now();
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let object = json!({"metadata": {"name": name, "labels": teams::labels(0)}});
        let object = serde_json::from_value(object)?;
        namespaces.create(&PostParams::default(), &object).await?;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), name);
        let wanted = pull_secret(&self.first_login()?.name);
        while secrets.get_metadata_opt(&wanted).await?.is_none() {
            if begun.elapsed() > TIMEOUT {
                return Err(format!("the namespace {name} has no pull secret").into());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(begun.elapsed())
    }

    fn edit(&self, spec: &Value) -> Result<()> {
        let registries: Api<AcrRegistry> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"spec": spec}));
        let parameters = PatchParams::default();
        let name = &self.first_login()?.name;
        self.runtime
            .block_on(registries.patch(name, &parameters, &patch))?;
        Ok(())
    }

    fn first_login(&self) -> Result<&Login> {
        self.logins.first().ok_or_else(|| "there is no registry".into())
    }

    fn namespaces_of(&self, team: usize) -> Vec<String> {
        let numbers = (team..self.namespaces).step_by(self.logins.len());
        numbers.map(teams::namespace).collect()
    }

    /// Waits until the Lease tells the next leader that all registries are swept, in the newest namespace too.
    fn wait_until_swept(&self) -> Result<()> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), OWN_NAMESPACE);
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let newest = teams::namespace(self.namespaces.saturating_sub(1));
        let newest = self.runtime.block_on(namespaces.get_metadata(&newest))?;
        let newest: u64 = newest.metadata.resource_version.unwrap_or_default().parse()?;
        wait_for("the Lease to tell what is swept", TIMEOUT, || {
            let lease = self.runtime.block_on(leases.get(MANAGER));
            let annotations = lease.map_err(|error| error.to_string())?.metadata.annotations;
            let note = annotations
                .and_then(|mut annotations| annotations.remove(SWEPT_ANNOTATION))
                .unwrap_or_default();
            let read: Value = serde_json::from_str(&note).unwrap_or_default();
            let swept = read.get("swept").and_then(Value::as_object);
            let is_new = |version: &str| version.parse::<u64>().is_ok_and(|version| version >= newest);
            let marks = swept.into_iter().flatten().filter(|(version, _)| is_new(version));
            let counts = marks.map(|(_, marks)| marks.as_str().unwrap_or_default().split(' ').count());
            let is_swept = counts.sum::<usize>() == self.logins.len();
            is_swept.then_some(()).ok_or(note)
        })?;
        Ok(())
    }

    fn calls(&self) -> Result<Calls> {
        self.runtime.block_on(Calls::read(&self.client))
    }

    /// Reads the counts until nothing is written or deleted any more.
    fn settle(&self) -> Result<Calls> {
        let kinds = [
            ("APPLY", "secrets"),
            ("DELETE", "secrets"),
            ("PATCH", "acrregistries/status"),
        ];
        let written = |calls: &Calls| {
            let of_kinds = calls
                .iter()
                .filter(|(verb, resource, _)| kinds.contains(&(verb, resource)));
            of_kinds
                .map(|(_, _, count)| count.to_string())
                .collect::<Vec<_>>()
        };
        let begun = Instant::now();
        let (mut calls, mut changed) = (self.calls()?, begun);
        while changed.elapsed() < QUIET_INTERVAL {
            if begun.elapsed() > TIMEOUT {
                return Err(format!("it is still writing after {TIMEOUT:?}").into());
            }
            thread::sleep(POLL_INTERVAL);
            let now = self.calls()?;
            if written(&now) != written(&calls) {
                changed = Instant::now();
            }
            calls = now;
        }
        Ok(calls)
    }
}

fn tell(what: &str, ours: Duration, floor: Duration) {
    eprintln!(
        "{what}: pullpass {:.3} s, floor {:.3} s",
        ours.as_secs_f64(),
        floor.as_secs_f64()
    );
}

/// The value of a series.
fn value(metrics: &str, series: &str) -> usize {
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    value.unwrap_or_default()
}

/// Writes to some namespaces and deletes from others, as many concurrently as pullpass does.
async fn move_by_floor(floor: &Floor, to: &[String], from: &[String]) -> Result<()> {
    let steps = to
        .iter()
        .map(|namespace| (namespace, true))
        .chain(from.iter().map(|namespace| (namespace, false)));
    stream::iter(steps)
        .map(|(namespace, is_written)| async move {
            if is_written {
                floor.write(namespace).await.map(drop)
            } else {
                floor.delete(namespace).await
            }
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await
}

/// Lists what a replica watches, concurrently, and writes a pull secret then.
async fn relist(client: &Client, floor: &Floor) -> Result<Duration> {
    let begun = Instant::now();
    let all = watcher::Config::default;
    let ours = all().labels(&format!("{MANAGED_BY_LABEL}={MANAGER}"));
    let namespaces = Api::<PartialObjectMeta<Namespace>>::all(client.clone());
    let registries = Api::<AcrRegistry>::all(client.clone());
    let credentials = Api::<Secret>::namespaced(client.clone(), OWN_NAMESPACE);
    let accounts = Api::<ServiceAccount>::all(client.clone());
    futures::try_join!(
        listed(watcher(namespaces, all())),
        listed(watcher(registries, all())),
        listed(watcher(credentials, ours)),
        listed(follow_long(accounts)),
    )?;
    floor.write(&teams::namespace(1)).await?;
    Ok(begun.elapsed())
}

async fn listed<K>(events: impl Stream<Item = watcher::Result<Event<K>>>) -> Result<()> {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        if matches!(event?, Event::InitDone) {
            return Ok(());
        }
    }
    Err("a list has no end".into())
}

//! Many registries, each with its share of the namespaces: a refresh of one and of all of them beside the floor, what a demand
//! waits meanwhile, and the memory of a leader and of another replica.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use pullpass::api::names::{MANAGER, OWN_NAMESPACE};
use pullpass::sync::secrets::CONCURRENCY;
use pullpass_test_support::{Azure, ControlPlane, Installation, Login, wait_for};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::calls::Calls;
use crate::floor::Floor;
use crate::observer::{Credentials, Observer, Span};
use crate::report::{Lag, Lags, Memory, Refreshes, Rounds};
use crate::support::Result;
use crate::world::{self, Administrator};
use crate::{SETTLE_INTERVAL, teams};

/// How many rounds there are, at most: each writes all pull secrets twice.
const FEW_ROUNDS: u16 = 3;
/// How long a replica may take to lead.
const LEADING_TIMEOUT: Duration = Duration::from_mins(1);
/// The label's value in the namespaces whose Pods are a demand.
const ON_DEMAND: &str = "on-demand";

/// What was measured.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Many {
    pub(crate) registries: usize,
    pub(crate) namespaces: usize,
    pub(crate) refreshes_of_one: Refreshes,
    pub(crate) refreshes_of_all: Refreshes,
    /// From a Pod to its Secret while all registries are refreshed.
    pub(crate) demands: Option<Lags>,
    pub(crate) memory: Vec<Process>,
}

/// The memory of a process.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Process {
    pub(crate) process: &'static str,
    #[serde(flatten)]
    pub(crate) memory: Memory,
}

impl Process {
    fn of(process: &'static str, installation: &mut Installation<'_>) -> Result<Self> {
        Ok(Self {
            process,
            memory: world::memory_of(installation)?.into(),
        })
    }
}

/// How large the cluster is, and how often it is measured.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) registries: usize,
    pub(crate) namespaces: usize,
    pub(crate) rounds: u16,
    /// Pods that need a pull secret while all registries are refreshed, at most.
    pub(crate) pods: usize,
}

/// Measures in a control plane of its own.
pub(crate) fn measure(runtime: &Runtime, size: Size) -> Result<Many> {
    let Size {
        registries,
        namespaces,
        ..
    } = size;
    eprintln!("a control plane is started, for {registries} registries and {namespaces} namespaces");
    let cluster = ControlPlane::builder()
        .controller_manager(false)
        .api_server_argument(world::WITHOUT_LIMITS)
        .start()?;
    world::prepare(&cluster)?;
    let logins = teams::logins(registries);
    let demanded = Login::new("demanded", registries + 1);
    let azure = Azure::start(&[&*logins, std::slice::from_ref(&demanded)].concat())?;
    let leader = world::start_pullpass(&cluster, &azure)?;
    let client = runtime.block_on(world::client(cluster.kubeconfig()))?;
    // The namespaces come while the registries are there: of each the leader learns what it may not have.
    teams::attach(&cluster, &logins)?;
    attach_on_demand(&cluster, &demanded)?;
    teams::wait_until_minted(&cluster, registries + 1)?;
    runtime.block_on(teams::make_namespaces(&client, registries, namespaces))?;
    teams::wait_for_served(&leader, namespaces)?;
    eprintln!("{namespaces} namespaces are served");

    let mut bench = Bench {
        runtime,
        cluster: &cluster,
        azure: &azure,
        floors: teams::floors(runtime, &cluster, &client, &logins)?,
        observer: teams::observe(runtime, &cluster, Observer::of_all)?,
        client,
        logins,
        demanded,
        size,
        refreshes: 0,
        served: namespaces,
    };
    bench.measure(leader)
}

struct Bench<'a> {
    runtime: &'a Runtime,
    cluster: &'a ControlPlane,
    azure: &'a Azure,
    client: Client,
    observer: Observer,
    logins: Vec<Login>,
    /// Those of the registries, in the same order.
    floors: Vec<Floor>,
    demanded: Login,
    size: Size,
    refreshes: u32,
    /// How many pull secrets there are.
    served: usize,
}

impl<'a> Bench<'a> {
    fn measure(&mut self, mut leader: Installation<'a>) -> Result<Many> {
        let mut memory = Vec::new();
        let mut follower = world::start_replica(self.cluster, self.azure)?;
        thread::sleep(SETTLE_INTERVAL);
        memory.push(Process::of("leader that saw them come", &mut leader)?);
        memory.push(Process::of("follower", &mut follower)?);

        // Those of all first: a registry is not minted twice in a moment.
        let all: Vec<usize> = (0..self.logins.len()).collect();
        let refreshes_of_all = self.rounds(|_| all.clone())?;
        let demands = if self.size.pods > 0 {
            Some(self.measure_demands(&all)?)
        } else {
            None
        };
        let refreshes_of_one = self.rounds(|round| vec![usize::from(round) % all.len()])?;
        memory.push(Process::of("leader after refreshes", &mut leader)?);

        eprintln!("another replica leads");
        leader.stop()?;
        drop(leader);
        let mut leader = follower;
        self.wait_until_settled(&leader)?;
        memory.push(Process::of("leader that was a follower", &mut leader)?);

        eprintln!("one leads that nobody told what is swept");
        leader.stop()?;
        drop(leader);
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), OWN_NAMESPACE);
        self.runtime
            .block_on(leases.delete(MANAGER, &DeleteParams::default()))?;
        let mut leader = world::start_pullpass(self.cluster, self.azure)?;
        self.wait_until_settled(&leader)?;
        memory.push(Process::of("leader without the Lease's note", &mut leader)?);
        Ok(Many {
            registries: self.size.registries,
            namespaces: self.size.namespaces,
            refreshes_of_one,
            refreshes_of_all,
            demands,
            memory,
        })
    }

    fn wait_until_settled(&self, leader: &Installation<'_>) -> Result<()> {
        wait_for("another leader", LEADING_TIMEOUT, || {
            let metrics = leader.metrics().map_err(|error| error.to_string())?;
            world::leads(&metrics)
                .then_some(())
                .ok_or_else(|| "it does not lead".to_owned())
        })?;
        teams::wait_for_served(leader, self.served)?;
        thread::sleep(SETTLE_INTERVAL);
        Ok(())
    }

    /// Refreshes of some registries and floors in turn; which these are depends on the round.
    fn rounds(&mut self, registries: impl Fn(u16) -> Vec<usize>) -> Result<Refreshes> {
        let mut results = Rounds::default();
        let mut count = 0;
        for round in 0..self.size.rounds.min(FEW_ROUNDS) {
            let chosen = registries(round);
            count = self.pairs(&chosen).len();
            let (ours, floor) = if round % 2 == 0 {
                let ours = self.refresh_counted(&chosen, &mut results)?;
                (ours, self.runtime.block_on(self.write_floor(&chosen))?)
            } else {
                let floor = self.runtime.block_on(self.write_floor(&chosen))?;
                (self.refresh_counted(&chosen, &mut results)?, floor)
            };
            eprintln!(
                "{} registries, {count} pull secrets: pullpass {:.3} s, floor {:.3} s",
                chosen.len(),
                ours.took().as_secs_f64(),
                floor.took().as_secs_f64()
            );
            results.push(ours.took(), floor.took());
        }
        Ok(results.refreshes(count))
    }

    /// The namespaces of these registries, each with the number of its registry.
    fn pairs(&self, registries: &[usize]) -> Vec<(usize, String)> {
        (0..self.size.namespaces)
            .map(|number| (number % self.logins.len(), teams::namespace(number)))
            .filter(|(registry, _)| registries.contains(registry))
            .collect()
    }

    fn refresh_counted(&mut self, registries: &[usize], rounds: &mut Rounds) -> Result<Span> {
        let azure_before = self.azure_calls();
        let before = self.runtime.block_on(Calls::read(&self.client))?;
        let span = self.runtime.block_on(self.refresh(registries))?;
        // What comes after it belongs to it.
        thread::sleep(SETTLE_INTERVAL);
        let after = self.runtime.block_on(Calls::read(&self.client))?;
        rounds.add_calls(&before, &after);
        rounds.add_azure_calls(azure_before, self.azure_calls());
        Ok(span)
    }

    fn azure_calls(&self) -> (u64, u64) {
        let logins = self.logins.iter();
        let calls = logins.map(|login| world::azure_calls(self.azure, login));
        // Entra ID counts those of all registries.
        calls.fold((0, 0), |(_, acr), (entra, more)| (entra, acr + more))
    }

    /// From the first minted credential to the last pull secret.
    async fn refresh(&mut self, registries: &[usize]) -> Result<Span> {
        self.refreshes += 1;
        let password = format!("password-{}", self.refreshes);
        let count = self.pairs(registries).len();
        self.observer.forget();
        let chosen = registries.iter().filter_map(|number| self.logins.get(*number));
        let (client, azure, password) = (&self.client, self.azure, &*password);
        stream::iter(chosen)
            .map(|login| async move {
                let administrator = Administrator::new(client.clone(), login.clone());
                administrator.rotate(azure, password).await
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        self.observer.refreshed(Credentials::new(), count).await
    }

    /// From the first request to the last Secret.
    async fn write_floor(&mut self, registries: &[usize]) -> Result<Span> {
        let pairs = self.pairs(registries);
        let named = self.floors.iter_mut().zip(&self.logins);
        let versions = named.map(|(floor, login)| (login.name.clone(), floor.renew()));
        let versions = versions.collect();
        self.observer.forget();
        let floors = &self.floors;
        let begun = Instant::now();
        let written = stream::iter(&pairs)
            .map(|(registry, namespace)| async move {
                let floor = floors.get(*registry).ok_or("a registry has no floor")?;
                floor.write(namespace).await.map(drop)
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>();
        let seen = self.observer.refreshed(versions, pairs.len());
        let ((), seen) = futures::try_join!(written, seen)?;
        Ok(Span { begun, ..seen })
    }

    /// Pods one after the other, each in a namespace that never had one, while all registries are refreshed; and Secrets one
    /// after the other, while the floor writes all of its own.
    fn measure_demands(&mut self, all: &[usize]) -> Result<Lags> {
        eprintln!("Pods need pull secrets while all registries are refreshed");
        let names = |prefix: &str| -> Vec<String> {
            (0..self.size.pods)
                .map(|number| format!("{prefix}-{number}"))
                .collect()
        };
        let (ours, floors) = (names("fresh"), names("floor"));
        let administrator = Administrator::new(self.client.clone(), self.demanded.clone());
        let mut seen = teams::observe(self.runtime, self.cluster, |client| {
            Observer::start(client, &self.demanded.name)
        })?;
        let account = world::account_kubeconfig(self.cluster)?;
        let floor = self.runtime.block_on(async {
            make_demanding(&self.client, &ours).await?;
            make_demanding(&self.client, &floors).await?;
            let minted = administrator.minted().await?;
            Floor::new(world::client(&account).await?, &self.demanded, minted)
        })?;
        thread::sleep(SETTLE_INTERVAL);
        seen.forget();

        let (runtime, is_over) = (self.runtime, Cell::new(false));
        let mut times = Vec::new();
        let span = runtime.block_on(async {
            let demands = async {
                for namespace in ours.iter().take_while(|_| !is_over.get()) {
                    let sent = Instant::now();
                    administrator.run_pod(namespace).await?;
                    let answered = Instant::now();
                    let at = seen.written_in(namespace).await?.at;
                    times.push((sent, answered, at));
                }
                Result::Ok(())
            };
            during(demands, self.refresh(all), &is_over).await
        })?;
        self.served += times.len();
        times.retain(|(sent, _, at)| span.holds(*sent, *at));
        let answered = times
            .iter()
            .map(|(_, answered, at)| at.saturating_duration_since(*answered));
        let asked = times.iter().map(|(sent, _, at)| *at - *sent);
        let (answered, asked) = (answered.collect(), asked.collect());

        is_over.set(false);
        let mut times = Vec::new();
        let span = runtime.block_on(async {
            let writes = async {
                for namespace in floors.iter().take_while(|_| !is_over.get()) {
                    let sent = Instant::now();
                    floor.write(namespace).await?;
                    let at = seen.written_in(namespace).await?.at;
                    times.push((sent, at));
                }
                Result::Ok(())
            };
            during(writes, self.write_floor(all), &is_over).await
        })?;
        times.retain(|(sent, at)| span.holds(*sent, *at));
        Ok(Lags {
            answered: Lag::of(answered),
            asked: Lag::of(asked),
            floor: Lag::of(times.iter().map(|(sent, at)| *at - *sent).collect()),
        })
    }
}

/// Takes steps while the whole is under way.
async fn during(
    steps: impl Future<Output = Result<()>>,
    whole: impl Future<Output = Result<Span>>,
    is_over: &Cell<bool>,
) -> Result<Span> {
    let whole = async {
        let span = whole.await;
        is_over.set(true);
        span
    };
    // The last step is brought to an end: its Pod gets a pull secret.
    let (steps, span) = futures::join!(steps, whole);
    steps?;
    span
}

/// Attaches a registry for the namespaces whose Pods ask for it.
fn attach_on_demand(cluster: &ControlPlane, login: &Login) -> Result<()> {
    let mut object = login.acr_registry();
    let fields = object.pointer_mut("/spec").and_then(Value::as_object_mut);
    let fields = fields.ok_or("an AcrRegistry has no spec")?;
    let labels = json!({"matchLabels": {"team": ON_DEMAND}});
    fields.insert("namespaces".to_owned(), labels);
    let items = [login.secret(&login.password), object];
    cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    Ok(())
}

/// Makes namespaces whose Pods are a demand.
async fn make_demanding(client: &Client, names: &[String]) -> Result<()> {
    let made = stream::iter(names).map(|name| async move {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let object = json!({"metadata": {"name": name, "labels": {"team": ON_DEMAND}}});
        let parameters = PostParams::default();
        namespaces
            .create(&parameters, &serde_json::from_value(object)?)
            .await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
        let object = json!({"metadata": {"name": "default"}});
        accounts
            .create(&parameters, &serde_json::from_value(object)?)
            .await?;
        Result::Ok(())
    });
    made.buffer_unordered(CONCURRENCY).try_collect().await
}

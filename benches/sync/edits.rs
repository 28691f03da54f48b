//! What the API server is asked for when an AcrRegistry is edited, a watch begins again or another replica leads: beside the
//! number of pull secrets that have to change, which is the floor.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use pullpass::api::acr_registry::AcrRegistry;
use pullpass::api::names::{MANAGER, OWN_NAMESPACE, SWEPT_ANNOTATION};
use pullpass_test_support::{Azure, ControlPlane, Login, wait_for};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::calls::Calls;
use crate::support::Result;
use crate::{teams, world};

/// How long pullpass may take for what it is waited for.
const SWEPT_TIMEOUT: Duration = Duration::from_mins(5);
/// How often the API server's counts are read.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// A case is over when nothing was written or deleted for so long.
const QUIET_INTERVAL: Duration = Duration::from_secs(4);
/// It takes a while until a watch that broke off is tried again: such a case lasts so long in any case.
const RELIST_INTERVAL: Duration = Duration::from_secs(30);
/// And at the latest after so long: a leader that starts sweeps for longer.
const CASE_TIMEOUT: Duration = Duration::from_secs(40);

/// A case.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Edit {
    pub(crate) what: String,
    /// Pull secrets that have to be written or deleted.
    pub(crate) pairs_changed: usize,
    pub(crate) writes: f64,
    pub(crate) deletes: f64,
    pub(crate) status_writes: f64,
    /// Of `AcrRegistries` and namespaces: a watch began again.
    pub(crate) lists: f64,
    /// Until the last of them.
    pub(crate) seconds: f64,
    /// Whether it was still going on when the time was up.
    pub(crate) is_cut_off: bool,
}

/// All of them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Edits {
    pub(crate) registries: usize,
    pub(crate) namespaces: usize,
    pub(crate) cases: Vec<Edit>,
}

/// Measures every case, in a control plane of its own.
pub(crate) fn measure(runtime: &Runtime, registries: usize, namespaces: usize) -> Result<Edits> {
    eprintln!("a control plane is started, for {registries} registries and {namespaces} namespaces");
    let cluster = ControlPlane::builder().controller_manager(false).start()?;
    world::prepare(&cluster)?;
    let logins = teams::logins(registries);
    let azure = Azure::start(&logins)?;
    let pullpass = world::start_pullpass(&cluster, &azure)?;
    let client = runtime.block_on(world::client(cluster.kubeconfig()))?;
    let bench = Bench { runtime, client };
    runtime.block_on(teams::make_namespaces(&bench.client, registries, namespaces))?;
    teams::attach(&cluster, &logins)?;
    teams::wait_for_served(&pullpass, namespaces)?;
    bench.settle()?;

    let each = namespaces / registries;
    let mut cases = vec![
        bench.case("refreshFraction of one registry", 0, || {
            bench.edit(&logins, 0, &json!({"credential": {"refreshFraction": 0.4}}))
        })?,
        bench.case(
            "its selector changes from one team's namespaces to another team's",
            2 * each,
            || bench.edit(&logins, 0, &teams::selector(1)),
        )?,
        bench.case("its selector changes back", 2 * each, || {
            bench.edit(&logins, 0, &teams::selector(0))
        })?,
        // A new API server remembers no events, so that every watch begins with a list.
        bench.relist("the API server restarts", || {
            cluster.compact_etcd()?;
            Ok(cluster.restart_api_server()?)
        })?,
    ];
    let mut first = pullpass;
    bench.wait_until_swept(registries)?;
    // Asked to end, it gives its Lease back.
    first.stop()?;
    drop(first);
    let mut next = None;
    cases.push(bench.case("another replica leads", 0, || {
        next = Some(world::start_pullpass(&cluster, &azure)?);
        Ok(())
    })?);
    drop(next);
    Ok(Edits {
        registries,
        namespaces,
        cases,
    })
}

struct Bench<'a> {
    runtime: &'a Runtime,
    client: Client,
}

/// Writes, deletions, writes of a status, and lists of what replicas watch.
#[derive(Clone, Copy, PartialEq)]
struct Counted([f64; 4]);

impl Counted {
    const ZERO: Self = Self([0.0; 4]);

    fn of(calls: &Calls) -> Self {
        let count = |wanted: (&str, &str)| {
            calls
                .iter()
                .filter(|(verb, resource, _)| (*verb, *resource) == wanted)
                .fold(0.0, |sum, (_, _, count)| sum + count)
        };
        Self([
            count(("APPLY", "secrets")),
            count(("DELETE", "secrets")),
            count(("PATCH", "acrregistries/status")),
            count(("LIST", "acrregistries")) + count(("LIST", "namespaces")),
        ])
    }
}

impl Bench<'_> {
    fn edit(&self, logins: &[Login], number: usize, spec: &Value) -> Result<()> {
        let name = logins
            .get(number)
            .map(|login| login.name.as_str())
            .unwrap_or_default();
        let registries: Api<AcrRegistry> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"spec": spec}));
        let parameters = PatchParams::default();
        self.runtime
            .block_on(registries.patch(name, &parameters, &patch))?;
        Ok(())
    }

    /// Waits until the Lease tells the next leader of so many registries that they are swept.
    fn wait_until_swept(&self, registries: usize) -> Result<()> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), OWN_NAMESPACE);
        wait_for("the Lease to tell what is swept", SWEPT_TIMEOUT, || {
            let lease = self.runtime.block_on(leases.get(MANAGER));
            let annotations = lease.map_err(|error| error.to_string())?.metadata.annotations;
            let note = annotations
                .and_then(|mut annotations| annotations.remove(SWEPT_ANNOTATION))
                .unwrap_or_default();
            let read: Value = serde_json::from_str(&note).unwrap_or_default();
            let swept = read.get("swept").and_then(Value::as_object);
            let marks = swept
                .into_iter()
                .flatten()
                .filter_map(|(_, marks)| marks.as_str());
            // All of them up to the same version.
            let mut counts = marks.map(|marks| marks.split(' ').count());
            counts.any(|count| count == registries).then_some(()).ok_or(note)
        })?;
        Ok(())
    }

    fn counted(&self) -> Result<Counted> {
        Ok(Counted::of(&self.runtime.block_on(Calls::read(&self.client))?))
    }

    fn settle(&self) -> Result<()> {
        self.until_quiet(Instant::now(), Duration::ZERO)?;
        Ok(())
    }

    /// Reads the counts until they stay the same; returns them, when they changed last, and whether the time was up.
    fn until_quiet(&self, begun: Instant, at_least: Duration) -> Result<(Counted, Instant, bool)> {
        let (mut counted, mut changed) = (self.counted()?, begun);
        loop {
            std::thread::sleep(POLL_INTERVAL);
            let now = self.counted()?;
            if now != counted {
                (counted, changed) = (now, Instant::now());
            }
            if changed.elapsed() >= QUIET_INTERVAL && begun.elapsed() >= at_least {
                return Ok((counted, changed, false));
            }
            if begun.elapsed() >= CASE_TIMEOUT {
                return Ok((counted, changed, true));
            }
        }
    }

    fn case(&self, what: &str, pairs_changed: usize, act: impl FnOnce() -> Result<()>) -> Result<Edit> {
        let before = self.counted()?;
        self.case_from(before, Duration::ZERO, what, pairs_changed, act)
    }

    /// One after which the API server counts from zero.
    fn relist(&self, what: &str, act: impl FnOnce() -> Result<()>) -> Result<Edit> {
        self.case_from(Counted::ZERO, RELIST_INTERVAL, what, 0, act)
    }

    fn case_from(
        &self,
        Counted(before): Counted,
        at_least: Duration,
        what: &str,
        pairs_changed: usize,
        act: impl FnOnce() -> Result<()>,
    ) -> Result<Edit> {
        let begun = Instant::now();
        act()?;
        let (Counted(after), changed, is_cut_off) = self.until_quiet(begun, at_least)?;
        let [writes, deletes, status_writes, lists] = [0, 1, 2, 3].map(|index: usize| {
            let of = |counts: &[f64; 4]| counts.get(index).copied().unwrap_or_default();
            of(&after) - of(&before)
        });
        eprintln!("{what}: {pairs_changed} pairs changed, {writes} writes, {deletes} deletions");
        Ok(Edit {
            what: what.to_owned(),
            pairs_changed,
            writes,
            deletes,
            status_writes,
            lists,
            seconds: changed.duration_since(begun).as_secs_f64(),
            is_cut_off,
        })
    }
}

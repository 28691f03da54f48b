//! Keeps the Reports of `openreports.io/v1alpha1` up to date with the state of workloads, for tools that show the
//! results of policies. The component `reports` enables this. The leader reads all Pods every resync interval, and
//! writes the Reports that have changed. It judges all Pods of a look by one state of all other objects, so that no
//! Report mixes two.
//!
//! Nothing is kept in memory between two intervals: a fingerprint in a Report's metadata identifies its content. The
//! Pods come one by one from the API server's own cache, as the beginning of a watch that is dropped then. The watch
//! of `sync/pods` is not enough: a Report needs more of each Pod than that keeps, and every leader would have to keep
//! it.

mod seen;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, Preconditions,
};
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt};
use tokio::task::yield_now;
use tokio::time::{Interval, MissedTickBehavior, interval};

use self::seen::{Bounds, Seen};
use crate::api::names::{MANAGED_BY_LABEL, MANAGER, REPORT_FINGERPRINT_ANNOTATION, REPORT_PREFIX};
use crate::kubernetes::call::{CallError, call, within};
use crate::kubernetes::follow::follow;
use crate::kubernetes::pages::metadata_pages;
use crate::kubernetes::pods;
use crate::kubernetes::watch::followed;
use crate::policy::coverage::findings;
use crate::policy::decision::Settings;
use crate::policy::identity::AttachedIdentity;
use crate::policy::pod::{Pod, service_account};
use crate::policy::reports::{Report, ReportContext, reports};
use crate::sync::pods::NOT_ENDED;
use crate::sync::watches::Watches;
use crate::view::View;

/// How many pairs of a workload and a registry are told about, what they may take, and of how many Pods
/// (docs/operations.md).
const BOUNDS: Bounds = Bounds {
    standings: 10_000,
    bytes: 16 << 20,
    pods: 200_000,
};
/// How many earlier Reports are looked through.
const MAX_KNOWN: usize = 2 * BOUNDS.standings;
/// How long a fingerprint of pullpass' own is, in letters. Another text was put there by hand.
const FINGERPRINT_LENGTH: usize = 64;
/// How long it may take to read all Pods, failures and their waits included.
const READ_TIMEOUT: Duration = Duration::from_mins(2);
/// How many Reports are compared without a pause for others.
const CHUNK: usize = 250;
/// How long the next write waits for its turn.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);

/// Writes the Reports. One runs in the cluster: the leader's.
pub struct Reporter {
    /// With the rights of the component.
    pub client: Client,
    /// The attached registries, and what is known of namespaces and `ServiceAccounts`.
    pub watches: Arc<Watches>,
    /// What decisions depend on.
    pub settings: Settings,
    /// How often all Pods are read.
    pub resync_interval: Duration,
}

/// What the Pods of a look are judged by, and what was seen of them.
struct Look {
    view: View,
    seen: Seen,
}

/// A Report that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    fingerprint: Option<String>,
    uid: Option<String>,
}

/// The Reports that are there, by namespace and name.
type AllKnown = BTreeMap<(String, String), Known>;

/// Why Reports can't be kept, as the log has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// The cluster does not know the kind.
    NotDefined,
    /// Something else, which may be over at the next look.
    Other,
}

impl Reporter {
    /// Looks again and again, until it is dropped.
    pub async fn run(&self) {
        let mut ticks = every(self.resync_interval);
        let mut last = None;
        loop {
            ticks.tick().await;
            let obstacle = match self.look().await {
                Ok(()) => None,
                Err(error) => Some(self.tell(&error, last)),
            };
            last = obstacle;
        }
    }

    /// Logs why there are no Reports; that the kind is not there, once.
    fn tell(&self, error: &CallError, last: Option<Obstacle>) -> Obstacle {
        if error.code() != Some(404) {
            tracing::warn!(%error, "Reports are not up to date; the next attempt is after the resync interval");
            return Obstacle::Other;
        }
        if last != Some(Obstacle::NotDefined) {
            tracing::warn!(
                seconds = self.resync_interval.as_secs(),
                "there are no Reports: the cluster has no CustomResourceDefinition reports.openreports.io. Install it, or remove the \
                 component reports; it is looked for again after the resync interval"
            );
        }
        Obstacle::NotDefined
    }

    /// Looks at everything once, and writes what changed.
    async fn look(&self) -> Result<(), CallError> {
        // Before the Pods: without the kind, nobody reads them for nothing.
        let mut known = self.known().await?;
        let (seen, context) = self.seen().await?;
        let (workloads, left_out) = seen.into_complete();
        if left_out > 0 {
            tracing::warn!(
                pods = left_out,
                "there is no room for all workloads: Reports of the workloads of these Pods stay unchanged, \
                 and none is deleted"
            );
        }
        let mut writes = Writes::default();
        for (index, report) in reports(&workloads, &context, false).enumerate() {
            if index.is_multiple_of(CHUNK) {
                yield_now().await;
            }
            if let Some(fingerprint) = changed(&report, &mut known) {
                writes.turn().await;
                writes.note(self.apply(&report, &fingerprint).await);
            }
        }
        // What is left of them is of workloads without Pods, unless these were left out.
        if left_out == 0 {
            for ((namespace, name), Known { uid, .. }) in known {
                writes.turn().await;
                writes.note(self.delete(&namespace, &name, uid).await);
            }
        }
        writes.tell();
        Ok(())
    }

    fn context(&self, view: &View) -> ReportContext {
        let registries = view.registries();
        let anonymous = registries
            .all()
            .into_iter()
            .filter(|registry| matches!(registry.identity(), AttachedIdentity::Anonymous));
        ReportContext {
            rules: self.settings.policy,
            anonymous: anonymous.map(|registry| registry.name().to_owned()).collect(),
        }
    }

    /// The Reports that pullpass wrote.
    async fn known(&self) -> Result<AllKnown, CallError> {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource());
        let ours = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGER}"));
        let mut pages = std::pin::pin!(metadata_pages(api, ours));
        let mut known = AllKnown::new();
        while let Some(page) = pages.try_next().await? {
            let found = page.into_iter().filter_map(|report| {
                let name = report.name_any();
                let fingerprint = report.annotations().get(REPORT_FINGERPRINT_ANNOTATION);
                let fingerprint = fingerprint
                    .filter(|text| text.len() == FINGERPRINT_LENGTH)
                    .cloned();
                let key = (report.namespace()?, name);
                let uid = report.uid();
                key.1
                    .starts_with(REPORT_PREFIX)
                    .then_some((key, Known { fingerprint, uid }))
            });
            let room = MAX_KNOWN.saturating_sub(known.len());
            known.extend(found.take(room));
        }
        Ok(known)
    }

    /// Every Pod that has not ended, as it is now, and what else their Reports depend on. The view that they are judged
    /// by is dropped here: writing can take minutes.
    async fn seen(&self) -> Result<(Seen, ReportContext), CallError> {
        let pods = pods::api(self.client.clone(), None);
        within(READ_TIMEOUT, async {
            let mut events = std::pin::pin!(followed(follow(pods, NOT_ENDED)));
            let mut look = self.begin();
            while let Some(event) = events.next().await {
                match event {
                    // Also where the list broke off.
                    Event::Init => look = self.begin(),
                    Event::InitApply(pod) => self.see(&pod, &mut look),
                    Event::InitDone => return (look.seen, self.context(&look.view)),
                    Event::Apply(_) | Event::Delete(_) => {}
                }
            }
            // A watch does not end. If one did, nobody should delete Reports of Pods that it has not told about.
            std::future::pending().await
        })
        .await
    }

    fn begin(&self) -> Look {
        Look {
            view: self.watches.view.frozen(),
            seen: Seen::new(BOUNDS),
        }
    }

    fn see(&self, pod: &Pod, Look { view, seen }: &mut Look) {
        let Some(namespace) = pod.namespace() else { return };
        // Without its namespace's labels nobody knows which state it should have.
        let Some(labels) = view.labels(&namespace) else {
            return;
        };
        let registries = view.registries_in(&namespace);
        let mountable = view.mountable(&namespace, service_account(pod));
        let found = findings(
            pod,
            &namespace,
            &registries,
            Some(&labels),
            &self.settings.scope,
            mountable.as_deref(),
        );
        seen.take(pod, &namespace, &found);
    }

    async fn apply(&self, report: &Report, fingerprint: &str) -> Result<(), CallError> {
        let mut object = report.at(Timestamp::now());
        if let Some(metadata) = object
            .get_mut("metadata")
            .and_then(serde_json::Value::as_object_mut)
        {
            let annotations = serde_json::json!({REPORT_FINGERPRINT_ANNOTATION: fingerprint});
            metadata.insert("annotations".to_owned(), annotations);
        }
        let api = self.namespaced(report.namespace());
        let (parameters, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(object));
        let applied = call(api.patch_metadata(report.name(), &parameters, &patch)).await;
        gone_is_well(applied.map(drop))
    }

    /// Deletes this Report, and not one that has its name by now.
    async fn delete(&self, namespace: &str, name: &str, uid: Option<String>) -> Result<(), CallError> {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid,
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let api = self.namespaced(namespace);
        gone_is_well(call(api.delete(name, &parameters)).await.map(drop))
    }

    fn namespaced(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource())
    }
}

/// The fingerprint of a Report that says something else than the one that is there, which is taken out of the known ones.
fn changed(report: &Report, known: &mut AllKnown) -> Option<String> {
    let key = (report.namespace().to_owned(), report.name().to_owned());
    let before = known.remove(&key).and_then(|known| known.fingerprint);
    Some(report.fingerprint()).filter(|fingerprint| before.as_ref() != Some(fingerprint))
}

/// Writes, one after the other.
struct Writes {
    turns: Interval,
    failed: usize,
    first: Option<CallError>,
}

impl Default for Writes {
    fn default() -> Self {
        Self {
            turns: every(WRITE_INTERVAL),
            failed: 0,
            first: None,
        }
    }
}

impl Writes {
    async fn turn(&mut self) {
        self.turns.tick().await;
    }

    fn note(&mut self, done: Result<(), CallError>) {
        if let Err(error) = done {
            self.failed += 1;
            self.first.get_or_insert(error);
        }
    }

    /// Logs what failed, and is tried again after the resync interval.
    fn tell(&self) {
        if let Some(error) = &self.first {
            tracing::warn!(
                %error,
                reports = self.failed,
                "Reports could not be written or deleted; they are tried again after the resync interval"
            );
        }
    }
}

/// The namespace or the Report is gone, or another one has its name: there is nothing to do.
fn gone_is_well(done: Result<(), CallError>) -> Result<(), CallError> {
    match done {
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
        done => done,
    }
}

fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn resource() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("openreports.io", "v1alpha1", "Report"))
}

#[cfg(test)]
mod tests;

//! Keeps the Reports of `openreports.io/v1alpha1` at how workloads stand, for tools that show the results of policies. The
//! component `reports` asks for it, and the leader does it: it looks at all Pods every resync interval, and writes what is
//! another Report than before.
//!
//! Nothing is remembered from one look to the next: what a Report says is told by a fingerprint in its metadata.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use jiff::Timestamp;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, Preconditions,
};
use kube::{Api, Client, ResourceExt};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::api::names::{MANAGED_BY_LABEL, MANAGER, REPORT_FINGERPRINT_ANNOTATION, REPORT_PREFIX};
use crate::kubernetes::call::{CallError, call};
use crate::kubernetes::pages::{metadata_pages, pages_of};
use crate::kubernetes::pods;
use crate::policy::coverage::findings;
use crate::policy::decision::Settings;
use crate::policy::identity::AttachedIdentity;
use crate::policy::pod::{Pod, service_account};
use crate::policy::reports::{Report, ReportContext, reports};
use crate::policy::workloads::{self, Workloads};
use crate::sync::pods::NOT_ENDED;
use crate::sync::watches::Watches;

/// How many pairs of a workload and a registry are told of.
const MAX_STANDINGS: usize = 10_000;
/// How many earlier Reports are looked through.
const MAX_KNOWN: usize = 2 * MAX_STANDINGS;
/// How long the next write waits for its turn.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);

/// Writes the Reports. One runs in the cluster: the leader's.
pub struct Reporter {
    /// With the rights of the component.
    pub client: Client,
    /// The attached registries, and what is known of namespaces.
    pub watches: Arc<Watches>,
    /// What decisions depend on.
    pub settings: Settings,
    /// How often all Pods are looked at.
    pub resync_interval: Duration,
}

/// A Report that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    fingerprint: Option<String>,
    uid: Option<String>,
}

/// The Reports that are there, by namespace and name.
type AllKnown = BTreeMap<(String, String), Known>;

/// What was seen of Pods.
#[derive(Default)]
struct Seen {
    workloads: Workloads,
    /// The Pods for which there was no room.
    left_out: u64,
}

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
            tracing::warn!(%error, "Reports are not kept up to date; the next look is after the resync interval");
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
        let known = self.known().await?;
        let Seen { workloads, left_out } = self.seen().await?;
        if left_out > 0 {
            tracing::warn!(
                pods = left_out,
                "there are more workloads than Reports are written of: those of these Pods are left as they are"
            );
        }
        let mut writes = Writes::default();
        let (mut known, context) = (known, self.context());
        for report in reports(&workloads, &context, false) {
            if is_other(&report, &mut known) {
                writes.turn().await;
                writes.note(self.apply(&report).await);
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

    fn context(&self) -> ReportContext {
        let registries = self.watches.view.registries();
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
                let fingerprint = report.annotations().get(REPORT_FINGERPRINT_ANNOTATION).cloned();
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

    async fn seen(&self) -> Result<Seen, CallError> {
        let running = ListParams::default().fields(NOT_ENDED);
        let mut pages = std::pin::pin!(pages_of(pods::api(self.client.clone(), None), running));
        let mut seen = Seen::default();
        while let Some(page) = pages.try_next().await? {
            for pod in &page {
                self.see(pod, &mut seen);
            }
        }
        Ok(seen)
    }

    fn see(&self, pod: &Pod, seen: &mut Seen) {
        let Some(namespace) = pod.namespace() else { return };
        let view = &self.watches.view;
        // Without its namespace's labels nobody knows how it should stand.
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
        if seen.workloads.len() + found.len() > MAX_STANDINGS {
            seen.left_out += u64::from(!found.is_empty());
        } else {
            workloads::add(&mut seen.workloads, pod, &namespace, &found);
        }
    }

    async fn apply(&self, report: &Report) -> Result<(), CallError> {
        let mut object = report.at(Timestamp::now());
        if let Some(metadata) = object
            .get_mut("metadata")
            .and_then(serde_json::Value::as_object_mut)
        {
            let annotations = serde_json::json!({REPORT_FINGERPRINT_ANNOTATION: report.fingerprint()});
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

/// Whether a Report says something else than the one that is there, which is taken out of the known ones.
fn is_other(report: &Report, known: &mut AllKnown) -> bool {
    let key = (report.namespace().to_owned(), report.name().to_owned());
    let before = known.remove(&key).and_then(|known| known.fingerprint);
    before != Some(report.fingerprint())
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
mod tests {
    use super::*;
    use crate::policy::coverage::CoverageState;
    use crate::policy::workloads::{Standing, Tally, Workload};

    fn report(uid: &str) -> Report {
        let standing = Standing {
            namespace: "apps".to_owned(),
            workload: Workload {
                kind: "ReplicaSet".to_owned(),
                name: "web".to_owned(),
                api_version: "apps/v1".to_owned(),
                uid: uid.to_owned(),
                restarts_as: None,
            },
            host: "shop.azurecr.io".to_owned(),
            registry: Some("shop".to_owned()),
            state: CoverageState::Covered,
        };
        let workloads = Workloads::from([(standing, Tally::default())]);
        let context = ReportContext::default();
        reports(&workloads, &context, false).next().unwrap()
    }

    fn known(uid: &str, fingerprint: Option<String>) -> ((String, String), Known) {
        let key = ("apps".to_owned(), format!("{REPORT_PREFIX}{uid}"));
        let uid = Some(format!("uid-of-{uid}"));
        (key, Known { fingerprint, uid })
    }

    #[test]
    fn a_report_that_is_the_same_is_not_written_again() {
        let mut all = AllKnown::from([
            known("same", Some(report("same").fingerprint())),
            known("other", Some("former".to_owned())),
            known("edited", None),
            known("gone", None),
        ]);
        let written = ["same", "other", "edited", "new"]
            .into_iter()
            .filter(|uid| is_other(&report(uid), &mut all));
        assert_eq!(written.collect::<Vec<_>>(), ["other", "edited", "new"]);
        // What is left is of no workload.
        assert_eq!(all, AllKnown::from([known("gone", None)]));
    }
}

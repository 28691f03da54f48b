//! The index controller: the `AcrIndex` has what the admission policies in the API server must know.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::api::{GetParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{sleep, timeout};

use crate::api::acr_index::{AcrIndex, AcrIndexSpec};
use crate::api::names::{INDEX, MANAGER};
use crate::base::backoff::{Backoff, Jitter};
use crate::kubernetes::call::{CallError, call};
use crate::metrics::Metrics;
use crate::metrics::index::LeftOutCounts;
use crate::policy::decision::Settings;
use crate::policy::index::bindings::indexed_bindings;
use crate::policy::index::{Index, index, strict_accounts};
use crate::sync::watches::{Change, Watches};

/// How long changes are gathered before they are written: an apply of many `AcrRegistries` is one write.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);
/// How much longer where only `AcrPullBindings` changed, which many people may write: the index can be large.
const BINDINGS_INTERVAL: Duration = Duration::from_millis(900);
/// How often it is looked whether the index is still the one that was left: somebody may delete it, and then nothing is refused.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How long the controller waits after a write that failed.
const WRITE_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(2));

/// How many registries, or namespaces with bindings, the log names that had no room.
const MAX_NAMED: usize = 5;

/// Whether an index was ever written, by this leader or one before it: one that is missing after that was deleted.
#[derive(Debug, Default)]
pub struct IndexWritten(AtomicBool);

impl IndexWritten {
    /// Remembers that one was written. Nothing makes it forget.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether one was written.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What keeps the index. One runs in the cluster: the leader's.
pub struct IndexController {
    /// Where the index is written.
    pub client: Client,
    /// What it is derived from.
    pub watches: Arc<Watches>,
    /// The scope and the rules that it states.
    pub settings: Settings,
    /// How often it is compared with what the API server has, whatever happens.
    pub resync_interval: Duration,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether there was one before.
    pub written: Arc<IndexWritten>,
}

impl IndexController {
    /// Keeps the index until it is dropped.
    pub async fn run(&self) {
        let mut changes = self.watches.changes();
        let mut failures = 0_u32;
        let mut left_out = LeftOut::default();
        let mut left = None;
        loop {
            let (spec, now_left_out) = self.derive();
            left_out.tell_changes(&now_left_out);
            left_out = now_left_out;
            let written = self.reconcile(spec, left.as_deref()).await;
            let outcome = written.as_ref().ok().map(|written| written.outcome);
            let fails = !matches!(outcome, Some(Outcome::Created | Outcome::Kept));
            self.metrics.index.set(fails, left_out.counts());
            if self.written.get() && outcome == Some(Outcome::Created) {
                self.metrics.index.recreated();
                tracing::warn!(
                    "somebody deleted the AcrIndex, which is written again: without it, admission policies did nothing"
                );
            }
            if written.is_ok() {
                self.written.set();
            }
            match written {
                Ok(Reconciled { version, .. }) if !fails => {
                    failures = 0;
                    left = version;
                    if self.wait_for_reason(&mut changes, left.as_deref()).await == Some(Changed::Bindings) {
                        let _ = timeout(BINDINGS_INTERVAL, registries_changed(&mut changes)).await;
                    }
                    sleep(WRITE_INTERVAL).await;
                }
                failed => {
                    left = match &failed {
                        Ok(written) => written.version.clone(),
                        Err(error) if matches!(error.code(), Some(400..=499)) => left,
                        // What was written has a version that nobody told.
                        Err(_) => None,
                    };
                    if failures == 0 {
                        tell_failure(&failed);
                    }
                    failures = failures.saturating_add(1);
                    sleep(WRITE_BACKOFF.delay(failures, None, Jitter::random())).await;
                }
            }
            // What follows reads everything.
            changes = changes.resubscribe();
        }
    }

    /// Waits until there is a reason to compare the index: what it is derived from changed, and how; or somebody changed the index
    /// itself; or it was not compared for long.
    async fn wait_for_reason(&self, changes: &mut Receiver<Change>, left: Option<&str>) -> Option<Changed> {
        tokio::select! {
            what = changed(changes) => Some(what),
            () = self.replaced(left) => None,
            () = sleep(self.resync_interval) => None,
        }
    }

    /// Waits until the index is another version than this one, or gone. Its metadata is read, out of the API server's own cache.
    async fn replaced(&self, left: Option<&str>) {
        let indexes: Api<AcrIndex> = Api::all(self.client.clone());
        loop {
            sleep(LOOK_INTERVAL).await;
            // Without an answer the next look tells.
            if let Ok(present) = call(indexes.get_metadata_opt_with(INDEX, &GetParams::any())).await {
                let present = present.and_then(|index| index.metadata.resource_version);
                if present.as_deref() != left {
                    return;
                }
            }
        }
    }

    /// The index to write, and what has no room in it.
    fn derive(&self) -> (AcrIndexSpec, LeftOut) {
        let view = &self.watches.view;
        let (registries, bindings) = (view.registries(), view.bindings());
        let Index { mut spec, left_out } = index(&registries, &self.settings);
        let bindings = bindings.iter().flat_map(|here| here.values());
        let bindings = indexed_bindings(&registries, bindings.map(Arc::as_ref), &spec);
        spec.bindings = bindings.namespaces;
        let accounts = {
            let known = view.strict_accounts();
            strict_accounts(known.all(), known.left_out())
        };
        spec.strict_service_accounts = accounts.namespaces;
        let left_out = LeftOut {
            registries: left_out,
            omits_hosts: spec.omits_hosts,
            namespaces: bindings.left_out,
            strict_namespaces: accounts.left_out,
        };
        (spec, left_out)
    }

    /// Writes the index where it is not what it should be. All of its spec is compared, so that what somebody added goes. It was
    /// left at a version, unless that is unknown: the first time, and after a call without an answer.
    async fn reconcile(&self, spec: AcrIndexSpec, left: Option<&str>) -> Result<Reconciled, CallError> {
        let wanted = AcrIndex::new(INDEX, spec);
        let indexes: Api<AcrIndex> = Api::all(self.client.clone());
        let Some(present) = call(indexes.get_opt(INDEX)).await? else {
            let parameters = PostParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PostParams::default()
            };
            let created = call(indexes.create(&parameters, &wanted)).await?;
            return Ok(Reconciled::of(Outcome::Created, &wanted, created));
        };
        if present.spec == wanted.spec {
            return Ok(Reconciled::of(Outcome::Kept, &wanted, present));
        }
        if left.is_some() && left != present.metadata.resource_version.as_deref() {
            tracing::warn!("somebody edited the AcrIndex, which is written again as pullpass derives it");
        }
        // One that was stuck in a broken connection must not undo what the next leader has written.
        let replace = json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": present.metadata.resource_version},
            {"op": "replace", "path": "/spec", "value": wanted.spec},
        ]);
        let patch: json_patch::Patch = serde_json::from_value(replace).map_err(kube::Error::SerdeError)?;
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patched = call(indexes.patch(INDEX, &parameters, &Patch::<AcrIndex>::Json(patch))).await?;
        Ok(Reconciled::of(Outcome::Kept, &wanted, patched))
    }
}

/// The result of a comparison, and the version that the index has after it.
#[derive(Debug, PartialEq, Eq)]
struct Reconciled {
    outcome: Outcome,
    version: Option<String>,
}

impl Reconciled {
    /// The outcome where the API server has what was wanted.
    fn of(outcome: Outcome, wanted: &AcrIndex, present: AcrIndex) -> Self {
        Self {
            outcome: if present.spec == wanted.spec {
                outcome
            } else {
                Outcome::Pruned
            },
            version: present.metadata.resource_version,
        }
    }
}

/// Whether the index was there, which has what it should by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// There was none.
    Created,
    /// It was there; its spec may have been replaced.
    Kept,
    /// It was written, and the API server kept another spec: its definition lacks fields, or a webhook changed it.
    Pruned,
}

/// Says why the index is not what it should be.
fn tell_failure(written: &Result<Reconciled, CallError>) {
    match written {
        Err(error) => tracing::warn!(
            %error,
            "could not write the AcrIndex: admission policies decide by its last state; is the \
             CustomResourceDefinition acrindexes.pullpass.dev of this version installed?"
        ),
        Ok(_) => tracing::warn!(
            "the API server did not keep the AcrIndex as it was written: admission policies decide by a part of it; apply \
             the CustomResourceDefinition acrindexes.pullpass.dev of this version"
        ),
    }
}

/// What had no room in an index.
#[derive(Debug, Default)]
struct LeftOut {
    /// The names of `AcrRegistries`.
    registries: Vec<String>,
    /// Whether the login servers of some of these had none either.
    omits_hosts: bool,
    /// Namespaces with `AcrPullBindings`.
    namespaces: Vec<String>,
    /// Namespaces with `ServiceAccounts` that enforce mountable secrets.
    strict_namespaces: Vec<String>,
}

impl LeftOut {
    fn counts(&self) -> LeftOutCounts {
        LeftOutCounts {
            registries: self.registries.len(),
            namespaces: self.namespaces.len(),
            strict_namespaces: self.strict_namespaces.len(),
        }
    }

    /// Says what has no room now, where that is something else.
    fn tell_changes(&self, now: &Self) {
        if (&self.registries, self.omits_hosts) != (&now.registries, now.omits_hosts) {
            if now.registries.is_empty() {
                tracing::info!("the AcrIndex has room for every AcrRegistry again");
            } else {
                tracing::warn!(
                    count = now.registries.len(),
                    registries = first(&now.registries),
                    omits_hosts = now.omits_hosts,
                    "the AcrIndex has no room for the AcrRegistries with the longest spec.namespaces or the most \
                     spec.customDomains: admission policies leave their Pods to the webhook, and where hosts are omitted \
                     also each image whose registry may not be attached"
                );
            }
        }
        if self.namespaces != now.namespaces {
            if now.namespaces.is_empty() {
                tracing::info!("the AcrIndex has room for the AcrPullBindings of every namespace again");
            } else {
                tracing::warn!(
                    count = now.namespaces.len(),
                    namespaces = first(&now.namespaces),
                    "the AcrIndex has no room for the AcrPullBindings of the namespaces that have most: admission policies \
                     leave their Pods to the webhook"
                );
            }
        }
        if self.strict_namespaces != now.strict_namespaces {
            if now.strict_namespaces.is_empty() {
                tracing::info!(
                    "the AcrIndex has room for every ServiceAccount that enforces mountable secrets again"
                );
            } else {
                tracing::warn!(
                    count = now.strict_namespaces.len(),
                    namespaces = first(&now.strict_namespaces),
                    "the AcrIndex has no room for the ServiceAccounts that enforce mountable secrets in the namespaces that \
                     have most: admission policies leave all Pods there to the webhook"
                );
            }
        }
    }
}

/// The first of some names.
fn first(names: &[String]) -> String {
    names
        .iter()
        .take(MAX_NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ")
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changed {
    /// Only bindings or `ServiceAccounts`, which many people may write.
    Bindings,
    /// The registries, or so much that some changes were missed.
    Registries,
}

/// Waits for a change of what the index is derived from.
async fn changed(changes: &mut Receiver<Change>) -> Changed {
    loop {
        match changes.recv().await {
            Ok(
                Change::Namespace(_) | Change::NamespaceGone(_) | Change::Credential(_) | Change::Noted(_),
            ) => {}
            Ok(Change::Binding(_) | Change::Bindings | Change::ServiceAccounts(_)) => {
                return Changed::Bindings;
            }
            Ok(Change::Everything | Change::Registry(_)) | Err(RecvError::Lagged(_)) => {
                return Changed::Registries;
            }
            // The caches end with the replica, and this with them.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// The same, except for changes of bindings.
async fn registries_changed(changes: &mut Receiver<Change>) {
    while changed(changes).await == Changed::Bindings {}
}

#[cfg(test)]
mod tests;

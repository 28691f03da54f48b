//! The index controller: the `AcrIndex` has what the admission policies in the API server must know.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{sleep, timeout};

use crate::api::acr_index::AcrIndex;
use crate::api::names::{INDEX, MANAGER};
use crate::base::backoff::{Backoff, Jitter};
use crate::kubernetes::call::{CallError, call};
use crate::policy::decision::Settings;
use crate::policy::index::index;
use crate::sync::watches::{Change, Watches};

/// How long changes are gathered before they are written: an apply of many `AcrRegistries` is one write.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);
/// How long the controller waits after a write that failed.
const WRITE_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(2));

/// What keeps the index. One runs in the cluster: the leader's.
pub struct IndexController {
    /// Where the index is written.
    pub client: Client,
    /// What it is derived from.
    pub watches: Arc<Watches>,
    /// The scope and the rules that it states.
    pub settings: Settings,
    /// How often it is compared with what the API server has, whatever happens.
    pub resync: Duration,
}

impl IndexController {
    /// Keeps the index until it is dropped.
    pub async fn run(&self) {
        let mut changes = self.watches.changes();
        let mut failures = 0_u32;
        loop {
            if let Err(error) = self.reconcile().await {
                if failures == 0 {
                    tracing::warn!(
                        %error,
                        "could not write the AcrIndex: admission policies decide by its last state; is the \
                         CustomResourceDefinition acrindexes.pullpass.dev of this version installed?"
                    );
                }
                failures = failures.saturating_add(1);
                sleep(WRITE_BACKOFF.delay(failures, None, Jitter::random())).await;
            } else {
                failures = 0;
                // Without a change it is compared all the same, in case somebody edited it.
                let _ = timeout(self.resync, changed(&mut changes)).await;
                sleep(WRITE_INTERVAL).await;
            }
            // What follows reads everything.
            changes = changes.resubscribe();
        }
    }

    /// Writes the index where it is not what it should be. All of its spec is compared, so that what somebody added goes.
    async fn reconcile(&self) -> Result<(), CallError> {
        let wanted = AcrIndex::new(INDEX, index(&self.watches.view.registries(), &self.settings));
        let indexes: Api<AcrIndex> = Api::all(self.client.clone());
        let Some(present) = call(indexes.get_opt(INDEX)).await? else {
            let parameters = PostParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PostParams::default()
            };
            call(indexes.create(&parameters, &wanted)).await?;
            return Ok(());
        };
        if present.spec == wanted.spec {
            return Ok(());
        }
        let replace = json!([{"op": "replace", "path": "/spec", "value": wanted.spec}]);
        let patch: json_patch::Patch = serde_json::from_value(replace).map_err(kube::Error::SerdeError)?;
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        call(indexes.patch(INDEX, &parameters, &Patch::<AcrIndex>::Json(patch))).await?;
        Ok(())
    }
}

/// Waits for a change of the registries, or for so many changes that some were missed.
async fn changed(changes: &mut Receiver<Change>) {
    loop {
        match changes.recv().await {
            Ok(Change::Namespace(_) | Change::Credential(_)) => {}
            Ok(Change::Everything | Change::Registry(_)) | Err(RecvError::Lagged(_)) => return,
            // The caches end with the replica, and this with them.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

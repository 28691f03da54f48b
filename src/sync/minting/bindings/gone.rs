//! What is left of bindings that are gone, and its end.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::DeleteParams;
use tokio::sync::broadcast::error::RecvError;

use super::BindingController;
use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::names::{binding_of_key, minted_credential, namesake_of_binding, pull_secret};
use crate::kubernetes::call::call;
use crate::sync::pull_secret as secrets;
use crate::sync::watches::Change;

impl BindingController {
    /// Deletes what there is of bindings that are gone: those of which this process hears, and those that went while nobody
    /// led.
    pub(super) async fn delete_of_gone(&self) {
        let watches = &self.mints.parts.watches;
        let mut changes = watches.changes();
        let mut ticks = tokio::time::interval(self.resync_interval);
        // Those that never had a credential have series too; most have both, and cost one look.
        let all = || -> Vec<String> {
            let credentials = watches.credentials.registries().into_iter();
            let keys: BTreeSet<_> = credentials.chain(self.series.keys()).collect();
            keys.into_iter().collect()
        };
        loop {
            let keys = tokio::select! {
                change = changes.recv() => match change {
                    Ok(Change::Binding(key)) => vec![key],
                    Ok(
                        Change::Everything | Change::Registry(_) | Change::Credential(_)
                        | Change::Namespace(_) | Change::NamespaceGone(_) | Change::Noted(_)
                        | Change::ServiceAccounts(_),
                    ) => continue,
                    Err(RecvError::Lagged(_)) => all(),
                    Err(RecvError::Closed) => return,
                },
                _ = ticks.tick() => all(),
            };
            for key in keys {
                if !watches.view.is_attached(&key) {
                    self.delete(&key).await;
                }
            }
        }
    }

    /// Deletes what there is of a binding, unless the API server has it: one that can't be acted on is there all the same.
    async fn delete(&self, key: &str) {
        let Some((namespace, name)) = binding_of_key(key) else {
            return;
        };
        let parts = &self.mints.parts;
        let bindings: Api<AcrPullBinding> = Api::namespaced(parts.client.clone(), namespace);
        let own: Api<Secret> = Api::namespaced(parts.client.clone(), &parts.own_namespace);
        let gone = async {
            if call(bindings.get_metadata_opt(name)).await?.is_some() {
                return Ok(false);
            }
            let secret = pull_secret(&namesake_of_binding(name));
            if !parts
                .watches
                .view
                .registries()
                .is_attached(&namesake_of_binding(name))
            {
                // The garbage collector takes it too.
                let _ = secrets::delete(&parts.client, namespace, &secret).await;
            }
            match call(own.delete(&minted_credential(key), &DeleteParams::default())).await {
                Ok(_) => Ok(true),
                Err(error) if error.code() == Some(404) => Ok(true),
                Err(error) => Err(error),
            }
        };
        match gone.await {
            Ok(false) => {}
            Ok(true) => {
                parts.metrics.registries.detached(key);
                self.series.remove(key);
            }
            Err(error) => {
                tracing::warn!(binding = key, %error, "could not delete what is left of a deleted AcrPullBinding; will retry");
            }
        }
    }
}

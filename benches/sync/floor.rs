//! The floor: the same Secrets, applied through the same client and under the same rights as pullpass does it, with as
//! many concurrently, and nothing else.

use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use pullpass::api::names::MANAGER;
use pullpass::api::pull_secret_metadata::PullSecretMetadata;
use pullpass::policy::attached::AttachedRegistry;
use pullpass::registry::docker_config::Keys;
use pullpass::sync::held_credential::HeldCredential;
use pullpass::sync::secrets::CONCURRENCY;
use serde_json::json;

use crate::support::Result;

/// What writes.
pub(crate) struct Floor {
    client: Client,
    credential: HeldCredential,
    registry: AttachedRegistry,
}

impl Floor {
    /// One that writes this credential as this client.
    pub(crate) fn new(client: Client, registry: &str, credential: HeldCredential) -> Result<Self> {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1",
            "kind": "AcrRegistry",
            "metadata": {"name": registry},
            "spec": {"loginServer": "myregistry.azurecr.io", "identity": {"managedIdentity": {}}},
        });
        Ok(Self {
            client,
            credential,
            registry: AttachedRegistry::parse(&serde_json::from_value(object)?)?,
        })
    }

    /// Makes the credential another one, and returns its version.
    pub(crate) fn renew(&mut self) -> String {
        self.credential.refreshed_at = Timestamp::now();
        self.credential.refreshed_at.to_string()
    }

    /// Writes it to all of these namespaces; returns when it began.
    pub(crate) async fn fan_out(&self, namespaces: &[String]) -> Result<Instant> {
        let begun = Instant::now();
        stream::iter(namespaces)
            .map(|namespace| self.write(namespace))
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        Ok(begun)
    }

    /// Writes it to one namespace.
    pub(crate) async fn write(&self, namespace: &str) -> Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let name = self.registry.pull_secret();
        let chosen = PullSecretMetadata::default();
        let manifest = self
            .credential
            .pull_secret(namespace, &self.registry, &[], Keys::Hosts, &chosen);
        let parameters = PatchParams::apply(MANAGER).force();
        secrets
            .patch_metadata(name, &parameters, &Patch::Apply(manifest))
            .await?;
        Ok(())
    }
}

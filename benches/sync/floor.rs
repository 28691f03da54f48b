//! The floor: the same Secrets, applied through the same client and under the same rights as pullpass does it, with as
//! many concurrently, and nothing else.

use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use pullpass::api::names::MANAGER;
use pullpass::api::pull_secret_metadata::PullSecretMetadata;
use pullpass::policy::attached::AttachedRegistry;
use pullpass::registry::docker_config::Keys;
use pullpass::sync::held_credential::HeldCredential;
use pullpass::sync::secrets::CONCURRENCY;
use pullpass_test_support::Login;

use crate::support::Result;

/// What writes.
pub(crate) struct Floor {
    client: Client,
    credential: HeldCredential,
    registry: AttachedRegistry,
}

impl Floor {
    /// One that writes this credential of a registry as this client.
    pub(crate) fn new(client: Client, login: &Login, credential: HeldCredential) -> Result<Self> {
        let object = serde_json::from_value(login.acr_registry())?;
        Ok(Self {
            client,
            credential,
            registry: AttachedRegistry::parse(&object)?,
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
            .map(async |namespace: &String| self.write(namespace).await.map(drop))
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        Ok(begun)
    }

    /// Writes it to one namespace; returns the version that the Secret has then.
    pub(crate) async fn write(&self, namespace: &str) -> Result<Option<String>> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let name = self.registry.pull_secret();
        let chosen = PullSecretMetadata::default();
        let manifest = self
            .credential
            .pull_secret(namespace, &self.registry, &[], Keys::Hosts, &chosen);
        let parameters = PatchParams::apply(MANAGER).force();
        let written = secrets
            .patch_metadata(name, &parameters, &Patch::Apply(manifest))
            .await?;
        Ok(written.metadata.resource_version)
    }

    /// Deletes it from one namespace.
    pub(crate) async fn delete(&self, namespace: &str) -> Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        secrets
            .delete(self.registry.pull_secret(), &DeleteParams::default())
            .await?;
        Ok(())
    }
}

//! Writes of pull secrets, counted.

use std::time::Instant;

use kube::Client;

use crate::api::pull_secret_metadata::PullSecretMetadata;
use crate::metrics::Metrics;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::registry::docker_config::Keys;
use crate::sync::credentials::Version;
use crate::sync::held_credential::HeldCredential;
use crate::sync::pull_secret::{self, WriteError};

/// What every write of a replica has in common.
pub(super) struct CountedWrites<'a> {
    pub(super) client: &'a Client,
    pub(super) chosen: &'a PullSecretMetadata,
    pub(super) metrics: &'a Metrics,
}

impl CountedWrites<'_> {
    /// Writes the pull secret of one of these registries, and says which version it is then.
    pub(super) async fn write(
        &self,
        namespace: &str,
        registry: &AttachedRegistry,
        registries: &AttachedRegistries,
        credential: &HeldCredential,
        keys: Keys,
    ) -> Result<Option<Version>, WriteError> {
        let begun = Instant::now();
        let domains: Vec<_> = registries.domains_of(registry).cloned().collect();
        let written = pull_secret::write(
            self.client,
            namespace,
            registry,
            &domains,
            credential,
            keys,
            self.chosen,
        )
        .await;
        let outcome = pull_secret::outcome(&written);
        self.metrics.registries.secret_written(outcome, begun.elapsed());
        written
    }
}

//! When a registry's credential is minted, and what is remembered of attempts that failed.

use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};

use super::identity::{self, Resolved, resolve};
use super::status::Standing;
use super::{Failure, RegistryController, soon};
use crate::api::acr_registry::AcrRegistry;
use crate::api::names::{MANAGER, minted_credential};
use crate::api::reason::Reason;
use crate::azure::mint::Credential;
use crate::kubernetes::call::call;
use crate::policy::attached::Registry;
use crate::sync::credentials::HeldCredential;
use crate::sync::minting::refresh::{self, DEFAULT_FRACTION, Failures, Plan, plan};

/// What the leader remembers of a registry that fails. Losing it costs one attempt, and nothing else.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    failures: Failures,
    failure: Failure,
}

impl RegistryController {
    /// Mints if it is time to; says how it stands, and when to look again.
    pub(super) async fn bring_about(
        &self,
        object: &AcrRegistry,
        now: Timestamp,
    ) -> (Standing, Option<Timestamp>) {
        let name = object.name_any();
        let held = self.parts.watches.credentials.of(&name);
        match self.identify(object).await {
            Ok((registry, resolved)) => self.keep_fresh(object, &registry, &resolved, held, now).await,
            Err(failure) => {
                self.parts.metrics.refreshed(&name, false);
                // A Secret or a spec that changes leads here again by itself; an API server that did not answer does not.
                let retry = (failure.reason == Reason::Unreachable).then(|| soon(now));
                let standing = Standing {
                    login_server: None,
                    held,
                    failure: Some(failure),
                    next_refresh: retry,
                };
                (standing, retry)
            }
        }
    }

    /// What the spec means, with what the Secrets that it names hold.
    async fn identify(&self, object: &AcrRegistry) -> Result<(Registry, Resolved), Failure> {
        let registry = Registry::parse(object).map_err(|error| Failure {
            reason: Reason::InvalidSpec,
            message: error.to_string(),
            retry_after: None,
        })?;
        let resolved = resolve(
            &self.parts.client,
            &self.parts.own_namespace,
            object,
            &registry,
            &self.parts.workload_identity,
        )
        .await?;
        Ok((registry, resolved))
    }

    async fn keep_fresh(
        &self,
        object: &AcrRegistry,
        registry: &Registry,
        resolved: &Resolved,
        held: Option<Arc<HeldCredential>>,
        now: Timestamp,
    ) -> (Standing, Option<Timestamp>) {
        let credential = object.spec.credential.as_ref();
        let fraction = credential
            .and_then(|credential| credential.refresh_fraction)
            .unwrap_or(DEFAULT_FRACTION);
        // What failed with other inputs says nothing about these.
        let memory = self
            .recall(registry.name())
            .filter(|memory| memory.failures.inputs == resolved.inputs);
        let failures = memory.as_ref().map(|memory| &memory.failures);
        // One that an earlier release made says nothing of its spec: it goes to no other namespace, so it is minted again.
        let current = held.as_deref().filter(|held| held.is_of(registry));
        let login_server = Some(registry.login_server().to_string());
        if let Plan::Wait(next) = plan(now, &resolved.inputs, current, fraction, failures) {
            let failure = memory.map(|memory| memory.failure);
            return (
                Standing {
                    login_server,
                    held,
                    failure,
                    next_refresh: next,
                },
                next,
            );
        }
        let minted = self.mint(registry, resolved, held.as_deref(), now).await;
        self.parts.metrics.refreshed(registry.name(), minted.is_ok());
        let (held, failure, next) = match minted {
            Ok(minted) => {
                self.forget(registry.name());
                let next = refresh::due(&minted, fraction);
                (Some(minted), None, next)
            }
            Err(failure) => {
                tracing::warn!(
                    registry = registry.name(),
                    reason = %failure.reason,
                    message = failure.message,
                    "no credential was minted"
                );
                let failures = refresh::failed(
                    (self.parts.clock)(),
                    &resolved.inputs,
                    failures,
                    failure.retry_after,
                );
                let next = failures.retry_at;
                self.remember(
                    registry.name(),
                    Memory {
                        failures,
                        failure: failure.clone(),
                    },
                );
                (held, Some(failure), Some(next))
            }
        };
        (
            Standing {
                login_server,
                held,
                failure,
                next_refresh: next,
            },
            next,
        )
    }

    async fn mint(
        &self,
        registry: &Registry,
        resolved: &Resolved,
        held: Option<&HeldCredential>,
        now: Timestamp,
    ) -> Result<Arc<HeldCredential>, Failure> {
        let remembered = held.and_then(|held| held.audience.clone());
        let minted = match &resolved.source {
            identity::Source::Mint(request) => {
                let mut request = (**request).clone();
                request.remembered_audience = remembered;
                self.parts.minter.mint(&request).await
            }
            identity::Source::Basic { username, password } => Credential::basic(username, password, now),
            identity::Source::ServicePrincipalPassword { client_id, secret } => {
                Credential::service_principal_password(client_id, secret, now)
            }
        };
        let credential = minted.map_err(|error| Failure {
            reason: error.reason(),
            message: error.to_string(),
            retry_after: error.retry_after(),
        })?;
        let minted = HeldCredential::of(&credential, registry, resolved.inputs.clone());
        self.store(registry.name(), &minted).await?;
        tracing::info!(
            registry = registry.name(),
            expires_at = minted.expires_at.map(tracing::field::display),
            "a credential was minted"
        );
        // Known here at once, so that nothing is minted twice until the watch brings it.
        Ok(self.parts.watches.learn(registry.name(), minted))
    }

    async fn store(&self, registry: &str, minted: &HeldCredential) -> Result<(), Failure> {
        let secrets: Api<Secret> = Api::namespaced(self.parts.client.clone(), &self.parts.own_namespace);
        let manifest = Patch::Apply(minted.manifest(registry, &self.parts.own_namespace));
        let parameters = PatchParams::apply(MANAGER).force();
        let name = minted_credential(registry);
        let write = secrets.patch_metadata(&name, &parameters, &manifest);
        call(write).await.map(drop).map_err(|problem| Failure {
            reason: Reason::Unreachable,
            message: format!(
                "the minted credential could not be stored in namespace {}: {problem}",
                self.parts.own_namespace
            ),
            retry_after: None,
        })
    }

    fn recall(&self, name: &str) -> Option<Memory> {
        self.memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    fn remember(&self, name: &str, memory: Memory) {
        self.memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), memory);
    }

    fn forget(&self, name: &str) {
        self.memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }
}

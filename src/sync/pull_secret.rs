//! One pull secret in one namespace: written or taken away without ever being read.
//!
//! Server-side apply and delete need no right to read. A `ValidatingAdmissionPolicy` refuses both on a Secret that is
//! not ours, before anything of it is returned, so that a foreign Secret of our name is neither seen nor overwritten.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use thiserror::Error;

use crate::api::names::{FENCE, MANAGER};
use crate::kubernetes::call::{CallError, call};
use crate::kubernetes::refusal::is_of_a_fixed_field;
use crate::policy::attached::AttachedRegistry;
use crate::registry::custom_domain::CustomDomain;
use crate::sync::credentials::Version;
use crate::sync::held_credential::HeldCredential;

/// Why a pull secret is not there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A Secret that is not ours has the name.
    #[error("a Secret that is not pullpass' has the name")]
    Foreign,
    /// The namespace is not there, or is about to go.
    #[error("the namespace is going or gone")]
    NamespaceGone,
    /// The API server could not do it.
    #[error("the API server did not write it: {0}")]
    Api(String),
    /// The API server did not answer in time.
    #[error("the API server did not answer in time")]
    Timeout,
}

impl WriteError {
    fn of(error: &CallError) -> Self {
        let Some(status) = error.status() else {
            return match error {
                CallError::TimedOut(_) => Self::Timeout,
                CallError::Kube(_) => Self::Api(error.to_string()),
            };
        };
        let mut causes = status.details.iter().flat_map(|details| &details.causes);
        let terminating = causes.any(|cause| cause.reason == "NamespaceTerminating");
        match status.code {
            404 => Self::NamespaceGone,
            403 if terminating => Self::NamespaceGone,
            403 | 422 if status.message.contains(FENCE) => Self::Foreign,
            // The API server looks at what can't be changed before it asks the fence. Nothing of that is ever changed
            // in a Secret that is ours.
            422 if is_of_a_fixed_field(status) => Self::Foreign,
            _ => Self::Api(status.message.clone()),
        }
    }
}

/// Writes the pull secret of a registry that has these custom domains, and says which version it is then; writing the same twice
/// changes nothing.
pub async fn write(
    client: &Client,
    namespace: &str,
    registry: &AttachedRegistry,
    domains: &[CustomDomain],
    credential: &HeldCredential,
) -> Result<Option<Version>, WriteError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let parameters = PatchParams::apply(MANAGER).force();
    let manifest = Patch::Apply(credential.pull_secret(namespace, registry, domains));
    let write = secrets.patch_metadata(registry.pull_secret(), &parameters, &manifest);
    let written = bounded(write).await?;
    Ok(Version::parse(written.resource_version().as_deref()))
}

/// Takes a Secret away that came of a registry; one that is not there is as good.
pub async fn delete(client: &Client, namespace: &str, name: &str) -> Result<(), WriteError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    match bounded(secrets.delete(name, &DeleteParams::default())).await {
        Ok(_) | Err(WriteError::NamespaceGone) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn bounded<T>(write: impl Future<Output = kube::Result<T>>) -> Result<T, WriteError> {
    call(write).await.map_err(|error| WriteError::of(&error))
}

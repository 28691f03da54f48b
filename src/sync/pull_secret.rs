//! One pull secret in one namespace: written or deleted without being read.
//!
//! Server-side apply and delete need no right to read. A `ValidatingAdmissionPolicy` refuses both on a Secret that is
//! not pullpass' own, before anything of it is returned, so that a foreign Secret of the same name is neither seen nor
//! overwritten.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use thiserror::Error;

use crate::api::names::{EVERY_KEY_MANAGER, FENCE, MANAGER};
use crate::api::pull_secret_metadata::PullSecretMetadata;
use crate::kubernetes::call::{CallError, call};
use crate::kubernetes::refusal::is_of_a_fixed_field;
use crate::metrics::registries::WriteOutcome;
use crate::policy::attached::AttachedRegistry;
use crate::registry::custom_domain::CustomDomain;
use crate::registry::docker_config::Keys;
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
    #[error("the namespace is being deleted or does not exist")]
    NamespaceGone,
    /// The API server refused it.
    #[error("the API server did not write it: {0}")]
    Api(String),
    /// The API server could not be reached.
    #[error("the API server did not write it: {0}")]
    Unreachable(String),
    /// The API server did not answer in time.
    #[error("the API server did not answer in time")]
    Timeout,
}

impl WriteError {
    fn of(error: &CallError) -> Self {
        let Some(status) = error.status() else {
            return match error {
                CallError::TimedOut(_) => Self::Timeout,
                CallError::Kube(_) => Self::Unreachable(error.to_string()),
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

/// How a write ended, as metrics have it.
pub fn outcome<T>(written: &Result<T, WriteError>) -> WriteOutcome {
    match written {
        Ok(_) => WriteOutcome::Written,
        Err(WriteError::Foreign) => WriteOutcome::NameConflict,
        Err(WriteError::NamespaceGone) => WriteOutcome::NamespaceGone,
        Err(WriteError::Api(_)) => WriteOutcome::Refused,
        Err(WriteError::Unreachable(_)) => WriteOutcome::Unreachable,
        Err(WriteError::Timeout) => WriteOutcome::Timeout,
    }
}

/// Writes the pull secret of a registry with these custom domains, and returns its version after that. Writing the
/// same twice changes nothing.
///
/// Once a Pod needed every key, a pull secret keeps every key while it exists. Its field manager records that: a write
/// without those keys is not forced, conflicts with that manager, and is repeated with every key. Labels and
/// annotations that are no longer configured are removed by the same write, or by one more if the pull secret has
/// every key.
pub async fn write(
    client: &Client,
    namespace: &str,
    registry: &AttachedRegistry,
    domains: &[CustomDomain],
    credential: &HeldCredential,
    keys: Keys,
    chosen: &PullSecretMetadata,
) -> Result<Option<Version>, WriteError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let apply_as = async |manager: &str, manifest: Value, is_forced: bool| {
        let parameters = PatchParams {
            force: is_forced,
            ..PatchParams::apply(manager)
        };
        let manifest = Patch::Apply(manifest);
        call(secrets.patch_metadata(registry.pull_secret(), &parameters, &manifest)).await
    };
    let manifest = |keys: Keys| credential.pull_secret(namespace, registry, domains, keys, chosen);
    let apply = async |keys: Keys, is_forced: bool| {
        let manager = match keys {
            Keys::Hosts => MANAGER,
            Keys::Every => EVERY_KEY_MANAGER,
        };
        apply_as(manager, manifest(keys), is_forced).await
    };
    let written = match apply(keys, keys == Keys::Every).await {
        Err(error) => match conflicting(&error) {
            Some(Conflict::EveryKey) => apply(Keys::Every, true).await,
            Some(Conflict::Foreign) => apply(keys, true).await,
            None => Err(error),
        },
        written => written,
    };
    let mut written = written.map_err(|error| WriteError::of(&error))?;
    let metadata = without_data(manifest(Keys::Hosts));
    if has_leftovers(&written.metadata, &metadata) {
        let applied = apply_as(MANAGER, metadata, true).await;
        written = applied.map_err(|error| WriteError::of(&error))?;
    }
    Ok(Version::parse(written.resource_version().as_deref()))
}

/// A pull secret's manifest without what it is for.
fn without_data(mut manifest: Value) -> Value {
    if let Some(manifest) = manifest.as_object_mut() {
        manifest.remove("data");
    }
    manifest
}

/// Whether a Secret has labels or annotations that [`MANAGER`] once applied and that are not in this manifest. A write
/// as that manager removes them. One as [`EVERY_KEY_MANAGER`] does not: what two managers applied goes when both have
/// left it out.
fn has_leftovers(written: &ObjectMeta, manifest: &Value) -> bool {
    let entries = written.managed_fields.iter().flatten();
    let of_manager = entries.filter(|entry| {
        entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Apply")
    });
    of_manager
        .filter_map(|entry| entry.fields_v1.as_ref())
        .any(|fields| {
            ["labels", "annotations"].into_iter().any(|map| {
                let applied = fields
                    .0
                    .pointer(&format!("/f:metadata/f:{map}"))
                    .and_then(Value::as_object);
                let meant = manifest
                    .pointer(&format!("/metadata/{map}"))
                    .and_then(Value::as_object);
                let meant: BTreeSet<&str> =
                    meant.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
                let keys = applied
                    .into_iter()
                    .flatten()
                    .filter_map(|(key, _)| key.strip_prefix("f:"));
                keys.into_iter().any(|key| !meant.contains(key))
            })
        })
}

/// Whose fields a write would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conflict {
    /// Those of a pull secret with every key.
    EveryKey,
    /// Somebody's who edited it.
    Foreign,
}

/// The conflict that a write which was not forced ran into.
fn conflicting(error: &CallError) -> Option<Conflict> {
    let status = error.status().filter(|status| status.code == 409)?;
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let mut managers = causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| &cause.message)
        .peekable();
    managers.peek()?;
    let quoted = format!("\"{EVERY_KEY_MANAGER}\"");
    Some(if managers.any(|message| message.contains(&quoted)) {
        Conflict::EveryKey
    } else {
        Conflict::Foreign
    })
}

/// Deletes a Secret that was created for a registry; one that is not there is as good.
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn error(code: u16, causes: &Value) -> CallError {
        let status = json!({
            "status": "Failure", "message": "Apply failed with 1 conflict", "reason": "Conflict", "code": code,
            "details": {"name": "pullpass-mine", "kind": "secrets", "causes": causes},
        });
        kube::Error::Api(serde_json::from_value(status).unwrap()).into()
    }

    #[test]
    fn only_own_metadata_that_is_not_meant_any_more_is_left_over() {
        let manifest = json!({"metadata": {"labels": {"a": "1"}, "annotations": {"b": "2"}}});
        let written = |manager: &str, operation: &str, fields: Value| -> ObjectMeta {
            let entry =
                json!({"manager": manager, "operation": operation, "fieldsV1": {"f:metadata": fields}});
            serde_json::from_value(json!({"managedFields": [entry]})).unwrap()
        };
        let meant = json!({"f:labels": {"f:a": {}}, "f:annotations": {"f:b": {}}});
        let label = json!({"f:labels": {"f:a": {}, "f:c": {}}});
        let annotation = json!({"f:annotations": {".": {}, "f:c": {}}});
        for (manager, operation, fields, expected) in [
            (MANAGER, "Apply", &meant, false),
            (MANAGER, "Apply", &label, true),
            (MANAGER, "Apply", &annotation, true),
            (MANAGER, "Update", &label, false),
            (EVERY_KEY_MANAGER, "Apply", &label, false),
            ("somebody", "Apply", &label, false),
        ] {
            let written = written(manager, operation, fields.clone());
            assert_eq!(
                has_leftovers(&written, &manifest),
                expected,
                "{manager} {operation} {fields}"
            );
        }
        assert!(!has_leftovers(&ObjectMeta::default(), &manifest));
    }

    #[test]
    fn a_conflict_tells_whether_there_is_every_key() {
        let cause = |manager: &str| {
            json!({
                "reason": "FieldManagerConflict", "field": ".data..dockerconfigjson",
                "message": format!("conflict with \"{manager}\" using v1"),
            })
        };
        for (code, causes, expected) in [
            (409, json!([cause(EVERY_KEY_MANAGER)]), Some(Conflict::EveryKey)),
            (
                409,
                json!([cause("kubectl-edit"), cause(EVERY_KEY_MANAGER)]),
                Some(Conflict::EveryKey),
            ),
            (409, json!([cause("kubectl-edit")]), Some(Conflict::Foreign)),
            (409, json!([]), None),
            (422, json!([cause(EVERY_KEY_MANAGER)]), None),
        ] {
            assert_eq!(conflicting(&error(code, &causes)), expected, "{causes}");
        }
    }
}

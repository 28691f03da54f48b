//! What the command line writes into a cluster, and how it knows its own again.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::CliError;
use crate::cli::flags::dry_run::DryRun;
use crate::cli::flags::kubeconfig::{Role, refusal_without};
use crate::kubernetes::call::call;

/// The field manager of what the command line writes.
pub(super) const FIELD_MANAGER: &str = "pullpass-cli";

/// Whether the command line wrote an object.
pub(super) fn is_ours(metadata: &ObjectMeta) -> bool {
    let mut entries = metadata.managed_fields.iter().flatten();
    entries.any(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER))
}

/// What became of an object, in kubectl's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectChange {
    Created,
    Configured,
    Unchanged,
    Deleted,
}

impl ObjectChange {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

/// Deletes this object, and not one that has its name by now, or has the API server check that. One that is gone is as good;
/// for a right that is missing, the error names this role.
pub(super) async fn delete<K>(
    api: &Api<K>,
    object: &K,
    role: Role<'_>,
    dry_run: DryRun,
) -> Result<(), CliError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let parameters = DeleteParams {
        dry_run: dry_run.is_of_server(),
        preconditions: Some(Preconditions {
            uid: object.meta().uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match call(api.delete(&object.name_any(), &parameters)).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(404) => Ok(()),
        Err(error) => Err(refusal_without(
            role,
            &format!("the {} can't be deleted", K::kind(&())),
            &error,
        )),
    }
}

/// What is done about an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Write {
    Create,
    /// A JSON merge patch (RFC 7396).
    Patch(Value),
    Nothing,
}

/// The merge patch that makes one value of another; none if they are the same.
pub(super) fn merge_patch(before: &Value, after: &Value) -> Option<Value> {
    if before == after {
        return None;
    }
    let (Some(old), Some(new)) = (before.as_object(), after.as_object()) else {
        return Some(after.clone());
    };
    let gone = old
        .keys()
        .filter(|key| !new.contains_key(*key))
        .map(|key| (key.clone(), Value::Null));
    let changed = new.iter().filter_map(|(key, value)| {
        let patch = match old.get(key) {
            Some(old) => merge_patch(old, value)?,
            None => value.clone(),
        };
        Some((key.clone(), patch))
    });
    Some(Value::Object(gone.chain(changed).collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_command_line_knows_its_own_by_the_field_manager() {
        let managed_by = |manager: &str| -> ObjectMeta {
            serde_json::from_value(json!({"managedFields": [{"manager": "other"}, {"manager": manager}]}))
                .unwrap()
        };
        assert!(is_ours(&managed_by(FIELD_MANAGER)));
        assert!(!is_ours(&managed_by("pullpass")) && !is_ours(&ObjectMeta::default()));
    }
}

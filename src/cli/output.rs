//! What commands write to standard output.

use std::io::{self, Write};

use clap::ValueEnum;
use kube::Resource;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::acr_registry::AcrRegistryStatus;
use crate::cli::CliError;
use crate::view::manifests::kind_and_name;

/// The kind of the custom resource, as `kubectl get --output name` has it.
pub(super) const KIND: &str = "acrregistry.pullpass.dev";
/// That of a namespace's own.
pub(super) const BINDING_KIND: &str = "acrpullbinding.pullpass.dev";

/// Writes to standard output.
pub(super) fn print(output: impl AsRef<[u8]>) -> Result<(), CliError> {
    io::stdout().write_all(output.as_ref()).map_err(CliError::Output)
}

/// Says what was done: on standard output, or beside it where objects are printed there.
pub(super) fn say(text: &str, output: Option<ObjectOutput>) -> Result<(), CliError> {
    if output.is_none() {
        return print(text);
    }
    eprint!("{text}");
    Ok(())
}

/// How objects are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ObjectOutput {
    /// As YAML documents
    Yaml,
    /// As JSON
    Json,
    /// As kind/name, one on each line
    Name,
}

/// Objects in one of the formats.
pub(super) fn render(objects: &[Value], output: ObjectOutput) -> Result<String, CliError> {
    match output {
        ObjectOutput::Yaml => {
            let documents: Result<Vec<_>, _> = objects.iter().map(serde_saphyr::to_string).collect();
            Ok(documents.map_err(unwritable)?.join("---\n"))
        }
        ObjectOutput::Json => {
            let text = match objects {
                [object] => serde_json::to_string_pretty(object),
                _ => {
                    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
                    serde_json::to_string_pretty(&list)
                }
            };
            Ok(text.map_err(unwritable)? + "\n")
        }
        ObjectOutput::Name => Ok(objects.iter().map(|object| named(object) + "\n").collect()),
    }
}

/// An object as the server has it.
pub(super) fn live<K>(object: &K, output: ObjectOutput) -> Result<String, CliError>
where
    K: Resource + Clone + Serialize,
{
    let mut object = object.clone();
    object.meta_mut().managed_fields = None;
    let object = serde_json::to_value(&object).map_err(unwritable)?;
    render(&[object], output)
}

/// When the credential in a status expires.
pub(super) fn expiry(status: Option<&AcrRegistryStatus>) -> String {
    let credential = status.and_then(|status| status.credential.as_ref());
    match credential.and_then(|credential| credential.expires_at.as_ref()) {
        Some(at) => format!("its credential expires at {at}, and is refreshed before"),
        None => "its credential has no expiry".to_owned(),
    }
}

/// An object as kubectl names it: its kind with the group, and its name.
pub(super) fn named(object: &Value) -> String {
    let (kind, name) = kind_and_name(object);
    let version = object.get("apiVersion").and_then(Value::as_str);
    let group = version.and_then(|version| version.split_once('/'));
    let group = group.map(|(group, _)| format!(".{group}")).unwrap_or_default();
    format!("{}{group}/{name}", kind.to_ascii_lowercase())
}

/// An object can't be printed.
pub(super) fn unwritable(error: impl std::fmt::Display) -> CliError {
    CliError::Failed(format!("the object can't be printed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_as_kubectl_names_them() {
        for (version, kind, expected) in [
            ("v1", "ServiceAccount", "serviceaccount/a"),
            (
                "pullpass.dev/v1alpha1",
                "AcrRegistry",
                "acrregistry.pullpass.dev/a",
            ),
            (
                "rbac.authorization.k8s.io/v1",
                "RoleBinding",
                "rolebinding.rbac.authorization.k8s.io/a",
            ),
        ] {
            let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}});
            assert_eq!(named(&object), expected);
        }
        assert_eq!(named(&json!({})), "/");
    }
}

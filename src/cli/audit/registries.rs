//! The attached registries as `pullpass audit` reads them: what coverage goes by, and what their statuses say.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, Client, ResourceExt};

use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::acr_registry::{AcrRegistry, AcrRegistryStatus};
use crate::api::condition::READY;
use crate::api::names::binding_key;
use crate::cli::CliError;
use crate::cli::flags::kubeconfig::unlisted;
use crate::kubernetes::pages::pages;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::registry::cloud::CloudName;

/// What an AcrRegistry or an AcrPullBinding says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::cli) struct RegistryRow {
    /// The AcrRegistry's name; of an AcrPullBinding `NAMESPACE/NAME`.
    pub(super) name: String,
    /// Its host; absent if neither the spec nor the status names it.
    pub(super) login_server: Option<String>,
    /// Why its spec can't be used.
    pub(super) invalid: Option<String>,
    pub(super) conditions: Vec<Condition>,
    /// Whether it needs no credential.
    pub(super) is_anonymous: bool,
    /// Whether it is in another cloud than Azure's own.
    pub(super) is_in_other_cloud: bool,
    /// When the credential in use expires; absent if it does not say, as of a password.
    pub(super) expires_at: Option<Timestamp>,
    /// How many namespaces have the pull secret.
    pub(super) served: i64,
    /// In how many it could not be written.
    pub(super) failed: i64,
}

/// What is told about them, by their names.
pub(super) type Told = BTreeMap<String, String>;

impl RegistryRow {
    fn of(object: &AcrRegistry, parsed: Result<&AttachedRegistry, String>) -> Self {
        Self {
            is_anonymous: object.spec.identity.anonymous.is_some(),
            is_in_other_cloud: object.spec.cloud == Some(CloudName::Other),
            ..Self::of_status(object.name_any(), object.status.clone(), parsed)
        }
    }

    pub(super) fn of_binding(object: &AcrPullBinding, parsed: Result<&AttachedRegistry, String>) -> Self {
        let name = binding_key(&object.namespace().unwrap_or_default(), &object.name_any());
        Self {
            is_in_other_cloud: object.spec.cloud == Some(CloudName::Other),
            ..Self::of_status(name, object.status.clone(), parsed)
        }
    }

    fn of_status(
        name: String,
        status: Option<AcrRegistryStatus>,
        parsed: Result<&AttachedRegistry, String>,
    ) -> Self {
        let status = status.unwrap_or_default();
        let credential = status.credential.unwrap_or_default();
        let namespaces = status.namespaces.unwrap_or_default();
        let login_server = parsed.as_ref().ok().map(|known| known.login_server().to_string());
        Self {
            name,
            login_server: login_server.or(status.login_server),
            invalid: parsed.err(),
            conditions: status.conditions,
            is_anonymous: false,
            is_in_other_cloud: false,
            expires_at: credential.expires_at.and_then(|text| text.parse().ok()),
            served: namespaces.served,
            failed: namespaces.failed,
        }
    }

    /// The condition of that type.
    pub(super) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == kind)
    }

    /// The condition of that type, where it is there and not met.
    pub(super) fn unmet(&self, kind: &str) -> Option<&Condition> {
        self.condition(kind)
            .filter(|condition| condition.status != "True")
    }
}

/// What rows say of a condition that is not met.
pub(super) fn unmet(rows: &[RegistryRow], kind: &str) -> Told {
    let unmet = rows.iter().filter_map(|row| Some((row, row.unmet(kind)?)));
    unmet
        .map(|(row, condition)| {
            let why = format!("{}: {}", condition.reason, condition.message);
            (row.name.clone(), why)
        })
        .collect()
}

/// The names of those in another cloud that are taken as attached although no pullpass has said whether its settings allow them.
pub(super) fn unjudged(rows: &[RegistryRow]) -> impl Iterator<Item = &str> {
    let is_unjudged =
        |row: &&RegistryRow| row.is_in_other_cloud && row.invalid.is_none() && row.condition(READY).is_none();
    rows.iter().filter(is_unjudged).map(|row| row.name.as_str())
}

/// Reads them all.
pub(in crate::cli) async fn read(
    client: &Client,
) -> Result<(AttachedRegistries, Vec<RegistryRow>), CliError> {
    let api: Api<AcrRegistry> = Api::all(client.clone());
    let mut pages = std::pin::pin!(pages(api));
    let (mut registries, mut rows) = (Vec::new(), Vec::new());
    while let Some(page) = pages.try_next().await.map_err(|error| unlisted(&error))? {
        for object in page {
            let parsed = AttachedRegistry::parse(&object);
            rows.push(RegistryRow::of(
                &object,
                parsed.as_ref().map_err(ToString::to_string),
            ));
            registries.extend(parsed);
        }
    }
    Ok((registries.into_iter().collect(), rows))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn another_clouds_registry_is_unjudged_without_a_status() {
        let row = |name: &str, spec: serde_json::Value, status: serde_json::Value| {
            let object: AcrRegistry = serde_json::from_value(json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
                "spec": spec, "status": status,
            }))
            .unwrap();
            let parsed = AttachedRegistry::parse(&object);
            RegistryRow::of(&object, parsed.as_ref().map_err(ToString::to_string))
        };
        let identity = json!({"managedIdentity": {}});
        let other =
            json!({"cloud": "Other", "loginServer": "myregistry.azurecr.contoso.com", "identity": identity});
        let refused = json!({"conditions": [{
            "type": "Ready", "status": "False", "reason": "InvalidSpec", "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]});
        let rows = [
            row("new", other.clone(), json!({})),
            row("refused", other, refused),
            row(
                "azures",
                json!({"loginServer": "myregistry.azurecr.io", "identity": identity}),
                json!({}),
            ),
            row(
                "broken",
                json!({"cloud": "Other", "identity": identity}),
                json!({}),
            ),
        ];
        assert_eq!(unjudged(&rows).collect::<Vec<_>>(), ["new"]);
        assert!(unmet(&rows, READY).contains_key("refused"));
    }
}

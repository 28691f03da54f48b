//! The attached registries as `pullpass audit` reads them: what coverage goes by, and what their statuses say.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, Client, ResourceExt};

use crate::api::acr_registry::AcrRegistry;
use crate::cli::CliError;
use crate::cli::flags::kubeconfig::unlisted;
use crate::kubernetes::pages::pages;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};

/// What an AcrRegistry says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct RegistryRow {
    pub(super) name: String,
    /// Its host; absent where neither the spec nor the status names it.
    pub(super) login_server: Option<String>,
    /// Why its spec can't be used.
    pub(super) invalid: Option<String>,
    pub(super) conditions: Vec<Condition>,
    /// Whether it needs no credential.
    pub(super) is_anonymous: bool,
    /// When the credential in use expires; absent where it does not say, as of a password.
    pub(super) expires_at: Option<Timestamp>,
    /// How many namespaces have the pull secret.
    pub(super) served: i64,
    /// In how many it could not be written.
    pub(super) failed: i64,
}

/// What is told of `AcrRegistries`, by their names.
pub(super) type Told = BTreeMap<String, String>;

impl RegistryRow {
    fn of(object: &AcrRegistry, parsed: Result<&AttachedRegistry, String>) -> Self {
        let status = object.status.clone().unwrap_or_default();
        let credential = status.credential.unwrap_or_default();
        let namespaces = status.namespaces.unwrap_or_default();
        let login_server = parsed.as_ref().ok().map(|known| known.login_server().to_string());
        Self {
            name: object.name_any(),
            login_server: login_server.or(status.login_server),
            invalid: parsed.err(),
            conditions: status.conditions,
            is_anonymous: object.spec.identity.anonymous.is_some(),
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

/// Reads them all.
pub(super) async fn read(client: &Client) -> Result<(AttachedRegistries, Vec<RegistryRow>), CliError> {
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

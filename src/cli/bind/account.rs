//! The ServiceAccount that is pulled as: flags and what is there already go in, an object or a patch comes out.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use serde_json::json;
use thiserror::Error;

use crate::api::names::{CLIENT_ID_ANNOTATION, TENANT_ID_ANNOTATION};
use crate::cli::written::Write;

/// Why nothing is pulled as it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum AccountError {
    #[error(
        "there is no ServiceAccount {name} in namespace {namespace}: add --create --client-id CLIENT-ID; `az identity show \
         --name IDENTITY --resource-group GROUP --query clientId` prints the ID"
    )]
    Missing { namespace: String, name: String },
    #[error(
        "ServiceAccount {name} in namespace {namespace} does not name its identity: add --create --client-id \
         CLIENT-ID; `az identity show --name IDENTITY --resource-group GROUP --query clientId` prints the ID"
    )]
    NoIdentity { namespace: String, name: String },
    #[error(
        "ServiceAccount {name} in namespace {namespace} is another identity: its annotation {key} is {known}. Choose another \
         ServiceAccount, leave --create out, or change it: `kubectl annotate serviceaccount {name} --namespace {namespace} \
         --overwrite {key}={wanted}`"
    )]
    OtherIdentity {
        namespace: String,
        name: String,
        key: &'static str,
        known: String,
        wanted: String,
    },
}

/// Which identity a ServiceAccount is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AccountIds {
    pub(super) client_id: String,
    pub(super) tenant_id: Option<String>,
}

impl AccountIds {
    fn annotations(&self) -> BTreeMap<&'static str, &str> {
        let tenant = self.tenant_id.as_deref();
        let ids = [
            (CLIENT_ID_ANNOTATION, Some(self.client_id.as_str())),
            (TENANT_ID_ANNOTATION, tenant),
        ];
        ids.into_iter().filter_map(|(key, id)| Some((key, id?))).collect()
    }
}

/// A ServiceAccount that says which identity it is.
pub(super) fn manifest(namespace: &str, name: &str, ids: &AccountIds) -> ServiceAccount {
    let annotations = ids.annotations().into_iter();
    let annotations = annotations.map(|(key, id)| (key.to_owned(), id.to_owned()));
    ServiceAccount {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            annotations: Some(annotations.collect()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    }
}

/// What is to be done about the ServiceAccount, which may be one that others use: what it says of its identity stays.
pub(super) fn decide(
    namespace: &str,
    name: &str,
    ids: Option<&AccountIds>,
    existing: Option<&ServiceAccount>,
) -> Result<Write, AccountError> {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    let (existing, ids) = match (existing, ids) {
        (None, None) => return Err(AccountError::Missing { namespace, name }),
        (None, Some(_)) => return Ok(Write::Create),
        (Some(existing), None) if existing.annotations().contains_key(CLIENT_ID_ANNOTATION) => {
            return Ok(Write::Nothing);
        }
        (Some(_), None) => return Err(AccountError::NoIdentity { namespace, name }),
        (Some(existing), Some(ids)) => (existing, ids),
    };
    let known = existing.annotations();
    let mut missing = BTreeMap::new();
    for (key, wanted) in ids.annotations() {
        match known.get(key) {
            Some(known) if known == wanted => {}
            Some(known) => {
                return Err(AccountError::OtherIdentity {
                    namespace,
                    name,
                    key,
                    known: known.clone(),
                    wanted: wanted.to_owned(),
                });
            }
            None => {
                missing.insert(key, wanted);
            }
        }
    }
    Ok(if missing.is_empty() {
        Write::Nothing
    } else {
        Write::Patch(json!({"metadata": {"annotations": missing}}))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_service_account_keeps_the_identity_that_it_has() {
        let ids = |tenant: Option<&str>| AccountIds {
            client_id: "C".to_owned(),
            tenant_id: tenant.map(str::to_owned),
        };
        let with = |annotations: Value| -> ServiceAccount {
            serde_json::from_value(json!({"metadata": {"name": "puller", "annotations": annotations}}))
                .unwrap()
        };
        let decided = |ids: Option<AccountIds>, found: Option<ServiceAccount>| {
            decide("shop", "puller", ids.as_ref(), found.as_ref())
        };
        let (client, tenant) = (CLIENT_ID_ANNOTATION, TENANT_ID_ANNOTATION);
        assert_eq!(decided(Some(ids(None)), None), Ok(Write::Create));
        assert!(matches!(decided(None, None), Err(AccountError::Missing { .. })));
        assert!(matches!(
            decided(None, Some(with(json!({})))),
            Err(AccountError::NoIdentity { .. })
        ));
        let named = || Some(with(json!({client: "C"})));
        assert_eq!(decided(None, named()), Ok(Write::Nothing));
        assert_eq!(decided(Some(ids(None)), named()), Ok(Write::Nothing));
        let patch = |annotations: Value| Ok(Write::Patch(json!({"metadata": {"annotations": annotations}})));
        assert_eq!(
            decided(Some(ids(Some("T"))), named()),
            patch(json!({tenant: "T"}))
        );
        let unnamed = Some(with(json!({"other": "x"})));
        assert_eq!(
            decided(Some(ids(Some("T"))), unnamed),
            patch(json!({client: "C", tenant: "T"}))
        );
        let other = decided(Some(ids(None)), Some(with(json!({client: "D"}))));
        let said = other.unwrap_err().to_string();
        assert!(
            said.contains("is D") && said.contains("--overwrite azure.workload.identity/client-id=C"),
            "{said}"
        );
    }
}

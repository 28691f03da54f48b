//! Reads which admission policies of pullpass the API server has.

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};

use crate::api::acr_index::AcrIndex;
use crate::api::names::INDEX;
use crate::kubernetes::call::{CallError, call};
use crate::policy::rules::{Action, Policy};
use crate::policy::scope::Scope;
use crate::policy::server_policies::{ServerPolicies, disagreements};

const GROUP: &str = "admissionregistration.k8s.io";
/// The binding of the component admission-policy.
const INJECTING: (&str, &str) = ("MutatingAdmissionPolicyBinding", "pullpass");
/// The binding of the component enforce.
const ENFORCING: (&str, &str) = ("ValidatingAdmissionPolicyBinding", "pullpass-enforce");

/// Reads them with the rights of the user; what these do not reach is not known.
pub(in crate::cli) async fn read(client: &Client, webhook: Option<&Scope>) -> ServerPolicies {
    let mut policies = ServerPolicies {
        inject: is_there(client, INJECTING).await,
        enforce: is_there(client, ENFORCING).await,
        disagreements: Vec::new(),
    };
    let are_there = policies.are_there();
    let indexes: Api<AcrIndex> = Api::all(client.clone());
    policies.disagreements = match call(indexes.get_opt(INDEX)).await {
        Ok(index) => disagreements(are_there, index.map(|index| index.spec).as_ref(), webhook),
        Err(error) if are_there => vec![format!("what policies decide by can't be read: {error}")],
        // An older pullpass has none, and the rights of the user may not reach it.
        Err(_) => Vec::new(),
    };
    policies
}

/// What pullpass is told to do about images that no attached registry is there for, by the AcrIndex; its defaults where that
/// can't be read.
pub(super) async fn rules(client: &Client) -> Policy {
    let indexes: Api<AcrIndex> = Api::all(client.clone());
    let index = call(indexes.get_opt(INDEX)).await.ok().flatten();
    let named = |name: &str| Action::ALL.into_iter().find(|action| action.as_str() == name);
    let default = Policy::default();
    index.map_or(default, |index| Policy {
        unattached: named(&index.spec.unattached).unwrap_or(default.unattached),
        forbidden: named(&index.spec.forbidden).unwrap_or(default.forbidden),
    })
}

/// Whether a binding is there; absent where that can't be read.
async fn is_there(client: &Client, (kind, name): (&str, &str)) -> Option<bool> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", kind));
    let bindings: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    match call(bindings.get_metadata_opt(name)).await {
        Ok(binding) => Some(binding.is_some()),
        // The API server may not serve the kind.
        Err(error) => is_unserved(&error).then_some(false),
    }
}

fn is_unserved(error: &CallError) -> bool {
    match error {
        CallError::Kube(error) => matches!(&**error, kube::Error::Api(status) if status.code == 404),
        CallError::TimedOut(_) => false,
    }
}

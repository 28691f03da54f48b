//! Reads which admission policies of pullpass the API server has.

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;

use crate::api::acr_index::AcrIndex;
use crate::api::names::INDEX;
use crate::kubernetes::call::{CallError, call};
use crate::policy::rules::{Action, Policy};
use crate::policy::scope::Scope;
use crate::policy::server_policies::{ServerPolicies, disagreements};

const GROUP: &str = "admissionregistration.k8s.io";
/// The kind and the name of the policy of the component admission-policy. Its binding has the same name.
const INJECTING: (&str, &str) = ("MutatingAdmissionPolicy", "pullpass");
/// The same of the component enforce.
const ENFORCING: (&str, &str) = ("ValidatingAdmissionPolicy", "pullpass-enforce");

/// Reads them with the rights of the user; what these do not reach is not known.
pub(in crate::cli) async fn read(client: &Client, webhook: Option<&Scope>) -> ServerPolicies {
    let mut policies = ServerPolicies {
        inject: is_in_force(client, INJECTING).await,
        enforce: is_in_force(client, ENFORCING).await,
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
pub(in crate::cli) async fn rules(client: &Client) -> Policy {
    let indexes: Api<AcrIndex> = Api::all(client.clone());
    let index = call(indexes.get_opt(INDEX)).await.ok().flatten();
    let named = |name: &str| Action::ALL.into_iter().find(|action| action.as_str() == name);
    let default = Policy::default();
    index.map_or(default, |index| Policy {
        unattached: named(&index.spec.unattached).unwrap_or(default.unattached),
        forbidden: named(&index.spec.forbidden).unwrap_or(default.forbidden),
    })
}

/// Whether a policy acts: it is there, and so is a binding of its name that is for it and, of a validating policy, refuses.
/// Absent where the binding can't be read; where the policy alone can't, the binding speaks for it.
async fn is_in_force(client: &Client, (kind, name): (&str, &str)) -> Option<bool> {
    let binding = read_object(client, &format!("{kind}Binding"), name).await?;
    if !binding.is_some_and(|binding| binds(&binding, name)) {
        return Some(false);
    }
    let policy = read_object(client, kind, name).await;
    Some(policy.is_none_or(|policy| policy.is_some()))
}

/// Whether a binding has the API server act by this policy. A mutating policy's binding names no actions.
fn binds(binding: &Value, policy: &str) -> bool {
    let actions = binding
        .pointer("/spec/validationActions")
        .and_then(Value::as_array);
    let refuses = actions.is_none_or(|actions| actions.iter().any(|action| action == "Deny"));
    binding.pointer("/spec/policyName").and_then(Value::as_str) == Some(policy) && refuses
}

/// An object, if it is there; nothing where that can't be read.
async fn read_object(client: &Client, kind: &str, name: &str) -> Option<Option<Value>> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", kind));
    let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    match call(objects.get_opt(name)).await {
        Ok(object) => Some(object.map(|object| object.data)),
        // The API server may not serve the kind.
        Err(error) => is_unserved(&error).then_some(None),
    }
}

fn is_unserved(error: &CallError) -> bool {
    match error {
        CallError::Kube(error) => matches!(&**error, kube::Error::Api(status) if status.code == 404),
        CallError::TimedOut(_) => false,
    }
}

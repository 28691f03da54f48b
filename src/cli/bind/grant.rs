//! What the owner of a namespace grants pullpass: tokens of one ServiceAccount, by a Role and a RoleBinding there.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::names::{MANAGER, token_grant};
use crate::cli::CliError;
use crate::cli::flags::dry_run::DryRun;
use crate::cli::flags::kubeconfig::{Role as NeededRole, refusal_without};
use crate::cli::written::{FIELD_MANAGER, ObjectChange, is_ours};
use crate::kubernetes::call::{CallError, call};

const RBAC: &str = "rbac.authorization.k8s.io";

/// The grant of a ServiceAccount's tokens.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Grant<'a> {
    pub(in crate::cli) namespace: &'a str,
    pub(in crate::cli) account: &'a str,
}

impl Grant<'_> {
    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(token_grant(self.account)),
            namespace: Some(self.namespace.to_owned()),
            ..ObjectMeta::default()
        }
    }

    /// The right to ask for the tokens.
    pub(super) fn role(&self) -> Role {
        Role {
            metadata: self.metadata(),
            rules: Some(vec![PolicyRule {
                api_groups: Some(vec![String::new()]),
                resources: Some(vec!["serviceaccounts/token".to_owned()]),
                resource_names: Some(vec![self.account.to_owned()]),
                verbs: vec!["create".to_owned()],
                ..PolicyRule::default()
            }]),
        }
    }

    /// That pullpass, which runs in this namespace, has it.
    pub(super) fn role_binding(&self, own_namespace: &str) -> RoleBinding {
        RoleBinding {
            metadata: self.metadata(),
            role_ref: RoleRef {
                api_group: RBAC.to_owned(),
                kind: "Role".to_owned(),
                name: token_grant(self.account),
            },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".to_owned(),
                name: MANAGER.to_owned(),
                namespace: Some(own_namespace.to_owned()),
                ..Subject::default()
            }]),
        }
    }

    /// Writes what is missing.
    pub(super) async fn write(
        &self,
        client: &Client,
        own_namespace: &str,
        dry_run: DryRun,
    ) -> Result<[(&'static str, ObjectChange); 2], CliError> {
        let roles = Api::namespaced(client.clone(), self.namespace);
        let role = self.role();
        let role_written = self
            .ensure(&roles, &role, dry_run, |found: &Role| found.rules == role.rules)
            .await?;
        let bindings = Api::namespaced(client.clone(), self.namespace);
        let binding = self.role_binding(own_namespace);
        let binding_written = self
            .ensure(&bindings, &binding, dry_run, |found: &RoleBinding| {
                let subjects = || found.subjects.iter().flatten();
                let mut wanted = binding.subjects.iter().flatten();
                found.role_ref == binding.role_ref
                    && wanted.all(|wanted| subjects().any(|subject| subject == wanted))
            })
            .await?;
        Ok([("role", role_written), ("rolebinding", binding_written)])
    }

    async fn ensure<K>(
        &self,
        api: &Api<K>,
        wanted: &K,
        dry_run: DryRun,
        grants: impl Fn(&K) -> bool,
    ) -> Result<ObjectChange, CliError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let name = token_grant(self.account);
        let kind = K::kind(&());
        let refused = |verb: &str, error: &CallError| {
            self.refused(&format!("the {kind} {name} can't be {verb}"), error)
        };
        let found = call(api.get_opt(&name))
            .await
            .map_err(|error| refused("read", &error))?;
        match found {
            None => {
                let parameters = PostParams {
                    dry_run: dry_run.is_of_server(),
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                };
                let created = call(api.create(&parameters, wanted)).await;
                created.map_err(|error| refused("created", &error))?;
                Ok(ObjectChange::Created)
            }
            Some(found) if grants(&found) => Ok(ObjectChange::Unchanged),
            Some(found) if is_ours(found.meta()) => {
                let parameters = PatchParams {
                    dry_run: dry_run.is_of_server(),
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                let patched = call(api.patch(&name, &parameters, &Patch::Merge(wanted))).await;
                patched.map_err(|error| refused("changed", &error))?;
                Ok(ObjectChange::Configured)
            }
            Some(_) => {
                let Self { namespace, account } = self;
                Err(CliError::Failed(format!(
                    "{kind} {name} in namespace {namespace} is there, was not written by pullpass bind, and does not grant \
                     pullpass tokens of ServiceAccount {account}: correct it as `pullpass bind --dry-run --output yaml` \
                     prints it, or delete it with `kubectl delete {} {name} --namespace {namespace}`",
                    kind.to_ascii_lowercase()
                )))
            }
        }
    }

    /// Takes back what binding granted, unless an AcrPullBinding of the namespace other than this one needs it; gives what was
    /// deleted, or would be.
    pub(in crate::cli) async fn withdraw(
        &self,
        client: &Client,
        but: &str,
        dry_run: DryRun,
    ) -> Result<Vec<&'static str>, CliError> {
        if self.is_needed(client, but).await? {
            return Ok(Vec::new());
        }
        let roles: Api<Role> = Api::namespaced(client.clone(), self.namespace);
        let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), self.namespace);
        let mut deleted = Vec::new();
        if self.delete(&bindings, dry_run).await? {
            deleted.push("rolebinding");
        }
        if self.delete(&roles, dry_run).await? {
            deleted.push("role");
        }
        Ok(deleted)
    }

    /// Whether an AcrPullBinding other than this one names the ServiceAccount.
    async fn is_needed(&self, client: &Client, but: &str) -> Result<bool, CliError> {
        let bindings: Api<AcrPullBinding> = Api::namespaced(client.clone(), self.namespace);
        let listed = call(bindings.list(&ListParams::default()))
            .await
            .map_err(|error| unlisted(self.namespace, &error))?;
        let mut listed = listed.items.iter();
        Ok(listed
            .any(|binding| binding.name_any() != but && binding.spec.service_account_name == self.account))
    }

    /// Deletes what binding wrote; says whether it was there.
    async fn delete<K>(&self, api: &Api<K>, dry_run: DryRun) -> Result<bool, CliError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let name = token_grant(self.account);
        let kind = K::kind(&());
        let refused = |error: &CallError| self.refused(&format!("the {kind} {name} can't be deleted"), error);
        let found = call(api.get_metadata_opt(&name))
            .await
            .map_err(|error| refused(&error))?;
        if !found.is_some_and(|found| is_ours(&found.metadata)) {
            return Ok(false);
        }
        if dry_run == DryRun::Client {
            return Ok(true);
        }
        let parameters = DeleteParams {
            dry_run: dry_run.is_of_server(),
            ..DeleteParams::default()
        };
        match call(api.delete(&name, &parameters)).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(404) => Ok(false),
            Err(error) => Err(refused(&error)),
        }
    }

    fn refused(&self, what: &str, error: &CallError) -> CliError {
        refusal_without(NeededRole::Owner(self.namespace), what, error)
    }
}

/// Why the bindings of a namespace can't be listed.
pub(in crate::cli) fn unlisted(namespace: &str, error: &CallError) -> CliError {
    match error.code() {
        // Of a kind that it does not know, the API server says 404.
        Some(404) => not_installed(),
        _ => refusal_without(
            NeededRole::Bind(namespace),
            "AcrPullBindings can't be listed",
            error,
        ),
    }
}

/// The cluster does not know the kind.
pub(super) fn not_installed() -> CliError {
    CliError::Failed(
        "the cluster has no AcrPullBindings: install pullpass with the component bindings (of the chart: bindings.enabled)"
            .to_owned(),
    )
}

/// The name of a Role or a RoleBinding as kubectl has it.
pub(in crate::cli) fn named(kind: &str, account: &str) -> String {
    format!("{kind}.{RBAC}/{}", token_grant(account))
}

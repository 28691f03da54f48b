//! What the owner of a namespace grants pullpass: tokens of one ServiceAccount, by a Role and a RoleBinding there.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
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
        let role = self.ensure(&roles, self.role(), dry_run).await?;
        let bindings = Api::namespaced(client.clone(), self.namespace);
        let binding = self
            .ensure(&bindings, self.role_binding(own_namespace), dry_run)
            .await?;
        Ok([("role", role), ("rolebinding", binding)])
    }

    async fn ensure<K: Part>(
        &self,
        api: &Api<K>,
        mut wanted: K,
        dry_run: DryRun,
    ) -> Result<ObjectChange, CliError> {
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
                let created = call(api.create(&parameters, &wanted)).await;
                created.map_err(|error| refused("created", &error))?;
                Ok(ObjectChange::Created)
            }
            Some(found) if found.grants(&wanted) => Ok(ObjectChange::Unchanged),
            Some(found) if is_ours(found.meta()) && found.has_nothing_else_than(&wanted) => {
                // As it was looked at, and not as somebody changed it since.
                wanted.meta_mut().resource_version = found.resource_version();
                let parameters = PatchParams {
                    dry_run: dry_run.is_of_server(),
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                let patched = call(api.patch(&name, &parameters, &Patch::Merge(&wanted))).await;
                patched.map_err(|error| refused("changed", &error))?;
                Ok(ObjectChange::Configured)
            }
            Some(_) => {
                let Self { namespace, account } = self;
                Err(CliError::Failed(format!(
                    "{kind} {name} in namespace {namespace} exists, differs from what pullpass bind writes, \
                     and does not grant \
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
        own_namespace: &str,
        but: &str,
        dry_run: DryRun,
    ) -> Result<Vec<&'static str>, CliError> {
        if self.is_needed(client, but).await? {
            return Ok(Vec::new());
        }
        let roles = Api::namespaced(client.clone(), self.namespace);
        let bindings = Api::namespaced(client.clone(), self.namespace);
        let mut deleted = Vec::new();
        let binding = self.role_binding(own_namespace);
        if self.delete(&bindings, &binding, dry_run).await? {
            deleted.push("rolebinding");
        }
        if self.delete(&roles, &self.role(), dry_run).await? {
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

    /// Deletes what binding wrote; says whether it was there. What somebody else put in since is kept, and is told
    /// about.
    async fn delete<K: Part>(&self, api: &Api<K>, written: &K, dry_run: DryRun) -> Result<bool, CliError> {
        let name = token_grant(self.account);
        let kind = K::kind(&());
        let refused = |error: &CallError| self.refused(&format!("the {kind} {name} can't be deleted"), error);
        let found = call(api.get_opt(&name)).await.map_err(|error| refused(&error))?;
        let Some(found) = found else {
            return Ok(false);
        };
        if !is_ours(found.meta()) || !found.has_nothing_else_than(written) {
            if found.grants(written) {
                let Self { namespace, account } = self;
                let kind = kind.to_ascii_lowercase();
                eprintln!(
                    "pullpass: {} in namespace {namespace} is kept, because it differs from what pullpass \
                     bind writes: remove the tokens of ServiceAccount {account} from it with `kubectl edit \
                     {kind} {name} --namespace {namespace}`",
                    named(&kind, account),
                );
            }
            return Ok(false);
        }
        if dry_run == DryRun::Client {
            return Ok(true);
        }
        // As it was looked at, and not as somebody changed it since, or created it again.
        let parameters = DeleteParams {
            dry_run: dry_run.is_of_server(),
            preconditions: Some(Preconditions {
                uid: found.uid(),
                resource_version: found.resource_version(),
            }),
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

/// A Role or a RoleBinding of a grant.
trait Part:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize
{
    /// Whether it grants what the wanted one does.
    fn grants(&self, wanted: &Self) -> bool;
    /// Whether it holds nothing that binding does not write.
    fn has_nothing_else_than(&self, written: &Self) -> bool;
}

impl Part for Role {
    fn grants(&self, wanted: &Self) -> bool {
        let rules = || self.rules.iter().flatten();
        let mut wanted = wanted.rules.iter().flatten();
        wanted.all(|wanted| rules().any(|rule| rule == wanted))
    }

    fn has_nothing_else_than(&self, written: &Self) -> bool {
        let what = |rule: &PolicyRule| {
            (
                rule.api_groups.clone(),
                rule.resources.clone(),
                rule.resource_names.clone(),
            )
        };
        let mut rules = self.rules.iter().flatten();
        rules.all(|rule| {
            let mut written = written.rules.iter().flatten();
            written.any(|written| what(written) == what(rule))
        })
    }
}

impl Part for RoleBinding {
    fn grants(&self, wanted: &Self) -> bool {
        let subjects = || self.subjects.iter().flatten();
        let mut wanted_subjects = wanted.subjects.iter().flatten();
        self.role_ref == wanted.role_ref
            && wanted_subjects.all(|wanted| subjects().any(|subject| subject == wanted))
    }

    fn has_nothing_else_than(&self, written: &Self) -> bool {
        // pullpass may have been in another namespace.
        let mut subjects = self.subjects.iter().flatten();
        self.role_ref == written.role_ref
            && subjects.all(|subject| {
                let mut written = written.subjects.iter().flatten();
                written.any(|written| written.kind == subject.kind && written.name == subject.name)
            })
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const GRANT: Grant<'_> = Grant {
        namespace: "shop",
        account: "puller",
    };

    fn with<K: Part>(part: &K, change: impl FnOnce(&mut Value)) -> K {
        let mut value = serde_json::to_value(part).unwrap();
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    /// Whether what is found grants what binding does, and whether it is nothing else.
    fn told<K: Part>(found: &K, written: &K) -> (bool, bool) {
        (found.grants(written), found.has_nothing_else_than(written))
    }

    #[test]
    fn a_role_is_told_from_one_that_somebody_extended() {
        let role = GRANT.role();
        let pods = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
        let extended = with(&role, |role| {
            role["rules"].as_array_mut().unwrap().push(pods.clone());
        });
        let replaced = with(&role, |role| role["rules"] = json!([pods]));
        let emptied = with(&role, |role| role["rules"] = json!([]));
        let other_verb = with(&role, |role| role["rules"][0]["verbs"] = json!(["get"]));
        assert_eq!(told(&role, &role), (true, true));
        assert_eq!(told(&extended, &role), (true, false));
        assert_eq!(told(&replaced, &role), (false, false));
        assert_eq!(told(&emptied, &role), (false, true));
        assert_eq!(told(&other_verb, &role), (false, true));
    }

    #[test]
    fn a_role_binding_is_told_from_one_that_somebody_extended() {
        let binding = GRANT.role_binding("pullpass-system");
        let jane = json!({"kind": "User", "name": "jane"});
        let extended = with(&binding, |binding| {
            binding["subjects"].as_array_mut().unwrap().push(jane.clone());
        });
        let others = with(&binding, |binding| binding["subjects"] = json!([jane]));
        let other_role = with(&binding, |binding| binding["roleRef"]["name"] = json!("other"));
        assert_eq!(told(&binding, &binding), (true, true));
        assert_eq!(told(&extended, &binding), (true, false));
        assert_eq!(told(&others, &binding), (false, false));
        assert_eq!(told(&other_role, &binding), (false, false));
        assert_eq!(told(&GRANT.role_binding("elsewhere"), &binding), (false, true));
    }
}

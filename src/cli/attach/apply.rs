//! Writing what was planned.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use super::plan::{AttachPlan, Content, identity_secret, owner, secret_manifest, users};
use super::readiness::{Evidence, is_minted_from};
use crate::api::acr_registry::{AcrRegistry, AcrRegistryStatus};
use crate::api::names::minted_credential;
use crate::cli::CliError;
use crate::cli::flags::kubeconfig::{Role, refusal, refusal_without};
use crate::cli::target::ObjectName;
use crate::cli::written::{FIELD_MANAGER, ObjectChange, Write, is_ours};
use crate::kubernetes::call::{CallError, call};
use crate::kubernetes::words::Words;
use crate::policy::credential_secret::{Refused, Users, check_metadata, check_name};
use crate::sync::credentials::Version;

/// What was done.
pub(super) struct Done {
    /// The name of the identity's Secret, and what was done to it; none if it was not touched.
    pub(super) secret: Option<(String, ObjectChange)>,
    pub(super) registry: ObjectChange,
    pub(super) object: AcrRegistry,
    /// By what it is seen that pullpass has taken it up.
    pub(super) evidence: Evidence,
    /// The version of the identity's Secret, where it was written.
    pub(super) secret_version: Option<Version>,
}

/// The cluster, for one AcrRegistry.
pub(super) struct Cluster<'a> {
    pub(super) client: Client,
    pub(super) own_namespace: &'a ObjectName,
    pub(super) name: &'a ObjectName,
    /// Whether the API server keeps nothing of what is written.
    pub(super) is_dry_run: bool,
}

impl Cluster<'_> {
    pub(super) fn registries(&self) -> Api<AcrRegistry> {
        Api::all(self.client.clone())
    }

    /// The AcrRegistry as it is, if it is there.
    pub(super) async fn existing(&self) -> Result<Option<AcrRegistry>, CliError> {
        call(self.registries().get_opt(self.name.as_str()))
            .await
            .map_err(|error| match error.code() {
                // Of a kind that it does not know, the API server says 404 in another form than of an object.
                Some(404) => not_installed(),
                _ => refusal_without(Role::Edit, "the AcrRegistry can't be read", &error),
            })
    }

    /// Writes a plan: the Secret first, so that pullpass never looks for it in vain.
    pub(super) async fn write(
        &self,
        plan: &AttachPlan,
        content: Option<&Content>,
        existing: Option<&AcrRegistry>,
    ) -> Result<Done, CliError> {
        let secret = if content.is_some() || plan.leaves_secret {
            Some(IdentitySecret::look(self).await?)
        } else {
            None
        };
        let given = secret.as_ref().zip(content);
        if let Some((secret, _)) = given {
            secret.must_be_ours()?;
        }
        // The API server's own rules come before anything is written.
        self.write_registry(plan, true).await?;

        let known_owner = existing.and_then(owner);
        // As it is now: a user who was asked for a password may have taken their time.
        let status = match given.and(existing) {
            Some(_) => self.existing().await?.and_then(|object| object.status),
            None => None,
        };
        let mut version = None;
        if let Some((secret, content)) = given {
            version = secret.apply(content, known_owner.as_ref()).await?;
        }
        let object = self.write_registry(plan, self.is_dry_run).await?;
        if let Some((secret, content)) = given
            && known_owner.is_none()
        {
            version = secret.apply(content, owner(&object).as_ref()).await?;
        }
        let secret_outcome = match (&secret, content) {
            (None, _) => None,
            (Some(secret), None) => secret.delete_ours().await?,
            (Some(secret), Some(_)) => Some(match &secret.before {
                None => ObjectChange::Created,
                // What is not kept has no version of its own.
                Some(before) if before.resource_version == version && !self.is_dry_run => {
                    ObjectChange::Unchanged
                }
                Some(_) => ObjectChange::Configured,
            }),
        };
        let generation = object.metadata.generation.unwrap_or_default();
        let registry = match existing {
            None => ObjectChange::Created,
            Some(before) if before.metadata.generation == object.metadata.generation => {
                ObjectChange::Unchanged
            }
            Some(_) => ObjectChange::Configured,
        };
        let is_secret_alone = registry == ObjectChange::Unchanged
            && matches!(
                secret_outcome,
                Some(ObjectChange::Created | ObjectChange::Configured)
            );
        let evidence = match existing {
            Some(_) if is_secret_alone => Evidence::After(status),
            _ => Evidence::Generation(generation),
        };
        Ok(Done {
            secret_version: given.and_then(|_| Version::parse(version.as_deref())),
            secret: secret.map(|secret| secret.name).zip(secret_outcome),
            registry,
            object,
            evidence,
        })
    }

    /// Whether the credential in a status was minted from the Secret that was written; none if no Secret was,
    /// or the caller may not look at the minted credential.
    pub(super) async fn is_minted(
        &self,
        done: &Done,
        status: Option<&AcrRegistryStatus>,
    ) -> Result<Option<bool>, CallError> {
        let Some(written) = done.secret_version else {
            return Ok(None);
        };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), self.own_namespace.as_str());
        let minted = minted_credential(self.name.as_str());
        match call(secrets.get_metadata_opt(&minted)).await {
            Ok(Some(minted)) => Ok(is_minted_from(written, minted.annotations(), status)),
            Ok(None) => Ok(Some(false)),
            Err(error) if error.code() == Some(403) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Why the AcrRegistry may not use a Secret that it names and that is not written here. What the caller may not see
    /// is left to pullpass to say.
    pub(super) async fn refused_secrets(&self, plan: &AttachPlan, is_given: bool) -> Vec<String> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), self.own_namespace.as_str());
        let written = is_given.then(|| identity_secret(self.name.as_str()));
        let mut refused = Vec::new();
        for secret in plan.object.spec.identity.secrets() {
            if written.as_deref() == Some(secret) {
                continue;
            }
            let outcome = match call(secrets.get_metadata_opt(secret)).await {
                Ok(Some(found)) => check_metadata(&found.metadata, self.name.as_str()),
                Ok(None) | Err(_) => check_name(secret),
            };
            if let Err(refusal) = outcome {
                let namespace = self.own_namespace.as_str();
                let registry = self.name.as_str();
                let text = Refused {
                    refusal,
                    secret,
                    namespace,
                    registry,
                };
                refused.push(text.to_string());
            }
        }
        refused
    }

    async fn write_registry(&self, plan: &AttachPlan, dry_run: bool) -> Result<AcrRegistry, CliError> {
        let registries = self.registries();
        let written = match &plan.write {
            Write::Nothing => Ok(plan.object.clone()),
            Write::Create => {
                let parameters = PostParams {
                    dry_run,
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                };
                call(registries.create(&parameters, &plan.object)).await
            }
            Write::Patch(patch) => {
                let parameters = PatchParams {
                    dry_run,
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                let patch = Patch::Merge(patch);
                call(registries.patch(self.name.as_str(), &parameters, &patch)).await
            }
        };
        written.map_err(|error| match error.code() {
            Some(422) => CliError::Input(error.words()),
            Some(404) => not_installed(),
            _ => refusal_without(Role::Edit, "the AcrRegistry can't be written", &error),
        })
    }
}

fn not_installed() -> CliError {
    CliError::Failed("the cluster has no AcrRegistries: install pullpass first".to_owned())
}

/// The Secret that attaching writes, as it was before. Only its metadata is ever read.
struct IdentitySecret<'a> {
    api: Api<Secret>,
    namespace: &'a ObjectName,
    registry: &'a ObjectName,
    name: String,
    before: Option<ObjectMeta>,
    is_dry_run: bool,
}

impl<'a> IdentitySecret<'a> {
    async fn look(cluster: &Cluster<'a>) -> Result<Self, CliError> {
        let api: Api<Secret> = Api::namespaced(cluster.client.clone(), cluster.own_namespace.as_str());
        let name = identity_secret(cluster.name.as_str());
        let before = call(api.get_metadata_opt(&name))
            .await
            .map_err(|error| refusal(&format!("Secret {name} can't be looked at"), &error))?;
        Ok(Self {
            api,
            namespace: cluster.own_namespace,
            registry: cluster.name,
            name,
            before: before.map(|secret| secret.metadata),
            is_dry_run: cluster.is_dry_run,
        })
    }

    fn must_be_ours(&self) -> Result<(), CliError> {
        match &self.before {
            Some(metadata) if !is_ours(metadata) => {
                let Self {
                    name,
                    namespace,
                    registry,
                    ..
                } = self;
                Err(CliError::Failed(format!(
                    "Secret {name} in namespace {namespace} was not written by pullpass attach, and stays unchanged. Name it \
                     in --client-secret, --client-certificate or --basic to use it as it is; delete it with `kubectl \
                     delete secret {name} --namespace {namespace}`; or attach under another name than {registry} with \
                     --name"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Returns the version that was written.
    async fn apply(
        &self,
        content: &Content,
        owner: Option<&OwnerReference>,
    ) -> Result<Option<String>, CliError> {
        let users = users(self.before.as_ref(), self.registry.as_str());
        let manifest = secret_manifest(&self.name, self.namespace.as_str(), Some(content), &users, owner);
        let parameters = PatchParams {
            dry_run: self.is_dry_run,
            ..PatchParams::apply(FIELD_MANAGER).force()
        };
        let patch = Patch::Apply(manifest);
        let written = call(self.api.patch_metadata(&self.name, &parameters, &patch))
            .await
            .map_err(|error| match error.code() {
                Some(404) => CliError::Failed(format!(
                    "there is no namespace {}: install pullpass first, or name the namespace that it runs in with \
                     --own-namespace",
                    self.namespace
                )),
                _ => refusal(&format!("Secret {} can't be written", self.name), &error),
            })?;
        Ok(written.metadata.resource_version)
    }

    /// Deletes what attaching wrote and nobody names any more.
    async fn delete_ours(&self) -> Result<Option<ObjectChange>, CliError> {
        let is_shared = |metadata| Users::of(metadata).include_others(self.registry.as_str());
        let Some(before) = self
            .before
            .as_ref()
            .filter(|metadata| is_ours(metadata) && !is_shared(metadata))
        else {
            return Ok(None);
        };
        // As it was looked at, and not as somebody changed it since, or created it again.
        let parameters = DeleteParams {
            dry_run: self.is_dry_run,
            preconditions: Some(Preconditions {
                uid: before.uid.clone(),
                resource_version: before.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        match call(self.api.delete(&self.name, &parameters)).await {
            Ok(_) => Ok(Some(ObjectChange::Deleted)),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) if error.code() == Some(409) => {
                let Self { name, namespace, .. } = self;
                Err(CliError::Failed(format!(
                    "Secret {name} in namespace {namespace} was changed meanwhile, and is kept, although the \
                     AcrRegistry no longer names it: delete it with `kubectl delete secret {name} --namespace \
                     {namespace}` if nobody else \
                     needs it"
                )))
            }
            Err(error) => Err(refusal(&format!("Secret {} can't be deleted", self.name), &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Request, Response};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// The API server of a Secret with this UID and version, which answers the deletion of any other one with a conflict.
    fn api(uid: &'static str, version: &'static str) -> Api<Secret> {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let (parts, body) = request.into_parts();
            assert_eq!(parts.method, Method::DELETE);
            let options: DeleteOptions =
                serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap();
            let conditions = options.preconditions.unwrap();
            let is_meant = conditions.uid.as_deref() == Some(uid)
                && conditions.resource_version.as_deref() == Some(version);
            let (code, outcome) = if is_meant {
                (200, "Success")
            } else {
                (409, "Failure")
            };
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": outcome, "message": "", "reason": "",
                "code": code,
            });
            let body = Body::from(status.to_string().into_bytes());
            Ok::<_, kube::Error>(Response::builder().status(code).body(body).unwrap())
        });
        Api::namespaced(Client::new(service, "pullpass-system"), "pullpass-system")
    }

    #[tokio::test]
    async fn a_secret_is_deleted_as_it_was_looked_at() {
        let (namespace, registry): (ObjectName, ObjectName) =
            ("pullpass-system".parse().unwrap(), "shop".parse().unwrap());
        let before = json!({
            "name": "shop-identity", "uid": "a", "resourceVersion": "7",
            "managedFields": [{"manager": FIELD_MANAGER}],
        });
        for (uid, version, is_kept) in [("a", "7", false), ("a", "8", true), ("b", "7", true)] {
            let secret = IdentitySecret {
                api: api(uid, version),
                namespace: &namespace,
                registry: &registry,
                name: "shop-identity".to_owned(),
                before: Some(serde_json::from_value(before.clone()).unwrap()),
                is_dry_run: false,
            };
            match secret.delete_ours().await {
                Ok(change) => assert_eq!((change, is_kept), (Some(ObjectChange::Deleted), false)),
                Err(error) => assert!(is_kept && error.to_string().contains("was changed meanwhile")),
            }
        }
    }
}

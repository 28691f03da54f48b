//! The AcrPullBinding of a namespace, and the ServiceAccount whose identity the check uses.

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::cluster::{Found, facts_of, in_time};
use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::names::TENANT_ID_ANNOTATION;
use crate::api::reason::Reason;
use crate::check::in_cluster::AttachingObject;
use crate::check::{Subject, SubjectIdentity};
use crate::cli::CliError;
use crate::cli::bind::unlisted;
use crate::cli::flags::kubeconfig::KubeFlags;
use crate::cli::target::{Attached, AttachedTarget};
use crate::kubernetes::call::call;
use crate::policy::attached::AttachedRegistry;
use crate::policy::identity::AttachedIdentity;
use crate::registry::resource_id::ResourceId;
use crate::sync::minting::{CredentialSource, WorkloadIdentityEnv, request_as, resolve};

/// The AcrPullBinding that has a registry, and who it pulls as. The token is one that the caller may ask for.
pub(super) async fn subject(
    flags: &KubeFlags,
    own_namespace: &str,
    namespace: &str,
    registry: &str,
) -> Result<Subject, CliError> {
    let target = target(registry)?;
    in_time(Box::pin(async {
        let client = flags.client().await?;
        let mut object = find(&client, namespace, &target).await?;
        // Whatever the pull secret holds, tokens show whether the identity and its role are right.
        object.spec.credential = None;
        let name = object.name_any();
        let registry = AttachedRegistry::parse_binding_of_any_cloud(&object).map_err(|error| {
            CliError::Input(format!("LOGIN_SERVER_ERROR: AcrPullBinding {name}: {error}"))
        })?;
        let resource_id = object.spec.resource_id.as_deref();
        Ok(Subject {
            identity: identity(&client, own_namespace, namespace, &registry).await,
            login_server: registry.login_server().clone(),
            registry: Some(registry.name().to_owned()),
            resource_id: resource_id.and_then(|text| ResourceId::parse(text).ok()),
            endpoint: None,
            target: None,
        })
    }))
    .await
}

/// What the running pullpass has left in the cluster of an AcrPullBinding, and the latest Events, if they may be read.
pub(super) async fn facts(
    flags: &KubeFlags,
    own_namespace: &str,
    namespace: &str,
    registry: &str,
) -> Result<Found, CliError> {
    let target = target(registry)?;
    in_time(Box::pin(async {
        let client = flags.client().await?;
        let object = find(&client, namespace, &target).await?;
        let object = AttachingObject::Binding(Box::new(object));
        Ok(facts_of(&client, own_namespace, object).await)
    }))
    .await
}

fn target(registry: &str) -> Result<AttachedTarget, CliError> {
    let parsed = registry.parse();
    parsed.map_err(|error| CliError::Input(format!("{registry}: {error}")))
}

/// The AcrPullBinding of a namespace that has a registry.
async fn find(client: &Client, namespace: &str, target: &AttachedTarget) -> Result<AcrPullBinding, CliError> {
    let bindings: Api<AcrPullBinding> = Api::namespaced(client.clone(), namespace);
    let bound = call(bindings.list(&ListParams::default()))
        .await
        .map_err(|error| unlisted(namespace, &error))?;
    match target.find(&bound.items) {
        Attached::One(object) => Ok(object.clone()),
        Attached::Nothing => Err(CliError::Input(format!(
            "no AcrPullBinding of namespace {namespace} has {target}: see `kubectl get acrpullbindings --namespace {namespace}`"
        ))),
        Attached::Several(objects) => {
            let names: Vec<_> = objects.into_iter().map(ResourceExt::name_any).collect();
            Err(CliError::Input(format!(
                "several AcrPullBindings of namespace {namespace} have {target}; name one of them: {}",
                names.join(", ")
            )))
        }
    }
}

/// Why the identity can't be known here: without an annotation it is in the tenant that the running pullpass is told.
async fn tenant_unknown(client: &Client, namespace: &str, registry: &AttachedRegistry) -> Option<String> {
    let AttachedIdentity::ServiceAccount(account) = registry.identity() else {
        return None;
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let found = call(accounts.get_opt(account)).await.ok()??;
    let is_named = found.annotations().contains_key(TENANT_ID_ANNOTATION);
    (!is_named).then(|| {
        format!(
            "ServiceAccount {account} names no tenant ({TENANT_ID_ANNOTATION}), and only the running pullpass \
             knows its default tenant; see the status of the AcrPullBinding"
        )
    })
}

async fn identity(
    client: &Client,
    own_namespace: &str,
    namespace: &str,
    registry: &AttachedRegistry,
) -> SubjectIdentity {
    let env = WorkloadIdentityEnv::default();
    if let Some(why) = tenant_unknown(client, namespace, registry).await {
        return SubjectIdentity::Nobody { why };
    }
    let requested = match resolve(client, own_namespace, registry, &env).await {
        Ok(resolved) => match resolved.source {
            CredentialSource::Account(account) => request_as(client, registry, &account).await,
            CredentialSource::Mint(request) => Ok(*request),
            CredentialSource::Password(_) => {
                return SubjectIdentity::Nobody {
                    why: "an AcrPullBinding has no password".to_owned(),
                };
            }
        },
        Err(failure) => Err(failure),
    };
    match requested {
        Ok(request) => SubjectIdentity::Mint(Box::new(request)),
        // It is the caller who was refused here.
        Err(failure) if failure.reason == Reason::NotGranted => SubjectIdentity::Nobody {
            why: format!(
                "you may not request tokens of the ServiceAccount: you need create on serviceaccounts/token \
                 in namespace {namespace}, which the ClusterRole admin has"
            ),
        },
        Err(failure) if failure.reason == Reason::Unreachable => {
            SubjectIdentity::Nobody { why: failure.message }
        }
        Err(failure) => SubjectIdentity::Broken {
            message: failure.message,
        },
    }
}

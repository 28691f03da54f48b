//! What is to be written: flags and what is there already go in, objects and patches come out. It asks nobody.

use kube::ResourceExt;
use serde_json::json;
use thiserror::Error;

use super::flags::BindSpecFlags;
use crate::api::acr_pull_binding::{AcrPullBinding, AcrPullBindingSpec};
use crate::api::acr_registry::CredentialKind;
use crate::cli::target::RegistryTarget;
use crate::cli::written::{Write, merge_patch};
use crate::policy::attached::AttachedRegistry;
use crate::policy::invalid_spec::InvalidSpec;
use crate::registry::login_server::{LoginServer, LoginServerError};

/// Why nothing can be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum PlanError {
    #[error(
        "AcrPullBinding {name} in namespace {namespace} exists for another registry, {host}: choose another \
         name with \
         --name, or delete it first with `pullpass unbind {name} --namespace {namespace}`"
    )]
    OtherRegistry {
        namespace: String,
        name: String,
        host: String,
    },
    #[error("--credential-kind AccessToken needs the repositories that it is for: add --repository NAME")]
    NoRepositories,
    #[error(
        "{0} is in none of Azure's clouds: name the registry by its login server, or, if pullpass has \
         --other-cloud-suffix, add --cloud Other"
    )]
    OtherCloud(String),
    #[error("{0}")]
    LoginServer(LoginServerError),
    #[error("{0}")]
    Spec(#[from] InvalidSpec),
    #[error("the AcrPullBinding can't be written as JSON: {0}")]
    Json(String),
}

impl From<serde_json::Error> for PlanError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error.to_string())
    }
}

impl From<LoginServerError> for PlanError {
    fn from(error: LoginServerError) -> Self {
        Self::LoginServer(error)
    }
}

/// Where a binding is, and with which identity it pulls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) account: &'a str,
}

/// What is to be done about the AcrPullBinding.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BindPlan {
    /// The AcrPullBinding as it will be.
    pub(super) object: AcrPullBinding,
    pub(super) write: Write,
    pub(super) login_server: LoginServer,
    pub(super) pull_secret: String,
}

/// Decides what is to be written of an AcrPullBinding.
pub(super) fn plan(
    target: &RegistryTarget,
    place: Place<'_>,
    flags: &BindSpecFlags,
    existing: Option<&AcrPullBinding>,
) -> Result<BindPlan, PlanError> {
    let mut spec = match existing {
        Some(object) if target.is_named_by(object) => object.spec.clone(),
        Some(object) => {
            let registry = AttachedRegistry::parse_binding_of_any_cloud(object);
            return Err(PlanError::OtherRegistry {
                namespace: place.namespace.to_owned(),
                name: object.name_any(),
                host: registry.map_or_else(
                    |_| object.spec.login_server.clone().unwrap_or_default(),
                    |registry| registry.login_server().to_string(),
                ),
            });
        }
        None => AcrPullBindingSpec {
            login_server: login_server(target, flags)?,
            ..AcrPullBindingSpec::default()
        },
    };
    if let RegistryTarget::ResourceId(id) = target {
        spec.resource_id = Some(id.to_string());
    }
    place.account.clone_into(&mut spec.service_account_name);
    change(&mut spec, flags)?;

    let mut object = AcrPullBinding::new(place.name, spec);
    object.metadata.namespace = Some(place.namespace.to_owned());
    let registry = AttachedRegistry::parse_binding_of_any_cloud(&object)?;
    let write = match existing {
        None => Write::Create,
        Some(before) => {
            object.metadata = before.metadata.clone();
            let changes = merge_patch(
                &serde_json::to_value(&before.spec)?,
                &serde_json::to_value(&object.spec)?,
            );
            changes.map_or(Write::Nothing, |changes| Write::Patch(json!({"spec": changes})))
        }
    };
    Ok(BindPlan {
        login_server: registry.login_server().clone(),
        pull_secret: registry.pull_secret().to_owned(),
        object,
        write,
    })
}

/// The host that the spec names; none if its resource ID says which registry it is.
fn login_server(target: &RegistryTarget, flags: &BindSpecFlags) -> Result<Option<String>, PlanError> {
    match target {
        RegistryTarget::ResourceId(_) => Ok(None),
        RegistryTarget::Name(_) | RegistryTarget::LoginServer(_) => match target.login_server(flags.cloud) {
            Ok(host) => Ok(Some(host.to_string())),
            Err(LoginServerError::Suffix) => Err(PlanError::OtherCloud(target.to_string())),
            Err(error) => Err(error.into()),
        },
    }
}

/// Puts what the flags say into a spec.
fn change(spec: &mut AcrPullBindingSpec, flags: &BindSpecFlags) -> Result<(), PlanError> {
    let BindSpecFlags {
        cloud,
        audience,
        credential_kind,
        repository,
    } = flags;
    if let Some(cloud) = cloud {
        spec.cloud = Some(*cloud);
    }
    if let Some(audience) = audience {
        spec.audience = Some(audience.clone());
    }
    let kind = credential_kind.or_else(|| (!repository.is_empty()).then_some(CredentialKind::AccessToken));
    if let Some(kind) = kind {
        let credential = spec.credential.get_or_insert_default();
        credential.kind = Some(kind);
        if !repository.is_empty() {
            credential.repositories.clone_from(repository);
        } else if kind != CredentialKind::AccessToken {
            credential.repositories.clear();
        }
        if kind == CredentialKind::AccessToken && credential.repositories.is_empty() {
            return Err(PlanError::NoRepositories);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

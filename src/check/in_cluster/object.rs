//! What attaches the registry that is looked at: an AcrRegistry, or the AcrPullBinding of a namespace.

use kube::ResourceExt;

use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::acr_registry::{AcrRegistry, AcrRegistryStatus};
use crate::api::names::{binding_key, namesake_of_binding, pull_secret};
use crate::policy::attached::AttachedRegistry;
use crate::policy::invalid_spec::InvalidSpec;
use crate::registry::cloud::CloudName;

/// The object.
#[derive(Debug, Clone)]
pub enum AttachingObject {
    /// It attaches the registry in every namespace that may use it.
    Registry(Box<AcrRegistry>),
    /// It does so in its own.
    Binding(Box<AcrPullBinding>),
}

impl AttachingObject {
    /// What it is known by: its name, or `NAMESPACE/NAME`.
    pub fn key(&self) -> String {
        match self {
            Self::Registry(object) => object.name_any(),
            Self::Binding(object) => binding_key(&object.namespace().unwrap_or_default(), &object.name_any()),
        }
    }

    /// Its UID: another object of its name has another.
    pub fn uid(&self) -> Option<String> {
        match self {
            Self::Registry(object) => object.uid(),
            Self::Binding(object) => object.uid(),
        }
    }

    /// Its status.
    pub fn status(&self) -> Option<&AcrRegistryStatus> {
        match self {
            Self::Registry(object) => object.status.as_ref(),
            Self::Binding(object) => object.status.as_ref(),
        }
    }

    /// The host that its spec names.
    pub fn login_server(&self) -> Option<&String> {
        match self {
            Self::Registry(object) => object.spec.login_server.as_ref(),
            Self::Binding(object) => object.spec.login_server.as_ref(),
        }
    }

    pub(super) fn parse(&self) -> Result<AttachedRegistry, InvalidSpec> {
        match self {
            Self::Registry(object) => AttachedRegistry::parse(object),
            Self::Binding(object) => AttachedRegistry::parse_binding_of_any_cloud(object),
        }
    }

    pub(super) fn generation(&self) -> Option<i64> {
        match self {
            Self::Registry(object) => object.metadata.generation,
            Self::Binding(object) => object.metadata.generation,
        }
    }

    /// The namespace of a binding.
    pub(super) fn namespace(&self) -> Option<String> {
        match self {
            Self::Registry(_) => None,
            Self::Binding(object) => object.namespace(),
        }
    }

    pub(super) fn pull_secret(&self) -> String {
        match self {
            Self::Registry(object) => pull_secret(&object.name_any()),
            Self::Binding(object) => pull_secret(&namesake_of_binding(&object.name_any())),
        }
    }

    /// Whether it answers under hosts outside the zones of Azure's clouds.
    pub(super) fn has_other_hosts(&self) -> bool {
        match self {
            Self::Registry(object) => {
                !object.spec.custom_domains.is_empty() || object.spec.cloud == Some(CloudName::Other)
            }
            Self::Binding(object) => object.spec.cloud == Some(CloudName::Other),
        }
    }

    /// How kubectl is told about it.
    pub(super) fn for_kubectl(&self) -> String {
        match self {
            Self::Registry(object) => format!("acrregistry {}", object.name_any()),
            Self::Binding(object) => {
                let namespace = object.namespace().unwrap_or_default();
                format!("acrpullbinding {} --namespace {namespace}", object.name_any())
            }
        }
    }
}

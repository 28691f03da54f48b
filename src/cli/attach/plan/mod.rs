//! What is to be written: flags and what is there already go in, objects and a patch come out. It asks nobody.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use thiserror::Error;

use super::flags::SpecFlags;
use super::namespaces::NamespaceChoice;
use crate::api::acr_registry::{
    AcrRegistry, AcrRegistrySpec, Anonymous, Basic, BasicSecretRef, CredentialKind, Identity,
    ManagedIdentitySpec, Provision, SecretKeyRef, ServicePrincipal, WorkloadIdentity,
};
use crate::api::names::REGISTRIES_ANNOTATION;
use crate::base::secret_text::SecretText;
use crate::cli::flags::identity::{CERTIFICATE_KEY, PASSWORD_KEY, Proof, USERNAME_KEY, Who};
use crate::cli::flags::secret_source::SecretSource;
use crate::cli::target::{ObjectName, RegistryTarget};
use crate::cli::written::{Write, merge_patch};
use crate::policy::attached::AttachedRegistry;
use crate::policy::credential_secret::Users;
use crate::policy::identity::AttachedIdentity;
use crate::policy::invalid_spec::InvalidSpec;
use crate::registry::login_server::LoginServerError;

/// Why nothing can be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum PlanError {
    #[error(
        "say who pulls: --tenant-id and --client-id of a service principal with --client-secret-file, \
         --workload-identity, --managed-identity, --token-name of a repository-scoped token, or --anonymous"
    )]
    Nobody,
    #[error(
        "a service principal needs {0}: `az ad sp create-for-rbac --name NAME` prints both. You can omit them \
         if the AcrRegistry exists and has a service principal (and without --dry-run, which asks no cluster)"
    )]
    Principal(&'static str),
    #[error(
        "AcrRegistry {name} exists for another registry, {host}: choose another name with --name, or detach it first \
         with `pullpass detach {name}`"
    )]
    OtherRegistry { name: String, host: String },
    #[error("--credential-kind AccessToken needs the repositories that it is for: add --repository NAME")]
    NoRepositories,
    #[error(
        "{0} is in none of Azure's clouds: name the registry by its login server, or, if pullpass has \
         --other-cloud-suffix, add --cloud Other. Give a custom domain with --custom-domain"
    )]
    OtherCloud(String),
    #[error("{0}")]
    LoginServer(#[from] LoginServerError),
    #[error("{0}")]
    Spec(#[from] InvalidSpec),
    #[error("the AcrRegistry can't be written as JSON: {0}")]
    Json(String),
}

impl From<serde_json::Error> for PlanError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error.to_string())
    }
}

/// The name of the Secret that attaching writes.
pub(in crate::cli) fn identity_secret(registry: &str) -> String {
    format!("identity-{registry}")
}

/// What goes into the Secret that attaching writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    ClientSecret { client_id: String, from: SecretSource },
    Certificate { client_id: String, from: SecretSource },
    Token { name: String, from: SecretSource },
}

/// The identity of the spec, and what its Secret needs, if it is for us to write.
pub(super) fn identity(
    who: Who,
    name: &ObjectName,
    existing: Option<&AcrRegistry>,
) -> Result<(Identity, Option<Wanted>), PlanError> {
    let own_secret = identity_secret(name.as_str());
    let mut identity = Identity::default();
    let wanted = match who {
        Who::ServicePrincipal {
            tenant_id,
            client_id,
            proof,
        } => {
            let known = existing.and_then(|object| object.spec.identity.service_principal.as_ref());
            let tenant_id = tenant_id
                .or_else(|| known.map(|known| known.tenant_id.clone()))
                .ok_or(PlanError::Principal("--tenant-id"))?;
            let client_id = client_id
                .or_else(|| known.map(|known| known.client_id.clone()))
                .ok_or(PlanError::Principal("--client-id"))?;
            let own = |key: &str| SecretKeyRef {
                name: own_secret.clone(),
                key: key.to_owned(),
            };
            let for_client = client_id.clone();
            let (secret, certificate, wanted) = match proof {
                Proof::SecretIn(reference) => (Some(reference), None, None),
                Proof::CertificateIn(reference) => (None, Some(reference), None),
                Proof::Secret(from) => {
                    let client_id = for_client;
                    (
                        Some(own(PASSWORD_KEY)),
                        None,
                        Some(Wanted::ClientSecret { client_id, from }),
                    )
                }
                Proof::Certificate(from) => {
                    let client_id = for_client;
                    (
                        None,
                        Some(own(CERTIFICATE_KEY)),
                        Some(Wanted::Certificate { client_id, from }),
                    )
                }
            };
            identity.service_principal = Some(ServicePrincipal {
                tenant_id,
                client_id,
                client_secret_ref: secret,
                client_certificate_ref: certificate,
            });
            wanted
        }
        Who::WorkloadIdentity { tenant_id, client_id } => {
            identity.workload_identity = Some(WorkloadIdentity { tenant_id, client_id });
            None
        }
        Who::ManagedIdentity {
            client_id,
            resource_id,
        } => {
            identity.managed_identity = Some(ManagedIdentitySpec {
                client_id,
                resource_id,
            });
            None
        }
        Who::Token { name, password } => {
            identity.basic = Some(basic(own_secret));
            Some(Wanted::Token { name, from: password })
        }
        Who::Basic(secret) => {
            identity.basic = Some(basic(secret.as_str().to_owned()));
            None
        }
        Who::Anonymous => {
            identity.anonymous = Some(Anonymous {});
            None
        }
    };
    Ok((identity, wanted))
}

fn basic(secret: String) -> Basic {
    Basic {
        secret_ref: BasicSecretRef {
            name: secret,
            username_key: USERNAME_KEY.to_owned(),
            password_key: PASSWORD_KEY.to_owned(),
        },
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AttachPlan {
    /// The AcrRegistry as it will be.
    pub(super) object: AcrRegistry,
    pub(super) write: Write,
    pub(super) login_server: String,
    /// Who will pull.
    pub(super) identity: AttachedIdentity,
    /// Whether the Secret that attaching wrote before is of no use any more.
    pub(super) leaves_secret: bool,
}

/// Decides what is to be written of an AcrRegistry.
pub(super) fn plan(
    target: &RegistryTarget,
    name: &ObjectName,
    flags: &SpecFlags,
    identity: Option<&Identity>,
    existing: Option<&AcrRegistry>,
) -> Result<AttachPlan, PlanError> {
    let mut spec = match existing {
        Some(object) if target.is_named_by(object) => object.spec.clone(),
        Some(object) => {
            return Err(PlanError::OtherRegistry {
                name: object.name_any(),
                host: AttachedRegistry::parse(object).map_or_else(
                    |_| object.spec.login_server.clone().unwrap_or_default(),
                    |registry| registry.login_server().to_string(),
                ),
            });
        }
        None => AcrRegistrySpec {
            login_server: match target {
                RegistryTarget::ResourceId(_) => None,
                RegistryTarget::Name(_) | RegistryTarget::LoginServer(_) => {
                    let host = target.login_server(flags.cloud).map_err(|error| match error {
                        LoginServerError::Suffix => PlanError::OtherCloud(target.to_string()),
                        error => PlanError::LoginServer(error),
                    })?;
                    Some(host.to_string())
                }
            },
            resource_id: None,
            cloud: None,
            audience: None,
            custom_domains: Vec::new(),
            identity: identity.cloned().ok_or(PlanError::Nobody)?,
            credential: None,
            namespaces: None,
            provision: None,
        },
    };
    if let RegistryTarget::ResourceId(id) = target {
        spec.resource_id = Some(id.to_string());
    }
    change(&mut spec, flags, identity)?;

    let mut object = AcrRegistry::new(name.as_str(), spec);
    let registry = AttachedRegistry::parse(&object)?;
    let write = match existing {
        None => Write::Create,
        Some(before) => {
            object.metadata = before.metadata.clone();
            let changes = merge_patch(
                &serde_json::to_value(&before.spec)?,
                &serde_json::to_value(&object.spec)?,
            );
            match changes {
                None => Write::Nothing,
                Some(mut changes) => {
                    // The other kinds go even if somebody sets one of them at this moment.
                    if let (Some(fields), Some(identity)) = (changes.as_object_mut(), identity) {
                        fields.insert("identity".to_owned(), whole(identity)?);
                    }
                    Write::Patch(json!({"spec": changes}))
                }
            }
        }
    };
    let own_secret = identity_secret(name.as_str());
    Ok(AttachPlan {
        leaves_secret: existing.is_some_and(|before| before.spec.identity.names_secret(&own_secret))
            && !object.spec.identity.names_secret(&own_secret),
        login_server: registry.login_server().to_string(),
        identity: registry.identity().clone(),
        object,
        write,
    })
}

/// Puts what the flags say into a spec.
fn change(
    spec: &mut AcrRegistrySpec,
    flags: &SpecFlags,
    identity: Option<&Identity>,
) -> Result<(), PlanError> {
    let SpecFlags {
        cloud,
        audience,
        custom_domain,
        credential_kind,
        repository,
        namespaces,
        eager,
    } = flags;
    if let Some(identity) = identity {
        spec.identity = identity.clone();
        // What is used as it is has no kind; the API server would refuse one.
        if let (Some(_), Some(credential)) = (&identity.basic, &mut spec.credential) {
            credential.kind = None;
            credential.repositories.clear();
        }
        if identity.anonymous.is_some() {
            (spec.credential, spec.audience) = (None, None);
        }
    }
    if let Some(cloud) = cloud {
        spec.cloud = Some(*cloud);
    }
    if let Some(audience) = audience {
        spec.audience = Some(audience.clone());
    }
    if !custom_domain.is_empty() {
        let domains: BTreeSet<_> = custom_domain.iter().filter(|domain| !domain.is_empty()).collect();
        spec.custom_domains = domains.into_iter().cloned().collect();
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
    match namespaces {
        None => {}
        Some(NamespaceChoice::All) => spec.namespaces = None,
        Some(NamespaceChoice::Matching(selector)) => spec.namespaces = Some(selector.clone()),
    }
    if let Some(eager) = eager {
        spec.provision = Some(if *eager {
            Provision::Eager
        } else {
            Provision::OnDemand
        });
    }
    Ok(())
}

/// An identity with everything that it is not.
fn whole(identity: &Identity) -> Result<Value, PlanError> {
    const FIELDS: [(&str, &[&str]); 5] = [
        ("servicePrincipal", &["clientSecretRef", "clientCertificateRef"]),
        ("workloadIdentity", &["tenantId", "clientId"]),
        ("managedIdentity", &["clientId", "resourceId"]),
        ("basic", &[]),
        ("anonymous", &[]),
    ];
    let mut patch = serde_json::to_value(identity)?;
    if let Some(kinds) = patch.as_object_mut() {
        for (kind, optional) in FIELDS {
            let fields = kinds.entry(kind).or_insert(Value::Null);
            for field in optional {
                if let Some(fields) = fields.as_object_mut() {
                    fields.entry(*field).or_insert(Value::Null);
                }
            }
        }
    }
    Ok(patch)
}

/// What a Secret holds, by key.
pub(super) type Content = BTreeMap<&'static str, SecretText>;

/// The Secret that attaching writes. It has none of the labels by which minted credentials are known.
pub(super) fn secret_manifest(
    name: &str,
    namespace: &str,
    content: Option<&Content>,
    users: &str,
    owner: Option<&OwnerReference>,
) -> Value {
    let mut manifest = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "annotations": {REGISTRIES_ANNOTATION: users}},
        "type": "Opaque",
    });
    if let Some(fields) = manifest.as_object_mut()
        && let Some(content) = content
    {
        let data: BTreeMap<_, _> = content
            .iter()
            .map(|(key, text)| (*key, ByteString(text.expose().as_bytes().to_vec())))
            .collect();
        fields.insert("data".to_owned(), json!(data));
    }
    if let Some(metadata) = manifest.pointer_mut("/metadata").and_then(Value::as_object_mut)
        && let Some(owner) = owner
    {
        metadata.insert("ownerReferences".to_owned(), json!([owner]));
    }
    manifest
}

/// The annotation of a Secret that lets an AcrRegistry use it, and those that may already.
pub(super) fn users(before: Option<&ObjectMeta>, registry: &str) -> String {
    before.map(Users::of).unwrap_or_default().with(registry)
}

/// By which the Secret goes when the AcrRegistry does.
pub(super) fn owner(object: &AcrRegistry) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: AcrRegistry::api_version(&()).into_owned(),
        kind: AcrRegistry::kind(&()).into_owned(),
        name: object.metadata.name.clone()?,
        uid: object.metadata.uid.clone()?,
        ..OwnerReference::default()
    })
}

#[cfg(test)]
mod tests;

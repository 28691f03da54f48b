//! Who pulls: the identity of a spec, with what the Secrets that it names hold.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use super::Failure;
use crate::api::acr_registry::{
    AcrRegistry, CredentialKind, Identity, SecretKeyRef, ServicePrincipal, WorkloadIdentity,
};
use crate::api::names::REGISTRIES_ANNOTATION;
use crate::api::reason::Reason;
use crate::azure::mint::{Application, ManagedIdentity, MintIdentity, MintKind, MintRequest};
use crate::base::secret_text::SecretText;
use crate::kubernetes::call::{CallError, call};
use crate::policy::attached::Registry;
use crate::policy::credential_secret::{self, Refusal, Refused};

/// What the process' surroundings say of workload identity, as its admission webhook sets it.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `AZURE_TENANT_ID`.
    pub tenant_id: Option<String>,
    /// `AZURE_CLIENT_ID`.
    pub client_id: Option<String>,
    /// `AZURE_FEDERATED_TOKEN_FILE`.
    pub token_file: Option<PathBuf>,
}

/// How a credential is come by.
pub(crate) enum Source {
    /// From Entra ID and the registry.
    Mint(Box<MintRequest>),
    /// As it is.
    Basic { username: String, password: SecretText },
    /// The service principal's own.
    ServicePrincipalPassword { client_id: String, secret: SecretText },
}

/// An identity that is complete.
pub(crate) struct Resolved {
    pub(crate) source: Source,
    /// Differs whenever the spec or a Secret that it names differs.
    pub(super) inputs: String,
}

/// Puts the identity of a spec together.
pub(crate) async fn resolve(
    client: &Client,
    own_namespace: &str,
    object: &AcrRegistry,
    registry: &Registry,
    surroundings: &Surroundings,
) -> Result<Resolved, Failure> {
    let secrets = Secrets {
        api: Api::namespaced(client.clone(), own_namespace),
        own_namespace,
        registry: registry.name(),
    };
    let spec = &object.spec;
    let kind = spec
        .credential
        .as_ref()
        .and_then(|credential| credential.kind)
        .unwrap_or_default();
    let mut versions = Vec::new();
    let source = match &spec.identity {
        Identity {
            service_principal: Some(principal),
            workload_identity: None,
            managed_identity: None,
            basic: None,
        } => {
            let (identity, version) = service_principal(&secrets, principal).await?;
            versions.push(version);
            match (kind, identity) {
                (
                    CredentialKind::ServicePrincipalPassword,
                    MintIdentity::ClientSecret { app, secret, .. },
                ) => Source::ServicePrincipalPassword {
                    client_id: app.client_id,
                    secret,
                },
                (CredentialKind::ServicePrincipalPassword, _) => {
                    return Err(invalid(
                        "spec.credential.kind ServicePrincipalPassword needs clientSecretRef",
                    ));
                }
                (_, identity) => mint(object, registry, kind, identity),
            }
        }
        Identity {
            service_principal: None,
            workload_identity: Some(identity),
            managed_identity: None,
            basic: None,
        } => mint(object, registry, kind, workload_identity(identity, surroundings)?),
        Identity {
            service_principal: None,
            workload_identity: None,
            managed_identity: Some(identity),
            basic: None,
        } => {
            let identity = match (&identity.client_id, &identity.resource_id) {
                (None, None) => ManagedIdentity::System,
                (Some(client_id), None) => ManagedIdentity::ClientId(client_id.clone()),
                (None, Some(resource_id)) => ManagedIdentity::ResourceId(resource_id.clone()),
                (Some(_), Some(_)) => {
                    return Err(invalid(
                        "spec.identity.managedIdentity: set clientId or resourceId, not both",
                    ));
                }
            };
            mint(object, registry, kind, MintIdentity::ManagedIdentity(identity))
        }
        Identity {
            service_principal: None,
            workload_identity: None,
            managed_identity: None,
            basic: Some(basic),
        } => {
            let reference = &basic.secret_ref;
            let key = |key: &str| SecretKeyRef {
                name: reference.name.clone(),
                key: key.to_owned(),
            };
            let (username, version) = secrets.read(&key(&reference.username_key)).await?;
            let (password, _) = secrets.read(&key(&reference.password_key)).await?;
            versions.push(version);
            Source::Basic {
                username: username.expose().to_owned(),
                password,
            }
        }
        _ => {
            return Err(invalid(
                "spec.identity: set exactly one of servicePrincipal, workloadIdentity, managedIdentity and basic",
            ));
        }
    };
    Ok(Resolved {
        source,
        inputs: fingerprint(object, registry, &versions),
    })
}

fn mint(object: &AcrRegistry, registry: &Registry, kind: CredentialKind, identity: MintIdentity) -> Source {
    let repositories = object
        .spec
        .credential
        .as_ref()
        .map(|credential| credential.repositories.clone());
    Source::Mint(Box::new(MintRequest {
        login_server: registry.login_server().clone(),
        cloud: registry.login_server().cloud(),
        audience: object.spec.audience.clone(),
        remembered_audience: None,
        identity,
        kind: match kind {
            CredentialKind::AccessToken => MintKind::AccessToken {
                repositories: repositories.unwrap_or_default(),
            },
            CredentialKind::RefreshToken | CredentialKind::ServicePrincipalPassword => MintKind::RefreshToken,
        },
    }))
}

async fn service_principal(
    secrets: &Secrets<'_>,
    principal: &ServicePrincipal,
) -> Result<(MintIdentity, String), Failure> {
    let app = Application {
        tenant_id: principal.tenant_id.clone(),
        client_id: principal.client_id.clone(),
    };
    let origin = |reference: &SecretKeyRef| format!("Secret {}, key {}", reference.name, reference.key);
    match (&principal.client_secret_ref, &principal.client_certificate_ref) {
        (Some(reference), None) => {
            let (secret, version) = secrets.read(reference).await?;
            Ok((
                MintIdentity::ClientSecret {
                    app,
                    secret,
                    origin: origin(reference),
                },
                version,
            ))
        }
        (None, Some(reference)) => {
            let (pem, version) = secrets.read(reference).await?;
            Ok((
                MintIdentity::ClientCertificate {
                    app,
                    pem,
                    origin: origin(reference),
                },
                version,
            ))
        }
        _ => Err(invalid(
            "spec.identity.servicePrincipal: set exactly one of clientSecretRef and clientCertificateRef",
        )),
    }
}

fn workload_identity(
    identity: &WorkloadIdentity,
    surroundings: &Surroundings,
) -> Result<MintIdentity, Failure> {
    let either = |own: &Option<String>, around: &Option<String>, field: &str, variable: &str| {
        own.clone().or_else(|| around.clone()).ok_or_else(|| {
            invalid(&format!(
                "spec.identity.workloadIdentity.{field}: set it, or {variable} in the environment of pullpass"
            ))
        })
    };
    let app = Application {
        tenant_id: either(
            &identity.tenant_id,
            &surroundings.tenant_id,
            "tenantId",
            "AZURE_TENANT_ID",
        )?,
        client_id: either(
            &identity.client_id,
            &surroundings.client_id,
            "clientId",
            "AZURE_CLIENT_ID",
        )?,
    };
    let token_file = surroundings.token_file.clone().ok_or_else(|| Failure {
        reason: Reason::CredentialSecretMissing,
        message: "workload identity needs AZURE_FEDERATED_TOKEN_FILE in the environment of pullpass: install the component \
                  workload-identity (of the chart: workloadIdentity.projectedToken), or Azure's webhook where the Pods have \
                  the label azure.workload.identity/use=true"
            .to_owned(),
        retry_after: None,
    })?;
    Ok(MintIdentity::WorkloadIdentity { app, token_file })
}

/// The Secrets of the own namespace that an AcrRegistry may use. Nothing else reads one for an AcrRegistry.
struct Secrets<'a> {
    api: Api<Secret>,
    own_namespace: &'a str,
    registry: &'a str,
}

impl Secrets<'_> {
    /// The value of a key, and the version of the Secret that it came of.
    async fn read(&self, reference: &SecretKeyRef) -> Result<(SecretText, String), Failure> {
        let SecretKeyRef { name, key } = reference;
        let missing = |what: String| Failure {
            reason: Reason::CredentialSecretMissing,
            message: what,
            retry_after: None,
        };
        let refused = |refusal: Refusal| {
            let refused = Refused {
                refusal,
                secret: name,
                namespace: self.own_namespace,
                registry: self.registry,
            };
            missing(refused.to_string())
        };
        credential_secret::check_name(name).map_err(refused)?;
        let secret = call(self.api.get_opt(name)).await.map_err(|error| Failure {
            reason: Reason::Unreachable,
            message: match error {
                error if error.status().is_some() => format!(
                    "Secret {name} in namespace {} can't be read: {error}",
                    self.own_namespace
                ),
                CallError::TimedOut(_) => error.to_string(),
                CallError::Kube(_) => "the API server can't be reached".to_owned(),
            },
            retry_after: None,
        })?;
        let Some(secret) = secret else {
            return Err(missing(format!(
                "there is no Secret {name} in namespace {}: create it with the key {key} and the annotation \
                 {REGISTRIES_ANNOTATION}={}",
                self.own_namespace, self.registry
            )));
        };
        credential_secret::check(&secret, self.registry).map_err(refused)?;
        let version = format!(
            "{}/{}",
            secret.uid().unwrap_or_default(),
            secret.resource_version().unwrap_or_default()
        );
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        let text = value
            .and_then(|value| String::from_utf8(value.0.clone()).ok())
            .map(SecretText::from);
        match text.filter(|text| !text.trimmed().is_empty()) {
            Some(text) => Ok((text, version)),
            None => Err(missing(format!(
                "Secret {name} in namespace {} has no text under the key {key}: put it there, or correct the key",
                self.own_namespace
            ))),
        }
    }
}

/// Tells inputs apart without holding or hashing any secret: a Secret's version stands for its content. It only has to
/// be the same for the same build: a new build mints anew, once.
fn fingerprint(object: &AcrRegistry, registry: &Registry, versions: &[String]) -> String {
    let spec = &object.spec;
    let mut hasher = DefaultHasher::new();
    let relevant = serde_json::json!([
        registry.login_server().as_str(),
        spec.audience,
        spec.identity,
        spec.credential
            .as_ref()
            .map(|credential| (credential.kind, &credential.repositories))
    ]);
    relevant.to_string().hash(&mut hasher);
    versions.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn invalid(message: &str) -> Failure {
    Failure {
        reason: Reason::InvalidSpec,
        message: message.to_owned(),
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;
    use crate::kubernetes::call::CALL_TIMEOUT;

    fn with_a_secret() -> AcrRegistry {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "mine"},
            "spec": {
                "loginServer": "myregistry.azurecr.io",
                "identity": {"basic": {"secretRef": {"name": "token"}}},
            },
        });
        serde_json::from_value(object).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_secrets_read_without_an_answer_ends() {
        let silent = |_: Request<Body>| pending::<Result<Response<Body>, kube::Error>>();
        let client = Client::new(tower::service_fn(silent), "pullpass-system");
        let object = with_a_secret();
        let registry = Registry::parse(&object).unwrap();
        let begin = Instant::now();
        let resolved = resolve(
            &client,
            "pullpass-system",
            &object,
            &registry,
            &Surroundings::default(),
        )
        .await;
        assert_eq!(begin.elapsed(), CALL_TIMEOUT);
        let failure = resolved.err().unwrap();
        assert_eq!(failure.reason, Reason::Unreachable);
        assert_eq!(failure.message, "the API server did not answer within 10s");
    }
}

//! Who pulls: the identity of a spec, with what the Secrets that it names hold.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use super::MintFailure;
use super::account::Account;
use crate::api::acr_registry::{BasicSecretRef, CredentialKind, SecretKeyRef};
use crate::api::advice::{with_advice, without_advice};
use crate::api::names::{REGISTRIES_ANNOTATION, TLS_CERTIFICATE_KEY, TLS_PRIVATE_KEY_KEY, TLS_TYPE};
use crate::api::reason::Reason;
use crate::azure::mint::no_token_file_advice;
use crate::azure::mint::{Application, MintIdentity, MintKind, MintRequest, Password};
use crate::base::secret_text::SecretText;
use crate::kubernetes::call::{CallError, call};
use crate::policy::attached::AttachedRegistry;
use crate::policy::credential_secret::{self, Refusal, Refused};
use crate::policy::identity::{AttachedIdentity, ClientProof};
use crate::registry::login_server::LoginServer;
use crate::sync::credentials::Version;

/// What the process' environment says of workload identity, as its admission webhook sets it.
#[derive(Debug, Clone, Default)]
pub struct WorkloadIdentityEnv {
    /// `AZURE_TENANT_ID`.
    pub tenant_id: Option<String>,
    /// `AZURE_CLIENT_ID`.
    pub client_id: Option<String>,
    /// `AZURE_FEDERATED_TOKEN_FILE`.
    pub token_file: Option<PathBuf>,
}

/// Where a credential comes from.
pub(crate) enum CredentialSource {
    /// From Entra ID and the registry.
    Mint(Box<MintRequest>),
    /// The same, as a ServiceAccount whose token is asked for when it is time to mint.
    Account(Account),
    /// As it is.
    Password(Password),
}

/// An identity that is complete.
pub(crate) struct Resolved {
    pub(crate) source: CredentialSource,
    /// Differs whenever the spec or a Secret that it names differs.
    pub(super) inputs: String,
}

impl Resolved {
    /// Whether the credential is not minted, but is as it is: nothing renews it.
    pub(super) fn is_static(&self) -> bool {
        matches!(self.source, CredentialSource::Password(_))
    }
}

/// Puts the identity of a registry together.
pub(crate) async fn resolve(
    client: &Client,
    own_namespace: &str,
    registry: &AttachedRegistry,
    env: &WorkloadIdentityEnv,
) -> Result<Resolved, MintFailure> {
    let secrets = Secrets {
        api: Api::namespaced(client.clone(), own_namespace),
        own_namespace,
        registry: registry.name(),
    };
    let (source, version) = match registry.identity() {
        AttachedIdentity::ServicePrincipal {
            application,
            proof: ClientProof::Secret(reference),
        } => {
            let (secret, version) = secrets.read(reference).await?;
            let identity = MintIdentity::ClientSecret {
                app: application.clone(),
                secret: secret.clone(),
                origin: origin(reference),
            };
            let source = match registry.kind() {
                CredentialKind::ServicePrincipalPassword => CredentialSource::Password(Password {
                    username: application.client_id.clone(),
                    password: secret,
                    principal: Some(identity),
                }),
                CredentialKind::RefreshToken | CredentialKind::AccessToken => mint(registry, identity),
            };
            (source, Some(version))
        }
        AttachedIdentity::ServicePrincipal {
            application,
            proof: ClientProof::Certificate(reference),
        } => {
            let (pem, version) = secrets.read_certificate(reference).await?;
            let identity = MintIdentity::ClientCertificate {
                app: application.clone(),
                pem,
                origin: origin(reference),
            };
            (mint(registry, identity), Some(version))
        }
        AttachedIdentity::WorkloadIdentity { tenant_id, client_id } => {
            let (identity, application) = workload_identity(
                registry.login_server(),
                tenant_id.as_ref(),
                client_id.as_ref(),
                env,
            )?;
            (mint(registry, identity), application)
        }
        AttachedIdentity::ManagedIdentity(identity) => {
            let identity = MintIdentity::ManagedIdentity(identity.clone());
            (mint(registry, identity), None)
        }
        AttachedIdentity::ServiceAccount(name) => {
            let owner = registry
                .owner()
                .ok_or_else(|| invalid("a ServiceAccount is for an AcrPullBinding"))?;
            let account = Account::read(client, own_namespace, owner, name, env.tenant_id.as_ref()).await?;
            let version = version_of(account.application());
            (CredentialSource::Account(account), Some(version))
        }
        AttachedIdentity::Basic(reference) => {
            let (password, version) = secrets.read_basic(reference).await?;
            (CredentialSource::Password(password), Some(version))
        }
        AttachedIdentity::Anonymous => return Err(invalid("spec.identity.anonymous has no credential")),
    };
    Ok(Resolved {
        source,
        inputs: inputs(registry.fingerprint(), version.as_deref()),
    })
}

/// Where a secret is kept, in words for the person who has to replace it.
fn origin(reference: &SecretKeyRef) -> String {
    format!("Secret {}, key {}", reference.name, reference.key)
}

fn mint(registry: &AttachedRegistry, identity: MintIdentity) -> CredentialSource {
    CredentialSource::Mint(Box::new(mint_request(registry, identity)))
}

/// What is asked for a registry as a ServiceAccount, with a token that this client gets.
pub(crate) async fn request_as(
    client: &Client,
    registry: &AttachedRegistry,
    account: &Account,
) -> Result<MintRequest, MintFailure> {
    let identity = account.with_token(client, registry.login_server()).await?;
    Ok(mint_request(registry, identity))
}

/// What is asked for a registry as an identity.
pub(super) fn mint_request(registry: &AttachedRegistry, identity: MintIdentity) -> MintRequest {
    MintRequest {
        login_server: registry.login_server().clone(),
        cloud: registry.login_server().cloud(),
        audience: registry.audience().map(str::to_owned),
        remembered_audience: None,
        identity,
        kind: match registry.kind() {
            CredentialKind::AccessToken => MintKind::AccessToken {
                repositories: registry.repositories().to_vec(),
            },
            CredentialKind::RefreshToken | CredentialKind::ServicePrincipalPassword => MintKind::RefreshToken,
        },
    }
}

/// What tells an application from another one, where the spec's fingerprint does not.
fn version_of(app: &Application) -> String {
    format!("{}:{}", app.tenant_id, app.client_id)
}

/// The identity, and which application it is where the environment says a part of that: the spec's fingerprint knows nothing
/// of it then.
fn workload_identity(
    login_server: &LoginServer,
    tenant_id: Option<&String>,
    client_id: Option<&String>,
    env: &WorkloadIdentityEnv,
) -> Result<(MintIdentity, Option<String>), MintFailure> {
    let either = |own: Option<&String>, around: &Option<String>, field: &str, variable: &str| {
        own.or(around.as_ref()).cloned().ok_or_else(|| {
            invalid(&format!(
                "spec.identity.workloadIdentity.{field}: set it, or {variable} in the environment of pullpass"
            ))
        })
    };
    let app = Application {
        tenant_id: either(tenant_id, &env.tenant_id, "tenantId", "AZURE_TENANT_ID")?,
        client_id: either(client_id, &env.client_id, "clientId", "AZURE_CLIENT_ID")?,
    };
    let token_file = env.token_file.clone().ok_or_else(|| MintFailure {
        reason: Reason::CredentialSecretMissing,
        message: with_advice(
            "workload identity needs AZURE_FEDERATED_TOKEN_FILE in the environment of pullpass",
            no_token_file_advice(login_server).as_deref(),
        ),
        retry_after: None,
    })?;
    let is_of_the_spec = tenant_id.is_some() && client_id.is_some();
    let application = (!is_of_the_spec).then(|| version_of(&app));
    Ok((MintIdentity::WorkloadIdentity { app, token_file }, application))
}

/// The Secrets of the own namespace that an AcrRegistry may use. Nothing else reads one for an AcrRegistry.
struct Secrets<'a> {
    api: Api<Secret>,
    own_namespace: &'a str,
    registry: &'a str,
}

impl Secrets<'_> {
    /// The value of a key, and the version of the Secret that it came of.
    async fn read(&self, reference: &SecretKeyRef) -> Result<(SecretText, String), MintFailure> {
        let secret = self.fetch(reference).await?;
        let text = self.value(&secret, reference)?;
        Ok((text, secret.resource_version().unwrap_or_default()))
    }

    /// The same of a client certificate, with its private key: a Secret of type `kubernetes.io/tls` has it under a key of its
    /// own.
    async fn read_certificate(&self, reference: &SecretKeyRef) -> Result<(SecretText, String), MintFailure> {
        let secret = self.fetch(reference).await?;
        let mut text = self.value(&secret, reference)?;
        if secret.type_.as_deref() == Some(TLS_TYPE) && reference.key == TLS_CERTIFICATE_KEY {
            let private_key = SecretKeyRef {
                name: reference.name.clone(),
                key: TLS_PRIVATE_KEY_KEY.to_owned(),
            };
            let private_key = self.value(&secret, &private_key)?;
            text = format!("{}\n{}", text.expose(), private_key.expose()).into();
        }
        Ok((text, secret.resource_version().unwrap_or_default()))
    }

    /// A user name and its password. Both are of one read: values of two versions, under the version of the first, would have the
    /// second pass for one that is known.
    async fn read_basic(&self, reference: &BasicSecretRef) -> Result<(Password, String), MintFailure> {
        let key = |key: &str| SecretKeyRef {
            name: reference.name.clone(),
            key: key.to_owned(),
        };
        let username_key = key(&reference.username_key);
        let secret = self.fetch(&username_key).await?;
        let password = Password {
            username: self.value(&secret, &username_key)?.expose().to_owned(),
            password: self.value(&secret, &key(&reference.password_key))?,
            principal: None,
        };
        Ok((password, secret.resource_version().unwrap_or_default()))
    }

    async fn fetch(&self, reference: &SecretKeyRef) -> Result<Secret, MintFailure> {
        let SecretKeyRef { name, key } = reference;
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
        let secret = call(self.api.get_opt(name)).await.map_err(|error| MintFailure {
            reason: Reason::Unreachable,
            message: without_advice(&match &error {
                error if error.status().is_some() => format!(
                    "Secret {name} in namespace {} can't be read: {error}",
                    self.own_namespace
                ),
                CallError::TimedOut(_) => error.to_string(),
                CallError::Kube(_) => format!("the API server can't be reached: {error}"),
            }),
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
        Ok(secret)
    }

    fn value(&self, secret: &Secret, reference: &SecretKeyRef) -> Result<SecretText, MintFailure> {
        let SecretKeyRef { name, key } = reference;
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        let text = value.map(|value| SecretText::decode(&value.0)).transpose();
        let text = text.map_err(|error| {
            missing(format!(
                "the key {key} of Secret {name} in namespace {} can't be read: {error}",
                self.own_namespace
            ))
        })?;
        match text.filter(|text| !text.trimmed().is_empty()) {
            Some(text) => Ok(text),
            None => Err(missing(format!(
                "Secret {name} in namespace {} has no text under the key {key}: put it there, or correct the key",
                self.own_namespace
            ))),
        }
    }
}

fn missing(message: String) -> MintFailure {
    MintFailure {
        reason: Reason::CredentialSecretMissing,
        message,
        retry_after: None,
    }
}

/// Tells inputs apart without holding or hashing any secret: the spec's own fingerprint, and the version of the Secret that
/// it names, which stands for its content. [`secret_version`] reads it back; otherwise, a build that makes another text of
/// the same inputs mints again, once.
fn inputs(fingerprint: &str, secret_version: Option<&str>) -> String {
    match secret_version {
        Some(version) => format!("{fingerprint}/{version}"),
        None => fingerprint.to_owned(),
    }
}

/// The version of the identity's Secret that a credential with these inputs was minted from; none if there was no
/// Secret, or where an earlier release minted it.
pub(crate) fn secret_version(inputs: &str) -> Option<Version> {
    let (_, version) = inputs.split_once('/')?;
    Version::parse(Some(version))
}

fn invalid(message: &str) -> MintFailure {
    MintFailure {
        reason: Reason::InvalidSpec,
        message: message.to_owned(),
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicU32, Ordering};

    use http::{Request, Response};
    use k8s_openapi::ByteString;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::*;
    use crate::kubernetes::call::CALL_TIMEOUT;

    fn with_a_secret() -> AttachedRegistry {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "mine"},
            "spec": {
                "loginServer": "myregistry.azurecr.io",
                "identity": {"basic": {"secretRef": {"name": "token"}}},
            },
        });
        AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap()
    }

    #[test]
    fn inputs_say_which_version_of_the_secret_they_are_of() {
        let [before, after] = ["9", "10"].map(|version| secret_version(&inputs("abc", Some(version))));
        assert!(before.is_some() && before < after);
        assert_eq!(secret_version(&inputs("abc", None)), None);
        assert_eq!(secret_version("0123456789abcdef"), None, "of an earlier release");
        assert_ne!(inputs("abc", Some("9")), inputs("abd", Some("9")));
    }

    #[tokio::test]
    async fn another_application_of_the_environment_is_another_input() {
        let of = async |client_id: &str, spec: Value| {
            let object = json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "mine"},
                "spec": {"loginServer": "myregistry.azurecr.io", "identity": {"workloadIdentity": spec}},
            });
            let registry = AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap();
            let env = WorkloadIdentityEnv {
                tenant_id: Some("contoso.onmicrosoft.com".to_owned()),
                client_id: Some(client_id.to_owned()),
                token_file: Some("/var/run/token".into()),
            };
            let unused = |_: Request<Body>| pending::<Result<Response<Body>, kube::Error>>();
            let client = Client::new(tower::service_fn(unused), "pullpass-system");
            let resolved = resolve(&client, "pullpass-system", &registry, &env).await;
            (registry.fingerprint().to_owned(), resolved.ok().unwrap().inputs)
        };
        let (_, powerful) = of("11111111-1111-4111-8111-111111111111", json!({})).await;
        let (_, narrow) = of("22222222-2222-4222-8222-222222222222", json!({})).await;
        assert_ne!(powerful, narrow);
        assert_eq!(secret_version(&narrow), None);
        // What the spec says is in its fingerprint.
        let spec = json!({
            "tenantId": "33333333-3333-4333-8333-333333333333", "clientId": "44444444-4444-4444-8444-444444444444",
        });
        let (fingerprint, inputs) = of("11111111-1111-4111-8111-111111111111", spec).await;
        assert_eq!(inputs, fingerprint);
    }

    /// Somebody rotates the password at any time.
    #[tokio::test]
    async fn a_user_name_and_its_password_are_of_one_version() {
        let version = AtomicU32::new(1);
        let rotated_each_time = move |_: Request<Body>| {
            let version = version.fetch_add(1, Ordering::Relaxed);
            let encode = |text: String| ByteString(text.into_bytes());
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": {
                    "name": "token", "namespace": "pullpass-system", "resourceVersion": version.to_string(),
                    "annotations": {"pullpass.dev/registries": "mine"},
                },
                "data": {
                    "username": encode(format!("puller-{version}")), "password": encode(format!("hunter-{version}")),
                },
            });
            std::future::ready(Ok::<_, kube::Error>(Response::new(Body::from(
                secret.to_string().into_bytes(),
            ))))
        };
        let client = Client::new(tower::service_fn(rotated_each_time), "pullpass-system");
        let env = WorkloadIdentityEnv::default();
        let resolved = resolve(&client, "pullpass-system", &with_a_secret(), &env).await;
        let Resolved { source, inputs } = resolved.map_err(|failure| failure.message).unwrap();
        let CredentialSource::Password(password) = source else {
            panic!("a password is read")
        };
        let version = inputs.rsplit('/').next().unwrap();
        assert_eq!(password.username, format!("puller-{version}"));
        assert_eq!(password.password.expose(), format!("hunter-{version}"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_secrets_read_without_an_answer_ends() {
        let silent = |_: Request<Body>| pending::<Result<Response<Body>, kube::Error>>();
        let client = Client::new(tower::service_fn(silent), "pullpass-system");
        let registry = with_a_secret();
        let begin = Instant::now();
        let resolved = resolve(
            &client,
            "pullpass-system",
            &registry,
            &WorkloadIdentityEnv::default(),
        )
        .await;
        assert_eq!(begin.elapsed(), CALL_TIMEOUT);
        let failure = resolved.err().unwrap();
        assert_eq!(failure.reason, Reason::Unreachable);
        assert_eq!(failure.message, "the API server did not answer within 10s");
    }
}

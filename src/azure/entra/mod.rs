//! Access tokens of Entra ID, and of the managed identity endpoint, which returns the same.
//!
//! `azure_identity` makes the requests. The answers are decoded here, because the library loses the AADSTS code if the
//! description contains an escape, accepts an answer without a token as a success, and retries without being asked to.

mod algorithm;
mod assertion;
mod certificate;
mod decode;
mod recorder;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use azure_core::cloud::CustomConfiguration;
use azure_core::credentials::TokenCredential;
use azure_core::http::{ClientOptions, RetryOptions, Transport};
use azure_identity::{
    ClientAssertionCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId,
};
use jiff::Timestamp;
use thiserror::Error;

pub use self::algorithm::UnsupportedAlgorithm;
use self::assertion::Assertion;
use self::certificate::ClientCertificate;
pub use self::certificate::{CertificateError, check_certificate};
pub use self::decode::{Refusal, token_of};
use self::recorder::Recorder;
use crate::azure::endpoint::{Audience, AuthorityHost, ImdsEndpoint, OtherEntra};
use crate::azure::identity::{Application, ManagedIdentity, MintIdentity};
use crate::azure::service_error::ServiceError;
use crate::base::causes::causes;
use crate::base::secret_text::SecretText;
use crate::http::{HttpClient, RequestObserver};
use crate::registry::cloud::Cloud;

const NO_TOKEN: &str = "no token from Entra ID";
const NO_MANAGED_TOKEN: &str = "no token from the managed identity endpoint";

/// Where tokens come from.
#[derive(Debug, Clone)]
pub struct Entra {
    http: HttpClient,
    authority_host: Option<AuthorityHost>,
    imds_endpoint: Option<ImdsEndpoint>,
    other_cloud: Option<OtherEntra>,
}

/// Why there is no token. The same failure always reads the same, and no secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EntraError {
    /// No sound answer from Entra ID.
    #[error("{NO_TOKEN}: {0}")]
    ServiceError(ServiceError),
    /// No sound answer from the managed identity endpoint.
    #[error("{NO_MANAGED_TOKEN}: {0}")]
    ImdsServiceError(ServiceError),
    /// Entra ID refuses.
    #[error("Entra ID refused: {0}")]
    Refused(Refusal),
    /// The managed identity endpoint refuses.
    #[error("the managed identity endpoint refused: {0}")]
    ImdsRefused(Refusal),
    /// The client certificate can't be used.
    #[error("the client certificate can't be used: {0}")]
    Certificate(CertificateError),
    /// The client secret is empty.
    #[error("the client secret is empty")]
    EmptySecret,
    /// The federated token's file can't be read, or holds nothing.
    #[error("the federated token file {} can't be used: {cause}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The federated token is signed in a way that Entra ID does not take.
    #[error(
        "the cluster signs service account tokens by {0}, and Entra ID accepts only RSA signatures (RS256, \
         PS256 and their longer forms): it can't trust the tokens of this cluster"
    )]
    TokenAlgorithm(UnsupportedAlgorithm),
    /// The identity is described in a way that no request can be made of.
    #[error("no request is possible for this identity: {0}")]
    Identity(String),
}

impl EntraError {
    /// Whether a text is that of an error of a service that gave no sound answer.
    pub fn is_of_service(text: &str) -> bool {
        [NO_TOKEN, NO_MANAGED_TOKEN]
            .iter()
            .any(|beginning| text.starts_with(beginning))
    }
}

impl Entra {
    /// Tokens by a client. Without an authority host it is the cloud's own, without an endpoint Azure's own.
    pub fn new(
        http: HttpClient,
        authority_host: Option<AuthorityHost>,
        imds_endpoint: Option<ImdsEndpoint>,
    ) -> Self {
        Self {
            http,
            authority_host,
            imds_endpoint,
            other_cloud: None,
        }
    }

    /// The same, which knows where tokens of another cloud come from. No identity of that cloud is sent anywhere else.
    #[must_use]
    pub fn with_other_cloud(self, other_cloud: Option<OtherEntra>) -> Self {
        Self { other_cloud, ..self }
    }

    /// The same, whose requests an observer is told about.
    pub(super) fn observed_by(self, observer: Arc<dyn RequestObserver>) -> Self {
        let http = self.http.observed_by(observer);
        Self { http, ..self }
    }

    /// The audience that registries of the other cloud take.
    pub(super) fn other_audience(&self) -> Option<&str> {
        let audience = self.other_cloud.as_ref().map(|other| &other.audience);
        audience.map(Audience::as_str)
    }

    /// Asks for a token for an audience; without one of Azure's clouds, the other cloud. Nothing is cached, and nothing tried
    /// twice.
    pub async fn token(
        &self,
        cloud: Option<Cloud>,
        identity: &MintIdentity,
        audience: &str,
        now: Timestamp,
    ) -> Result<SecretText, EntraError> {
        let recorder = Arc::new(Recorder::new(self.http.clone(), self.imds_endpoint.clone()));
        let credential = self.credential(cloud, identity, &recorder, now).await?;
        let scope = format!("{}/.default", audience.trim_end_matches('/'));
        let outcome = credential.get_token(&[&scope], None).await;
        let is_managed = matches!(identity, MintIdentity::ManagedIdentity(_));
        match (recorder.take(), outcome) {
            (Some(Ok(response)), _) => token_of(&response, is_managed, now),
            (Some(Err(error)), _) => Err(service_error(ServiceError::NoAnswer(error), is_managed)),
            (None, Err(error)) => Err(EntraError::Identity(error.to_string())),
            (None, Ok(_)) => Err(EntraError::Identity("no request was made".to_owned())),
        }
    }

    async fn credential(
        &self,
        cloud: Option<Cloud>,
        identity: &MintIdentity,
        recorder: &Arc<Recorder>,
        now: Timestamp,
    ) -> Result<Arc<dyn TokenCredential>, EntraError> {
        let authority = self.authority(cloud)?;
        let options = client_options(&authority, recorder);
        match identity {
            MintIdentity::ClientSecret { app, secret, .. } => {
                let secret = secret.trimmed();
                if secret.is_empty() {
                    return Err(EntraError::EmptySecret);
                }
                let options = ClientSecretCredentialOptions {
                    client_options: options,
                };
                let secret = secret.expose().to_owned().into();
                let client_id = app.client_id.clone();
                let credential =
                    ClientSecretCredential::new(&app.tenant_id, client_id, secret, Some(options));
                Ok(credential.map_err(|error| unusable(&error))?)
            }
            MintIdentity::ClientCertificate { app, pem, .. } => {
                let certificate = ClientCertificate::parse(pem, now).map_err(EntraError::Certificate)?;
                let assertion = certificate.assertion(app, &authority, now);
                with_assertion(app, assertion.map_err(EntraError::Certificate)?, options)
            }
            MintIdentity::WorkloadIdentity { app, token_file } => {
                with_assertion(app, federated_token(token_file).await?, options)
            }
            MintIdentity::FederatedToken { app, token, .. } => {
                UnsupportedAlgorithm::check(token).map_err(EntraError::TokenAlgorithm)?;
                with_assertion(app, Assertion::new(token.clone()), options)
            }
            MintIdentity::ManagedIdentity(id) => {
                let options = ManagedIdentityCredentialOptions {
                    user_assigned_id: match id {
                        ManagedIdentity::System => None,
                        ManagedIdentity::ClientId(id) => Some(UserAssignedId::ClientId(id.clone())),
                        ManagedIdentity::ResourceId(id) => Some(UserAssignedId::ResourceId(id.clone())),
                    },
                    client_options: options,
                };
                Ok(ManagedIdentityCredential::new(Some(options)).map_err(|error| unusable(&error))?)
            }
        }
    }

    fn authority(&self, cloud: Option<Cloud>) -> Result<String, EntraError> {
        match (cloud, &self.authority_host, &self.other_cloud) {
            (Some(_), Some(host), _) => Ok(host.to_string()),
            (Some(cloud), None, _) => Ok(format!("https://{}", cloud.authority_host())),
            (None, _, Some(other)) => Ok(other.authority_host.to_string()),
            (None, _, None) => Err(EntraError::Identity(
                "the other cloud's Entra ID is not known: set --other-cloud-authority".to_owned(),
            )),
        }
    }
}

impl EntraError {
    /// The service error behind the error, if that is what it is.
    pub fn service_error(&self) -> Option<&ServiceError> {
        match self {
            Self::ServiceError(trouble) | Self::ImdsServiceError(trouble) => Some(trouble),
            Self::Refused(_)
            | Self::ImdsRefused(_)
            | Self::Certificate(_)
            | Self::EmptySecret
            | Self::TokenFile { .. }
            | Self::TokenAlgorithm(_)
            | Self::Identity(_) => None,
        }
    }

    /// The refusal behind the error, if that is what it is.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) | Self::ImdsRefused(refusal) => Some(refusal),
            Self::ServiceError(_)
            | Self::ImdsServiceError(_)
            | Self::Certificate(_)
            | Self::EmptySecret
            | Self::TokenFile { .. }
            | Self::TokenAlgorithm(_)
            | Self::Identity(_) => None,
        }
    }
}

fn service_error(trouble: ServiceError, is_managed: bool) -> EntraError {
    if is_managed {
        EntraError::ImdsServiceError(trouble)
    } else {
        EntraError::ServiceError(trouble)
    }
}

fn client_options(authority: &str, recorder: &Arc<Recorder>) -> ClientOptions {
    let mut cloud = CustomConfiguration::default();
    authority.clone_into(&mut cloud.authority_host);
    ClientOptions {
        retry: RetryOptions::none(),
        transport: Some(Transport::new(Arc::clone(recorder) as Arc<_>)),
        cloud: Some(Arc::new(cloud.into())),
        ..ClientOptions::default()
    }
}

fn with_assertion(
    app: &Application,
    assertion: Assertion,
    client_options: ClientOptions,
) -> Result<Arc<dyn TokenCredential>, EntraError> {
    let options = ClientAssertionCredentialOptions { client_options };
    let (tenant_id, client_id) = (app.tenant_id.clone(), app.client_id.clone());
    let credential = ClientAssertionCredential::new(tenant_id, client_id, assertion, Some(options));
    Ok(credential.map_err(|error| unusable(&error))?)
}

/// The kubelet replaces the file's content well before it expires, so it is never kept.
async fn federated_token(path: &Path) -> Result<Assertion, EntraError> {
    let file = path.to_owned();
    let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(file)).await;
    let unusable = |cause: String| EntraError::TokenFile {
        path: path.to_owned(),
        cause,
    };
    let text = read
        .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
        .map_err(|error| unusable(error.kind().to_string()))?;
    let token = SecretText::from(text).trimmed();
    if token.is_empty() {
        return Err(unusable("it is empty".to_owned()));
    }
    UnsupportedAlgorithm::check(&token).map_err(EntraError::TokenAlgorithm)?;
    Ok(Assertion::new(token))
}

fn unusable(error: &azure_core::Error) -> EntraError {
    EntraError::Identity(causes(error))
}

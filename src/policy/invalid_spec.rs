//! What can be wrong with an AcrRegistry's spec.

use thiserror::Error;

use crate::registry::custom_domain::CustomDomainError;
use crate::registry::login_server::LoginServerError;
use crate::registry::other_cloud::OtherCloudError;
use crate::registry::resource_id::ResourceIdError;

/// Why an AcrRegistry's spec can't be acted on. The API server refuses these, except for those that depend on the
/// settings of the process; an older CRD may have let one in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidSpec {
    /// Neither of the two ways to name the registry is there.
    #[error("set spec.loginServer or spec.resourceId")]
    NoRegistry,
    /// The login server has a bad form.
    #[error("spec.loginServer: {0}")]
    LoginServer(#[from] LoginServerError),
    /// The resource ID has a bad form.
    #[error("spec.resourceId: {0}")]
    ResourceId(#[from] ResourceIdError),
    /// A custom domain has a bad form.
    #[error("spec.customDomains: {0}")]
    CustomDomain(#[from] CustomDomainError),
    /// Another cloud was named, and no host in it.
    #[error(
        "spec.cloud Other needs spec.loginServer: a resource ID does not contain the host of a registry there"
    )]
    NoHost,
    /// The process may send nothing to a host of another cloud.
    #[error("{0}")]
    OtherCloud(#[from] OtherCloudError),
    /// The login server is of another cloud than the one that was named.
    #[error("spec.cloud does not fit the suffix of spec.loginServer: leave spec.cloud out, or correct it")]
    Cloud,
    /// The identity is none, or several.
    #[error(
        "spec.identity: set exactly one of servicePrincipal, workloadIdentity, managedIdentity, basic and anonymous"
    )]
    Identity,
    /// The service principal has no proof, or two.
    #[error("spec.identity.servicePrincipal: set exactly one of clientSecretRef and clientCertificateRef")]
    ClientProof,
    /// The managed identity is named twice.
    #[error("spec.identity.managedIdentity: set clientId or resourceId, not both")]
    ManagedIdentity,
    /// There is no client secret that could be handed out.
    #[error(
        "spec.credential.kind ServicePrincipalPassword needs spec.identity.servicePrincipal.clientSecretRef"
    )]
    NoClientSecret,
    /// The namespace selector has a bad form.
    #[error("spec.namespaces: {0}")]
    Namespaces(String),
}

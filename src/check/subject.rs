//! What is checked, and with which identity.

use std::fmt;

use thiserror::Error;

use super::finding::CheckStep;
use crate::azure::mint::{ManagedIdentity, MintIdentity, MintRequest};
use crate::base::secret_text::SecretText;
use crate::registry::image::{ImageReference, ImageReferenceError};
use crate::registry::login_server::LoginServer;
use crate::registry::resource_id::ResourceId;

/// What is checked, and with which identity.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The registry.
    pub login_server: LoginServer,
    /// The host that it was named by, where that is not the login server: a regional endpoint, or a custom domain.
    pub endpoint: Option<String>,
    /// The AcrRegistry that it was found by, if it was.
    pub registry: Option<String>,
    /// The registry's resource ID, where it is known.
    pub resource_id: Option<ResourceId>,
    /// Who pulls.
    pub identity: SubjectIdentity,
    /// What is pulled.
    pub target: Option<Target>,
}

impl Subject {
    /// The host that a step is about.
    pub(super) fn host_of(&self, step: CheckStep) -> &str {
        match (step, &self.endpoint) {
            (CheckStep::Endpoint, Some(endpoint)) => endpoint,
            _ => self.login_server.as_str(),
        }
    }
}

/// Who pulls.
#[derive(Debug, Clone)]
pub enum SubjectIdentity {
    /// Nobody: what needs an identity is left out.
    Nobody {
        /// Why.
        why: String,
    },
    /// Somebody of Entra ID.
    Mint(Box<MintRequest>),
    /// A user name and password of the registry's own.
    Password {
        /// The user name.
        username: String,
        /// The password.
        password: SecretText,
    },
    /// Somebody whose identity is not complete.
    Broken {
        /// What is wrong, and what to do.
        message: String,
    },
}

/// An image of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The repository.
    pub repository: String,
    /// The tag or digest; without one, one is chosen.
    pub reference: Option<String>,
}

/// Why a text names no image of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It has a bad form.
    #[error(transparent)]
    Form(#[from] ImageReferenceError),
    /// It names another registry.
    #[error("it names the registry {0}; write only the repository")]
    Elsewhere(String),
}

impl Target {
    /// Reads `REPOSITORY[:TAG][@DIGEST]`, which may have the registry before it: its login server, or the host that it was
    /// named by.
    pub fn parse(
        text: &str,
        login_server: &LoginServer,
        endpoint: Option<&str>,
    ) -> Result<Self, TargetError> {
        let image = ImageReference::parse(text)?;
        if let Some(host) = image.registry()
            && LoginServer::known_host(&host) != login_server.as_str()
            && endpoint != Some(host.as_str())
        {
            return Err(TargetError::Elsewhere(host.as_str().to_owned()));
        }
        Ok(Self {
            repository: image.repository().to_owned(),
            reference: image.digest().or(image.tag()).map(str::to_owned),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        match &self.reference {
            Some(digest) if digest.contains(':') => write!(f, "@{digest}"),
            Some(tag) => write!(f, ":{tag}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SubjectIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody { .. } => f.write_str("nobody"),
            Self::Broken { .. } => f.write_str("an identity that is not complete"),
            Self::Password { username, .. } => write!(f, "user {username}"),
            Self::Mint(request) => match &request.identity {
                MintIdentity::ManagedIdentity(ManagedIdentity::System) => {
                    f.write_str("the system-assigned managed identity")
                }
                MintIdentity::ManagedIdentity(
                    ManagedIdentity::ClientId(id) | ManagedIdentity::ResourceId(id),
                ) => write!(f, "managed identity {id}"),
                MintIdentity::ClientSecret { app, .. }
                | MintIdentity::ClientCertificate { app, .. }
                | MintIdentity::WorkloadIdentity { app, .. }
                | MintIdentity::FederatedToken { app, .. } => {
                    write!(f, "application {} of tenant {}", app.client_id, app.tenant_id)
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_the_registry_is_named_with_or_without_it() {
        let login_server = LoginServer::parse("myregistry.azurecr.io").unwrap();
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, shown) in [
            ("team/app", "team/app".to_owned()),
            ("team/app:v1", "team/app:v1".to_owned()),
            ("MyRegistry.azurecr.io:443/app:v1", "app:v1".to_owned()),
            (&format!("app:v1@{digest}"), format!("app@{digest}")),
        ] {
            let target = Target::parse(text, &login_server, None).unwrap();
            assert_eq!(target.to_string(), shown);
        }
        let domain = "registry.contoso.com/app:v1";
        let target = Target::parse(domain, &login_server, Some("registry.contoso.com")).unwrap();
        assert_eq!(target.to_string(), "app:v1");
        for text in [
            "",
            "App",
            "app:",
            "other.azurecr.io/app",
            "https://myregistry.azurecr.io/app",
            domain,
        ] {
            assert!(Target::parse(text, &login_server, None).is_err(), "{text}");
        }
    }
}

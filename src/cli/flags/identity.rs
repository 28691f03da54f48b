//! Who pulls, as flags say it. A secret comes from a file, from standard input or from a prompt, never from a flag.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::secret_source::SecretSource;
use crate::api::acr_registry::SecretKeyRef;
use crate::cli::target::SecretName;

/// The key of a password in a Secret, unless another is named.
pub(in crate::cli) const PASSWORD_KEY: &str = "password";
/// The key of a user name in a Secret.
pub(in crate::cli) const USERNAME_KEY: &str = "username";
/// The key of a client certificate and its private key in a Secret, unless another is named.
pub(in crate::cli) const CERTIFICATE_KEY: &str = "certificate.pem";

/// Who pulls: exactly one kind.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct IdentityFlags {
    /// The Entra tenant: its GUID or one of its domains
    #[arg(long, value_name = "TENANT", value_parser = tenant)]
    pub(in crate::cli) tenant_id: Option<String>,
    /// The client ID of the service principal, the workload identity or the user-assigned managed identity
    #[arg(long, value_name = "ID", value_parser = client)]
    pub(in crate::cli) client_id: Option<String>,
    /// The service principal's client secret is in this file; - for standard input. Without it and on a terminal, you
    /// are asked for the secret
    #[arg(long, value_name = "FILE", group = "kind")]
    client_secret_file: Option<PathBuf>,
    /// The client secret is in this Secret in pullpass' namespace, under this key [default key: password]
    #[arg(long, value_name = "SECRET[/KEY]", group = "kind", value_parser = password_reference)]
    client_secret: Option<SecretKeyRef>,
    /// The service principal's client certificate and private key are in this file, in PEM; - for standard input
    #[arg(long, value_name = "FILE", group = "kind")]
    client_certificate_file: Option<PathBuf>,
    /// Certificate and private key are in this Secret in pullpass' namespace, under this key [default key: certificate.pem]
    #[arg(long, value_name = "SECRET[/KEY]", group = "kind", value_parser = certificate_reference)]
    client_certificate: Option<SecretKeyRef>,
    /// Use the application that trusts the service account token of pullpass
    #[arg(long, group = "kind")]
    workload_identity: bool,
    /// Use the identity of the machines that pullpass runs on: the system-assigned one, unless you name another
    #[arg(long, group = "kind", conflicts_with = "tenant_id")]
    managed_identity: bool,
    /// The resource ID of a user-assigned managed identity
    #[arg(
        long,
        value_name = "ID",
        requires = "managed_identity",
        conflicts_with = "client_id"
    )]
    identity_resource_id: Option<String>,
    /// The name of a repository-scoped token of the registry, or of its admin user
    #[arg(long, value_name = "NAME", group = "kind", conflicts_with_all = ["tenant_id", "client_id"], value_parser = user)]
    token_name: Option<String>,
    /// The token's password is in this file; - for standard input. Without it and on a terminal, you are asked for it
    #[arg(long, value_name = "FILE", requires = "token_name")]
    token_password_file: Option<PathBuf>,
    /// A token's name and password are in this Secret in pullpass' namespace, under the keys username and password
    #[arg(long, value_name = "SECRET", group = "kind", conflicts_with_all = ["tenant_id", "client_id"])]
    basic: Option<SecretName>,
    /// Use no identity: the registry allows anonymous pull, and Pods get no pull secret for it. A check skips steps
    /// that need an identity
    #[arg(long, group = "kind", conflicts_with_all = ["tenant_id", "client_id"])]
    anonymous: bool,
}

/// What proves that somebody is the service principal.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) enum Proof {
    Secret(SecretSource),
    SecretIn(SecretKeyRef),
    Certificate(SecretSource),
    CertificateIn(SecretKeyRef),
}

/// Who is said to pull.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) enum Who {
    ServicePrincipal {
        tenant_id: Option<String>,
        client_id: Option<String>,
        proof: Proof,
    },
    WorkloadIdentity {
        tenant_id: Option<String>,
        client_id: Option<String>,
    },
    ManagedIdentity {
        client_id: Option<String>,
        resource_id: Option<String>,
    },
    Token {
        name: String,
        password: SecretSource,
    },
    Basic(SecretName),
    Anonymous,
}

impl IdentityFlags {
    /// Who is said to pull; none if no flag says so.
    pub(in crate::cli) fn who(&self) -> Option<Who> {
        let flags = self.clone();
        let (tenant_id, client_id) = (flags.tenant_id, flags.client_id);
        if flags.anonymous {
            return Some(Who::Anonymous);
        }
        if flags.workload_identity {
            return Some(Who::WorkloadIdentity { tenant_id, client_id });
        }
        if flags.managed_identity {
            return Some(Who::ManagedIdentity {
                client_id,
                resource_id: flags.identity_resource_id,
            });
        }
        if let Some(name) = flags.token_name {
            let password = SecretSource::of(flags.token_password_file.as_ref());
            return Some(Who::Token { name, password });
        }
        if let Some(secret) = flags.basic {
            return Some(Who::Basic(secret));
        }
        let proof = match (flags.client_secret, flags.client_certificate) {
            (Some(reference), _) => Proof::SecretIn(reference),
            (None, Some(reference)) => Proof::CertificateIn(reference),
            (None, None) if flags.client_certificate_file.is_some() => {
                Proof::Certificate(SecretSource::of(flags.client_certificate_file.as_ref()))
            }
            (None, None) => Proof::Secret(SecretSource::of(flags.client_secret_file.as_ref())),
        };
        if proof == Proof::Secret(SecretSource::Prompt) && tenant_id.is_none() && client_id.is_none() {
            return None;
        }
        Some(Who::ServicePrincipal {
            tenant_id,
            client_id,
            proof,
        })
    }

    /// Whether it is a user of the registry's own.
    pub(in crate::cli) fn is_basic(&self) -> bool {
        self.token_name.is_some() || self.basic.is_some()
    }

    /// Whether it is nobody.
    pub(in crate::cli) fn is_anonymous(&self) -> bool {
        self.anonymous
    }
}

pub(in crate::cli) fn word(text: &str, others: &[u8], says: &str) -> Result<String, String> {
    let fits = (1..=255).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte));
    fits.then(|| text.to_owned()).ok_or_else(|| says.to_owned())
}

pub(in crate::cli) fn tenant(text: &str) -> Result<String, String> {
    word(
        text,
        b".-",
        "a tenant is a GUID or a domain: `az account show --query tenantId` prints it",
    )
}

pub(in crate::cli) fn client(text: &str) -> Result<String, String> {
    word(
        text,
        b"-",
        "a client ID is a GUID: `az ad sp list --display-name NAME --query [].appId` prints it",
    )
}

fn user(text: &str) -> Result<String, String> {
    word(
        text,
        b"._-",
        "a token's name has letters, digits, hyphens and underscores: `az acr token list --registry NAME` prints it",
    )
}

fn password_reference(text: &str) -> Result<SecretKeyRef, String> {
    reference(text, PASSWORD_KEY)
}

fn certificate_reference(text: &str) -> Result<SecretKeyRef, String> {
    reference(text, CERTIFICATE_KEY)
}

fn reference(text: &str, default_key: &str) -> Result<SecretKeyRef, String> {
    let (name, key) = text.split_once('/').unwrap_or((text, default_key));
    let name = SecretName::from_str(name).map_err(|error| error.to_string())?;
    let key = word(
        key,
        b"._-",
        "a Secret's key has letters, digits, dots, hyphens and underscores",
    )?;
    Ok(SecretKeyRef {
        name: name.as_str().to_owned(),
        key,
    })
}

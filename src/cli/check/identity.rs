//! Who pulls, as the flags say it. A secret is read from a file or from standard input, and never from a flag.

use std::env;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::azure::mint::{Application, ManagedIdentity, MintIdentity, MintKind, MintRequest};
use crate::base::secret_text::SecretText;
use crate::check::Identity;
use crate::cli::CliError;
use crate::registry::login_server::LoginServer;

/// The longest client secret that is read.
const MAX_SECRET: u64 = 64 * 1024;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Identity, where it is not the AcrRegistry's")]
pub(super) struct IdentityFlags {
    /// The Entra tenant: its GUID or one of its domains
    #[arg(long, value_name = "TENANT", requires = "kind", value_parser = word)]
    tenant_id: Option<String>,
    /// The client ID of the service principal, the workload identity or the user-assigned managed identity
    #[arg(long, value_name = "ID", requires = "kind", value_parser = word)]
    client_id: Option<String>,
    /// The service principal's client secret is in this file; - for standard input
    #[arg(
        long,
        value_name = "FILE",
        group = "kind",
        requires = "tenant_id",
        requires = "client_id"
    )]
    client_secret_file: Option<PathBuf>,
    /// The application that trusts this Pod's service account token, as the workload identity webhook mounts it
    #[arg(long, group = "kind")]
    workload_identity: bool,
    /// The identity of this machine; the system-assigned one unless --client-id names another
    #[arg(long, group = "kind", conflicts_with = "tenant_id")]
    managed_identity: bool,
    /// Nobody: go as far as one gets without an identity
    #[arg(long, group = "kind", conflicts_with_all = ["tenant_id", "client_id"])]
    anonymous: bool,
}

/// An identity that was given by flags.
pub(super) enum Given {
    Anonymous,
    Somebody(MintIdentity),
}

impl IdentityFlags {
    /// Who was named, if somebody was.
    pub(super) fn given(&self) -> Result<Option<Given>, CliError> {
        if self.anonymous {
            return Ok(Some(Given::Anonymous));
        }
        let identity = if let Some(path) = &self.client_secret_file {
            MintIdentity::ClientSecret {
                app: self.application()?,
                secret: secret(path)?,
                origin: "the file of --client-secret-file".to_owned(),
            }
        } else if self.workload_identity {
            let token_file = env::var_os("AZURE_FEDERATED_TOKEN_FILE").ok_or_else(|| {
                CliError::Input(
                    "--workload-identity needs AZURE_FEDERATED_TOKEN_FILE, the file with the service account's token; \
                     for the identity of the running pullpass use --in-cluster"
                        .to_owned(),
                )
            })?;
            MintIdentity::WorkloadIdentity {
                app: self.application()?,
                token_file: token_file.into(),
            }
        } else if self.managed_identity {
            let client_id = self.client_id.clone();
            MintIdentity::ManagedIdentity(
                client_id.map_or(ManagedIdentity::System, ManagedIdentity::ClientId),
            )
        } else {
            return Ok(None);
        };
        Ok(Some(Given::Somebody(identity)))
    }

    fn application(&self) -> Result<Application, CliError> {
        let either = |given: &Option<String>, flag: &str, variable: &str| {
            given
                .clone()
                .or_else(|| env::var(variable).ok())
                .ok_or_else(|| CliError::Input(format!("give {flag}, or set {variable}")))
        };
        Ok(Application {
            tenant_id: either(&self.tenant_id, "--tenant-id", "AZURE_TENANT_ID")?,
            client_id: either(&self.client_id, "--client-id", "AZURE_CLIENT_ID")?,
        })
    }
}

impl Given {
    /// The identity towards a registry, with the one audience to ask for, if it was chosen.
    pub(super) fn identity(self, login_server: &LoginServer, audience: Option<String>) -> Identity {
        match self {
            Self::Anonymous => Identity::Nobody {
                why: "needs an identity".to_owned(),
            },
            Self::Somebody(identity) => Identity::Mint(Box::new(MintRequest {
                login_server: login_server.clone(),
                cloud: login_server.cloud(),
                audience,
                remembered_audience: None,
                identity,
                kind: MintKind::RefreshToken,
            })),
        }
    }
}

fn secret(path: &Path) -> Result<SecretText, CliError> {
    let problem = |error: &dyn std::fmt::Display| {
        CliError::Input(format!("--client-secret-file {}: {error}", path.display()))
    };
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().take(MAX_SECRET).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(MAX_SECRET).read_to_string(&mut text))
    };
    let secret = SecretText::from(text).trimmed();
    match read {
        Err(error) => Err(problem(&error)),
        Ok(_) if secret.is_empty() => Err(problem(&"it is empty")),
        Ok(_) => Ok(secret),
    }
}

/// As the custom resource's schema has tenants and client IDs.
fn word(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    if !text.is_empty() && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("write letters, digits, dots and hyphens".to_owned())
    }
}

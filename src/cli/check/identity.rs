//! Who pulls, where the flags say it and not the AcrRegistry.

use std::env;
use std::path::PathBuf;

use clap::Args;

use crate::api::acr_registry::{Basic, BasicSecretRef, Identity as SpecIdentity, ServicePrincipal};
use crate::azure::mint::{Application, ManagedIdentity, MintIdentity, MintKind, MintRequest};
use crate::base::secret_text::SecretText;
use crate::check::SubjectIdentity;
use crate::cli::CliError;
use crate::cli::flags::identity::{IdentityFlags, PASSWORD_KEY, Proof, USERNAME_KEY, Who};
use crate::cli::flags::secret_source::{SecretSource, client_certificate, client_secret, token_password};
use crate::registry::login_server::LoginServer;

#[derive(Debug, Clone, Args)]
pub(super) struct CheckedIdentity {
    #[command(flatten)]
    flags: IdentityFlags,
    /// The file with the service account's token for --workload-identity, if it is not the one in the variable of Azure
    /// Workload Identity
    #[arg(long, value_name = "FILE", requires = "workload_identity")]
    federated_token_file: Option<PathBuf>,
}

/// An identity that was given by flags.
pub(super) enum Given {
    Anonymous,
    Somebody(MintIdentity),
    /// A user of the registry's own.
    User {
        username: String,
        password: SecretText,
    },
    /// Somebody whose secret is in a Secret of pullpass' namespace.
    InSecret(Box<SpecIdentity>),
}

impl CheckedIdentity {
    /// Without a registry there is nobody to check.
    pub(super) fn refuse_without_registry(&self) -> Result<(), CliError> {
        let flags = &self.flags;
        if flags.who().is_none() && flags.tenant_id.is_none() && flags.client_id.is_none() {
            return Ok(());
        }
        Err(CliError::Input(
            "an identity is checked at a registry: name one, as in `pullpass check myregistry`".to_owned(),
        ))
    }

    /// Who was named, if somebody was.
    pub(super) fn given(&self) -> Result<Option<Given>, CliError> {
        let Some(who) = self.flags.who() else {
            return Ok(None);
        };
        Ok(Some(match who {
            Who::Anonymous => Given::Anonymous,
            Who::ServicePrincipal {
                tenant_id,
                client_id,
                proof,
            } => service_principal(application(tenant_id, client_id)?, proof)?,
            Who::WorkloadIdentity { tenant_id, client_id } => {
                Given::Somebody(MintIdentity::WorkloadIdentity {
                    token_file: self.token_file()?,
                    app: application(tenant_id, client_id)?,
                })
            }
            Who::ManagedIdentity {
                client_id,
                resource_id,
            } => {
                let resource_id = resource_id.map(ManagedIdentity::ResourceId);
                let named = resource_id.or_else(|| client_id.map(ManagedIdentity::ClientId));
                Given::Somebody(MintIdentity::ManagedIdentity(
                    named.unwrap_or(ManagedIdentity::System),
                ))
            }
            Who::Token { name, password } => Given::User {
                password: token_password(&password, &name)?,
                username: name,
            },
            Who::Basic(secret) => Given::InSecret(Box::new(SpecIdentity {
                basic: Some(Basic {
                    secret_ref: BasicSecretRef {
                        name: secret.as_str().to_owned(),
                        username_key: USERNAME_KEY.to_owned(),
                        password_key: PASSWORD_KEY.to_owned(),
                    },
                }),
                ..SpecIdentity::default()
            })),
        }))
    }

    fn token_file(&self) -> Result<PathBuf, CliError> {
        let variable = || env::var_os("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from);
        self.federated_token_file.clone().or_else(variable).ok_or_else(|| {
            CliError::Input(
                "--workload-identity needs --federated-token-file or AZURE_FEDERATED_TOKEN_FILE, the file with the \
                 service account's token; for the identity of the running pullpass use --in-cluster"
                    .to_owned(),
            )
        })
    }
}

fn service_principal(app: Application, proof: Proof) -> Result<Given, CliError> {
    let in_secret = |client_secret_ref, client_certificate_ref| {
        Given::InSecret(Box::new(SpecIdentity {
            service_principal: Some(ServicePrincipal {
                tenant_id: app.tenant_id.clone(),
                client_id: app.client_id.clone(),
                client_secret_ref,
                client_certificate_ref,
            }),
            ..SpecIdentity::default()
        }))
    };
    Ok(match proof {
        Proof::Secret(source) => Given::Somebody(MintIdentity::ClientSecret {
            secret: client_secret(&source, &app.client_id)?,
            origin: origin(&source, "--client-secret-file"),
            app,
        }),
        Proof::Certificate(source) => Given::Somebody(MintIdentity::ClientCertificate {
            pem: client_certificate(&source, &app.client_id)?,
            origin: origin(&source, "--client-certificate-file"),
            app,
        }),
        Proof::SecretIn(reference) => in_secret(Some(reference), None),
        Proof::CertificateIn(reference) => in_secret(None, Some(reference)),
    })
}

fn origin(source: &SecretSource, flag: &str) -> String {
    match source {
        SecretSource::File(_) => format!("the file of {flag}"),
        SecretSource::StandardInput => "standard input".to_owned(),
        SecretSource::Prompt => "the prompt".to_owned(),
    }
}

fn application(tenant_id: Option<String>, client_id: Option<String>) -> Result<Application, CliError> {
    let either = |given: Option<String>, flag: &str, variable: &str| {
        given
            .or_else(|| env::var(variable).ok())
            .ok_or_else(|| CliError::Input(format!("give {flag}, or set {variable}")))
    };
    Ok(Application {
        tenant_id: either(tenant_id, "--tenant-id", "AZURE_TENANT_ID")?,
        client_id: either(client_id, "--client-id", "AZURE_CLIENT_ID")?,
    })
}

impl Given {
    /// The identity towards a registry, with the one audience to ask for, if it was chosen; or the Secrets that have it.
    pub(super) fn identity(
        self,
        login_server: &LoginServer,
        audience: Option<String>,
    ) -> Result<SubjectIdentity, Box<SpecIdentity>> {
        Ok(match self {
            Self::Anonymous => SubjectIdentity::Nobody {
                why: "needs an identity".to_owned(),
            },
            Self::Somebody(identity) => SubjectIdentity::Mint(Box::new(MintRequest {
                login_server: login_server.clone(),
                cloud: login_server.cloud(),
                audience,
                remembered_audience: None,
                identity,
                kind: MintKind::RefreshToken,
            })),
            Self::User { username, password } => SubjectIdentity::Password { username, password },
            Self::InSecret(identity) => return Err(identity),
        })
    }
}

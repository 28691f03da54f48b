//! The flags of `pullpass attach`, and what they mean.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::namespaces::Namespaces;
use crate::api::acr_registry::{CredentialKind, SecretKeyRef};
use crate::api::names::OWN_NAMESPACE;
use crate::cli::CliError;
use crate::cli::flags::kubeconfig::KubeFlags;
use crate::cli::target::{ObjectName, RegistryTarget, SecretName};
use crate::registry::cloud::Cloud;

/// The key of a password in a Secret, unless another is named.
pub(super) const PASSWORD_KEY: &str = "password";
/// The key of a user name in a Secret.
pub(super) const USERNAME_KEY: &str = "username";
/// The key of a client certificate and its private key in a Secret, unless another is named.
pub(super) const CERTIFICATE_KEY: &str = "certificate.pem";

/// Attach a registry: Pods that name its images get a pull secret.
///
/// Writes the Secret with the identity's password, if it is given one, and the AcrRegistry; waits until pullpass has
/// minted a credential. Attaching again changes only what is given: a new password, another identity, other namespaces.
/// Exit code: 0; 1 if the registry did not become ready or the cluster refused; 2 for bad input.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    az ad sp create-for-rbac --name puller --query password --output tsv > password\n  \
    pullpass attach myregistry --tenant-id TENANT --client-id CLIENT --client-secret-file password\n  \
    pullpass attach myregistry --client-secret-file -          # a new password, from standard input\n  \
    pullpass attach myregistry.azurecr.io --managed-identity --namespaces team=a\n  \
    pullpass attach myregistry --token-name puller --token-password-file password\n  \
    pullpass attach myregistry --workload-identity --dry-run --output yaml")]
pub(in crate::cli) struct AttachArgs {
    /// The registry: its name, its login server or its resource ID
    #[arg(value_name = "NAME|LOGIN-SERVER|RESOURCE-ID")]
    pub(super) target: RegistryTarget,
    /// The AcrRegistry's name, where it is not the registry's in lower case
    #[arg(long)]
    pub(super) name: Option<ObjectName>,
    /// The namespace that pullpass runs in
    #[arg(short, long, visible_alias = "own-namespace", value_name = "NAME", default_value = OWN_NAMESPACE, env = "PULLPASS_NAMESPACE")]
    pub(super) namespace: ObjectName,
    /// Write nothing, and ask no cluster: say what would be written, or print it with --output
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print the object: with --dry-run as it would be written, else as the server has it
    #[arg(short, long, value_enum)]
    pub(super) output: Option<Output>,
    #[command(flatten)]
    identity: IdentityFlags,
    #[command(flatten)]
    pub(super) spec: SpecFlags,
    #[command(flatten)]
    pub(super) waiting: WaitFlags,
    #[command(flatten)]
    pub(super) cluster: KubeFlags,
}

/// How objects are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// As YAML documents
    Yaml,
    /// As JSON
    Json,
    /// As kind/name, one a line
    Name,
}

/// How long is waited.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Waiting")]
pub(in crate::cli) struct WaitFlags {
    /// Do not wait until it is done
    #[arg(long)]
    pub(in crate::cli) no_wait: bool,
    /// How long to wait until it is done
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub(in crate::cli) timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: u64 = text
        .trim_end_matches('s')
        .parse()
        .map_err(|_| "give a whole number of seconds".to_owned())?;
    Ok(Duration::from_secs(seconds))
}

/// Who pulls: exactly one kind.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Identity: one of them; without any, an attached registry keeps its own")]
struct IdentityFlags {
    /// The Entra tenant: its GUID or one of its domains
    #[arg(long, value_name = "TENANT", value_parser = tenant)]
    tenant_id: Option<String>,
    /// The client ID of the service principal, the workload identity or the user-assigned managed identity
    #[arg(long, value_name = "ID", value_parser = client)]
    client_id: Option<String>,
    /// The service principal's client secret is in this file; - for standard input. Without it and on a terminal, you
    /// are asked for the secret
    #[arg(long, value_name = "FILE", group = "kind")]
    client_secret_file: Option<PathBuf>,
    /// It is in this Secret in pullpass' namespace, under this key [default key: password]
    #[arg(long, value_name = "SECRET[/KEY]", group = "kind", value_parser = password_reference)]
    client_secret: Option<SecretKeyRef>,
    /// The service principal's client certificate and private key are in this file, in PEM; - for standard input
    #[arg(long, value_name = "FILE", group = "kind")]
    client_certificate_file: Option<PathBuf>,
    /// They are in this Secret in pullpass' namespace, under this key [default key: certificate.pem]
    #[arg(long, value_name = "SECRET[/KEY]", group = "kind", value_parser = certificate_reference)]
    client_certificate: Option<SecretKeyRef>,
    /// The application that trusts the service account token of pullpass
    #[arg(long, group = "kind")]
    workload_identity: bool,
    /// The identity of the machines that pullpass runs on; the system-assigned one unless another is named
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
    /// A repository-scoped token of the registry, or its admin user, by name
    #[arg(long, value_name = "NAME", group = "kind", conflicts_with_all = ["tenant_id", "client_id"], value_parser = user)]
    token_name: Option<String>,
    /// The token's password is in this file; - for standard input. Without it and on a terminal, you are asked for it
    #[arg(long, value_name = "FILE", requires = "token_name")]
    token_password_file: Option<PathBuf>,
    /// A token's name and password are in this Secret in pullpass' namespace, under the keys username and password
    #[arg(long, value_name = "SECRET", group = "kind", conflicts_with_all = ["tenant_id", "client_id"])]
    basic: Option<SecretName>,
}

/// The rest of the spec.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Registry: what is not given stays as it is")]
pub(super) struct SpecFlags {
    /// The Azure cloud, where the login server does not tell it
    #[arg(long, ignore_case = true, value_parser = one_of::<Cloud>(&["Public", "USGovernment", "China"]))]
    pub(super) cloud: Option<Cloud>,
    /// The audience to ask Entra ID for, where the usual ones do not work
    #[arg(long, value_name = "URL", value_parser = audience)]
    pub(super) audience: Option<String>,
    /// What the pull secrets hold
    #[arg(long, ignore_case = true, value_parser = one_of::<CredentialKind>(&["RefreshToken", "AccessToken", "ServicePrincipalPassword"]))]
    pub(super) credential_kind: Option<CredentialKind>,
    /// Only this repository, by an access token for it; may be given several times
    #[arg(long, value_name = "NAME", value_parser = repository)]
    pub(super) repository: Vec<String>,
    /// Which namespaces may use the registry, by their labels, as kubectl's --selector; an empty text for all
    #[arg(long, value_name = "SELECTOR")]
    pub(super) namespaces: Option<Namespaces>,
    /// Give every namespace that may use the registry its pull secret ahead of time
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(super) eager: Option<bool>,
}

/// Where a text that nobody should see comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    File(PathBuf),
    StandardInput,
    /// Nothing was said: whoever sits at the terminal is asked.
    Prompt,
}

impl Source {
    fn of(path: Option<&PathBuf>) -> Self {
        match path {
            None => Self::Prompt,
            Some(path) if path.as_os_str() == "-" => Self::StandardInput,
            Some(path) => Self::File(path.clone()),
        }
    }
}

/// What proves that somebody is the service principal.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Proof {
    Secret(Source),
    SecretIn(SecretKeyRef),
    Certificate(Source),
    CertificateIn(SecretKeyRef),
}

/// Who is said to pull.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Who {
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
        password: Source,
    },
    Basic(SecretName),
}

impl AttachArgs {
    /// Who is said to pull; none where no flag says so.
    pub(super) fn who(&self) -> Option<Who> {
        let flags = self.identity.clone();
        let (tenant_id, client_id) = (flags.tenant_id, flags.client_id);
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
            let password = Source::of(flags.token_password_file.as_ref());
            return Some(Who::Token { name, password });
        }
        if let Some(secret) = flags.basic {
            return Some(Who::Basic(secret));
        }
        let proof = match (flags.client_secret, flags.client_certificate) {
            (Some(reference), _) => Proof::SecretIn(reference),
            (None, Some(reference)) => Proof::CertificateIn(reference),
            (None, None) if flags.client_certificate_file.is_some() => {
                Proof::Certificate(Source::of(flags.client_certificate_file.as_ref()))
            }
            (None, None) => Proof::Secret(Source::of(flags.client_secret_file.as_ref())),
        };
        if proof == Proof::Secret(Source::Prompt) && tenant_id.is_none() && client_id.is_none() {
            return None;
        }
        Some(Who::ServicePrincipal {
            tenant_id,
            client_id,
            proof,
        })
    }

    /// The AcrRegistry's name.
    pub(super) fn object_name(&self) -> ObjectName {
        self.name.clone().unwrap_or_else(|| self.target.default_name())
    }

    pub(super) fn check(&self) -> Result<(), CliError> {
        let kind = self.spec.credential_kind;
        if !self.spec.repository.is_empty() && kind.is_some_and(|kind| kind != CredentialKind::AccessToken) {
            return Err(CliError::Input(
                "--repository goes with --credential-kind AccessToken alone: leave one of them out"
                    .to_owned(),
            ));
        }
        let is_basic = self.identity.token_name.is_some() || self.identity.basic.is_some();
        if is_basic && (kind.is_some() || !self.spec.repository.is_empty()) {
            return Err(CliError::Input(
                "a repository-scoped token is used as it is: --credential-kind and --repository do not go with it. What \
                 it may pull is in its scope map (az acr scope-map update)"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

/// A value of an enumeration under the names that it has in the custom resource, in any case.
fn one_of<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|text| {
        let name = names.iter().find(|name| name.eq_ignore_ascii_case(&text));
        serde_json::from_value(Value::from(name.copied().unwrap_or_default()))
    })
}

fn word(text: &str, others: &[u8], says: &str) -> Result<String, String> {
    let fits = (1..=255).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte));
    fits.then(|| text.to_owned()).ok_or_else(|| says.to_owned())
}

fn tenant(text: &str) -> Result<String, String> {
    word(
        text,
        b".-",
        "a tenant is a GUID or a domain: `az account show --query tenantId` prints it",
    )
}

fn client(text: &str) -> Result<String, String> {
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

fn audience(text: &str) -> Result<String, String> {
    text.strip_prefix("https://")
        .and_then(|host| word(host, b".-", "").ok())
        .map(|_| text.to_owned())
        .ok_or_else(|| {
            "an audience is an https URL without a path, for instance https://containerregistry.azure.net"
                .to_owned()
        })
}

/// As the custom resource's schema has it.
fn repository(text: &str) -> Result<String, String> {
    let is_edge =
        |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let fits = text.len() <= 255
        && is_edge(text.bytes().next())
        && is_edge(text.bytes().last())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._/-".contains(&byte));
    fits.then(|| text.to_owned()).ok_or_else(|| {
        "a repository is named in full and without host, tag or wildcard, for instance team/app: `az acr repository \
         list --name NAME` prints them"
            .to_owned()
    })
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

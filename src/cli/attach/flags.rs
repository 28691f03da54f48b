//! The flags of `pullpass attach`, and what they mean.

use std::time::Duration;

use clap::Args;

use super::namespaces::NamespaceChoice;
use crate::api::acr_registry::CredentialKind;
use crate::cli::CliError;
use crate::cli::flags::choice::one_of;
use crate::cli::flags::dry_run::DryRunFlag;
use crate::cli::flags::identity::{IdentityFlags, word};
use crate::cli::flags::kubeconfig::KubeFlags;
use crate::cli::flags::own_namespace::{NoNamespace, OwnNamespace};
use crate::cli::flags::seconds::seconds;
use crate::cli::output::ObjectOutput;
use crate::cli::target::{ObjectName, RegistryTarget};
use crate::registry::cloud::CloudName;
use crate::registry::custom_domain::{CustomDomain, CustomDomainError};

/// Attach a registry: Pods that name its images get a pull secret.
///
/// Writes the Secret with the identity's password, if you give one, and the AcrRegistry; waits until pullpass has
/// minted a credential. If you attach the registry again, only the options that you give change: a new password, another
/// identity, other namespaces.
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
    /// The AcrRegistry's name, if it is not the registry's in lower case
    #[arg(long)]
    pub(super) name: Option<ObjectName>,
    #[command(flatten)]
    pub(super) own_namespace: OwnNamespace,
    #[command(flatten)]
    _namespace: NoNamespace,
    #[command(flatten)]
    pub(super) dry_run: DryRunFlag,
    /// Print the object: with --dry-run=client in the form that would be written, otherwise in the form that the server
    /// has
    #[arg(short, long, value_enum)]
    pub(super) output: Option<ObjectOutput>,
    #[command(
        flatten,
        next_help_heading = "Identity: one of them; without any, an attached registry keeps its own"
    )]
    pub(super) identity: IdentityFlags,
    #[command(flatten)]
    pub(super) spec: SpecFlags,
    #[command(flatten)]
    pub(super) waiting: WaitFlags,
    #[command(flatten)]
    pub(super) cluster: KubeFlags,
}

/// How long is waited.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Waiting")]
pub(in crate::cli) struct WaitFlags {
    /// Do not wait until it is done
    #[arg(long)]
    pub(in crate::cli) no_wait: bool,
    /// How long to wait until it is done
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = seconds)]
    pub(in crate::cli) timeout: Duration,
}

/// The rest of the spec.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Registry (absent options keep their current values)")]
pub(super) struct SpecFlags {
    /// The Azure cloud, if the login server does not show it; Other is the cloud that pullpass' --other-cloud-suffix names
    #[arg(long, ignore_case = true, value_parser = one_of(CloudName::ALL, |cloud| cloud.name().into()))]
    pub(super) cloud: Option<CloudName>,
    /// The audience to ask Entra ID for, if the usual ones do not work
    #[arg(long, value_name = "URL", value_parser = audience)]
    pub(super) audience: Option<String>,
    /// Another host of the registry; may be repeated. An empty text means none
    #[arg(long, value_name = "DOMAIN", value_parser = custom_domain)]
    pub(super) custom_domain: Vec<String>,
    /// What the pull secrets contain
    #[arg(long, ignore_case = true, value_parser = one_of(CredentialKind::ALL, |kind| kind.name().into()))]
    pub(super) credential_kind: Option<CredentialKind>,
    /// Pull only from this repository, by an access token for it; may be repeated
    #[arg(long, value_name = "NAME", value_parser = repository)]
    pub(super) repository: Vec<String>,
    /// Labels of the namespaces that may use the registry, in the syntax of `kubectl --selector`; an empty text means
    /// all namespaces
    #[arg(long, value_name = "SELECTOR")]
    pub(super) namespaces: Option<NamespaceChoice>,
    /// Give every namespace that may use the registry its pull secret ahead of time
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(super) eager: Option<bool>,
}

impl AttachArgs {
    /// The AcrRegistry's name.
    pub(super) fn object_name(&self) -> ObjectName {
        self.name.clone().unwrap_or_else(|| self.target.default_name())
    }

    pub(super) fn check(&self) -> Result<(), CliError> {
        let kind = self.spec.credential_kind;
        if !self.spec.repository.is_empty() && kind.is_some_and(|kind| kind != CredentialKind::AccessToken) {
            return Err(CliError::Input(
                "--repository works only with --credential-kind AccessToken: leave one of them out"
                    .to_owned(),
            ));
        }
        if self.identity.is_anonymous()
            && (kind.is_some() || !self.spec.repository.is_empty() || self.spec.audience.is_some())
        {
            return Err(CliError::Input(
                "--anonymous has no credential: leave --credential-kind, --repository and --audience out"
                    .to_owned(),
            ));
        }
        if self.identity.is_basic() && (kind.is_some() || !self.spec.repository.is_empty()) {
            return Err(CliError::Input(
                "a repository-scoped token is used unchanged: leave --credential-kind and --repository out. \
                 Its scope map says what it may pull (az acr scope-map update)"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

pub(in crate::cli) fn audience(text: &str) -> Result<String, String> {
    text.strip_prefix("https://")
        .and_then(|host| word(host, b".-", "").ok())
        .map(|_| text.to_owned())
        .ok_or_else(|| {
            "an audience is an https URL without a path, for instance https://containerregistry.azure.net"
                .to_owned()
        })
}

/// A custom domain, in lower case; an empty text stands for none.
fn custom_domain(text: &str) -> Result<String, CustomDomainError> {
    let domain = text.to_ascii_lowercase();
    if !domain.is_empty() {
        CustomDomain::parse(&domain)?;
    }
    Ok(domain)
}

/// As the custom resource's schema has it.
pub(in crate::cli) fn repository(text: &str) -> Result<String, String> {
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

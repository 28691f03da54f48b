//! The flags of `pullpass bind`.

use clap::Args;

use super::account::AccountIds;
use crate::api::acr_registry::CredentialKind;
use crate::cli::CliError;
use crate::cli::attach::{WaitFlags, audience, repository};
use crate::cli::flags::choice::one_of;
use crate::cli::flags::dry_run::DryRunFlag;
use crate::cli::flags::identity::{client, tenant};
use crate::cli::flags::kubeconfig::KubeFlags;
use crate::cli::flags::own_namespace::OwnNamespace;
use crate::cli::output::ObjectOutput;
use crate::cli::target::{AccountName, ObjectName, RegistryTarget};
use crate::registry::cloud::CloudName;

/// The kinds of credentials that a ServiceAccount's identity can get.
const KINDS: [CredentialKind; 2] = [CredentialKind::RefreshToken, CredentialKind::AccessToken];

/// Bind a registry to a namespace: Pods there pull as the Entra identity of a ServiceAccount.
///
/// Writes the Role and the RoleBinding that let pullpass ask for tokens of the ServiceAccount, and the AcrPullBinding; waits
/// until pullpass has minted a credential. It prints the command that makes the identity trust the ServiceAccount. If you
/// bind the registry again, only the options that you give change. Exit code: 0; 1 if the binding did not become ready or
/// the cluster refused; 2 for bad input.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    pullpass bind myregistry --namespace shop --service-account puller --create --client-id CLIENT --tenant-id TENANT\n  \
    pullpass bind myregistry.azurecr.io --namespace shop --service-account puller --repository shop/app\n  \
    pullpass bind myregistry --namespace shop --service-account puller --dry-run --output yaml")]
pub(in crate::cli) struct BindArgs {
    /// The registry: its name, its login server or its resource ID
    #[arg(value_name = "NAME|LOGIN-SERVER|RESOURCE-ID")]
    pub(super) target: RegistryTarget,
    /// The namespace; if absent, that of the context, in a Pod that of the Pod, or else default
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<ObjectName>,
    /// The ServiceAccount of the namespace whose identity pulls the images
    #[arg(long, value_name = "NAME")]
    pub(super) service_account: AccountName,
    /// The AcrPullBinding's name, if it is not the registry's in lower case
    #[arg(long)]
    pub(super) name: Option<ObjectName>,
    #[command(flatten)]
    pub(super) own_namespace: OwnNamespace,
    #[command(flatten)]
    pub(super) dry_run: DryRunFlag,
    /// Print the object: with --dry-run=client in the form that would be written, otherwise in the form that the server
    /// has
    #[arg(short, long, value_enum)]
    pub(super) output: Option<ObjectOutput>,
    #[command(flatten)]
    account: AccountFlags,
    #[command(flatten)]
    pub(super) spec: BindSpecFlags,
    #[command(flatten)]
    pub(super) waiting: WaitFlags,
    #[command(flatten)]
    pub(super) cluster: KubeFlags,
}

/// Which identity the ServiceAccount is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "ServiceAccount")]
struct AccountFlags {
    /// Create the ServiceAccount, or give it the annotations that name its identity
    #[arg(long, requires = "client_id")]
    create: bool,
    /// The client ID of the identity
    #[arg(long, value_name = "ID", requires = "create", value_parser = client)]
    client_id: Option<String>,
    /// The identity's Entra tenant: its GUID or one of its domains; if absent, the tenant in pullpass' `AZURE_TENANT_ID`
    #[arg(long, value_name = "TENANT", requires = "create", value_parser = tenant)]
    tenant_id: Option<String>,
}

/// The rest of the spec.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Registry (absent options keep their current values)")]
pub(super) struct BindSpecFlags {
    /// The Azure cloud, if the login server does not show it; Other is the cloud that pullpass' --other-cloud-suffix names
    #[arg(long, ignore_case = true, value_parser = one_of(CloudName::ALL, |cloud| cloud.name().into()))]
    pub(super) cloud: Option<CloudName>,
    /// The audience to ask Entra ID for, if the usual ones do not work
    #[arg(long, value_name = "URL", value_parser = audience)]
    pub(super) audience: Option<String>,
    /// What the pull secret contains
    #[arg(long, ignore_case = true, value_parser = one_of(KINDS, |kind| kind.name().into()))]
    pub(super) credential_kind: Option<CredentialKind>,
    /// Pull only from this repository, by an access token for it; may be repeated
    #[arg(long, value_name = "NAME", value_parser = repository)]
    pub(super) repository: Vec<String>,
}

impl BindArgs {
    /// The AcrPullBinding's name.
    pub(super) fn object_name(&self) -> ObjectName {
        self.name.clone().unwrap_or_else(|| self.target.default_name())
    }

    /// The namespace that is bound.
    pub(super) fn namespace(&self) -> Result<ObjectName, CliError> {
        namespace(self.namespace.as_ref(), &self.cluster)
    }

    /// Which identity the ServiceAccount is to be, where that is to be written.
    pub(super) fn ids(&self) -> Option<AccountIds> {
        let AccountFlags {
            create,
            client_id,
            tenant_id,
        } = self.account.clone();
        create.then_some(())?;
        Some(AccountIds {
            client_id: client_id?,
            tenant_id,
        })
    }

    pub(super) fn check(&self) -> Result<(), CliError> {
        let kind = self.spec.credential_kind;
        if !self.spec.repository.is_empty() && kind.is_some_and(|kind| kind != CredentialKind::AccessToken) {
            return Err(CliError::Input(
                "--repository works only with --credential-kind AccessToken: leave one of them out"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

/// The namespace that is given, or that of the kubeconfig's context, as kubectl chooses it.
pub(in crate::cli) fn namespace(
    given: Option<&ObjectName>,
    cluster: &KubeFlags,
) -> Result<ObjectName, CliError> {
    if let Some(given) = given {
        return Ok(given.clone());
    }
    let named = cluster
        .context_namespace()
        .unwrap_or_else(|| "default".to_owned());
    named.parse().map_err(|error| {
        CliError::Input(format!(
            "the context's namespace can't be used: {error}. Name one with --namespace"
        ))
    })
}

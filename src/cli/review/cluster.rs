//! What decisions depend on, read from a cluster.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use crate::cli::CliError;
use crate::cli::audit::{bindings, installed_scope, policies, registries, strict_accounts};
use crate::cli::flags::decisions::ClusterDecisionFlags;
use crate::cli::flags::kubeconfig::{KubeFlags, Role, refusal_without};
use crate::kubernetes::call::call;
use crate::policy::decision::Settings;
use crate::policy::rules::Policy;
use crate::view::StrictAccounts;
use crate::view::manifests::Manifests;

const NOT_INSTALLED: &str = "the cluster has no webhook configuration of pullpass: this is what pullpass would do if it were \
                             installed with these flags";
const NO_INDEX: &str = "the cluster has no AcrIndex, which has the actions of the rules: --unattached and \
                        --forbidden apply, or their defaults";

/// What is known of where the Pods would be.
#[derive(Default)]
pub(super) struct Known {
    pub(super) manifests: Manifests,
    pub(super) settings: Settings,
    /// Whether a cluster said it.
    pub(super) is_of_cluster: bool,
    /// What the cluster does not say, and what was taken instead.
    pub(super) gaps: Vec<&'static str>,
}

/// Reads what concerns these namespaces. What no flag says of decisions, the webhook's configuration and the AcrIndex say.
pub(super) async fn read(
    cluster: &KubeFlags,
    flags: &ClusterDecisionFlags,
    namespaces: &BTreeSet<String>,
) -> Result<Known, CliError> {
    let client = cluster.client().await?;
    let mut gaps = Vec::new();
    let scope = installed_scope(&client).await?.unwrap_or_else(|| {
        gaps.push(NOT_INSTALLED);
        flags.settings().scope
    });
    let policy = policies::rules(&client).await?.unwrap_or_else(|| {
        gaps.push(NO_INDEX);
        Policy::default()
    });
    let of_cluster = Settings { scope, policy };
    let (attached, _) = registries::read(&client).await?;
    let api: Api<Namespace> = Api::all(client.clone());
    let (mut labels, mut bound, mut accounts) = (HashMap::new(), Vec::new(), StrictAccounts::default());
    for name in namespaces {
        let only = Some(name.as_str());
        let namespace = call(api.get_metadata_opt(name))
            .await
            .map_err(|error| refusal_without(Role::Namespace(only), "the namespace can't be read", &error))?;
        let Some(namespace) = namespace else { continue };
        labels.insert(name.clone(), namespace.metadata.labels.unwrap_or_default());
        bound.extend(bindings::read(&client, only).await?.0);
        strict_accounts(&client, only, &mut accounts).await?;
    }
    Ok(Known {
        manifests: Manifests::new(attached, bound, labels, accounts),
        settings: flags.settings_over(of_cluster),
        is_of_cluster: true,
        gaps,
    })
}

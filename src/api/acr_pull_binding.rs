//! The `AcrPullBinding` custom resource: a namespace pulls as an identity of its own. Its schema, and the rules that the API
//! server itself enforces.
//!
//! The fields are kept as text here, as those of an AcrRegistry are; a spec that holds becomes a
//! [`crate::policy::attached::AttachedRegistry`] with an owner.

use kube::{CustomResource, CustomResourceExt, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::api::acr_registry::{AcrRegistryStatus, CredentialSpec};
use crate::api::registry_rules;
use crate::registry::cloud::CloudName;

/// Lets the Pods of its namespace pull from an Azure Container Registry as the identity of a ServiceAccount there.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "pullpass.dev",
    version = "v1alpha1",
    kind = "AcrPullBinding",
    plural = "acrpullbindings",
    shortname = "acrb",
    namespaced,
    status = "AcrRegistryStatus",
    derive = "PartialEq",
    doc = "Lets the Pods of its namespace pull from an Azure Container Registry as the identity of a ServiceAccount there. Delete it, and its pull secret is deleted.",
    validation = Rule::new("size(self.metadata.name) <= 63")
        .message("metadata.name must be at most 63 characters: it becomes a label's value and a part of Secrets' names"),
    printcolumn(
        name = "LOGIN SERVER",
        type_ = "string",
        json_path = ".status.loginServer"
    ),
    printcolumn(
        name = "SERVICE ACCOUNT",
        type_ = "string",
        json_path = ".spec.serviceAccountName"
    ),
    printcolumn(
        name = "READY",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "REASON",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "EXPIRES", type_ = "string", json_path = ".status.credential.expiresAt"),
    printcolumn(
        name = "PULL AUTHORIZED",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="PullAuthorized")].status"#
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "NEXT REFRESH",
        type_ = "string",
        json_path = ".status.credential.nextRefresh",
        priority = 1
    ),
    printcolumn(
        name = "MESSAGE",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    )
)]
#[x_kube(
    validation = registry_rules::is_named(),
    validation = registry_rules::cloud_fits(),
    validation = registry_rules::login_server_is_azures(),
    validation = registry_rules::login_server_is_of_other_cloud(),
    validation = Rule::new("!has(self.credential) || !has(self.credential.kind) || self.credential.kind != 'ServicePrincipalPassword'")
        .message("spec.credential.kind is RefreshToken or AccessToken: there is no password"),
)]
#[serde(rename_all = "camelCase")]
pub struct AcrPullBindingSpec {
    /// The registry's host, for instance `myregistry.azurecr.io`. Set this or `resourceId`. With a domain name label, set
    /// this, because the host can't be derived from the resource ID then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub login_server: Option<String>,
    /// The registry's resource ID, as `az acr show --name NAME --query id` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    #[x_kube(validation = registry_rules::is_resource_id())]
    pub resource_id: Option<String>,
    /// The Azure cloud. Default: the one that has the suffix of `loginServer`, else `Public`. `Other` is the cloud that the
    /// settings of pullpass describe (`--other-cloud-suffix`), for a `loginServer` that ends in its suffix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<CloudName>,
    /// The audience to ask Entra ID for. Default: ACR's own, then the cloud's resource manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    #[x_kube(validation = registry_rules::is_audience())]
    pub audience: Option<String>,
    /// The ServiceAccount of this namespace whose identity pulls the images: its annotations
    /// `azure.workload.identity/client-id` and `azure.workload.identity/tenant-id` say which identity that is. The owner of the
    /// namespace lets pullpass ask for its tokens by a Role (`create` on `serviceaccounts/token`) and a RoleBinding.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub service_account_name: String,
    /// What the pull secret contains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialSpec>,
}

/// The `CustomResourceDefinition` as YAML.
pub fn manifest() -> Result<String, serde_saphyr::ser_error::Error> {
    serde_saphyr::to_string(&AcrPullBinding::crd())
}

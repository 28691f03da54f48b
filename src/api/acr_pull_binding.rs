//! The `AcrPullBinding` custom resource: a namespace pulls as an identity of its own. Its schema, and the rules that the API
//! server itself enforces.
//!
//! The fields are kept as text here, as those of an AcrRegistry are; a spec that holds becomes a
//! [`crate::policy::attached::AttachedRegistry`] with an owner.

use kube::{CustomResource, CustomResourceExt, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::api::acr_registry::{AcrRegistryStatus, CredentialSpec};
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
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("has(self.loginServer) || has(self.resourceId)")
        .message("set spec.loginServer, for instance myregistry.azurecr.io, or spec.resourceId"),
    validation = Rule::new(
        "!has(self.cloud) || self.cloud == 'Other' || !has(self.loginServer) || self.loginServer.endsWith({'Public': '.azurecr.io', 'USGovernment': '.azurecr.us', 'China': '.azurecr.cn'}[self.cloud])"
    )
    .message("spec.cloud does not fit the suffix of spec.loginServer: leave spec.cloud out, or correct it"),
    validation = Rule::new("(has(self.cloud) && self.cloud == 'Other') || !has(self.loginServer) || size(self.loginServer) <= 75 && self.loginServer.matches('^[A-Za-z0-9]{5,50}(-[A-Za-z0-9]+)?[.]azurecr[.](io|us|cn)$')")
        .message("must be the host of a registry that ends in .azurecr.io, .azurecr.us or .azurecr.cn, without scheme, port or path, unless spec.cloud is Other")
        .field_path(".loginServer"),
    validation = Rule::new("!has(self.cloud) || self.cloud != 'Other' || (has(self.loginServer) && self.loginServer.matches('^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])+[a-z]([-a-z0-9]{0,61}[a-z0-9])?$') && !self.loginServer.matches('(^|[.])(azurecr[.](io|us|cn)|docker[.]io)$'))")
        .message("with spec.cloud Other, spec.loginServer must be a DNS name in lower case, without scheme, port or path, that does not end in .azurecr.io, .azurecr.us or .azurecr.cn, nor in docker.io")
        .field_path(".loginServer"),
    validation = Rule::new("!has(self.credential) || !has(self.credential.kind) || self.credential.kind != 'ServicePrincipalPassword'")
        .message("spec.credential.kind is RefreshToken or AccessToken: there is no password"),
)]
#[serde(rename_all = "camelCase")]
pub struct AcrPullBindingSpec {
    /// The registry's host, for instance `myregistry.azurecr.io`. This or `resourceId`; with a domain name label this
    /// is needed, since the host can't be derived from the resource ID then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub login_server: Option<String>,
    /// The registry's resource ID, as `az acr show --name NAME --query id` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    #[x_kube(validation = Rule::new("self.matches('(?i)^/subscriptions/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/resourceGroups/[^/]{1,90}/providers/Microsoft[.]ContainerRegistry/registries/[a-z0-9]{5,50}$')")
        .message("must be /subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.ContainerRegistry/registries/{name}"))]
    pub resource_id: Option<String>,
    /// The Azure cloud. Default: the one that the suffix of `loginServer` tells, else `Public`. `Other` is the cloud that the
    /// settings of pullpass describe (`--other-cloud-suffix`), for a `loginServer` that ends in its suffix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<CloudName>,
    /// The audience to ask Entra ID for. Default: ACR's own, then the cloud's resource manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    #[x_kube(validation = Rule::new("self.matches('^https://[A-Za-z0-9.-]+$')")
        .message("must be an https URL without a path, for instance https://containerregistry.azure.net"))]
    pub audience: Option<String>,
    /// The ServiceAccount of this namespace as whose identity is pulled: its annotations
    /// `azure.workload.identity/client-id` and `azure.workload.identity/tenant-id` say which identity that is. The owner of the
    /// namespace lets pullpass ask for its tokens by a Role (`create` on `serviceaccounts/token`) and a RoleBinding.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub service_account_name: String,
    /// What the pull secret holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialSpec>,
}

/// The `CustomResourceDefinition` as YAML.
pub fn manifest() -> Result<String, serde_saphyr::ser_error::Error> {
    serde_saphyr::to_string(&AcrPullBinding::crd())
}

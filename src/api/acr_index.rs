//! The `AcrIndex` custom resource: what the admission policies in the API server need to know (`docs/policy.md`).
//!
//! It is derived from the `AcrRegistries`, the `AcrPullBindings` and pullpass' own settings by the replica that leads, and has
//! nothing that they do not have. Everything is a map by what the policies look up, so that a Pod costs the same however many
//! registries there are, and namespaces with bindings.

use std::collections::BTreeMap;

use kube::{CustomResource, CustomResourceExt, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the admission policies know: which hosts lead to which pull secrets, for which namespaces. pullpass keeps the one
/// named pullpass; do not edit it.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "pullpass.dev",
    version = "v1alpha1",
    kind = "AcrIndex",
    plural = "acrindexes",
    derive = "PartialEq",
    doc = "What the admission policies of pullpass know: which hosts lead to which pull secrets, for which namespaces. pullpass derives the one named pullpass from the AcrRegistries and the AcrPullBindings; do not edit it."
)]
#[serde(rename_all = "camelCase")]
pub struct AcrIndexSpec {
    /// Which namespaces are injected: `cluster-wide` or `opt-in`.
    pub mode: String,
    /// Namespaces that are never injected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_namespaces: Vec<String>,
    /// Requirements that the labels of a namespace must all meet for it to be injected; none means every namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespace_selector: Vec<Requirement>,
    /// By namespace, the `ServiceAccounts` that enforce mountable secrets, and the pull secrets that each lists: their Pods may
    /// name no others. A namespace for whose `ServiceAccounts` the index has no room has the one `*`, which lists none: every Pod
    /// there is left to the webhook.
    // As one value, so that the API server does not note once more who set each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub strict_service_accounts: BTreeMap<String, StrictServiceAccounts>,
    /// What is done about an image whose registry is not attached: `allow`, `warn` or `deny`.
    pub unattached: String,
    /// What is done about an image whose registry is not for the namespace: `allow`, `warn` or `deny`.
    pub forbidden: String,
    /// The pull secrets of each host. A host without any is still attached: its registries need none, or the index has
    /// no room for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, Vec<String>>,
    /// The AcrRegistry of each pull secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pull_secrets: BTreeMap<String, IndexedRegistry>,
    /// The `AcrRegistries` of each host that need no credential: they have no pull secret, but allow images. One
    /// without a name stands for those for which the index has no room, and allows every namespace: the webhook
    /// decides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub anonymous: BTreeMap<String, Vec<IndexedRegistry>>,
    /// Whether there was no room for the hosts of all `AcrRegistries`: then one that is not here is nobody's, and the webhook
    /// decides whether it is attached.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub omits_hosts: bool,
    /// Of each namespace with `AcrPullBindings`, the hosts that they attach there, and their pull secrets. The host of a
    /// namespace for whose `AcrPullBindings` the index has no room is `*`, without a pull secret: the webhook decides.
    // As one value, so that the API server does not note once more who set each host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub bindings: BTreeMap<String, BoundHosts>,
}

/// The pull secrets of each host that `AcrPullBindings` attach in a namespace.
pub type BoundHosts = BTreeMap<String, Vec<String>>;

/// Stands for every host, or every ServiceAccount, where the index has no room for those of a namespace. No image's host is called
/// that, and no ServiceAccount.
pub const EVERY: &str = "*";

/// The pull secrets that `ServiceAccounts` of a namespace list.
pub type StrictServiceAccounts = BTreeMap<String, Vec<String>>;

/// An AcrRegistry in the index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexedRegistry {
    /// The AcrRegistry's name; empty if the entry stands for several.
    pub registry: String,
    /// Requirements that the labels of a namespace must all meet; none means every namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Requirement>,
    /// Whether minting has failed so far: there is no pull secret, and only Pods with its images get the name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unminted: bool,
}

/// One requirement on a namespace's labels, as in a label selector's `matchExpressions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// The values of `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// The `CustomResourceDefinition` as YAML.
pub fn manifest() -> Result<String, serde_saphyr::ser_error::Error> {
    serde_saphyr::to_string(&AcrIndex::crd())
}

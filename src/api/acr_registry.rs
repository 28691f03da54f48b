//! The `AcrRegistry` custom resource: its schema, and the rules that the API server itself enforces.
//!
//! The fields are kept as text here, so that what an older or laxer schema let in can be read and spoken of.
//! [`crate::policy::attached::AttachedRegistry`] is what a valid spec means.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::registry_rules;
use crate::registry::cloud::CloudName;

/// Attaches an Azure Container Registry to this cluster: Pods that name its images get a pull secret. Delete it to
/// detach the registry: pullpass then deletes every Secret that it created for it.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "pullpass.dev",
    version = "v1alpha1",
    kind = "AcrRegistry",
    plural = "acrregistries",
    shortname = "acr",
    status = "AcrRegistryStatus",
    derive = "PartialEq",
    doc = "Attaches an Azure Container Registry to this cluster. Delete it to detach the registry: pullpass then deletes every Secret that it created for it.",
    validation = Rule::new("size(self.metadata.name) <= 63")
        .message("metadata.name must be at most 63 characters: it becomes a label's value and a part of Secrets' names"),
    printcolumn(
        name = "LOGIN SERVER",
        type_ = "string",
        json_path = ".status.loginServer"
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
    printcolumn(name = "NAMESPACES", type_ = "integer", json_path = ".status.namespaces.served"),
    printcolumn(
        name = "PULL AUTHORIZED",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="PullAuthorized")].status"#
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "FAILED NAMESPACES",
        type_ = "integer",
        json_path = ".status.namespaces.failed",
        priority = 1
    ),
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
    validation = Rule::new("!has(self.identity.basic) || !has(self.credential) || !has(self.credential.kind)")
        .message("spec.credential.kind does not go with spec.identity.basic, whose user name and password are used as they are"),
    validation = Rule::new("!has(self.identity.anonymous) || !(has(self.credential) || has(self.audience))")
        .message("spec.credential and spec.audience do not go with spec.identity.anonymous, which has no credential"),
    validation = Rule::new("!has(self.credential) || !has(self.credential.kind) || self.credential.kind != 'ServicePrincipalPassword' || (has(self.identity.servicePrincipal) && has(self.identity.servicePrincipal.clientSecretRef))")
        .message("spec.credential.kind ServicePrincipalPassword needs spec.identity.servicePrincipal.clientSecretRef"),
    validation = Rule::new("!has(self.customDomains) || !has(self.credential) || !has(self.credential.repositories) || size(self.credential.repositories) * (1 + size(self.customDomains)) <= 16")
        .message("spec.credential.repositories are listed in a pull secret for the login server and for each of spec.customDomains: more than 16 in all do not fit; name fewer, or use kind RefreshToken"),
)]
#[serde(rename_all = "camelCase")]
pub struct AcrRegistrySpec {
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
    /// Who pulls: exactly one of the five.
    pub identity: Identity,
    /// Other hosts of the registry, at most 16: DNS names in lower case, without port. Name them in the webhook's
    /// configuration too, so that the API server asks about Pods with their images (`docs/policy.md`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_CUSTOM_DOMAINS),
        inner(
            length(min = 1, max = 253),
            regex(pattern = "^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])+[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")
        ),
        extend("x-kubernetes-list-type" = "set")
    )]
    #[x_kube(validation = Rule::new("self.all(domain, !domain.matches('(^|[.])(azurecr[.](io|us|cn)|docker[.]io)$'))")
        .message("a custom domain does not end in .azurecr.io, .azurecr.us or .azurecr.cn, nor in docker.io: a login server goes into spec.loginServer, and its regional endpoints need not be named"))]
    pub custom_domains: Vec<String>,
    /// What the pull secrets contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialSpec>,
    /// Which namespaces may use the registry. Default: all that are injected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = bound_selector)]
    pub namespaces: Option<LabelSelector>,
    /// When a namespace gets the secret. Default: `OnDemand`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provision: Option<Provision>,
}

/// Who pulls: exactly one of the five.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("[has(self.servicePrincipal), has(self.workloadIdentity), has(self.managedIdentity), has(self.basic), has(self.anonymous)].filter(x, x).size() == 1")
    .message("set exactly one of servicePrincipal, workloadIdentity, managedIdentity, basic and anonymous"))]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// An Entra application with a client secret or a client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_principal: Option<ServicePrincipal>,
    /// An Entra application that trusts the controller's own service account token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadIdentity>,
    /// The identity of the machine that the controller runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_identity: Option<ManagedIdentitySpec>,
    /// A repository-scoped token of the registry, or its admin user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
    /// No identity: the registry allows anonymous pull. No pull secret is injected, and every rule allows its images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<Anonymous>,
}

impl Identity {
    /// The Secrets of pullpass' own namespace that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let principal = self.service_principal.iter().flat_map(|principal| {
            [&principal.client_secret_ref, &principal.client_certificate_ref]
                .into_iter()
                .flatten()
        });
        principal
            .map(|reference| reference.name.as_str())
            .chain(self.basic.iter().map(|basic| basic.secret_ref.name.as_str()))
    }

    /// Whether it names a Secret of pullpass' own namespace.
    pub fn names_secret(&self, name: &str) -> bool {
        self.secrets().any(|named| named == name)
    }
}

/// An Entra application with a client secret or a client certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.clientSecretRef) != has(self.clientCertificateRef)")
    .message("set exactly one of clientSecretRef and clientCertificateRef"))]
#[serde(rename_all = "camelCase")]
pub struct ServicePrincipal {
    /// The Entra tenant: its GUID or one of its domains.
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[A-Za-z0-9.-]+$"))]
    pub tenant_id: String,
    /// The application's client ID.
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub client_id: String,
    /// The Secret with the client secret. Its annotation `pullpass.dev/registries` names the AcrRegistry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_ref: Option<SecretKeyRef>,
    /// The Secret with the client certificate and its private key, both in PEM and in any order. Its annotation
    /// `pullpass.dev/registries` names the AcrRegistry. In a Secret of type `kubernetes.io/tls`, the key `tls.crt` stands for
    /// both `tls.crt` and `tls.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<SecretKeyRef>,
}

/// An Entra application that trusts the controller's own service account token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadIdentity {
    /// The Entra tenant. Default: `AZURE_TENANT_ID` of the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[A-Za-z0-9.-]+$"))]
    pub tenant_id: Option<String>,
    /// The application's client ID. Default: `AZURE_CLIENT_ID` of the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub client_id: Option<String>,
}

/// The identity of the machine that the controller runs on; empty for the system-assigned one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!(has(self.clientId) && has(self.resourceId))")
    .message("set at most one of clientId and resourceId; neither means the system-assigned identity"))]
#[serde(rename_all = "camelCase")]
pub struct ManagedIdentitySpec {
    /// The client ID of a user-assigned identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub client_id: Option<String>,
    /// The resource ID of a user-assigned identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub resource_id: Option<String>,
}

/// Nobody. It has no fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Anonymous {}

/// A user name and a password of the registry's own: a repository-scoped token, or the admin user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Basic {
    /// The Secret with the user name and the password. Its annotation `pullpass.dev/registries` names the AcrRegistry.
    pub secret_ref: BasicSecretRef,
}

/// One key of a Secret in pullpass' own namespace, whose annotation `pullpass.dev/registries` names the AcrRegistry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in its data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Two keys of a Secret in pullpass' own namespace, whose annotation `pullpass.dev/registries` names the AcrRegistry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BasicSecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key of the user name. Default: `username`.
    #[serde(default = "default_username_key")]
    #[schemars(length(min = 1, max = 253))]
    pub username_key: String,
    /// The key of the password. Default: `password`.
    #[serde(default = "default_password_key")]
    #[schemars(length(min = 1, max = 253))]
    pub password_key: String,
}

/// Bounds what Kubernetes' own schema of a selector leaves open: the `AcrIndex` has all selectors in one object. Keys and
/// values of labels are as long as Kubernetes lets them be.
fn bound_selector(schema: &mut Schema) {
    for (pointer, limit, most) in [
        ("/properties/matchLabels", "maxProperties", 32),
        ("/properties/matchLabels/additionalProperties", "maxLength", 63),
        ("/properties/matchExpressions", "maxItems", 32),
        (
            "/properties/matchExpressions/items/properties/key",
            "maxLength",
            317,
        ),
        (
            "/properties/matchExpressions/items/properties/values",
            "maxItems",
            128,
        ),
        (
            "/properties/matchExpressions/items/properties/values/items",
            "maxLength",
            63,
        ),
    ] {
        if let Some(part) = schema.pointer_mut(pointer).and_then(Value::as_object_mut) {
            part.insert(limit.to_owned(), json!(most));
        }
    }
}

fn default_username_key() -> String {
    "username".to_owned()
}

fn default_password_key() -> String {
    "password".to_owned()
}

/// How many custom domains a registry may have.
pub const MAX_CUSTOM_DOMAINS: usize = 16;

/// How many repositories an access token may be for. Their names have at most [`MAX_REPOSITORIES_LENGTH`] characters together,
/// so that the token fits a header, and a pull secret with a copy of it for each way to write each repository fits a Secret.
pub const MAX_REPOSITORIES: usize = 16;
/// How many characters the names of those repositories may have together, as the rule on [`CredentialSpec`] has it.
pub const MAX_REPOSITORIES_LENGTH: usize = 2000;

/// What the pull secrets contain.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("(has(self.kind) && self.kind == 'AccessToken') == (has(self.repositories) && size(self.repositories) > 0)")
        .message("repositories goes with kind AccessToken, which needs at least one"),
    validation = Rule::new("!has(self.repositories) || self.repositories.map(name, size(name)).sum() <= 2000")
        .message("the names in repositories have more than 2000 characters together: a token that lists them is too long to pull with; name fewer, or use kind RefreshToken"),
)]
#[serde(rename_all = "camelCase")]
pub struct CredentialSpec {
    /// What a pull secret contains. Default: `RefreshToken`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<CredentialKind>,
    /// For `AccessToken`: the repositories that the token is for, at most 16, with 2000 characters together. No wildcards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_REPOSITORIES),
        inner(length(min = 1, max = 255), regex(pattern = "^[a-z0-9]+([._/-]+[a-z0-9]+)*$"))
    )]
    pub repositories: Vec<String>,
    /// When to refresh, as a fraction of the token's own lifetime. Default: 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // Not the schema's own bounds: the API server truncates them for whole numbers, and lets 0 in.
    #[x_kube(validation = Rule::new("self >= 0.1 && self <= 0.9").message("must be from 0.1 to 0.9"))]
    pub refresh_fraction: Option<f64>,
}

/// What a pull secret contains. `RefreshToken`, the default: an ACR refresh token, for about three hours and every
/// repository that the identity may pull. `AccessToken`: an ACR access token, for about 75 minutes and the listed
/// repositories only. `ServicePrincipalPassword`: the service principal's client ID and secret, as long-lived as the
/// secret is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CredentialKind {
    /// An ACR refresh token: about three hours, every repository that the identity may pull.
    #[default]
    RefreshToken,
    /// An ACR access token: about 75 minutes, the listed repositories only.
    AccessToken,
    /// The service principal's client ID and secret: as long-lived as the secret is.
    ServicePrincipalPassword,
}

impl CredentialKind {
    /// Every kind, the default first.
    pub const ALL: [Self; 3] = [
        Self::RefreshToken,
        Self::AccessToken,
        Self::ServicePrincipalPassword,
    ];

    /// The kind's name, as the custom resource has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RefreshToken => "RefreshToken",
            Self::AccessToken => "AccessToken",
            Self::ServicePrincipalPassword => "ServicePrincipalPassword",
        }
    }
}

/// When a namespace gets the secret. `OnDemand`, the default: when a Pod there needs it. `Eager`: ahead of time, in every
/// namespace that may use the registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Provision {
    /// When a Pod there needs it.
    #[default]
    OnDemand,
    /// Ahead of time, in every namespace that may use the registry.
    Eager,
}

/// What pullpass last saw and did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
// No tool takes an object for ready that nobody has looked at.
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct AcrRegistryStatus {
    /// The generation of the spec that this status is about; -1 until pullpass has processed the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The registry's host, as given or derived from the resource ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_server: Option<String>,
    /// `Ready`: whether the pull secrets hold a credential that works. `Distributed`: whether all namespaces that need one have it.
    /// `PullAuthorized`: whether the credential may pull from repositories that Pods name. `Stalled`: it becomes ready only
    /// after a person changes something. `Reconciling`: pullpass tries again, and may succeed without a change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The credential in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialStatus>,
    /// The namespaces that have the pull secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<NamespacesStatus>,
}

/// The credential in use. Times are RFC 3339.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialStatus {
    /// The audience that Entra ID and the registry accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// When it was minted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<String>,
    /// When it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// When the next one is minted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_refresh: Option<String>,
}

/// How many namespaces have the pull secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespacesStatus {
    /// Namespaces whose pull secret holds the credential in use.
    #[serde(default)]
    pub served: i64,
    /// Namespaces in which the pull secret could not be written.
    #[serde(default)]
    pub failed: i64,
}

/// The `CustomResourceDefinition` as YAML.
pub fn manifest() -> Result<String, serde_saphyr::ser_error::Error> {
    serde_saphyr::to_string(&AcrRegistry::crd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_on_repositories_has_the_limit_that_the_program_has() {
        let crd = serde_json::to_string(&AcrRegistry::crd()).unwrap();
        let rule = format!(".sum() <= {MAX_REPOSITORIES_LENGTH}");
        assert!(crd.contains(&rule), "{rule}");
        assert!(crd.contains(&format!("more than {MAX_REPOSITORIES_LENGTH} characters")));
    }

    #[test]
    fn the_names_of_kinds_are_those_of_the_custom_resource() {
        for kind in CredentialKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), json!(kind.name()));
        }
    }

    #[test]
    fn a_selector_of_namespaces_is_bounded() {
        let text = serde_json::to_string(&AcrRegistry::crd()).unwrap();
        let crd: Value = serde_json::from_str(&text).unwrap();
        let schema =
            "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/namespaces/properties";
        for (pointer, most) in [
            ("matchLabels/maxProperties", 32),
            ("matchLabels/additionalProperties/maxLength", 63),
            ("matchExpressions/maxItems", 32),
            ("matchExpressions/items/properties/key/maxLength", 317),
            ("matchExpressions/items/properties/values/maxItems", 128),
            ("matchExpressions/items/properties/values/items/maxLength", 63),
        ] {
            let limit = crd.pointer(&format!("{schema}/{pointer}"));
            assert_eq!(limit, Some(&json!(most)), "{pointer}");
        }
    }
}

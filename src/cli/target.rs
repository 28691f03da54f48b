//! How a person names a registry: by its name, its login server or its resource ID; and which attached registry that is.

use std::fmt;
use std::str::FromStr;

use kube::ResourceExt;
use thiserror::Error;

use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::acr_registry::AcrRegistry;
use crate::base::dns::{MAX_SUBDOMAIN, is_subdomain};
use crate::policy::attached::AttachedRegistry;
use crate::registry::cloud::{Cloud, CloudName};
use crate::registry::custom_domain::CustomDomain;
use crate::registry::login_server::{LoginServer, LoginServerError, NAME_LENGTH};
use crate::registry::resource_id::{ResourceId, ResourceIdError};

/// The longest name of an AcrRegistry: it becomes a label's value.
const MAX_OBJECT_NAME: usize = 63;

/// A registry, as Azure knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryTarget {
    /// The name of the resource: 5 to 50 letters and digits.
    Name(String),
    /// The host.
    LoginServer(LoginServer),
    /// The resource.
    ResourceId(ResourceId),
}

/// Why a text names no registry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryTargetError {
    /// It has a slash.
    #[error("{0}")]
    ResourceId(#[from] ResourceIdError),
    /// It has a dot.
    #[error(
        "{0}. Name the registry as myregistry, as myregistry.azurecr.io, or by the resource ID that `az acr show --name \
         myregistry --query id` prints"
    )]
    LoginServer(#[from] LoginServerError),
    /// It has neither.
    #[error(
        "a registry's name has 5 to 50 letters and digits. Name the registry as myregistry, as myregistry.azurecr.io, or \
         by the resource ID that `az acr show --name myregistry --query id` prints"
    )]
    Name,
}

impl RegistryTarget {
    /// The name that its AcrRegistry gets unless another is chosen: the registry's, in lower case.
    pub fn default_name(&self) -> ObjectName {
        ObjectName(self.registry().to_ascii_lowercase())
    }

    /// The name of the resource. What follows a hyphen in a login server is the hash of a domain name label.
    pub fn registry(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::LoginServer(host) => host.resource_name(),
            Self::ResourceId(id) => id.registry(),
        }
    }

    /// The host, as far as it is known: a domain name label's hash is only in the login server.
    pub fn login_server(&self, cloud: Option<CloudName>) -> Result<LoginServer, LoginServerError> {
        let name = match self {
            Self::LoginServer(host) if host.cloud().is_none() && cloud != Some(CloudName::Other) => {
                return Err(LoginServerError::Suffix);
            }
            Self::LoginServer(host) => return Ok(host.clone()),
            Self::Name(name) => name,
            Self::ResourceId(id) => id.registry(),
        };
        // Where it is, a name does not tell in another cloud.
        let cloud = cloud.map_or(Some(Cloud::Public), CloudName::azure);
        let cloud = cloud.ok_or(LoginServerError::OtherName)?;
        LoginServer::of_registry(name, cloud)
    }

    /// Whether an object attaches it.
    pub fn is_named_by(&self, object: &impl Attaching) -> bool {
        let Some(host) = object.login_server() else {
            return false;
        };
        let is_azures = host.cloud().is_some();
        match self {
            Self::LoginServer(wanted) => *wanted == host,
            // In another cloud a registry of the same name is another registry, with another Entra ID.
            Self::Name(name) => is_azures && host.resource_name().eq_ignore_ascii_case(name),
            Self::ResourceId(id) => {
                let known = object.resource_id().map(ResourceId::parse);
                // A name is nobody else's in a cloud, wherever the resource was moved to, but with a domain name label.
                let is_labelled = host.as_str().contains('-');
                match known {
                    Some(Ok(known)) if is_labelled || !is_azures => known == *id,
                    _ => is_azures && host.resource_name().eq_ignore_ascii_case(id.registry()),
                }
            }
        }
    }
}

impl FromStr for RegistryTarget {
    type Err = RegistryTargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            return Ok(Self::ResourceId(ResourceId::parse(text)?));
        }
        if text.contains(['.', '/', ':']) {
            let host = LoginServer::of_host(text);
            let host = host.or_else(|error| other_host(text).ok_or(error))?;
            return Ok(Self::LoginServer(host));
        }
        let is_name =
            NAME_LENGTH.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_name {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(RegistryTargetError::Name)
        }
    }
}

impl fmt::Display for RegistryTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::LoginServer(host) => host.fmt(f),
            Self::ResourceId(id) => id.fmt(f),
        }
    }
}

/// The name of an AcrRegistry or an AcrPullBinding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName(String);

impl ObjectName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text can't be the name of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a name has at most {0} lower-case letters, digits, hyphens and dots, and begins and ends with a letter or digit"
)]
pub struct ObjectNameError(usize);

impl FromStr for ObjectName {
    type Err = ObjectNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        subdomain(text, MAX_OBJECT_NAME).map(Self)
    }
}

/// The name of a ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountName(String);

impl AccountName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountName {
    type Err = ObjectNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        subdomain(text, MAX_SUBDOMAIN).map(Self)
    }
}

/// The name of a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretName(String);

impl SecretName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = ObjectNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        subdomain(text, MAX_SUBDOMAIN).map(Self)
    }
}

/// A DNS subdomain of at most `max` bytes.
fn subdomain(text: &str, max: usize) -> Result<String, ObjectNameError> {
    if text.len() <= max && is_subdomain(text) {
        Ok(text.to_owned())
    } else {
        Err(ObjectNameError(max))
    }
}

/// The custom domain that a text names, in any case and with or without HTTPS' own port.
pub fn domain_of(text: &str) -> Option<CustomDomain> {
    let host = text.strip_suffix(":443").unwrap_or(text);
    CustomDomain::parse(&host.to_ascii_lowercase()).ok()
}

/// The login server of another cloud that a text names, in any case and with or without HTTPS' own port.
pub fn other_host(text: &str) -> Option<LoginServer> {
    LoginServer::of_other_cloud(domain_of(text)?.as_str()).ok()
}

/// An object that attaches a registry.
pub trait Attaching: ResourceExt {
    /// The registry's host; none if the spec can't be used.
    fn login_server(&self) -> Option<LoginServer>;

    /// The registry's resource ID, where the spec has it.
    fn resource_id(&self) -> Option<&str>;

    /// Whether the spec names a host outside the zones of Azure's clouds.
    fn has_domain(&self, domain: &CustomDomain) -> bool;
}

impl Attaching for AcrRegistry {
    fn login_server(&self) -> Option<LoginServer> {
        let registry = AttachedRegistry::parse(self).ok()?;
        Some(registry.login_server().clone())
    }

    fn resource_id(&self) -> Option<&str> {
        self.spec.resource_id.as_deref()
    }

    fn has_domain(&self, domain: &CustomDomain) -> bool {
        has_domain(self, domain)
    }
}

impl Attaching for AcrPullBinding {
    fn login_server(&self) -> Option<LoginServer> {
        let binding = AttachedRegistry::parse_binding_of_any_cloud(self).ok()?;
        Some(binding.login_server().clone())
    }

    fn resource_id(&self) -> Option<&str> {
        self.spec.resource_id.as_deref()
    }

    fn has_domain(&self, domain: &CustomDomain) -> bool {
        let spec = &self.spec;
        spec.cloud == Some(CloudName::Other) && spec.login_server.as_deref() == Some(domain.as_str())
    }
}

/// Whether the spec of an AcrRegistry names a host outside the zones of Azure's clouds: as a custom domain, or as its login
/// server.
pub fn has_domain(object: &AcrRegistry, domain: &CustomDomain) -> bool {
    let spec = &object.spec;
    let own = spec
        .login_server
        .iter()
        .filter(|_| spec.cloud == Some(CloudName::Other));
    let mut hosts = spec.custom_domains.iter().chain(own);
    hosts.any(|named| named == domain.as_str())
}

/// An attached registry, as a person names it: also by its object's name, or by a custom domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedTarget {
    text: String,
    object: Option<ObjectName>,
    registry: Option<RegistryTarget>,
    domain: Option<CustomDomain>,
}

/// What an [`AttachedTarget`] leads to.
#[derive(Debug, Clone, PartialEq)]
pub enum Attached<'a, T> {
    /// Nothing has the name or the host.
    Nothing,
    /// This one.
    One(&'a T),
    /// Several share the host: teams with an identity of their own each.
    Several(Vec<&'a T>),
}

impl AttachedTarget {
    /// The object that is meant. Its own name comes first.
    pub fn find<'a, T: Attaching>(&self, attached: &'a [T]) -> Attached<'a, T> {
        let named = |object: &&T| {
            self.object
                .as_ref()
                .is_some_and(|name| object.name_any() == name.as_str())
        };
        if let Some(object) = attached.iter().find(named) {
            return Attached::One(object);
        }
        let mut matching: Vec<_> = attached
            .iter()
            .filter(|object| {
                let is_registry = self.registry.as_ref().map(|target| target.is_named_by(*object));
                let has_domain = self.domain.as_ref().map(|domain| object.has_domain(domain));
                is_registry.into_iter().chain(has_domain).any(|is_so| is_so)
            })
            .collect();
        match matching.pop() {
            None => Attached::Nothing,
            Some(object) if matching.is_empty() => Attached::One(object),
            Some(object) => {
                matching.push(object);
                matching.sort_by_key(|object| object.name_any());
                Attached::Several(matching)
            }
        }
    }
}

impl FromStr for AttachedTarget {
    type Err = RegistryTargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let object = text.parse().ok();
        let registry = text.parse::<RegistryTarget>();
        let domain = domain_of(text);
        if let (None, None, Err(error)) = (&object, &domain, &registry) {
            return Err(error.clone());
        }
        Ok(Self {
            text: text.to_owned(),
            object,
            registry: registry.ok(),
            domain,
        })
    }
}

impl fmt::Display for AttachedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
pub(in crate::cli) mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/MyRegistry";

    /// An `AcrRegistry` with this spec, and an identity.
    pub(in crate::cli) fn object(name: &str, spec: &serde_json::Value) -> AcrRegistry {
        let mut spec = spec.clone();
        spec["identity"] = json!({"managedIdentity": {}});
        serde_json::from_value(json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name}, "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn the_three_forms_lead_to_a_name_and_a_host() {
        for (text, name, host) in [
            ("MyRegistry", "myregistry", "myregistry.azurecr.io"),
            ("MyRegistry.AzureCR.io", "myregistry", "myregistry.azurecr.io"),
            (
                "myregistry-a1b2.azurecr.cn",
                "myregistry",
                "myregistry-a1b2.azurecr.cn",
            ),
            ("myregistry.azurecr.io:443", "myregistry", "myregistry.azurecr.io"),
            (
                "MyRegistry.westeurope.geo.azurecr.io",
                "myregistry",
                "myregistry.azurecr.io",
            ),
            (
                "myregistry-a1b2.chinaeast2.geo.azurecr.cn:443",
                "myregistry",
                "myregistry-a1b2.azurecr.cn",
            ),
            (ID, "myregistry", "myregistry.azurecr.io"),
        ] {
            let target: RegistryTarget = text.parse().unwrap();
            assert_eq!(target.default_name().as_str(), name, "{text}");
            assert_eq!(target.login_server(None).unwrap().as_str(), host, "{text}");
        }
        let target: RegistryTarget = "myregistry".parse().unwrap();
        let china = target.login_server(Some(CloudName::China)).unwrap();
        assert_eq!(china.as_str(), "myregistry.azurecr.cn");
    }

    #[test]
    fn a_name_means_no_registry_of_another_cloud() {
        let spec = json!({"loginServer": "myregistry.azurecr.contoso.com", "cloud": "Other"});
        let with_id =
            json!({"loginServer": "myregistry.azurecr.contoso.com", "cloud": "Other", "resourceId": ID});
        for (text, is_named, is_named_with_id) in [
            ("myregistry", false, false),
            ("myregistry.azurecr.io", false, false),
            (ID, false, true),
            ("myregistry.azurecr.contoso.com", true, true),
        ] {
            let target: RegistryTarget = text.parse().unwrap();
            assert_eq!(target.is_named_by(&object("mine", &spec)), is_named, "{text}");
            assert_eq!(
                target.is_named_by(&object("mine", &with_id)),
                is_named_with_id,
                "{text}"
            );
        }
    }

    #[test]
    fn another_clouds_registry_is_named_by_its_host() {
        let target: RegistryTarget = "My-Registry.azurecr.Contoso.com:443".parse().unwrap();
        assert_eq!(target.default_name().as_str(), "my-registry");
        let other = target.login_server(Some(CloudName::Other)).unwrap();
        assert_eq!(other.as_str(), "my-registry.azurecr.contoso.com");
        for cloud in [None, Some(CloudName::Public)] {
            assert_eq!(target.login_server(cloud), Err(LoginServerError::Suffix));
        }
        for text in ["myregistry", ID] {
            let target: RegistryTarget = text.parse().unwrap();
            let host = target.login_server(Some(CloudName::Other));
            assert_eq!(host, Err(LoginServerError::OtherName), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_forms_there_are() {
        for text in [
            "",
            "abcd",
            "my-registry",
            "my_registry",
            "https://myregistry.azurecr.io",
            "myregistry.azurecr.io/app",
            "myregistry.azurecr.io:5000",
            "myregistry.westeurope.data.azurecr.io",
            "/subscriptions/x",
            "--help",
        ] {
            let error = text.parse::<RegistryTarget>().unwrap_err().to_string();
            assert!(error.contains("az acr show --name"), "{text}: {error}");
        }
    }

    #[test]
    fn names_of_objects_are_dns_subdomains() {
        for good in ["a", "team-a", "team-a.prod", "0"] {
            assert_eq!(good.parse::<ObjectName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "a..b", "A", "a_b", &"a".repeat(64)] {
            assert!(bad.parse::<ObjectName>().is_err(), "{bad}");
        }
        assert!("a".repeat(64).parse::<SecretName>().is_ok());
    }

    #[test]
    fn an_attached_registry_is_found_by_each_of_its_names() {
        let attached = [
            object("myregistry", &json!({"loginServer": "myregistry.azurecr.io"})),
            object("team-a", &json!({"loginServer": "shared.azurecr.io"})),
            object(
                "team-b",
                &json!({"resourceId": ID.replace("MyRegistry", "shared")}),
            ),
            object("labelled", &json!({"loginServer": "hashed-a1b2.azurecr.io"})),
            object(
                "both",
                &json!({"loginServer": "twice-a1b2.azurecr.io", "resourceId": ID.replace("MyRegistry", "twice")}),
            ),
            object("broken", &json!({})),
            object(
                "domains",
                &json!({"loginServer": "faraway.azurecr.io", "customDomains": ["registry.contoso.com"]}),
            ),
            object(
                "appliance",
                &json!({"loginServer": "images.azurecr.contoso.com", "cloud": "Other"}),
            ),
        ];
        let found = |text: &str| match text.parse::<AttachedTarget>().unwrap().find(&attached) {
            Attached::Nothing => Vec::new(),
            Attached::One(object) => vec![object.name_any()],
            Attached::Several(objects) => objects.into_iter().map(ResourceExt::name_any).collect(),
        };
        let moved = |name: &str| {
            ID.replace("MyRegistry", name)
                .replace("resourceGroups/g/", "resourceGroups/h/")
        };
        for (text, names) in [
            ("myregistry", vec!["myregistry"]),
            ("MYREGISTRY", vec!["myregistry"]),
            ("MyRegistry.azurecr.io", vec!["myregistry"]),
            ("shared.westeurope.geo.azurecr.io", vec!["team-a", "team-b"]),
            ("hashed-a1b2.westeurope.geo.azurecr.io", vec!["labelled"]),
            (ID, vec!["myregistry"]),
            (&moved("shared"), vec!["team-a", "team-b"]),
            (&moved("twice"), vec![]),
            (&ID.replace("MyRegistry", "twice"), vec!["both"]),
            ("team-a", vec!["team-a"]),
            ("shared", vec!["team-a", "team-b"]),
            ("shared.azurecr.io", vec!["team-a", "team-b"]),
            ("hashed", vec!["labelled"]),
            ("hashed.azurecr.io", vec![]),
            ("broken", vec!["broken"]),
            ("registry.contoso.com", vec!["domains"]),
            ("Registry.contoso.com:443", vec!["domains"]),
            ("Images.azurecr.contoso.com:443", vec!["appliance"]),
            ("contoso.com", vec![]),
            ("other", vec![]),
        ] {
            assert_eq!(found(text), names, "{text}");
        }
        assert!("Team_A".parse::<AttachedTarget>().is_err());
    }
}

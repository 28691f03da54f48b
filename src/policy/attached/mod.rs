//! Attached registries: what a valid AcrRegistry means, and which of them an image and a namespace lead to.

pub mod bindings;
mod hosts;

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

pub use self::bindings::BindingOwner;
use self::hosts::Hosts;
use crate::api::acr_registry::{AcrRegistry, AcrRegistrySpec, AcrRegistryStatus, CredentialKind, Provision};
use crate::api::condition::READY;
use crate::api::names::pull_secret;
use crate::base::shared_map::SharedMap;
use crate::policy::fingerprint;
use crate::policy::identity::AttachedIdentity;
use crate::policy::invalid_spec::InvalidSpec;
use crate::policy::scope::{Labels, Scope};
use crate::registry::cloud::{Cloud, CloudName};
use crate::registry::custom_domain::CustomDomain;
use crate::registry::image::RegistryHost;
use crate::registry::login_server::LoginServer;
use crate::registry::other_cloud::OtherCloud;
use crate::registry::resource_id::ResourceId;

/// An attached registry, as far as admission and provisioning need it. It can't hold a bad value.
#[derive(Debug, Clone, PartialEq)]
pub struct AttachedRegistry {
    name: String,
    owner: Option<BindingOwner>,
    login_server: LoginServer,
    custom_domains: Vec<CustomDomain>,
    pull_secret: String,
    namespaces: Option<Selector>,
    kind: CredentialKind,
    audience: Option<String>,
    repositories: Vec<String>,
    provision: Provision,
    identity: AttachedIdentity,
    fingerprint: String,
    namespaces_fingerprint: String,
    is_unminted: bool,
}

/// Whether a status says that a credential was tried for, and that there never was one.
fn is_unminted(status: &AcrRegistryStatus) -> bool {
    let mut conditions = status.conditions.iter();
    let has_failed = conditions.any(|condition| condition.type_ == READY && condition.status == "False");
    status.credential.is_none() && has_failed
}

impl AttachedRegistry {
    /// Reads the spec of an AcrRegistry. Whether secrets may be sent to its login server, [`Self::parse_for`] says.
    pub fn parse(object: &AcrRegistry) -> Result<Self, InvalidSpec> {
        let spec = &object.spec;
        let login_server = login_server(spec)?;
        let mut custom_domains: BTreeSet<_> = spec
            .custom_domains
            .iter()
            .map(|domain| CustomDomain::parse(domain))
            .collect::<Result<_, _>>()?;
        custom_domains.retain(|domain| domain.as_str() != login_server.as_str());
        let namespaces = spec
            .namespaces
            .clone()
            .map(Selector::try_from)
            .transpose()
            .map_err(|error| InvalidSpec::Namespaces(error.to_string()))?;
        let identity = AttachedIdentity::parse(&spec.identity)?;
        let credential = spec.credential.clone().unwrap_or_default();
        let kind = credential.kind.unwrap_or_default();
        identity.check_kind(kind)?;
        let name = object.name_any();
        Ok(Self {
            identity,
            pull_secret: pull_secret(&name),
            name,
            owner: None,
            fingerprint: fingerprint::of(spec, &login_server),
            namespaces_fingerprint: fingerprint::of_namespaces(spec.namespaces.as_ref()),
            is_unminted: object.status.as_ref().is_some_and(is_unminted),
            login_server,
            custom_domains: custom_domains.into_iter().collect(),
            namespaces,
            kind,
            audience: spec.audience.clone(),
            repositories: credential.repositories,
            provision: spec.provision.unwrap_or_default(),
        })
    }

    /// Reads the spec of an AcrRegistry for a process that knows this of another cloud, and sends no secret elsewhere.
    pub fn parse_for(object: &AcrRegistry, other_cloud: &OtherCloud) -> Result<Self, InvalidSpec> {
        let registry = Self::parse(object)?;
        other_cloud.check(&registry.login_server, registry.identity.asks_entra())?;
        Ok(registry)
    }

    /// The AcrRegistry's name; of an AcrPullBinding what it is known by, `NAMESPACE/NAME`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The registry's host.
    pub fn login_server(&self) -> &LoginServer {
        &self.login_server
    }

    /// The custom domains that its spec names, in order. Another AcrRegistry may have them:
    /// [`AttachedRegistries::domains_of`] tells which are this one's.
    pub fn custom_domains(&self) -> &[CustomDomain] {
        &self.custom_domains
    }

    /// The hosts outside the zones of Azure's clouds that it answers under: the API server asks about Pods with images there
    /// where the webhook's configuration names them.
    pub fn other_hosts(&self) -> impl Iterator<Item = &str> {
        let own = Some(&self.login_server).filter(|host| host.cloud().is_none());
        let domains = self.custom_domains.iter().map(CustomDomain::as_str);
        own.map(LoginServer::as_str).into_iter().chain(domains)
    }

    /// The name of its pull secret, in every namespace that has it.
    pub fn pull_secret(&self) -> &str {
        &self.pull_secret
    }

    /// Who pulls.
    pub fn identity(&self) -> &AttachedIdentity {
        &self.identity
    }

    /// What its pull secrets hold.
    pub fn kind(&self) -> CredentialKind {
        self.kind
    }

    /// The audience that the spec asks tokens for, where it does.
    pub fn audience(&self) -> Option<&str> {
        self.audience.as_deref()
    }

    /// Which namespaces may use it; none means all.
    pub fn namespaces(&self) -> Option<&Selector> {
        self.namespaces.as_ref()
    }

    /// Whether every namespace that is injected may use it, whatever its labels.
    pub fn is_for_every_namespace(&self) -> bool {
        self.namespaces.is_none()
    }

    /// Whether pulls need no credential: there is no pull secret then.
    pub fn is_anonymous(&self) -> bool {
        self.identity == AttachedIdentity::Anonymous
    }

    /// Whether minting has failed so far, so that there is no pull secret. Not before it was tried: a Pod is admitted sooner than
    /// a credential is minted, and its kubelet tries again.
    pub fn is_unminted(&self) -> bool {
        self.is_unminted
    }

    /// The repositories that its tokens are asked for; none means all of the registry.
    pub fn repositories(&self) -> &[String] {
        &self.repositories
    }

    /// When a namespace gets the secret.
    pub fn provision(&self) -> Provision {
        self.provision
    }

    /// The fingerprint of what its credential is made of.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The fingerprint of the selector of the namespaces that may use it.
    pub fn namespaces_fingerprint(&self) -> &str {
        &self.namespaces_fingerprint
    }

    /// Whether a namespace may use it. A namespace whose labels are not known yet may: what it gets is checked again
    /// when the secret is written.
    pub fn allows(&self, labels: Option<&Labels>) -> bool {
        match (&self.namespaces, labels) {
            (Some(selector), Some(labels)) => selector.matches(labels),
            _ => true,
        }
    }

    /// Whether its pull secret may be in an injected namespace: nobody needs one to pull anonymously.
    pub fn gives_secret_to(&self, labels: Option<&Labels>) -> bool {
        !self.is_anonymous() && self.allows(labels)
    }

    /// Whether its pull secret may be in a namespace: the namespace is injected, and may use the registry.
    pub fn gives_secret_in(&self, scope: &Scope, namespace: &str, labels: Option<&Labels>) -> bool {
        let is_here = self
            .owner
            .as_ref()
            .is_none_or(|owner| owner.namespace == namespace);
        is_here && scope.injects(namespace, labels) && self.gives_secret_to(labels)
    }

    /// Whether its credential is good for a repository of the registry.
    pub fn covers(&self, repository: &str) -> bool {
        self.repositories.is_empty() || self.repositories.iter().any(|covered| covered == repository)
    }
}

/// The host that a spec leads to.
fn login_server(spec: &AcrRegistrySpec) -> Result<LoginServer, InvalidSpec> {
    let resource_id = spec.resource_id.as_deref().map(ResourceId::parse).transpose()?;
    if spec.cloud == Some(CloudName::Other) {
        let host = spec.login_server.as_deref().ok_or(InvalidSpec::NoHost)?;
        return Ok(LoginServer::of_other_cloud(host)?);
    }
    let cloud = spec.cloud.and_then(CloudName::azure);
    let login_server = match (&spec.login_server, resource_id) {
        (Some(host), _) => LoginServer::parse(host)?,
        (None, Some(id)) => LoginServer::of_registry(id.registry(), cloud.unwrap_or(Cloud::Public))?,
        (None, None) => return Err(InvalidSpec::NoRegistry),
    };
    if cloud.is_some() && cloud != login_server.cloud() {
        return Err(InvalidSpec::Cloud);
    }
    Ok(login_server)
}

/// A custom domain that an AcrRegistry names and another registry has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenDomain<'a> {
    /// The domain.
    pub domain: &'a CustomDomain,
    /// The AcrRegistry that has it: the first by name that names it.
    pub by: &'a str,
}

/// The attached registries, by host. Several may share one host, for example teams with an identity of their own each.
///
/// A host that is a login server is never a custom domain of another registry. Any other custom domain belongs to one
/// login server: that of the first AcrRegistry by name that names it. Other AcrRegistries for the same login server
/// share it; one for another login server does not get it, so that no credential is sent to a registry for which it is
/// not meant.
///
/// A clone costs some pointers, and shares with this whatever is not changed later.
#[derive(Debug, Clone, Default)]
pub struct AttachedRegistries {
    /// What is attached in every namespace, where this is about one with bindings: thousands of these share it.
    cluster: Option<Arc<AttachedRegistries>>,
    by_name: SharedMap<Arc<AttachedRegistry>>,
    /// That of a binding's host has all of it.
    by_host: Hosts,
    unusable: SharedMap<()>,
}

impl AttachedRegistries {
    /// The same, and `AcrRegistries` of these names are there that can't be acted on.
    #[must_use]
    pub fn with_unusable(self, unusable: BTreeSet<String>) -> Self {
        let mut all = Self {
            unusable: SharedMap::default(),
            ..self
        };
        for name in unusable {
            all.set_unusable(&name);
        }
        all
    }

    /// Takes a registry that is new, or that replaces the one of its name. Returns the names of the others that have got or lost
    /// a custom domain by that. It costs what its hosts have, however many registries there are.
    pub fn set(&mut self, registry: &Arc<AttachedRegistry>) -> BTreeSet<String> {
        let before = self.by_name.insert(&registry.name, Arc::clone(registry));
        self.by_host.replace(before.as_deref(), Some(registry))
    }

    /// Takes that there is no registry of this name. Returns the names of the others that have got a custom domain by that; none
    /// if there was no such registry.
    pub fn remove(&mut self, name: &str) -> Option<BTreeSet<String>> {
        let before = self.by_name.remove(name)?;
        Some(self.by_host.replace(Some(&before), None))
    }

    /// Takes that an `AcrRegistry` of this name is there that can't be acted on; says whether that is new.
    pub fn set_unusable(&mut self, name: &str) -> bool {
        self.unusable.insert(name, ()).is_none()
    }

    /// Takes that there is none of this name that can't be acted on; says whether there was one.
    pub fn unset_unusable(&mut self, name: &str) -> bool {
        self.unusable.remove(name).is_some()
    }

    /// This, and what is attached in every namespace.
    fn layers(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.cluster.as_deref())
    }

    /// The names of all `AcrRegistries` that there are, in any order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.layers()
            .flat_map(|layer| layer.by_name.names().chain(layer.unusable.names()))
    }

    /// Whether there is an `AcrRegistry` of that name, be it one that can't be acted on.
    pub fn is_attached(&self, name: &str) -> bool {
        self.layers().any(|layer| layer.unusable.contains(name)) || self.by_name(name).is_some()
    }

    /// The registries that share the host that an image names, ordered by name; empty when none is attached.
    pub fn named_by(&self, host: &RegistryHost<'_>) -> &[Arc<AttachedRegistry>] {
        if !host.is_default_port() {
            return &[];
        }
        self.having(LoginServer::known_host(host).as_ref())
    }

    fn having(&self, host: &str) -> &[Arc<AttachedRegistry>] {
        let sharing = self.layers().find_map(|layer| layer.by_host.sharing(host));
        sharing.unwrap_or_default()
    }

    /// Every registry, in any order.
    pub fn each(&self) -> impl Iterator<Item = &AttachedRegistry> {
        let each = self.layers().flat_map(|layer| layer.by_name.values());
        each.map(Arc::as_ref)
    }

    /// Every registry, ordered by name.
    pub fn all(&self) -> Vec<&AttachedRegistry> {
        let mut all: Vec<_> = self.each().collect();
        if self.cluster.is_some() {
            all.sort_unstable_by_key(|registry| registry.name());
        }
        all
    }

    /// The registry of that name.
    pub fn by_name(&self, name: &str) -> Option<&AttachedRegistry> {
        self.shared(name).map(Arc::as_ref)
    }

    /// The same, to be kept.
    pub fn shared(&self, name: &str) -> Option<&Arc<AttachedRegistry>> {
        self.layers().find_map(|layer| layer.by_name.get(name))
    }

    /// The custom domains that a registry has, in order.
    pub fn domains_of<'a>(
        &'a self,
        registry: &'a AttachedRegistry,
    ) -> impl Iterator<Item = &'a CustomDomain> {
        let domains = registry.custom_domains.iter();
        domains.filter(|domain| self.owner(registry, domain).is_none())
    }

    /// The custom domains that a registry names and another one has, in order.
    pub fn taken_from<'a>(&'a self, registry: &'a AttachedRegistry) -> impl Iterator<Item = TakenDomain<'a>> {
        registry.custom_domains.iter().filter_map(|domain| {
            let by = self.owner(registry, domain)?.name();
            Some(TakenDomain { domain, by })
        })
    }

    /// Whose a domain is that a registry names, where it is not its own.
    fn owner(&self, registry: &AttachedRegistry, domain: &CustomDomain) -> Option<&AttachedRegistry> {
        let first = self.having(domain.as_str()).first()?;
        (first.login_server != registry.login_server).then_some(first)
    }
}

impl<R: Into<Arc<AttachedRegistry>>> FromIterator<R> for AttachedRegistries {
    fn from_iter<T: IntoIterator<Item = R>>(registries: T) -> Self {
        let mut all = Self::default();
        for registry in registries {
            all.set(&registry.into());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::access::{Access, Accesses};
    use crate::registry::image::ImageReference;
    use serde_json::json;

    fn object(name: &str, spec: serde_json::Value) -> AcrRegistry {
        let mut spec = spec;
        spec["identity"] = json!({"managedIdentity": {}});
        serde_json::from_value(json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name}, "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn a_registry_without_a_selector_is_for_every_namespace() {
        let is_for_every = |namespaces: serde_json::Value| {
            let spec = json!({"loginServer": "myregistry.azurecr.io", "namespaces": namespaces});
            AttachedRegistry::parse(&object("r", spec))
                .unwrap()
                .is_for_every_namespace()
        };
        assert!(is_for_every(json!(null)));
        assert!(!is_for_every(json!({"matchLabels": {"team": "a"}})));
    }

    #[test]
    fn a_spec_leads_to_a_host() {
        let id = "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/MyRegistry";
        for (spec, host) in [
            (
                json!({"loginServer": "MyRegistry.azurecr.io"}),
                Some("myregistry.azurecr.io"),
            ),
            (json!({"resourceId": id}), Some("myregistry.azurecr.io")),
            (
                json!({"resourceId": id, "cloud": "China"}),
                Some("myregistry.azurecr.cn"),
            ),
            (
                json!({"resourceId": id, "loginServer": "myregistry-a1b2.azurecr.io"}),
                Some("myregistry-a1b2.azurecr.io"),
            ),
            (
                json!({"loginServer": "myregistry.azurecr.io", "cloud": "China"}),
                None,
            ),
            (json!({"loginServer": "registry.example"}), None),
            (
                json!({"loginServer": "registry.example", "cloud": "Other"}),
                Some("registry.example"),
            ),
            (
                json!({"loginServer": "registry.example", "cloud": "Other", "resourceId": id}),
                Some("registry.example"),
            ),
            (
                json!({"loginServer": "registry.example", "cloud": "Public"}),
                None,
            ),
            (
                json!({"loginServer": "myregistry.azurecr.io", "cloud": "Other"}),
                None,
            ),
            (json!({"resourceId": id, "cloud": "Other"}), None),
            (json!({"resourceId": "myregistry"}), None),
            (json!({}), None),
            (
                json!({"loginServer": "myregistry.azurecr.io", "namespaces": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}),
                None,
            ),
        ] {
            let parsed = AttachedRegistry::parse(&object("r", spec.clone()));
            assert_eq!(
                parsed
                    .as_ref()
                    .ok()
                    .map(|registry| registry.login_server().as_str()),
                host,
                "{spec} {parsed:?}"
            );
        }
    }

    #[test]
    fn registries_that_share_a_host_are_found_in_order() {
        let registries: AttachedRegistries = ["team-b", "team-a"]
            .iter()
            .map(|name| {
                AttachedRegistry::parse(&object(name, json!({"loginServer": "shared.azurecr.io"}))).unwrap()
            })
            .collect();
        let names = |image: &str| {
            let host = ImageReference::parse(image).unwrap().registry().unwrap();
            registries
                .named_by(&host)
                .iter()
                .map(|registry| registry.name().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names("SHARED.azurecr.io:443/app"), ["team-a", "team-b"]);
        assert_eq!(
            names("shared.westeurope.geo.azurecr.io/app"),
            ["team-a", "team-b"]
        );
        assert!(names("shared.westeurope.geo.azurecr.cn/app").is_empty());
        assert!(names("shared.westeurope.data.azurecr.io/app").is_empty());
        assert!(names("shared.azurecr.io:5000/app").is_empty());
        assert!(names("other.azurecr.io/app").is_empty());
    }

    fn parsed(name: &str, spec: serde_json::Value) -> AttachedRegistry {
        AttachedRegistry::parse(&object(name, spec)).unwrap()
    }

    fn with_domains(name: &str, host: &str, domains: &[&str]) -> AttachedRegistry {
        let spec = json!({"loginServer": format!("{host}.azurecr.io"), "customDomains": domains});
        parsed(name, spec)
    }

    #[test]
    fn a_registry_is_found_by_its_custom_domains() {
        let registries: AttachedRegistries = [
            with_domains(
                "mine",
                "myregistry",
                &["images.contoso.com", "registry.contoso.com"],
            ),
            with_domains("other", "otherregistry", &[]),
        ]
        .into_iter()
        .collect();
        for (image, expected) in [
            ("registry.contoso.com/app", "granted"),
            ("Images.Contoso.com:443/app", "granted"),
            ("registry.contoso.com:5000/app", "elsewhere"),
            ("westeurope.registry.contoso.com/app", "elsewhere"),
            ("contoso.com/app", "elsewhere"),
        ] {
            let host = ImageReference::parse(image).unwrap().registry().unwrap();
            let access = match Accesses::new(&registries, None).of(&host) {
                Access::Granted(usable) if usable.iter().all(|usable| usable.name() == "mine") => "granted",
                Access::Elsewhere => "elsewhere",
                _ => "another",
            };
            assert_eq!(access, expected, "{image}");
        }
    }

    #[test]
    fn a_custom_domain_is_of_the_first_by_name() {
        let domain = "registry.contoso.com";
        let a = with_domains("a", "sharedregistry", &[domain]);
        let b = with_domains("b", "otherregistry", &["b.contoso.com", domain]);
        let c = with_domains("c", "sharedregistry", &[domain]);
        let host = ImageReference::parse("registry.contoso.com/app")
            .unwrap()
            .registry()
            .unwrap();
        let names = |registries: &AttachedRegistries| -> Vec<String> {
            let named = registries.named_by(&host).iter();
            named.map(|registry| registry.name().to_owned()).collect()
        };
        let domains = |registries: &AttachedRegistries, of: &AttachedRegistry| -> Vec<String> {
            registries.domains_of(of).map(ToString::to_string).collect()
        };
        let all: AttachedRegistries = [c.clone(), b.clone(), a.clone()].into_iter().collect();
        assert_eq!(names(&all), ["a", "c"]);
        assert_eq!(domains(&all, &a), [domain]);
        assert_eq!(domains(&all, &b), ["b.contoso.com"]);
        assert_eq!(domains(&all, &c), [domain]);
        let taken: Vec<_> = all
            .taken_from(&b)
            .map(|taken| (taken.domain.as_str(), taken.by))
            .collect();
        assert_eq!(taken, [(domain, "a")]);
        let without_a: AttachedRegistries = [c.clone(), b.clone()].into_iter().collect();
        assert_eq!(names(&without_a), ["b"]);
        assert_eq!(domains(&without_a, &b), ["b.contoso.com", domain]);
        assert!(domains(&without_a, &c).is_empty());
    }

    #[test]
    fn a_login_server_is_no_custom_domain_of_another() {
        let host = "registry.contoso.com";
        let own = json!({"cloud": "Other", "loginServer": host, "customDomains": [host, "b.contoso.com"]});
        let owner = parsed("z", own);
        let hosts: Vec<_> = owner.other_hosts().collect();
        assert_eq!(hosts, [host, "b.contoso.com"]);
        let first = with_domains("a", "myregistry", &[host]);
        let all: AttachedRegistries = [owner.clone(), first.clone()].into_iter().collect();
        let image = ImageReference::parse("Registry.contoso.com:443/app").unwrap();
        let found = all.named_by(&image.registry().unwrap());
        let names: Vec<_> = found.iter().map(|registry| registry.name()).collect();
        assert_eq!(names, ["z"]);
        assert_eq!(all.domains_of(&first).count(), 0);
        let taken: Vec<_> = all.taken_from(&first).map(|taken| taken.by).collect();
        assert_eq!(taken, ["z"]);
        assert_eq!(all.taken_from(&owner).count(), 0);
    }

    #[test]
    fn a_custom_domain_makes_no_other_credential() {
        let fingerprint = |domains| with_domains("r", "myregistry", domains).fingerprint().to_owned();
        assert_eq!(fingerprint(&[]), fingerprint(&["registry.contoso.com"]));
    }

    #[test]
    fn names_find_registries_that_can_be_acted_on_or_not() {
        let registries: AttachedRegistries = [("team-a", "shared"), ("team-b", "shared"), ("other", "other")]
            .map(|(name, host)| parsed(name, json!({"loginServer": format!("{host}.azurecr.io")})))
            .into_iter()
            .collect();
        let registries = registries.with_unusable(["broken".to_owned()].into());
        for (name, host, is_attached) in [
            ("team-a", Some("shared.azurecr.io"), true),
            ("team-b", Some("shared.azurecr.io"), true),
            ("other", Some("other.azurecr.io"), true),
            ("broken", None, true),
            ("stranger", None, false),
        ] {
            let found = registries.by_name(name);
            assert_eq!(
                found.map(|found| (found.name(), found.login_server().as_str())),
                host.map(|host| (name, host))
            );
            assert_eq!(registries.is_attached(name), is_attached, "{name}");
        }
        let names: BTreeSet<_> = registries.names().collect();
        assert_eq!(names, ["broken", "other", "team-a", "team-b"].into());
    }

    #[test]
    fn a_selector_makes_no_other_credential() {
        let spec = |more: &str, selector| {
            let host = format!("{more}.azurecr.io");
            parsed("r", json!({"loginServer": host, "namespaces": selector}))
        };
        let of = |team: &str| json!({"matchLabels": {"team": team}});
        let fingerprint = |more, selector| spec(more, selector).fingerprint().to_owned();
        assert_eq!(
            fingerprint("myregistry", of("a")),
            fingerprint("myregistry", of("b"))
        );
        assert_ne!(
            fingerprint("myregistry", of("a")),
            fingerprint("another", of("a"))
        );
    }

    #[test]
    fn a_registry_has_what_its_spec_says() {
        let spec = json!({
            "loginServer": "myregistry.azurecr.io", "audience": "https://containerregistry.azure.net",
            "customDomains": ["registry.contoso.com"], "identity": {"managedIdentity": {}},
        });
        let registry = parsed("mine", spec);
        assert_eq!(registry.audience(), Some("https://containerregistry.azure.net"));
        let domains: Vec<_> = registry
            .custom_domains()
            .iter()
            .map(CustomDomain::as_str)
            .collect();
        assert_eq!(domains, ["registry.contoso.com"]);
        assert_eq!(with_domains("plain", "plainregistry", &[]).audience(), None);
    }
}

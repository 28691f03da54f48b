//! Attached registries: what a valid AcrRegistry means, and which of them an image and a namespace lead to.

use std::collections::{BTreeSet, HashMap};

use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

use crate::api::acr_registry::{AcrRegistry, CredentialKind, Provision};
use crate::api::names::pull_secret;
use crate::policy::fingerprint;
use crate::policy::identity::AttachedIdentity;
use crate::policy::invalid_spec::InvalidSpec;
use crate::policy::scope::{Labels, Scope};
use crate::registry::cloud::Cloud;
use crate::registry::image::RegistryHost;
use crate::registry::login_server::LoginServer;
use crate::registry::resource_id::ResourceId;

/// An attached registry, as far as admission and provisioning need it. It can't hold a bad value.
#[derive(Debug, Clone, PartialEq)]
pub struct AttachedRegistry {
    name: String,
    login_server: LoginServer,
    pull_secret: String,
    namespaces: Option<Selector>,
    kind: CredentialKind,
    audience: Option<String>,
    repositories: Vec<String>,
    provision: Provision,
    identity: AttachedIdentity,
    fingerprint: String,
}

impl AttachedRegistry {
    /// Reads the spec of an AcrRegistry.
    pub fn parse(object: &AcrRegistry) -> Result<Self, InvalidSpec> {
        let spec = &object.spec;
        let resource_id = spec.resource_id.as_deref().map(ResourceId::parse).transpose()?;
        let login_server = match (&spec.login_server, resource_id) {
            (Some(host), _) => LoginServer::parse(host)?,
            (None, Some(id)) => LoginServer::of_registry(id.registry(), spec.cloud.unwrap_or(Cloud::Public))?,
            (None, None) => return Err(InvalidSpec::NoRegistry),
        };
        if spec.cloud.is_some_and(|cloud| cloud != login_server.cloud()) {
            return Err(InvalidSpec::Cloud);
        }
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
            fingerprint: fingerprint::of(spec, &login_server),
            login_server,
            namespaces,
            kind,
            audience: spec.audience.clone(),
            repositories: credential.repositories,
            provision: spec.provision.unwrap_or_default(),
        })
    }

    /// The AcrRegistry's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The registry's host.
    pub fn login_server(&self) -> &LoginServer {
        &self.login_server
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
        scope.injects(namespace, labels) && self.gives_secret_to(labels)
    }

    /// Whether its credential is good for a repository of the registry.
    pub fn covers(&self, repository: &str) -> bool {
        self.repositories.is_empty() || self.repositories.iter().any(|covered| covered == repository)
    }
}

/// What there is for an image's registry in a namespace.
#[derive(Debug, Clone, PartialEq)]
pub enum Access<'a> {
    /// The host is no ACR login server: whatever it needs, it is not ours to give.
    Elsewhere,
    /// No AcrRegistry has the host.
    Unattached,
    /// The host is attached, but not for the namespace; this is the first `AcrRegistry` that has it.
    Forbidden(&'a AttachedRegistry),
    /// These may be used, ordered by name; there is at least one.
    Granted(Vec<&'a AttachedRegistry>),
}

/// The attached registries, by host. Several may share one: teams with an identity of their own each.
#[derive(Debug, Clone, Default)]
pub struct AttachedRegistries {
    by_host: HashMap<String, Vec<AttachedRegistry>>,
    /// The host of each registry.
    hosts: HashMap<String, String>,
    unusable: BTreeSet<String>,
}

impl AttachedRegistries {
    /// The same, and `AcrRegistries` of these names are there that can't be acted on.
    #[must_use]
    pub fn with_unusable(self, unusable: BTreeSet<String>) -> Self {
        Self { unusable, ..self }
    }

    /// The names of all `AcrRegistries` that there are.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let usable = self.by_host.values().flatten().map(AttachedRegistry::name);
        usable.chain(self.unusable.iter().map(String::as_str))
    }

    /// Whether there is an `AcrRegistry` of that name, be it one that can't be acted on.
    pub fn is_attached(&self, name: &str) -> bool {
        self.unusable.contains(name) || self.by_name(name).is_some()
    }

    /// The registries that share the host that an image names, ordered by name; empty when none is attached.
    pub fn named_by(&self, host: &RegistryHost<'_>) -> &[AttachedRegistry] {
        if !host.is_default_port() {
            return &[];
        }
        self.by_host
            .get(LoginServer::known_host(host).as_ref())
            .map_or(&[], Vec::as_slice)
    }

    /// What there is for an image of this host in a namespace with these labels.
    pub fn access(&self, host: &RegistryHost<'_>, labels: Option<&Labels>) -> Access<'_> {
        let sharing = self.named_by(host);
        let usable: Vec<_> = sharing
            .iter()
            .filter(|registry| registry.allows(labels))
            .collect();
        match sharing.first() {
            _ if !usable.is_empty() => Access::Granted(usable),
            Some(registry) => Access::Forbidden(registry),
            None if LoginServer::is_named_by(host) => Access::Unattached,
            None => Access::Elsewhere,
        }
    }

    /// Every registry, ordered by name.
    pub fn all(&self) -> Vec<&AttachedRegistry> {
        let mut all: Vec<_> = self.by_host.values().flatten().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The registry of that name.
    pub fn by_name(&self, name: &str) -> Option<&AttachedRegistry> {
        let sharing = self.by_host.get(self.hosts.get(name)?)?;
        sharing.iter().find(|registry| registry.name == name)
    }
}

impl FromIterator<AttachedRegistry> for AttachedRegistries {
    fn from_iter<T: IntoIterator<Item = AttachedRegistry>>(registries: T) -> Self {
        let mut by_host: HashMap<String, Vec<AttachedRegistry>> = HashMap::new();
        let mut hosts = HashMap::new();
        for registry in registries {
            hosts.insert(registry.name.clone(), registry.login_server.as_str().to_owned());
            by_host
                .entry(registry.login_server.as_str().to_owned())
                .or_default()
                .push(registry);
        }
        for sharing in by_host.values_mut() {
            sharing.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Self {
            by_host,
            hosts,
            unusable: BTreeSet::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
}

//! Bindings: registries that are attached in only one namespace, by an AcrPullBinding there.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use super::{AttachedRegistries, AttachedRegistry, login_server};
use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::acr_registry::{AcrRegistrySpec, Provision};
use crate::api::names::{binding_key, namesake_of_binding, pull_secret, registry_of};
use crate::policy::fingerprint;
use crate::policy::identity::AttachedIdentity;
use crate::policy::invalid_spec::InvalidSpec;
use crate::registry::other_cloud::OtherCloud;

/// How many bindings of a namespace are served: the oldest. However many its owner creates, a review costs what these do.
pub const MAX_SERVED: usize = 32;

/// The AcrPullBinding that attaches a registry only for its own namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingOwner {
    /// The namespace.
    pub namespace: String,
    /// The binding's name.
    pub name: String,
    /// Its UID: another binding of that name is another owner.
    pub uid: String,
    /// When it was created, where an API server says so.
    pub created: Option<Timestamp>,
}

impl AttachedRegistry {
    /// Reads the spec of an AcrPullBinding, for a process that knows this of another cloud.
    pub fn parse_binding(object: &AcrPullBinding, other_cloud: &OtherCloud) -> Result<Self, InvalidSpec> {
        let binding = Self::parse_binding_of_any_cloud(object)?;
        other_cloud.check(&binding.login_server, binding.identity.asks_entra())?;
        Ok(binding)
    }

    /// Reads the spec of an AcrPullBinding, whichever cloud it is in.
    pub fn parse_binding_of_any_cloud(object: &AcrPullBinding) -> Result<Self, InvalidSpec> {
        let spec = &object.spec;
        let login_server = login_server(&AcrRegistrySpec {
            login_server: spec.login_server.clone(),
            resource_id: spec.resource_id.clone(),
            cloud: spec.cloud,
            ..AcrRegistrySpec::default()
        })?;
        let account = spec.service_account_name.clone();
        let audience = spec.audience.clone();
        let owner = BindingOwner {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            created: object.creation_timestamp().map(|time| time.0),
        };
        let fingerprint = fingerprint::of_parts(
            &login_server,
            audience.as_deref(),
            // Another binding of that name may be somebody else's: nothing was granted to it yet.
            &json!({"serviceAccount": [owner.namespace, account, owner.uid]}),
            spec.credential.as_ref(),
        );
        let credential = spec.credential.clone().unwrap_or_default();
        let kind = credential.kind.unwrap_or_default();
        let identity = AttachedIdentity::ServiceAccount(account);
        identity.check_kind(kind)?;
        Ok(Self {
            name: binding_key(&owner.namespace, &owner.name),
            pull_secret: pull_secret(&namesake_of_binding(&owner.name)),
            owner: Some(owner),
            login_server,
            custom_domains: Vec::new(),
            namespaces: None,
            kind,
            audience,
            repositories: credential.repositories,
            provision: Provision::Eager,
            identity,
            fingerprint,
            namespaces_fingerprint: fingerprint::of_namespaces(None),
            // The admission policies are not told about it, and decide as the webhook does.
            is_unminted: false,
        })
    }

    /// The AcrPullBinding that it is; none of an AcrRegistry.
    pub fn owner(&self) -> Option<&BindingOwner> {
        self.owner.as_ref()
    }

    /// By what the bindings of a namespace are served: the oldest first, and those of the same second by name.
    pub fn seniority(&self) -> (Option<Timestamp>, &str) {
        let created = self.owner.as_ref().and_then(|owner| owner.created);
        (created, &self.name)
    }

    /// What attaches it, in words.
    pub fn described(&self) -> String {
        match &self.owner {
            Some(owner) => format!("AcrPullBinding {}", owner.name),
            None => format!("AcrRegistry {}", self.name),
        }
    }

    /// By what pull secrets are ordered: a binding's come before those of `AcrRegistries`.
    pub fn order(&self) -> (bool, &str) {
        (self.owner.is_none(), &self.name)
    }
}

/// Those of the bindings of a namespace that are served, in any order.
pub fn served<'a>(
    bindings: impl IntoIterator<Item = &'a Arc<AttachedRegistry>>,
) -> Vec<&'a Arc<AttachedRegistry>> {
    let mut all: Vec<_> = bindings.into_iter().collect();
    if all.len() > MAX_SERVED {
        // Not sorted: a namespace may have thousands.
        all.select_nth_unstable_by(MAX_SERVED, |a, b| a.seniority().cmp(&b.seniority()));
        all.truncate(MAX_SERVED);
    }
    all
}

impl AttachedRegistries {
    /// The same for a test, which shares nothing.
    #[cfg(test)]
    pub(crate) fn with_bindings<'a>(
        &self,
        bindings: impl IntoIterator<Item = &'a Arc<AttachedRegistry>>,
    ) -> Self {
        Self::in_namespace(&Arc::new(self.clone()), bindings)
    }

    /// Whether this is what is attached in a namespace beside these registries.
    #[must_use]
    pub fn is_above(&self, cluster: &Arc<Self>) -> bool {
        self.cluster.as_ref().is_some_and(|of| Arc::ptr_eq(of, cluster))
    }

    /// What is attached in a namespace that has these bindings, beside those of the cluster: those of them that are served, but
    /// for one whose pull secret is an AcrRegistry's by its name. It costs what the bindings do, however many registries there are.
    #[must_use]
    pub fn in_namespace<'a>(
        cluster: &Arc<Self>,
        bindings: impl IntoIterator<Item = &'a Arc<AttachedRegistry>>,
    ) -> Self {
        let mut here = Self {
            cluster: Some(Arc::clone(cluster)),
            ..Self::default()
        };
        let mut bindings = served(bindings);
        bindings.sort_unstable_by_key(|binding| binding.name());
        let mut by_host: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for binding in bindings {
            if cluster.namesake_of(binding).is_some() {
                continue;
            }
            here.by_name.insert(&binding.name, Arc::clone(binding));
            let sharing = by_host.entry(binding.login_server.as_str()).or_default();
            sharing.push(Arc::clone(binding));
        }
        for (host, mut sharing) in by_host {
            sharing.extend(cluster.having(host).iter().cloned());
            here.by_host.share(host, sharing);
        }
        here
    }

    /// The AcrRegistry whose pull secret has the name of a binding's.
    pub fn namesake_of(&self, binding: &AttachedRegistry) -> Option<String> {
        let namesake = namesake_of_binding(&binding.owner.as_ref()?.name);
        self.is_attached(&namesake).then_some(namesake)
    }

    /// The registry whose pull secret has this name, if there is one.
    pub fn by_pull_secret(&self, name: &str) -> Option<&AttachedRegistry> {
        let registry = registry_of(name)?;
        let is_of_binding = registry.starts_with(&namesake_of_binding(""));
        // Those of the cluster are looked up by name: of them there may be many.
        let mut here = self.by_name.values().filter(|_| is_of_binding);
        let mut binding = || here.find(|registry| registry.owner.is_some() && registry.pull_secret == name);
        self.by_name(registry).or_else(|| binding().map(Arc::as_ref))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::acr_registry::AcrRegistry;
    use crate::policy::access::{Access, Accesses};
    use crate::policy::decision::{Injector, Outcome, Settings, decide};
    use crate::policy::request::ReviewRequest;
    use crate::policy::scope::Scope;
    use crate::registry::image::ImageReference;

    fn binding(name: &str, host: &str) -> Arc<AttachedRegistry> {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {"name": name, "namespace": "shop", "uid": "u"},
            "spec": {"loginServer": host, "serviceAccountName": "puller"},
        });
        let object: AcrPullBinding = serde_json::from_value(object).unwrap();
        Arc::new(AttachedRegistry::parse_binding(&object, &OtherCloud::default()).unwrap())
    }

    fn registry(name: &str, host: &str) -> AttachedRegistry {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
            "spec": {"loginServer": host, "identity": {"managedIdentity": {}}},
        });
        let object: AcrRegistry = serde_json::from_value(object).unwrap();
        AttachedRegistry::parse(&object).unwrap()
    }

    const SHARED: &str = "shared1.azurecr.io";

    fn granted(registries: &AttachedRegistries) -> Vec<String> {
        let image = format!("{SHARED}/app");
        let image = ImageReference::parse(&image).unwrap();
        match Accesses::new(registries, None).of(&image.registry().unwrap()) {
            Access::Granted(usable) => usable.iter().map(|registry| registry.name().to_owned()).collect(),
            Access::Elsewhere | Access::Unattached | Access::Forbidden(_) => Vec::new(),
        }
    }

    #[test]
    fn bindings_come_before_registries_of_their_host() {
        let cluster: AttachedRegistries = [registry("a", SHARED)].into_iter().collect();
        let bindings = [
            binding("z", SHARED),
            binding("m", SHARED),
            binding("o", "other1.azurecr.io"),
        ];
        let here = cluster.with_bindings(&bindings);
        assert_eq!(granted(&here), ["shop/m", "shop/z", "a"]);
        let mut all = here.all();
        all.sort_by_key(|registry| registry.order());
        let names: Vec<_> = all.iter().map(|registry| registry.pull_secret()).collect();
        assert_eq!(
            names,
            [
                "pullpass-binding-m",
                "pullpass-binding-o",
                "pullpass-binding-z",
                "pullpass-a"
            ]
        );
        assert_eq!(granted(&cluster), ["a"], "elsewhere nothing is new");
        assert_eq!(granted(&AttachedRegistries::default()), [""; 0]);
    }

    #[test]
    fn namespaces_with_bindings_share_the_registries() {
        let cluster = [registry("a", SHARED), registry("b", "other1.azurecr.io")];
        let cluster: AttachedRegistries = cluster.into_iter().collect();
        let cluster = Arc::new(cluster.with_unusable(["broken".to_owned()].into()));
        let here = AttachedRegistries::in_namespace(&cluster, &[binding("z", SHARED)]);
        assert_eq!(
            (here.by_name.names().count(), here.by_host.len()),
            (1, 1),
            "what is its own"
        );
        let names: Vec<_> = here.all().iter().map(|registry| registry.name()).collect();
        assert_eq!(names, ["a", "b", "shop/z"]);
        let mut names: Vec<_> = here.names().collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "b", "broken", "shop/z"]);
        assert!(
            ["a", "broken", "shop/z"]
                .iter()
                .all(|name| here.is_attached(name))
        );
        assert!(!cluster.is_attached("shop/z"));
        let other = here.having("other1.azurecr.io");
        assert_eq!(other.first().map(|registry| registry.name()), Some("b"));
    }

    #[test]
    fn the_oldest_bindings_of_a_namespace_are_served() {
        let created = |name: String, second: usize| {
            let object = json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
                "metadata": {
                    "name": name, "namespace": "shop", "creationTimestamp": format!("2026-11-28T10:00:{second:02}Z"),
                },
                "spec": {"loginServer": SHARED, "serviceAccountName": "puller"},
            });
            let object: AcrPullBinding = serde_json::from_value(object).unwrap();
            Arc::new(AttachedRegistry::parse_binding(&object, &OtherCloud::default()).unwrap())
        };
        let young = (0..10_000).map(|number| created(format!("a{number:05}"), 1));
        let old = (0..MAX_SERVED - 1).map(|number| created(format!("z{number:05}"), 0));
        let all: Vec<_> = young.chain(old).collect();
        let cluster: AttachedRegistries = [registry("a", SHARED)].into_iter().collect();
        let here = cluster.with_bindings(&all);
        let mut expected: Vec<_> = (0..MAX_SERVED - 1)
            .map(|number| format!("shop/z{number:05}"))
            .collect();
        expected.insert(0, "shop/a00000".to_owned());
        expected.push("a".to_owned());
        assert_eq!(granted(&here), expected);
        let kept = (here.by_name.names().count(), here.by_host.len());
        assert_eq!(kept, (MAX_SERVED, 1));
    }

    #[test]
    fn a_binding_yields_to_a_registry_of_its_name() {
        let cluster: AttachedRegistries = [registry("binding-z", "other1.azurecr.io")].into_iter().collect();
        let here = cluster.with_bindings(&[binding("z", SHARED)]);
        assert_eq!(granted(&here), [""; 0]);
        let found = here
            .by_pull_secret("pullpass-binding-z")
            .map(AttachedRegistry::name);
        assert_eq!(found, Some("binding-z"));
    }

    #[test]
    fn a_pull_secret_leads_to_its_binding() {
        let cluster: AttachedRegistries = [registry("a", SHARED)].into_iter().collect();
        let here = cluster.with_bindings(&[binding("z", SHARED)]);
        let named = |secret: &str| here.by_pull_secret(secret).map(AttachedRegistry::name);
        assert_eq!(named("pullpass-binding-z"), Some("shop/z"));
        assert_eq!(named("pullpass-a"), Some("a"));
        assert_eq!(named("pullpass-binding-a"), None);
        assert_eq!(named("mine"), None);
    }

    /// What is decided about a new Pod of the bindings' namespace, with these pull secrets of somebody's.
    fn decided(here: &AttachedRegistries, secrets: &[&str], by: &str) -> (Outcome, Vec<String>, Vec<String>) {
        let secrets: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
        let containers =
            [SHARED, "stranger1.azurecr.io"].map(|host| json!({"name": "c", "image": format!("{host}/app")}));
        let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE", "namespace": "shop",
            "userInfo": {"username": "jane"}, "dryRun": false,
            "object": {
                "metadata": {"name": "web", "annotations": {"pullpass.dev/injected-by": by}},
                "spec": {"containers": containers, "imagePullSecrets": secrets},
            },
        }});
        let body = review.to_string();
        let request = ReviewRequest::decode(body.as_bytes()).unwrap();
        let decision = decide(&request, here, None, &Settings::default());
        let is_by_policy = decision.injected_by == Some(Injector::AdmissionPolicy);
        assert_eq!(is_by_policy, decision.outcome == Outcome::AlreadyPresent);
        assert_eq!(
            decision.images.first().and_then(|image| image.registry),
            Some("shop/m")
        );
        let rules: Vec<_> = decision
            .violations
            .iter()
            .map(|violation| &*violation.host)
            .collect();
        assert_eq!(rules, ["stranger1.azurecr.io"], "the rules hold");
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        (
            decision.outcome,
            owned(&decision.secrets),
            owned(&decision.demanded),
        )
    }

    #[test]
    fn bindings_that_a_policy_injected_are_demanded() {
        let cluster: AttachedRegistries = [registry("a", SHARED)].into_iter().collect();
        let here = cluster.with_bindings(&[binding("z", SHARED), binding("m", SHARED)]);
        let all = ["pullpass-binding-m", "pullpass-binding-z", "pullpass-a"];
        let demanded = ["shop/m", "shop/z", "a"].map(str::to_owned).to_vec();
        let by_policy = decided(&here, &all, "admission-policy");
        assert_eq!(by_policy, (Outcome::AlreadyPresent, Vec::new(), demanded.clone()));
        // An index that does not have them yet leaves them to the webhook.
        let without = decided(&here, &all[2..], "admission-policy");
        let added = all[..2].iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(without, (Outcome::Injected, added, demanded));
    }

    #[test]
    fn a_bindings_secret_is_for_its_namespace_alone() {
        let binding = binding("z", SHARED);
        let given = |namespace: &str| binding.gives_secret_in(&Scope::default(), namespace, None);
        assert!(given("shop") && !given("blog"));
    }

    #[test]
    fn the_name_of_a_binding_is_no_part_of_its_fingerprint() {
        let one = binding("z", SHARED);
        assert_eq!(one.fingerprint(), binding("y", SHARED).fingerprint());
        assert_ne!(one.fingerprint(), binding("z", "other1.azurecr.io").fingerprint());
    }

    #[test]
    fn a_binding_that_is_recreated_has_another_fingerprint() {
        let with_uid = |uid: &str| {
            let object = json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
                "metadata": {"name": "z", "namespace": "shop", "uid": uid},
                "spec": {"loginServer": SHARED, "serviceAccountName": "puller"},
            });
            let object: AcrPullBinding = serde_json::from_value(object).unwrap();
            let binding = AttachedRegistry::parse_binding(&object, &OtherCloud::default()).unwrap();
            binding.fingerprint().to_owned()
        };
        assert_eq!(with_uid("u"), with_uid("u"));
        assert_ne!(with_uid("u"), with_uid("v"));
    }

    #[test]
    fn a_binding_names_its_registry_as_an_acr_registry_does() {
        let id = "/subscriptions/0b1f6471-1bf0-4dda-aec3-111122223333/resourceGroups/g/providers/\
                  Microsoft.ContainerRegistry/registries/myregistry";
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {"name": "z", "namespace": "shop", "uid": "u"},
            "spec": {"resourceId": id, "cloud": "China", "serviceAccountName": "puller"},
        });
        let object: AcrPullBinding = serde_json::from_value(object).unwrap();
        let binding = AttachedRegistry::parse_binding(&object, &OtherCloud::default()).unwrap();
        assert_eq!(binding.login_server().as_str(), "myregistry.azurecr.cn");
    }

    #[test]
    fn a_binding_is_told_from_an_acr_registry() {
        let (binding, registry) = (binding("z", SHARED), registry("a", SHARED));
        let owner = binding.owner().unwrap();
        assert_eq!((&*owner.namespace, &*owner.name, &*owner.uid), ("shop", "z", "u"));
        assert_eq!(binding.described(), "AcrPullBinding z");
        assert_eq!(registry.owner(), None);
        assert_eq!(registry.described(), "AcrRegistry a");
    }
}

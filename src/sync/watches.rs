//! What every replica watches: registries, namespaces and minted credentials.

use std::collections::{BTreeSet, HashSet};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::broadcast;

use crate::api::names::{
    BINDING_LABEL, BINDING_NAMESPACE_LABEL, MANAGED_BY_LABEL, MANAGER, REGISTRY_LABEL, binding_key,
    binding_of_key, minted_credential,
};
use crate::base::clock::monotonic as now;
use crate::base::readiness::Readiness;
use crate::kubernetes::follow::follow_long;
use crate::kubernetes::watch::followed;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::scope::Scope;
use crate::sync::bindings::{KnownBindings, UnreadBinding};
use crate::sync::credentials::{Credentials, News, Seen, Version};
use crate::sync::held_credential::HeldCredential;
use crate::sync::pair::Pair;
use crate::sync::recent_writes::RecentWrites;
use crate::sync::registries::{Changed, KnownRegistries, UnreadRegistry};
use crate::sync::repositories::Repositories;
use crate::sync::service_accounts;
use crate::sync::spellings::Spellings;
use crate::sync::stored::Stored;
use crate::sync::versions::{Listed, Versions};
use crate::view::{NamespaceChange, Namespaces, View};

/// What changed, for the controllers that act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// So much that everything is to be looked at, as when a cache is filled for the first time.
    Everything,
    /// A registry was attached, changed or detached.
    Registry(String),
    /// The same of an AcrPullBinding, by what it is known by; or its ServiceAccount came, changed or went.
    Binding(String),
    /// So many AcrPullBindings changed that all of them are to be looked at.
    Bindings,
    /// A namespace came, or its labels changed.
    Namespace(NamespaceChange),
    /// A namespace went, and its pull secrets with it.
    NamespaceGone(String),
    /// A credential was minted.
    Credential(String),
    /// Pods of a ServiceAccount in this namespace may name other pull secrets than before.
    ServiceAccounts(String),
    /// Something else is noted of a credential, which is the same as it was: it may go to other namespaces now.
    Noted(String),
}

/// How many changes that a list brings are told one by one.
const MANY: usize = 256;
/// How many changes may wait for a slow listener; one that missed some looks at everything.
const BACKLOG: usize = 1024;

/// The caches of a replica.
#[derive(Debug)]
pub struct Watches {
    /// Registries and namespaces.
    pub view: Arc<View>,
    /// Minted credentials.
    pub credentials: Arc<Credentials>,
    /// The repositories that Pods pull from, as far as the leader has seen them.
    pub repositories: Repositories,
    /// What the demand writer wrote a moment ago.
    pub(super) recent_writes: RecentWrites,
    /// Locked until a change is told: who has read a version was told about everything up to it.
    versions: Mutex<Versions>,
    /// Which pull secrets need every key.
    pub(super) spellings: Spellings,
    changes: broadcast::Sender<Change>,
}

impl Watches {
    /// Caches that are still empty.
    pub fn new(view: Arc<View>) -> Self {
        Self {
            view,
            credentials: Arc::default(),
            repositories: Repositories::default(),
            recent_writes: RecentWrites::default(),
            versions: Mutex::default(),
            spellings: Spellings::default(),
            changes: broadcast::Sender::new(BACKLOG),
        }
    }

    /// The same in a process that looks at all Pods this often.
    #[must_use]
    pub fn resynced_every(self, interval: Duration) -> Self {
        Self {
            repositories: Repositories::seen_every(interval),
            ..self
        }
    }

    /// Changes from now on.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Keeps the caches, until it is dropped. A watch that breaks or expires is restarted by itself.
    pub async fn run(&self, client: &Client, own_namespace: &str, readiness: &Readiness) {
        let ours = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGER}"));
        tokio::join!(
            self.follow_registries(
                followed(watcher(Api::all(client.clone()), watcher::Config::default())),
                &readiness.registries
            ),
            self.follow_namespaces(
                followed(watcher(Api::all(client.clone()), watcher::Config::default())),
                &readiness.namespaces
            ),
            self.follow_credentials(
                followed(watcher(Api::namespaced(client.clone(), own_namespace), ours)),
                &readiness.credentials
            ),
            self.follow_service_accounts(
                followed(follow_long(Api::<ServiceAccount>::all(client.clone())))
                    .inspect(|event| self.tell_bindings_of(event, &readiness.service_accounts)),
                &readiness.service_accounts,
            ),
        );
    }

    /// Tells of the bindings whose ServiceAccount came, changed or went: it says which identity they pull as. Any may have, where a
    /// list follows another: how it was before is not kept.
    fn tell_bindings_of(&self, event: &Event<ServiceAccount>, were_listed: &AtomicBool) {
        let told = |binding: &AttachedRegistry| binding.name().to_owned();
        let changed = match event {
            Event::Apply(account) | Event::Delete(account) => {
                let name = account.name_any();
                let here = self.view.bindings_in(&account.namespace().unwrap_or_default());
                let here = here.iter().flat_map(|here| here.values());
                here.filter(|binding| binding.identity().is_account(&name))
                    .map(|binding| told(binding))
                    .collect()
            }
            Event::InitDone if were_listed.load(Ordering::Acquire) => {
                let all = self.view.bindings();
                let all = all.iter().flat_map(|here| here.values());
                all.map(|binding| told(binding)).collect()
            }
            Event::Init | Event::InitApply(_) | Event::InitDone => return,
        };
        self.tell_bindings(changed);
    }

    /// Keeps the cache of bindings, until it is dropped.
    pub async fn run_bindings(&self, client: &Client, readiness: &Readiness) {
        let bindings = Api::<UnreadBinding>::all(client.clone());
        self.follow_bindings(followed(follow_long(bindings)), &readiness.bindings)
            .await;
    }

    async fn follow_bindings(&self, events: impl Stream<Item = Event<UnreadBinding>>, filled: &AtomicBool) {
        let mut known = KnownBindings::new(self.view.other_cloud().clone());
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            let Some(changed) = known.take(event) else {
                continue;
            };
            for namespace in namespaces_of(&changed) {
                let bindings = known.served().get(namespace);
                self.view.set_bindings_of(namespace, bindings);
            }
            filled.store(true, Ordering::Release);
            self.tell_bindings(changed);
        }
    }

    async fn follow_registries(
        &self,
        events: impl Stream<Item = Event<UnreadRegistry>>,
        filled: &AtomicBool,
    ) {
        let mut attached = KnownRegistries::new(self.view.other_cloud().clone());
        // Events that have come together lead to one view: what several of them change is copied once.
        let mut events = std::pin::pin!(events.ready_chunks(MANY));
        while let Some(events) = events.next().await {
            let mut versions = self.versions();
            let (mut is_listed, mut names) = (false, BTreeSet::new());
            for event in events {
                let one = match &event {
                    Event::Apply(object) | Event::Delete(object) => Some(object.name_any()),
                    Event::Init | Event::InitApply(_) | Event::InitDone => None,
                };
                match attached.take(event) {
                    // It may be the same again in the end, and was another one in between.
                    Some(Changed::These(changed)) => names.extend(changed),
                    Some(Changed::Any) => {
                        is_listed = true;
                        versions.set_registries(attached.versions());
                    }
                    None => {}
                }
                if let Some(name) = one {
                    versions.set_registry(&name, attached.versions().get(&name));
                }
            }
            if is_listed {
                names.extend(changed(&self.view.registries(), attached.registries()));
            }
            if is_listed || !names.is_empty() {
                self.view.set_registries(attached.registries().clone());
                self.tell_all(names.into_iter().map(Change::Registry).collect(), filled);
            }
        }
    }

    async fn follow_service_accounts(
        &self,
        events: impl Stream<Item = Event<ServiceAccount>>,
        filled: &AtomicBool,
    ) {
        service_accounts::follow(&self.view, events, |namespaces| {
            let changes = namespaces.into_iter().map(Change::ServiceAccounts);
            self.tell_all(changes.collect(), filled);
        })
        .await;
    }

    async fn follow_namespaces(
        &self,
        events: impl Stream<Item = Event<PartialObjectMeta<Namespace>>>,
        filled: &AtomicBool,
    ) {
        let mut listed = Namespaces::default();
        let mut listed_versions = Listed::default();
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Event::Init => {
                    listed.clear();
                    listed_versions.clear();
                }
                Event::InitApply(namespace) => {
                    let name = namespace.name_any();
                    listed.insert(&name, namespace.labels());
                    let version = Version::parse(namespace.resource_version().as_deref());
                    listed_versions.extend(version.map(|version| (name.into_boxed_str(), version)));
                }
                Event::InitDone => {
                    let mut versions = self.versions();
                    versions.set_namespaces(std::mem::take(&mut listed_versions), now());
                    let (changes, gone) = self.view.set_namespaces(std::mem::take(&mut listed));
                    let gone = gone.into_iter().map(Change::NamespaceGone);
                    let changes = gone.chain(changes.into_iter().map(Change::Namespace));
                    self.tell_all(changes.collect(), filled);
                }
                Event::Apply(namespace) => {
                    let name = namespace.name_any();
                    let version = Version::parse(namespace.resource_version().as_deref());
                    let mut versions = self.versions();
                    versions.set_namespace(&name, version, now());
                    if let Some(change) = self.view.set_namespace(&name, namespace.labels()) {
                        self.tell(Change::Namespace(change));
                    }
                }
                Event::Delete(namespace) => {
                    let name = namespace.name_any();
                    let mut versions = self.versions();
                    versions.remove_namespace(&name, now());
                    self.view.remove_namespace(&name);
                    self.tell(Change::NamespaceGone(name));
                }
            }
        }
    }

    /// Every Pod was looked at: of each AcrRegistry and AcrPullBinding it is known now whether a Pod names it.
    pub(super) fn pods_scanned(&self) {
        let (registries, bindings) = (self.view.registries(), self.view.bindings());
        let keys = bindings.iter().flat_map(|here| here.keys().map(String::as_str));
        self.repositories.scanned(registries.names().chain(keys));
    }

    /// How far the watches have come. No code panics while it holds the lock.
    pub(super) fn versions(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn follow_credentials(&self, events: impl Stream<Item = Event<Secret>>, filled: &AtomicBool) {
        let mut listed = HashSet::new();
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Event::Init => listed.clear(),
                Event::InitApply(secret) => {
                    listed.extend(self.take_credential(&secret, None, Seen::listed(&secret)));
                }
                Event::InitDone => {
                    for gone in self
                        .credentials
                        .registries()
                        .iter()
                        .filter(|name| !listed.contains(*name))
                    {
                        self.forget(gone);
                    }
                    filled.store(true, Ordering::Release);
                }
                Event::Apply(secret) => {
                    let version = Version::parse(secret.resource_version().as_deref());
                    if self.take_credential(&secret, version, Seen::new()).is_none() {
                        self.lose_credential(&secret, version);
                    }
                }
                Event::Delete(secret) => {
                    if let Some(registry) = owner_of_credential(&secret) {
                        self.forget(&registry);
                    }
                }
            }
        }
    }

    /// Takes what a Secret holds. One that somebody spoilt holds nothing: it is minted again, or emptied where its registry
    /// is detached.
    fn take_credential(&self, secret: &Secret, version: Option<Version>, seen: Seen) -> Option<String> {
        let registry = owner_of_credential(secret)?;
        self.learn(&registry, Stored::parse(secret), version, seen);
        Some(registry)
    }

    /// Takes that a credential's Secret does not say any more whose it is: it is as spoilt as one without its data.
    fn lose_credential(&self, secret: &Secret, version: Option<Version>) {
        let name = secret.name_any();
        let mut held = self.credentials.registries().into_iter();
        if let Some(registry) = held.find(|registry| minted_credential(registry) == name) {
            self.learn(&registry, Stored::Unreadable, version, Seen::new());
        }
    }

    /// The credential of a registry, if one is held that may be written under the spec in force. No other is.
    pub fn credential(&self, registry: &AttachedRegistry) -> Option<Arc<HeldCredential>> {
        let held = self.credentials.of(registry.name());
        held.filter(|held| held.may_go_out_for(registry))
    }

    /// Whether there is one for the registry of that name.
    pub(super) fn has_credential(&self, registry: &str) -> bool {
        let registries = self.view.registries_with(registry);
        let registry = registries.by_name(registry);
        registry.is_some_and(|registry| self.credential(registry).is_some())
    }

    /// Whether the namespace of a pair is known, and may have the pull secret of its registry.
    pub(super) fn may_have(&self, scope: &Scope, (namespace, registry): &Pair) -> bool {
        let registries = self.view.registries_with(registry);
        let (labels, registry) = (self.view.labels(namespace), registries.by_name(registry));
        labels
            .zip(registry)
            .is_some_and(|(labels, registry)| registry.gives_secret_in(scope, namespace, Some(&labels)))
    }

    /// Forgets a credential whose Secret is gone; it is then minted again where its registry is attached.
    pub(super) fn forget(&self, registry: &str) {
        self.credentials.remove(registry);
        self.tell(Change::Credential(registry.to_owned()));
    }

    /// Takes what the Secret of a credential holds, written here or elsewhere, and tells where that is something else.
    pub fn learn(&self, registry: &str, stored: impl Into<Stored>, version: Option<Version>, seen: Seen) {
        match self.credentials.set(registry, stored, version, seen) {
            News::None => {}
            News::Noted => self.tell(Change::Noted(registry.to_owned())),
            News::Credential => self.tell(Change::Credential(registry.to_owned())),
        }
    }

    /// Tells what an event or a list changed. A list that brings what is known already changes nothing.
    fn tell_all(&self, changes: Vec<Change>, filled: &AtomicBool) {
        let is_first = !filled.swap(true, Ordering::AcqRel);
        if is_first {
            self.tell(Change::Everything);
        } else {
            self.tell_each(changes);
        }
    }

    /// Tells of the bindings with these keys.
    fn tell_bindings(&self, changed: Vec<String>) {
        if changed.len() > MANY {
            self.tell(Change::Bindings);
        } else {
            for key in changed {
                self.tell(Change::Binding(key));
            }
        }
    }

    fn tell_each(&self, changes: Vec<Change>) {
        if changes.len() > MANY {
            self.tell(Change::Everything);
        } else {
            for change in changes {
                self.tell(change);
            }
        }
    }

    pub(super) fn tell(&self, change: Change) {
        // Nobody listening is fine.
        let _ = self.changes.send(change);
    }
}

/// The AcrRegistry, or the key of the AcrPullBinding, whose minted credential a Secret is to be, whatever it holds.
fn owner_of_credential(secret: &Secret) -> Option<String> {
    let labels = secret.labels();
    let of_binding = || {
        let (namespace, binding) = (labels.get(BINDING_NAMESPACE_LABEL)?, labels.get(BINDING_LABEL)?);
        Some(binding_key(namespace, binding))
    };
    let key = labels.get(REGISTRY_LABEL).cloned().or_else(of_binding)?;
    (secret.metadata.name.as_deref() == Some(&minted_credential(&key))).then_some(key)
}

/// The namespaces of the bindings with these keys.
fn namespaces_of(keys: &[String]) -> BTreeSet<&str> {
    let keys = keys.iter().filter_map(|key| binding_of_key(key));
    keys.map(|(namespace, _)| namespace).collect()
}

/// The registries that are not the same in both.
fn changed(before: &AttachedRegistries, after: &AttachedRegistries) -> impl Iterator<Item = String> {
    let names: BTreeSet<_> = before.names().chain(after.names()).collect();
    let differs = |name: &&str| {
        #[cfg(test)]
        tests::LOOKS.set(tests::LOOKS.get() + 1);
        let (now, then) = (after.by_name(name), before.by_name(name));
        // Most are the same piece of memory, and need not be compared.
        let is_same = match (then, now) {
            (Some(then), Some(now)) => ptr::eq(then, now) || then == now,
            (then, now) => then == now,
        };
        // A custom domain can come and go with another AcrRegistry that names it.
        let domains = |of: &AttachedRegistries, registry: Option<&AttachedRegistry>| -> Vec<_> {
            registry.map_or_else(Vec::new, |registry| of.domains_of(registry).cloned().collect())
        };
        !is_same
            || domains(before, then) != domains(after, now)
            || before.is_attached(name) != after.is_attached(name)
    };
    let changed: Vec<_> = names.into_iter().filter(differs).map(str::to_owned).collect();
    changed.into_iter()
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use serde_json::{Value, json};

    thread_local! {
        /// How many registries were compared.
        pub(super) static LOOKS: Cell<usize> = const { Cell::new(0) };
    }

    fn list(items: &[&str]) -> Vec<Event<PartialObjectMeta<Namespace>>> {
        let namespace = |name: &&str| {
            let object: Value = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            Event::InitApply(serde_json::from_value(object).unwrap())
        };
        let applied = items.iter().map(namespace);
        std::iter::once(Event::Init)
            .chain(applied)
            .chain([Event::InitDone])
            .collect()
    }

    #[tokio::test]
    async fn a_credential_that_is_missing_or_spoilt_is_a_change() {
        let credential = HeldCredential {
            docker_config: k8s_openapi::ByteString(b"{}".to_vec()),
            audience: None,
            refreshed_at: jiff::Timestamp::UNIX_EPOCH,
            expires_at: None,
            inputs: String::new(),
            fingerprint: None,
            namespaces: None,
        };
        let sound: Secret = serde_json::from_value(credential.manifest("mine", "own")).unwrap();
        let mut spoilt = sound.clone();
        spoilt.data = None;
        let mut foreign = spoilt.clone();
        foreign.metadata.name = Some("another".to_owned());
        let list = || [Event::Init, Event::InitApply(sound.clone()), Event::InitDone];
        let mut relabelled = sound.clone();
        relabelled
            .labels_mut()
            .insert(REGISTRY_LABEL.to_owned(), "another".to_owned());
        for (event, is_lost) in [
            (vec![Event::Apply(spoilt)], true),
            (vec![Event::Apply(relabelled)], true),
            (vec![Event::Init, Event::InitDone], true),
            (vec![Event::Delete(sound.clone())], true),
            (vec![Event::Apply(foreign)], false),
            (Vec::from(list()), false),
        ] {
            let watches = Watches::new(Arc::default());
            let filled = AtomicBool::default();
            watches
                .follow_credentials(futures::stream::iter(list()), &filled)
                .await;
            assert!(filled.load(Ordering::Acquire) && watches.credentials.of("mine").is_some());
            let mut changes = watches.changes();
            watches
                .follow_credentials(futures::stream::iter(event), &filled)
                .await;
            assert_eq!(watches.credentials.of("mine").is_none(), is_lost);
            let told = changes.try_recv() == Ok(Change::Credential("mine".to_owned()));
            assert_eq!(told, is_lost);
        }
    }

    #[test]
    fn registries_and_bindings_that_no_pod_names_are_told_of() {
        let watches = Watches::new(Arc::default());
        let registry = serde_json::from_value(json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "mine"},
            "spec": {"loginServer": "registry1.azurecr.io", "identity": {"managedIdentity": {}}},
        }));
        let registry = AttachedRegistry::parse(&registry.unwrap()).unwrap();
        watches.view.set_registries([registry].into_iter().collect());
        let binding = serde_json::from_value(json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {"name": "app", "namespace": "shop", "uid": "u"},
            "spec": {"loginServer": "registry1.azurecr.io", "serviceAccountName": "puller"},
        }));
        let binding = AttachedRegistry::parse_binding(&binding.unwrap(), watches.view.other_cloud()).unwrap();
        let here = [(binding.name().to_owned(), Arc::new(binding))].into();
        watches.view.set_bindings_of("shop", Some(&here));
        let mut told = watches.repositories.changes();
        watches.pods_scanned();
        let told: Vec<_> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        assert_eq!(told, ["mine", "shop/app"]);
    }

    #[tokio::test]
    async fn registries_that_come_together_are_one_view() {
        let (watches, filled) = (Watches::new(Arc::default()), AtomicBool::new(true));
        let mut changes = watches.changes();
        let registry = |number: usize, host: &str| {
            let object = json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry",
                "metadata": {"name": format!("r{number}"), "uid": "u", "generation": host.len()},
                "spec": {"loginServer": format!("{host}.azurecr.io"), "identity": {"managedIdentity": {}}},
            });
            serde_json::from_value::<UnreadRegistry>(object).unwrap()
        };
        let applied = (0..2 * MANY).map(|number| Event::Apply(registry(number, "shared1")));
        let mut seen = BTreeSet::new();
        let events = futures::stream::iter(applied).inspect(|_| {
            seen.insert(watches.view.registries().names().count());
        });
        watches.follow_registries(events, &filled).await;
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, MANY]);
        assert_eq!(watches.view.registries().names().count(), 2 * MANY);
        let mut told = || -> Vec<_> { std::iter::from_fn(|| changes.try_recv().ok()).collect() };
        assert_eq!(told().len(), 2 * MANY, "each is told");
        // Another spec, and the former one again: nobody saw the one between.
        let list = || {
            [
                Event::Init,
                Event::InitApply(registry(0, "shared1")),
                Event::InitDone,
            ]
        };
        let one = Change::Registry("r0".to_owned());
        let edits = ["another1", "shared1"].map(|host| Event::Apply(registry(0, host)));
        for (events, change) in [(vec![], Change::Everything), (Vec::from(edits), one)] {
            let events = list().into_iter().chain(events);
            watches
                .follow_registries(futures::stream::iter(events), &filled)
                .await;
            assert_eq!(told(), [change]);
        }
        let doubts = watches.versions().take_doubts();
        assert_eq!(doubts.registries.into_iter().collect::<Vec<_>>(), ["r0"]);
    }

    #[tokio::test]
    async fn an_edit_tells_the_registries_that_it_changes() {
        let registry = |name: &str, host: &str, domains: &[&str]| {
            let object = json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
                "spec": {
                    "loginServer": format!("{host}.azurecr.io"), "customDomains": domains,
                    "identity": {"managedIdentity": {}},
                },
            });
            serde_json::from_value::<UnreadRegistry>(object).unwrap()
        };
        let others = (0..1_000).map(|number| registry(&format!("r{number}"), "shared1", &[]));
        let domain = "registry.contoso.com";
        let listed = others.chain([
            registry("b", "registryb", &[domain]),
            registry("c", "registryc", &[domain]),
        ]);
        let list = [Event::Init]
            .into_iter()
            .chain(listed.map(Event::InitApply))
            .chain([Event::InitDone]);
        let taking = || registry("a", "registrya", &[domain]);
        let edits = [
            (Event::Apply(registry("r7", "shared2", &[])), vec!["r7"]),
            (Event::Apply(registry("r7", "shared2", &[])), vec![]),
            (Event::Apply(registry("c", "registryc", &[])), vec!["c"]),
            (Event::Apply(taking()), vec!["a", "b"]),
            (Event::Apply(registry("a", "registrya", &["broken"])), vec!["a"]),
            (Event::Apply(taking()), vec!["a"]),
            (Event::Delete(taking()), vec!["a", "b"]),
            (Event::Delete(taking()), vec![]),
        ];
        let (watches, filled) = (Watches::new(Arc::default()), AtomicBool::new(true));
        let (edits, expected): (Vec<_>, Vec<_>) = edits.into_iter().unzip();
        let noted = RefCell::new((watches.changes(), Vec::new()));
        let note = || {
            let (changes, noted) = &mut *noted.borrow_mut();
            let told: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).collect();
            noted.push((told, LOOKS.replace(0)));
        };
        // One after the other, as a watch brings them.
        let events = futures::stream::iter(list.chain(edits)).then(|event| async {
            tokio::task::yield_now().await;
            note();
            event
        });
        watches.follow_registries(events, &filled).await;
        note();
        let expected = expected.into_iter().map(|names| {
            let told = names.into_iter().map(|name| Change::Registry(name.to_owned()));
            (told.collect::<Vec<_>>(), 0)
        });
        // A list compares all, and an edit none.
        let listed = (vec![Change::Everything], 1_002);
        let expected: Vec<_> = [listed].into_iter().chain(expected).collect();
        assert!(noted.borrow().1.ends_with(&expected));
    }

    /// Another list says how each `ServiceAccount` is, and not how it was.
    #[test]
    fn another_list_of_service_accounts_is_about_all_bindings() {
        let watches = Watches::new(Arc::default());
        let bind = |namespace: &str, count: usize| {
            let bindings = (0..count).map(|number| {
                let object = json!({
                    "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
                    "metadata": {"name": format!("app{number}"), "namespace": namespace, "uid": "u"},
                    "spec": {"loginServer": "shared1.azurecr.io", "serviceAccountName": format!("puller{number}")},
                });
                let object = serde_json::from_value(object).unwrap();
                let binding = AttachedRegistry::parse_binding(&object, watches.view.other_cloud()).unwrap();
                (binding.name().to_owned(), Arc::new(binding))
            });
            watches.view.set_bindings_of(namespace, Some(&bindings.collect()));
        };
        bind("shop", 2);
        bind("blog", 1);
        let mut changes = watches.changes();
        let mut told_of = |event: &Event<ServiceAccount>, were_listed: bool| {
            watches.tell_bindings_of(event, &AtomicBool::new(were_listed));
            let mut told: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).collect();
            told.sort_by_key(|change| format!("{change:?}"));
            told
        };
        let binding = |key: &str| Change::Binding(key.to_owned());
        let account = json!({"metadata": {"name": "puller1", "namespace": "shop"}});
        let account: ServiceAccount = serde_json::from_value(account).unwrap();
        assert_eq!(
            told_of(&Event::Apply(account.clone()), true),
            [binding("shop/app1")]
        );
        for (event, were_listed) in [
            (Event::Init, true),
            (Event::InitApply(account), true),
            (Event::InitDone, false),
        ] {
            assert_eq!(told_of(&event, were_listed), [], "{event:?}");
        }
        let all = ["blog/app0", "shop/app0", "shop/app1"].map(binding);
        assert_eq!(told_of(&Event::InitDone, true), all);
        bind("many", MANY);
        assert_eq!(told_of(&Event::InitDone, true), [Change::Bindings]);
    }

    #[tokio::test]
    async fn many_bindings_that_change_are_one_change() {
        let (watches, filled) = (Watches::new(Arc::default()), AtomicBool::default());
        let mut changes = watches.changes();
        for (count, told) in [(2, 2), (BACKLOG + 1, 1)] {
            let bindings = (0..count).map(|number| {
                let object = json!({
                    "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
                    "metadata": {"name": "app", "namespace": format!("team-{number}"), "uid": "u"},
                    "spec": {"loginServer": "shared1.azurecr.io", "serviceAccountName": "puller"},
                });
                Event::InitApply(serde_json::from_value(object).unwrap())
            });
            let events = [Event::Init].into_iter().chain(bindings).chain([Event::InitDone]);
            watches
                .follow_bindings(futures::stream::iter(events), &filled)
                .await;
            let seen: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).collect();
            assert_eq!(seen.len(), told, "{count}");
        }
    }

    /// Anybody who may annotate `ServiceAccounts` can have many change.
    #[tokio::test]
    async fn strict_accounts_of_many_namespaces_are_one_change() {
        let (watches, filled) = (Watches::new(Arc::default()), AtomicBool::default());
        let mut changes = watches.changes();
        for (strict, told) in [(0, 1), (3, 3), (1_000, 1), (1_000, 0)] {
            let accounts = (0..strict).map(|number| {
                let account = json!({"metadata": {
                    "name": "default", "namespace": format!("team-{number}"),
                    "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"},
                }});
                Event::InitApply(serde_json::from_value(account).unwrap())
            });
            let events = [Event::Init].into_iter().chain(accounts).chain([Event::InitDone]);
            watches
                .follow_service_accounts(futures::stream::iter(events), &filled)
                .await;
            assert!(filled.load(Ordering::Acquire));
            let seen: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).collect();
            assert_eq!(seen.len(), told, "{strict}");
            assert_eq!(seen.contains(&Change::Everything), told == 1, "{seen:?}");
        }
    }

    #[test]
    fn a_stored_credential_tells_whose_it_is() {
        let credential = crate::sync::held_credential::tests::held();
        for (key, name) in [
            ("mine", "credential-mine"),
            ("shop/mine", "binding-credential-shop.mine"),
            ("shop/mine.too", "binding-credential-shop.mine.too"),
        ] {
            let mut secret: Secret = serde_json::from_value(credential.manifest(key, "own")).unwrap();
            assert_eq!(secret.name_any(), name);
            assert_eq!(owner_of_credential(&secret).as_deref(), Some(key));
            secret.metadata.name = Some("another".to_owned());
            assert_eq!(owner_of_credential(&secret), None, "{key}");
        }
    }

    #[tokio::test]
    async fn a_list_tells_what_it_changed_alone() {
        let watches = Watches::new(Arc::default());
        let mut changes = watches.changes();
        let filled = AtomicBool::default();
        let events = [list(&["a", "b"]), list(&["a", "b"]), list(&["a", "c"])];
        let events = futures::stream::iter(events.into_iter().flatten());
        watches.follow_namespaces(events, &filled).await;
        assert_eq!(changes.try_recv(), Ok(Change::Everything));
        assert_eq!(changes.try_recv(), Ok(Change::NamespaceGone("b".to_owned())));
        let came = NamespaceChange {
            name: "c".to_owned(),
            before: None,
        };
        assert_eq!(changes.try_recv(), Ok(Change::Namespace(came)));
        assert!(changes.try_recv().is_err());
    }
}

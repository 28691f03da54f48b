//! What admission knows of the cluster: attached registries and namespaces' labels, in memory.

mod accounts;
mod known_accounts;
pub mod manifests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;

pub use self::accounts::{StrictAccounts, Taken};
pub use self::known_accounts::KnownAccounts;
use crate::api::names::binding_of_key;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::mountable::{DEFAULT_ACCOUNT, Mountable};
use crate::policy::scope::Labels;
use crate::registry::other_cloud::OtherCloud;

/// The cluster as admission sees it. What watches the cluster, or a directory, keeps it up to date.
#[derive(Debug, Default)]
pub struct View {
    registries: ArcSwap<AttachedRegistries>,
    bindings: RwLock<HashMap<String, Arc<Bound>>>,
    /// The namespaces with bindings that have a layer. It is locked after the bindings, and has none that they don't have.
    layered: Mutex<HashSet<String>>,
    other_cloud: OtherCloud,
    /// Shared with what was frozen, and copied by the first change after that.
    namespaces: RwLock<Arc<Namespaces>>,
    accounts: RwLock<StrictAccounts>,
    /// Shared and copied as the namespaces are.
    known_accounts: RwLock<Arc<KnownAccounts>>,
    /// Wakes those that wait for a ServiceAccount to be known.
    accounts_told: Notify,
}

/// The `AcrPullBindings` of a namespace, by what each is known by.
pub type BindingsHere = BTreeMap<String, Arc<AttachedRegistry>>;

/// A namespace with bindings.
#[derive(Debug, Default)]
struct Bound {
    bindings: Arc<BindingsHere>,
    /// What is attached there, since the first question about it and until the `AcrRegistries` are others.
    layer: ArcSwapOption<AttachedRegistries>,
}

impl Bound {
    fn new(bindings: BindingsHere) -> Self {
        Self {
            bindings: Arc::new(bindings),
            layer: ArcSwapOption::empty(),
        }
    }

    /// The same, apart from what becomes of this one's layer.
    fn frozen(&self) -> Self {
        Self {
            bindings: Arc::clone(&self.bindings),
            layer: ArcSwapOption::new(self.layer.load_full()),
        }
    }

    /// What is attached there beside these, where that is known.
    fn layer_above(&self, cluster: &Arc<AttachedRegistries>) -> Option<Arc<AttachedRegistries>> {
        self.layer.load_full().filter(|layer| layer.is_above(cluster))
    }
}

/// `AcrPullBindings`, by namespace.
pub type Bindings = HashMap<String, BindingsHere>;

/// Namespaces and their labels.
#[derive(Debug, Clone, Default)]
pub struct Namespaces {
    labels: HashMap<Box<str>, PackedLabels>,
    /// Another one whenever a namespace came or went.
    revision: u64,
}

/// A namespace that came, or whose labels changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceChange {
    /// Which.
    pub name: String,
    /// The labels that it had; none if it was not known.
    pub before: Option<Labels>,
}

/// Labels in one piece of memory: as a map, those of ten thousand namespaces would take megabytes more. Neither a label's
/// key nor its value can hold a line's end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PackedLabels(Box<str>);

impl PackedLabels {
    fn pack(labels: &Labels) -> Self {
        let mut text = String::with_capacity(
            labels
                .iter()
                .map(|(key, value)| key.len() + value.len() + 2)
                .sum(),
        );
        for (key, value) in labels {
            text.extend([key, "\n", value, "\n"]);
        }
        Self(text.into_boxed_str())
    }

    fn unpack(&self) -> Labels {
        let mut lines = self.0.split_terminator('\n');
        let mut labels = Labels::new();
        while let (Some(key), Some(value)) = (lines.next(), lines.next()) {
            labels.insert(key.to_owned(), value.to_owned());
        }
        labels
    }
}

impl Namespaces {
    /// Takes a namespace's labels; returns what changed, if anything did.
    pub fn insert(&mut self, name: &str, labels: &Labels) -> Option<NamespaceChange> {
        let packed = PackedLabels::pack(labels);
        if self.labels.get(name) == Some(&packed) {
            return None;
        }
        let before = self.labels.insert(name.into(), packed);
        if before.is_none() {
            self.revise();
        }
        Some(NamespaceChange {
            name: name.to_owned(),
            before: before.map(|before| before.unpack()),
        })
    }

    fn remove(&mut self, name: &str) {
        if self.labels.remove(name).is_some() {
            self.revise();
        }
    }

    fn revise(&mut self) {
        self.revision = self.revision.wrapping_add(1);
    }

    /// What is new here, or has other labels than before.
    fn changes_since(&self, before: &Self) -> Vec<NamespaceChange> {
        let changed = self.labels.iter();
        let changed = changed.filter(|(name, labels)| before.labels.get(*name) != Some(*labels));
        changed
            .map(|(name, _)| NamespaceChange {
                name: name.to_string(),
                before: before.labels.get(name).map(PackedLabels::unpack),
            })
            .collect()
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl<'a> FromIterator<(&'a str, &'a Labels)> for Namespaces {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a Labels)>>(namespaces: T) -> Self {
        let mut all = Self::default();
        for (name, labels) in namespaces {
            all.insert(name, labels);
        }
        all
    }
}

impl View {
    /// An empty view of a process that knows this of another cloud.
    pub fn new(other_cloud: OtherCloud) -> Self {
        Self {
            other_cloud,
            ..Self::default()
        }
    }

    /// The cluster as it is known now, whatever is learned later: for what must not mix two states.
    #[must_use]
    pub fn frozen(&self) -> Self {
        let bindings = self.read_bindings();
        let bindings = bindings.iter();
        let bindings = bindings.map(|(namespace, bound)| (namespace.clone(), Arc::new(bound.frozen())));
        let bindings: HashMap<_, _> = bindings.collect();
        let layered = bindings.iter().filter(|(_, bound)| bound.layer.load().is_some());
        Self {
            registries: ArcSwap::new(self.registries()),
            layered: Mutex::new(layered.map(|(namespace, _)| namespace.clone()).collect()),
            bindings: RwLock::new(bindings),
            other_cloud: self.other_cloud.clone(),
            namespaces: RwLock::new(Arc::clone(&self.read())),
            accounts: RwLock::new(self.read_accounts().clone()),
            known_accounts: RwLock::new(Arc::clone(&self.read_known_accounts())),
            accounts_told: Notify::new(),
        }
    }

    /// What the process knows of another cloud.
    pub fn other_cloud(&self) -> &OtherCloud {
        &self.other_cloud
    }

    /// The registries that are attached by `AcrRegistries`, as of now.
    pub fn registries(&self) -> Arc<AttachedRegistries> {
        self.registries.load_full()
    }

    /// The registries that are attached in a namespace, as of now: those, and before them the namespace's bindings.
    pub fn registries_in(&self, namespace: &str) -> Arc<AttachedRegistries> {
        self.registries_in_with(namespace, None, None)
    }

    /// The same where these are attached by `AcrRegistries`, or these by the namespace's bindings, as the API server said.
    pub fn registries_in_with(
        &self,
        namespace: &str,
        registries: Option<&Arc<AttachedRegistries>>,
        bindings: Option<&[Arc<AttachedRegistry>]>,
    ) -> Arc<AttachedRegistries> {
        let known = || self.registries();
        let (is_known, registries) = (registries.is_none(), registries.map_or_else(known, Arc::clone));
        match (bindings, self.bound(namespace)) {
            (Some(bindings), _) => Arc::new(AttachedRegistries::in_namespace(&registries, bindings)),
            (None, Some(bound)) if is_known => {
                let layer = bound.layer_above(&registries);
                layer.unwrap_or_else(|| self.build_layer(namespace, &bound, &registries))
            }
            // Kept for this one review, it would push out what is kept for all.
            (None, Some(bound)) => Arc::new(AttachedRegistries::in_namespace(
                &registries,
                bound.bindings.values(),
            )),
            (None, None) => registries,
        }
    }

    /// Builds what is attached in a namespace beside these, and keeps it for the next review.
    fn build_layer(
        &self,
        namespace: &str,
        bound: &Arc<Bound>,
        cluster: &Arc<AttachedRegistries>,
    ) -> Arc<AttachedRegistries> {
        let layer = AttachedRegistries::in_namespace(cluster, bound.bindings.values());
        let layer = Arc::new(layer);
        if bound.layer.swap(Some(Arc::clone(&layer))).is_none() {
            let bindings = self.read_bindings();
            // Others may have replaced these bindings, and nobody asks for them again.
            if bindings.get(namespace).is_some_and(|now| Arc::ptr_eq(now, bound)) {
                self.lock_layered().insert(namespace.to_owned());
            }
        }
        layer
    }

    /// The registries among which the one is that is known by a key: those of the namespace of a binding, or those of all.
    pub fn registries_with(&self, key: &str) -> Arc<AttachedRegistries> {
        match binding_of_key(key) {
            Some((namespace, _)) => self.registries_in(namespace),
            None => self.registries(),
        }
    }

    /// Whether an AcrRegistry or a binding is attached that is known by this.
    pub fn is_attached(&self, key: &str) -> bool {
        let registries = self.registries.load();
        let Some((namespace, _)) = binding_of_key(key) else {
            return registries.is_attached(key);
        };
        // Asked of each key that is remembered: it must not cost what is attached in the namespace.
        let bindings = self.bindings_in(namespace);
        bindings
            .and_then(|bindings| bindings.get(key).cloned())
            .is_some_and(|binding| registries.namesake_of(&binding).is_none())
    }

    /// The bindings of all namespaces, as of now.
    pub fn bindings(&self) -> Vec<Arc<BindingsHere>> {
        let bindings = self.bindings.read().unwrap_or_else(PoisonError::into_inner);
        bindings
            .values()
            .map(|bound| Arc::clone(&bound.bindings))
            .collect()
    }

    /// Those of a namespace that has any.
    pub fn bindings_in(&self, namespace: &str) -> Option<Arc<BindingsHere>> {
        self.bound(namespace).map(|bound| Arc::clone(&bound.bindings))
    }

    fn bound(&self, namespace: &str) -> Option<Arc<Bound>> {
        self.read_bindings().get(namespace).cloned()
    }

    /// The labels of a namespace; none if it is not known (yet). The lock is held only for the look-up.
    pub fn labels(&self, namespace: &str) -> Option<Labels> {
        self.read().labels.get(namespace).map(PackedLabels::unpack)
    }

    /// Whether a namespace is known.
    pub fn knows(&self, namespace: &str) -> bool {
        self.read().labels.contains_key(namespace)
    }

    /// The names of the known namespaces.
    pub fn namespaces(&self) -> Vec<String> {
        self.read().labels.keys().map(ToString::to_string).collect()
    }

    /// The same, and which revision they are, if any came or went since this one.
    pub fn namespaces_since(&self, revision: Option<u64>) -> Option<(u64, Vec<String>)> {
        let known = self.read();
        let names = || known.labels.keys().map(ToString::to_string).collect();
        (revision != Some(known.revision)).then(|| (known.revision, names()))
    }

    /// Takes a new set of registries. It costs the layers that were built since the last one, however many namespaces have bindings.
    pub fn set_registries(&self, registries: AttachedRegistries) {
        self.registries.store(Arc::new(registries));
        // A namespace that nobody asks about again would keep the former ones in memory.
        let bindings = self.read_bindings();
        let layered = mem::take(&mut *self.lock_layered());
        for namespace in &layered {
            if let Some(bound) = bindings.get(namespace) {
                bound.layer.store(None);
            }
        }
    }

    /// Takes a new set of bindings.
    pub fn set_bindings(&self, bindings: Bindings) {
        let bindings = bindings.into_iter();
        let bindings = bindings.map(|(namespace, here)| (namespace, Arc::new(Bound::new(here))));
        let mut all = self.write_bindings();
        *all = bindings.collect();
        self.lock_layered().clear();
    }

    /// Takes the bindings of a namespace, or that it has none. It costs what this namespace has, whatever others have.
    pub fn set_bindings_of(&self, namespace: &str, bindings: Option<&BindingsHere>) {
        let bindings = bindings.map(|here| Arc::new(Bound::new(here.clone())));
        let mut all = self.write_bindings();
        self.lock_layered().remove(namespace);
        match bindings {
            Some(here) => all.insert(namespace.to_owned(), here),
            None => all.remove(namespace),
        };
    }

    /// Takes a namespace's labels; returns what changed, if anything did.
    pub fn set_namespace(&self, name: &str, labels: &Labels) -> Option<NamespaceChange> {
        Arc::make_mut(&mut self.write()).insert(name, labels)
    }

    /// Forgets a namespace.
    pub fn remove_namespace(&self, name: &str) {
        Arc::make_mut(&mut self.write()).remove(name);
        self.strict_accounts().readmit(name);
    }

    /// Takes all namespaces at one time; returns which of them are new or changed, and the names of those that are gone.
    pub fn set_namespaces(&self, mut namespaces: Namespaces) -> (Vec<NamespaceChange>, Vec<String>) {
        let mut known = self.write();
        let changes = namespaces.changes_since(&known);
        let gone = known.labels.keys();
        let gone = gone.filter(|name| !namespaces.labels.contains_key(*name));
        let gone = gone.map(ToString::to_string).collect();
        namespaces.revision = known.revision;
        namespaces.revise();
        *known = Arc::new(namespaces);
        (changes, gone)
    }

    /// What a Pod of this ServiceAccount may name, or of the one that a Pod has which names none; nothing if it may
    /// name any pull secret.
    pub fn mountable(&self, namespace: &str, account: Option<&str>) -> Option<Arc<Mountable>> {
        let account = account.unwrap_or(DEFAULT_ACCOUNT);
        self.read_accounts().of(namespace, account)
    }

    /// Whether a ServiceAccount is known, or that of a Pod which names none. Where it is, so is what it lets its Pods name.
    pub fn knows_account(&self, namespace: &str, account: Option<&str>) -> bool {
        let account = account.unwrap_or(DEFAULT_ACCOUNT);
        self.read_known_accounts().has(namespace, account)
    }

    /// Waits until a ServiceAccount is known; returns what its Pods may name.
    pub async fn account_told(&self, namespace: &str, account: &str) -> Option<Arc<Mountable>> {
        loop {
            // It is woken by what comes from now on.
            let told = self.accounts_told.notified();
            if self.knows_account(namespace, Some(account)) {
                return self.mountable(namespace, Some(account));
            }
            told.await;
        }
    }

    /// Changes which `ServiceAccounts` are known. What one lets its Pods name is to be known before.
    pub fn change_known_accounts<T>(&self, change: impl FnOnce(&mut KnownAccounts) -> T) -> T {
        let mut known = self
            .known_accounts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let changed = change(Arc::make_mut(&mut known));
        drop(known);
        self.accounts_told.notify_waiters();
        changed
    }

    /// The `ServiceAccounts` that enforce mountable secrets, to be changed.
    pub fn strict_accounts(&self) -> RwLockWriteGuard<'_, StrictAccounts> {
        self.accounts.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_accounts(&self) -> RwLockReadGuard<'_, StrictAccounts> {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_known_accounts(&self) -> RwLockReadGuard<'_, Arc<KnownAccounts>> {
        self.known_accounts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_bindings(&self) -> RwLockReadGuard<'_, HashMap<String, Arc<Bound>>> {
        self.bindings.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_bindings(&self) -> RwLockWriteGuard<'_, HashMap<String, Arc<Bound>>> {
        self.bindings.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_layered(&self) -> MutexGuard<'_, HashSet<String>> {
        self.layered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Arc<Namespaces>> {
        self.namespaces.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Arc<Namespaces>> {
        self.namespaces.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! What admission knows of the cluster: attached registries and namespaces' labels, in memory.

mod accounts;
pub mod manifests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arc_swap::ArcSwap;

pub use self::accounts::{StrictAccounts, Taken};
use crate::api::names::binding_of_key;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::mountable::{DEFAULT_ACCOUNT, Mountable};
use crate::policy::scope::Labels;
use crate::registry::other_cloud::OtherCloud;

/// The cluster as admission sees it. What watches the cluster, or a directory, keeps it up to date.
#[derive(Debug, Default)]
pub struct View {
    attached: ArcSwap<Attached>,
    other_cloud: OtherCloud,
    namespaces: RwLock<Namespaces>,
    accounts: RwLock<StrictAccounts>,
}

/// What is attached.
#[derive(Debug, Clone, Default)]
struct Attached {
    registries: Arc<AttachedRegistries>,
    bindings: Arc<Bindings>,
    /// What is attached in each namespace with bindings, since the first question about it.
    layers: Arc<HashMap<String, OnceLock<Arc<AttachedRegistries>>>>,
}

/// `AcrPullBindings`, by namespace and by what each is known by.
pub type Bindings = HashMap<String, BTreeMap<String, Arc<AttachedRegistry>>>;

impl Attached {
    fn new(registries: Arc<AttachedRegistries>, bindings: Arc<Bindings>) -> Self {
        let layers = bindings
            .keys()
            .map(|namespace| (namespace.clone(), OnceLock::new()));
        Self {
            layers: Arc::new(layers.collect()),
            registries,
            bindings,
        }
    }

    /// What is attached in a namespace. It is put together at the first question: most namespaces are not asked about before
    /// the next change, after which it is another.
    fn in_namespace(&self, namespace: &str) -> Arc<AttachedRegistries> {
        let layer = self.layers.get(namespace).zip(self.bindings.get(namespace));
        let Some((layer, bindings)) = layer else {
            return Arc::clone(&self.registries);
        };
        let put_together = || {
            Arc::new(AttachedRegistries::in_namespace(
                &self.registries,
                bindings.values(),
            ))
        };
        Arc::clone(layer.get_or_init(put_together))
    }
}

/// Namespaces and their labels.
#[derive(Debug, Default)]
pub struct Namespaces(HashMap<Box<str>, PackedLabels>);

/// A namespace that came, or whose labels changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceChange {
    /// Which.
    pub name: String,
    /// The labels that it had; none where it was not known.
    pub before: Option<Labels>,
}

/// Labels in one piece of memory: as a map, those of ten thousand namespaces would take megabytes more. Neither a label's
/// key nor its value can hold a line's end.
#[derive(Debug, PartialEq, Eq)]
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
        if self.0.get(name) == Some(&packed) {
            return None;
        }
        let before = self.0.insert(name.into(), packed);
        Some(NamespaceChange {
            name: name.to_owned(),
            before: before.map(|before| before.unpack()),
        })
    }

    /// What is new here, or has other labels than before.
    fn changes_since(&self, before: &Self) -> Vec<NamespaceChange> {
        let changed = self.0.iter();
        let changed = changed.filter(|(name, labels)| before.0.get(*name) != Some(*labels));
        changed
            .map(|(name, _)| NamespaceChange {
                name: name.to_string(),
                before: before.0.get(name).map(PackedLabels::unpack),
            })
            .collect()
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0.clear();
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

    /// What the process knows of another cloud.
    pub fn other_cloud(&self) -> &OtherCloud {
        &self.other_cloud
    }

    /// The registries that are attached by `AcrRegistries`, as of now.
    pub fn registries(&self) -> Arc<AttachedRegistries> {
        Arc::clone(&self.attached.load().registries)
    }

    /// The registries that are attached in a namespace, as of now: those, and before them the namespace's bindings.
    pub fn registries_in(&self, namespace: &str) -> Arc<AttachedRegistries> {
        self.attached.load().in_namespace(namespace)
    }

    /// The same where these are attached by `AcrRegistries`, or these by the namespace's bindings, as the API server said.
    pub fn registries_in_with(
        &self,
        namespace: &str,
        registries: Option<&Arc<AttachedRegistries>>,
        bindings: Option<&[Arc<AttachedRegistry>]>,
    ) -> Arc<AttachedRegistries> {
        let attached = self.attached.load();
        if registries.is_none() && bindings.is_none() {
            return attached.in_namespace(namespace);
        }
        let registries = registries.unwrap_or(&attached.registries);
        match (bindings, attached.bindings.get(namespace)) {
            (Some(bindings), _) => Arc::new(AttachedRegistries::in_namespace(registries, bindings)),
            (None, Some(known)) => Arc::new(AttachedRegistries::in_namespace(registries, known.values())),
            (None, None) => Arc::clone(registries),
        }
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
        let attached = self.attached.load();
        let Some((namespace, _)) = binding_of_key(key) else {
            return attached.registries.is_attached(key);
        };
        // Asked of each key that is remembered: it must not cost what is attached in the namespace.
        let bindings = attached.bindings.get(namespace);
        bindings
            .and_then(|bindings| bindings.get(key))
            .is_some_and(|binding| attached.registries.namesake_of(binding).is_none())
    }

    /// The bindings, as of now.
    pub fn bindings(&self) -> Arc<Bindings> {
        Arc::clone(&self.attached.load().bindings)
    }

    /// The labels of a namespace; none where it is not known (yet). The lock is held for the look-up alone.
    pub fn labels(&self, namespace: &str) -> Option<Labels> {
        self.read().0.get(namespace).map(PackedLabels::unpack)
    }

    /// Whether a namespace is known.
    pub fn knows(&self, namespace: &str) -> bool {
        self.read().0.contains_key(namespace)
    }

    /// The names of the known namespaces.
    pub fn namespaces(&self) -> Vec<String> {
        self.read().0.keys().map(ToString::to_string).collect()
    }

    /// Takes a new set of registries.
    pub fn set_registries(&self, registries: AttachedRegistries) {
        let registries = Arc::new(registries);
        self.attached
            .rcu(|before| Attached::new(Arc::clone(&registries), Arc::clone(&before.bindings)));
    }

    /// Takes a new set of bindings.
    pub fn set_bindings(&self, bindings: &Bindings) {
        let bindings = Arc::new(bindings.clone());
        self.attached
            .rcu(|before| Attached::new(Arc::clone(&before.registries), Arc::clone(&bindings)));
    }

    /// Takes a namespace's labels; returns what changed, if anything did.
    pub fn set_namespace(&self, name: &str, labels: &Labels) -> Option<NamespaceChange> {
        self.write().insert(name, labels)
    }

    /// Forgets a namespace.
    pub fn remove_namespace(&self, name: &str) {
        self.write().0.remove(name);
    }

    /// Takes all namespaces at one time; returns which of them are new or changed.
    pub fn set_namespaces(&self, namespaces: Namespaces) -> Vec<NamespaceChange> {
        let mut known = self.write();
        let changes = namespaces.changes_since(&known);
        *known = namespaces;
        changes
    }

    /// What a Pod of this ServiceAccount may name, or of the one that a Pod has which names none; nothing where it may name any
    /// pull secret.
    pub fn mountable(&self, namespace: &str, account: Option<&str>) -> Option<Arc<Mountable>> {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        let account = account.unwrap_or(DEFAULT_ACCOUNT);
        accounts.of(namespace, account).cloned()
    }

    /// The `ServiceAccounts` that enforce mountable secrets, to be changed.
    pub fn strict_accounts(&self) -> RwLockWriteGuard<'_, StrictAccounts> {
        self.accounts.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Namespaces> {
        self.namespaces.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Namespaces> {
        self.namespaces.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(name: &str) -> Arc<AttachedRegistry> {
        let object = serde_json::json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {"name": name, "namespace": "shop", "uid": "u"},
            "spec": {"loginServer": "shared1.azurecr.io", "serviceAccountName": "puller"},
        });
        let object = serde_json::from_value(object).unwrap();
        Arc::new(AttachedRegistry::parse_binding(&object, &OtherCloud::default()).unwrap())
    }

    #[test]
    fn reviews_of_a_namespace_share_what_is_attached_there() {
        let view = View::default();
        let mut all = Bindings::new();
        let attached = |view: &View| {
            let (one, other) = (view.registries_in("shop"), view.registries_in("shop"));
            assert!(Arc::ptr_eq(&one, &other), "nothing is put together twice");
            let mut names: Vec<_> = one.names().map(str::to_owned).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(attached(&view), [""; 0]);
        for (name, expected) in [("a", vec!["shop/a"]), ("b", vec!["shop/a", "shop/b"])] {
            let binding = binding(name);
            let here = all.entry("shop".to_owned()).or_default();
            here.insert(binding.name().to_owned(), binding);
            view.set_bindings(&all);
            assert_eq!(attached(&view), expected);
        }
        let before = view.registries_in("shop");
        view.set_registries(AttachedRegistries::default());
        assert!(!Arc::ptr_eq(&before, &view.registries_in("shop")));
        view.set_bindings(&Bindings::new());
        assert_eq!(attached(&view), [""; 0]);
    }

    #[test]
    fn a_list_changes_what_differs_alone() {
        let view = View::default();
        let (old, new) = (labels(&[("team", "a")]), labels(&[("team", "b")]));
        let list = |other: &Labels| [("apps", &old), ("other", other)].into_iter().collect();
        assert_eq!(view.set_namespaces(list(&old)).len(), 2);
        assert_eq!(view.set_namespaces(list(&old)), []);
        let change = NamespaceChange {
            name: "other".to_owned(),
            before: Some(old.clone()),
        };
        assert_eq!(view.set_namespaces(list(&new)), [change]);
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn labels_come_out_as_they_went_in() {
        let view = View::default();
        for labels in [
            labels(&[]),
            labels(&[("team", "a")]),
            labels(&[("empty", ""), ("kubernetes.io/metadata.name", "apps")]),
            labels(&[("a", ""), ("b", ""), ("c", "d")]),
        ] {
            assert!(view.set_namespace("apps", &labels).is_some());
            assert_eq!(view.set_namespace("apps", &labels), None, "nothing is new");
            assert_eq!(view.labels("apps"), Some(labels));
        }
        view.remove_namespace("apps");
        assert!(!view.knows("apps") && view.labels("apps").is_none());
    }
}

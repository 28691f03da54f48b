//! What admission knows of the cluster: attached registries and namespaces' labels, in memory.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;

use crate::registry::Registries;
use crate::scope::Labels;

/// The cluster as admission sees it. Whoever watches the cluster, or a directory, keeps it up to date.
#[derive(Debug, Default)]
pub struct View {
    registries: ArcSwap<Registries>,
    namespaces: RwLock<HashMap<String, Arc<Labels>>>,
}

impl View {
    /// The attached registries, as of now.
    pub fn registries(&self) -> Arc<Registries> {
        self.registries.load_full()
    }

    /// The labels of a namespace; none where it is not known (yet). The lock is held for the look-up alone.
    pub fn labels(&self, namespace: &str) -> Option<Arc<Labels>> {
        self.namespaces
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(namespace)
            .cloned()
    }

    /// Takes a new set of registries.
    pub fn set_registries(&self, registries: Registries) {
        self.registries.store(Arc::new(registries));
    }

    /// Takes a namespace's labels.
    pub fn set_namespace(&self, name: String, labels: Labels) {
        self.namespaces
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, Arc::new(labels));
    }

    /// Forgets a namespace.
    pub fn remove_namespace(&self, name: &str) {
        self.namespaces
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }

    /// Takes all namespaces anew.
    pub fn set_namespaces(&self, namespaces: HashMap<String, Labels>) {
        let namespaces = namespaces
            .into_iter()
            .map(|(name, labels)| (name, Arc::new(labels)))
            .collect();
        *self.namespaces.write().unwrap_or_else(PoisonError::into_inner) = namespaces;
    }

    /// The names of the known namespaces.
    pub fn namespaces(&self) -> Vec<String> {
        self.namespaces
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .cloned()
            .collect()
    }
}

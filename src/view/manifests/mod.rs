//! What decisions depend on, out of a directory of YAML: the cluster, where there is none.

mod error;
mod text;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use self::error::ManifestsError;
use self::text::read_file;
pub use self::text::{api_group, files, kind_and_name, objects};
use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::acr_registry::AcrRegistry;
use crate::api::names::{NAMESPACE_NAME_LABEL, binding_of_key};
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::invalid_spec::InvalidSpec;
use crate::policy::mountable::Mountable;
use crate::policy::scope::{Labels, labels_by_name};
use crate::registry::other_cloud::OtherCloud;
use crate::view::{Bindings, StrictAccounts, View};

/// The namespace of an object that names none, as kubectl chooses it.
const DEFAULT_NAMESPACE: &str = "default";

/// What a directory holds.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    registries: Arc<AttachedRegistries>,
    bindings: Bindings,
    namespaces: HashMap<String, Labels>,
    accounts: StrictAccounts,
}

impl Manifests {
    /// Reads every `.yaml`, `.yml` and `.json` of a directory, in the order of their names. Objects of other kinds
    /// are passed over. Without the suffix of another cloud, it is not known which hosts are there: each AcrRegistry in another
    /// cloud is attached then.
    pub fn read(directory: &Path, other_cloud: &OtherCloud) -> Result<Self, ManifestsError> {
        let mut registries: BTreeMap<String, AttachedRegistry> = BTreeMap::new();
        let mut read = Self::default();
        for path in files(directory)? {
            let text = read_file(&path)?;
            for object in objects(&path, &text)? {
                let (kind, name) = kind_and_name(&object);
                let twice = if (api_group(&object), kind.as_str()) == (Some("pullpass.dev"), "AcrRegistry") {
                    let registry: AcrRegistry = strictly(&path, &object)?;
                    let registry = match other_cloud.suffix {
                        Some(_) => AttachedRegistry::parse_for(&registry, other_cloud),
                        None => AttachedRegistry::parse(&registry),
                    };
                    let registry =
                        registry.map_err(|error: InvalidSpec| invalid(&path, &object, error.to_string()))?;
                    registries.insert(name.clone(), registry).is_some()
                } else {
                    read.apply_one(&path, &object, DEFAULT_NAMESPACE, other_cloud)?
                };
                if twice {
                    return Err(ManifestsError::Twice { path, kind, name });
                }
            }
        }
        read.registries = Arc::new(registries.into_values().collect());
        Ok(read)
    }

    /// What was read elsewhere: in a cluster, by the names of its namespaces.
    pub fn new(
        registries: AttachedRegistries,
        bindings: impl IntoIterator<Item = AttachedRegistry>,
        namespaces: HashMap<String, Labels>,
        accounts: StrictAccounts,
    ) -> Self {
        let mut bound = Bindings::new();
        for binding in bindings {
            if let Some((namespace, _)) = binding_of_key(binding.name()) {
                let here = bound.entry(namespace.to_owned()).or_default();
                here.insert(binding.name().to_owned(), Arc::new(binding));
            }
        }
        Self {
            registries: Arc::new(registries),
            bindings: bound,
            namespaces,
            accounts,
        }
    }

    /// Takes the `AcrPullBindings`, Namespaces and `ServiceAccounts` of another text, as if they were applied to what is known:
    /// labels and pull secrets that they don't name stay. Those without a namespace are in the default one.
    pub fn apply(
        &mut self,
        path: &Path,
        objects: &[Value],
        default_namespace: &str,
    ) -> Result<(), ManifestsError> {
        for object in objects {
            self.apply_one(path, object, default_namespace, &OtherCloud::default())?;
        }
        Ok(())
    }

    /// The same of one object; says whether there was one of its name.
    fn apply_one(
        &mut self,
        path: &Path,
        object: &Value,
        default_namespace: &str,
        other_cloud: &OtherCloud,
    ) -> Result<bool, ManifestsError> {
        let (kind, name) = kind_and_name(object);
        Ok(match (api_group(object), kind.as_str()) {
            (Some("pullpass.dev"), "AcrPullBinding") => {
                bind(&mut self.bindings, path, object, default_namespace, other_cloud)?
            }
            (None, "Namespace") => {
                let namespace: Namespace = strictly(path, object)?;
                let is_known = self.namespaces.contains_key(&name);
                let labels = self.namespaces.entry(name.clone()).or_default();
                labels.extend(namespace.labels().clone());
                labels.insert(NAMESPACE_NAME_LABEL.to_owned(), name);
                is_known
            }
            (None, "ServiceAccount") => {
                let account: ServiceAccount = strictly(path, object)?;
                let namespace = account.metadata.namespace.as_deref();
                let namespace = namespace.unwrap_or(default_namespace);
                let known = self.accounts.of(namespace, &name);
                let mountable = Mountable::applied(&account, known.as_deref());
                self.accounts.take(namespace, &name, mountable);
                false
            }
            _ => false,
        })
    }

    /// The names of `AcrRegistries`, and of `AcrPullBindings` as `NAMESPACE/NAME`, in another cloud than Azure's own.
    pub fn in_other_cloud(&self) -> Vec<&str> {
        let bindings = self.bindings.values().flat_map(BTreeMap::values);
        let registries = self.registries.all().into_iter();
        let registries = registries.chain(bindings.map(Arc::as_ref));
        let others = registries.filter(|registry| registry.login_server().cloud().is_none());
        others.map(AttachedRegistry::name).collect()
    }

    /// Writes what was read into the view.
    pub fn publish(self, view: &View) {
        let others = self.in_other_cloud();
        if view.other_cloud().suffix.is_none() && !others.is_empty() {
            tracing::warn!(
                registries = others.join(", "),
                "these AcrRegistries are in another cloud and count as attached, whatever their hosts; in a \
                 cluster, pullpass refuses all of them without --other-cloud-suffix"
            );
        }
        view.set_registries(Arc::unwrap_or_clone(self.registries));
        view.set_bindings(self.bindings);
        let namespaces = self.namespaces.iter();
        view.set_namespaces(namespaces.map(|(name, labels)| (name.as_str(), labels)).collect());
        *view.strict_accounts() = self.accounts;
    }

    /// The registries that `AcrRegistries` attach.
    pub fn registries(&self) -> &AttachedRegistries {
        &self.registries
    }

    /// Those that are attached in a namespace: these, and before them the namespace's bindings.
    pub fn registries_in(&self, namespace: &str) -> Cow<'_, AttachedRegistries> {
        match self.bindings.get(namespace) {
            Some(bindings) => Cow::Owned(AttachedRegistries::in_namespace(
                &self.registries,
                bindings.values(),
            )),
            None => Cow::Borrowed(&self.registries),
        }
    }

    /// The labels of a namespace, if the directory has it.
    pub fn labels(&self, namespace: &str) -> Option<&Labels> {
        self.namespaces.get(namespace)
    }

    /// What a Pod of a ServiceAccount may name; none if it may name any pull secret.
    pub fn mountable(&self, namespace: &str, account: &str) -> Option<Arc<Mountable>> {
        self.accounts.of(namespace, account)
    }

    /// The labels, and for a namespace that the directory does not have the label that the API server gives every namespace.
    pub fn effective_labels(&self, namespace: &str) -> Cow<'_, Labels> {
        match self.labels(namespace) {
            Some(labels) => Cow::Borrowed(labels),
            None => Cow::Owned(labels_by_name(namespace)),
        }
    }
}

/// Adds an AcrPullBinding; says whether there was one of its name. Without the suffix of another cloud, it is attached whatever
/// its cloud.
fn bind(
    bindings: &mut Bindings,
    path: &Path,
    object: &Value,
    default_namespace: &str,
    other_cloud: &OtherCloud,
) -> Result<bool, ManifestsError> {
    let mut binding: AcrPullBinding = strictly(path, object)?;
    let namespace = binding
        .metadata
        .namespace
        .get_or_insert_with(|| default_namespace.to_owned());
    let here = bindings.entry(namespace.clone()).or_default();
    let parsed = match other_cloud.suffix {
        Some(_) => AttachedRegistry::parse_binding(&binding, other_cloud),
        None => AttachedRegistry::parse_binding_of_any_cloud(&binding),
    };
    let parsed = parsed.map_err(|error: InvalidSpec| invalid(path, object, error.to_string()))?;
    Ok(here.insert(parsed.name().to_owned(), Arc::new(parsed)).is_some())
}

/// Keeps a view up to date with a directory, until it is dropped. What can't be read leaves the view unchanged.
pub async fn follow(directory: &Path, view: &View, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut known = fingerprint(directory);
    loop {
        ticks.tick().await;
        let now = fingerprint(directory);
        if now == known {
            continue;
        }
        match Manifests::read(directory, view.other_cloud()) {
            Ok(manifests) => {
                tracing::info!(
                    registries = manifests.registries.each().count(),
                    "reloaded the manifests"
                );
                manifests.publish(view);
            }
            Err(error) => {
                tracing::error!(%error, "the manifests changed and can't be used; the previous ones stay in force");
            }
        }
        known = now;
    }
}

/// The files and what is in them; whatever can't be read is as good as not there.
fn fingerprint(directory: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let files = files(directory).unwrap_or_default();
    files
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).ok()))
        .collect()
}

/// Builds an object, and refuses fields that its type does not have: a selector that is misspelt would let everyone in.
fn strictly<T: DeserializeOwned>(path: &Path, object: &Value) -> Result<T, ManifestsError> {
    let mut unknown = Vec::new();
    // Kind and version were read already, and the types don't keep them.
    let note = |field: serde_ignored::Path<'_>| match field.to_string().as_str() {
        "apiVersion" | "kind" => {}
        field => unknown.push(field.to_owned()),
    };
    let built = serde_ignored::deserialize(object, note)
        .map_err(|error: serde_json::Error| invalid(path, object, error.to_string()))?;
    match unknown.first() {
        None => Ok(built),
        Some(field) => Err(invalid(path, object, format!("there is no field {field}"))),
    }
}

fn invalid(path: &Path, object: &Value, message: String) -> ManifestsError {
    let (kind, name) = kind_and_name(object);
    ManifestsError::Object {
        path: path.to_owned(),
        kind,
        name,
        message,
    }
}

#[cfg(test)]
mod tests;

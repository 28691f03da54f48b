//! AcrRegistry, AcrPullBinding and Namespace objects out of a directory of YAML: the cluster, where there is none.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::acr_registry::AcrRegistry;
use crate::api::names::{NAMESPACE_NAME_LABEL, binding_of_key};
use crate::base::encoding::decode;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::invalid_spec::InvalidSpec;
use crate::policy::scope::{Labels, labels_by_name};
use crate::registry::other_cloud::OtherCloud;
use crate::view::{Bindings, View};

/// The namespace of an AcrPullBinding that names none, as kubectl chooses it.
const DEFAULT_NAMESPACE: &str = "default";

/// What a directory holds.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    registries: Arc<AttachedRegistries>,
    bindings: Bindings,
    namespaces: HashMap<String, Labels>,
}

/// Why a directory can't be used, and where in it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ManifestsError {
    /// A file or the directory can't be read.
    #[error("{path} can't be read: {error}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file is not YAML.
    #[error("{path} is not YAML: {message}")]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        message: String,
    },
    /// An object has a field that is wrong, or that there is not.
    #[error("{path}: {kind} {name}: {message}")]
    Object {
        /// The file.
        path: PathBuf,
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// Two objects have one name.
    #[error("{path}: {kind} {name} is there already")]
    Twice {
        /// The file.
        path: PathBuf,
        /// The objects' kind.
        kind: String,
        /// Their name.
        name: String,
    },
}

impl Manifests {
    /// Reads every `.yaml`, `.yml` and `.json` of a directory, in the order of their names. Objects of other kinds
    /// are passed over. Without the suffix of another cloud, it is not known which hosts are there: each AcrRegistry in another
    /// cloud is attached then.
    pub fn read(directory: &Path, other_cloud: &OtherCloud) -> Result<Self, ManifestsError> {
        let mut registries: BTreeMap<String, AttachedRegistry> = BTreeMap::new();
        let mut namespaces = HashMap::new();
        let mut bindings = Bindings::new();
        for path in files(directory)? {
            let text = read_file(&path)?;
            for object in objects(&path, &text)? {
                let (kind, name) = kind_and_name(&object);
                let twice = match (api_group(&object), kind.as_str()) {
                    (Some("pullpass.dev"), "AcrRegistry") => {
                        let registry: AcrRegistry = strictly(&path, &object)?;
                        let registry = match other_cloud.suffix {
                            Some(_) => AttachedRegistry::parse_for(&registry, other_cloud),
                            None => AttachedRegistry::parse(&registry),
                        };
                        let registry = registry
                            .map_err(|error: InvalidSpec| invalid(&path, &object, error.to_string()))?;
                        registries.insert(name.clone(), registry).is_some()
                    }
                    (Some("pullpass.dev"), "AcrPullBinding") => {
                        bind(&mut bindings, &path, &object, DEFAULT_NAMESPACE, other_cloud)?
                    }
                    (None, "Namespace") => {
                        let namespace: Namespace = strictly(&path, &object)?;
                        let mut labels = namespace.labels().clone();
                        labels.insert(NAMESPACE_NAME_LABEL.to_owned(), name.clone());
                        namespaces.insert(name.clone(), labels).is_some()
                    }
                    _ => false,
                };
                if twice {
                    return Err(ManifestsError::Twice { path, kind, name });
                }
            }
        }
        Ok(Self {
            registries: Arc::new(registries.into_values().collect()),
            bindings,
            namespaces,
        })
    }

    /// What was read elsewhere: in a cluster, by the names of its namespaces.
    pub fn new(
        registries: AttachedRegistries,
        bindings: impl IntoIterator<Item = AttachedRegistry>,
        namespaces: HashMap<String, Labels>,
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
        }
    }

    /// Takes the `AcrPullBindings` of another text, in place of those of the same names; those without a namespace are in the
    /// default one.
    pub fn bind(
        &mut self,
        path: &Path,
        objects: &[Value],
        default_namespace: &str,
    ) -> Result<(), ManifestsError> {
        for object in objects {
            if (api_group(object), kind_and_name(object).0.as_str())
                == (Some("pullpass.dev"), "AcrPullBinding")
            {
                let other_cloud = OtherCloud::default();
                bind(&mut self.bindings, path, object, default_namespace, &other_cloud)?;
            }
        }
        Ok(())
    }

    /// The names of `AcrRegistries`, and of `AcrPullBindings` as `NAMESPACE/NAME`, in another cloud than Azure's own.
    pub fn in_other_cloud(&self) -> Vec<&str> {
        let bindings = self.bindings.values().flat_map(BTreeMap::values);
        let registries = self.registries.all().into_iter();
        let registries = registries.chain(bindings.map(Arc::as_ref));
        let others = registries.filter(|registry| registry.login_server().cloud().is_none());
        others.map(AttachedRegistry::name).collect()
    }

    /// Puts what was read into the view.
    pub fn publish(self, view: &View) {
        let others = self.in_other_cloud();
        if view.other_cloud().suffix.is_none() && !others.is_empty() {
            tracing::warn!(
                registries = others.join(", "),
                "these AcrRegistries are in another cloud and count as attached, whatever their hosts; in a cluster, pullpass takes \
                 none of them without --other-cloud-suffix"
            );
        }
        view.set_registries(Arc::unwrap_or_clone(self.registries));
        view.set_bindings(self.bindings);
        let namespaces = self.namespaces.iter();
        view.set_namespaces(namespaces.map(|(name, labels)| (name.as_str(), labels)).collect());
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

    /// The same, and for a namespace that the directory does not have the label that the API server gives every namespace.
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

/// Keeps a view at what a directory holds, until it is dropped. What can't be read leaves the view as it is.
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
                    registries = manifests.registries.all().len(),
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

/// The `.yaml`, `.yml` and `.json` files of a directory, in the order of their names.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>, ManifestsError> {
    let failed = |error| ManifestsError::Read {
        path: directory.to_owned(),
        error,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_manifest = path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension));
        if is_manifest && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path) -> Result<String, ManifestsError> {
    let read = fs::read(path).and_then(|bytes| decode(&bytes).map_err(io::Error::other));
    read.map_err(|error| ManifestsError::Read {
        path: path.to_owned(),
        error,
    })
}

/// The objects of a YAML text: its documents, and the items of its Lists.
pub fn objects(path: &Path, text: &str) -> Result<Vec<Value>, ManifestsError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| ManifestsError::Yaml {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    let mut objects = Vec::new();
    for mut document in documents {
        let is_list = document
            .get("kind")
            .and_then(Value::as_str)
            .is_some_and(|kind| kind.ends_with("List"));
        let item_head = is_list.then(|| item_head(&document)).flatten();
        match document.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) if is_list => {
                objects.extend(items.into_iter().map(|item| with_head(item, item_head.as_ref())));
            }
            _ if document.is_null() => {}
            _ => objects.push(document),
        }
    }
    Ok(objects)
}

/// The API version and the kind of a typed list's items, which do not repeat them: those of a `PodList` are `Pod`s.
fn item_head(list: &Value) -> Option<(Value, String)> {
    let version = list.get("apiVersion")?.clone();
    let kind = list.get("kind")?.as_str()?.strip_suffix("List")?;
    (!kind.is_empty()).then(|| (version, kind.to_owned()))
}

fn with_head(mut item: Value, head: Option<&(Value, String)>) -> Value {
    if let (Some((version, kind)), Some(fields)) = (head, item.as_object_mut())
        && !fields.contains_key("kind")
    {
        fields.insert("kind".to_owned(), Value::String(kind.clone()));
        fields.entry("apiVersion").or_insert_with(|| version.clone());
    }
    item
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

/// The kind and the name of an object; empty where it has none.
pub fn kind_and_name(object: &Value) -> (String, String) {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Head {
        kind: String,
        metadata: Metadata,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Metadata {
        name: String,
    }
    let head = Head::deserialize(object).unwrap_or_default();
    (head.kind, head.metadata.name)
}

/// The API group of an object; none where it is of the core group, or has no API version.
pub fn api_group(object: &Value) -> Option<&str> {
    object
        .get("apiVersion")
        .and_then(Value::as_str)
        .and_then(|version| version.split_once('/'))
        .map(|(group, _)| group)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<Manifests, String> {
        read_for(files, &OtherCloud::default())
    }

    fn read_for(files: &[(&str, &str)], other_cloud: &OtherCloud) -> Result<Manifests, String> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Manifests::read(directory.path(), other_cloud).map_err(|error| {
            error
                .to_string()
                .replace(directory.path().to_str().unwrap(), "DIR")
        })
    }

    const REGISTRY: &str = "apiVersion: pullpass.dev/v1alpha1\nkind: AcrRegistry\nmetadata: {name: mine}\nspec:\n  loginServer: myregistry.azurecr.io\n  identity: {managedIdentity: {}}\n";

    #[test]
    fn documents_lists_and_json_are_read_and_other_kinds_skipped() {
        let manifests = read(&[
            ("a.yaml", &format!("---\n{REGISTRY}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: apps, labels: {{team: a}}}}\n---\n")),
            ("b.json", r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"web"}}]}"#),
            ("d.json", r#"{"apiVersion":"v1","kind":"NamespaceList","items":[{"metadata":{"name":"raw","labels":{"team":"b"}}}]}"#),
            ("c.yml", "\u{feff}apiVersion: v1\nkind: Secret\nmetadata: {name: mine}\n"),
            ("notes.txt", "no yaml: at: all"),
        ])
        .unwrap();
        assert_eq!(
            manifests.registries().by_name("mine").unwrap().pull_secret(),
            "pullpass-mine"
        );
        assert_eq!(manifests.labels("apps").unwrap()["team"], "a");
        assert_eq!(manifests.labels("raw").unwrap()["team"], "b");
        assert_eq!(manifests.labels("web").unwrap()[NAMESPACE_NAME_LABEL], "web");
        assert!(manifests.labels("other").is_none());
        assert_eq!(manifests.effective_labels("other")[NAMESPACE_NAME_LABEL], "other");
    }

    #[test]
    fn settings_of_another_cloud_hold_where_they_are_known() {
        let other = REGISTRY.replace(
            "loginServer: myregistry.azurecr.io",
            "cloud: Other\n  loginServer: myregistry.azurecr.contoso.com",
        );
        let files = [("a.yaml", other.as_str())];
        let settings = |suffix: &str, has_authority| OtherCloud {
            suffix: Some(suffix.parse().unwrap()),
            has_authority,
        };
        for known in [OtherCloud::default(), settings("azurecr.contoso.com", true)] {
            assert_eq!(read_for(&files, &known).unwrap().in_other_cloud(), ["mine"]);
        }
        for (known, message) in [
            (
                settings("contoso.example", true),
                "does not end in .contoso.example",
            ),
            (settings("azurecr.contoso.com", false), "--other-cloud-authority"),
        ] {
            let error = read_for(&files, &known).unwrap_err();
            assert!(
                error.starts_with("DIR/a.yaml: AcrRegistry mine: spec."),
                "{error}"
            );
            assert!(error.contains(message), "{error}");
        }
        let manifests = read_for(&[("a.yaml", REGISTRY)], &settings("contoso.example", false)).unwrap();
        assert!(manifests.in_other_cloud().is_empty());
    }

    const BINDING: &str = "apiVersion: pullpass.dev/v1alpha1\nkind: AcrPullBinding\nmetadata: {name: app, namespace: shop}\nspec:\n  loginServer: otherregistry.azurecr.io\n  serviceAccountName: puller\n";

    #[test]
    fn a_binding_is_attached_where_it_is() {
        let mut manifests = read(&[("a.yaml", &format!("{REGISTRY}---\n{BINDING}"))]).unwrap();
        let names = |manifests: &Manifests, namespace: &str| {
            let registries = manifests.registries_in(namespace);
            let mut names: Vec<_> = registries.names().map(str::to_owned).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names(&manifests, "shop"), ["mine", "shop/app"]);
        assert_eq!(names(&manifests, "blog"), ["mine"]);
        let beside = BINDING.replace(", namespace: shop", "");
        let path = Path::new("-");
        let beside = objects(path, &beside).unwrap();
        manifests.bind(path, &beside, "blog").unwrap();
        assert_eq!(names(&manifests, "blog"), ["blog/app", "mine"]);
        let view = View::default();
        manifests.publish(&view);
        assert!(view.is_attached("shop/app") && view.is_attached("blog/app"));
    }

    #[test]
    fn mistakes_are_said_with_their_place() {
        for (text, message) in [
            (
                BINDING.replace("serviceAccountName", "serviceAccount"),
                "DIR/a.yaml: AcrPullBinding app: missing field `serviceAccountName`",
            ),
            (
                format!("{BINDING}---\n{BINDING}"),
                "DIR/a.yaml: AcrPullBinding app is there already",
            ),
            (
                REGISTRY.replace("identity", "namespace: {matchLabels: {}}\n  identity"),
                "DIR/a.yaml: AcrRegistry mine: there is no field spec.namespace",
            ),
            (
                REGISTRY.replace("azurecr.io", "example"),
                "DIR/a.yaml: AcrRegistry mine: spec.loginServer: a login server ends in",
            ),
            (
                format!("{REGISTRY}---\n{REGISTRY}"),
                "DIR/a.yaml: AcrRegistry mine is there already",
            ),
            ("a: [".to_owned(), "DIR/a.yaml is not YAML"),
        ] {
            let error = read(&[("a.yaml", &text)]).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }
}

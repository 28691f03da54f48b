//! `AcrPullBindings` as `pullpass audit` reads them: registries that are attached in only one namespace.

use std::collections::HashMap;
use std::sync::Arc;

use futures::TryStreamExt;
use kube::{Api, Client};

use super::registries::RegistryRow;
use crate::api::acr_pull_binding::AcrPullBinding;
use crate::api::names::{VIEW_ROLE, binding_of_key};
use crate::cli::CliError;
use crate::cli::flags::kubeconfig::{Role, refusal_without};
use crate::kubernetes::pages::pages;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};

/// What is attached, and where.
pub(super) struct Attached {
    registries: Arc<AttachedRegistries>,
    /// Of namespaces with bindings: these, and the others.
    by_namespace: HashMap<String, AttachedRegistries>,
}

impl Attached {
    /// What is attached by `AcrRegistries`, and by these bindings.
    pub(super) fn new(registries: AttachedRegistries, bindings: Vec<AttachedRegistry>) -> Self {
        let mut grouped: HashMap<String, Vec<Arc<AttachedRegistry>>> = HashMap::new();
        for binding in bindings {
            if let Some((namespace, _)) = binding_of_key(binding.name()) {
                let here = grouped.entry(namespace.to_owned()).or_default();
                here.push(Arc::new(binding));
            }
        }
        let registries = Arc::new(registries);
        let here = |bindings: &[_]| AttachedRegistries::in_namespace(&registries, bindings);
        let by_namespace = grouped.into_iter();
        Self {
            by_namespace: by_namespace
                .map(|(namespace, bindings)| (namespace, here(&bindings)))
                .collect(),
            registries,
        }
    }

    /// What is attached in a namespace.
    pub(super) fn in_namespace(&self, namespace: &str) -> &AttachedRegistries {
        self.by_namespace.get(namespace).unwrap_or(&self.registries)
    }
}

/// Reads them all, or those of one namespace. A cluster without the component has none.
pub(in crate::cli) async fn read(
    client: &Client,
    only: Option<&str>,
) -> Result<(Vec<AttachedRegistry>, Vec<RegistryRow>), CliError> {
    let api: Api<AcrPullBinding> = match only {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut pages = std::pin::pin!(pages(api));
    let (mut bindings, mut rows) = (Vec::new(), Vec::new());
    loop {
        let page = match pages.try_next().await {
            Ok(Some(page)) => page,
            Ok(None) => break,
            Err(error) if error.code() == Some(404) => break,
            // RBAC is asked before the API server knows whether there is such a kind: a role that is older than it would stop all.
            Err(error) if error.code() == Some(403) => {
                eprintln!(
                    "pullpass: AcrPullBindings are left out, because they can't be listed: {error}. Ask for \
                     the ClusterRole {VIEW_ROLE}"
                );
                break;
            }
            Err(error) => {
                let what = "AcrPullBindings can't be listed";
                return Err(refusal_without(Role::View, what, &error));
            }
        };
        for object in page {
            let parsed = AttachedRegistry::parse_binding_of_any_cloud(&object);
            let invalid = parsed.as_ref().map_err(ToString::to_string);
            rows.push(RegistryRow::of_binding(&object, invalid));
            bindings.extend(parsed);
        }
    }
    Ok((bindings, rows))
}

/// What attaches a registry, in words.
pub(in crate::cli) fn described(key: &str) -> String {
    match binding_of_key(key) {
        Some((namespace, name)) => format!("AcrPullBinding {name} in namespace {namespace}"),
        None => format!("AcrRegistry {key}"),
    }
}

/// The same in the form that kubectl accepts.
pub(super) fn object(key: &str) -> String {
    match binding_of_key(key) {
        Some((namespace, name)) => format!("acrpullbinding {name} --namespace {namespace}"),
        None => format!("acrregistry {key}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::target::tests::object as registry;

    #[test]
    fn a_binding_is_attached_in_its_namespace_alone() {
        let host = "shared.azurecr.io";
        let cluster = AttachedRegistry::parse(&registry("all", &json!({"loginServer": host}))).unwrap();
        let binding: AcrPullBinding = serde_json::from_value(json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
            "metadata": {"name": "app", "namespace": "shop"},
            "spec": {"loginServer": host, "serviceAccountName": "puller"},
        }))
        .unwrap();
        let binding = AttachedRegistry::parse_binding_of_any_cloud(&binding).unwrap();
        let attached = Attached::new([cluster].into_iter().collect(), vec![binding]);
        let names = |namespace: &str| {
            let mut names: Vec<_> = attached.in_namespace(namespace).names().collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names("shop"), ["all", "shop/app"]);
        assert_eq!(names("blog"), ["all"]);
    }

    #[test]
    fn a_binding_is_named_as_kubectl_finds_it() {
        assert_eq!(described("shop/app"), "AcrPullBinding app in namespace shop");
        assert_eq!(object("shop/app"), "acrpullbinding app --namespace shop");
        assert_eq!(described("mine"), "AcrRegistry mine");
        assert_eq!(object("mine"), "acrregistry mine");
    }
}

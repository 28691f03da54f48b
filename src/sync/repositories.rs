//! The repositories that Pods pull from, so that it can be tried whether a registry's credential may: a few of each registry.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::broadcast;

use crate::policy::attached::AttachedRegistries;
use crate::policy::pod::Pod;
use crate::registry::image::ImageReference;

/// How many repositories of a registry are kept. Those that are known stay, so that what is said of them does not go to and
/// fro; more are left out.
pub(super) const MAX_REPOSITORIES: usize = 8;
/// How long one is kept that no Pod names any more.
const SEEN_TIMEOUT: Duration = Duration::from_hours(2);

/// When a Pod was last seen that names a repository, by repository.
type Seen = BTreeMap<String, Instant>;

/// What this process has seen, by AcrRegistry.
#[derive(Debug)]
pub struct Repositories {
    seen: Mutex<HashMap<String, Seen>>,
    changed: broadcast::Sender<String>,
}

impl Default for Repositories {
    fn default() -> Self {
        Self {
            seen: Mutex::default(),
            changed: broadcast::Sender::new(256),
        }
    }
}

impl Repositories {
    /// Takes the repositories that a Pod names of the registries whose pull secrets it has.
    pub(super) fn see(&self, pod: &Pod, registries: &AttachedRegistries) {
        let now = Instant::now();
        for image in pod
            .spec
            .images()
            .filter_map(|image| ImageReference::parse(image).ok())
        {
            let Some(host) = image.registry() else {
                continue;
            };
            for registry in registries.named_by(&host) {
                if pod.spec.pull_secrets().any(|name| name == registry.pull_secret()) {
                    self.note(registry.name(), image.repository(), now);
                }
            }
        }
    }

    fn note(&self, registry: &str, repository: &str, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = seen.get_mut(registry).and_then(|known| known.get_mut(repository)) {
            *at = now;
            return;
        }
        seen.retain(|_, known| {
            known.retain(|_, at| now.saturating_duration_since(*at) < SEEN_TIMEOUT);
            !known.is_empty()
        });
        let known = seen.entry(registry.to_owned()).or_default();
        if known.len() < MAX_REPOSITORIES {
            known.insert(repository.to_owned(), now);
            // Nobody listening is fine.
            let _ = self.changed.send(registry.to_owned());
        }
    }

    /// The repositories of a registry, in order.
    pub(super) fn of(&self, registry: &str) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.get(registry);
        known
            .into_iter()
            .flat_map(|known| known.keys().cloned())
            .collect()
    }

    /// Names of registries of which another repository was seen, from now on.
    pub(super) fn changes(&self) -> broadcast::Receiver<String> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::acr_registry::AcrRegistry;
    use crate::policy::attached::AttachedRegistry;
    use serde_json::json;

    fn registries() -> AttachedRegistries {
        let registry = |name: &str| {
            let object = json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
                "spec": {"loginServer": "myregistry.azurecr.io", "identity": {"managedIdentity": {}}},
            });
            let object: AcrRegistry = serde_json::from_value(object).unwrap();
            AttachedRegistry::parse(&object).unwrap()
        };
        [registry("mine"), registry("theirs")].into_iter().collect()
    }

    fn pod(images: &[&str], secrets: &[&str]) -> Pod {
        let containers: Vec<_> = images
            .iter()
            .map(|image| json!({"name": "a", "image": image}))
            .collect();
        let secrets: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"},
            "spec": {"containers": containers, "imagePullSecrets": secrets},
        }))
        .unwrap()
    }

    #[test]
    fn a_repository_counts_for_registries_whose_secret_pods_name() {
        let repositories = Repositories::default();
        let mut changes = repositories.changes();
        let images = [
            "myregistry.azurecr.io/team/app:v1",
            "myregistry.westeurope.geo.azurecr.io/near:v1",
            "myregistry.azurecr.io:5000/port",
            "other.azurecr.io/app",
            "busybox",
            "%",
        ];
        repositories.see(&pod(&images, &["pullpass-mine", "others"]), &registries());
        assert_eq!(repositories.of("mine"), ["near", "team/app"]);
        assert_eq!(repositories.of("theirs"), [""; 0]);
        assert_eq!(changes.try_recv().as_deref(), Ok("mine"));
        assert_eq!(changes.try_recv().as_deref(), Ok("mine"));
        repositories.see(&pod(&images, &["pullpass-mine"]), &registries());
        assert!(changes.try_recv().is_err(), "nothing is new");
    }

    #[test]
    fn a_few_repositories_are_kept_until_no_pod_names_them() {
        let repositories = Repositories::default();
        let begin = Instant::now();
        for number in 0..100 {
            repositories.note("mine", &format!("app{number:02}"), begin);
        }
        assert_eq!(repositories.of("mine").len(), MAX_REPOSITORIES);
        repositories.note("mine", "app07", begin + SEEN_TIMEOUT);
        repositories.note("mine", "new", begin + SEEN_TIMEOUT);
        assert_eq!(repositories.of("mine"), ["app07", "new"]);
        repositories.note("other", "app", begin + SEEN_TIMEOUT * 3);
        assert_eq!(repositories.of("mine"), [""; 0], "it may be detached");
    }
}

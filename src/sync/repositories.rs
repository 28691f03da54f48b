//! The repositories that Pods pull from, so that it can be tried whether a registry's credential may: a few of each registry.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::broadcast;

use crate::base::pruned_map::PrunedMap;
use crate::policy::attached::AttachedRegistries;
use crate::policy::pod::PodNames;
use crate::policy::scope::{Labels, Scope};
use crate::registry::image::ImageReference;

/// How many repositories of a registry are kept. Those that are known stay, so that what is reported about them does
/// not go to and fro; more are left out.
pub(super) const MAX_REPOSITORIES: usize = 8;
/// How long one is kept that no Pod names any more, where every Pod is seen again within that time.
const SEEN_TIMEOUT: Duration = Duration::from_hours(2);
/// Or how many looks at all Pods, where these are rarer. A look takes a while, so that one is not enough.
const SEEN_LOOKS: u32 = 2;

/// When a Pod was last seen that names a repository, by repository.
type LastNamed = BTreeMap<String, Instant>;

/// What this process has seen, by AcrRegistry.
#[derive(Debug)]
pub struct Repositories {
    seen: Mutex<PrunedMap<String, LastNamed>>,
    changed: broadcast::Sender<String>,
    is_scanned: AtomicBool,
    timeout: Duration,
}

impl Default for Repositories {
    fn default() -> Self {
        Self {
            seen: Mutex::default(),
            changed: broadcast::Sender::new(256),
            is_scanned: AtomicBool::default(),
            timeout: SEEN_TIMEOUT,
        }
    }
}

impl Repositories {
    /// Those of a process that looks at all Pods this often.
    pub(super) fn seen_every(interval: Duration) -> Self {
        Self {
            timeout: interval.saturating_mul(SEEN_LOOKS).max(SEEN_TIMEOUT),
            ..Self::default()
        }
    }

    /// Whether a Pod may still name what was seen then.
    fn is_named(&self, at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(at) < self.timeout
    }

    /// Takes the repositories that a Pod names of the registries whose pull secrets it has. The labels are its namespace's: who
    /// may not use a registry can name its pull secret too.
    pub(super) fn see(
        &self,
        pod: &PodNames<'_>,
        registries: &AttachedRegistries,
        labels: Option<&Labels>,
        scope: &Scope,
    ) {
        if labels.is_none() {
            return;
        }
        let (now, held) = (Instant::now(), pod.held());
        let images = pod.images.iter();
        for image in images.filter_map(|image| ImageReference::parse(image).ok()) {
            let Some(host) = image.registry() else {
                continue;
            };
            for registry in registries.named_by(&host) {
                if held.contains(registry.pull_secret())
                    && registry.gives_secret_in(scope, pod.namespace, labels)
                {
                    self.note(registry.name(), image.repository(), now);
                }
            }
        }
    }

    fn note(&self, registry: &str, repository: &str, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = seen.get_mut(registry) {
            if let Some(at) = known.get_mut(repository) {
                *at = now;
                return;
            }
            known.retain(|_, at| self.is_named(*at, now));
            if known.len() >= MAX_REPOSITORIES {
                return;
            }
        }
        let known = seen.get_or_default(registry.to_owned(), |_, known| {
            known.values().any(|at| self.is_named(*at, now))
        });
        known.insert(repository.to_owned(), now);
        // Nobody listening is fine.
        let _ = self.changed.send(registry.to_owned());
    }

    /// The repositories of a registry, in order.
    pub(super) fn of(&self, registry: &str) -> Vec<String> {
        self.of_at(registry, Instant::now())
    }

    fn of_at(&self, registry: &str, now: Instant) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.get(registry).into_iter().flatten();
        known
            .filter(|(_, at)| self.is_named(**at, now))
            .map(|(repository, _)| repository.clone())
            .collect()
    }

    /// Every Pod was looked at: who is named nowhere is known now. Those of these registries and bindings that no Pod
    /// names are told about the first time.
    pub(super) fn scanned<'a>(&self, registries: impl IntoIterator<Item = &'a str>) {
        if self.is_scanned.swap(true, Ordering::AcqRel) {
            return;
        }
        for name in registries.into_iter().filter(|name| self.of(name).is_empty()) {
            let _ = self.changed.send(name.to_owned());
        }
    }

    /// Whether no Pod names a repository of a registry; not before every Pod was looked at.
    pub(super) fn has_none(&self, registry: &str) -> bool {
        self.is_scanned.load(Ordering::Acquire) && self.of(registry).is_empty()
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
    use crate::api::names::INJECT_LABEL;
    use crate::policy::attached::AttachedRegistry;
    use crate::policy::pod::Pod;
    use crate::policy::scope::Mode;
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

    fn scope() -> Scope {
        Scope::new(Mode::ClusterWide, "own", ["b-excluded".to_owned()])
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
        let see = |secrets: &[&str]| {
            repositories.see(
                &PodNames::of(&pod(&images, secrets), "b"),
                &registries(),
                Some(&Labels::new()),
                &scope(),
            );
        };
        see(&["pullpass-mine", "others"]);
        assert_eq!(repositories.of("mine"), ["near", "team/app"]);
        assert_eq!(repositories.of("theirs"), [""; 0]);
        assert_eq!(changes.try_recv().as_deref(), Ok("mine"));
        assert_eq!(changes.try_recv().as_deref(), Ok("mine"));
        see(&["pullpass-mine"]);
        assert!(changes.try_recv().is_err(), "nothing is new");
    }

    #[test]
    fn pods_of_namespaces_without_the_secret_do_not_count() {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "mine"},
            "spec": {
                "loginServer": "myregistry.azurecr.io", "identity": {"managedIdentity": {}},
                "namespaces": {"matchLabels": {"team": "a"}},
            },
        });
        let object: AcrRegistry = serde_json::from_value(object).unwrap();
        let registries: AttachedRegistries =
            [AttachedRegistry::parse(&object).unwrap()].into_iter().collect();
        let of = |labels: &[(&str, &str)]| -> Labels {
            let owned = labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            owned.collect()
        };
        let (team_a, others) = (of(&[("team", "a")]), of(&[]));
        let opted_out = of(&[("team", "a"), (INJECT_LABEL, "disabled")]);
        for (namespace, labels, counts) in [
            ("b", Some(&team_a), true),
            ("b", Some(&others), false),
            ("b", Some(&opted_out), false),
            ("b", None, false),
            ("b-excluded", Some(&team_a), false),
        ] {
            let repositories = Repositories::default();
            let pod = pod(&["myregistry.azurecr.io/app"], &["pullpass-mine"]);
            repositories.see(&PodNames::of(&pod, namespace), &registries, labels, &scope());
            assert_eq!(
                !repositories.of("mine").is_empty(),
                counts,
                "{namespace} {labels:?}"
            );
        }
    }

    #[test]
    fn a_repository_no_pod_names_goes_without_another() {
        let (repositories, begin) = (Repositories::default(), Instant::now());
        repositories.note("mine", "app", begin);
        repositories.note("mine", "web", begin + SEEN_TIMEOUT / 2);
        assert_eq!(repositories.of_at("mine", begin + SEEN_TIMEOUT), ["web"]);
        assert_eq!(repositories.of_at("mine", begin + SEEN_TIMEOUT * 2), [""; 0]);
    }

    #[test]
    fn rare_looks_at_all_pods_forget_no_repository() {
        let begin = Instant::now();
        for (interval, kept, gone) in [
            (
                Duration::from_mins(10),
                Duration::from_mins(119),
                Some(SEEN_TIMEOUT),
            ),
            (
                Duration::from_hours(24),
                Duration::from_hours(47),
                Some(Duration::from_hours(48)),
            ),
            (Duration::MAX, Duration::from_hours(1000), None),
        ] {
            let repositories = Repositories::seen_every(interval);
            repositories.note("mine", "app", begin);
            assert_eq!(repositories.of_at("mine", begin + kept), ["app"], "{interval:?}");
            if let Some(gone) = gone {
                assert_eq!(repositories.of_at("mine", begin + gone), [""; 0], "{interval:?}");
            }
        }
    }

    #[test]
    fn registries_that_no_pod_names_are_known_after_a_scan() {
        let repositories = Repositories::default();
        repositories.note("mine", "app", Instant::now());
        let mut changes = repositories.changes();
        assert!(!repositories.has_none("theirs"), "not yet");
        for _ in 0..2 {
            repositories.scanned(registries().names());
        }
        assert!(repositories.has_none("theirs") && !repositories.has_none("mine"));
        assert_eq!(changes.try_recv().as_deref(), Ok("theirs"));
        assert!(changes.try_recv().is_err());
    }

    #[test]
    fn a_repository_without_room_leads_to_no_look_at_others() {
        let (repositories, begin) = (Repositories::default(), Instant::now());
        repositories.note("theirs", "app", begin);
        let later = begin + SEEN_TIMEOUT / 2;
        for number in 0..MAX_REPOSITORIES {
            repositories.note("mine", &format!("app{number}"), later);
        }
        let end = begin + SEEN_TIMEOUT;
        let known = || repositories.seen.lock().unwrap().len();
        repositories.note("mine", "one-more", end);
        assert_eq!(known(), 2, "what no Pod names any more is still there");
        for number in 0..10_000 {
            repositories.note(&format!("another{number}"), "app", end + SEEN_TIMEOUT * number);
            assert!(known() < 200, "and goes when there is much to keep");
        }
    }

    #[test]
    fn a_repository_costs_the_same_among_any_number_of_registries() {
        let (repositories, begin) = (Repositories::default(), Instant::now());
        for number in 0..2_000 {
            for repository in ["app", "web", "app"] {
                repositories.note(&format!("r{number}"), repository, begin);
            }
        }
        let seen = repositories.seen.lock().unwrap();
        assert_eq!(seen.len(), 2_000);
        assert!(seen.looks() < 4_000, "{}", seen.looks());
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
        assert_eq!(repositories.of_at("mine", begin + SEEN_TIMEOUT), ["app07", "new"]);
        assert_eq!(
            repositories.of_at("mine", begin + SEEN_TIMEOUT * 3),
            [""; 0],
            "it may be detached"
        );
    }
}

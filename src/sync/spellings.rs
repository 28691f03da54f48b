//! Which pull secrets need more keys than a registry's own hosts: those of Pods that write a host with its port, or
//! name a regional endpoint. Clients other than kubelets refuse such keys, so no other pull secret has them.
//!
//! This is kept in memory until it is written. After that the pull secret itself records it: see
//! [`crate::sync::pull_secret`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::policy::attached::AttachedRegistries;
use crate::policy::pod::PodNames;
use crate::registry::docker_config::Keys;
use crate::registry::image::ImageReference;
use crate::sync::pair::Pair;

/// How long after the last such Pod was seen it is remembered. Only a pull secret that is written for the first time needs it.
const SPELLING_INTERVAL: Duration = Duration::from_mins(15);
/// How many are remembered. The leader sees the Pods themselves, again and again.
const MAX_SPELLINGS: usize = 16_384;
/// How many there may be when one is remembered of a namespace that is not known, which a review can name without its being
/// there.
const MAX_BEFORE_UNKNOWN: usize = 4_096;

/// What was done with a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// It was not known.
    New,
    /// It was known.
    Known,
    /// There is no room.
    Full,
}

/// The pairs that need every key, and when a Pod was last seen that does.
#[derive(Debug, Default)]
pub struct Spellings(Mutex<HashMap<Pair, Instant>>);

impl Spellings {
    /// A Pod of this pair needs every key. Whether its namespace is known, and may have the pull secret, says how much room
    /// there is.
    pub(super) fn note(&self, pair: &Pair, is_known: bool, now: Instant) -> Noted {
        let most = if is_known {
            MAX_SPELLINGS
        } else {
            MAX_BEFORE_UNKNOWN
        };
        let mut known = self.known();
        if let Some(at) = known.get_mut(pair) {
            let noted = if is_recent(*at, now) {
                Noted::Known
            } else {
                Noted::New
            };
            *at = now;
            return noted;
        }
        if known.len() >= most {
            known.retain(|_, at| is_recent(*at, now));
        }
        if known.len() >= most {
            return Noted::Full;
        }
        known.insert(pair.clone(), now);
        Noted::New
    }

    /// The keys that the pull secret of a pair needs, as far as this process knows.
    pub(super) fn keys(&self, pair: &Pair, now: Instant) -> Keys {
        match self.known().get(pair) {
            Some(at) if is_recent(*at, now) => Keys::Every,
            _ => Keys::Hosts,
        }
    }

    /// No code panics while it holds the lock.
    fn known(&self) -> MutexGuard<'_, HashMap<Pair, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_recent(noted: Instant, now: Instant) -> bool {
    now.saturating_duration_since(noted) < SPELLING_INTERVAL
}

/// The registries whose pull secrets a Pod names and needs with every key.
pub(super) fn needing_every_key(pod: &PodNames<'_>, registries: &AttachedRegistries) -> Vec<String> {
    let (images, held) = (pod.images.iter(), pod.held());
    let references = images.filter_map(|image| ImageReference::parse(image).ok());
    let mut names: Vec<String> = references
        .filter_map(|reference| reference.registry())
        .filter(|host| Keys::of(host) == Keys::Every)
        .flat_map(|host| registries.named_by(&host))
        .filter(|registry| held.contains(registry.pull_secret()))
        .map(|registry| registry.name().to_owned())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::attached::AttachedRegistry;
    use crate::policy::pod::Pod;

    fn pair(number: usize) -> Pair {
        (format!("n{number}"), "r".to_owned())
    }

    #[test]
    fn a_spelling_is_new_again_after_its_interval() {
        let (spellings, start) = (Spellings::default(), Instant::now());
        assert_eq!(spellings.keys(&pair(0), start), Keys::Hosts);
        for (minutes, noted) in [
            (0, Noted::New),
            (14, Noted::Known),
            (28, Noted::Known),
            (43, Noted::New),
        ] {
            let now = start + Duration::from_mins(minutes);
            assert_eq!(spellings.note(&pair(0), true, now), noted, "{minutes}");
            assert_eq!(spellings.keys(&pair(0), now), Keys::Every);
        }
        let later = start + Duration::from_mins(58);
        assert_eq!(spellings.keys(&pair(0), later), Keys::Hosts);
    }

    #[test]
    fn spellings_are_bounded() {
        let (spellings, now) = (Spellings::default(), Instant::now());
        for number in 0..MAX_SPELLINGS {
            assert_eq!(spellings.note(&pair(number), true, now), Noted::New);
        }
        assert_eq!(spellings.note(&pair(MAX_SPELLINGS), true, now), Noted::Full);
        assert_eq!(spellings.note(&pair(0), true, now), Noted::Known);
        let later = now + SPELLING_INTERVAL;
        assert_eq!(spellings.note(&pair(MAX_SPELLINGS), true, later), Noted::New);
    }

    #[test]
    fn namespaces_that_are_not_there_leave_room_for_others() {
        let (spellings, now) = (Spellings::default(), Instant::now());
        for number in 0..MAX_BEFORE_UNKNOWN {
            assert_eq!(spellings.note(&pair(number), false, now), Noted::New);
        }
        let next = pair(MAX_BEFORE_UNKNOWN);
        assert_eq!(spellings.note(&next, false, now), Noted::Full);
        assert_eq!(spellings.note(&next, true, now), Noted::New);
    }

    #[test]
    fn a_pod_needs_every_key_for_a_port_or_a_region() {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "mine"},
            "spec": {
                "loginServer": "myregistry.azurecr.io", "identity": {"managedIdentity": {}},
                "customDomains": ["registry.contoso.com"],
            },
        });
        let registry = AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap();
        let registries: AttachedRegistries = std::iter::once(registry).collect();
        for (image, secret, needs) in [
            ("myregistry.azurecr.io/app", "pullpass-mine", false),
            ("registry.contoso.com/app", "pullpass-mine", false),
            ("myregistry.azurecr.io:443/app", "pullpass-mine", true),
            ("registry.contoso.com:443/app", "pullpass-mine", true),
            ("myregistry.westeurope.geo.azurecr.io/app", "pullpass-mine", true),
            ("myregistry.azurecr.io:443/app", "another", false),
            // No key helps these.
            ("MyRegistry.azurecr.io:443/app", "pullpass-mine", false),
            ("myregistry.azurecr.io:0443/app", "pullpass-mine", false),
            ("otherregistry.azurecr.io:443/app", "pullpass-mine", false),
        ] {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "apps"},
                "spec": {
                    "containers": [{"name": "main", "image": image}],
                    "imagePullSecrets": [{"name": secret}],
                },
            });
            let pod: Pod = serde_json::from_value(pod).unwrap();
            let names = needing_every_key(&PodNames::of(&pod, "apps"), &registries);
            assert_eq!(names, if needs { &["mine"][..] } else { &[] }, "{image}");
        }
    }
}

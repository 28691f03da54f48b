//! Pods that wait for an image: they are looked at again though nothing of them changes, since what helps them may have
//! come since, as a credential or an AcrRegistry.

use std::collections::HashMap;

use crate::api::names::{INJECT_LABEL, MIRROR_POD_ANNOTATION};
use crate::policy::pod::{Pod, awaited_images, failing_images};
use crate::sync::pods::kept::PodKey;

/// How many are kept. One more is looked at when its kubelet next says that it can't pull.
const MAX_STUCK: usize = 1_024;
/// How many bytes of JSON they are at most: a Pod may have a megabyte of images.
const MAX_STUCK_BYTES: usize = 8 << 20;

/// Those Pods, whole except for what nobody reads, each with its bytes.
#[derive(Debug, Default)]
pub(super) struct StuckPods {
    pods: HashMap<PodKey, (Pod, usize)>,
    bytes: usize,
}

impl StuckPods {
    /// Takes a Pod as it is now: it may wait no more.
    pub(super) fn take(&mut self, mut pod: Pod) {
        let key = PodKey::of(&pod);
        self.remove(&key);
        let is_stuck = !(awaited_images(&pod).is_empty() && failing_images(&pod).is_empty());
        if is_stuck && self.pods.len() < MAX_STUCK {
            pod.metadata.managed_fields = None;
            pod.metadata.finalizers = None;
            if let Some(annotations) = &mut pod.metadata.annotations {
                annotations.retain(|name, _| name == MIRROR_POD_ANNOTATION);
            }
            if let Some(labels) = &mut pod.metadata.labels {
                labels.retain(|name, _| name == INJECT_LABEL);
            }
            let bytes = serde_json::to_vec(&pod).map_or(usize::MAX, |json| json.len());
            if self.bytes.saturating_add(bytes) <= MAX_STUCK_BYTES {
                self.bytes += bytes;
                self.pods.insert(key, (pod, bytes));
            }
        }
    }

    /// Forgets a Pod that is gone.
    pub(super) fn remove(&mut self, key: &PodKey) {
        if let Some((_, bytes)) = self.pods.remove(key) {
            self.bytes -= bytes;
        }
    }

    /// A list of all Pods begins: those that still wait are in it.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// All of them, by namespace and name: a few are evicted at a time, and those that an API server lists first come first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Pod> {
        let mut pods: Vec<_> = self.pods.values().map(|(pod, _)| pod).collect();
        pods.sort_unstable_by_key(|pod| (&pod.metadata.namespace, &pod.metadata.name));
        pods.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(number: usize, reason: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "web", "namespace": "apps", "uid": format!("u{number}"),
                "labels": {"app": "web", INJECT_LABEL: "disabled"},
                "annotations": {"last-applied": "{}", MIRROR_POD_ANNOTATION: "x"},
                "managedFields": [{"manager": "kubectl"}],
            },
            "spec": {"containers": [{"name": "main", "image": "myregistry.azurecr.io/a"}]},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "main", "state": {"waiting": {"reason": reason}}}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_is_stuck_while_it_waits_for_an_image() {
        let mut stuck = StuckPods::default();
        stuck.take(pod(1, "ContainerCreating"));
        assert_eq!(stuck.iter().count(), 0);
        stuck.take(pod(1, "ImagePullBackOff"));
        let kept = stuck.iter().next().unwrap();
        assert!(kept.metadata.managed_fields.is_none());
        let keys = |map: &Option<std::collections::BTreeMap<String, String>>| {
            map.iter()
                .flatten()
                .map(|(key, _)| key.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(&kept.metadata.labels), [INJECT_LABEL]);
        assert_eq!(keys(&kept.metadata.annotations), [MIRROR_POD_ANNOTATION]);
        stuck.take(pod(1, "ErrImagePull"));
        assert_eq!(stuck.iter().count(), 1);
        stuck.take(pod(1, "ContainerCreating"));
        assert_eq!(stuck.iter().count(), 0);
        stuck.take(pod(1, "ErrImagePull"));
        stuck.remove(&PodKey::of(&pod(1, "")));
        assert_eq!(stuck.iter().count(), 0);
    }

    #[test]
    fn stuck_pods_come_by_their_names() {
        let mut stuck = StuckPods::default();
        for number in (0..20).rev() {
            let mut named = pod(number, "ErrImagePull");
            named.metadata.name = Some(format!("web{number:02}"));
            stuck.take(named);
        }
        let names: Vec<_> = stuck.iter().filter_map(|pod| pod.metadata.name.clone()).collect();
        assert!(names.is_sorted() && names.len() == 20, "{names:?}");
    }

    #[test]
    fn stuck_pods_are_bounded() {
        let mut stuck = StuckPods::default();
        for number in 0..MAX_STUCK + 5 {
            stuck.take(pod(number, "ErrImagePull"));
        }
        assert_eq!(stuck.iter().count(), MAX_STUCK);
        for number in 0..MAX_STUCK + 5 {
            stuck.remove(&PodKey::of(&pod(number, "")));
        }
        assert_eq!(stuck.bytes, 0);
    }

    #[test]
    fn large_stuck_pods_are_bounded_by_their_bytes() {
        let mut stuck = StuckPods::default();
        for number in 0..20 {
            let mut large = pod(number, "ErrImagePull");
            large.metadata.name = Some("x".repeat(1 << 20));
            stuck.take(large);
        }
        assert_eq!(stuck.iter().count(), 7);
        assert!(stuck.bytes <= MAX_STUCK_BYTES);
    }
}

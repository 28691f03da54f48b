//! A Pod as it is read from the cluster: what tells its images and its pull secrets, and no more. The rest is dropped
//! while it is read, so that ten thousand Pods cost little.

use std::collections::{HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::core::Object;
use serde::{Deserialize, Serialize};

use crate::api::names::{INJECT_LABEL, MIRROR_POD_ANNOTATION};
use crate::policy::mountable::DEFAULT_ACCOUNT;

/// The part of a Pod that is read.
pub type Pod = Object<PodSpec, PodStatus>;

/// The part of a Pod's spec that is read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    ephemeral_containers: Vec<Container>,
    volumes: Vec<Volume>,
    image_pull_secrets: Vec<PullSecret>,
    service_account_name: Option<String>,
}

/// The part of a Pod's status that is read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    phase: String,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: String,
    state: ContainerState,
    last_state: ContainerState,
    restart_count: i32,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct ContainerState {
    waiting: Option<Waiting>,
    running: Option<Ran>,
    terminated: Option<Ran>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: String,
}

/// That it ran; how does not matter.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Ran {}

impl ContainerStatus {
    fn has_started(&self) -> bool {
        let ran = |state: &ContainerState| state.running.is_some() || state.terminated.is_some();
        self.restart_count > 0 || ran(&self.state) || ran(&self.last_state)
    }

    /// Whether it waits for an image that could not be pulled.
    fn is_without_image(&self) -> bool {
        let waiting = self.state.waiting.as_ref();
        let is_so =
            |waiting: &Waiting| ["ErrImagePull", "ImagePullBackOff"].contains(&waiting.reason.as_str());
        waiting.is_some_and(is_so)
    }

    /// Whether a pull failed and the next one is put off. The reason is the kubelet's own (`pkg/kubelet/images/types.go` of
    /// Kubernetes); it says `ErrImagePull` of a pull that has failed just now.
    fn is_in_pull_back_off(&self) -> bool {
        let waiting = self.state.waiting.as_ref();
        waiting.is_some_and(|waiting| waiting.reason == "ImagePullBackOff")
    }
}

impl PodStatus {
    /// Whether any container ever started, one for debugging included.
    fn has_started(&self) -> bool {
        self.all().any(ContainerStatus::has_started)
    }

    /// Those of all containers.
    fn all(&self) -> impl Iterator<Item = &ContainerStatus> {
        let containers = self.container_statuses.iter();
        containers
            .chain(&self.init_container_statuses)
            .chain(&self.ephemeral_container_statuses)
    }

    /// The containers whose image, or one that they mount, could not be pulled. An ephemeral container does not count: the Pod
    /// starts without it.
    fn in_pull_back_off(&self) -> HashSet<&str> {
        let containers = self.container_statuses.iter();
        containers
            .chain(&self.init_container_statuses)
            .filter(|status| status.is_in_pull_back_off())
            .map(|status| status.name.as_str())
            .collect()
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    name: String,
    image: String,
    volume_mounts: Vec<VolumeMount>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct VolumeMount {
    name: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Volume {
    name: String,
    image: Option<ImageVolume>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct ImageVolume {
    reference: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct PullSecret {
    name: String,
}

/// What a Pod names, and what it asks for by its labels: the input of coverage, which also shows which pull secrets are
/// needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNames<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its images, in order.
    pub images: Vec<&'a str>,
    /// Its pull secrets.
    pub pull_secrets: Vec<&'a str>,
    /// Its ServiceAccount, where that is not `default`.
    pub service_account: Option<&'a str>,
    /// The value of its own inject label.
    pub inject_label: Option<&'a str>,
    /// Whether it mirrors a static Pod.
    pub is_mirror: bool,
}

impl<'a> PodNames<'a> {
    /// Those of a Pod in this namespace.
    pub fn of(pod: &'a Pod, namespace: &'a str) -> Self {
        Self {
            namespace,
            images: pod.spec.images().collect(),
            pull_secrets: pod.spec.pull_secrets().collect(),
            service_account: service_account(pod),
            inject_label: inject_label(pod),
            is_mirror: is_mirror(pod),
        }
    }

    /// Its pull secrets, to be asked for each of its images: it may have thousands of both.
    pub fn held(&self) -> HashSet<&'a str> {
        self.pull_secrets.iter().copied().collect()
    }
}

impl PodSpec {
    /// The references of all images that the Pod names (`docs/design.md`), in order.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        let containers = self.containers.iter();
        let more = self.init_containers.iter().chain(&self.ephemeral_containers);
        let volumes = self.volumes.iter().filter_map(|volume| volume.image.as_ref());
        containers
            .chain(more)
            .map(|container| container.image.as_str())
            .chain(volumes.map(|image| image.reference.as_str()))
            .filter(|reference| !reference.is_empty())
    }

    /// What these containers can't start without: their own images, and those of the volumes that they mount. A kubelet reports
    /// both on the container.
    fn images_of<'a>(&'a self, containers: impl Iterator<Item = &'a Container>) -> Vec<&'a str> {
        let volumes = self.volumes.iter();
        let volumes: HashMap<&str, &str> = volumes
            .filter_map(|volume| Some((volume.name.as_str(), volume.image.as_ref()?.reference.as_str())))
            .collect();
        let mut images = Vec::new();
        for container in containers {
            images.push(container.image.as_str());
            let mounts = container.volume_mounts.iter();
            images.extend(mounts.filter_map(|mount| volumes.get(mount.name.as_str())));
        }
        images
    }

    /// The names of its pull secrets.
    pub fn pull_secrets(&self) -> impl Iterator<Item = &str> {
        self.image_pull_secrets.iter().map(|secret| secret.name.as_str())
    }
}

/// Whether the Pod will pull no more images.
pub fn has_ended(pod: &Pod) -> bool {
    pod.status
        .as_ref()
        .is_some_and(|status| ["Succeeded", "Failed"].contains(&status.phase.as_str()))
}

/// Whether the Pod is yet to start.
pub fn is_pending(pod: &Pod) -> bool {
    pod.status
        .as_ref()
        .is_some_and(|status| status.phase == "Pending")
}

/// The controller that manages the Pod.
pub fn controller(pod: &Pod) -> Option<&OwnerReference> {
    pod.owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true))
}

/// The images that keep the Pod from starting: those of containers of which a kubelet has said that a pull failed and
/// the next one is put off. It has none if a container has started, or where the Pod is being deleted.
pub fn awaited_images(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    if status.phase != "Pending" || pod.metadata.deletion_timestamp.is_some() || status.has_started() {
        return Vec::new();
    }
    let waiting = status.in_pull_back_off();
    let spec = &pod.spec;
    let containers = spec.containers.iter().chain(&spec.init_containers);
    spec.images_of(containers.filter(|container| waiting.contains(container.name.as_str())))
}

/// The images that a kubelet could not pull, of containers that wait for them now, be it for the first time or to be
/// restarted.
pub fn failing_images(pod: &Pod) -> Vec<&str> {
    let (spec, status) = (&pod.spec, pod.status.as_ref());
    let waiting: HashSet<&str> = status
        .into_iter()
        .flat_map(PodStatus::all)
        .filter(|status| status.is_without_image())
        .map(|status| status.name.as_str())
        .collect();
    let containers = spec.containers.iter().chain(&spec.init_containers);
    let containers = containers.chain(&spec.ephemeral_containers);
    spec.images_of(containers.filter(|container| waiting.contains(container.name.as_str())))
}

/// Whether the Pod mirrors a static Pod.
pub fn is_mirror(pod: &Pod) -> bool {
    pod.annotations().contains_key(MIRROR_POD_ANNOTATION)
}

/// The Pod's ServiceAccount, where that is not `default`, which most have.
pub fn service_account(pod: &Pod) -> Option<&str> {
    let account = pod.spec.service_account_name.as_deref();
    account.filter(|account| ![DEFAULT_ACCOUNT, ""].contains(account))
}

/// The value of the Pod's own inject label.
pub fn inject_label(pod: &Pod) -> Option<&str> {
    pod.labels().get(INJECT_LABEL).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_phase_says_whether_a_pod_is_to_start_or_has_ended() {
        let pod = |status: serde_json::Value| {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {}, "status": status,
            });
            serde_json::from_value::<Pod>(pod).unwrap()
        };
        for (phase, is_to_start, is_over) in [
            ("Pending", true, false),
            ("Running", false, false),
            ("Succeeded", false, true),
            ("Failed", false, true),
            ("Unknown", false, false),
        ] {
            let pod = pod(json!({"phase": phase}));
            assert_eq!(
                (is_pending(&pod), has_ended(&pod)),
                (is_to_start, is_over),
                "{phase}"
            );
        }
        assert!(!is_pending(&pod(json!(null))));
    }
}

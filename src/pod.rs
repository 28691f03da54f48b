//! A Pod as it is read from the cluster: what tells its images and its pull secrets, and no more. The rest is dropped
//! while it is read, so that ten thousand Pods cost little.

use kube::core::{ApiResource, GroupVersionKind, Object};
use kube::{Api, Client, ResourceExt};
use serde::{Deserialize, Serialize};

use crate::names::{INJECT_LABEL, MIRROR_POD_ANNOTATION};

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
}

/// The part of a Pod's status that is read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    phase: String,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
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

    /// The reasons are the kubelet's own (`pkg/kubelet/images/types.go` of Kubernetes).
    fn waits_for_an_image(&self) -> bool {
        let waiting = self.state.waiting.as_ref();
        waiting.is_some_and(|waiting| ["ErrImagePull", "ImagePullBackOff"].contains(&waiting.reason.as_str()))
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Container {
    image: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Volume {
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

impl PodSpec {
    /// The references of all images that the Pod names (design, section 1), in the order in which they stand.
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

/// Whether a controller looks after the Pod, and makes another where it goes.
pub fn is_controlled(pod: &Pod) -> bool {
    pod.owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true))
}

/// Whether the Pod never started a container, and a kubelet has said that it can't pull one's image. One that is being
/// deleted is not stuck.
pub fn is_stuck_on_a_pull(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let mut all = status
        .container_statuses
        .iter()
        .chain(&status.init_container_statuses);
    status.phase == "Pending"
        && pod.metadata.deletion_timestamp.is_none()
        && !all.clone().any(ContainerStatus::has_started)
        && all.any(ContainerStatus::waits_for_an_image)
}

/// Whether the Pod mirrors a static Pod.
pub fn is_mirror(pod: &Pod) -> bool {
    pod.annotations().contains_key(MIRROR_POD_ANNOTATION)
}

/// The value of the Pod's own inject label.
pub fn inject_label(pod: &Pod) -> Option<&str> {
    pod.labels().get(INJECT_LABEL).map(String::as_str)
}

/// The Pods of one namespace, or of all.
pub fn api(client: Client, namespace: Option<&str>) -> Api<Pod> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
    match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    }
}

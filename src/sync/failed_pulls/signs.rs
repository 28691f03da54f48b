//! What kubelets say of pulls that fail: in Events, and in the statuses of Pods. Pure, and read with care: an Event can be
//! written by everybody who may create Events in its namespace.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Event;

use crate::base::dns::is_subdomain;
use crate::metrics::PullFailure;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::pod::{Pod, failing_images, has_ended};
use crate::registry::image::ImageReference;

/// How much of an Event's message is read. The kubelet's are shorter than a kilobyte; the API server takes longer ones.
const MAX_MESSAGE: usize = 2048;

/// What an Event says of a Pod. It is only a reason to look at the Pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) namespace: String,
    pub(super) pod: String,
    /// The attached registries whose pull secrets it is about.
    pub(super) registries: Vec<String>,
}

/// What an Event says that was written for this failure.
pub(super) fn claim(event: &Event, failure: PullFailure, registries: &AttachedRegistries) -> Option<Claim> {
    let involved = &event.involved_object;
    if involved.kind.as_deref() != Some("Pod") {
        return None;
    }
    // The API server keeps an Event about something in a namespace in that namespace.
    let namespace = event.metadata.namespace.clone()?;
    let message = event.message.as_deref().unwrap_or_default();
    let message = message.get(..message.floor_char_boundary(MAX_MESSAGE))?;
    let names: Vec<String> = match failure {
        PullFailure::SecretMissing => named_in(message, registries),
        // `Failed to pull image "IMAGE": …`
        PullFailure::PullFailed => {
            let image = message.split('"').nth(1).unwrap_or_default();
            of_image(image, registries)
                .iter()
                .map(|registry| name_of(registry))
                .collect()
        }
    };
    // The API server takes any text for it, and it becomes a part of the path of a request.
    let pod = involved.name.clone().filter(|name| is_subdomain(name))?;
    (!names.is_empty()).then_some(Claim {
        namespace,
        pod,
        registries: names,
    })
}

/// `Unable to retrieve some image pull secrets (pullpass-mine, other); …`: whatever the words around them are, names of pull
/// secrets can be told.
fn named_in(message: &str, registries: &AttachedRegistries) -> Vec<String> {
    let is_of_a_name = |character: char| character.is_ascii_alphanumeric() || ['-', '.'].contains(&character);
    let mut names: Vec<String> = message
        .split(|character| !is_of_a_name(character))
        .filter_map(|word| registries.by_pull_secret(word.trim_end_matches('.')))
        .map(name_of)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The attached registries that share the host of an image.
fn of_image<'a>(image: &str, registries: &'a AttachedRegistries) -> &'a [Arc<AttachedRegistry>] {
    let image = ImageReference::parse(image).ok();
    let host = image.and_then(|image| image.registry());
    host.map_or(&[], |host| registries.named_by(&host))
}

fn name_of(registry: &AttachedRegistry) -> String {
    registry.name().to_owned()
}

/// The pull secrets with which a Pod can still pull.
pub(super) fn pulls_with(pod: &Pod) -> HashSet<&str> {
    let is_over = has_ended(pod) || pod.metadata.deletion_timestamp.is_some();
    let secrets = pod.spec.pull_secrets().filter(|_| !is_over);
    secrets.collect()
}

/// The registries with whose pull secrets a kubelet could not pull images of a Pod.
pub(super) fn failing(pod: &Pod, registries: &AttachedRegistries) -> Vec<String> {
    let (images, secrets) = (failing_images(pod).into_iter(), pulls_with(pod));
    let mut names: Vec<String> = images
        .flat_map(|image| of_image(image, registries))
        .filter(|registry| secrets.contains(registry.pull_secret()))
        .map(|registry| name_of(registry))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn registries() -> AttachedRegistries {
        ["mine", "other"]
            .map(|name| {
                let object = json!({
                    "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
                    "spec": {"loginServer": format!("{name}registry.azurecr.io"), "identity": {"managedIdentity": {}}},
                });
                AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap()
            })
            .into_iter()
            .collect()
    }

    fn claimed(failure: PullFailure, kind: &str, message: &str) -> Option<Vec<String>> {
        let event = json!({
            "metadata": {"name": "e", "namespace": "apps"},
            "involvedObject": {"kind": kind, "namespace": "elsewhere", "name": "web"},
            "message": message,
        });
        let claim = claim(&serde_json::from_value(event).unwrap(), failure, &registries())?;
        assert_eq!((claim.namespace.as_str(), claim.pod.as_str()), ("apps", "web"));
        Some(claim.registries)
    }

    #[test]
    fn missing_pull_secrets_are_told_by_their_names() {
        for (message, expected) in [
            (
                "Unable to retrieve some image pull secrets (pullpass-mine, by-hand, pullpass-unknown); attempting to pull \
                 the image may not succeed.",
                &["mine"][..],
            ),
            ("No pullpass-mine.", &["mine"]),
            (
                "(pullpass-mine, pullpass-mine, pullpass-other)",
                &["mine", "other"],
            ),
            ("", &[]),
            (&format!("{}pullpass-mine", " ".repeat(MAX_MESSAGE)), &[]),
        ] {
            let claimed = claimed(PullFailure::SecretMissing, "Pod", message).unwrap_or_default();
            assert_eq!(claimed, expected, "{message}");
        }
        assert_eq!(
            claimed(PullFailure::SecretMissing, "Node", "(pullpass-mine)"),
            None
        );
    }

    #[test]
    fn texts_that_are_no_name_of_a_pod_are_not_read() {
        let longest = "a".repeat(253);
        let too_long = format!("{longest}a");
        let read = |name: &str| {
            let event = json!({
                "metadata": {"name": "e", "namespace": "apps"},
                "involvedObject": {"kind": "Pod", "name": name},
                "message": "(pullpass-mine)",
            });
            let event = serde_json::from_value(event).unwrap();
            claim(&event, PullFailure::SecretMissing, &registries()).map(|claim| claim.pod)
        };
        for name in ["web", "web-0.v2", &longest] {
            assert_eq!(read(name).as_deref(), Some(name));
        }
        for name in [
            "",
            "?x",
            "?watch=1",
            "web?watch=1",
            "web/log",
            "../secrets/a",
            "web#",
            "%2e%2e",
            "web\n",
            "Web",
            &too_long,
        ] {
            assert_eq!(read(name), None, "{name:?}");
        }
    }

    #[test]
    fn failed_pulls_are_told_by_their_images() {
        for (message, expected) in [
            (
                "Failed to pull image \"mineregistry.azurecr.io/a:v1\": failed to pull and unpack image \
                 \"otherregistry.azurecr.io/a:v1\": 401 Unauthorized",
                &["mine"][..],
            ),
            (
                "Failed to pull image \"mineregistry.westeurope.geo.azurecr.io/a\": no",
                &["mine"],
            ),
            ("Failed to pull image \"nginx\": no", &[]),
            ("Failed to pull image \"\": no", &[]),
            ("Error: ErrImagePull", &[]),
        ] {
            let claimed = claimed(PullFailure::PullFailed, "Pod", message).unwrap_or_default();
            assert_eq!(claimed, expected, "{message}");
        }
    }

    fn pod(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let mut pod = json!({
            "metadata": {"name": "web", "namespace": "apps"},
            "spec": {
                "containers": [
                    {"name": "main", "image": "mineregistry.azurecr.io/a"},
                    {"name": "side", "image": "otherregistry.azurecr.io/a"},
                ],
                "imagePullSecrets": [{"name": "pullpass-mine"}, {"name": "pullpass-other"}],
            },
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "main", "restartCount": 1, "state": waiting("ErrImagePull")},
                {"name": "side", "restartCount": 0, "state": waiting("ContainerCreating")},
            ]},
        });
        change(&mut pod);
        failing(&serde_json::from_value(pod).unwrap(), &registries())
    }

    #[test]
    fn a_pod_is_failing_by_the_registry_of_the_image_it_waits_for() {
        assert_eq!(pod(|_| {}), ["mine"]);
        assert_eq!(
            pod(|pod| pod["status"]["containerStatuses"][1]["state"] =
                json!({"waiting": {"reason": "ImagePullBackOff"}})),
            ["mine", "other"]
        );
        let none = [""; 0];
        assert_eq!(
            pod(|pod| pod["spec"]["imagePullSecrets"] = json!([{"name": "pullpass-other"}])),
            none
        );
        assert_eq!(pod(|pod| pod["status"]["phase"] = json!("Failed")), none);
        assert_eq!(
            pod(|pod| pod["metadata"]["deletionTimestamp"] = json!("2026-11-27T00:00:00Z")),
            none
        );
        assert_eq!(
            pod(|pod| pod["status"]["containerStatuses"][0]["state"] =
                json!({"waiting": {"reason": "CrashLoopBackOff"}})),
            none
        );
    }
}

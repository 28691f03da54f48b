//! The Pods for which a replacement would help: they were admitted without their pull secret, while pullpass was
//! unavailable or before their registry was attached, and so wait for an image for ever. A pure function of the Pod;
//! [`evictions`](crate::policy::evictions) keeps the earlier evictions.

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::policy::coverage::{CoverageFinding, CoverageState, Gap};
use crate::policy::pod::{self, Pod};

/// The registry for whose secret a Pod should be evicted, if one is.
///
/// `None` unless the Pod's controller recreates it, it is not terminating, it never started a container, and a kubelet has said
/// that it could not pull an image for which the secret is missing.
pub fn would_help<'a>(pod: &Pod, findings: &[CoverageFinding<'a>]) -> Option<&'a str> {
    if !pod::controller(pod).is_some_and(makes_again) {
        return None;
    }
    let awaited: HashSet<&str> = pod::awaited_images(pod).into_iter().collect();
    findings
        .iter()
        .filter(|finding| finding.images.iter().any(|image| awaited.contains(image)))
        .filter(|finding| lacks_a_secret(finding))
        .find_map(|finding| finding.registry)
}

/// Whether the Pod was admitted with its pull secrets; none if the findings do not show that.
pub fn was_injected(findings: &[CoverageFinding<'_>]) -> Option<bool> {
    if findings.iter().any(lacks_a_secret) {
        return Some(false);
    }
    let is_covered = findings
        .iter()
        .any(|finding| finding.state == CoverageState::Covered);
    is_covered.then_some(true)
}

/// Whether another admission would add what is missing.
fn lacks_a_secret(finding: &CoverageFinding<'_>) -> bool {
    match finding.state {
        CoverageState::Covered | CoverageState::Skipped(_) => false,
        CoverageState::Uncovered(gap) => match gap {
            Gap::NotInjected | Gap::OtherSecret => true,
            Gap::Unattached
            | Gap::Forbidden
            | Gap::OtherRepository
            | Gap::Spelling
            | Gap::OtherSecretSpelling
            | Gap::MountableSecrets => false,
        },
    }
}

/// Whether a controller makes another Pod for one that was evicted, and does not count it as a failure. A Job does;
/// workflow engines fail the step that it was.
fn makes_again(controller: &OwnerReference) -> bool {
    let group = controller.api_version.split_once('/').map(|(group, _)| group);
    match group {
        Some("apps") => ["ReplicaSet", "StatefulSet", "DaemonSet"].contains(&controller.kind.as_str()),
        Some(_) => false,
        None => controller.kind == "ReplicationController",
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::policy::exemption::Exemption;
    use serde_json::{Value, json};

    /// The image of which there is a finding.
    const IMAGE: &str = "openreg.azurecr.io/a";

    /// A Pod that is stuck as they are.
    fn stuck() -> Value {
        json!({
            "metadata": {
                "name": "web-x", "namespace": "apps",
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": true}],
            },
            "spec": {
                "containers": [{"name": "main", "image": IMAGE}, {"name": "side", "image": "nginx"}],
                "initContainers": [{"name": "init", "image": IMAGE}],
                "volumes": [{"name": "model", "image": {"reference": IMAGE}}],
            },
            "status": {
                "phase": "Pending",
                "containerStatuses": [waits("main", "ImagePullBackOff")],
            },
        })
    }

    fn waits(container: &str, reason: &str) -> Value {
        json!({"name": container, "state": {"waiting": {"reason": reason}}, "lastState": {}, "restartCount": 0})
    }

    fn finding(state: CoverageState) -> CoverageFinding<'static> {
        CoverageFinding {
            host: Cow::Borrowed("openreg.azurecr.io"),
            registry: Some("open"),
            state,
            images: vec![IMAGE],
        }
    }

    fn helped(pod: Value, state: CoverageState) -> bool {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        would_help(&pod, &[finding(state)]).is_some()
    }

    #[test]
    fn pods_that_another_admission_helps_are_evicted() {
        for gap in Gap::ALL {
            assert_eq!(
                helped(stuck(), CoverageState::Uncovered(gap)),
                matches!(gap, Gap::NotInjected | Gap::OtherSecret),
                "{gap:?}"
            );
        }
        assert!(!helped(stuck(), CoverageState::Covered));
        assert!(!helped(stuck(), CoverageState::Skipped(Exemption::PodOptedOut)));
    }

    #[test]
    fn nothing_that_ran_or_would_not_come_back_is_touched() {
        let not_injected = CoverageState::Uncovered(Gap::NotInjected);
        for (path, value) in [
            ("/metadata/ownerReferences", json!([])),
            ("/metadata/ownerReferences/0/controller", json!(false)),
            ("/metadata/deletionTimestamp", json!("2026-11-22T18:00:00Z")),
            ("/status/phase", json!("Running")),
            ("/status/containerStatuses/0/state", json!({"running": {}})),
            (
                "/status/containerStatuses/0/state/waiting/reason",
                json!("ContainerCreating"),
            ),
            ("/status/containerStatuses/0/restartCount", json!(1)),
            ("/status/containerStatuses/0/lastState", json!({"terminated": {}})),
            (
                "/status/initContainerStatuses",
                json!([{"state": {"terminated": {"exitCode": 0}}}]),
            ),
            (
                "/status/ephemeralContainerStatuses",
                json!([{"name": "debugger", "state": {"running": {}}}]),
            ),
            ("/metadata/ownerReferences/0/kind", json!("Deployment")),
            ("/metadata/ownerReferences/0/apiVersion", json!("v1")),
        ] {
            let mut pod = stuck();
            let (parent, key) = path.rsplit_once('/').unwrap();
            pod.pointer_mut(parent).unwrap()[key] = value;
            assert!(!helped(pod, not_injected), "{path}");
        }
    }

    #[test]
    fn a_pod_comes_back_only_if_its_controller_does_not_count_it() {
        for (api_version, kind, comes_back) in [
            ("apps/v1", "ReplicaSet", true),
            ("apps/v1", "StatefulSet", true),
            ("apps/v1", "DaemonSet", true),
            ("v1", "ReplicationController", true),
            ("batch/v1", "Job", false),
            ("argoproj.io/v1alpha1", "Workflow", false),
            ("tekton.dev/v1", "TaskRun", false),
            ("apps.kruise.io/v1alpha1", "StatefulSet", false),
            ("apps.example/v1", "ReplicationController", false),
        ] {
            let mut pod = stuck();
            let owner = &mut pod["metadata"]["ownerReferences"][0];
            owner["apiVersion"] = json!(api_version);
            owner["kind"] = json!(kind);
            let helped = helped(pod, CoverageState::Uncovered(Gap::NotInjected));
            assert_eq!(helped, comes_back, "{api_version} {kind}");
        }
    }

    #[test]
    fn it_waits_for_the_image_that_the_secret_is_for() {
        let not_injected = CoverageState::Uncovered(Gap::NotInjected);
        let helped_where = |statuses: &[Value], init: &[Value]| {
            let mut pod = stuck();
            pod["status"]["containerStatuses"] = json!(statuses);
            pod["status"]["initContainerStatuses"] = json!(init);
            helped(pod, not_injected)
        };
        let waits_by_init = waits("main", "PodInitializing");
        assert!(
            helped_where(&[waits_by_init], &[waits("init", "ImagePullBackOff")]),
            "an init container's image counts"
        );
        assert!(
            !helped_where(&[waits("side", "ImagePullBackOff")], &[]),
            "this image is not on ACR"
        );
        assert!(
            !helped_where(&[waits("main", "ErrImagePull")], &[]),
            "one failure says little"
        );
        let mut pod = stuck();
        pod["status"]["containerStatuses"] = json!([waits("side", "ImagePullBackOff")]);
        pod["spec"]["containers"][1]["volumeMounts"] = json!([{"name": "model", "mountPath": "/model"}]);
        assert!(helped(pod, not_injected), "an image that is mounted counts");
    }

    #[test]
    fn a_pod_that_lacks_nothing_counts_as_injected() {
        let not_injected = CoverageState::Uncovered(Gap::NotInjected);
        for (states, injected) in [
            (&[CoverageState::Covered][..], Some(true)),
            (
                &[CoverageState::Covered, CoverageState::Uncovered(Gap::Unattached)],
                Some(true),
            ),
            (&[CoverageState::Covered, not_injected], Some(false)),
            (&[CoverageState::Uncovered(Gap::OtherSecret)], Some(false)),
            (&[CoverageState::Uncovered(Gap::Forbidden)], None),
            (&[CoverageState::Skipped(Exemption::PodOptedOut)], None),
            (&[], None),
        ] {
            let findings: Vec<_> = states.iter().copied().map(finding).collect();
            assert_eq!(was_injected(&findings), injected, "{states:?}");
        }
    }
}

//! Which Pods it would help to make anew: those that were admitted without their pull secret, while pullpass was away or
//! before their registry was attached, and that therefore wait for an image for ever. A pure function of the Pod.

use crate::coverage::{Finding, Gap, State};
use crate::pod::{self, Pod};

/// The registry for whose secret a Pod should be made anew, if one is.
///
/// It is none but for a Pod that its controller makes again, that is not going already, that never started a container, and
/// of which a kubelet has said that an image can't be pulled.
pub fn would_help<'a>(pod: &Pod, findings: &[Finding<'a>]) -> Option<&'a str> {
    if !pod::is_controlled(pod) || !pod::is_stuck_on_a_pull(pod) {
        return None;
    }
    findings.iter().find_map(|finding| match finding.state {
        State::Uncovered(Gap::NotInjected | Gap::OtherSecret) => finding.registry,
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::exemption::Exemption;
    use serde_json::{Value, json};

    /// A Pod that is stuck as they are.
    fn stuck() -> Value {
        json!({
            "metadata": {
                "name": "web-x", "namespace": "apps",
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": true}],
            },
            "spec": {"containers": [{"image": "openreg.azurecr.io/a"}]},
            "status": {
                "phase": "Pending",
                "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}, "lastState": {}, "restartCount": 0}],
            },
        })
    }

    fn helped(pod: Value, state: State) -> bool {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let finding = Finding {
            host: Cow::Borrowed("openreg.azurecr.io"),
            registry: Some("open"),
            state,
            images: Vec::new(),
        };
        would_help(&pod, &[finding]).is_some()
    }

    #[test]
    fn what_another_admission_would_mend_is_made_anew() {
        for gap in Gap::ALL {
            assert_eq!(
                helped(stuck(), State::Uncovered(gap)),
                matches!(gap, Gap::NotInjected | Gap::OtherSecret),
                "{gap:?}"
            );
        }
        assert!(!helped(stuck(), State::Covered));
        assert!(!helped(stuck(), State::Skipped(Exemption::PodOptedOut)));
    }

    #[test]
    fn nothing_that_ran_or_would_not_come_back_is_touched() {
        let not_injected = State::Uncovered(Gap::NotInjected);
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
        ] {
            let mut pod = stuck();
            let (parent, key) = path.rsplit_once('/').unwrap();
            pod.pointer_mut(parent).unwrap()[key] = value;
            assert!(!helped(pod, not_injected), "{path}");
        }
        let mut pod = stuck();
        pod["status"]["initContainerStatuses"] = json!([{"state": {"waiting": {"reason": "ErrImagePull"}}}]);
        pod["status"]["containerStatuses"] = json!([{"state": {"waiting": {"reason": "PodInitializing"}}}]);
        assert!(helped(pod, not_injected), "an init container's image counts");
    }
}

//! The replicas: whether there are any, which leads, and of which version they are.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

use super::{Answer, Cure, Facts, StepOutcome, counted, fault, judged, skipped, well};
use crate::check::finding::Code;

/// The container of pullpass in its Pods.
const CONTAINER: &str = "pullpass";

/// Who holds the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leader {
    /// There is no Lease: no replica has ever led.
    Never,
    /// Nobody: the last one gave it back.
    Nobody,
    /// One that does not renew it any more.
    Lapsed {
        /// Its name.
        holder: String,
    },
    /// One that renews it.
    Leads {
        /// Its name.
        holder: String,
    },
}

impl Facts {
    pub(super) fn replicas(&self) -> StepOutcome {
        judged(&self.endpoints, |&endpoints| {
            if endpoints > 0 {
                return well(format!(
                    "{} behind the Service",
                    counted(endpoints, "ready replica", "ready replicas")
                ));
            }
            if let Some(blocked) = self.blocked() {
                return blocked;
            }
            let cause = match &self.replicas {
                Ok(pods) if pods.is_empty() => "there is no replica of pullpass".to_owned(),
                Ok(pods) => {
                    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
                    format!(
                        "the Service pullpass has no ready replica behind it, of {} {ready} ready",
                        counted(pods.len(), "Pod", "Pods")
                    )
                }
                Err(_) => "the Service pullpass has no ready replica behind it".to_owned(),
            };
            fault(
                Code::NoEndpoints,
                cause,
                vec![
                    self.own(
                        "See what keeps the replicas from being ready:",
                        "describe pods --selector app.kubernetes.io/name=pullpass",
                    ),
                    self.own(
                        "And whether the Service selects them:",
                        "describe service pullpass",
                    ),
                ],
            )
        })
    }

    pub(super) fn leader(&self) -> StepOutcome {
        judged(&self.leader, |leader| {
            let cause = match leader {
                Leader::Leads { holder } => return well(format!("{holder} leads")),
                Leader::Never => "no replica has ever led: there is no Lease pullpass".to_owned(),
                Leader::Nobody => "no replica leads: the Lease pullpass has no holder".to_owned(),
                Leader::Lapsed { holder } => {
                    format!("no replica leads: {holder} holds the Lease pullpass but no longer renews it")
                }
            };
            fault(
                Code::NoLeader,
                format!("{cause}. Credentials are not refreshed meanwhile"),
                vec![
                    self.own(
                        "A replica acquires the Lease within seconds if it can; see its log:",
                        "logs --selector app.kubernetes.io/name=pullpass --tail 20",
                    ),
                    self.own(
                        "And start the replicas again:",
                        "rollout restart deployment pullpass",
                    ),
                ],
            )
        })
    }

    /// Every version that shows: of images that name one, and of the replica that answered.
    pub(super) fn version(&self) -> StepOutcome {
        let pods = match &self.replicas {
            Ok(pods) => pods.as_slice(),
            Err(why) if self.answer.is_err() => return skipped(why.clone()),
            Err(_) => &[],
        };
        let images: BTreeSet<&str> = pods.iter().filter_map(image).collect();
        let mut versions: BTreeSet<&str> = images.iter().copied().filter_map(version_of_image).collect();
        if let Ok(Answer::Answered { version }) = &self.answer {
            versions.insert(version);
        }
        if images.len() > 1 {
            let images: Vec<_> = images.into_iter().collect();
            let cause = format!("the replicas are not all of one image: {}", images.join(", "));
            let cure = self.own(
                "If no update is in progress, check why the replicas differ:",
                "rollout status deployment pullpass",
            );
            return fault(Code::VersionSkew, cause, vec![cure]);
        }
        let client = Facts::CLIENT_VERSION;
        let other = versions
            .iter()
            .find(|version| release(version) != release(client));
        if let Some(other) = other {
            return fault(
                Code::VersionSkew,
                format!("pullpass {other} runs in the cluster, and this program is {client}"),
                vec![Cure {
                    text: format!(
                        "Use the program of {other}, or apply the manifests of {client}, their CustomResourceDefinitions first:"
                    ),
                    command: Some(
                        "pullpass crd | kubectl apply --server-side --force-conflicts -f -".to_owned(),
                    ),
                }],
            );
        }
        let Some(version) = versions.first() else {
            return skipped("no image of a replica names a version".to_owned());
        };
        well(format!("{version}; this program is {client}"))
    }
}

/// What a version promises to stay compatible: its first two numbers.
fn release(version: &str) -> Option<(&str, &str)> {
    let (major, rest) = version.split_once('.')?;
    Some((major, rest.split('.').next().unwrap_or_default()))
}

/// The version that an image's tag names, as in `registry:5000/pullpass:v0.1.0`.
pub fn version_of_image(image: &str) -> Option<&str> {
    let name = image.split('@').next()?;
    let (_, tag) = name.rsplit_once(':')?;
    let version = tag.strip_prefix('v').unwrap_or(tag);
    let mut numbers = version.split(['-', '+']).next()?.split('.');
    let is_number = |number: Option<&str>| {
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let has_three = is_number(numbers.next()) && is_number(numbers.next()) && is_number(numbers.next());
    (has_three && numbers.next().is_none()).then_some(version)
}

/// Whether a Pod is a replica still, and not one that is on its way out, or has ended, as one that was evicted.
pub fn is_replica(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Failed" | "Succeeded"))
}

/// The image of pullpass in one of its Pods, unless that is a replica no more.
pub fn image(pod: &Pod) -> Option<&str> {
    if !is_replica(pod) {
        return None;
    }
    let containers = &pod.spec.as_ref()?.containers;
    let own = containers.iter().find(|container| container.name == CONTAINER)?;
    own.image.as_deref()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

//! Pods by the workload that they belong to: what somebody has to restart is a workload, and not each of its Pods.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::Timestamp;
use kube::ResourceExt;

use crate::base::dns::is_subdomain;
use crate::base::guid::is_guid;
use crate::policy::coverage::{CoverageFinding, CoverageState};
use crate::policy::pod::{Pod, controller, failing_images};

/// The label by which a Deployment tells its `ReplicaSets` apart: the value is the end of their names.
const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";
/// How many images of a workload are named.
const MAX_IMAGES: usize = 10;
/// How much of an image is named, in bytes: more than any that a kubelet pulls has. A Pod can have images of a megabyte.
const MAX_IMAGE_BYTES: usize = 1_024;

/// What creates a Pod: its controller, or the Pod itself where it has none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The version of its API, with the group.
    pub api_version: String,
    /// Its UID.
    pub uid: String,
    /// What `kubectl rollout restart` takes, where it restarts workloads of this kind.
    pub restarts_as: Option<String>,
}

impl Workload {
    /// Of a Pod. Kubernetes validates little of an owner reference, and its text goes into commands and names of objects:
    /// one that can't be real counts as none.
    pub fn of(pod: &Pod) -> Self {
        let is_sound = |api_version: &str| {
            let version = api_version.rsplit('/').next().unwrap_or_default();
            let group = api_version.strip_suffix(version).unwrap_or_default();
            is_subdomain(version) && (group.is_empty() || group.strip_suffix('/').is_some_and(is_subdomain))
        };
        let owner = controller(pod).filter(|owner| {
            is_subdomain(&owner.name)
                && is_uid(&owner.uid)
                && is_sound(&owner.api_version)
                && !owner.kind.is_empty()
                && owner.kind.len() <= 63
                && owner.kind.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        match owner {
            Some(owner) => Self {
                restarts_as: restarts_as(pod, &owner.api_version, &owner.kind, &owner.name),
                kind: owner.kind.clone(),
                name: owner.name.clone(),
                api_version: owner.api_version.clone(),
                uid: owner.uid.clone(),
            },
            None => Self {
                kind: "Pod".to_owned(),
                name: pod.name_any(),
                api_version: "v1".to_owned(),
                uid: pod.uid().unwrap_or_default(),
                restarts_as: None,
            },
        }
    }
}

/// Whether the API server could have given it: in lower case, as names of objects are, which it becomes a part of.
fn is_uid(text: &str) -> bool {
    is_guid(text) && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// A `ReplicaSet` with the hash of a template belongs to a Deployment, which can be restarted; without, nothing replaces its
/// Pods but their deletion.
fn restarts_as(pod: &Pod, api_version: &str, kind: &str, name: &str) -> Option<String> {
    if api_version != "apps/v1" {
        return None;
    }
    match kind {
        "StatefulSet" => Some(format!("statefulset/{name}")),
        "DaemonSet" => Some(format!("daemonset/{name}")),
        "ReplicaSet" => {
            let hash = pod.labels().get(TEMPLATE_HASH_LABEL)?;
            let deployment = name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
            is_subdomain(deployment).then(|| format!("deployment/{deployment}"))
        }
        _ => None,
    }
}

/// A workload whose Pods stand alike to a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    /// Its namespace.
    pub namespace: String,
    /// The workload.
    pub workload: Workload,
    /// The registry's host, in lower case.
    pub host: String,
    /// The AcrRegistry that has it, if one does.
    pub registry: Option<String>,
    /// The states of the Pods for it.
    pub state: CoverageState,
}

/// What is known of these Pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many Pods there are.
    pub pods: u64,
    /// How many of them wait for an image now that could not be pulled.
    pub waiting: u64,
    /// When the oldest of them was created.
    pub since: Option<Timestamp>,
    /// Their images on the registry, the first of them in their order, whichever Pod comes first. A long one is cut, and
    /// ends with an ellipsis.
    pub images: BTreeSet<String>,
}

impl Tally {
    /// Counts other Pods that stand alike.
    pub fn merge(&mut self, others: Self) {
        self.pods += others.pods;
        self.waiting += others.waiting;
        self.since = self.since.into_iter().chain(others.since).min();
        for image in others.images {
            self.name(image.into());
        }
    }

    fn name(&mut self, image: Cow<'_, str>) {
        let is_full = self.images.len() >= MAX_IMAGES;
        if is_full && self.images.last().is_some_and(|last| **last <= *image) {
            return;
        }
        self.images.insert(image.into_owned());
        if self.images.len() > MAX_IMAGES {
            self.images.pop_last();
        }
    }
}

fn shortened(image: &str) -> Cow<'_, str> {
    match image.get(..image.floor_char_boundary(MAX_IMAGE_BYTES)) {
        Some(beginning) if beginning.len() < image.len() => format!("{beginning}…").into(),
        _ => image.into(),
    }
}

/// All workloads with images on ACR.
pub type Workloads = BTreeMap<Standing, Tally>;

/// The states of a Pod for the registries of its images, which were found so.
pub fn standings<'a>(
    pod: &'a Pod,
    namespace: &'a str,
    findings: &'a [CoverageFinding<'a>],
) -> impl Iterator<Item = (Standing, Tally)> + 'a {
    let workload = Workload::of(pod);
    let failing: HashSet<&str> = failing_images(pod).into_iter().collect();
    let created = pod.creation_timestamp().map(|time| time.0);
    findings.iter().map(move |finding| {
        let standing = Standing {
            namespace: namespace.to_owned(),
            workload: workload.clone(),
            host: finding.host.clone().into_owned(),
            registry: finding.registry.map(str::to_owned),
            state: finding.state,
        };
        let mut tally = Tally {
            pods: 1,
            waiting: u64::from(finding.images.iter().any(|image| failing.contains(image))),
            since: created,
            images: BTreeSet::new(),
        };
        for image in &finding.images {
            tally.name(shortened(image));
        }
        (standing, tally)
    })
}

/// Counts a Pod.
pub fn add(workloads: &mut Workloads, pod: &Pod, namespace: &str, findings: &[CoverageFinding<'_>]) {
    for (standing, tally) in standings(pod, namespace, findings) {
        workloads.entry(standing).or_default().merge(tally);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::coverage::Gap;
    use serde_json::{Value, json};

    const UID: &str = "7b795fb9-09d3-42f4-a494-38864f99ba3c";

    fn pod(metadata: &Value) -> Pod {
        let pod = json!({
            "metadata": metadata, "spec": {"containers": [{"name": "c", "image": "a.azurecr.io/app:v1"}]},
            "status": {"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
        });
        serde_json::from_value(pod).unwrap()
    }

    fn owned(api_version: &str, kind: &str, name: &str, uid: &str) -> Pod {
        pod(&json!({
            "name": "web-0", "uid": "own", "labels": {"pod-template-hash": "5d4f8c7b9"},
            "ownerReferences": [{"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true}],
        }))
    }

    #[test]
    fn a_workload_is_the_controller_with_how_it_restarts() {
        for (api_version, kind, name, restarts_as) in [
            ("apps/v1", "ReplicaSet", "web-5d4f8c7b9", Some("deployment/web")),
            ("apps/v1", "ReplicaSet", "web", None),
            ("apps/v1", "ReplicaSet", "-5d4f8c7b9", None),
            ("apps/v1", "StatefulSet", "db", Some("statefulset/db")),
            ("apps/v1", "DaemonSet", "agent", Some("daemonset/agent")),
            ("batch/v1", "Job", "once", None),
            ("argoproj.io/v1alpha1", "StatefulSet", "db", None),
            ("v1", "Node", "node-1", None),
        ] {
            let workload = Workload::of(&owned(api_version, kind, name, UID));
            assert_eq!(workload.restarts_as.as_deref(), restarts_as, "{kind} {name}");
            let is_name = name != "-5d4f8c7b9";
            assert_eq!(
                (workload.kind.as_str(), workload.name.as_str()),
                if is_name { (kind, name) } else { ("Pod", "web-0") }
            );
        }
    }

    #[test]
    fn an_owner_that_can_not_be_real_counts_as_none() {
        for (api_version, kind, name, uid) in [
            ("apps/v1", "ReplicaSet", "web; rm -rf ~", UID),
            ("apps/v1", "ReplicaSet", "web", "1"),
            ("apps/v1", "ReplicaSet", "web", &UID.to_uppercase()),
            ("apps/v1", "<script>", "web", UID),
            ("apps/v1", "", "web", UID),
            ("apps v1", "ReplicaSet", "web", UID),
            ("a/b/v1", "ReplicaSet", "web", UID),
            ("/v1", "ReplicaSet", "web", UID),
        ] {
            let workload = Workload::of(&owned(api_version, kind, name, uid));
            assert_eq!(
                (
                    workload.kind.as_str(),
                    workload.name.as_str(),
                    workload.uid.as_str()
                ),
                ("Pod", "web-0", "own"),
                "{api_version} {kind} {name} {uid}"
            );
        }
    }

    #[test]
    fn pods_of_a_workload_are_counted_with_the_oldest() {
        let mut workloads = Workloads::new();
        let finding = CoverageFinding {
            host: "a.azurecr.io".into(),
            registry: Some("a"),
            state: CoverageState::Uncovered(Gap::NotInjected),
            images: vec!["a.azurecr.io/app:v1"],
        };
        for hour in [12, 10, 11] {
            let mut pod = owned("apps/v1", "StatefulSet", "db", UID);
            let created = format!("\"2026-11-22T{hour}:00:00Z\"");
            pod.metadata.creation_timestamp = Some(serde_json::from_str(&created).unwrap());
            add(&mut workloads, &pod, "apps", std::slice::from_ref(&finding));
        }
        add(
            &mut workloads,
            &owned("apps/v1", "StatefulSet", "other", UID),
            "apps",
            &[],
        );
        let (standing, tally) = workloads.pop_first().unwrap();
        assert_eq!(
            (standing.namespace.as_str(), standing.workload.name.as_str()),
            ("apps", "db")
        );
        assert_eq!((tally.pods, tally.waiting, tally.images.len()), (3, 3, 1));
        assert_eq!(tally.since.unwrap().to_string(), "2026-11-22T10:00:00Z");
        assert!(workloads.is_empty());
    }

    /// What is kept of the images of Pods, in this order.
    fn kept(pods: &[&[&str]]) -> Vec<String> {
        let mut workloads = Workloads::new();
        for images in pods {
            let finding = CoverageFinding {
                host: "a.azurecr.io".into(),
                registry: None,
                state: CoverageState::Covered,
                images: images.to_vec(),
            };
            let pod = owned("apps/v1", "StatefulSet", "db", UID);
            add(&mut workloads, &pod, "apps", &[finding]);
        }
        let tallies = workloads.into_values();
        tallies.flat_map(|tally| tally.images).collect()
    }

    #[test]
    fn images_of_a_workload_are_kept_up_to_a_number() {
        let images: Vec<_> = (10..60)
            .map(|number| format!("a.azurecr.io/app:{number}"))
            .collect();
        let images: Vec<_> = images.iter().map(String::as_str).collect();
        let (first, last) = images.split_at(25);
        let expected = first.get(..MAX_IMAGES).unwrap();
        for pods in [&[&images[..]][..], &[first, last], &[last, first, last]] {
            assert_eq!(kept(pods), expected);
        }
    }

    #[test]
    fn a_long_image_is_cut() {
        let image = |bytes: usize| format!("a.azurecr.io/{}", "a".repeat(bytes - "a.azurecr.io/".len()));
        let (longest, longer) = (image(MAX_IMAGE_BYTES), image(1 << 20));
        assert_eq!(kept(&[&[&longest]]), [longest.as_str()]);
        assert_eq!(kept(&[&[&longer]]), [format!("{longest}…")]);
    }
}

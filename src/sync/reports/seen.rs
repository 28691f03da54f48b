//! What one look at Pods has seen of workloads, within bounds. It is pure.
//!
//! A Pod for which there is no room leaves its whole workload out: what is known of a workload is known of all its Pods, or is
//! not told.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use kube::ResourceExt;

use crate::policy::coverage::CoverageFinding;
use crate::policy::pod::Pod;
use crate::policy::workloads::{Standing, Tally, Workload, Workloads, standings};

/// How much there is room for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Pairs of a workload and a registry.
    pub standings: usize,
    /// What these pairs take, about.
    pub bytes: usize,
    /// Pods.
    pub pods: usize,
}

/// What a standing takes beside its texts: itself and its tally in a tree that is half full, the first node of its images,
/// and what the allocator adds.
const STANDING_BYTES: usize = 800;
/// What the allocator adds to an image.
const IMAGE_BYTES: usize = 16;

/// What was seen of Pods.
///
/// Pods and workloads are told apart by hashes with a key of this process. Two that have the same one would be counted as one
/// until the next look.
#[derive(Debug)]
pub(super) struct Seen {
    bounds: Bounds,
    workloads: Workloads,
    /// The workloads that were seen, and whether all of their Pods have been counted.
    owners: HashMap<u64, bool>,
    /// The Pods that were counted: one that changes during the look comes twice.
    pods: HashSet<u64>,
    hashes: RandomState,
    bytes: usize,
    /// No other workload is let in: it may be one that was left out before.
    is_closed: bool,
    left_out: u64,
}

impl Seen {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            workloads: Workloads::new(),
            owners: HashMap::new(),
            pods: HashSet::new(),
            hashes: RandomState::new(),
            bytes: 0,
            is_closed: false,
            left_out: 0,
        }
    }

    /// Counts a Pod.
    pub(super) fn take(&mut self, pod: &Pod, namespace: &str, findings: &[CoverageFinding<'_>]) {
        if findings.is_empty() {
            return;
        }
        let key = self.key(namespace, &pod.uid().unwrap_or_else(|| pod.name_any()));
        if self.pods.contains(&key) {
            return;
        }
        let owner = self.key(namespace, &Workload::of(pod).uid);
        if !self.has_room(owner, standings(pod, namespace, findings)) {
            self.leave_out(owner);
            return;
        }
        self.pods.insert(key);
        self.owners.insert(owner, true);
        for (standing, others) in standings(pod, namespace, findings) {
            if !self.workloads.contains_key(&standing) {
                self.bytes += bytes_of(&standing);
            }
            let tally = self.workloads.entry(standing).or_default();
            self.bytes -= bytes_of_images(tally);
            tally.merge(others);
            self.bytes += bytes_of_images(tally);
        }
    }

    /// The workloads of which every Pod was counted, and the number of Pods for which there was no room.
    pub(super) fn into_complete(self) -> (Workloads, u64) {
        let (mut workloads, owners, hashes) = (self.workloads, self.owners, self.hashes);
        workloads.retain(|standing, _| {
            let owner = hashes.hash_one((&*standing.namespace, &*standing.workload.uid));
            owners.get(&owner).is_some_and(|is_complete| *is_complete)
        });
        (workloads, self.left_out)
    }

    fn key(&self, namespace: &str, uid: &str) -> u64 {
        self.hashes.hash_one((namespace, uid))
    }

    /// Whether a Pod that stands so can be counted: all of it, or nothing. A replica of a known workload mostly needs no room.
    fn has_room(&self, owner: u64, standings: impl Iterator<Item = (Standing, Tally)>) -> bool {
        let known = self.owners.get(&owner).copied();
        if self.pods.len() >= self.bounds.pods || known == Some(false) || known.is_none() && self.is_closed {
            return false;
        }
        let (mut count, mut bytes) = (self.workloads.len(), self.bytes);
        for (standing, tally) in standings {
            match self.workloads.get(&standing) {
                Some(known) => {
                    let new = tally.images.difference(&known.images);
                    bytes += new.map(|image| bytes_of_image(image)).sum::<usize>();
                }
                None => {
                    count += 1;
                    bytes += bytes_of(&standing) + bytes_of_images(&tally);
                }
            }
            // What is known may take more than the room already, and none that is new.
            let is_more = count > self.workloads.len() || bytes > self.bytes;
            if is_more && (count > self.bounds.standings || bytes > self.bounds.bytes) {
                return false;
            }
        }
        true
    }

    fn leave_out(&mut self, owner: u64) {
        self.left_out += 1;
        if self.owners.contains_key(&owner) || self.owners.len() < 2 * self.bounds.standings {
            self.owners.insert(owner, false);
        } else {
            self.is_closed = true;
        }
    }
}

fn bytes_of(standing: &Standing) -> usize {
    let Standing {
        namespace,
        workload,
        host,
        registry,
        ..
    } = standing;
    let Workload {
        kind,
        name,
        api_version,
        uid,
        restarts_as,
    } = workload;
    let texts = [namespace, kind, name, api_version, uid, host].into_iter();
    let texts = texts.chain(restarts_as).chain(registry);
    STANDING_BYTES + texts.map(String::len).sum::<usize>()
}

fn bytes_of_images(tally: &Tally) -> usize {
    tally.images.iter().map(|image| bytes_of_image(image)).sum()
}

fn bytes_of_image(image: &str) -> usize {
    image.len() + IMAGE_BYTES
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::coverage::CoverageState;

    const BOUNDS: Bounds = Bounds {
        standings: 2,
        bytes: 1 << 20,
        pods: 100,
    };

    /// A Pod of a workload, and its state: to these hosts, with an image on each.
    fn take(seen: &mut Seen, pod: &str, workload: u32, images: &[&str]) {
        let owner = format!("7b795fb9-09d3-42f4-a494-{workload:012}");
        let object = json!({"metadata": {"name": pod, "uid": pod, "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("w{workload}"), "uid": owner, "controller": true,
        }]}, "spec": {}});
        let object: Pod = serde_json::from_value(object).unwrap();
        let findings: Vec<_> = images
            .iter()
            .map(|image| CoverageFinding {
                host: image.split('/').next().unwrap().into(),
                registry: None,
                state: CoverageState::Covered,
                images: vec![*image],
            })
            .collect();
        seen.take(&object, "apps", &findings);
    }

    /// The workloads that are told about with the number of their Pods, and the number of Pods that were left out.
    fn told(seen: Seen) -> (Vec<(String, u64)>, u64) {
        let (workloads, left_out) = seen.into_complete();
        let told = workloads.into_iter();
        let told = told.map(|(standing, tally)| (standing.workload.name, tally.pods));
        (told.collect(), left_out)
    }

    #[test]
    fn a_pod_without_room_leaves_its_workload_out() {
        let mut seen = Seen::new(BOUNDS);
        take(&mut seen, "a", 1, &["x/a"]);
        take(&mut seen, "b", 2, &["x/a"]);
        // Of one that is known, with one registry more; then one that stands as before.
        take(&mut seen, "c", 1, &["x/a", "y/a"]);
        take(&mut seen, "d", 1, &["x/a"]);
        take(&mut seen, "e", 3, &["x/a"]);
        take(&mut seen, "f", 2, &["x/a"]);
        assert_eq!(told(seen), (vec![("w2".to_owned(), 2)], 3));
    }

    #[test]
    fn a_pod_that_needs_much_keeps_no_other_out() {
        let mut seen = Seen::new(BOUNDS);
        take(&mut seen, "a", 1, &["x/a", "y/a", "z/a"]);
        take(&mut seen, "b", 2, &["x/a"]);
        take(&mut seen, "c", 1, &["x/a"]);
        assert_eq!(told(seen), (vec![("w2".to_owned(), 1)], 2));
    }

    #[test]
    fn workloads_left_out_are_remembered_up_to_a_number() {
        let mut seen = Seen::new(BOUNDS);
        for number in 0..10 {
            take(&mut seen, &format!("a{number}"), number, &["x/a", "y/a", "z/a"]);
        }
        assert_eq!(seen.owners.len(), 4);
        for number in 0..20 {
            take(&mut seen, &format!("b{number}"), number, &["x/a"]);
        }
        assert_eq!(seen.owners.len(), 4);
        assert_eq!(told(seen), (vec![], 30));
    }

    #[test]
    fn a_pod_that_comes_twice_is_counted_once() {
        let mut seen = Seen::new(BOUNDS);
        for pod in ["a", "b", "a"] {
            take(&mut seen, pod, 1, &["x/a"]);
        }
        assert_eq!(told(seen), (vec![("w1".to_owned(), 2)], 0));
    }

    #[test]
    fn pods_are_bounded() {
        let mut seen = Seen::new(Bounds { pods: 2, ..BOUNDS });
        for (pod, workload) in [("a", 1), ("b", 2), ("c", 2)] {
            take(&mut seen, pod, workload, &["x/a"]);
        }
        assert_eq!(told(seen), (vec![("w1".to_owned(), 1)], 1));
    }

    #[test]
    fn bytes_are_bounded_and_replicas_of_known_workloads_take_none() {
        let mut seen = Seen::new(Bounds {
            standings: 1_000,
            bytes: 100_000,
            pods: 1_000,
        });
        let image = |number: u32| format!("x/{number:04}{}", "a".repeat(1_000));
        for number in 0..100 {
            take(&mut seen, &format!("a{number}"), number, &[&image(number)]);
        }
        let (held, bytes) = (seen.workloads.len(), seen.bytes);
        assert!((40..60).contains(&held) && bytes <= 100_000, "{held} {bytes}");
        let counted: usize = seen
            .workloads
            .iter()
            .map(|(standing, tally)| bytes_of(standing) + bytes_of_images(tally))
            .sum();
        assert_eq!(bytes, counted);
        take(&mut seen, "b0", 0, &[&image(0)]);
        assert_eq!(seen.bytes, bytes);
        // Images that are others than those of the replicas before.
        for number in 100..110 {
            take(&mut seen, &format!("c{number}"), 1, &[&image(number)]);
        }
        assert!(seen.bytes <= 100_000);
        let (told, left_out) = told(seen);
        assert_eq!(told.len(), held - 1);
        assert_eq!(told.first(), Some(&("w0".to_owned(), 2)));
        assert_eq!(left_out, 100 - held as u64 + 10);
    }
}

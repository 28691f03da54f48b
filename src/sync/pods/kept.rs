//! The Pods of the cluster in little memory: what they name, and how many of them name the same.
//!
//! A hundred thousand Pods are replicas of some thousand workloads. Pods of one namespace that name the same images
//! and pull secrets are of one kind, which is kept and judged once; a Pod itself needs a few words of memory. This is
//! pure: others tell it the state of a kind.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use kube::ResourceExt;

use crate::api::names::registry_of;
use crate::base::guid::is_guid;
use crate::policy::coverage::{Gap, UncoveredGroup};
use crate::policy::pod::{Pod, PodNames, has_ended};
use crate::registry::image::ImageReference;

/// How much memory kinds and Pods may take, about: what a replica has left below its limit (docs/operations.md).
const MAX_BYTES: usize = 64 << 20;
/// What a Pod takes: its place in a map that is half full.
const POD_BYTES: usize = 80;
/// What a kind takes beside its lists: itself, and its place in a map.
const KIND_BYTES: usize = 216;
/// What a text takes beside its letters: its counts, and its place in a set that is half full.
const TEXT_BYTES: usize = 56;
/// How many texts more than after the last time there may be before those are dropped that nothing names any more.
const TEXT_STEP: usize = 1_024;

/// A text that many kinds share.
type Text = Arc<str>;

/// The states of a kind: once for each registry that it is uncovered at.
pub(super) type Standing = Vec<(Option<String>, Gap)>;

/// What tells a Pod from all others: its uid.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum PodKey {
    Guid(u128),
    /// The API server makes GUIDs only.
    Other(Box<str>),
}

impl PodKey {
    pub(super) fn of(pod: &Pod) -> Self {
        let Some(uid) = pod.metadata.uid.as_deref() else {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            return Self::Other(format!("{namespace}/{}", pod.name_any()).into());
        };
        let digits = || {
            uid.chars()
                .filter(|character| *character != '-')
                .collect::<String>()
        };
        match u128::from_str_radix(&digits(), 16) {
            Ok(number) if is_guid(uid) => Self::Guid(number),
            _ => Self::Other(uid.into()),
        }
    }
}

/// Pods of one namespace that name the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    /// First, so that the kinds of a namespace stand together.
    namespace: Text,
    images: Box<[Text]>,
    pull_secrets: Box<[Text]>,
    service_account: Option<Text>,
    inject_label: Option<Text>,
    is_mirror: bool,
}

impl Kind {
    pub(super) fn names(&self) -> PodNames<'_> {
        PodNames {
            namespace: &self.namespace,
            images: self.images.iter().map(|image| &**image).collect(),
            pull_secrets: self.pull_secrets.iter().map(|secret| &**secret).collect(),
            service_account: self.service_account.as_deref(),
            inject_label: self.inject_label.as_deref(),
            is_mirror: self.is_mirror,
        }
    }

    /// Where the kinds of a namespace begin.
    fn first_of(namespace: &str) -> Self {
        Self {
            namespace: namespace.into(),
            images: Box::default(),
            pull_secrets: Box::default(),
            service_account: None,
            inject_label: None,
            is_mirror: false,
        }
    }

    fn bytes(&self) -> usize {
        KIND_BYTES + (self.images.len() + self.pull_secrets.len()) * size_of::<Text>()
    }
}

#[derive(Debug)]
struct KeptPod {
    kind: Arc<Kind>,
    /// The list in which it was seen last, or during which it came.
    list: u32,
}

#[derive(Debug, Default)]
struct KindState {
    pods: u64,
    standing: Box<[(Option<Text>, Gap)]>,
}

/// What was done with a Pod that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is kept, and new, or names other things than before.
    New,
    /// Nothing is new.
    Known,
    /// There is no room for it.
    LeftOut,
}

/// All Pods that name an image of a registry, or a pull secret.
#[derive(Debug)]
pub(super) struct KeptPods {
    pods: HashMap<PodKey, KeptPod>,
    kinds: BTreeMap<Arc<Kind>, KindState>,
    texts: HashSet<Text>,
    /// How many texts there may be until the next look which of them are still named.
    most_texts: usize,
    /// What kinds and texts take.
    bytes: usize,
    max_bytes: usize,
    list: u32,
    uncovered: u64,
    groups: HashMap<UncoveredGroup, u64>,
    changed: HashSet<UncoveredGroup>,
    is_changed: bool,
}

impl Default for KeptPods {
    fn default() -> Self {
        Self {
            pods: HashMap::new(),
            kinds: BTreeMap::new(),
            texts: HashSet::new(),
            most_texts: TEXT_STEP,
            bytes: 0,
            max_bytes: MAX_BYTES,
            list: 0,
            uncovered: 0,
            groups: HashMap::new(),
            changed: HashSet::new(),
            is_changed: true,
        }
    }
}

impl KeptPods {
    /// Takes a Pod as it is now. A kind that is new is judged.
    pub(super) fn keep(&mut self, pod: &Pod, judge: impl FnOnce(&PodNames<'_>) -> Standing) -> Kept {
        let key = PodKey::of(pod);
        let Some(names) = named(pod) else {
            self.remove(&key);
            return Kept::Known;
        };
        let is_full = self.bytes + self.pods.len() * POD_BYTES >= self.max_bytes;
        match self.pods.get_mut(&key) {
            Some(known) if known.kind.names() == names => {
                known.list = self.list;
                return Kept::Known;
            }
            // Also one that is known: its images can be replaced by longer ones.
            Some(_) | None if is_full => {
                self.remove(&key);
                return Kept::LeftOut;
            }
            Some(_) | None => {}
        }
        self.remove(&key);
        let kind = self.intern(&names);
        let kind = match self.kinds.get_key_value(&kind) {
            Some((known, _)) => Arc::clone(known),
            None => {
                self.bytes += kind.bytes();
                let kind = Arc::new(kind);
                self.kinds.insert(Arc::clone(&kind), KindState::default());
                self.judge(&kind, judge);
                kind
            }
        };
        self.count(&kind, 1);
        let list = self.list;
        self.pods.insert(key, KeptPod { kind, list });
        Kept::New
    }

    /// Forgets a Pod that is gone.
    pub(super) fn remove(&mut self, key: &PodKey) {
        if let Some(pod) = self.pods.remove(key) {
            self.uncount(&pod.kind);
        }
    }

    /// A list of all Pods begins: those that are not in it are gone.
    pub(super) fn begin_list(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    /// The list is complete.
    pub(super) fn end_list(&mut self) {
        let list = self.list;
        let gone: Vec<_> = self.pods.extract_if(|_, pod| pod.list != list).collect();
        for (_, pod) in gone {
            self.uncount(&pod.kind);
        }
        self.drop_texts();
    }

    /// All kinds, or those of a namespace.
    pub(super) fn kinds(&self, namespace: Option<&str>) -> Vec<Arc<Kind>> {
        let Some(namespace) = namespace else {
            return self.kinds.keys().cloned().collect();
        };
        let from = self.kinds.range(Kind::first_of(namespace)..);
        from.map(|(kind, _)| Arc::clone(kind))
            .take_while(|kind| &*kind.namespace == namespace)
            .collect()
    }

    /// Judges a kind again.
    pub(super) fn judge(&mut self, kind: &Kind, judge: impl FnOnce(&PodNames<'_>) -> Standing) {
        let standing = judge(&kind.names());
        let registries = standing.into_iter();
        let standing: Box<[_]> = registries
            .map(|(registry, gap)| (registry.map(|name| self.text(&name)), gap))
            .collect();
        let Some(state) = self.kinds.get_mut(kind) else {
            return;
        };
        if state.standing == standing {
            return;
        }
        let pods = state.pods;
        let before = std::mem::replace(&mut state.standing, standing.clone());
        self.add(&kind.namespace, &before, pods, u64::wrapping_sub);
        self.add(&kind.namespace, &standing, pods, u64::wrapping_add);
    }

    /// How many Pods are uncovered, and the groups of which another number is than when this was asked before; nothing
    /// if all is as it was.
    pub(super) fn take_changes(&mut self) -> Option<(u64, Vec<(UncoveredGroup, u64)>)> {
        if !std::mem::take(&mut self.is_changed) {
            return None;
        }
        let changed = std::mem::take(&mut self.changed).into_iter();
        let counts = changed.map(|group| {
            let pods = self.groups.get(&group).copied().unwrap_or_default();
            (group, pods)
        });
        Some((self.uncovered, counts.collect()))
    }

    fn count(&mut self, kind: &Kind, pods: u64) {
        if let Some(state) = self.kinds.get_mut(kind) {
            state.pods += pods;
            let standing = state.standing.clone();
            self.add(&kind.namespace, &standing, pods, u64::wrapping_add);
        }
    }

    fn uncount(&mut self, kind: &Kind) {
        let Some(state) = self.kinds.get_mut(kind) else {
            return;
        };
        state.pods -= 1;
        let is_last = state.pods == 0;
        let standing = state.standing.clone();
        self.add(&kind.namespace, &standing, 1, u64::wrapping_sub);
        if is_last {
            self.kinds.remove(kind);
            self.bytes -= kind.bytes();
        }
    }

    /// Adds Pods in this state, or removes them.
    fn add(
        &mut self,
        namespace: &Text,
        standing: &[(Option<Text>, Gap)],
        pods: u64,
        add: fn(u64, u64) -> u64,
    ) {
        if standing.is_empty() || pods == 0 {
            return;
        }
        self.is_changed = true;
        self.uncovered = add(self.uncovered, pods);
        for (registry, gap) in standing {
            let group = UncoveredGroup {
                namespace: Arc::clone(namespace),
                registry: registry.clone(),
                gap: *gap,
            };
            let count = self.groups.entry(group.clone()).or_default();
            *count = add(*count, pods);
            if *count == 0 {
                self.groups.remove(&group);
            }
            self.changed.insert(group);
        }
    }

    fn intern(&mut self, names: &PodNames<'_>) -> Kind {
        if self.texts.len() >= self.most_texts {
            self.drop_texts();
        }
        Kind {
            namespace: self.text(names.namespace),
            images: names.images.iter().map(|image| self.text(image)).collect(),
            pull_secrets: names
                .pull_secrets
                .iter()
                .map(|secret| self.text(secret))
                .collect(),
            service_account: names.service_account.map(|account| self.text(account)),
            inject_label: names.inject_label.map(|label| self.text(label)),
            is_mirror: names.is_mirror,
        }
    }

    fn text(&mut self, text: &str) -> Text {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let text = Text::from(text);
        self.bytes += text.len() + TEXT_BYTES;
        self.texts.insert(Arc::clone(&text));
        text
    }

    /// Drops the texts that nothing names any more.
    fn drop_texts(&mut self) {
        let bytes = &mut self.bytes;
        self.texts.retain(|text| {
            let is_named = Arc::strong_count(text) > 1;
            if !is_named {
                *bytes -= text.len() + TEXT_BYTES;
            }
            is_named
        });
        self.most_texts = self.texts.len() * 2 + TEXT_STEP;
    }
}

/// What of a Pod is kept; nothing of one that has ended, or that names nothing which an AcrRegistry can have.
fn named(pod: &Pod) -> Option<PodNames<'_>> {
    let namespace = pod.metadata.namespace.as_deref()?;
    if has_ended(pod) {
        return None;
    }
    let mut names = PodNames::of(pod, namespace);
    names.images.retain(|image| {
        let reference = ImageReference::parse(image).ok();
        reference.is_some_and(|reference| reference.registry().is_some())
    });
    // In an order of its own, so that Pods that name the same are of one kind.
    for list in [&mut names.images, &mut names.pull_secrets] {
        list.sort_unstable();
        list.dedup();
    }
    let names_one_of_ours = names
        .pull_secrets
        .iter()
        .any(|secret| registry_of(secret).is_some());
    (names_one_of_ours || !names.images.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, namespace: &str, images: &[&str], secrets: &[&str]) -> Pod {
        let containers: Vec<_> = images
            .iter()
            .map(|image| json!({"name": "a", "image": image}))
            .collect();
        let secrets: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
        serde_json::from_value(json!({
            "metadata": {"name": uid, "namespace": namespace, "uid": uid},
            "spec": {"containers": containers, "imagePullSecrets": secrets},
            "status": {"phase": "Running"},
        }))
        .unwrap()
    }

    /// An image on a registry of its own, without a pull secret.
    fn plain(uid: &str, namespace: &str, image: &str) -> Pod {
        pod(uid, namespace, &[&format!("{image}.azurecr.io/a")], &[])
    }

    /// Every kind is uncovered at one registry, and where it has two images at another.
    fn judge(names: &PodNames<'_>) -> Standing {
        let registries = [Some("one".to_owned()), None];
        let gaps = registries.into_iter().zip([Gap::NotInjected, Gap::Unattached]);
        gaps.take(names.images.len()).collect()
    }

    fn counts(kept: &KeptPods) -> (u64, Vec<(String, u64)>) {
        let name = |group: &UncoveredGroup| format!("{} {}", group.namespace, group.gap.as_str());
        let mut groups: Vec<_> = kept
            .groups
            .iter()
            .map(|(group, pods)| (name(group), *pods))
            .collect();
        groups.sort_unstable();
        (kept.uncovered, groups)
    }

    #[test]
    fn pods_that_name_the_same_are_of_one_kind() {
        let mut kept = KeptPods::default();
        for number in 0..3 {
            let pod = plain(&format!("u{number}"), "apps", "a");
            assert_eq!(kept.keep(&pod, judge), Kept::New);
            assert_eq!(kept.keep(&pod, |_| unreachable!()), Kept::Known);
        }
        let other = pod("u3", "apps", &["b.azurecr.io/a", "a.azurecr.io/a"], &[]);
        let same = pod("u4", "apps", &["a.azurecr.io/a", "b.azurecr.io/a", "nginx"], &[]);
        kept.keep(&other, judge);
        kept.keep(&same, judge);
        assert_eq!(kept.kinds(None).len(), 2);
        let expected = [
            ("apps not-injected".to_owned(), 5),
            ("apps unattached".to_owned(), 2),
        ];
        assert_eq!(counts(&kept), (5, expected.to_vec()));
    }

    #[test]
    fn a_pod_that_names_nothing_of_ours_is_not_kept() {
        let mut kept = KeptPods::default();
        let ended = |phase: &str| {
            let mut pod = plain("u", "apps", "a");
            if let Some(status) = &mut pod.status {
                *status = serde_json::from_value(json!({"phase": phase})).unwrap();
            }
            pod
        };
        for (pod, is_kept) in [
            (
                pod("u", "apps", &["nginx", "library/nginx", "%"], &["by-hand"]),
                false,
            ),
            (ended("Succeeded"), false),
            (ended("Failed"), false),
            (ended("Pending"), true),
            (pod("u", "apps", &["nginx"], &["pullpass-mine"]), true),
            (pod("u", "apps", &["registry.example/a"], &[]), true),
        ] {
            kept.keep(&plain("u", "apps", "before"), judge);
            kept.keep(&pod, judge);
            assert_eq!(kept.pods.len(), usize::from(is_kept), "{pod:?}");
        }
    }

    #[test]
    fn pods_that_a_list_does_not_name_are_gone() {
        let mut kept = KeptPods::default();
        for uid in ["a", "b"] {
            kept.keep(&plain(uid, "apps", uid), judge);
        }
        kept.take_changes();
        kept.begin_list();
        kept.keep(&plain("b", "apps", "b"), judge);
        kept.keep(&plain("c", "apps", "c"), judge);
        assert_eq!(kept.uncovered, 3, "until the list is complete");
        kept.end_list();
        assert_eq!((kept.uncovered, kept.kinds(None).len()), (2, 2));
        kept.remove(&PodKey::of(&plain("c", "apps", "c")));
        assert_eq!(kept.uncovered, 1);
        let changes = kept.take_changes().unwrap();
        let counts: Vec<_> = changes.1.iter().map(|(_, pods)| *pods).collect();
        assert_eq!((changes.0, &counts[..]), (1, &[1][..]));
        assert!(kept.take_changes().is_none());
    }

    #[test]
    fn kinds_of_a_namespace_are_judged_apart_from_others() {
        let mut kept = KeptPods::default();
        for (uid, namespace) in [("a", "app"), ("b", "apps"), ("c", "apps-a"), ("d", "b")] {
            kept.keep(&plain(uid, namespace, "a"), judge);
        }
        kept.take_changes();
        let kinds = kept.kinds(Some("apps"));
        let names: Vec<_> = kinds
            .iter()
            .map(|kind| kind.names().namespace.to_owned())
            .collect();
        assert_eq!(names, ["apps"]);
        for kind in &kinds {
            kept.judge(kind, |_| Standing::new());
        }
        let (pods, changes) = kept.take_changes().unwrap();
        assert_eq!(
            (pods, changes.len()),
            (3, 1),
            "only of one is another number told"
        );
        assert_eq!(changes.first().map(|(_, pods)| *pods), Some(0));
        assert!(kept.kinds(Some("none")).is_empty());
    }

    #[test]
    fn pods_are_bounded_and_what_goes_makes_room() {
        let mut kept = KeptPods {
            max_bytes: 200_000,
            ..KeptPods::default()
        };
        let make = |number: usize| plain(&format!("u{number}"), "apps", &format!("image{number}"));
        let held = (0..10_000)
            .take_while(|number| kept.keep(&make(*number), judge) == Kept::New)
            .count();
        assert!((300..1_000).contains(&held), "{held}");
        assert_eq!(kept.keep(&make(0), judge), Kept::Known);
        assert_eq!(kept.keep(&make(held), judge), Kept::LeftOut);
        let longer = plain("u0", "apps", &"image".repeat(100));
        assert_eq!(kept.keep(&longer, judge), Kept::LeftOut, "it grew");
        for number in 0..held {
            kept.remove(&PodKey::of(&make(number)));
        }
        kept.take_changes();
        kept.drop_texts();
        assert!(kept.kinds(None).is_empty() && kept.texts.is_empty());
        assert_eq!((kept.bytes, kept.uncovered, kept.groups.len()), (0, 0, 0));
    }

    #[test]
    fn texts_that_nothing_names_do_not_pile_up() {
        let mut kept = KeptPods::default();
        for number in 0..10 * TEXT_STEP {
            kept.keep(&plain("u", "apps", &format!("image{number}")), judge);
        }
        assert!(kept.texts.len() <= 2 * TEXT_STEP, "{}", kept.texts.len());
    }

    #[test]
    fn guids_are_kept_as_numbers() {
        let key = |uid: &str| PodKey::of(&plain(uid, "apps", "a"));
        let guid = "7b795fb9-09d3-42f4-a494-38864f99ba3c";
        assert_eq!(key(guid), PodKey::Guid(0x7b79_5fb9_09d3_42f4_a494_3886_4f99_ba3c));
        assert_eq!(key("7b795fb9"), PodKey::Other("7b795fb9".into()));
        let mut without = plain(guid, "apps", "a");
        without.metadata.uid = None;
        assert_eq!(PodKey::of(&without), PodKey::Other(format!("apps/{guid}").into()));
    }

    /// The counts when every Pod is judged by itself.
    fn counted(pods: &HashMap<u32, Pod>) -> (u64, Vec<(String, u64)>) {
        let mut groups = BTreeMap::<String, u64>::new();
        let mut uncovered = 0;
        for pod in pods.values() {
            let standing = named(pod).map(|names| judge(&names)).unwrap_or_default();
            uncovered += u64::from(!standing.is_empty());
            for (_, gap) in standing {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                *groups.entry(format!("{namespace} {}", gap.as_str())).or_default() += 1;
            }
        }
        (uncovered, groups.into_iter().collect())
    }

    #[test]
    fn counts_are_those_of_pods_judged_one_by_one() {
        let (mut kept, mut pods) = (KeptPods::default(), HashMap::new());
        // Numbers in an order that is the same each time.
        let mut state = 7_u32;
        let mut pick = |most: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % most
        };
        for _ in 0..5_000 {
            let uid = pick(40);
            let images: Vec<_> = (0..pick(3))
                .map(|_| format!("r{}.azurecr.io/a", pick(3)))
                .collect();
            let images: Vec<_> = images.iter().map(String::as_str).collect();
            // A Pod does not change its namespace.
            let made = pod(&format!("u{uid}"), &format!("n{}", uid % 3), &images, &[]);
            if pick(4) == 0 {
                pods.remove(&uid);
                kept.remove(&PodKey::of(&made));
            } else {
                kept.keep(&made, judge);
                pods.insert(uid, made);
            }
            assert_eq!(counts(&kept), counted(&pods));
        }
    }
}

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::note::MAX_BYTES;
use super::*;
use crate::policy::attached::AttachedRegistry;
use crate::policy::scope::Mode;
use crate::policy::scope::Scope;
use crate::sync::credentials::Version;
use crate::sync::pods::Sighting;
use crate::sync::secrets::WriteError;
use crate::sync::secrets::detach::progress::Detached;
use crate::sync::secrets::tests::controller;
use crate::sync::stored::EMPTIED_INTERVAL;
use crate::sync::versions::RegistryVersion;
use crate::sync::watches::Change;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;
use serde_json::{Value, json};

thread_local! {
    /// How many pairs were looked at to work out a note.
    pub(super) static LOOKS: Cell<usize> = const { Cell::new(0) };
}

fn version(number: u32) -> Version {
    Version::parse(Some(&number.to_string())).unwrap()
}

fn swept(marks: &[(u64, u32)]) -> Swept {
    let marks = marks.iter().map(|(mark, upto)| (Mark(*mark), version(*upto)));
    Swept(marks.collect())
}

#[test]
fn only_what_is_unchanged_since_is_swept() {
    let swept = swept(&[(1, 100)]);
    for (mark, namespace, expected) in [(1, 100, true), (1, 7, true), (1, 101, false), (2, 7, false)] {
        assert_eq!(
            swept.covers(Mark(mark), version(namespace)),
            expected,
            "{mark} {namespace}"
        );
    }
}

#[test]
fn a_note_never_goes_past_what_is_left() {
    let before = swept(&[(1, 50), (2, 50), (3, 50), (4, 150)]);
    let left = [
        (Mark(1), Left::Nothing),
        (Mark(2), Left::From(version(80))),
        (Mark(3), Left::From(version(20))),
        (Mark(4), Left::Unknown),
        (Mark(5), Left::From(version(20))),
        (Mark(6), Left::Unknown),
    ];
    // What was swept before stays swept; nothing is reported about versions that are not known.
    let expected = swept(&[(1, 100), (2, 79), (3, 50), (4, 100), (5, 19)]);
    assert_eq!(before.advance(version(100), left), expected);
    assert_eq!(
        before.advance(version(100), []),
        Swept::default(),
        "they are gone"
    );
}

fn scope(mode: Mode, excluded: &[&str]) -> Scope {
    Scope::new(mode, "own", excluded.iter().map(|name| (*name).to_owned()))
}

#[test]
fn a_note_of_other_rules_says_nothing() {
    let rules = scope(Mode::OptIn, &["a"]);
    let swept = swept(&[(1, 100), (u64::MAX, 100), (3, 7)]);
    let text = swept.text(&rules).unwrap();
    assert_eq!(Swept::parse(&text, &rules), swept);
    for other in [
        scope(Mode::ClusterWide, &["a"]),
        scope(Mode::OptIn, &["a", "b"]),
        scope(Mode::OptIn, &[]),
        scope(Mode::OptIn, &["a"]).with_selector(&"team=a".parse().unwrap()),
    ] {
        assert_eq!(Swept::parse(&text, &other), Swept::default());
    }
    for damaged in [
        "",
        "{}",
        "null",
        &text.replace("\"format\":1", "\"format\":2"),
        &text.replace("ffffffffffffffff", "fffffffffffffffff"),
        &text.replace("\"100\"", "\"a\""),
    ] {
        assert_eq!(Swept::parse(damaged, &rules), Swept::default(), "{damaged}");
    }
}

#[test]
fn a_note_is_bounded() {
    let rules = scope(Mode::ClusterWide, &[]);
    let of = |count: u64| {
        let marks = (0..count).map(|mark| (Mark(mark), version(1)));
        Swept(marks.collect()).text(&rules)
    };
    assert!(of(900).is_some_and(|text| text.len() <= MAX_BYTES));
    assert_eq!(of(1_000), None);
}

proptest! {
    #[test]
    fn reading_a_note_never_fails(text in ".*") {
        prop_assert_eq!(Swept::parse(&text, &scope(Mode::OptIn, &[])), Swept::default());
    }
}

fn registry(team: &str) -> AttachedRegistry {
    crate::sync::secrets::tests::registry(&json!({"namespaces": {"matchLabels": {"team": team}}}))
}

/// A cluster with one registry, for team a, and what the API server's versions are.
struct Cluster {
    controller: SecretsController,
    newest: u32,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self {
            controller: controller(registry("a"), &[]),
            newest: 0,
        };
        cluster.set_registry("uid", 1, registry("a"));
        for (name, team) in [("a-1", "a"), ("b-1", "b"), ("b-2", "b")] {
            cluster.set_namespace(name, team);
        }
        cluster
    }

    /// One that is swept, and noted, and the work of a leader who knows all for so long that no replica can be behind.
    async fn settled() -> (Self, Work) {
        let cluster = Self::new();
        cluster.sweep().await;
        let work = cluster.next_leader().await;
        tokio::time::advance(EMPTIED_INTERVAL).await;
        (cluster, work)
    }

    /// A watch that broke off begins again with a list of these.
    fn list(&self, listed: [(&str, u32); 3]) {
        let listed = listed.map(|(name, number)| (name.into(), version(number)));
        self.controller
            .watches
            .versions()
            .set_namespaces(listed.into(), now());
    }

    /// Another version of a registry; says what is to be told about it.
    fn set_registry(&mut self, uid: &str, generation: i64, registry: AttachedRegistry) -> Change {
        let metadata = ObjectMeta {
            uid: Some(uid.to_owned()),
            generation: Some(generation),
            ..ObjectMeta::default()
        };
        let watches = &self.controller.watches;
        let version = RegistryVersion::of(&metadata, Some(&registry));
        let versions = [(registry.name().to_owned(), version)].into();
        watches.versions().set_registries(&versions);
        let change = Change::Registry(registry.name().to_owned());
        watches.view.set_registries(std::iter::once(registry).collect());
        change
    }

    fn set_namespace(&mut self, name: &str, team: &str) -> Option<Change> {
        self.newest += 1;
        let watches = &self.controller.watches;
        watches
            .versions()
            .set_namespace(name, Some(version(self.newest)), now());
        let labels = [("team".to_owned(), team.to_owned())].into();
        watches.view.set_namespace(name, &labels).map(Change::Namespace)
    }

    fn remove_namespace(&mut self, name: &str) {
        let watches = &self.controller.watches;
        watches.versions().remove_namespace(name, now());
        watches.view.remove_namespace(name);
    }

    /// Another process leads.
    async fn next_leader(&self) -> Work {
        let mut work = Work::after(self.controller.read_note());
        self.controller.watches.versions().take_doubts();
        self.controller.look_at_everything(&mut work).await;
        work
    }

    fn tick(&self, work: &mut Work) {
        self.controller.sweep_again(work);
        self.controller.sweep_in_doubt(work);
        self.controller.note_swept(work, MAX_PENDING, || true);
        work.take_up_sweep(usize::MAX);
    }

    /// The namespaces in which it deletes until nothing is left to do, second deletions included.
    async fn deletes(&self, work: &mut Work) -> Vec<String> {
        let mut deleted = Vec::new();
        for _ in 0..4 {
            self.tick(work);
            deleted.extend(self.delete(work, &Ok(Timestamp::UNIX_EPOCH)));
            tokio::time::advance(EMPTIED_INTERVAL / 2).await;
        }
        self.tick(work);
        deleted
    }

    fn delete(&self, work: &mut Work, result: &Result<Timestamp, WriteError>) -> Vec<String> {
        let mut deleted = Vec::new();
        while let Some(pair) = work.next() {
            let registries = self.controller.watches.view.registries();
            let step = self.controller.step_of(&registries, &pair, false);
            if step == Step::Delete {
                deleted.push(pair.0.clone());
            }
            self.controller.finish(work, pair, step, result.clone());
        }
        deleted.sort();
        deleted
    }

    /// Has a leader sweep everything, and note it.
    async fn sweep(&self) {
        let mut work = self.next_leader().await;
        let deleted = self.deletes(&mut work).await;
        assert_eq!(deleted, ["b-1", "b-2", "b-1", "b-2"], "each twice");
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_leader_deletes_nothing_that_is_unchanged() {
    let cluster = Cluster::new();
    cluster.sweep().await;
    for _ in 0..3 {
        let mut work = cluster.next_leader().await;
        assert_eq!(cluster.deletes(&mut work).await, [""; 0]);
        assert_eq!(work.sweep.len(), 0);
    }
    // What cannot be read costs the deletions.
    for note in [None, Some("spoilt".to_owned())] {
        cluster.controller.note.set(note);
        cluster.sweep().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_note_of_other_rules_does_not_outlive_them() {
    let mut cluster = Cluster::new();
    cluster.sweep().await;
    let rules = cluster.controller.scope.clone();
    cluster.controller.scope = rules.clone().with_mode(Mode::OptIn);
    // One that leads too short to sweep anything.
    cluster.next_leader().await;
    cluster.controller.scope = rules;
    cluster.sweep().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_leader_deletes_what_changed_while_nobody_led() {
    // (what happens, the namespaces that are swept)
    type Happens = fn(&mut Cluster);
    let cases: [(Happens, &[&str]); 6] = [
        (|cluster| drop(cluster.set_namespace("a-1", "b")), &["a-1"]),
        (|cluster| drop(cluster.set_namespace("b-1", "b")), &["b-1"]),
        (
            |cluster| {
                cluster.remove_namespace("b-2");
                cluster.set_namespace("b-2", "b");
            },
            &["b-2"],
        ),
        (
            |cluster| drop(cluster.set_registry("uid", 3, registry("a"))),
            &["b-1", "b-2"],
        ),
        (
            |cluster| drop(cluster.set_registry("another", 1, registry("a"))),
            &["b-1", "b-2"],
        ),
        (
            |cluster| drop(cluster.set_registry("uid", 2, registry("b"))),
            &["a-1"],
        ),
    ];
    for (happens, swept) in cases {
        let mut cluster = Cluster::new();
        cluster.sweep().await;
        happens(&mut cluster);
        let mut work = cluster.next_leader().await;
        let twice: Vec<&str> = swept.iter().chain(swept).copied().collect();
        assert_eq!(cluster.deletes(&mut work).await, twice);
        let mut work = cluster.next_leader().await;
        assert_eq!(cluster.deletes(&mut work).await, [""; 0], "once it is noted");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_ends_early_leaves_the_rest_to_the_next() {
    let (mut cluster, mut work) = Cluster::settled().await;
    let change = cluster.set_namespace("a-1", "b").unwrap();
    let newer = cluster.set_namespace("b-3", "b").unwrap();
    // It ends before it has dealt with the change, refused, before the second deletion, or when all is done.
    for (done, refused, expected) in [
        (0, false, vec!["a-1", "b-3"]),
        (1, true, vec!["a-1", "b-3"]),
        (1, false, vec!["a-1", "b-3"]),
        (2, false, vec![]),
    ] {
        if done == 0 {
            cluster.controller.note_swept(&mut work, MAX_PENDING, || false);
        } else {
            cluster.controller.on_change(&mut work, &change);
            cluster.controller.on_change(&mut work, &newer);
            let result = if refused {
                Err(WriteError::Api("no".to_owned()))
            } else {
                Ok(Timestamp::UNIX_EPOCH)
            };
            cluster.delete(&mut work, &result);
            cluster.tick(&mut work);
        }
        if done == 2 {
            cluster.deletes(&mut work).await;
        }
        let next = cluster.next_leader().await;
        let mut swept: Vec<&str> = next.sweep.iter().map(|pair| &*pair.0).collect();
        swept.sort_unstable();
        assert_eq!(swept, expected, "{done} {refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_recreated_is_swept_by_who_saw_it() {
    let (mut cluster, mut work) = Cluster::settled().await;
    cluster.remove_namespace("a-1");
    for name in ["a-1", "b-3"] {
        let change = cluster.set_namespace(name, "b").unwrap();
        cluster.controller.on_change(&mut work, &change);
    }
    // A replica that is behind may take it for the former one. A new one has nothing.
    assert_eq!(cluster.deletes(&mut work).await, ["a-1", "a-1"]);
}

#[tokio::test(start_paused = true)]
async fn changes_that_only_a_list_shows_are_swept() {
    let (mut cluster, mut work) = Cluster::settled().await;
    cluster.list([("a-1", 1), ("b-1", 9), ("b-2", 3)]);
    assert_eq!(cluster.deletes(&mut work).await, ["b-1", "b-1"]);
    // Of a registry, one other spec in between is one too many.
    for (generation, expected) in [(2, vec![]), (4, vec!["b-1", "b-2", "b-1", "b-2"])] {
        let change = cluster.set_registry("uid", generation, registry("a"));
        cluster.controller.on_change(&mut work, &change);
        assert_eq!(cluster.deletes(&mut work).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_registry_costs_no_deletion() {
    let (mut cluster, mut work) = Cluster::settled().await;
    cluster.controller.watches.credentials.remove("mine");
    cluster.set_registry("uid", 2, registry("b"));
    work.looked_at.clear();
    let new = Change::Registry("mine".to_owned());
    cluster.controller.on_change(&mut work, &new);
    cluster.tick(&mut work);
    cluster.controller.look_at_everything(&mut work).await;
    assert_eq!(cluster.deletes(&mut work).await, [""; 0]);
}

#[tokio::test]
async fn a_registry_that_cannot_be_acted_on_has_no_mark() {
    let metadata = |value: Value| serde_json::from_value::<ObjectMeta>(value).unwrap();
    let sound = metadata(json!({"uid": "u", "generation": 1}));
    let cluster = Cluster::new();
    let mark = |version: RegistryVersion| {
        let mut versions = cluster.controller.watches.versions();
        versions.set_registries(&[("mine".to_owned(), version)].into());
        versions.mark("mine")
    };
    let (a, b) = (registry("a"), registry("b"));
    assert_eq!(mark(RegistryVersion::of(&sound, None)), None);
    let known = mark(RegistryVersion::of(&sound, Some(&a))).unwrap();
    assert_ne!(mark(RegistryVersion::of(&sound, Some(&b))), Some(known));
    let without = metadata(json!({"uid": "u"}));
    assert_eq!(mark(RegistryVersion::of(&without, Some(&a))), None);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_changes_twice_unseen_is_swept_twice() {
    let (mut cluster, mut work) = Cluster::settled().await;
    // For team b for a moment, in which a replica may have written: the leader hears of both changes when it is as it was.
    let changes = [(2, "b"), (3, "a")]
        .map(|(generation, team)| cluster.set_registry("uid", generation, registry(team)));
    for change in &changes {
        cluster.controller.on_change(&mut work, change);
    }
    assert_eq!(cluster.deletes(&mut work).await, ["b-1", "b-2", "b-1", "b-2"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_noted_past_a_doubt() {
    let (cluster, mut work) = Cluster::settled().await;
    // It is another version, and may have been something else in between.
    cluster.list([("a-1", 1), ("b-1", 100), ("b-2", 3)]);
    cluster.controller.note_swept(&mut work, MAX_PENDING, || true);
    let next = cluster.next_leader().await;
    let swept: Vec<&str> = next.sweep.iter().map(|pair| &*pair.0).collect();
    assert_eq!(swept, ["b-1"]);
}

/// The namespaces that another leader would sweep, if it led now.
async fn left_to_the_next(cluster: &Cluster) -> Vec<String> {
    let next = cluster.next_leader().await;
    let mut left: Vec<String> = next.sweep.iter().map(|pair| pair.0.clone()).collect();
    left.sort();
    left
}

#[tokio::test(start_paused = true)]
async fn nothing_is_noted_while_a_replica_may_be_behind() {
    let (mut cluster, _) = Cluster::settled().await;
    cluster.set_namespace("b-3", "b");
    let note = async |work: &mut Work| {
        cluster.controller.note_swept(work, usize::MAX, || true);
        left_to_the_next(&cluster).await
    };
    let mut new = Work::after(cluster.controller.read_note());
    cluster.controller.look_at_everything(&mut new).await;
    new.take_up_sweep(usize::MAX);
    cluster.delete(&mut new, &Ok(Timestamp::UNIX_EPOCH));
    let _ = new.take_lost(now() + EMPTIED_INTERVAL, Duration::ZERO);
    assert_eq!(new.pending().count(), 0);
    assert_eq!(note(&mut new).await, ["b-3"], "it does not lead for long enough");
    let mut idle = Work::after(cluster.controller.read_note());
    tokio::time::advance(EMPTIED_INTERVAL).await;
    assert_eq!(note(&mut idle).await, ["b-3"], "it has looked at nothing");
    assert_eq!(note(&mut new).await, [""; 0]);
}

/// A list brought so many changes that they were not told one by one.
#[tokio::test(start_paused = true)]
async fn nothing_is_noted_before_everything_is_looked_at() {
    let (mut cluster, mut work) = Cluster::settled().await;
    cluster.set_namespace("b-3", "b");
    cluster.controller.on_change(&mut work, &Change::Everything);
    cluster.controller.note_swept(&mut work, usize::MAX, || true);
    assert_eq!(left_to_the_next(&cluster).await, ["b-3"]);
    cluster.controller.look_at_everything(&mut work).await;
    cluster.deletes(&mut work).await;
    assert_eq!(left_to_the_next(&cluster).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_is_refused_for_long_is_left_to_the_next() {
    let (mut cluster, mut work) = Cluster::settled().await;
    let change = cluster.set_namespace("a-1", "b").unwrap();
    cluster.controller.on_change(&mut work, &change);
    let refused = Err(WriteError::Api("no".to_owned()));
    assert_eq!(cluster.delete(&mut work, &refused), ["a-1"]);
    tokio::time::advance(EMPTIED_INTERVAL).await;
    cluster.tick(&mut work);
    assert_eq!(cluster.delete(&mut work, &refused), ["a-1"]);
    assert_eq!(work.pending().count(), 0, "it waits only after a failure");
    cluster.tick(&mut work);
    assert_eq!(left_to_the_next(&cluster).await, ["a-1"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_noted_of_a_registry_that_is_left_out_or_detached() {
    let cases: [fn(&mut Work); 2] = [
        |work| work.left_out.extend(["mine".to_owned()]),
        |work| work.detached.extend([("mine".to_owned(), Detached::default())]),
    ];
    for is_unknown in cases {
        let (mut cluster, mut work) = Cluster::settled().await;
        cluster.set_namespace("b-3", "b");
        is_unknown(&mut work);
        cluster.controller.note_swept(&mut work, MAX_PENDING, || true);
        assert_eq!(left_to_the_next(&cluster).await, ["b-3"]);
    }
}

#[tokio::test(start_paused = true)]
async fn many_pairs_that_wait_put_a_note_off_and_no_more() {
    let (mut cluster, mut work) = Cluster::settled().await;
    cluster.set_namespace("b-3", "b");
    for number in 0..=MAX_PENDING {
        work.lose(Arc::new((format!("gone-{number}"), "mine".to_owned())), now());
    }
    for (most, is_noted) in [(MAX_PENDING, false), (MAX_PENDING + 1, true)] {
        let before = work.swept.clone();
        cluster.controller.note_swept(&mut work, most, || true);
        assert_eq!(work.swept != before, is_noted, "{most}");
    }
}

/// A leader that nobody told anything, in a cluster with many namespaces.
#[tokio::test(start_paused = true)]
async fn many_pairs_are_swept_part_by_part() {
    let mut cluster = Cluster::new();
    for number in 3..60_003 {
        cluster.set_namespace(&format!("b-{number}"), "b");
    }
    let mut work = cluster.next_leader().await;
    assert_eq!(work.sweep.len(), 50_000, "it fills no memory");
    let mut swept = cluster.deletes(&mut work).await;
    assert_eq!(swept.len(), 2 * 50_000, "each twice");
    let left = left_to_the_next(&cluster).await.len();
    assert_eq!(left, 50_000, "nothing is noted while some are left out");
    // Without a look at everything, which the resync interval puts off.
    cluster.controller.find_left_out(&mut work);
    assert!(work.due.is_some());
    cluster.controller.look_at_everything(&mut work).await;
    assert_eq!(work.sweep.len(), 10_002);
    swept.extend(cluster.deletes(&mut work).await);
    swept.sort();
    swept.dedup();
    assert_eq!(swept.len(), 60_002);
    assert_eq!(left_to_the_next(&cluster).await, [""; 0]);
}

fn mine(namespace: &str) -> SharedPair {
    Arc::new((namespace.to_owned(), "mine".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_note_costs_what_changed_since_the_last() {
    let (mut cluster, mut work) = Cluster::settled().await;
    for number in 0..5_000 {
        work.lose(mine(&format!("gone-{number}")), now());
    }
    let seconds = async |cluster: &Cluster, work: &mut Work| {
        LOOKS.set(0);
        for _ in 0..100 {
            cluster.tick(work);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        LOOKS.get()
    };
    assert_eq!(seconds(&cluster, &mut work).await, 5_000, "once");
    assert_eq!(seconds(&cluster, &mut work).await, 0);
    cluster.set_namespace("b-1", "b");
    assert_eq!(seconds(&cluster, &mut work).await, 5_000);
    // They are due in the first of these seconds, and dealt with in the next ones.
    tokio::time::advance(EMPTIED_INTERVAL).await;
    assert_eq!(
        seconds(&cluster, &mut work).await,
        0,
        "they are looked at no more"
    );
    for number in 0..=MAX_PENDING {
        work.lose(mine(&format!("gone-{number}")), now());
    }
    assert_eq!(seconds(&cluster, &mut work).await, 0, "there are too many");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_looked_at_for_no_note() {
    let (mut cluster, mut work) = Cluster::settled().await;
    let refused = || Err(WriteError::Api("no".to_owned()));
    let names: Vec<String> = (0..100).map(|number| format!("a-{number}")).collect();
    for name in &names {
        let change = cluster.set_namespace(name, "a");
        if let Some(change) = change {
            cluster.controller.on_change(&mut work, &change);
        }
        cluster
            .controller
            .finish(&mut work, mine(name), Step::Write, refused());
    }
    LOOKS.set(0);
    cluster.tick(&mut work);
    assert_eq!((work.left_len(), LOOKS.get()), (0, 0));
    // It may have been made all the same, and must not be there now.
    let change = cluster.set_namespace("a-7", "b").unwrap();
    cluster.controller.on_change(&mut work, &change);
    let left = |work: &Work| {
        work.left()
            .map(|pair| pair.0.clone())
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(left(&work), ["a-7".to_owned()].into());
    let change = cluster.set_registry("uid", 2, registry("b"));
    cluster.controller.on_change(&mut work, &change);
    let mut expected: std::collections::BTreeSet<_> = names.iter().cloned().collect();
    expected.remove("a-7");
    let forbidden: std::collections::BTreeSet<_> = work.forbidden().map(|pair| pair.0.clone()).collect();
    assert_eq!(forbidden, expected);
    for name in &names {
        cluster
            .controller
            .finish(&mut work, mine(name), Step::Delete, Ok(Timestamp::UNIX_EPOCH));
    }
    assert_eq!(work.forbidden().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_noted_of_a_registry_just_detached() {
    let (mut cluster, mut work) = Cluster::settled().await;
    let anonymous = json!({"identity": {"anonymous": {}}});
    let anonymous = crate::sync::secrets::tests::registry(&anonymous);
    let change = cluster.set_registry("uid", 2, anonymous);
    cluster.controller.on_change(&mut work, &change);
    // Its pull secrets are there until the controller goes on with what is detached.
    let before = work.swept.clone();
    cluster.controller.note_swept(&mut work, usize::MAX, || true);
    assert_eq!(work.swept, before);
}

/// A note as it is worked out from all that is known, after `before`.
fn noted_from_all(cluster: &Cluster, work: &Work, names: &[&str], before: &Swept) -> Swept {
    let versions = cluster.controller.watches.versions();
    let is_left_for_later = !work.is_begun
        || work.due.is_some()
        || work.knows_all_for(now()) < EMPTIED_INTERVAL
        || versions.has_doubts();
    let (false, Some(newest), Some(mark)) = (is_left_for_later, versions.newest(), versions.mark("mine"))
    else {
        return before.clone();
    };
    drop(versions);
    let registries = cluster.controller.watches.view.registries();
    let is_forbidden =
        |pair: &SharedPair| cluster.controller.step_of(&registries, pair, false) == Step::Delete;
    let failing = names.iter().map(|name| mine(name));
    let failing = failing.filter(|pair| work.failures.contains(pair) && is_forbidden(pair));
    let versions = cluster.controller.watches.versions();
    let pending: Vec<SharedPair> = work.pending().cloned().collect();
    let left = pending
        .into_iter()
        .chain(failing.collect::<Vec<_>>())
        .filter_map(|pair| versions.namespace(&pair.0))
        .fold(Left::Nothing, Left::and);
    before.advance(newest, [(mark, left)])
}

/// Numbers that look random, and are the same each time.
fn draw(state: &mut u64, below: usize) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap() % below
}

#[tokio::test(start_paused = true)]
async fn each_note_is_what_a_look_at_everything_would_note() {
    const NAMES: [&str; 4] = ["a-1", "b-1", "b-2", "c"];
    let (mut notes, mut forbidden) = (0, 0);
    for seed in 0..400 {
        let (mut state, mut generation) = (seed, 1);
        let (mut cluster, mut work) = Cluster::settled().await;
        for _ in 0..40 {
            let name = NAMES[draw(&mut state, NAMES.len())];
            let team = ["a", "b"][draw(&mut state, 2)];
            let controller = &cluster.controller;
            let change = match draw(&mut state, 9) {
                0 | 1 => cluster.set_namespace(name, team),
                2 => {
                    cluster.remove_namespace(name);
                    Some(Change::NamespaceGone(name.to_owned()))
                }
                3 => {
                    generation += 1;
                    Some(cluster.set_registry("uid", generation, registry(team)))
                }
                4 => {
                    let pair = (name.to_owned(), "mine".to_owned());
                    controller.see(&mut work, Sighting::Needed(pair));
                    None
                }
                5 => {
                    work.look_again();
                    controller.look_at_everything(&mut work).await;
                    None
                }
                6 => {
                    let seconds = [1, 20, 400][draw(&mut state, 3)];
                    tokio::time::advance(Duration::from_secs(seconds)).await;
                    work.take_up_retries(now());
                    cluster.tick(&mut work);
                    None
                }
                _ => {
                    if let Some(pair) = work.next() {
                        let step = controller.step_of(
                            &controller.watches.view.registries(),
                            &pair,
                            work.is_wanted(&pair),
                        );
                        let result = match draw(&mut state, 3) {
                            0 => Ok(Timestamp::UNIX_EPOCH),
                            1 => Err(WriteError::Foreign),
                            _ => Err(WriteError::Timeout),
                        };
                        controller.finish(&mut work, pair, step, result);
                    }
                    None
                }
            };
            let before = work.swept.clone();
            if let Some(change) = change {
                // What is not seen yet is not noted.
                cluster.controller.note_swept(&mut work, usize::MAX, || false);
                assert_eq!(work.swept, before);
                cluster.controller.on_change(&mut work, &change);
            }
            let expected = noted_from_all(&cluster, &work, &NAMES, &before);
            cluster.controller.note_swept(&mut work, usize::MAX, || true);
            assert_eq!(work.swept, expected, "{seed}");
            notes += usize::from(work.swept != before);
            forbidden += work.forbidden().count();
        }
    }
    assert!(notes > 1_000 && forbidden > 1_000, "{notes} {forbidden}");
}

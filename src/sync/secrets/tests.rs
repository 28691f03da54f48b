use std::time::Instant;

use super::*;
use crate::policy::attached::AttachedRegistry;
use crate::policy::scope::Membership;
use crate::sync::credentials::Seen;
use crate::sync::stored::EMPTIED_INTERVAL;
use crate::sync::watches::Change;
use crate::view::NamespaceChange;
use serde_json::json;

pub(in crate::sync) fn registry(spec: &serde_json::Value) -> AttachedRegistry {
    let mut object = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "mine"},
        "spec": {"loginServer": "myregistry.azurecr.io", "identity": {"managedIdentity": {}}},
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap()
}

#[test]
fn every_row_of_what_a_namespace_should_have() {
    let team_a: Labels = [("team".to_owned(), "a".to_owned())].into();
    let other = Labels::new();
    let plain = registry(&json!({}));
    let eager = registry(&json!({"provision": "Eager"}));
    let for_a = registry(&json!({"namespaces": {"matchLabels": {"team": "a"}}, "provision": "Eager"}));
    let injected = Membership::Injected { always: false };
    let always = Membership::Injected { always: true };
    let opted_out = Membership::OptedOut;
    // (registry, labels, membership, wanted, minted)
    for (case, expected) in [
        ((Some(&plain), Some(&other), injected, true, true), Step::Write),
        ((Some(&plain), Some(&other), injected, false, true), Step::Nothing),
        ((Some(&plain), Some(&other), injected, true, false), Step::Nothing),
        ((Some(&plain), Some(&other), opted_out, true, true), Step::Delete),
        ((Some(&plain), None, injected, true, true), Step::Nothing),
        ((Some(&eager), Some(&other), injected, false, true), Step::Write),
        (
            (Some(&eager), Some(&other), injected, false, false),
            Step::Nothing,
        ),
        ((Some(&plain), Some(&other), always, false, true), Step::Write),
        ((Some(&plain), Some(&other), always, false, false), Step::Nothing),
        ((Some(&for_a), Some(&other), always, false, true), Step::Delete),
        ((Some(&for_a), Some(&team_a), injected, false, true), Step::Write),
        ((Some(&for_a), Some(&other), injected, true, true), Step::Delete),
        ((None, Some(&other), injected, true, true), Step::Delete),
        ((None, None, injected, true, true), Step::Nothing),
    ] {
        let (registry, labels, membership, wanted, minted) = case;
        assert_eq!(
            step(registry, labels, membership, wanted, minted),
            expected,
            "{case:?}"
        );
    }
}

/// A controller that knows this registry, with a credential, and these namespaces. It is never to ask for anything.
pub(super) fn controller(
    registry: AttachedRegistry,
    namespaces: &[(&str, Option<&str>)],
) -> SecretsController {
    let view = Arc::new(crate::view::View::default());
    let watches = Watches::new(Arc::clone(&view));
    let credential = crate::sync::held_credential::HeldCredential {
        docker_config: k8s_openapi::ByteString(Vec::new()),
        audience: None,
        refreshed_at: Timestamp::UNIX_EPOCH,
        expires_at: None,
        inputs: String::new(),
        fingerprint: Some(registry.fingerprint().to_owned()),
        namespaces: None,
    };
    watches
        .credentials
        .set(registry.name(), credential, None, Seen::new());
    view.set_registries(std::iter::once(registry).collect());
    for (namespace, label) in namespaces {
        let labels = label.map(|value| (crate::api::names::INJECT_LABEL.to_owned(), value.to_owned()));
        view.set_namespace(namespace, &labels.into_iter().collect());
    }
    let nobody = tower::service_fn(async |_: http::Request<kube::client::Body>| {
        Err::<http::Response<kube::client::Body>, _>("nothing is to be asked for")
    });
    SecretsController {
        client: Client::new(nobody, "own"),
        own_namespace: "own".to_owned(),
        watches: Arc::new(watches),
        scope: Scope::new(crate::policy::scope::Mode::ClusterWide, "own", []),
        chosen: Arc::default(),
        metrics: Arc::new(Metrics::new(|| 0)),
        tallies: Arc::default(),
        note: Arc::default(),
        resync_interval: Duration::from_mins(10),
        emptied_interval: EMPTIED_INTERVAL,
    }
}

#[tokio::test]
async fn a_refresh_costs_one_call_for_each_secret_and_no_other() {
    let namespaces = [
        ("needs", None),
        ("does-not", None),
        ("opted-out", Some("disabled")),
    ];
    let controller = controller(registry(&json!({})), &namespaces);
    let pair = |namespace: &str| Arc::new((namespace.to_owned(), "mine".to_owned()));
    let mut work = Work::default();
    work.wanted.insert(pair("needs"), Instant::now());
    work.wanted.insert(pair("opted-out"), Instant::now());
    controller.on_change(&mut work, &Change::Credential("mine".to_owned()));
    assert_eq!(work.queue, [pair("needs")]);

    let mut work = Work::default();
    controller.on_change(&mut work, &Change::Everything);
    assert!(work.due.is_some());
    controller.look_at_everything(&mut work).await;
    assert!(work.queue.is_empty());
    assert_eq!(
        work.sweep,
        [pair("opted-out")],
        "what must not be there is taken away when there is time"
    );
}

#[tokio::test]
async fn a_credential_of_another_spec_is_written_nowhere() {
    let eager = json!({"provision": "Eager"});
    let changed = |field: &str, value: serde_json::Value| {
        let mut spec = eager.clone();
        spec[field] = value;
        registry(&spec)
    };
    let controller = controller(registry(&eager), &[("apps", None)]);
    let pair = Arc::new(("apps".to_owned(), "mine".to_owned()));
    let step = || controller.step_of(&controller.watches.view.registries(), &pair, true);
    for (registry, expected) in [
        (registry(&eager), Step::Write),
        (
            changed("identity", json!({"workloadIdentity": {}})),
            Step::Nothing,
        ),
        (changed("loginServer", json!("other1.azurecr.io")), Step::Nothing),
        (
            changed(
                "credential",
                json!({"kind": "AccessToken", "repositories": ["app"]}),
            ),
            Step::Nothing,
        ),
        (
            changed("namespaces", json!({"matchLabels": {"team": "a"}})),
            Step::Delete,
        ),
        (
            changed("credential", json!({"refreshFraction": 0.2})),
            Step::Write,
        ),
    ] {
        controller
            .watches
            .view
            .set_registries(std::iter::once(registry).collect());
        assert_eq!(step(), expected);
    }
    // One that an earlier release minted does not record its spec.
    let of_earlier = HeldCredential {
        fingerprint: None,
        refreshed_at: Timestamp::MAX,
        ..(*controller.watches.credentials.of("mine").unwrap()).clone()
    };
    controller
        .watches
        .credentials
        .set("mine", of_earlier, None, Seen::new());
    assert_eq!(step(), Step::Nothing);
}

#[tokio::test]
async fn a_resync_deletes_no_secret_that_is_known_to_be_absent() {
    let controller = controller(registry(&json!({})), &[("opted-out", Some("disabled"))]);
    let pair = Arc::new(("opted-out".to_owned(), "mine".to_owned()));
    let mut work = Work::default();
    let asked = |work: &mut Work| {
        work.take_up_sweep(SWEPT_A_SECOND);
        let next = work.next();
        if let Some(pair) = &next {
            controller.finish(work, Arc::clone(pair), Step::Delete, Ok(Timestamp::UNIX_EPOCH));
        }
        next
    };
    controller.look_at_everything(&mut work).await;
    assert_eq!(
        asked(&mut work),
        Some(Arc::clone(&pair)),
        "nothing is known at first"
    );
    controller.look_at_everything(&mut work).await;
    assert_eq!(asked(&mut work), None);
    // A replica that has not heard of the label yet may write it for a Pod.
    work.wanted.insert(Arc::clone(&pair), Instant::now());
    controller.look_at_everything(&mut work).await;
    assert_eq!(asked(&mut work), Some(Arc::clone(&pair)));
    work.wanted.clear();
    let changed = |before| {
        Change::Namespace(NamespaceChange {
            name: "opted-out".to_owned(),
            before,
        })
    };
    controller.on_change(&mut work, &changed(None));
    assert_eq!(asked(&mut work), None, "a new namespace has nothing");
    controller.on_change(&mut work, &changed(Some(Labels::new())));
    assert_eq!(asked(&mut work), Some(Arc::clone(&pair)), "it might have had it");
    controller.watches.view.remove_namespace("opted-out");
    controller.look_at_everything(&mut work).await;
    assert!(!work.is_absent(&pair), "a namespace that is gone is forgotten");
}

#[tokio::test]
async fn an_unusable_registry_keeps_its_pull_secrets() {
    let controller = controller(registry(&json!({})), &[("apps", None)]);
    let mut work = Work::default();
    for (registries, expected) in [
        (
            AttachedRegistries::default().with_unusable(["mine".to_owned()].into()),
            None,
        ),
        (
            AttachedRegistries::default(),
            Some(Arc::new(("apps".to_owned(), "mine".to_owned()))),
        ),
    ] {
        controller.watches.view.set_registries(registries);
        controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
        assert_eq!(work.is_detached, expected.is_some());
        // It asks the API server, which is not there, to empty the credential, and deletes pull secrets all the same.
        detach::tests::detach(&controller, &mut work).await;
        assert_eq!(work.next(), expected);
    }
}

/// Fifty teams with a registry and twenty namespaces each.
fn fifty_teams() -> (SecretsController, Work) {
    let controller = controller(of_team(0, "OnDemand"), &[]);
    let registries: Vec<AttachedRegistry> = (0..50).map(|team| of_team(team, "OnDemand")).collect();
    for (team, registry) in registries.iter().enumerate() {
        for number in 0..20 {
            let labels = [("team".to_owned(), format!("t{team}"))].into();
            let name = format!("ns-{team}-{number}");
            controller.watches.view.set_namespace(&name, &labels);
        }
        let credential = HeldCredential {
            fingerprint: Some(registry.fingerprint().to_owned()),
            ..(*controller.watches.credentials.of("r0").unwrap()).clone()
        };
        let credentials = &controller.watches.credentials;
        credentials.set(registry.name(), credential, None, Seen::new());
    }
    controller
        .watches
        .view
        .set_registries(registries.into_iter().collect());
    (controller, Work::default())
}

fn of_team(team: usize, provision: &str) -> AttachedRegistry {
    selecting(team, &format!("t{team}"), provision)
}

fn selecting(number: usize, teams: &str, provision: &str) -> AttachedRegistry {
    let teams: Vec<&str> = teams.split(',').collect();
    let object = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": format!("r{number}")},
        "spec": {
            "loginServer": format!("registry{number}.azurecr.io"), "identity": {"managedIdentity": {}},
            "namespaces": {"matchExpressions": [{"key": "team", "operator": "In", "values": teams}]},
            "provision": provision,
        },
    });
    AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap()
}

/// Another spec of one registry; what the API server is asked for then: (writes, deletions).
fn edit(controller: &SecretsController, work: &mut Work, registry: AttachedRegistry) -> (usize, usize) {
    let view = &controller.watches.view;
    let name = registry.name().to_owned();
    let others = view.registries();
    let others = others.all().into_iter().filter(|other| other.name() != name);
    view.set_registries(others.cloned().chain([registry]).collect());
    controller.on_change(work, &Change::Registry(name));
    done(controller, work)
}

fn done(controller: &SecretsController, work: &mut Work) -> (usize, usize) {
    let (mut writes, mut deletions) = (0, 0);
    while let Some(pair) = work.next() {
        let registries = controller.watches.view.registries();
        let step = controller.step_of(&registries, &pair, work.is_wanted(&pair));
        match step {
            Step::Write => writes += 1,
            Step::Delete => deletions += 1,
            Step::Nothing => {}
        }
        controller.finish(work, pair, step, Ok(Timestamp::UNIX_EPOCH));
    }
    (writes, deletions)
}

#[tokio::test]
async fn an_edit_costs_calls_for_the_pairs_that_it_changes_alone() {
    let (controller, mut work) = fifty_teams();
    controller.look_at_everything(&mut work).await;
    assert_eq!(done(&controller, &mut work), (0, 0), "a new leader");
    let ask = |work: &mut Work, registry| edit(&controller, work, registry);
    assert_eq!(ask(&mut work, of_team(7, "OnDemand")), (0, 0), "nothing is new");
    assert_eq!(ask(&mut work, of_team(7, "Eager")), (20, 0));
    assert_eq!(ask(&mut work, selecting(7, "t8", "Eager")), (20, 20));
    let wider = |teams| selecting(7, teams, "Eager");
    assert_eq!(ask(&mut work, wider("t8,t9")), (20, 0), "one team more");
    assert_eq!(ask(&mut work, wider("t8")), (0, 20), "and one less");
    // The leader has read the identity under the previous selector.
    let held = controller.watches.credentials.of("r7").unwrap();
    let noted = |namespaces: &str| {
        let namespaces = Some(namespaces.to_owned());
        let noted = HeldCredential {
            namespaces,
            ..HeldCredential::clone(&held)
        };
        controller.watches.learn("r7", noted, None, Seen::new());
    };
    noted(wider("t8").namespaces_fingerprint());
    assert_eq!(ask(&mut work, wider("t8,t9")), (0, 0), "nobody yet");
    noted(wider("t8,t9").namespaces_fingerprint());
    controller.on_change(&mut work, &Change::Noted("r7".to_owned()));
    assert_eq!(done(&controller, &mut work), (20, 0), "one team more");
    controller.on_change(&mut work, &Change::Noted("r7".to_owned()));
    assert_eq!(done(&controller, &mut work), (0, 0), "all have it");
    assert_eq!(ask(&mut work, wider("t8")), (0, 20));
    noted(wider("t8").namespaces_fingerprint());
    assert_eq!(
        ask(&mut work, selecting(50, "t7", "OnDemand")),
        (0, 0),
        "one that is new"
    );
    controller.on_change(&mut work, &Change::Everything);
    controller.look_at_everything(&mut work).await;
    assert_eq!(work.queue.len(), 20, "it may hold what it should not");
    assert_eq!(
        done(&controller, &mut work),
        (20, 0),
        "what is there is applied again"
    );
}

#[tokio::test]
async fn a_new_leader_takes_away_slowly_what_may_be_there() {
    let (controller, mut work) = fifty_teams();
    controller.look_at_everything(&mut work).await;
    controller.look_at_everything(&mut work).await;
    assert_eq!(work.sweep.len(), 50 * 1_000 - 1_000, "each pair once");
    let (_, deletions) = edit(&controller, &mut work, of_team(7, "Eager"));
    assert_eq!(deletions, 0);
    let mut seconds = 0;
    while !work.sweep.is_empty() {
        work.take_up_sweep(SWEPT_A_SECOND);
        assert!(done(&controller, &mut work).1 <= SWEPT_A_SECOND);
        seconds += 1;
    }
    assert_eq!(seconds, 49_000 / SWEPT_A_SECOND);
    // Once, and not at each look.
    controller.look_at_everything(&mut work).await;
    assert!(work.sweep.is_empty());
    done(&controller, &mut work);
    for registry in ["r2", "r3", "r4"] {
        work.sweep(Arc::new(("ns-1-1".to_owned(), registry.to_owned())));
    }
    work.enqueue(Arc::new(("ns-1-1".to_owned(), "r1".to_owned())));
    work.take_up_sweep(SWEPT_A_SECOND);
    let next = work.next().map(|pair| pair.1.clone());
    assert_eq!(next.as_deref(), Some("r1"), "behind all else");
    assert_eq!(work.sweep.len(), 2, "but not for ever");
}

#[tokio::test]
async fn a_failure_waits_longer_each_time_until_its_cause_is_gone() {
    let controller = controller(registry(&json!({})), &[("apps", None)]);
    let pair = Arc::new(("apps".to_owned(), "mine".to_owned()));
    let mut work = Work::default();
    let refused = || Err(WriteError::Api("no".to_owned()));
    let mut waits = Vec::new();
    for _ in 0..10 {
        let now = Instant::now();
        controller.finish(&mut work, Arc::clone(&pair), Step::Write, refused());
        let last = work.retries.last_key_value().unwrap();
        waits.push(last.0.duration_since(now).as_secs());
    }
    // With jitter, which only shortens.
    assert!(waits[..7].is_sorted() && waits[0] <= 5, "{waits:?}");
    assert!(
        waits[7..].iter().all(|wait| (224..=300).contains(wait)),
        "{waits:?}"
    );
    controller.see(
        &mut work,
        Sighting::Needed(("apps".to_owned(), "mine".to_owned())),
    );
    assert_eq!(work.next().as_ref(), Some(&pair));
    work.done(&pair);
    controller.see(
        &mut work,
        Sighting::Needed(("apps".to_owned(), "mine".to_owned())),
    );
    assert!(work.queue.is_empty(), "a Pod that is seen again shortens no wait");
    controller.tally_all(&mut work);
    let tally = controller.tallies.of("mine");
    assert_eq!((tally.failed, tally.refusal.is_some()), (1, true));
    // Its Pod is gone.
    work.wanted.clear();
    controller.finish(
        &mut work,
        Arc::clone(&pair),
        Step::Nothing,
        Ok(Timestamp::UNIX_EPOCH),
    );
    controller.tally_all(&mut work);
    assert_eq!(controller.tallies.of("mine"), Tally::default());
    assert_eq!(work.failures.len(), 0);
}

#[tokio::test]
async fn served_counts_the_credential_in_use_alone() {
    let controller = controller(registry(&json!({})), &[("apps", None), ("other", None)]);
    let mut work = Work::default();
    for (namespace, version) in [("apps", Timestamp::UNIX_EPOCH), ("other", Timestamp::MIN)] {
        let pair = Arc::new((namespace.to_owned(), "mine".to_owned()));
        controller.finish(&mut work, pair, Step::Write, Ok(version));
    }
    controller.tally_all(&mut work);
    assert_eq!(controller.tallies.of("mine").served, 1);
}

#[test]
fn a_pair_that_changes_meanwhile_is_looked_at_again() {
    let pair = Arc::new(("apps".to_owned(), "mine".to_owned()));
    let mut work = Work::default();
    work.enqueue(pair.clone());
    work.enqueue(pair.clone());
    assert_eq!(work.next(), Some(pair.clone()));
    assert_eq!(work.next(), None, "queued once");
    work.enqueue(pair.clone());
    assert_eq!(work.next(), None, "not twice concurrently");
    work.done(&pair);
    assert_eq!(work.next(), Some(pair.clone()));
    work.done(&pair);
    assert!(work.next().is_none() && work.busy.is_empty());
}

#[tokio::test]
async fn a_pod_does_not_wait_for_the_pull_secrets_of_others() {
    let namespaces: Vec<String> = (0..1_000).map(|number| format!("ns-{number}")).collect();
    let listed: Vec<_> = namespaces.iter().map(|name| (name.as_str(), None)).collect();
    let controller = controller(registry(&json!({})), &listed);
    let mut work = Work::default();
    for namespace in &namespaces[..900] {
        work.wanted.insert(mine(namespace), Instant::now());
    }
    controller.on_change(&mut work, &Change::Credential("mine".to_owned()));
    assert_eq!(work.queue.len(), 900);
    // One that is not in the queue, and one that is: a Pod of each comes only now.
    let last = work.queue.back().cloned().unwrap();
    work.wanted.remove(&last);
    for pair in [mine("ns-950"), Arc::clone(&last)] {
        controller.see(&mut work, needed(&pair.0));
        assert_eq!(work.next(), Some(Arc::clone(&pair)), "before all others");
        work.done(&pair);
    }
    assert_eq!(done(&controller, &mut work), (899, 0), "each once");
}

#[tokio::test]
async fn a_resync_waits_for_all_other_work() {
    let eager = json!({"provision": "Eager"});
    let namespaces: Vec<String> = (0..1_000).map(|number| format!("ns-{number}")).collect();
    let listed: Vec<_> = namespaces.iter().map(|name| (name.as_str(), None)).collect();
    let controller = controller(registry(&eager), &listed);
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    assert_eq!(done(&controller, &mut work), (1_000, 0), "a new leader");

    controller.look_at_everything(&mut work).await;
    assert!(work.queue.is_empty() && work.queued.is_empty());
    work.enqueue(mine("ns-7"));
    assert_eq!(work.next(), Some(mine("ns-7")));
    // That of a pair which is worked on is not written twice concurrently.
    let mut written: Vec<SharedPair> = std::iter::from_fn(|| work.next()).collect();
    while !work.repairs.is_empty() {
        // It is not finished when everything is looked at again.
        controller.look_at_everything(&mut work).await;
        work.repairs.begin_second();
        let of_this_second: Vec<SharedPair> = std::iter::from_fn(|| work.next()).collect();
        assert!(of_this_second.len() <= CONCURRENCY);
        written.extend(of_this_second);
    }
    assert_eq!(written.len(), 999);
    assert!(work.repairs.take_overdue(), "they are found again");
    assert!(!work.repairs.take_overdue());
    written.sort();
    written.dedup();
    assert_eq!(written.len(), 999);
}

/// A namespace may have gone and come back, without its pull secrets.
#[tokio::test]
async fn missed_changes_have_all_written_before_other_work() {
    let controller = controller(registry(&json!({"provision": "Eager"})), &[("apps", None)]);
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    assert_eq!(done(&controller, &mut work), (1, 0));
    work.miss_changes();
    controller.look_at_everything(&mut work).await;
    assert_eq!(work.queue, [mine("apps")]);
    done(&controller, &mut work);
    controller.look_at_everything(&mut work).await;
    assert!(work.queue.is_empty() && !work.repairs.is_empty());
}

/// What is deleted when the pairs are swept again that are due, and all that is to be swept slowly.
fn swept_again(controller: &SecretsController, work: &mut Work) -> Vec<String> {
    controller.sweep_again(work);
    work.take_up_sweep(usize::MAX);
    let namespaces = work.queue.iter().map(|pair| pair.0.clone()).collect();
    let (writes, _) = done(controller, work);
    assert_eq!(writes, 0);
    namespaces
}

#[tokio::test(start_paused = true)]
async fn a_pair_that_lost_its_right_is_swept_again() {
    let eager = json!({"provision": "Eager"});
    let narrowed = json!({"provision": "Eager", "namespaces": {"matchLabels": {"team": "a"}}});
    for is_narrowed in [true, false] {
        let controller = controller(registry(&eager), &[("apps", None), ("other", Some("disabled"))]);
        let mut work = Work::default();
        controller.look_at_everything(&mut work).await;
        assert_eq!(done(&controller, &mut work), (1, 0));
        work.take_up_sweep(usize::MAX);
        assert_eq!(done(&controller, &mut work), (0, 1));
        tokio::time::advance(EMPTIED_INTERVAL).await;
        assert_eq!(
            swept_again(&controller, &mut work),
            ["other"],
            "who led before may have told"
        );

        if is_narrowed {
            assert_eq!(edit(&controller, &mut work, registry(&narrowed)), (0, 1));
        } else {
            let disabled = [(crate::api::names::INJECT_LABEL.to_owned(), "disabled".to_owned())];
            let change = controller.watches.view.set_namespace("apps", &disabled.into());
            controller.on_change(&mut work, &Change::Namespace(change.unwrap()));
            assert_eq!(done(&controller, &mut work), (0, 1));
        }
        tokio::time::advance(EMPTIED_INTERVAL / 2).await;
        controller.look_at_everything(&mut work).await;
        assert_eq!(swept_again(&controller, &mut work), [""; 0]);
        tokio::time::advance(EMPTIED_INTERVAL / 2).await;
        assert_eq!(swept_again(&controller, &mut work), ["apps"]);
        tokio::time::advance(EMPTIED_INTERVAL).await;
        assert_eq!(swept_again(&controller, &mut work), [""; 0], "twice, and no more");
    }
}

#[tokio::test]
async fn a_namespace_that_came_just_now_is_not_swept() {
    let controller = controller(registry(&json!({})), &[]);
    let mut changes = controller.watches.changes();
    let mut work = Work::default();
    let disabled = [(crate::api::names::INJECT_LABEL.to_owned(), "disabled".to_owned())];
    let change = controller.watches.view.set_namespace("new", &disabled.into());
    controller.watches.tell(Change::Namespace(change.unwrap()));
    // As when everything is looked at before the change has had its turn.
    controller.catch_up(&mut work, &mut changes);
    controller.look_at_everything(&mut work).await;
    assert!(work.sweep.is_empty() && work.queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn changes_that_were_missed_have_everything_swept_twice() {
    let controller = controller(registry(&json!({})), &[("apps", Some("disabled"))]);
    let mut changes = controller.watches.changes();
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    for _ in 0..3 {
        swept_again(&controller, &mut work);
        tokio::time::advance(EMPTIED_INTERVAL).await;
    }
    controller.look_at_everything(&mut work).await;
    assert!(work.sweep.is_empty(), "it is known to be absent");
    for _ in 0..2_000 {
        controller
            .watches
            .tell(Change::NamespaceGone("another".to_owned()));
    }
    controller.catch_up(&mut work, &mut changes);
    assert!(work.due.is_some());
    controller.look_at_everything(&mut work).await;
    assert_eq!(swept_again(&controller, &mut work), ["apps"]);
    tokio::time::advance(EMPTIED_INTERVAL).await;
    assert_eq!(swept_again(&controller, &mut work), ["apps"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_has_nothing_swept_again_that_it_may_have() {
    let controller = controller(registry(&json!({})), &[("apps", None)]);
    let mut work = Work::default();
    controller.see(&mut work, needed("apps"));
    // Of a registry that is detached, the steps of its end sweep what there is.
    controller
        .watches
        .view
        .set_registries(AttachedRegistries::default());
    work.wanted.clear();
    controller.see(&mut work, needed("apps"));
    tokio::time::advance(EMPTIED_INTERVAL).await;
    assert!(work.take_lost(now(), EMPTIED_INTERVAL).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pair_that_has_its_right_again_is_left_alone() {
    let eager = json!({"provision": "Eager"});
    let narrowed = json!({"provision": "Eager", "namespaces": {"matchLabels": {"team": "a"}}});
    let controller = controller(registry(&eager), &[("apps", None)]);
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    assert_eq!(done(&controller, &mut work), (1, 0));
    assert_eq!(edit(&controller, &mut work, registry(&narrowed)), (0, 1));
    assert_eq!(edit(&controller, &mut work, registry(&eager)), (1, 0));
    tokio::time::advance(EMPTIED_INTERVAL).await;
    assert_eq!(swept_again(&controller, &mut work), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_registry_without_a_credential_is_swept_once() {
    let narrowed = json!({"namespaces": {"matchLabels": {"team": "a"}}});
    let controller = controller(registry(&json!({})), &[("apps", None)]);
    controller.watches.credentials.remove("mine");
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    work.written.insert(mine("apps"), Ok(Timestamp::UNIX_EPOCH));
    assert_eq!(edit(&controller, &mut work, registry(&narrowed)), (0, 1));
    tokio::time::advance(EMPTIED_INTERVAL).await;
    assert_eq!(swept_again(&controller, &mut work), [""; 0]);
}

fn needed(namespace: &str) -> Sighting {
    Sighting::Needed((namespace.to_owned(), "mine".to_owned()))
}

fn mine(namespace: &str) -> SharedPair {
    Arc::new((namespace.to_owned(), "mine".to_owned()))
}

#[tokio::test]
async fn a_pod_has_its_pair_looked_at_until_it_is_written() {
    let controller = controller(registry(&json!({})), &[("apps", None)]);
    let mut work = Work::default();
    let see = |work: &mut Work| {
        controller.see(work, needed("apps"));
        work.next().map(|pair| work.done(&pair)).is_some()
    };
    assert!(see(&mut work), "the first Pod");
    assert!(see(&mut work), "it is not written yet");
    work.has_none(&mine("apps"), true);
    assert!(see(&mut work), "it is known to be absent");
    controller.finish(&mut work, mine("apps"), Step::Write, Ok(Timestamp::MIN));
    assert!(see(&mut work), "a former credential is");
    controller.finish(&mut work, mine("apps"), Step::Write, Ok(Timestamp::UNIX_EPOCH));
    assert!(!see(&mut work), "it is written");
    work.wanted.clear();
    assert!(see(&mut work), "nobody asked for it before");
    controller.watches.credentials.remove("mine");
    work.wanted.clear();
    assert!(!see(&mut work), "there is nothing to write");
}

#[tokio::test]
async fn pods_that_come_during_a_write_lead_to_no_other() {
    let controller = controller(registry(&json!({})), &[("apps", None), ("out", Some("disabled"))]);
    let mut work = Work::default();
    for (namespace, is_seen_again) in [("apps", false), ("out", true)] {
        controller.see(&mut work, needed(namespace));
        controller.see(&mut work, needed(namespace));
        let pair = work.next().unwrap();
        controller.see(&mut work, needed(namespace));
        work.done(&pair);
        let next = work.next().is_some();
        assert_eq!(
            next, is_seen_again,
            "{namespace}: what must not be there is deleted again"
        );
    }
}

#[tokio::test]
async fn a_pair_that_changes_during_its_work_is_worked_on_again() {
    let controller = controller(registry(&json!({})), &[("apps", None)]);
    let refused = || Err(WriteError::Api("no".to_owned()));
    for (step, result, again) in [
        (Step::Write, Ok(Timestamp::UNIX_EPOCH), true),
        // The pair is to be written by now.
        (Step::Delete, refused(), true),
        (Step::Write, refused(), false),
    ] {
        let mut work = Work::default();
        work.wanted.insert(mine("apps"), now());
        work.enqueue(mine("apps"));
        let pair = work.next().unwrap();
        work.enqueue(mine("apps"));
        controller.finish(&mut work, pair, step, result);
        assert_eq!(work.next().is_some(), again, "{step:?} {:?}", work.written);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pair_is_wanted_for_an_interval_beyond_the_scan() {
    let controller = controller(registry(&json!({})), &[("apps", None)]);
    let mut work = Work::default();
    let seen = now();
    controller.see(&mut work, needed("apps"));
    let scan = |begun| Sighting::ScanDone { begun };
    controller.see(&mut work, scan(seen + controller.resync_interval));
    assert!(work.is_wanted(&mine("apps")));
    controller.see(
        &mut work,
        scan(seen + controller.resync_interval + Duration::from_millis(1)),
    );
    assert!(!work.is_wanted(&mine("apps")));
}

#[tokio::test]
async fn a_look_at_everything_deletes_first_what_pods_ask_for() {
    let controller = controller(
        registry(&json!({})),
        &[
            ("apps", Some("disabled")),
            ("failing", Some("disabled")),
            ("other", Some("disabled")),
        ],
    );
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    work.take_up_sweep(usize::MAX);
    assert_eq!(done(&controller, &mut work), (0, 3));
    for namespace in ["failing", "other"] {
        work.may_be_present(&mine(namespace));
    }
    work.wanted.insert(mine("apps"), now());
    let refused = Err(WriteError::Api("no".to_owned()));
    controller.finish(&mut work, mine("failing"), Step::Delete, refused);
    for _ in 0..2 {
        controller.look_at_everything(&mut work).await;
        let mut queued = Vec::from(std::mem::take(&mut work.queue));
        queued.sort();
        work.queued.clear();
        assert_eq!(queued, [mine("apps")], "what failed waits for its turn");
        assert_eq!(work.sweep, [mine("other")]);
        work.has_none(&mine("apps"), true);
    }
}

#[tokio::test]
async fn a_look_at_everything_finds_changes_that_were_not_told() {
    let controller = controller(registry(&json!({})), &[("apps", None)]);
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    assert!(work.queue.is_empty() && work.sweep.is_empty());
    let narrowed = registry(&json!({"namespaces": {"matchLabels": {"team": "a"}}}));
    let view = &controller.watches.view;
    view.set_registries(std::iter::once(narrowed).collect());
    controller.look_at_everything(&mut work).await;
    assert_eq!(work.queue, [mine("apps")]);
    view.set_registries(AttachedRegistries::default());
    assert!(!work.is_detached);
    controller.look_at_everything(&mut work).await;
    assert!(work.is_detached);
}

#[tokio::test]
async fn a_registry_that_was_never_minted_is_swept_slowly() {
    let controller = controller(registry(&json!({})), &[("apps", None)]);
    controller.watches.credentials.remove("mine");
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    assert!(work.queue.is_empty());
    controller
        .watches
        .view
        .set_registries(AttachedRegistries::default());
    controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
    assert!(!work.is_detached);
    assert!(work.queue.is_empty());
    assert_eq!(work.sweep, [mine("apps")]);
}

/// Registries that come and go under ever new names, and never have a credential.
#[tokio::test]
async fn registries_without_credentials_fill_no_memory() {
    let controller = controller(registry(&json!({})), &[("apps", None), ("other", None)]);
    let mut work = Work::default();
    for number in 0..60_000 {
        controller.on_change(&mut work, &Change::Registry(format!("new{number}")));
        // Each is swept in two namespaces.
        assert_eq!(work.left_out.is_empty(), number < 25_000, "{number}");
    }
    assert_eq!(work.sweep.len(), 50_000);
    assert!(work.queue.is_empty());
}

#[tokio::test]
async fn a_registry_that_was_looked_at_is_swept_where_it_was_allowed() {
    let narrowed = registry(&json!({"namespaces": {"matchLabels": {"team": "a"}}}));
    let controller = controller(narrowed, &[("apps", None)]);
    controller.watches.credentials.remove("mine");
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    work.take_up_sweep(usize::MAX);
    done(&controller, &mut work);
    let registries = AttachedRegistries::default();
    controller.watches.view.set_registries(registries);
    controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
    assert!(work.queue.is_empty() && work.sweep.is_empty());
}

#[tokio::test]
async fn a_registry_that_is_new_here_is_swept_where_it_was_minted() {
    let narrowed = || registry(&json!({"namespaces": {"matchLabels": {"team": "a"}}}));
    for (is_minted, is_absent, expected) in [
        (true, false, vec![mine("apps")]),
        (true, true, vec![]),
        (false, false, vec![]),
    ] {
        let controller = controller(narrowed(), &[("apps", None)]);
        if !is_minted {
            controller.watches.credentials.remove("mine");
        }
        let mut work = Work::default();
        if is_absent {
            work.has_none(&mine("apps"), true);
        }
        controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
        assert_eq!(work.sweep, expected, "{is_minted} {is_absent}");
        assert!(work.queue.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_detached_registry_is_swept_by_its_own_steps_alone() {
    let narrowed = registry(&json!({"namespaces": {"matchLabels": {"team": "a"}}}));
    let controller = controller(registry(&json!({})), &[("apps", None)]);
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    assert_eq!(edit(&controller, &mut work, narrowed), (0, 1));
    controller
        .watches
        .view
        .set_registries(AttachedRegistries::default());
    controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
    tokio::time::advance(EMPTIED_INTERVAL).await;
    assert_eq!(swept_again(&controller, &mut work), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_loss_before_a_whole_interval_is_not_swept_again() {
    let mut work = Work::default();
    let (since, interval) = (now(), Duration::from_mins(6));
    work.may_have_lost(mine("apps"), since + interval, interval);
    assert!(work.take_lost(since + 2 * interval, interval).is_empty());
    work.may_have_lost(mine("apps"), since, interval);
    assert_eq!(work.take_lost(since + interval, interval), [mine("apps")]);
}

#[test]
fn a_pair_that_may_be_written_is_not_known_to_be_absent() {
    let mut work = Work::default();
    for namespace in ["apps", "other"] {
        work.has_none(&mine(namespace), true);
    }
    work.may_be_present(&mine("apps"));
    assert!(!work.is_absent(&mine("apps")) && work.is_absent(&mine("other")));
}

#[tokio::test(start_paused = true)]
async fn absent_pairs_are_forgotten_with_the_registry_or_with_all() {
    let mut work = Work::default();
    work.has_none(&mine("apps"), true);
    work.forget_absent("other");
    assert!(work.is_known_absent(&mine("apps")));
    work.forget_absent("mine");
    assert!(!work.is_known_absent(&mine("apps")));
    work.has_none(&mine("apps"), true);
    tokio::time::advance(EMPTIED_INTERVAL).await;
    work.miss_changes();
    assert!(!work.is_known_absent(&mine("apps")));
    // What was missed meanwhile may be the loss of a right.
    work.may_have_lost(mine("apps"), now(), EMPTIED_INTERVAL);
    let due = now() + EMPTIED_INTERVAL;
    assert_eq!(work.take_lost(due, EMPTIED_INTERVAL), [mine("apps")]);
}

#[tokio::test]
async fn a_pair_is_under_way_from_its_queue_to_the_end_of_its_wait() {
    let mut work = Work::default();
    let pair = mine("apps");
    assert!(!work.is_under_way(&pair));
    work.enqueue(pair.clone());
    assert!(work.is_under_way(&pair), "it is queued");
    work.next();
    assert!(work.is_under_way(&pair), "it is worked on");
    work.done(&pair);
    assert!(!work.is_under_way(&pair));
    work.failed(&pair, false, &WriteError::Api("no".to_owned()), now());
    assert!(work.is_under_way(&pair), "it waits");
}

#[tokio::test]
async fn a_tally_has_conflicts_and_the_first_refusal() {
    let namespaces = ["a", "b", "c", "d", "gone"].map(|name| (name, None));
    let controller = controller(registry(&json!({})), &namespaces);
    let mut work = Work::default();
    let api = |text: &str| Err(WriteError::Api(text.to_owned()));
    for (namespace, result) in [
        ("a", Err(WriteError::Foreign)),
        ("b", api("no")),
        ("c", api("never")),
        ("d", Ok(Timestamp::UNIX_EPOCH)),
        ("gone", Ok(Timestamp::UNIX_EPOCH)),
    ] {
        controller.finish(&mut work, mine(namespace), Step::Write, result);
    }
    controller.watches.view.remove_namespace("gone");
    controller.on_change(&mut work, &Change::NamespaceGone("gone".to_owned()));
    // A write that ends after its namespace is gone counts for nothing.
    controller.finish(&mut work, mine("gone"), Step::Write, Ok(Timestamp::UNIX_EPOCH));
    controller.tally_all(&mut work);
    let is_measured = || {
        controller
            .metrics
            .encode()
            .unwrap()
            .contains("pullpass_namespaces{")
    };
    assert!(!is_measured(), "a leader that begins has not counted");
    work.settled.insert("mine".to_owned());
    (work.is_begun, work.is_scanned) = (true, true);
    controller.tally_all(&mut work);
    assert!(is_measured());
    let expected = Tally {
        served: 1,
        failed: 3,
        conflicts: Arc::new(["a".to_owned()].into()),
        refusal: Some(("b".to_owned(), "the API server did not write it: no".to_owned())),
        is_settled: true,
    };
    assert_eq!(controller.tallies.of("mine"), expected);
    let text = || controller.metrics.encode().unwrap();
    let series = |state: &str, count: u8| {
        format!("pullpass_namespaces{{registry=\"mine\",state=\"{state}\"}} {count}\n")
    };
    assert!(text().contains(&series("served", 1)) && text().contains(&series("failed", 3)));
    controller
        .watches
        .view
        .set_registries(AttachedRegistries::default());
    controller.tally_all(&mut work);
    assert!(!text().contains("\"mine\""), "{}", text());
}

#[tokio::test(start_paused = true)]
async fn a_tally_is_settled_once_the_work_of_the_start_is_done() {
    let controller = controller(registry(&json!({})), &[("apps", None), ("later", None)]);
    let is_settled = |work: &mut Work| {
        controller.tally_all(work);
        controller.tallies.of("mine").is_settled
    };
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    assert!(!is_settled(&mut work), "the Pods are not looked at yet");
    controller.see(&mut work, needed("apps"));
    controller.see(&mut work, Sighting::ScanDone { begun: now() });
    assert!(!is_settled(&mut work), "a pull secret is to be written");
    assert_eq!(done(&controller, &mut work), (1, 0));
    // With a short interval there is always something that is written again.
    controller.look_at_everything(&mut work).await;
    assert!(is_settled(&mut work));
    controller.see(&mut work, needed("later"));
    assert!(is_settled(&mut work), "what came since is counted as it is");
    // Neither Pods that can't be looked at withhold it for ever, nor work that does not end.
    let mut work = Work::default();
    work.enqueue(mine("apps"));
    tokio::time::advance(Duration::from_mins(4)).await;
    assert!(!is_settled(&mut work));
    tokio::time::advance(Duration::from_mins(1)).await;
    assert!(is_settled(&mut work));
}

#[test]
fn a_tally_that_changes_is_told_once() {
    let tallies = Tallies::default();
    let mut changes = tallies.changes();
    let mut told = |served: i64| {
        let tally = Tally {
            served,
            ..Tally::default()
        };
        tallies.set("mine", tally.clone());
        assert_eq!(tallies.of("mine"), tally);
        changes.try_recv().ok()
    };
    assert_eq!(told(1).as_deref(), Some("mine"));
    assert_eq!(told(1), None);
    assert_eq!(told(2).as_deref(), Some("mine"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_is_tried_by_its_backoff_alone() {
    let mut controller = controller(registry(&json!({})), &[("apps", None)]);
    let tries = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&tries);
    let server = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        // The rest are Events about it.
        if request.uri().path().contains("/secrets/") {
            log.lock().unwrap().push(now());
        }
        let status = json!({"kind": "Status", "status": "Failure", "code": 403, "message": "no", "reason": "Forbidden"});
        let body = kube::client::Body::from(status.to_string().into_bytes());
        let response = http::Response::builder().status(403).body(body).unwrap();
        std::future::ready(Ok::<_, std::io::Error>(response))
    });
    controller.client = Client::new(server, "own");
    let (sightings, received) = mpsc::channel(8);
    let begin = now();
    // Each of these is a reason to look at the pair.
    let happens = async {
        for minute in 0_u64..360 {
            sightings.send(needed("apps")).await.unwrap();
            let refreshed_at = Timestamp::from_second(minute.try_into().unwrap()).unwrap();
            let credential = HeldCredential {
                refreshed_at,
                ..(*controller.watches.credentials.of("mine").unwrap()).clone()
            };
            controller.watches.learn("mine", credential, None, Seen::new());
            tokio::time::sleep(Duration::from_mins(1)).await;
        }
    };
    tokio::select! {
        () = controller.run(received) => panic!("it ended"),
        () = happens => {}
    }
    assert_eq!(now().duration_since(begin).as_secs(), 6 * 3600);
    let tries = tries.lock().unwrap();
    // After 5, 10, 20, … 160 seconds, and then every five minutes, each up to a quarter sooner.
    assert!((70..=105).contains(&tries.len()), "{}", tries.len());
    let waits = tries
        .windows(2)
        .map(|pair| pair[1].duration_since(pair[0]).as_secs());
    let waits: Vec<u64> = waits.collect();
    assert!(waits[8..].iter().all(|wait| *wait >= 225), "{waits:?}");
}

#[tokio::test]
async fn a_secret_out_of_scope_is_deleted_once_between_resyncs() {
    let controller = controller(registry(&json!({})), &[("apps", Some("disabled"))]);
    let mut work = Work::default();
    let mut deletions = 0;
    for _ in 0..100 {
        controller.see(&mut work, needed("apps"));
        deletions += done(&controller, &mut work).1;
    }
    assert_eq!(deletions, 1);
    controller.look_at_everything(&mut work).await;
    assert_eq!(done(&controller, &mut work).1, 1, "a replica may have written it");
}

#[tokio::test]
async fn a_domain_that_is_given_up_leaves_pull_secrets_nobody_needs() {
    let with = |domains: &[&str]| registry(&json!({"customDomains": domains}));
    let both = ["a.contoso.com", "b.contoso.com"];
    let controller = controller(with(&both), &[("apps", None), ("never", None)]);
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    controller.see(&mut work, needed("apps"));
    assert_eq!(done(&controller, &mut work), (1, 0));
    work.wanted.clear();
    for (domains, is_rewritten) in [(&both[..1], true), (&both[..], false), (&[], true)] {
        controller
            .watches
            .view
            .set_registries(std::iter::once(with(domains)).collect());
        controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
        let mut written = Vec::new();
        while let Some(pair) = work.next() {
            let needed = work.take_need(&pair);
            let (pair, step, _) = controller.work_on(pair, needed).await;
            written.push((pair.0.clone(), step));
            work.done(&pair);
        }
        let expected = is_rewritten.then(|| ("apps".to_owned(), Step::Write));
        assert_eq!(written, Vec::from_iter(expected), "{domains:?}");
        assert!(!work.take_need(&mine("apps")), "once");
    }
}

/// A controller that wrote the pull secret of a registry with a custom domain, which nothing needs now.
async fn beside_a_domain() -> (SecretsController, Work) {
    let with_domain = registry(&json!({"customDomains": ["a.contoso.com"]}));
    let controller = controller(with_domain, &[("apps", None)]);
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    controller.see(&mut work, needed("apps"));
    assert_eq!(done(&controller, &mut work), (1, 0));
    work.wanted.clear();
    (controller, work)
}

#[tokio::test(start_paused = true)]
async fn a_rewrite_that_fails_is_tried_again() {
    let (controller, mut work) = beside_a_domain().await;
    let view = &controller.watches.view;
    view.set_registries(std::iter::once(registry(&json!({}))).collect());
    controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
    for _ in 0..2 {
        let pair = work.next().unwrap();
        assert!(work.take_need(&pair));
        controller.finish(&mut work, pair, Step::Write, Err(WriteError::Timeout));
        assert_eq!(work.next(), None, "it waits for its turn");
        tokio::time::advance(Duration::from_mins(10)).await;
        work.take_up_retries(now());
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_rewrite_that_fails_is_tried_again_for_nobody() {
    let (controller, mut work) = beside_a_domain().await;
    let is_to_be_written = |work: &mut Work, result| {
        controller.finish(work, mine("apps"), Step::Write, result);
        work.take_need(&mine("apps"))
    };
    // The Pod went while its pull secret was written.
    assert!(!is_to_be_written(&mut work, Err(WriteError::Timeout)));
    work.rewrite(mine("apps"));
    let pair = work.next().unwrap();
    assert!(work.take_need(&pair));
    assert!(!is_to_be_written(&mut work, Ok(Timestamp::UNIX_EPOCH)));
}

#[tokio::test]
async fn a_right_that_comes_back_during_a_deletion_is_kept() {
    let (controller, mut work) = fifty_teams();
    controller.look_at_everything(&mut work).await;
    let ask = |work: &mut Work, registry| edit(&controller, work, registry);
    assert_eq!(ask(&mut work, selecting(7, "t7", "Eager")), (20, 0));
    let only = |work: &mut Work, team| {
        let view = &controller.watches.view;
        let others = view.registries();
        let others = others.all().into_iter().filter(|other| other.name() != "r7");
        view.set_registries(others.cloned().chain([selecting(7, team, "Eager")]).collect());
        controller.on_change(work, &Change::Registry("r7".to_owned()));
    };
    only(&mut work, "nobody");
    let pair = work.next().unwrap();
    only(&mut work, "t7");
    // The API server deletes it just now.
    controller.finish(
        &mut work,
        Arc::clone(&pair),
        Step::Delete,
        Ok(Timestamp::UNIX_EPOCH),
    );
    assert!(work.queued.contains(&pair), "it is written again");
}

#[tokio::test]
async fn a_rewrite_that_fails_before_an_edit_waits_for_the_note() {
    let (controller, mut work) = beside_a_domain().await;
    let watches = &controller.watches;
    let without = registry(&json!({}));
    watches.view.set_registries(std::iter::once(without).collect());
    controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
    let pair = work.next().unwrap();
    assert!(work.take_need(&pair));
    let held = watches.credentials.of("mine").unwrap();
    let withheld = HeldCredential {
        namespaces: Some(String::new()),
        ..HeldCredential::clone(&held)
    };
    watches.learn("mine", withheld, None, Seen::new());
    controller.finish(
        &mut work,
        Arc::clone(&pair),
        Step::Write,
        Err(WriteError::Timeout),
    );
    assert!(work.is_to_be_rewritten(&pair));
    watches.learn("mine", HeldCredential::clone(&held), None, Seen::new());
    controller.finish(
        &mut work,
        Arc::clone(&pair),
        Step::Nothing,
        Ok(Timestamp::UNIX_EPOCH),
    );
    controller.look_at_everything(&mut work).await;
    assert!(work.queued.contains(&pair), "also where the note was missed");
}

#[tokio::test]
async fn a_rewrite_waits_for_a_credential_that_may_be_written() {
    let (controller, mut work) = beside_a_domain().await;
    let watches = &controller.watches;
    let held = watches.credentials.of("mine").unwrap();
    let noted = |namespaces: &str| {
        let namespaces = Some(namespaces.to_owned());
        let noted = HeldCredential {
            namespaces,
            ..HeldCredential::clone(&held)
        };
        watches.learn("mine", noted, None, Seen::new());
    };
    noted("");
    let without = registry(&json!({}));
    watches
        .view
        .set_registries(std::iter::once(without.clone()).collect());
    controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
    let pair = work.next().unwrap();
    let needed = work.take_need(&pair);
    let (pair, step, result) = controller.work_on(pair, needed).await;
    assert_eq!((needed, step), (true, Step::Nothing));
    controller.finish(&mut work, pair, step, result);
    assert_eq!(work.next(), None, "there is nothing to write");
    noted(without.namespaces_fingerprint());
    controller.on_change(&mut work, &Change::Noted("mine".to_owned()));
    let pair = work.next().unwrap();
    assert!(work.take_need(&pair));
    assert_eq!(controller.work_on(pair, true).await.1, Step::Write);
}

#[tokio::test]
async fn a_domain_that_another_registry_takes_leaves_pull_secrets() {
    let (controller, mut work) = beside_a_domain().await;
    let first = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "first"},
        "spec": {
            "loginServer": "firstregistry.azurecr.io",
            "identity": {"managedIdentity": {}},
            "customDomains": ["a.contoso.com"],
        },
    });
    let first = AttachedRegistry::parse(&serde_json::from_value(first).unwrap()).unwrap();
    let mine = registry(&json!({"customDomains": ["a.contoso.com"]}));
    controller
        .watches
        .view
        .set_registries([mine, first].into_iter().collect());
    controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
    let pair = work.next().unwrap();
    assert!(work.take_need(&pair));
}

#[tokio::test(start_paused = true)]
async fn a_secret_named_in_vain_is_deleted_once_more() {
    let controller = controller(registry(&json!({})), &[("apps", Some("disabled")), ("in", None)]);
    let mut work = Work::default();
    for namespace in ["apps", "in"] {
        controller.see(&mut work, needed(namespace));
    }
    let seen = now();
    assert_eq!(done(&controller, &mut work), (1, 1));
    assert_eq!(swept_again(&controller, &mut work), [""; 0]);
    tokio::time::advance(EMPTIED_INTERVAL).await;
    let again = swept_again(&controller, &mut work);
    assert_eq!(
        again,
        ["apps"],
        "a replica that is behind may have written it since"
    );
    // One under other rules writes it for the last of such Pods, whose predecessors were seen before.
    let begun = seen + controller.resync_interval + Duration::from_secs(1);
    controller.see(&mut work, Sighting::ScanDone { begun });
    assert!(!work.is_wanted(&mine("apps")));
    for deleted in [&["apps"][..], &[]] {
        tokio::time::advance(EMPTIED_INTERVAL).await;
        assert_eq!(swept_again(&controller, &mut work), deleted);
    }
}

#[tokio::test]
async fn a_registry_that_goes_is_swept_first_where_it_may_have_been() {
    let narrowed = || registry(&json!({"namespaces": {"matchLabels": {"team": "a"}}}));
    let anonymous = || registry(&json!({"identity": {"anonymous": {}}}));
    for now in [None, Some(anonymous())] {
        let controller = controller(narrowed(), &[("other", None)]);
        let team_a = [("team".to_owned(), "a".to_owned())].into();
        controller.watches.view.set_namespace("apps", &team_a);
        controller.watches.credentials.remove("mine");
        let mut work = Work::default();
        controller.look_at_everything(&mut work).await;
        work.take_up_sweep(usize::MAX);
        done(&controller, &mut work);
        work.wanted.insert(mine("apps"), super::now());
        controller.watches.view.set_registries(now.into_iter().collect());
        controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
        assert_eq!(work.queue, [mine("apps")]);
        assert!(work.sweep.is_empty());
    }
    // What it was before is not known here, but that it was written is.
    let controller = controller(anonymous(), &[("apps", None), ("asked", None), ("other", None)]);
    controller.watches.credentials.remove("mine");
    let mut work = Work::default();
    work.written.insert(mine("apps"), Ok(Timestamp::UNIX_EPOCH));
    work.wanted.insert(mine("asked"), now());
    controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
    let mut queued = Vec::from(work.queue);
    queued.sort();
    assert_eq!(queued, [mine("apps"), mine("asked")]);
    assert!(work.sweep.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pair_just_written_on_demand_is_not_written_again() {
    let controller = controller(registry(&json!({})), &[("apps", None), ("out", Some("disabled"))]);
    let mut work = Work::default();
    let recent = &controller.watches.recent_writes;
    let wrote = |namespace: &str, version| {
        let pair = (namespace.to_owned(), "mine".to_owned());
        recent.add(&pair, version, None, now());
    };
    let mut see = |namespace: &str| {
        controller.see(&mut work, needed(namespace));
        controller.tally_all(&mut work);
        (done(&controller, &mut work), controller.tallies.of("mine").served)
    };
    wrote("apps", Timestamp::UNIX_EPOCH);
    assert_eq!(see("apps"), ((0, 0), 1), "it counts as served");
    assert_eq!(see("apps"), ((0, 0), 1));
    // A right that was lost meanwhile is another matter.
    wrote("out", Timestamp::UNIX_EPOCH);
    assert_eq!(see("out"), ((0, 1), 1));
    // Each credential is written.
    controller.on_change(&mut work, &Change::Credential("mine".to_owned()));
    assert_eq!(done(&controller, &mut work), (1, 0));
    let mut work = Work::default();
    wrote("apps", Timestamp::MIN);
    controller.see(&mut work, needed("apps"));
    assert_eq!(done(&controller, &mut work), (1, 0), "a former version");
    let mut work = Work::default();
    wrote("apps", Timestamp::UNIX_EPOCH);
    tokio::time::advance(Duration::from_secs(5)).await;
    controller.see(&mut work, needed("apps"));
    assert_eq!(
        done(&controller, &mut work),
        (1, 0),
        "somebody may have deleted it since"
    );
}

#[test]
fn the_newest_failure_of_a_pair_says_when_it_is_tried_again() {
    let (mut work, begin) = (Work::default(), Instant::now());
    let refused = WriteError::Api("no".to_owned());
    work.failed(&mine("apps"), false, &refused, begin);
    work.failed(&mine("apps"), false, &refused, begin);
    work.failed(&mine("written"), false, &refused, begin);
    work.forget_failure(&mine("written"));
    let newest = work.failures.retries_at(&mine("apps")).unwrap();
    work.take_up_retries(newest.checked_sub(Duration::from_millis(1)).unwrap());
    assert!(work.queue.is_empty(), "{:?}", work.queue);
    work.take_up_retries(newest + Duration::from_millis(1));
    assert_eq!(work.queue, [mine("apps")]);
    assert!(work.retries.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refused_deletion_waits_whatever_is_edited() {
    let team = |team: &str| registry(&json!({"namespaces": {"matchLabels": {"team": team}}}));
    let controller = controller(team("a"), &[]);
    let view = &controller.watches.view;
    let of_team = |team: &str| [("team".to_owned(), team.to_owned())].into();
    view.set_namespace("apps", &of_team("a"));
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    work.written.insert(mine("apps"), Ok(Timestamp::UNIX_EPOCH));
    // A write that was refused long ago does not count for the deletion.
    let refused = WriteError::Api("no".to_owned());
    for _ in 0..20 {
        work.failed(&mine("apps"), false, &refused, now());
    }
    let mut tries = Vec::new();
    let begin = now();
    for second in 0..60 {
        let edited = ["b", "a"][second % 2];
        let change = view.set_namespace("apps", &of_team(edited)).unwrap();
        controller.on_change(&mut work, &Change::Namespace(change));
        view.set_registries(std::iter::once(team("c")).collect());
        controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
        controller.look_at_everything(&mut work).await;
        view.set_registries(std::iter::once(team("a")).collect());
        controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
        view.set_namespace("apps", &of_team("b"));
        work.take_up_retries(now());
        work.take_up_sweep(usize::MAX);
        while let Some(pair) = work.next() {
            tries.push(now().duration_since(begin).as_secs());
            controller.finish(&mut work, pair, Step::Delete, Err(refused.clone()));
        }
        view.set_namespace("apps", &of_team(edited));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    // After 5, 10, 20 and 40 seconds, or up to a quarter sooner.
    assert!((4..=5).contains(&tries.len()) && tries[0] == 0, "{tries:?}");
}

#[tokio::test(start_paused = true)]
async fn a_detached_registry_has_no_other_ones_deletions_tried() {
    let mut work = Work::default();
    let of_other = Arc::new(("apps".to_owned(), "other".to_owned()));
    let refused = WriteError::Api("no".to_owned());
    for pair in [mine("apps"), Arc::clone(&of_other)] {
        work.failed(&pair, true, &refused, now());
    }
    work.forget_failures("mine");
    work.enqueue_deletion(of_other);
    work.enqueue_deletion(mine("apps"));
    assert_eq!(work.queue, [mine("apps")]);
    // A write that fails now is no deletion.
    work.failed(&mine("apps"), false, &refused, now());
    work.next();
    work.done(&mine("apps"));
    work.enqueue_deletion(mine("apps"));
    assert_eq!(work.queue, [mine("apps")]);
}

#[tokio::test(start_paused = true)]
async fn registries_that_came_and_went_are_forgotten() {
    let controller = controller(registry(&json!({})), &[]);
    let mut work = Work::default();
    for number in 0..100 {
        let attached = std::iter::once(of_team(number, "OnDemand")).collect();
        controller.watches.view.set_registries(attached);
        controller.tally_all(&mut work);
        tokio::time::advance(Duration::from_mins(1)).await;
    }
    // In the last ten minutes, the present one included.
    assert_eq!(work.seen.len(), 10);
    let tallies = format!("{:?}", controller.tallies);
    assert_eq!(tallies.matches("refusal").count(), 1, "{tallies}");
}

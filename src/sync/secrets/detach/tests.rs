use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::policy::attached::AttachedRegistries;
use crate::sync::held_credential::HeldCredential;
use crate::sync::secrets::detach::namespaces::{Difference, Name};
use crate::sync::secrets::step::Step;
use crate::sync::secrets::tests::{controller, registry};
use crate::sync::secrets::{CONCURRENCY, WriteError};
use crate::sync::stored::EMPTIED_INTERVAL;
use crate::sync::watches::Change;

const MINUTE: Duration = Duration::from_mins(1);

/// The API server of one Secret, `credential-mine`.
#[derive(Clone, Default)]
struct Server {
    held: Arc<Mutex<Option<Value>>>,
    /// How often it was emptied or marked.
    patches: Arc<AtomicUsize>,
    /// Another write always comes between.
    conflicts: Arc<AtomicBool>,
}

impl Server {
    fn secret(&self) -> Option<Value> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stored(&self) -> Option<Stored> {
        let secret = self.secret()?;
        Some(Stored::parse(&serde_json::from_value(secret).unwrap()))
    }

    fn put(&self, mut secret: Value) {
        let mut held = self.held.lock().unwrap();
        let version = held
            .as_ref()
            .and_then(|held| held["metadata"]["resourceVersion"].as_str());
        let version = version.map_or(0, |version| version.parse::<u32>().unwrap()) + 1;
        secret["metadata"]["resourceVersion"] = json!(version.to_string());
        secret["metadata"]["uid"] = json!("uid");
        *held = Some(secret);
    }

    /// Answers; a write in place of another version is a conflict.
    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let refused = |code: u16| {
            let reason = if code == 404 { "NotFound" } else { "Conflict" };
            let status = json!({"status": "Failure", "message": "no", "code": code, "reason": reason});
            Ok(Response::builder()
                .status(code)
                .body(Body::from(status.to_string().into_bytes()))
                .unwrap())
        };
        let Some(held) = self.secret() else {
            return refused(404);
        };
        let expected = match parts.method {
            Method::PATCH => &body["metadata"]["resourceVersion"],
            Method::DELETE => &body["preconditions"]["resourceVersion"],
            _ => &held["metadata"]["resourceVersion"],
        };
        let is_write = parts.method != Method::GET;
        if *expected != held["metadata"]["resourceVersion"]
            || (is_write && self.conflicts.load(Ordering::Relaxed))
        {
            return refused(409);
        }
        match parts.method {
            Method::PATCH => {
                self.patches.fetch_add(1, Ordering::Relaxed);
                self.put(body);
            }
            Method::DELETE => *self.held.lock().unwrap() = None,
            _ => {}
        }
        let answer = self.secret().unwrap_or(held);
        Ok(Response::new(Body::from(answer.to_string().into_bytes())))
    }
}

/// A leader that knows of a registry with a pull secret in a namespace; the registry was just detached.
async fn detached(server: &Server) -> (SecretsController, Work) {
    let mut controller = controller(registry(&json!({})), &[("apps", None)]);
    server.put(
        controller
            .watches
            .credentials
            .of("mine")
            .unwrap()
            .manifest("mine", "own"),
    );
    let answering = server.clone();
    let service = tower::service_fn(move |request| answering.clone().answer(request));
    controller.client = Client::new(service, "own");
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    controller
        .watches
        .view
        .set_registries(AttachedRegistries::default());
    controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
    assert!(work.is_detached);
    (controller, work)
}

/// Goes on with what is detached, and makes the writes of that.
pub(in crate::sync::secrets) async fn detach(controller: &SecretsController, work: &mut Work) {
    for write in controller.detach(work, CONCURRENCY) {
        let (write, written) = controller.write_credential(write).await;
        controller.finish_write(work, write, written);
    }
}

/// Deletes the pull secrets that are to be; says where that was.
fn deleted(controller: &SecretsController, work: &mut Work) -> Vec<String> {
    let mut namespaces = Vec::new();
    work.take_up_sweep(usize::MAX);
    while let Some(pair) = work.next() {
        let registries = controller.watches.view.registries();
        assert_eq!(controller.step_of(&registries, &pair, false), Step::Delete);
        namespaces.push(pair.0.clone());
        controller.finish(work, pair, Step::Delete, Ok(Timestamp::UNIX_EPOCH));
    }
    namespaces
}

fn is_swept(stored: Option<&Stored>) -> Option<bool> {
    match stored {
        Some(Stored::Emptied(emptied)) => Some(emptied.is_swept),
        _ => None,
    }
}

#[test]
fn every_row_of_what_is_done_about_a_detached_registry() {
    let emptied = |at, is_swept| Stored::Emptied(Emptied { at, is_swept });
    let long_ago = Timestamp::UNIX_EPOCH;
    let (first, second) = (Some(Round::First), Some(Round::Second));
    for (stored, kept_for, cleared, expected) in [
        (Stored::Unreadable, MINUTE * 60, second, DetachStep::Empty),
        (
            emptied(long_ago, false),
            Duration::ZERO,
            None,
            DetachStep::Sweep(Round::First),
        ),
        (
            emptied(long_ago, false),
            MINUTE * 60,
            second,
            DetachStep::Sweep(Round::First),
        ),
        (
            emptied(long_ago, false),
            Duration::ZERO,
            first,
            DetachStep::MarkSwept,
        ),
        // Whatever a wall clock said when it was written.
        (emptied(long_ago, true), MINUTE * 5, second, DetachStep::Keep),
        (
            emptied(Timestamp::MAX, true),
            MINUTE * 5,
            second,
            DetachStep::Keep,
        ),
        (
            emptied(Timestamp::MAX, true),
            MINUTE * 6,
            first,
            DetachStep::Sweep(Round::Second),
        ),
        (
            emptied(long_ago, true),
            MINUTE * 6,
            None,
            DetachStep::Sweep(Round::Second),
        ),
        (emptied(long_ago, true), MINUTE * 6, second, DetachStep::Delete),
    ] {
        let step = next_step(&stored, kept_for, EMPTIED_INTERVAL, |round| {
            cleared == Some(round)
        });
        assert_eq!(step, expected, "{stored:?} {kept_for:?} {cleared:?}");
    }
}

#[tokio::test]
async fn a_credential_is_emptied_first_and_deleted_last() {
    let server = Server::default();
    let (mut controller, mut work) = detached(&server).await;
    detach(&controller, &mut work).await;
    assert_eq!(is_swept(server.stored().as_ref()), Some(false));
    let text = server.secret().unwrap().to_string();
    assert!(
        !text.contains("refreshed-at") && text.contains("pullpass.dev/registry"),
        "{text}"
    );
    assert_eq!(deleted(&controller, &mut work), ["apps"]);
    detach(&controller, &mut work).await;
    assert_eq!(is_swept(server.stored().as_ref()), Some(true));

    // It is kept, and costs no call.
    let kept = server.secret();
    for _ in 0..3 {
        detach(&controller, &mut work).await;
        controller.look_at_everything(&mut work).await;
        assert_eq!(deleted(&controller, &mut work), [""; 0]);
    }
    assert_eq!(server.secret(), kept);

    // No watch can be behind any more; a namespace that came meanwhile is swept as well.
    controller.emptied_interval = Duration::ZERO;
    controller.watches.view.set_namespace("new", &[].into());
    detach(&controller, &mut work).await;
    let mut swept = deleted(&controller, &mut work);
    swept.sort();
    assert_eq!(swept, ["apps", "new"]);
    assert_eq!(server.secret(), kept, "it goes last");
    detach(&controller, &mut work).await;
    assert_eq!(server.secret(), None);
    // The watch is yet to bring that.
    detach(&controller, &mut work).await;
    assert_eq!(deleted(&controller, &mut work), [""; 0]);
    controller.watches.forget("mine");
    assert_eq!(deleted(&controller, &mut work), [""; 0]);
    detach(&controller, &mut work).await;
    assert!(work.detached.is_empty());
}

#[tokio::test]
async fn a_new_leader_goes_on_where_the_last_one_stopped() {
    let server = Server::default();
    let (controller, mut work) = detached(&server).await;
    detach(&controller, &mut work).await;
    // The first sweep is not done: it is begun again.
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    detach(&controller, &mut work).await;
    assert_eq!(deleted(&controller, &mut work), ["apps"]);
    detach(&controller, &mut work).await;
    // It is done: it is not.
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    detach(&controller, &mut work).await;
    assert_eq!(deleted(&controller, &mut work), [""; 0]);
    assert_eq!(is_swept(server.stored().as_ref()), Some(true));
}

#[tokio::test]
async fn a_registry_attached_again_keeps_its_new_credential() {
    let server = Server::default();
    let (mut controller, mut work) = detached(&server).await;
    controller.emptied_interval = Duration::ZERO;
    let minted = (*controller.watches.credentials.of("mine").unwrap()).clone();
    let again = HeldCredential {
        inputs: "again".to_owned(),
        ..minted
    };
    for _ in 0..2 {
        detach(&controller, &mut work).await;
        deleted(&controller, &mut work);
    }
    detach(&controller, &mut work).await;
    deleted(&controller, &mut work);
    // Each step is late: the registry is attached and minted, which this leader's watch does not say yet.
    server.put(again.manifest("mine", "own"));
    assert_eq!(
        is_swept(
            controller
                .watches
                .credentials
                .stored("mine")
                .map(|(stored, _)| stored)
                .as_ref()
        ),
        Some(true)
    );
    detach(&controller, &mut work).await;
    assert_eq!(server.stored(), Some(Stored::from(again.clone())));
    // An emptied one holds nothing.
    assert_eq!(controller.watches.credentials.of("mine"), None);
    assert!(controller.watches.credentials.seen("mine").is_none());
    controller.watches.learn("mine", again, None, Seen::new());
    controller
        .watches
        .view
        .set_registries(std::iter::once(registry(&json!({}))).collect());
    detach(&controller, &mut work).await;
    assert!(work.detached.is_empty() && server.stored().unwrap().minted().is_some());
}

#[tokio::test]
async fn a_spoilt_credential_of_a_detached_registry_goes_too() {
    let server = Server::default();
    let (mut controller, mut work) = detached(&server).await;
    controller.emptied_interval = Duration::ZERO;
    let mut spoilt = server.secret().unwrap();
    spoilt["data"] = json!({});
    server.put(spoilt);
    controller
        .watches
        .learn("mine", Stored::Unreadable, None, Seen::new());
    for _ in 0..4 {
        detach(&controller, &mut work).await;
        deleted(&controller, &mut work);
    }
    assert_eq!(server.secret(), None);
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_is_asked_again_later() {
    let (mut controller, mut work) = detached(&Server::default()).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let silent = tower::service_fn(move |_: Request<Body>| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<Result<Response<Body>, std::io::Error>>()
    });
    controller.client = Client::new(silent, "own");
    tokio::time::pause();
    for _ in 0..3 {
        detach(&controller, &mut work).await;
        deleted(&controller, &mut work);
        assert!(work.detached["mine"].cleared.contains("apps"));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "it backs off");
    let none = std::collections::BTreeMap::new();
    controller.watches.view.set_namespace("later", &none);
    detach(&controller, &mut work).await;
    assert_eq!(
        deleted(&controller, &mut work),
        ["later"],
        "it sweeps all the same"
    );
}

#[test]
fn a_refusal_is_told_from_another_write() {
    let refused = |code: u16| {
        let status: kube::core::Status =
            serde_json::from_value(json!({"status": "Failure", "code": code})).unwrap();
        unless_it_changed::<()>(Err(kube::Error::Api(status.boxed()).into()))
    };
    assert!(matches!(unless_it_changed(Ok(1)), Ok(Some(1))));
    for code in [404, 409] {
        assert!(matches!(refused(code), Ok(None)), "{code}");
    }
    for code in [403, 429, 500] {
        assert!(refused(code).is_err(), "{code}");
    }
}

#[tokio::test]
async fn a_write_that_failed_keeps_no_namespace_from_being_swept() {
    let (controller, mut work) = detached(&Server::default()).await;
    let pair = Arc::new(("apps".to_owned(), "mine".to_owned()));
    let conflict = Err(crate::sync::pull_secret::WriteError::Foreign);
    controller.finish(&mut work, Arc::clone(&pair), Step::Write, conflict);
    assert!(work.waits(&pair));
    detach(&controller, &mut work).await;
    assert_eq!(deleted(&controller, &mut work), ["apps"]);
}

fn anonymous() -> AttachedRegistries {
    std::iter::once(registry(&json!({"identity": {"anonymous": {}}}))).collect()
}

#[tokio::test]
async fn an_anonymous_registry_loses_its_credential() {
    let server = Server::default();
    let (mut controller, _) = detached(&server).await;
    let attached = std::iter::once(registry(&json!({}))).collect();
    controller.watches.view.set_registries(attached);
    let mut work = Work::default();
    controller.look_at_everything(&mut work).await;
    controller.watches.view.set_registries(anonymous());
    controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
    assert!(std::mem::take(&mut work.is_detached));
    detach(&controller, &mut work).await;
    assert_eq!(is_swept(server.stored().as_ref()), Some(false));
    assert_eq!(deleted(&controller, &mut work), ["apps"]);
    detach(&controller, &mut work).await;
    assert_eq!(is_swept(server.stored().as_ref()), Some(true));
    detach(&controller, &mut work).await;
    controller.look_at_everything(&mut work).await;
    assert_eq!(deleted(&controller, &mut work), [""; 0]);
    controller.emptied_interval = Duration::ZERO;
    for _ in 0..2 {
        detach(&controller, &mut work).await;
        deleted(&controller, &mut work);
    }
    assert_eq!(server.secret(), None);
}

#[tokio::test]
async fn a_registry_that_needs_a_credential_again_keeps_it() {
    let server = Server::default();
    let (controller, mut work) = detached(&server).await;
    controller.watches.view.set_registries(anonymous());
    detach(&controller, &mut work).await;
    assert!(work.detached.contains_key("mine"));
    controller
        .watches
        .view
        .set_registries(std::iter::once(registry(&json!({}))).collect());
    controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
    assert!(!work.detached.contains_key("mine"));
    let before = server.secret();
    detach(&controller, &mut work).await;
    assert!(work.detached.is_empty());
    assert_eq!(server.secret(), before);
}

#[tokio::test(start_paused = true)]
async fn emptying_what_is_written_again_backs_off() {
    let server = Server::default();
    let (controller, mut work) = detached(&server).await;
    let minted = controller.watches.credentials.of("mine").unwrap();
    for _ in 0..600 {
        detach(&controller, &mut work).await;
        deleted(&controller, &mut work);
        // A webhook, say, puts back what was there.
        server.put(minted.manifest("mine", "own"));
        controller
            .watches
            .learn("mine", (*minted).clone(), None, Seen::new());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let patches = server.patches.load(Ordering::Relaxed);
    // At 0, 2, 6, 14, 30, 62, 126, 254 and 510 seconds, or somewhat earlier each.
    assert!((9..=11).contains(&patches), "{patches}");
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_no_end() {
    let server = Server::default();
    let (mut controller, mut work) = detached(&server).await;
    controller.emptied_interval = Duration::ZERO;
    for _ in 0..3 {
        detach(&controller, &mut work).await;
        deleted(&controller, &mut work);
    }
    server.conflicts.store(true, Ordering::Relaxed);
    let writes = controller.detach(&mut work, CONCURRENCY);
    assert_eq!(writes.len(), 1);
    for write in writes {
        let (write, written) = controller.write_credential(write).await;
        assert_eq!(write.step, DetachStep::Delete);
        assert!(matches!(written, Ok(Written::Changed)), "{written:?}");
        controller.finish_write(&mut work, write, written);
    }
    server.conflicts.store(false, Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(2)).await;
    detach(&controller, &mut work).await;
    assert_eq!(server.secret(), None);
}

#[tokio::test(start_paused = true)]
async fn a_credential_deleted_by_hand_is_swept_twice_all_the_same() {
    let server = Server::default();
    let (controller, mut work) = detached(&server).await;
    detach(&controller, &mut work).await;
    assert_eq!(deleted(&controller, &mut work), ["apps"]);
    detach(&controller, &mut work).await;
    assert_eq!(is_swept(server.stored().as_ref()), Some(true));
    controller.watches.view.set_namespace("new", &[].into());
    *server.held.lock().unwrap() = None;
    controller.watches.forget("mine");
    detach(&controller, &mut work).await;
    assert_eq!(
        deleted(&controller, &mut work),
        ["new"],
        "the other one was swept"
    );
    controller.sweep_again(&mut work);
    assert_eq!(deleted(&controller, &mut work), [""; 0]);
    tokio::time::advance(EMPTIED_INTERVAL).await;
    controller.sweep_again(&mut work);
    let mut swept = deleted(&controller, &mut work);
    swept.sort();
    assert_eq!(swept, ["apps", "new"]);
    tokio::time::advance(EMPTIED_INTERVAL).await;
    detach(&controller, &mut work).await;
    controller.sweep_again(&mut work);
    assert_eq!(deleted(&controller, &mut work), [""; 0]);
    assert!(work.detached.is_empty());
}

#[tokio::test]
async fn a_deletion_begun_before_a_sweep_is_made_again() {
    let (controller, mut work) = detached(&Server::default()).await;
    let pair = Arc::new(("apps".to_owned(), "mine".to_owned()));
    work.enqueue(Arc::clone(&pair));
    assert_eq!(work.next(), Some(Arc::clone(&pair)));
    detach(&controller, &mut work).await;
    controller.finish(
        &mut work,
        Arc::clone(&pair),
        Step::Delete,
        Ok(Timestamp::UNIX_EPOCH),
    );
    assert!(work.detached["mine"].cleared.is_empty());
    assert_eq!(deleted(&controller, &mut work), ["apps"]);
    assert!(work.detached["mine"].cleared.contains("apps"));
}

#[tokio::test]
async fn a_deletion_begun_in_a_sweep_is_made_once() {
    let (controller, mut work) = detached(&Server::default()).await;
    work.namespaces.update(1, controller.watches.view.namespaces());
    let sweeps = [("mine".to_owned(), Round::First)];
    SecretsController::sweep(&mut work, &sweeps);
    let pair = work.next().unwrap();
    SecretsController::sweep(&mut work, &sweeps);
    controller.finish(&mut work, pair, Step::Delete, Ok(Timestamp::UNIX_EPOCH));
    assert_eq!(work.next(), None);
    assert!(work.detached["mine"].cleared.contains("apps"));
}

#[tokio::test]
async fn no_more_credentials_are_written_together_than_there_is_room() {
    let (controller, mut work) = detached(&Server::default()).await;
    assert!(controller.detach(&mut work, 0).is_empty());
    let [write] = <[_; 1]>::try_from(controller.detach(&mut work, 1)).unwrap();
    assert!(controller.detach(&mut work, 1).is_empty(), "it is under way");
    controller.finish_write(&mut work, write, Ok(Written::Changed));
    assert!(!work.detached["mine"].is_busy);
}

#[tokio::test(start_paused = true)]
async fn a_slow_write_of_a_credential_holds_up_no_pull_secret() {
    let begin = tokio::time::Instant::now();
    let written = Arc::new(Mutex::new(None));
    let told = Arc::clone(&written);
    let service = tower::service_fn(move |request: Request<Body>| {
        let path = request.uri().path().to_owned();
        let told = Arc::clone(&told);
        async move {
            if path.ends_with("credential-mine") {
                std::future::pending::<()>().await;
            }
            assert!(path.ends_with("/apps/secrets/pullpass-other"), "{path}");
            told.lock().unwrap().get_or_insert(begin.elapsed());
            let secret =
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass-other"}});
            let body = Body::from(secret.to_string().into_bytes());
            Ok::<_, std::io::Error>(Response::new(body))
        }
    });
    let (mut controller, _) = detached(&Server::default()).await;
    controller.client = Client::new(service, "own");
    let other = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "other"},
        "spec": {"loginServer": "other1.azurecr.io", "identity": {"managedIdentity": {}}, "provision": "Eager"},
    });
    let other = AttachedRegistry::parse(&serde_json::from_value(other).unwrap()).unwrap();
    let credential = HeldCredential {
        fingerprint: Some(other.fingerprint().to_owned()),
        ..(*controller.watches.credentials.of("mine").unwrap()).clone()
    };
    let view = &controller.watches.view;
    view.set_registries(std::iter::once(other).collect());
    let (_sender, sightings) = tokio::sync::mpsc::channel(1);
    let minted = async {
        // The credential of the other one is being emptied by then.
        tokio::time::sleep(Duration::from_secs(2)).await;
        controller.watches.learn("other", credential, None, Seen::new());
        while written.lock().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = controller.run(sightings) => panic!("it ended"),
        () = minted => {}
    }
    let took = written.lock().unwrap().unwrap();
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn namespaces_take_turns_until_they_are_dealt_with() {
    let mut detached = Detached::default();
    let names = |names: &[&str]| -> Vec<Name> { names.iter().map(|name| Name::from(*name)).collect() };
    let difference = |came: &[&str], gone: &[&str]| Difference {
        came: names(came),
        gone: names(gone),
    };
    // Before a sweep begins, which takes all that there are then.
    detached.take(&difference(&["z"], &[]));
    assert!(detached.next(9).is_empty());
    detached.begin(Round::First, names(&["a", "b", "c", "d", "e"]).into_iter());
    assert_eq!(detached.next(2), names(&["a", "b"]));
    assert_eq!(detached.next(0), names(&[]));
    assert_eq!(detached.next(2), names(&["c", "d"]));
    assert_eq!(detached.next(9), names(&["e", "a", "b", "c", "d"]), "each once");
    detached.clear("e");
    detached.clear("b");
    detached.take(&difference(&["f"], &["a", "e"]));
    assert_eq!(detached.next(2), names(&["f", "c"]));
    assert_eq!(detached.cleared, names(&["b"]).into_iter().collect());
    // One that is there again may be there without having been dealt with.
    detached.take(&difference(&["b"], &[]));
    assert_eq!(detached.next(9), names(&["d", "f", "b", "c"]));
    for name in ["b", "c", "d", "f"] {
        assert!(!detached.is_cleared(Round::First));
        detached.clear(name);
    }
    assert!(detached.is_cleared(Round::First) && !detached.is_cleared(Round::Second));
    assert!(detached.next(9).is_empty());
}

#[test]
fn registries_share_the_room_for_their_sweeps() {
    let mut work = Work::default();
    let listed: Vec<String> = (0..QUEUED_TOGETHER).map(|number| number.to_string()).collect();
    work.namespaces.update(1, listed);
    let sweeps = |names: &[&str]| -> Vec<_> {
        let names = names.iter();
        names.map(|name| ((*name).to_owned(), Round::First)).collect()
    };
    let turns = |work: &Work, name: &str| work.detached[name].turns;
    SecretsController::sweep(&mut work, &sweeps(&["a", "b"]));
    assert_eq!((turns(&work, "a"), turns(&work, "b")), (1_000, 1_000));
    assert_eq!(work.queued.len(), QUEUED_TOGETHER);
    // Of one of them, all that is left waits for something.
    for pair in std::iter::from_fn(|| work.next()).collect::<Vec<_>>() {
        work.done(&pair);
        work.has_none(&pair, false);
    }
    let mut few = Detached::default();
    few.begin(Round::First, std::iter::once(Name::from("one")));
    work.detached.insert("few".to_owned(), few);
    SecretsController::sweep(&mut work, &sweeps(&["few", "a", "b", "c"]));
    let all = ["few", "a", "b", "c"].map(|name| turns(&work, name));
    assert_eq!(all, [1, 1_000 + 667, 1_000 + 666, 666]);
    // A long queue keeps none of them waiting for ever, and what waits after a failure keeps no other registry waiting.
    SecretsController::sweep(&mut work, &sweeps(&["a", "c"]));
    let half = CONCURRENCY / 2;
    assert_eq!((turns(&work, "a"), turns(&work, "c")), (1_667 + half, 666 + half));
}

#[test]
fn failed_deletions_of_many_registries_take_no_room() {
    for round in [Round::First, Round::Second] {
        let mut work = Work::default();
        let failing: Vec<String> = (0..2 * QUEUED_TOGETHER)
            .map(|number| format!("a{number}"))
            .collect();
        for name in failing.iter().map(String::as_str).chain(["last"]) {
            let mut detached = Detached::default();
            detached.begin(round, std::iter::once(Name::from("one")));
            work.detached.insert(name.to_owned(), detached);
        }
        let failure = WriteError::Api("refused".to_owned());
        for name in &failing {
            let pair = Arc::new(("one".to_owned(), name.clone()));
            work.failed(&pair, true, &failure, now());
        }
        let sweeps: Vec<_> = failing
            .iter()
            .chain([&"last".to_owned()])
            .map(|name| (name.clone(), round))
            .collect();
        SecretsController::sweep(&mut work, &sweeps);
        let mut queued = work.queued.iter().chain(&work.sweep_next);
        assert_eq!(queued.next().map(|pair| &*pair.1), Some("last"), "{round:?}");
        assert!(queued.next().is_none(), "{round:?}");
    }
}

/// Adds namespaces without labels until there are so many.
fn add_namespaces(controller: &SecretsController, all: usize) {
    for number in 1..all {
        let name = format!("n{number}");
        controller.watches.view.set_namespace(&name, &BTreeMap::new());
    }
}

/// Does so many deletions that are to be made; gives their namespaces.
fn delete(controller: &SecretsController, work: &mut Work, most: usize) -> Vec<String> {
    let pairs: Vec<_> = std::iter::from_fn(|| work.next()).take(most).collect();
    let namespaces = pairs.iter().map(|pair| pair.0.clone()).collect();
    for pair in pairs {
        controller.finish(work, pair, Step::Delete, Ok(Timestamp::UNIX_EPOCH));
    }
    namespaces
}

#[tokio::test]
async fn a_second_of_a_sweep_costs_what_was_done_in_it() {
    const ALL: usize = 10_000;
    let server = Server::default();
    let (controller, mut work) = detached(&server).await;
    add_namespaces(&controller, ALL);
    detach(&controller, &mut work).await;
    let turns = |work: &Work| work.detached["mine"].turns;
    assert_eq!(
        (turns(&work), work.queued.len()),
        (QUEUED_TOGETHER, QUEUED_TOGETHER)
    );
    let names = Arc::clone(&work.namespaces.names);
    let mut swept = Vec::new();
    for _ in 0..ALL / 500 - 1 {
        let before = turns(&work);
        swept.extend(delete(&controller, &mut work, 500));
        detach(&controller, &mut work).await;
        // Near the end, some of those that are queued have their turn again.
        assert!(turns(&work) - before <= 2 * 500);
    }
    assert!(turns(&work) < ALL + ALL / 4, "{}", turns(&work));
    assert!(
        Arc::ptr_eq(&names, &work.namespaces.names),
        "they are not listed again"
    );
    controller.watches.view.set_namespace("new", &BTreeMap::new());
    detach(&controller, &mut work).await;
    swept.extend(delete(&controller, &mut work, usize::MAX));
    assert_eq!(is_swept(server.stored().as_ref()), Some(false));
    detach(&controller, &mut work).await;
    assert_eq!(is_swept(server.stored().as_ref()), Some(true));
    swept.sort();
    assert_eq!(swept.len(), ALL + 1);
    swept.dedup();
    assert_eq!(swept.len(), ALL + 1, "each once");
    let before = turns(&work);
    for _ in 0..10 {
        detach(&controller, &mut work).await;
    }
    assert_eq!(turns(&work), before);
}

#[tokio::test]
async fn a_second_sweep_fills_no_memory() {
    const ALL: usize = 1_000;
    let server = Server::default();
    let (mut controller, mut work) = detached(&server).await;
    controller.emptied_interval = Duration::ZERO;
    add_namespaces(&controller, ALL);
    for _ in 0..2 {
        detach(&controller, &mut work).await;
        assert_eq!(work.sweep_next.len(), 0);
        delete(&controller, &mut work, usize::MAX);
    }
    detach(&controller, &mut work).await;
    let (mut swept, mut seconds) = (Vec::new(), 0);
    while server.secret().is_some() {
        assert!(work.sweep_next.len() <= SWEPT_TOGETHER && work.sweep.is_empty());
        if seconds == ALL / SWEPT_A_SECOND / 2 {
            controller.watches.view.set_namespace("new", &BTreeMap::new());
        }
        work.take_up_sweep(SWEPT_A_SECOND);
        swept.extend(delete(&controller, &mut work, usize::MAX));
        detach(&controller, &mut work).await;
        seconds += 1;
    }
    assert_eq!(seconds, ALL / SWEPT_A_SECOND + 1, "it is no slower");
    swept.sort();
    swept.dedup();
    assert_eq!(swept.len(), ALL + 1);
}

#[tokio::test]
async fn a_registry_that_is_kept_changes_nothing() {
    let (controller, mut work) = detached(&Server::default()).await;
    for _ in 0..2 {
        detach(&controller, &mut work).await;
        deleted(&controller, &mut work);
    }
    let before = work.revision();
    for _ in 0..3 {
        detach(&controller, &mut work).await;
    }
    assert!(work.detached.contains_key("mine"));
    assert_eq!(work.revision(), before);
}

#[tokio::test]
async fn deletions_left_by_an_ended_sweep_are_made() {
    const ALL: usize = QUEUED_TOGETHER + 500;
    for is_told_first in [true, false] {
        let (controller, mut work) = detached(&Server::default()).await;
        add_namespaces(&controller, ALL);
        controller.watches.view.set_registries(anonymous());
        controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
        detach(&controller, &mut work).await;
        assert_eq!(work.queued.len(), QUEUED_TOGETHER);
        delete(&controller, &mut work, 1);
        // It needs a credential again, and is for other namespaces.
        let selecting = registry(&json!({"namespaces": {"matchLabels": {"team": "a"}}}));
        controller
            .watches
            .view
            .set_registries(std::iter::once(selecting).collect());
        if !is_told_first {
            detach(&controller, &mut work).await;
        }
        controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
        assert!(work.detached.is_empty());
        let mut swept = delete(&controller, &mut work, usize::MAX);
        swept.sort();
        swept.dedup();
        assert_eq!(swept.len(), ALL - 1, "{is_told_first}");
        // A replica may have written where it was deleted, until a moment ago.
        assert_eq!(work.lost.len(), ALL, "{is_told_first}");
    }
}

#[tokio::test]
async fn a_detachment_that_is_undone_before_its_sweep_is_swept() {
    let (controller, mut work) = detached(&Server::default()).await;
    controller.watches.view.set_registries(anonymous());
    controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
    // The write that empties its credential is under way.
    let writes = controller.detach(&mut work, CONCURRENCY);
    assert_eq!(writes.len(), 1);
    let selecting = registry(&json!({"namespaces": {"matchLabels": {"team": "a"}}}));
    controller
        .watches
        .view
        .set_registries(std::iter::once(selecting).collect());
    controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
    assert_eq!(delete(&controller, &mut work, usize::MAX), ["apps"]);
    assert_eq!(work.lost.len(), 1);
}

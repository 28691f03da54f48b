use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::policy::attached::AttachedRegistries;
use crate::sync::credentials::HeldCredential;
use crate::sync::secrets::step::Step;
use crate::sync::secrets::tests::{controller, registry};
use crate::sync::watches::Change;

const MINUTE: Duration = Duration::from_mins(1);

/// The API server of one Secret, `credential-mine`.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Option<Value>>>);

impl Server {
    fn secret(&self) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stored(&self) -> Option<Stored> {
        let secret = self.secret()?;
        Some(Stored::parse(&serde_json::from_value(secret).unwrap()))
    }

    fn put(&self, mut secret: Value) {
        let mut held = self.0.lock().unwrap();
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
        if *expected != held["metadata"]["resourceVersion"] {
            return refused(409);
        }
        match parts.method {
            Method::PATCH => self.put(body),
            Method::DELETE => *self.0.lock().unwrap() = None,
            _ => {}
        }
        let answer = self.secret().unwrap_or(held);
        Ok(Response::new(Body::from(answer.to_string().into_bytes())))
    }
}

/// A leader that knows of a registry with a pull secret in a namespace; the registry was just detached.
fn detached(server: &Server) -> (SecretsController, Work) {
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
    controller.look_at_everything(&mut work);
    controller
        .watches
        .view
        .set_registries(AttachedRegistries::default());
    controller.on_change(&mut work, &Change::Registry("mine".to_owned()));
    assert!(work.is_detached);
    (controller, work)
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
    let (mut controller, mut work) = detached(&server);
    controller.detach(&mut work).await;
    assert_eq!(is_swept(server.stored().as_ref()), Some(false));
    let text = server.secret().unwrap().to_string();
    assert!(
        !text.contains("refreshed-at") && text.contains("pullpass.dev/registry"),
        "{text}"
    );
    assert_eq!(deleted(&controller, &mut work), ["apps"]);
    controller.detach(&mut work).await;
    assert_eq!(is_swept(server.stored().as_ref()), Some(true));

    // It is kept, and costs no call.
    let kept = server.secret();
    for _ in 0..3 {
        controller.detach(&mut work).await;
        controller.look_at_everything(&mut work);
        assert_eq!(deleted(&controller, &mut work), [""; 0]);
    }
    assert_eq!(server.secret(), kept);

    // No watch can be behind any more; a namespace that came meanwhile is swept as well.
    controller.emptied_interval = Duration::ZERO;
    controller.watches.view.set_namespace("new", &[].into());
    controller.detach(&mut work).await;
    let mut swept = deleted(&controller, &mut work);
    swept.sort();
    assert_eq!(swept, ["apps", "new"]);
    assert_eq!(server.secret(), kept, "it goes last");
    controller.detach(&mut work).await;
    assert_eq!(server.secret(), None);
    controller.detach(&mut work).await;
    assert_eq!(controller.watches.credentials.registries(), [""; 0]);
    assert_eq!(deleted(&controller, &mut work), [""; 0]);
    controller.detach(&mut work).await;
    assert!(work.detached.is_empty());
}

#[tokio::test]
async fn a_new_leader_goes_on_where_the_last_one_stopped() {
    let server = Server::default();
    let (controller, mut work) = detached(&server);
    controller.detach(&mut work).await;
    // The first sweep is not done: it is begun again.
    let mut work = Work::default();
    controller.look_at_everything(&mut work);
    controller.detach(&mut work).await;
    assert_eq!(deleted(&controller, &mut work), ["apps"]);
    controller.detach(&mut work).await;
    // It is done: it is not.
    let mut work = Work::default();
    controller.look_at_everything(&mut work);
    controller.detach(&mut work).await;
    assert_eq!(deleted(&controller, &mut work), [""; 0]);
    assert_eq!(is_swept(server.stored().as_ref()), Some(true));
}

#[tokio::test]
async fn a_registry_attached_again_keeps_its_new_credential() {
    let server = Server::default();
    let (mut controller, mut work) = detached(&server);
    controller.emptied_interval = Duration::ZERO;
    let minted = (*controller.watches.credentials.of("mine").unwrap()).clone();
    let again = HeldCredential {
        inputs: "again".to_owned(),
        ..minted
    };
    for _ in 0..2 {
        controller.detach(&mut work).await;
        deleted(&controller, &mut work);
    }
    controller.detach(&mut work).await;
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
    controller.detach(&mut work).await;
    assert_eq!(server.stored(), Some(Stored::from(again.clone())));
    // An emptied one holds nothing.
    assert_eq!(controller.watches.credentials.of("mine"), None);
    assert!(controller.watches.credentials.seen("mine").is_none());
    controller.watches.learn("mine", again, None, Seen::new());
    controller
        .watches
        .view
        .set_registries(std::iter::once(registry(&json!({}))).collect());
    controller.detach(&mut work).await;
    assert!(work.detached.is_empty() && server.stored().unwrap().minted().is_some());
}

#[tokio::test]
async fn a_spoilt_credential_of_a_detached_registry_goes_too() {
    let server = Server::default();
    let (mut controller, mut work) = detached(&server);
    controller.emptied_interval = Duration::ZERO;
    let mut spoilt = server.secret().unwrap();
    spoilt["data"] = json!({});
    server.put(spoilt);
    controller
        .watches
        .learn("mine", Stored::Unreadable, None, Seen::new());
    for _ in 0..4 {
        controller.detach(&mut work).await;
        deleted(&controller, &mut work);
    }
    assert_eq!(server.secret(), None);
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_is_asked_again_later() {
    let (mut controller, mut work) = detached(&Server::default());
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let silent = tower::service_fn(move |_: Request<Body>| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<Result<Response<Body>, std::io::Error>>()
    });
    controller.client = Client::new(silent, "own");
    tokio::time::pause();
    for _ in 0..3 {
        controller.detach(&mut work).await;
        deleted(&controller, &mut work);
        assert!(work.detached["mine"].cleared.contains("apps"));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "it backs off");
}

#[tokio::test]
async fn a_write_that_failed_keeps_no_namespace_from_being_swept() {
    let (controller, mut work) = detached(&Server::default());
    let pair = Arc::new(("apps".to_owned(), "mine".to_owned()));
    let conflict = Err(crate::sync::pull_secret::WriteError::Foreign);
    controller.finish(&mut work, Arc::clone(&pair), Step::Write, conflict);
    assert!(work.waits(&pair));
    controller.detach(&mut work).await;
    assert_eq!(deleted(&controller, &mut work), ["apps"]);
}

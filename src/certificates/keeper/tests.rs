//! Faults that a real API server does not have at hand, and a clock that is set.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::stream;
use http::{Request, Response};
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Frame};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::base::logged::logged;
use crate::base::readiness::Readiness;
use crate::metrics::Metrics;

/// Only bounds how long a broken test takes.
const SOON: Duration = Duration::from_mins(1);

type AnswerBody = UnsyncBoxBody<Bytes, std::io::Error>;

fn whole(object: &Value) -> AnswerBody {
    Full::from(object.to_string())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// What a connection gives that was cut without a word.
fn silence() -> AnswerBody {
    StreamBody::new(stream::pending::<Result<Frame<Bytes>, std::io::Error>>()).boxed_unsync()
}

/// Gives these answers, one after the other.
fn client(answers: impl IntoIterator<Item = AnswerBody>) -> Client {
    let answers = Arc::new(Mutex::new(VecDeque::from_iter(answers)));
    let service = tower::service_fn(move |_: Request<Body>| {
        let answer = answers.lock().unwrap().pop_front();
        async move { answer.map(Response::new).ok_or("nothing more is to be asked for") }
    });
    Client::new(service, "own")
}

fn configuration(bundle: &str) -> Value {
    configuration_at("7", bundle)
}

fn configuration_at(version: &str, bundle: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "pullpass", "uid": "uid", "resourceVersion": version},
        "webhooks": [{
            "name": "pods.pullpass.dev",
            "clientConfig": {"caBundle": k8s_openapi::ByteString(bundle.as_bytes().to_vec())},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }],
    })
}

fn publishes(live: &watch::Sender<Option<Live>>, bundle: &str) -> bool {
    live.borrow().as_ref().is_some_and(|live| live.publishes(bundle))
}

#[tokio::test]
async fn a_watch_that_was_cut_off_restarts_and_shows_what_it_missed() {
    let client = client([
        whole(&configuration("good")),
        silence(),
        whole(&configuration("wiped meanwhile")),
        silence(),
    ]);
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client);
    let live = watch::Sender::new(None);
    for bundle in ["good", "wiped meanwhile"] {
        let followed =
            configuration::follow_once(&configurations, "pullpass", &live, Duration::from_millis(1));
        tokio::time::timeout(SOON, followed).await.unwrap().unwrap();
        assert!(publishes(&live, bundle), "{bundle}");
    }
}

#[tokio::test]
async fn a_published_bundle_is_known_without_the_watch() {
    let client = client([whole(&configuration("published"))]);
    let known = Live::of(serde_json::from_value(configuration("old")).unwrap()).unwrap();
    let live = watch::Sender::new(Some(known.clone()));
    configuration::publish(&client, "pullpass", &live, &known, "published")
        .await
        .unwrap();
    assert!(publishes(&live, "published"));
}

#[tokio::test]
async fn an_answer_does_not_replace_a_bundle_of_a_later_event() {
    let read = |version: &str, bundle: &str| {
        Live::of(serde_json::from_value(configuration_at(version, bundle)).unwrap()).unwrap()
    };
    let known = read("7", "old");
    // Somebody wiped the bundle, or put back what was there before, while the answer was under way.
    for later in [Some(read("9", "wiped")), Some(read("9", "old")), None] {
        let client = client([whole(&configuration_at("8", "published"))]);
        let live = watch::Sender::new(later.clone());
        configuration::publish(&client, "pullpass", &live, &known, "published")
            .await
            .unwrap();
        assert_eq!(*live.borrow(), later);
    }
}

/// The Secret in a version, as an API server answers with it.
fn secret_at(version: &str) -> Secret {
    let mut secret = CertificateAction::Create
        .state(&host(SERVICE, "own"), Timestamp::now())
        .unwrap()
        .unwrap()
        .secret("own");
    secret.metadata.resource_version = Some(version.to_owned());
    secret
}

#[tokio::test]
async fn an_answer_does_not_replace_a_secret_of_a_later_event() {
    for (told, expected) in [(None, "8"), (Some("9"), "9")] {
        let answer = serde_json::to_value(secret_at("8")).unwrap();
        let own = OwnCertificate::new(
            client([whole(&answer)]),
            "own",
            "pullpass",
            SignedDuration::ZERO,
            Arc::new(Timestamp::now),
        );
        // It decides on a Secret that is not there, and hears of this one while it creates its own.
        own.seen.send_replace(told.map_or(KnownSecret::Absent, |version| {
            KnownSecret::There(Arc::new(secret_at(version)))
        }));
        let wait = own
            .step(&KnownSecret::Absent, None, &watch::Sender::new(None))
            .await
            .unwrap();
        assert_eq!(wait, Duration::ZERO);
        let KnownSecret::There(known) = own.seen.borrow().clone() else {
            panic!("there is one");
        };
        assert_eq!(known.metadata.resource_version.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn a_secret_read_under_a_wrong_clock_is_served_once_it_is_set() {
    const WRONG: usize = 3;
    // Two providers are compiled in; the first test installs one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let now = Timestamp::now();
    let readings = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&readings);
    let clock: Clock = Arc::new(move || match counted.fetch_add(1, Ordering::Relaxed) {
        reading if reading < WRONG => now + SignedDuration::from_hours(24 * 100),
        _ => now,
    });
    let own = OwnCertificate::new(client([]), "own", "pullpass", SignedDuration::ZERO, clock);
    let state = CertificateAction::Create
        .state(&host(SERVICE, "own"), now)
        .unwrap()
        .unwrap();
    own.seen
        .send_replace(KnownSecret::There(Arc::new(state.secret("own"))));
    let served = ServedTls::new(Arc::new(Metrics::new(|| 0)), Arc::new(Readiness::default()));
    tokio::select! {
        () = own.serve(&served, TlsMaker::new(None), Duration::from_millis(1)) => unreachable!(),
        first = tokio::time::timeout(SOON, served.first()) => assert!(first.unwrap().is_some()),
    }
    assert_eq!(
        readings.load(Ordering::Relaxed),
        WRONG + 1,
        "what is good is not read again"
    );
}

#[tokio::test]
async fn a_flaw_is_said_once() {
    let now = Timestamp::now();
    let own = OwnCertificate::new(
        client([]),
        "own",
        "pullpass",
        SignedDuration::ZERO,
        Arc::new(move || now),
    );
    let state = CertificateAction::Create
        .state("another.host.svc", now)
        .unwrap()
        .unwrap();
    let seen = KnownSecret::There(Arc::new(state.secret("own")));
    let (flaw, lines) = logged(|| {
        let flaw = own.take(&seen, None);
        own.take(&seen, flaw.as_ref())
    });
    assert!(matches!(flaw, Some(Flaw::NotTrusted { .. })), "{flaw:?}");
    assert_eq!(lines.matches("the Secret is unusable").count(), 1, "{lines}");
}

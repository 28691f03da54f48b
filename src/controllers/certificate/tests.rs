//! Faults that a real API server does not have at hand.

use std::collections::VecDeque;
use std::sync::Mutex;

use futures::stream;
use http::{Request, Response};
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Frame};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::Api;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// Only bounds how long a broken test takes.
const SOON: Duration = Duration::from_mins(1);

type Answer = UnsyncBoxBody<Bytes, std::io::Error>;

fn whole(object: &Value) -> Answer {
    Full::from(object.to_string())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// What a connection gives that was cut without a word.
fn silence() -> Answer {
    StreamBody::new(stream::pending::<Result<Frame<Bytes>, std::io::Error>>()).boxed_unsync()
}

/// Gives these answers, one after the other.
fn client(answers: impl IntoIterator<Item = Answer>) -> Client {
    let answers = Arc::new(Mutex::new(VecDeque::from_iter(answers)));
    let service = tower::service_fn(move |_: Request<Body>| {
        let answer = answers.lock().unwrap().pop_front();
        async move { answer.map(Response::new).ok_or("nothing more is to be asked for") }
    });
    Client::new(service, "own")
}

fn configuration(bundle: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "pullpass", "uid": "uid", "resourceVersion": "7"},
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
async fn a_watch_whose_connection_was_cut_is_begun_anew_and_shows_what_was_missed() {
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
async fn what_was_published_is_known_without_the_watch() {
    let client = client([whole(&configuration("published"))]);
    let known = Live::of(serde_json::from_value(configuration("old")).unwrap()).unwrap();
    let live = watch::Sender::new(Some(known.clone()));
    configuration::publish(&client, "pullpass", &live, &known, "published")
        .await
        .unwrap();
    assert!(publishes(&live, "published"));
}

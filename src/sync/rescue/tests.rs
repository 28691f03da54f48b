use std::sync::Mutex;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::ByteString;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::scope::{Labels, Mode};
use crate::sync::credentials::Seen;
use crate::sync::held_credential::HeldCredential;
use crate::view::View;

/// Made before anything in these tests is evicted.
const BEFORE: &str = "2020-11-22T18:00:00Z";
/// Made after.
const AFTER: &str = "2999-11-22T18:00:00Z";

/// A Pod that is stuck.
fn stuck(uid: &str, created: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-x", "namespace": "apps", "uid": uid, "resourceVersion": "7", "creationTimestamp": created,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "web", "controller": true}],
        },
        "spec": {"containers": [{"name": "main", "image": "openreg.azurecr.io/a"}]},
        "status": {
            "phase": "Pending",
            "containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "ImagePullBackOff"}}}],
        },
    })
}

fn changed(mut pod: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    pod.pointer_mut(parent).unwrap()[key] = value;
    pod
}

fn read(pod: &Value) -> Pod {
    serde_json::from_value(pod.clone()).unwrap()
}

/// As much of an API server as a rescue needs.
struct ApiServer {
    pod: Option<Value>,
    to_evictions: StatusCode,
    to_events: StatusCode,
    evictions: Mutex<Vec<Eviction>>,
    events: Mutex<Vec<Value>>,
}

impl ApiServer {
    fn with(pod: Option<Value>) -> Self {
        Self {
            pod,
            to_evictions: StatusCode::CREATED,
            to_events: StatusCode::CREATED,
            evictions: Mutex::default(),
            events: Mutex::default(),
        }
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
        let pod = "/api/v1/namespaces/apps/pods/web-x";
        if method == Method::GET && path == pod {
            return match &self.pod {
                Some(pod) => (StatusCode::OK, pod.clone()),
                None => (StatusCode::NOT_FOUND, Value::Null),
            };
        }
        assert_eq!(method, Method::POST, "{path}");
        if path == format!("{pod}/eviction") {
            let eviction = serde_json::from_slice(body).unwrap();
            self.evictions.lock().unwrap().push(eviction);
            return (self.to_evictions, Value::Null);
        }
        assert_eq!(path, "/apis/events.k8s.io/v1/namespaces/apps/events");
        let event: Value = serde_json::from_slice(body).unwrap();
        self.events.lock().unwrap().push(event.clone());
        (self.to_events, event)
    }

    fn rescuer(self) -> (Arc<Self>, Rescuer) {
        let server = Arc::new(self);
        let asked = Arc::clone(&server);
        let client = Client::new(
            tower::service_fn(move |request: Request<Body>| {
                let asked = Arc::clone(&asked);
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let (code, answer) = asked.answer(&parts.method, parts.uri.path(), &body);
                    let answer = if answer.is_null() { status(code) } else { answer };
                    let answer = Body::from(answer.to_string().into_bytes());
                    Ok::<_, kube::Error>(Response::builder().status(code).body(answer).unwrap())
                }
            }),
            "apps",
        );
        let rescuer = Rescuer::new(client, watches(), Scope::new(Mode::ClusterWide, "own", []));
        (server, rescuer)
    }

    fn evicted(&self) -> Vec<Preconditions> {
        let evictions = self.evictions.lock().unwrap();
        let options = evictions
            .iter()
            .filter_map(|eviction| eviction.delete_options.clone());
        options.filter_map(|options| options.preconditions).collect()
    }

    /// Reason and object of each Event.
    fn said(&self) -> Vec<(String, String)> {
        let events = self.events.lock().unwrap();
        let text = |event: &Value, pointer| event.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        events
            .iter()
            .map(|event| (text(event, "/reason"), text(event, "/regarding/uid")))
            .collect()
    }
}

/// What the API server says of a call without an object to show.
fn status(code: StatusCode) -> Value {
    let reason = match code {
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::CONFLICT => "Conflict",
        StatusCode::FORBIDDEN => "Forbidden",
        _ => "",
    };
    let outcome = if code.is_success() { "Success" } else { "Failure" };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": outcome, "message": "", "reason": reason,
        "code": code.as_u16(),
    })
}

/// A cluster with a registry, its credential and a namespace.
fn watches() -> Arc<Watches> {
    let view = Arc::new(View::default());
    let watches = Watches::new(Arc::clone(&view));
    let registry = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "open"},
        "spec": {"loginServer": "openreg.azurecr.io", "identity": {"managedIdentity": {}}},
    });
    let registry = AttachedRegistry::parse(&serde_json::from_value(registry).unwrap()).unwrap();
    let credential = HeldCredential {
        docker_config: ByteString(Vec::new()),
        audience: None,
        refreshed_at: Timestamp::UNIX_EPOCH,
        expires_at: None,
        inputs: String::new(),
        fingerprint: Some(registry.fingerprint().to_owned()),
        namespaces: None,
    };
    watches.credentials.set("open", credential, None, Seen::new());
    view.set_registries(std::iter::once(registry).collect());
    view.set_namespace("apps", &Labels::new());
    Arc::new(watches)
}

/// What a look at a Pod proposes.
fn proposed(rescuer: &Rescuer, pod: &Value) -> Option<EvictionCandidate> {
    let (proposals, mut backlog) = channel();
    rescuer.look_at(&read(pod), &proposals);
    backlog.candidates.try_recv().ok()
}

#[tokio::test]
async fn a_pod_is_evicted_as_it_was_when_it_was_last_looked_at() {
    let pod = stuck("a", BEFORE);
    let now = changed(pod.clone(), "/metadata/resourceVersion", json!("8"));
    let (server, rescuer) = ApiServer::with(Some(now)).rescuer();
    let candidate = proposed(&rescuer, &pod).unwrap();
    assert_eq!(candidate.resource_version, "7");
    assert_eq!(rescuer.rescue(&candidate).await.unwrap(), Handled::Evicted);
    let conditions = Preconditions {
        uid: Some("a".to_owned()),
        resource_version: Some("8".to_owned()),
    };
    assert_eq!(server.evicted(), [conditions]);
    let may = rescuer.evictions().allow("web", "a", Timestamp::now());
    assert!(!may, "it is going");
}

#[tokio::test]
async fn a_pod_that_is_not_stuck_any_more_is_left() {
    let pod = stuck("a", BEFORE);
    let state = "/status/containerStatuses/0/state";
    let labels = json!({"pullpass.dev/inject": "disabled"});
    for (what, now) in [
        ("it is gone", None),
        ("another has its name", Some(stuck("b", BEFORE))),
        (
            "it runs",
            Some(changed(
                pod.clone(),
                state,
                json!({"running": {"startedAt": AFTER}}),
            )),
        ),
        (
            "it pulls",
            Some(changed(
                pod.clone(),
                state,
                json!({"waiting": {"reason": "ContainerCreating"}}),
            )),
        ),
        (
            "somebody looks into it",
            Some(changed(
                pod.clone(),
                "/status/ephemeralContainerStatuses",
                json!([{"name": "debugger", "state": {"running": {"startedAt": AFTER}}}]),
            )),
        ),
        (
            "somebody wants it left alone",
            Some(changed(pod.clone(), "/metadata/labels", labels)),
        ),
    ] {
        let (server, rescuer) = ApiServer::with(now).rescuer();
        let candidate = proposed(&rescuer, &pod).unwrap();
        assert_eq!(rescuer.rescue(&candidate).await.unwrap(), Handled::Left, "{what}");
        assert!(server.evicted().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn a_pod_of_an_unknown_registry_or_namespace_is_kept() {
    type Change = fn(&Watches);
    let changes: [(&str, Change); 3] = [
        ("detached", |watches| {
            watches.view.set_registries(AttachedRegistries::default());
        }),
        ("not minted", |watches| watches.credentials.remove("open")),
        ("namespace gone", |watches| watches.view.remove_namespace("apps")),
    ];
    for (what, change) in changes {
        let pod = stuck("a", BEFORE);
        let (server, rescuer) = ApiServer::with(Some(pod.clone())).rescuer();
        let candidate = proposed(&rescuer, &pod).unwrap();
        change(&rescuer.watches);
        assert_eq!(rescuer.rescue(&candidate).await.unwrap(), Handled::Left, "{what}");
        assert!(server.evicted().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn a_pod_that_changed_meanwhile_is_kept_and_proposed_again() {
    let pod = stuck("a", BEFORE);
    let mut server = ApiServer::with(Some(pod.clone()));
    server.to_evictions = StatusCode::CONFLICT;
    let (_, rescuer) = server.rescuer();
    let candidate = proposed(&rescuer, &pod).unwrap();
    assert_eq!(rescuer.rescue(&candidate).await.unwrap(), Handled::Left);
    assert_eq!(proposed(&rescuer, &pod), Some(candidate));
    assert!(rescuer.evictions().allow("web", "a", Timestamp::now()));
}

#[tokio::test]
async fn an_eviction_that_is_refused_is_no_eviction() {
    let pod = stuck("a", BEFORE);
    let mut server = ApiServer::with(Some(pod.clone()));
    server.to_evictions = StatusCode::FORBIDDEN;
    let (_, rescuer) = server.rescuer();
    let candidate = proposed(&rescuer, &pod).unwrap();
    assert!(rescuer.rescue(&candidate).await.is_err());
    let next = read(&stuck("b", AFTER));
    assert!(matches!(rescuer.judge(&next), RescueStep::Evict(_)));
}

#[tokio::test]
async fn a_pod_is_evicted_whatever_becomes_of_the_event() {
    let pod = stuck("a", BEFORE);
    let mut server = ApiServer::with(Some(pod.clone()));
    server.to_events = StatusCode::FORBIDDEN;
    let (server, rescuer) = server.rescuer();
    let candidate = proposed(&rescuer, &pod).unwrap();
    assert_eq!(rescuer.rescue(&candidate).await.unwrap(), Handled::Evicted);
    assert!(server.said().is_empty(), "the eviction does not wait for it");
    rescuer.publish(&rescued(), &candidate.reference()).await;
    assert_eq!(server.said(), [("Rescued".to_owned(), "a".to_owned())]);
}

#[tokio::test]
async fn an_owner_that_eviction_does_not_help_is_told_and_paused() {
    let (server, rescuer) = ApiServer::with(Some(stuck("a", BEFORE))).rescuer();
    let candidate = proposed(&rescuer, &stuck("a", BEFORE)).unwrap();
    assert_eq!(rescuer.rescue(&candidate).await.unwrap(), Handled::Evicted);

    // It need not be stuck yet.
    let next = changed(stuck("b", AFTER), "/status/containerStatuses", json!([]));
    let (proposals, mut backlog) = channel();
    rescuer.look_at(&read(&next), &proposals);
    let notice = backlog.notices.try_recv().unwrap();
    assert_eq!(notice.owner, "ReplicaSet web");
    assert!(notice.text().contains("for 10 minutes"), "{}", notice.text());
    rescuer.publish(&notice.event(), &notice.pod).await;
    assert_eq!(server.said(), [("NotRescued".to_owned(), "b".to_owned())]);

    rescuer.look_at(&read(&stuck("b", AFTER)), &proposals);
    assert!(backlog.notices.try_recv().is_err(), "it is said once");
    let candidate = backlog.candidates.try_recv().unwrap();
    rescuer.take_turn(&candidate).await;
    assert_eq!(server.evicted().len(), 1);

    let mut repaired = stuck("c", AFTER);
    repaired["spec"]["imagePullSecrets"] = json!([{"name": "pullpass-open"}]);
    assert_eq!(rescuer.judge(&read(&repaired)), RescueStep::Leave);
    assert!(rescuer.evictions().allow("web", "b", Timestamp::now()));
}

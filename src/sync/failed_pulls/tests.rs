use std::time::Duration;

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::admission::demand::{Demand, DemandReceiver, channel};
use crate::policy::scope::Mode;
use crate::sync::credentials::Seen;
use crate::sync::held_credential::HeldCredential;
use crate::sync::secrets::tests::registry;
use crate::view::View;

/// Bounds how long a broken test takes.
const SOON: Duration = Duration::from_mins(1);

fn pod() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "apps"},
        "spec": {
            "containers": [{"name": "main", "image": "myregistry.azurecr.io/a"}],
            "imagePullSecrets": [{"name": "pullpass-mine"}],
        },
        "status": {"phase": "Running"},
    })
}

fn event(namespace: &str, message: &str) -> Value {
    json!({"type": "ADDED", "object": {
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": "web.1", "namespace": namespace, "resourceVersion": "8"},
        "involvedObject": {"kind": "Pod", "namespace": namespace, "name": "web"},
        "message": message,
    }})
}

/// One that knows the namespace apps and a registry, and whose API server has a Pod and tells these Events of a reason.
fn failed_pulls(reason: &'static str, events: &[Value], pod: Value) -> (FailedPulls, DemandReceiver) {
    let lines = events.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let told = Mutex::new(Some(lines));
    let server = tower::service_fn(move |request: Request<Body>| {
        let uri = request.uri().to_string();
        let text = if uri.contains("/pods/web") {
            pod.to_string()
        } else if uri.contains("watch=true") {
            let is_asked =
                uri.contains(&format!("reason%3D{reason}&")) || uri.ends_with(&format!("reason%3D{reason}"));
            is_asked
                .then(|| told.lock().unwrap().take())
                .flatten()
                .unwrap_or_default()
        } else {
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": []})
                .to_string()
        };
        std::future::ready(Ok::<_, std::io::Error>(Response::new(Body::from(
            text.into_bytes(),
        ))))
    });
    let view = Arc::new(View::default());
    view.set_registries(
        std::iter::once(registry(&json!({"namespaces": {"matchLabels": {"team": "a"}}}))).collect(),
    );
    let labels = [("team".to_owned(), "a".to_owned())].into();
    view.set_namespace("apps", &labels);
    view.set_namespace("kube-system", &labels);
    view.set_namespace("others", &[].into());
    let watches = Watches::new(view);
    hold_credential(&watches);
    let metrics = Arc::new(Metrics::new(|| 0));
    let (sender, receiver) = channel(Arc::clone(&metrics));
    let failed_pulls = FailedPulls::new(
        Client::new(server, "default"),
        Arc::new(watches),
        Scope::new(Mode::ClusterWide, "own", []),
        metrics,
        sender,
    );
    (failed_pulls, receiver)
}

fn hold_credential(watches: &Watches) {
    let registries = watches.view.registries();
    let credential = HeldCredential {
        docker_config: k8s_openapi::ByteString(Vec::new()),
        audience: None,
        refreshed_at: jiff::Timestamp::UNIX_EPOCH,
        expires_at: None,
        inputs: String::new(),
        fingerprint: registries
            .by_name("mine")
            .map(|registry| registry.fingerprint().to_owned()),
        namespaces: None,
    };
    watches.learn("mine", credential, None, Seen::new());
}

/// The first demand that comes of these Events.
async fn demand_of(reason: &'static str, events: &[Value], pod: Value) -> Option<Demand> {
    let (failed_pulls, mut demands) = failed_pulls(reason, events, pod);
    tokio::select! {
        () = failed_pulls.follow_events() => panic!("it ended"),
        demand = timeout(SOON, demands.recv()) => demand.ok().flatten(),
    }
}

const MISSING: &str = "FailedToRetrieveImagePullSecret";
const NOT_FOUND: &str = "Unable to retrieve some image pull secrets (pullpass-mine); attempting to pull …";
const NOT_PULLED: &str = "Failed to pull image \"myregistry.azurecr.io/a\": 401 Unauthorized";

#[tokio::test(start_paused = true)]
async fn events_of_kubelets_demand_the_secret_of_their_pod() {
    for (reason, message) in [(MISSING, NOT_FOUND), ("Failed", NOT_PULLED)] {
        let demand = demand_of(reason, &[event("apps", message)], pod()).await.unwrap();
        assert_eq!(
            (demand.namespace.as_str(), demand.registry.as_str()),
            ("apps", "mine")
        );
        assert!(demand.failed);
    }
}

#[tokio::test(start_paused = true)]
async fn events_demand_only_what_a_pod_names_and_may_have() {
    let mut other = pod();
    other["spec"]["imagePullSecrets"] = json!([{"name": "by-hand"}]);
    let mut ended = pod();
    ended["status"]["phase"] = json!("Succeeded");
    for (namespace, pod) in [
        ("apps", other),
        ("apps", ended),
        // Not in the cache, excluded, and without the label that the registry asks for.
        ("made-up", pod()),
        ("kube-system", pod()),
        ("others", pod()),
    ] {
        let demand = demand_of(MISSING, &[event(namespace, NOT_FOUND)], pod.clone()).await;
        assert!(demand.is_none(), "{namespace} {pod}: {demand:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_events_is_one_demand_and_one_look() {
    let events = vec![event("apps", NOT_FOUND); 1_000];
    let (failed_pulls, mut demands) = failed_pulls(MISSING, &events, pod());
    let demanded = async {
        assert!(demands.recv().await.is_some());
        timeout(Duration::from_secs(5), demands.recv()).await
    };
    tokio::select! {
        () = failed_pulls.follow_events() => panic!("it ended"),
        second = demanded => assert!(second.is_err(), "{second:?}"),
    }
    let metrics = failed_pulls.metrics.encode().unwrap();
    let counted = "pullpass_secret_rewrites_total{reason=\"secret-missing\"} 1\n";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_for_its_image_demands_the_secret() {
    let (failed_pulls, mut demands) = failed_pulls(MISSING, &[], pod());
    let waiting = |reason: &str| {
        let mut pod = pod();
        pod["status"]["containerStatuses"] =
            json!([{"name": "main", "restartCount": 3, "state": {"waiting": {"reason": reason}}}]);
        serde_json::from_value::<Pod>(pod).unwrap()
    };
    failed_pulls.look_at(&waiting("CrashLoopBackOff"));
    assert!(demands.is_empty());
    for _ in 0..1_000 {
        failed_pulls.look_at(&waiting("ErrImagePull"));
        failed_pulls.look_at(&waiting("ImagePullBackOff"));
    }
    assert_eq!(demands.len(), 1);
    assert!(demands.recv().await.is_some_and(|demand| demand.failed));
}

#[tokio::test(start_paused = true)]
async fn without_a_credential_nothing_is_demanded() {
    let (failed_pulls, demands) = failed_pulls(MISSING, &[], pod());
    let mut waiting = pod();
    waiting["status"]["containerStatuses"] =
        json!([{"name": "main", "restartCount": 3, "state": {"waiting": {"reason": "ErrImagePull"}}}]);
    let waiting: Pod = serde_json::from_value(waiting).unwrap();
    failed_pulls.watches.credentials.remove("mine");
    failed_pulls.look_at(&waiting);
    assert!(demands.is_empty());
    hold_credential(&failed_pulls.watches);
    failed_pulls.look_at(&waiting);
    assert_eq!(demands.len(), 1, "which counts as no write before");
}

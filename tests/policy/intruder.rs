//! A mutating webhook of somebody else: it adds a container to every Pod, or fetches what a Pod pulls with.

use std::error::Error;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_server::tls_rustls::RustlsConfig;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use pullpass_test_support::{Authority, ControlPlane, kube_client};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::world::{pull_secrets, text};

pub struct Intruder {
    calls: Arc<AtomicUsize>,
    // It ends with the runtime.
    _runtime: Runtime,
}

/// What it does with each Pod.
#[derive(Clone)]
enum Task {
    /// Adds a container with this image.
    Add(String),
    /// Reads the Secrets that the Pod names, as one does that fetches the image, and refuses the Pod without them.
    Fetch(Client),
}

#[derive(Clone)]
struct Called {
    task: Task,
    calls: Arc<AtomicUsize>,
}

impl Intruder {
    /// Starts one that adds a container, and has the API server ask it, as the webhook of this name.
    pub fn start(cluster: &ControlPlane, name: &str, image: &str) -> Result<Self, Box<dyn Error>> {
        Self::with(cluster, name, |_| Ok(Task::Add(image.to_owned())))
    }

    /// Starts one that fetches the image of a Pod by the Secrets that the Pod names.
    pub fn fetching(cluster: &ControlPlane, name: &str) -> Result<Self, Box<dyn Error>> {
        Self::with(cluster, name, |runtime| {
            Ok(Task::Fetch(kube_client(runtime, cluster.kubeconfig())?))
        })
    }

    fn with(
        cluster: &ControlPlane,
        name: &str,
        task: impl FnOnce(&Runtime) -> Result<Task, Box<dyn Error>>,
    ) -> Result<Self, Box<dyn Error>> {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = Authority::new()?;
        let identity = authority.server(&["127.0.0.1"])?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let calls = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let called = Called {
            task: task(&runtime)?,
            calls: Arc::clone(&calls),
        };
        let router = Router::new().route("/", post(answer)).with_state(called);
        runtime.block_on(async {
            let (certificate, key) = (identity.certificate.into_bytes(), identity.key.into_bytes());
            let config = RustlsConfig::from_pem(certificate, key).await?;
            let server = axum_server::from_tcp_rustls(listener, config)?;
            tokio::spawn(server.serve(router.into_make_service()));
            Ok::<_, std::io::Error>(())
        })?;
        let webhook = json!({
            "name": format!("{name}.example.com"),
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "clientConfig": {
                "url": format!("https://127.0.0.1:{port}/"),
                "caBundle": STANDARD.encode(authority.pem()),
            },
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        });
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [webhook],
        });
        cluster.apply(&configuration.to_string())?;
        Ok(Self {
            calls,
            _runtime: runtime,
        })
    }

    /// Whether it is asked while something is done.
    pub fn was_called_by(&self, work: impl FnOnce()) -> bool {
        let before = self.calls.load(Ordering::Relaxed);
        work();
        self.calls.load(Ordering::Relaxed) > before
    }
}

async fn answer(State(called): State<Called>, review: Bytes) -> Response {
    let review: Value = serde_json::from_slice(&review).unwrap_or_default();
    called.calls.fetch_add(1, Ordering::Relaxed);
    let uid = review.pointer("/request/uid");
    let response = match called.task {
        Task::Add(image) => {
            let container = json!({"name": "intruder", "image": image});
            let patch = json!([{"op": "add", "path": "/spec/containers/-", "value": container}]);
            let patch = STANDARD.encode(patch.to_string());
            json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": patch})
        }
        Task::Fetch(client) => {
            let missing = missing(client, &review).await;
            json!({"uid": uid, "allowed": missing.is_empty(), "status": {"message": format!("no Secret {missing:?}")}})
        }
    };
    let answer =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}

/// The Secrets that the Pod names and its namespace lacks.
async fn missing(client: Client, review: &Value) -> Vec<String> {
    let pod = review.pointer("/request/object").unwrap_or(&Value::Null);
    let secrets: Api<Secret> = Api::namespaced(client, text(review, "/request/namespace"));
    let mut missing = Vec::new();
    for name in pull_secrets(pod) {
        if !matches!(secrets.get_opt(name).await, Ok(Some(_))) {
            missing.push(name.to_owned());
        }
    }
    missing
}

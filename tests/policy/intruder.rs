//! A mutating webhook of somebody else, which adds a container to every Pod.

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
use pullpass_test_support::{Authority, ControlPlane};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

pub struct Intruder {
    calls: Arc<AtomicUsize>,
    // It ends with the runtime.
    _runtime: Runtime,
}

#[derive(Clone)]
struct Adding {
    image: String,
    calls: Arc<AtomicUsize>,
}

impl Intruder {
    /// Starts one and has the API server ask it, as the webhook of this name.
    pub fn start(cluster: &ControlPlane, name: &str, image: &str) -> Result<Self, Box<dyn Error>> {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = Authority::new()?;
        let identity = authority.server(&["127.0.0.1"])?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let calls = Arc::new(AtomicUsize::new(0));
        let adding = Adding {
            image: image.to_owned(),
            calls: Arc::clone(&calls),
        };
        let router = Router::new().route("/", post(add)).with_state(adding);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
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

async fn add(State(adding): State<Adding>, review: Bytes) -> Response {
    let review: Value = serde_json::from_slice(&review).unwrap_or_default();
    adding.calls.fetch_add(1, Ordering::Relaxed);
    let container = json!({"name": "intruder", "image": adding.image});
    let patch = json!([{"op": "add", "path": "/spec/containers/-", "value": container}]);
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {
            "uid": review.pointer("/request/uid"),
            "allowed": true,
            "patchType": "JSONPatch",
            "patch": STANDARD.encode(patch.to_string()),
        },
    });
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}

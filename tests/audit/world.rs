//! `pullpass serve` without a cluster, and its clients.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pullpass_test_support::{Webhook, trusting};
use serde_json::{Value, json};
use tokio::time::timeout;

/// Only bounds how long a broken test takes.
pub const SOON: Duration = Duration::from_mins(2);

const REGISTRY: &str = "apiVersion: pullpass.dev/v1alpha1\nkind: AcrRegistry\nmetadata: {name: mine}\nspec: {loginServer: myregistry.azurecr.io, identity: {managedIdentity: {}}}\n";

pub struct World {
    pub webhook: Webhook,
    /// Not pullpass' own, whose faults its server might share.
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl World {
    /// Starts it with one registry attached.
    pub fn start(flags: &[OsString]) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_pullpass"));
        let webhook = Webhook::start(binary, "pullpass-system", &[REGISTRY.to_owned()], flags).unwrap();
        let trust = trusting(webhook.authority().pem()).unwrap();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config((*trust).clone())
            .https_only()
            .enable_http1()
            .build();
        let http = Client::builder(TokioExecutor::new()).build(connector);
        Self { webhook, http }
    }

    /// Sends a review; the answer's `response`.
    pub async fn admit(&self, review: &Value) -> Value {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://localhost:{}/mutate", self.webhook.port()))
            .header("content-type", "application/json")
            .body(Full::from(review.to_string()))
            .unwrap();
        let answered = async {
            let answer = self.http.request(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            answer.into_body().collect().await.unwrap().to_bytes()
        };
        // A machine with much else to do is slow, and that is no failure here.
        let body = timeout(SOON, answered).await.unwrap();
        let mut answer: Value = serde_json::from_slice(&body).unwrap();
        answer["response"].take()
    }

    /// What it counted as dropped.
    pub fn dropped(&self) -> u64 {
        let metrics = self.webhook.metrics().unwrap();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("pullpass_audit_dropped_total "));
        line.unwrap().parse().unwrap()
    }
}

/// A flag with its value.
pub fn flag(name: &str, value: impl Into<OsString>) -> OsString {
    let mut flag = OsString::from(name);
    flag.push("=");
    flag.push(value.into());
    flag
}

/// A review of a Pod with these images, which a controller makes.
pub fn review(uid: &str, namespace: &str, images: &[&str]) -> Value {
    let containers: Vec<_> = images
        .iter()
        .enumerate()
        .map(|(number, image)| json!({"name": format!("c{number}"), "image": image}))
        .collect();
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": uid, "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
        "namespace": namespace, "dryRun": false,
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        "object": {
            "metadata": {"generateName": "web-5d4f8c7b9-", "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8c7b9", "uid": "1", "controller": true}]},
            "spec": {"serviceAccountName": "default", "containers": containers}},
    }})
}

/// How many records these lines account for: themselves, and those that they say are missing.
pub fn accounted<'a>(lines: impl IntoIterator<Item = &'a Value>) -> (u64, u64) {
    lines
        .into_iter()
        .fold((0, 0), |(records, told), line| match line["dropped"].as_u64() {
            Some(dropped) => (records, told + dropped),
            None => (records + 1, told),
        })
}

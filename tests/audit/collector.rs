//! An OTLP collector that does what the test says.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_server::tls_rustls::RustlsConfig;
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use pullpass_test_support::Identity;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What it answers a request with; when nothing is left, it takes everything.
pub enum Answer {
    Status(StatusCode),
    /// The same, with so many seconds as `Retry-After`.
    RetryAfter(StatusCode, u64),
    /// All but so many records.
    Rejects(i64),
}

pub struct Collector {
    pub port: u16,
    state: Arc<Received>,
    serving: JoinHandle<()>,
}

struct Received {
    answers: Mutex<VecDeque<Answer>>,
    requests: Mutex<Vec<(Instant, HeaderMap)>>,
    records: Mutex<Vec<LogRecord>>,
    resources: Mutex<Vec<Resource>>,
    open: watch::Sender<bool>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Collector {
    /// On any port.
    pub fn start(answers: Vec<Answer>) -> Self {
        Self::listen(0, answers, true)
    }

    /// One that answers nothing until it is let.
    pub fn hanging() -> Self {
        Self::listen(0, Vec::new(), false)
    }

    pub fn at(port: u16) -> Self {
        Self::listen(port, Vec::new(), true)
    }

    fn listen(port: u16, answers: Vec<Answer>, open: bool) -> Self {
        let (listener, state, router) = Self::parts(port, answers, open);
        let port = listener.local_addr().unwrap().port();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, state, serving }
    }

    /// One that has a certificate.
    pub async fn tls(identity: &Identity) -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (certificate, key) = (identity.certificate.clone(), identity.key.clone());
        let config = RustlsConfig::from_pem(certificate.into_bytes(), key.into_bytes())
            .await
            .unwrap();
        let (listener, state, router) = Self::parts(0, Vec::new(), true);
        let port = listener.local_addr().unwrap().port();
        let server = axum_server::from_tcp_rustls(listener, config).unwrap();
        let serving = tokio::spawn(async move { server.serve(router.into_make_service()).await.unwrap() });
        Self { port, state, serving }
    }

    fn parts(port: u16, answers: Vec<Answer>, open: bool) -> (TcpListener, Arc<Received>, Router) {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let state = Arc::new(Received {
            answers: Mutex::new(answers.into()),
            requests: Mutex::default(),
            records: Mutex::default(),
            resources: Mutex::default(),
            open: watch::Sender::new(open),
        });
        let router = Router::new()
            .route("/v1/logs", post(logs))
            .with_state(Arc::clone(&state));
        (listener, state, router)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Lets it answer.
    pub fn open(&self) {
        self.state.open.send_replace(true);
    }

    /// When requests came, and their headers.
    pub fn requests(&self) -> Vec<(Instant, HeaderMap)> {
        self.state.requests.lock().unwrap().clone()
    }

    /// What it took.
    pub fn records(&self) -> Vec<LogRecord> {
        self.state.records.lock().unwrap().clone()
    }

    /// The bodies of what it took, as the JSON that they came of.
    pub fn bodies(&self) -> Vec<Value> {
        self.records()
            .iter()
            .map(|record| json(record.body.as_ref()))
            .collect()
    }

    pub fn resources(&self) -> Vec<Resource> {
        self.state.resources.lock().unwrap().clone()
    }
}

async fn logs(State(state): State<Arc<Received>>, headers: HeaderMap, body: Bytes) -> Response {
    state.requests.lock().unwrap().push((Instant::now(), headers));
    let mut open = state.open.subscribe();
    open.wait_for(|open| *open).await.unwrap();
    let answer = state.answers.lock().unwrap().pop_front();
    let mut rejected_log_records = 0;
    match answer {
        Some(Answer::Status(status)) => return status.into_response(),
        Some(Answer::RetryAfter(status, seconds)) => {
            return (status, [("retry-after", seconds.to_string())]).into_response();
        }
        Some(Answer::Rejects(count)) => rejected_log_records = count,
        None => {}
    }
    let request = ExportLogsServiceRequest::decode(body).unwrap();
    for resource_logs in request.resource_logs {
        state.resources.lock().unwrap().extend(resource_logs.resource);
        for scope_logs in resource_logs.scope_logs {
            let mut records = state.records.lock().unwrap();
            records.extend(
                scope_logs
                    .log_records
                    .into_iter()
                    .skip(usize::try_from(rejected_log_records).unwrap()),
            );
        }
    }
    let partial_success = ExportLogsPartialSuccess {
        rejected_log_records,
        error_message: String::new(),
    };
    let answer = ExportLogsServiceResponse {
        partial_success: Some(partial_success).filter(|partial| partial.rejected_log_records > 0),
    };
    answer.encode_to_vec().into_response()
}

/// The attributes as JSON.
pub fn attributes(attributes: &[KeyValue]) -> Value {
    let entries = attributes
        .iter()
        .map(|attribute| (attribute.key.clone(), json(attribute.value.as_ref())));
    Value::Object(entries.collect::<Map<_, _>>())
}

fn json(value: Option<&AnyValue>) -> Value {
    match value.and_then(|value| value.value.as_ref()) {
        None => Value::Null,
        Some(Any::StringValue(text)) => text.as_str().into(),
        Some(Any::BoolValue(truth)) => (*truth).into(),
        Some(Any::IntValue(integer)) => (*integer).into(),
        Some(Any::ArrayValue(array)) => array.values.iter().map(|value| json(Some(value))).collect(),
        Some(Any::KvlistValue(list)) => attributes(&list.values),
        Some(other) => panic!("no record has {other:?}"),
    }
}

//! A server in this process, and a client that trusts it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Channel, Full, combinators::BoxBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pullpass::admission::Admission;
use pullpass::audit::{AuditLog, Destination};
use pullpass::base::readiness::Readiness;
use pullpass::metrics::Metrics;
use pullpass::policy::decision::Settings;
use pullpass::server::{
    BodyLimits, Limits, ListenError, Server, TlsError, TlsFiles, TlsReloader, Webhook, admin_router,
    webhook_router,
};
use pullpass::view::View;
use pullpass::view::manifests::Manifests;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const REGISTRY: &str = "apiVersion: pullpass.dev/v1alpha1\nkind: AcrRegistry\nmetadata: {name: mine}\nspec: {loginServer: myregistry.azurecr.io, identity: {managedIdentity: {}}}\n";

pub fn install_provider() {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A review of a Pod with one image.
pub fn review(image: &str) -> Vec<u8> {
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
        "namespace": "apps", "userInfo": {"username": "jane"}, "dryRun": false, "object": {
            "metadata": {"generateName": "web-", "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": true}]},
            "spec": {"serviceAccountName": "default", "containers": [{"name": "c", "image": image}]}},
    }})
    .to_string()
    .into_bytes()
}

pub struct Authority {
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    pub fn issue(&self, name: &str) -> Pair {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair {
            certificate,
            key: key.serialize_pem(),
        }
    }
}

pub struct Fixture {
    pub authority: Authority,
    pub readiness: Arc<Readiness>,
    directory: tempfile::TempDir,
    reloader: TlsReloader,
    address: SocketAddr,
    admin_address: SocketAddr,
    shutdown: Option<Box<dyn FnOnce() + Send>>,
    served: Option<JoinHandle<Result<(), ListenError>>>,
    versions: AtomicU32,
}

impl Fixture {
    pub fn start(limits: Limits) -> Self {
        Self::start_with(limits, None)
    }

    pub fn start_one_at_a_time() -> Self {
        Self::begin(Limits::default(), BodyLimits::default(), None, 1)
    }

    pub fn start_with(limits: Limits, clients: Option<&Authority>) -> Self {
        Self::begin(limits, BodyLimits::default(), clients, 8)
    }

    pub fn start_with_bodies(bodies: BodyLimits) -> Self {
        Self::begin(Limits::default(), bodies, None, 8)
    }

    fn begin(limits: Limits, bodies: BodyLimits, clients: Option<&Authority>, max_concurrent: usize) -> Self {
        install_provider();
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let authority = Authority::new("server");
        fs::create_dir(path("tls")).unwrap();
        let pair = authority.issue("localhost");
        write_version(&path("tls"), "..0", &pair.certificate, &pair.key);
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), path("tls").join(name)).unwrap();
        }
        let client_ca = clients.map(|clients| {
            fs::write(path("clients.pem"), &clients.certificate).unwrap();
            path("clients.pem")
        });
        let files = TlsFiles {
            certificate: path("tls/tls.crt"),
            key: path("tls/tls.key"),
            client_ca,
        };
        let (reloader, certificate) = TlsReloader::open(files).unwrap();

        fs::create_dir(path("cluster")).unwrap();
        fs::write(path("cluster/registry.yaml"), REGISTRY).unwrap();
        let view = Arc::new(View::default());
        Manifests::read(&path("cluster")).unwrap().publish(&view);
        let audit = Arc::new(AuditLog::open(&Destination::File(path("audit.log"))).unwrap());
        let metrics = Arc::new(Metrics::new(|| 0));
        metrics.certificate_expires(certificate.expires);
        let settings = Settings {
            scope: pullpass::policy::scope::Scope::new(pullpass::policy::scope::Mode::ClusterWide, "own", []),
            ..Settings::default()
        };
        let admission = Admission::new(view, settings, audit, Arc::clone(&metrics));
        let readiness = Arc::new(Readiness::default());
        for check in [
            &readiness.certificate,
            &readiness.registries,
            &readiness.namespaces,
            &readiness.credentials,
        ] {
            check.store(true, Ordering::Release);
        }
        let webhook = Webhook::new(admission, max_concurrent, Arc::clone(&readiness)).with_bodies(bodies);
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(anywhere, limits)
            .unwrap()
            .counted(Arc::clone(&metrics));
        let admin = Server::bind(anywhere, limits).unwrap();
        let (address, admin_address) = (server.address(), admin.address());
        let shutdown = server.shutdown_handle();
        let serving = tokio::spawn(server.serve_tls(reloader.served(), webhook_router(webhook)));
        tokio::spawn(admin.serve_plain(admin_router(Arc::clone(&readiness), metrics)));
        Self {
            authority,
            readiness,
            directory,
            reloader,
            address,
            admin_address,
            shutdown: Some(Box::new(shutdown)),
            served: Some(serving),
            versions: AtomicU32::new(1),
        }
    }

    /// Ends the server; what comes back is what it ended with.
    pub fn end(mut self) -> JoinHandle<Result<(), ListenError>> {
        (self.shutdown.take().unwrap())();
        self.served.take().unwrap()
    }

    pub fn swap(&self, pair: &Pair) {
        self.swap_files(&pair.certificate, &pair.key);
    }

    /// Changes the volume as the kubelet does: a new directory, and one rename of the link.
    pub fn swap_files(&self, certificate: &str, key: &str) {
        let version = format!("..{}", self.versions.fetch_add(1, Ordering::Relaxed));
        write_version(&self.directory.path().join("tls"), &version, certificate, key);
    }

    pub fn reload(&mut self) -> Result<bool, TlsError> {
        self.reloader.reload().map(|certificate| certificate.is_some())
    }

    pub async fn served_certificate(&self) -> Vec<u8> {
        let stream = connect(self, b"h2", None).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    /// The audit log, once it has so many lines.
    pub async fn audit_lines(&self, count: usize) -> Vec<Value> {
        let path: PathBuf = self.directory.path().join("audit.log");
        let poll = async {
            loop {
                let text = fs::read_to_string(&path).unwrap();
                if text.matches('\n').count() >= count {
                    return text
                        .lines()
                        .map(|line| serde_json::from_str(line).unwrap())
                        .collect();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), poll)
            .await
            .expect("the audit log has its lines")
    }

    pub async fn admin(&self, path: &str) -> (StatusCode, String) {
        let stream = TcpStream::connect(self.admin_address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = Request::get(path)
            .header("host", "localhost")
            .body(Full::<Bytes>::default())
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

fn write_version(volume: &Path, version: &str, certificate: &str, key: &str) {
    fs::create_dir(volume.join(version)).unwrap();
    fs::write(volume.join(version).join("tls.crt"), certificate).unwrap();
    fs::write(volume.join(version).join("tls.key"), key).unwrap();
    symlink(version, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

async fn connect(
    fixture: &Fixture,
    protocol: &[u8],
    identity: Option<Pair>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(fixture.authority.certificate.as_bytes()).unwrap())
        .unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(pair) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(fixture.address).await?;
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
}

pub struct Idle<S>(S);

impl<S: tokio::io::AsyncRead + Unpin> Idle<S> {
    /// Whether the server ends the connection by itself; HTTP/2 servers may say goodbye first.
    pub async fn closed_by_server(mut self) -> bool {
        let mut said = Vec::new();
        tokio::time::timeout(Duration::from_secs(20), self.0.read_to_end(&mut said))
            .await
            .is_ok()
    }
}

/// A request over HTTP/1.1 whose body does not come, and which the server waits for.
pub struct Pending(TlsStream<TcpStream>);

impl Pending {
    /// Announces a body, and sends the beginning of it, which may be nothing.
    pub async fn start(fixture: &Fixture, length: usize, beginning: &[u8]) -> Self {
        let mut stream = connect(fixture, b"http/1.1", None).await.unwrap();
        let head = format!(
            "POST /mutate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nexpect: 100-continue\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // This is what the server says when it begins to wait for the body.
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(beginning).await.unwrap();
        stream.flush().await.unwrap();
        Self(stream)
    }

    /// What the server says in the end, without being sent more.
    pub async fn answer(mut self) -> String {
        let mut answer = Vec::new();
        let reading = self.0.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_secs(20), reading)
            .await
            .expect("the server ends the request")
            .ok();
        String::from_utf8(answer).unwrap()
    }
}

/// A metric's value, once it is as expected.
pub async fn metric(fixture: &Fixture, name: &str, expected: &str) {
    let line = format!("{name} {expected}\n");
    let poll = async {
        loop {
            let (_, text) = fixture.admin("/metrics").await;
            if text.contains(&line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(20), poll).await;
    assert!(
        found.is_ok(),
        "no {line} in {}",
        fixture.admin("/metrics").await.1
    );
}

pub async fn silent_connection(fixture: &Fixture) -> Idle<TcpStream> {
    Idle(TcpStream::connect(fixture.address).await.unwrap())
}

pub async fn tls_without_request(fixture: &Fixture) -> Idle<TlsStream<TcpStream>> {
    Idle(connect(fixture, b"http/1.1", None).await.unwrap())
}

/// How many requests the server lets a connection have at the same time.
pub async fn streams(fixture: &Fixture) -> usize {
    let stream = TokioIo::new(connect(fixture, b"h2", None).await.unwrap());
    let (mut sender, mut connection) =
        hyper::client::conn::http2::handshake::<_, _, Body>(TokioExecutor::new(), stream)
            .await
            .unwrap();
    let probe = Request::get("https://localhost/probe")
        .body(full(Vec::new()))
        .unwrap();
    tokio::select! {
        ended = &mut connection => panic!("the connection ended: {ended:?}"),
        answer = sender.send_request(probe) => answer.unwrap(),
    };
    connection.current_max_send_streams()
}

type Body = BoxBody<Bytes, std::io::Error>;

pub enum Client {
    Http1(tokio::sync::Mutex<hyper::client::conn::http1::SendRequest<Body>>),
    H2(hyper::client::conn::http2::SendRequest<Body>),
}

impl Client {
    pub async fn http1(fixture: &Fixture) -> Self {
        let stream = TokioIo::new(connect(fixture, b"http/1.1", None).await.unwrap());
        let (sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self::Http1(tokio::sync::Mutex::new(sender))
    }

    pub async fn h2(fixture: &Fixture) -> Self {
        Self::try_h2(fixture, None).await.unwrap()
    }

    /// With TLS 1.3 a refused client certificate shows only when the client reads: so a request is sent.
    pub async fn try_h2(fixture: &Fixture, identity: Option<Pair>) -> Result<Self, String> {
        let stream = connect(fixture, b"h2", identity)
            .await
            .map_err(|error| error.to_string())?;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let client = Self::H2(sender);
        let probe = Request::get("https://localhost/probe")
            .body(full(Vec::new()))
            .unwrap();
        client
            .request(probe)
            .await
            .map(|_| client)
            .map_err(|error| error.to_string())
    }

    /// Waits until the server ends the connection.
    pub async fn closed(&self) {
        let poll = async {
            loop {
                let is_closed = match self {
                    Self::Http1(sender) => sender.lock().await.is_closed(),
                    Self::H2(sender) => sender.is_closed(),
                };
                if is_closed {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), poll)
            .await
            .expect("the server ends the connection");
    }

    async fn request(&self, request: Request<Body>) -> hyper::Result<(StatusCode, Bytes)> {
        let answer = match self {
            Self::Http1(sender) => sender.lock().await.send_request(request).await?,
            Self::H2(sender) => sender.clone().send_request(request).await?,
        };
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    pub async fn send(&self, method: &Method, path: &str, kind: &str, body: Vec<u8>) -> (StatusCode, String) {
        let uri = match self {
            Self::Http1(_) => path.to_owned(),
            Self::H2(_) => format!("https://localhost{path}"),
        };
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "localhost")
            .header("content-type", kind)
            .body(full(body))
            .unwrap();
        let (status, body) = self.request(request).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    pub async fn review(&self, body: &[u8]) -> Value {
        let (status, text) = self
            .send(&Method::POST, "/mutate", "application/json", body.to_vec())
            .await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Announces a body and sends none of it; gives the answer's status.
    pub async fn begin_with_length(&self, length: usize) -> StatusCode {
        let Self::H2(sender) = self else {
            panic!("an upload goes over h2")
        };
        let (bytes, channel) = Channel::<Bytes, std::io::Error>::new(1);
        let request = Request::post("https://localhost/mutate")
            .header("content-type", "application/json")
            .header("content-length", length)
            .body(BodyExt::boxed(channel))
            .unwrap();
        let answer = sender.clone().send_request(request).await.unwrap();
        drop(bytes);
        answer.status()
    }

    /// Sends half of a review.
    pub async fn begin(&self, body: &[u8]) -> Upload {
        let Self::H2(sender) = self else {
            panic!("an upload goes over h2")
        };
        let (mut bytes, channel) = Channel::<Bytes, std::io::Error>::new(4);
        let (first, second) = body.split_at(body.len() / 2);
        bytes.send_data(Bytes::copy_from_slice(first)).await.unwrap();
        let request = Request::post("https://localhost/mutate")
            .header("content-type", "application/json")
            .body(BodyExt::boxed(channel))
            .unwrap();
        let mut sender = sender.clone();
        let answer = tokio::spawn(async move {
            let answer = sender.send_request(request).await.unwrap();
            answer.into_body().collect().await.unwrap().to_bytes()
        });
        // The server must have the request before it is told to end: a second stream's answer proves it.
        self.send(&Method::GET, "/probe", "text/plain", Vec::new()).await;
        Upload {
            bytes,
            rest: Bytes::copy_from_slice(second),
            answer,
        }
    }
}

pub struct Upload {
    bytes: http_body_util::channel::Sender<Bytes, std::io::Error>,
    rest: Bytes,
    answer: JoinHandle<Bytes>,
}

impl Upload {
    pub async fn finish(mut self) -> Value {
        self.bytes.send_data(self.rest).await.unwrap();
        drop(self.bytes);
        serde_json::from_slice(&self.answer.await.unwrap()).unwrap()
    }
}

fn full(body: Vec<u8>) -> Body {
    Full::new(Bytes::from(body))
        .map_err(|never| match never {})
        .boxed()
}

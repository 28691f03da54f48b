//! A server in this process.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
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
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::authority::{Authority, Pair};
use crate::client::connect;

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

pub struct Fixture {
    pub authority: Authority,
    pub readiness: Arc<Readiness>,
    directory: tempfile::TempDir,
    reloader: TlsReloader,
    pub address: SocketAddr,
    admin_address: SocketAddr,
    shutdown: Option<Box<dyn FnOnce() + Send>>,
    served: Option<JoinHandle<Result<(), ListenError>>>,
    versions: AtomicU32,
}

impl Fixture {
    pub fn start(limits: Limits) -> Self {
        Self::start_with(limits, None)
    }

    /// Bodies may stop for as long as a busy machine takes for hundreds of connections.
    pub fn start_one_at_a_time() -> Self {
        let bodies = BodyLimits {
            idle_timeout: Duration::from_hours(1),
            read_timeout: Duration::from_hours(1),
            ..BodyLimits::default()
        };
        Self::begin(Limits::default(), bodies, None, 1)
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
        Manifests::read(&path("cluster"), view.other_cloud())
            .unwrap()
            .publish(&view);
        let audit = Arc::new(AuditLog::open(&Destination::File(path("audit.log"))).unwrap());
        let metrics = Arc::new(Metrics::new(|| 0));
        metrics.certificate_expires(certificate.expires);
        let settings = Settings {
            scope: pullpass::policy::scope::Scope::new(pullpass::policy::scope::Mode::ClusterWide, "own", []),
            ..Settings::default()
        };
        let admission = Admission::new(view, settings, audit, Arc::clone(&metrics));
        let readiness = Arc::new(Readiness::default());
        readiness.fill_caches();
        readiness.certificate.store(true, Ordering::Release);
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

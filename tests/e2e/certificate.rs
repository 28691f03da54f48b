//! The serving certificate is swapped while Pods are being admitted.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use pullpass_test_support::{FailurePolicy, Installation, wait_for};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::cluster::{SOON, Test, cluster, installation};
use crate::objects::{pod, text};

const ROUNDS: usize = 6;
const STREAMS: usize = 4;
/// How many admissions there are at least between two swaps.
const ADMISSIONS: usize = 25;

#[test]
fn no_admission_fails_while_the_certificate_is_swapped() -> Test {
    let pullpass = installation()?
        .registry("myregistry")
        .failure_policy(FailurePolicy::Fail)
        .start()?;
    let load = Load::start(pullpass.namespace())?;
    let mut certificate = None;
    for round in 0..ROUNDS {
        load.wait_for_more(ADMISSIONS)?;
        let known = peers(&pullpass)?;
        let next = pullpass.authority().server(&[pullpass.host()])?;
        let expected = CertificateDer::from_pem_slice(next.certificate.as_bytes())?;
        if round % 2 == 0 {
            pullpass.mount_certificate(&next)?;
        } else {
            pullpass.overwrite_certificate(&next)?;
        }
        // A handshake that fails is an error at once; one with the old certificate only comes too early.
        wait_for("the new certificate to be served", SOON, || {
            match served(&pullpass) {
                Ok(served) if served != expected => Err("it is the old one"),
                Ok(_) => Ok(Ok(())),
                Err(error) => Ok(Err(error)),
            }
        })??;
        make_the_api_server_connect_again(&pullpass, round)?;
        wait_for("the API server to connect again", SOON, || {
            let peers = peers(&pullpass).map_err(|error| error.to_string())?;
            if peers.is_subset(&known) {
                return Err(format!("nobody new has; failures: {:#?}", load.shared.failures()));
            }
            Ok(())
        })?;
        certificate = Some(expected);
    }
    load.wait_for_more(ADMISSIONS)?;
    let (admitted, failures) = load.end()?;
    assert!(
        failures.is_empty(),
        "{} of {admitted}: {failures:#?}",
        failures.len()
    );
    assert!(admitted >= (ROUNDS + 1) * ADMISSIONS, "{admitted}");
    assert_eq!(Some(served(&pullpass)?), certificate);
    Ok(())
}

/// The API server keeps connections, which outlive a swap. A trust bundle that it has not seen makes it open one.
fn make_the_api_server_connect_again(pullpass: &Installation<'_>, round: usize) -> Test {
    let bundle = STANDARD.encode(pullpass.authority().pem().repeat(round + 2));
    let patch: Vec<_> = (0..2)
        .map(|webhook| json!({"op": "replace", "path": format!("/webhooks/{webhook}/clientConfig/caBundle"), "value": bundle}))
        .collect();
    let patch = serde_json::to_string(&patch)?;
    cluster()?.run(&[
        "patch",
        "mutatingwebhookconfiguration",
        pullpass.configuration(),
        "--type=json",
        "--patch",
        &patch,
    ])?;
    Ok(())
}

/// The addresses that reviews came from.
fn peers(pullpass: &Installation<'_>) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let records = pullpass.records_in(pullpass.namespace())?;
    Ok(records
        .iter()
        .map(|record| text(record, "/peer").to_owned())
        .collect())
}

/// The certificate that a new connection gets, after it was verified.
fn served(pullpass: &Installation<'_>) -> Result<CertificateDer<'static>, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(
        pullpass.authority().pem().as_bytes(),
    )?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(pullpass.host().to_owned())?;
    let mut connection = ClientConnection::new(Arc::new(config), name)?;
    let mut socket = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, pullpass.port())))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    let chain = connection.peer_certificates().unwrap_or_default();
    Ok(chain.first().ok_or("it presented none")?.clone().into_owned())
}

/// Pods that are created without a pause, in several streams.
struct Load {
    runtime: Runtime,
    streams: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    end: AtomicBool,
    admitted: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Shared {
    fn failures(&self) -> Vec<String> {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Load {
    fn start(namespace: &str) -> Result<Self, Box<dyn Error>> {
        let runtime = Runtime::new()?;
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig = Kubeconfig::read_from(cluster()?.kubeconfig())?;
        let client = runtime.block_on(async {
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            Ok::<_, Box<dyn Error>>(Client::try_from(config)?)
        })?;
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let pod: Pod = serde_json::from_value(pod(namespace, "load", "myregistry.azurecr.io/web:1"))?;
        let shared = Arc::new(Shared::default());
        let streams = (0..STREAMS)
            .map(|_| runtime.spawn(stream(pods.clone(), pod.clone(), Arc::clone(&shared))))
            .collect();
        Ok(Self {
            runtime,
            streams,
            shared,
        })
    }

    fn wait_for_more(&self, count: usize) -> Test {
        let enough = self.shared.admitted.load(Ordering::Relaxed) + count;
        wait_for("admissions", SOON, || {
            self.shared.admitted.load(Ordering::Relaxed) >= enough
        })?;
        Ok(())
    }

    fn end(self) -> Result<(usize, Vec<String>), Box<dyn Error>> {
        self.shared.end.store(true, Ordering::Relaxed);
        for stream in self.streams {
            self.runtime.block_on(stream)?;
        }
        Ok((
            self.shared.admitted.load(Ordering::Relaxed),
            self.shared.failures(),
        ))
    }
}

async fn stream(pods: Api<Pod>, pod: Pod, shared: Arc<Shared>) {
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    while !shared.end.load(Ordering::Relaxed) {
        let failure = match pods.create(&parameters, &pod).await {
            Ok(created) if is_injected(&created) => {
                shared.admitted.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Ok(created) => format!("it was not injected: {created:?}"),
            Err(error) => error.to_string(),
        };
        shared
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(failure);
    }
}

fn is_injected(pod: &Pod) -> bool {
    pod.spec
        .iter()
        .flat_map(|spec| spec.image_pull_secrets.iter().flatten())
        .any(|secret| secret.name == "pullpass-myregistry")
}

//! Pods that are created without a pause, in several streams.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use pullpass_test_support::wait_for;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::world::{SOON, Test, pod};

const STREAMS: usize = 2;

pub struct Load {
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

/// A client of this cluster.
pub fn client(runtime: &Runtime, kubeconfig: &Path) -> Result<Client, Box<dyn Error>> {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    runtime.block_on(async {
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    })
}

impl Load {
    pub fn start(kubeconfig: &Path, namespace: &str) -> Result<Self, Box<dyn Error>> {
        let runtime = Runtime::new()?;
        let client = client(&runtime, kubeconfig)?;
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let pod: Pod = serde_json::from_value(pod(namespace))?;
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

    pub fn wait_for_more(&self, count: usize) -> Test {
        let enough = self.shared.admitted.load(Ordering::Relaxed) + count;
        wait_for("admissions", SOON, || {
            self.shared.admitted.load(Ordering::Relaxed) >= enough
        })?;
        Ok(())
    }

    /// How many were admitted, and what failed.
    pub fn end(self) -> Result<(usize, Vec<String>), Box<dyn Error>> {
        self.shared.end.store(true, Ordering::Relaxed);
        for stream in self.streams {
            self.runtime.block_on(stream)?;
        }
        let failures = self.shared.failures.lock();
        Ok((
            self.shared.admitted.load(Ordering::Relaxed),
            failures.unwrap_or_else(PoisonError::into_inner).clone(),
        ))
    }
}

async fn stream(pods: Api<Pod>, pod: Pod, shared: Arc<Shared>) {
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    while !shared.end.load(Ordering::Relaxed) {
        match pods.create(&parameters, &pod).await {
            Ok(_) => {
                shared.admitted.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => shared
                .failures
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(error.to_string()),
        }
    }
}

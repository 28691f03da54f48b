//! Pods that are created without a pause, in several streams, by somebody who tries again as controllers do.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use pullpass_test_support::{Login, wait_for};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::world::{NAMESPACE, SOON, Test, is_injected, pod};

/// Enough that the API server keeps several connections to each replica.
const STREAMS: usize = 4;
/// Between two Pods of a stream: the machine has more to do than this.
const PAUSE: Duration = Duration::from_millis(20);

pub struct Load {
    runtime: Runtime,
    pods: Api<Pod>,
    pod: Pod,
    streams: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

struct Shared {
    login: Login,
    end: AtomicBool,
    admitted: AtomicUsize,
    bare: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// The result.
pub struct Outcome {
    /// Pods that were created.
    pub admitted: usize,
    /// Those of them that have no pull secret.
    pub bare: usize,
    /// Creations that failed, each of which was tried again until it did not.
    pub failures: Vec<String>,
}

impl Load {
    pub fn start(kubeconfig: &Path, login: &Login) -> Result<Self, Box<dyn Error>> {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Runtime::new()?;
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let client = runtime.block_on(async {
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            Ok::<_, Box<dyn Error>>(Client::try_from(config)?)
        })?;
        let shared = Arc::new(Shared {
            login: login.clone(),
            end: AtomicBool::default(),
            admitted: AtomicUsize::default(),
            bare: AtomicUsize::default(),
            failures: Mutex::default(),
        });
        let pods = Api::namespaced(client, NAMESPACE);
        let pod: Pod = serde_json::from_value(pod(NAMESPACE, login))?;
        let streams = (0..STREAMS)
            .map(|_| runtime.spawn(stream(pods.clone(), pod.clone(), Arc::clone(&shared))))
            .collect();
        Ok(Self {
            runtime,
            pods,
            pod,
            streams,
            shared,
        })
    }

    pub fn wait_for_more(&self, count: usize) -> Test {
        let enough = self.shared.admitted.load(Ordering::Relaxed) + count;
        wait_for("admissions", SOON, || {
            let admitted = self.shared.admitted.load(Ordering::Relaxed);
            if admitted >= enough {
                Ok(())
            } else {
                Err(format!(
                    "{admitted} of {enough}; failures: {:#?}",
                    self.failures()
                ))
            }
        })?;
        Ok(())
    }

    /// Creates more and more concurrently until a condition holds: the API server keeps its connections, and opens others, to an
    /// endpoint of its choice, only for what those can't carry.
    pub fn burst_until(&self, what: &str, mut holds: impl FnMut() -> Result<bool, Box<dyn Error>>) -> Test {
        let mut count = STREAMS;
        wait_for(what, SOON, || {
            count += STREAMS;
            self.burst(count).map_err(|error| error.to_string())?;
            match holds() {
                Ok(true) => Ok(()),
                Ok(false) => Err(format!("not so after {count} together")),
                Err(error) => Err(error.to_string()),
            }
        })?;
        Ok(())
    }

    fn burst(&self, count: usize) -> Test {
        let creations: Vec<_> = (0..count)
            .map(|_| {
                let (pods, pod, shared) = (self.pods.clone(), self.pod.clone(), Arc::clone(&self.shared));
                self.runtime
                    .spawn(async move { timeout(SOON, create(&pods, &pod, &shared)).await })
            })
            .collect();
        for creation in creations {
            self.runtime.block_on(creation)??;
        }
        Ok(())
    }

    /// What failed so far.
    pub fn failures(&self) -> Vec<String> {
        let failures = self.shared.failures.lock();
        failures.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn end(mut self) -> Result<Outcome, Box<dyn Error>> {
        self.shared.end.store(true, Ordering::Relaxed);
        for stream in std::mem::take(&mut self.streams) {
            self.runtime.block_on(async { timeout(SOON, stream).await })??;
        }
        let failures = self.failures();
        Ok(Outcome {
            admitted: self.shared.admitted.load(Ordering::Relaxed),
            bare: self.shared.bare.load(Ordering::Relaxed),
            failures,
        })
    }
}

async fn stream(pods: Api<Pod>, pod: Pod, shared: Arc<Shared>) {
    while !shared.end.load(Ordering::Relaxed) {
        create(&pods, &pod, &shared).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Creates a Pod, however often it takes.
async fn create(pods: &Api<Pod>, pod: &Pod, shared: &Shared) {
    loop {
        match pods.create(&PostParams::default(), pod).await {
            Ok(created) => {
                let created = serde_json::to_value(&created).unwrap_or_default();
                if !is_injected(&created, &shared.login) {
                    shared.bare.fetch_add(1, Ordering::Relaxed);
                }
                shared.admitted.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(error) => shared
                .failures
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(error.to_string()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

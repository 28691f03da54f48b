use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::wait::wait_for;

/// Only bounds how long a broken test takes.
const SOON: Duration = Duration::from_mins(2);

/// Whether a Pod is correct after its admission.
pub type Check = fn(&Value) -> bool;

/// Pods that are created without a pause, in several streams; as dry runs, so that none is left.
pub struct Admissions {
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
        let failures = self.failures.lock();
        failures.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A client of the cluster that a kubeconfig leads to.
pub fn kube_client(runtime: &Runtime, kubeconfig: &Path) -> Result<Client, Error> {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(kubeconfig).map_err(|error| Error::Client(error.to_string()))?;
    runtime.block_on(async {
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let config = config.map_err(|error| Error::Client(error.to_string()))?;
        Client::try_from(config).map_err(|error| Error::Client(error.to_string()))
    })
}

impl Admissions {
    /// Begins to create this Pod in its namespace, in so many streams; one that is admitted and not right is a failure.
    pub fn begin(kubeconfig: &Path, pod: Value, streams: usize, is_right: Check) -> Result<Self, Error> {
        let runtime = Runtime::new().map_err(|error| Error::Client(error.to_string()))?;
        let client = kube_client(&runtime, kubeconfig)?;
        let pod: Pod = serde_json::from_value(pod).map_err(|error| Error::Client(error.to_string()))?;
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(client, &namespace);
        let shared = Arc::new(Shared::default());
        let streams = (0..streams)
            .map(|_| runtime.spawn(stream(pods.clone(), pod.clone(), is_right, Arc::clone(&shared))))
            .collect();
        Ok(Self {
            runtime,
            streams,
            shared,
        })
    }

    /// Waits until so many more were admitted.
    pub fn wait_for_more(&self, count: usize) -> Result<(), Error> {
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

    /// What failed so far.
    pub fn failures(&self) -> Vec<String> {
        self.shared.failures()
    }

    /// How many were admitted, and what failed.
    pub fn end(self) -> Result<(usize, Vec<String>), Error> {
        self.shared.end.store(true, Ordering::Relaxed);
        for stream in self.streams {
            self.runtime
                .block_on(stream)
                .map_err(|error| Error::Client(error.to_string()))?;
        }
        Ok((
            self.shared.admitted.load(Ordering::Relaxed),
            self.shared.failures(),
        ))
    }
}

async fn stream(pods: Api<Pod>, pod: Pod, is_right: Check, shared: Arc<Shared>) {
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    while !shared.end.load(Ordering::Relaxed) {
        let failure = match pods.create(&parameters, &pod).await {
            Ok(created) => match serde_json::to_value(&created) {
                Ok(created) if is_right(&created) => {
                    shared.admitted.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                created => format!("it is not right: {created:?}"),
            },
            Err(error) => error.to_string(),
        };
        let mut failures = shared.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.push(failure);
    }
}

//! What admission tells the secret sync: which namespace needs which pull secrets. The channel is bounded and never
//! blocks an answer.

use std::time::Instant;

use tokio::sync::mpsc;

/// How many demands may wait. More are left to the leader, which sees the Pods themselves.
const BACKLOG: usize = 4096;

/// A namespace needs the pull secret of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The namespace.
    pub namespace: String,
    /// The AcrRegistry.
    pub registry: String,
    /// When the Pod was admitted.
    pub since: Instant,
}

/// Takes demands from admission; it never blocks.
#[derive(Debug, Clone)]
pub struct DemandSender(mpsc::Sender<Demand>);

/// What the writer reads demands from.
#[derive(Debug)]
pub struct DemandReceiver(mpsc::Receiver<Demand>);

/// A way from admission to the writer.
pub fn channel() -> (DemandSender, DemandReceiver) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    (DemandSender(sender), DemandReceiver(receiver))
}

impl DemandSender {
    /// Says that a namespace needs the pull secrets of some registries.
    pub fn send(&self, namespace: &str, registries: &[&str]) {
        let since = Instant::now();
        for registry in registries {
            let demand = Demand {
                namespace: namespace.to_owned(),
                registry: (*registry).to_owned(),
                since,
            };
            if self.0.try_send(demand).is_err() {
                tracing::debug!(
                    namespace,
                    registry,
                    "too many demands at once: the leader writes this one"
                );
            }
        }
    }
}

impl DemandReceiver {
    /// The next demand; none once admission is gone.
    pub async fn recv(&mut self) -> Option<Demand> {
        self.0.recv().await
    }
}

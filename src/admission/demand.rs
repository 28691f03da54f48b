//! What admission tells the secret sync: which namespace needs which pull secrets. The channel is bounded and never
//! blocks an answer.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::drops::Drops;
use super::written::{Claim, Demanded, PullSecretForm, Written};
use crate::base::clock::monotonic;
use crate::metrics::{DropReason, Metrics, Queue};

/// How many demands may wait. More are left to the leader, which sees the Pods themselves.
pub const BACKLOG: usize = 4096;

/// A namespace needs the pull secret of a registry.
#[derive(Debug)]
pub struct Demand {
    /// The namespace.
    pub namespace: String,
    /// The AcrRegistry.
    pub registry: String,
    /// When the Pod was admitted, or a kubelet reported that it can't pull.
    pub since: Instant,
    /// Whether a kubelet could not pull with the pull secret, so that it is to be written even if it was just now.
    pub failed: bool,
    /// Whether the Pod writes the registry's host so that its kubelet finds a credential only under a key with a port or a
    /// wildcard.
    pub needs_every_key: bool,
    /// Waits for the write; if it is dropped, the pull secret is not going to be written soon.
    pub review: Option<oneshot::Sender<()>>,
}

/// Takes demands from admission; it never blocks.
#[derive(Debug, Clone)]
pub struct DemandSender {
    demands: mpsc::Sender<Demand>,
    drops: Arc<Drops>,
    demanded: Arc<Demanded>,
}

/// What the writer reads demands from.
#[derive(Debug)]
pub struct DemandReceiver {
    demands: mpsc::Receiver<Demand>,
    drops: Arc<Drops>,
    demanded: Arc<Demanded>,
}

/// A way from admission to the writer. What is dropped on it is counted.
pub fn channel(metrics: Arc<Metrics>) -> (DemandSender, DemandReceiver) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let drops = Arc::new(Drops::new(Queue::Demand, metrics));
    let demanded = Arc::new(Demanded::default());
    (
        DemandSender {
            demands: sender,
            drops: Arc::clone(&drops),
            demanded: Arc::clone(&demanded),
        },
        DemandReceiver {
            demands: receiver,
            drops,
            demanded,
        },
    )
}

impl DemandSender {
    /// Says that a namespace needs the pull secrets of some registries; returns those that are not written yet.
    pub fn send(&self, namespace: &str, registries: &[&str]) -> Vec<Written> {
        self.send_all(namespace, registries, false)
    }

    /// Says that a namespace needs the pull secrets of some registries with every key; returns those that are not written yet.
    pub fn send_every_key(&self, namespace: &str, registries: &[&str]) -> Vec<Written> {
        self.send_all(namespace, registries, true)
    }

    /// Says that a kubelet could not pull with the pull secret of a registry.
    pub fn send_again(&self, namespace: &str, registry: &str) {
        self.send_one(Demand {
            namespace: namespace.to_owned(),
            registry: registry.to_owned(),
            since: monotonic(),
            failed: true,
            needs_every_key: false,
            review: None,
        });
    }

    fn send_all(&self, namespace: &str, registries: &[&str], needs_every_key: bool) -> Vec<Written> {
        let mut unwritten = Vec::new();
        // Most Pods need none with every key, and the clock is not read for them.
        if registries.is_empty() {
            return unwritten;
        }
        let since = monotonic();
        for registry in registries {
            let form = PullSecretForm {
                namespace: namespace.to_owned(),
                registry: (*registry).to_owned(),
                every_key: needs_every_key,
            };
            let review = match self.demanded.claim(&form, since) {
                Claim::Settled => None,
                Claim::Joined(written) => {
                    unwritten.push(written);
                    None
                }
                Claim::New(sender, written) => {
                    unwritten.push(written);
                    Some(sender)
                }
            };
            self.send_one(Demand {
                namespace: namespace.to_owned(),
                registry: (*registry).to_owned(),
                since,
                failed: false,
                needs_every_key,
                review,
            });
        }
        unwritten
    }

    fn send_one(&self, demand: Demand) {
        let dropped = usize::from(self.demands.try_send(demand).is_err());
        self.drops.count(DropReason::Full, dropped);
    }

    /// Counts what is dropped before it is sent.
    pub fn dropped(&self, reason: DropReason, count: usize) {
        self.drops.count(reason, count);
    }
}

impl DemandReceiver {
    /// How many demands wait to be read.
    pub fn len(&self) -> usize {
        self.demands.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.demands.is_empty()
    }

    /// The next demand; none once admission is gone.
    pub async fn recv(&mut self) -> Option<Demand> {
        self.demands.recv().await
    }

    /// Counts what is dropped after it was received.
    pub fn dropped(&self, reason: DropReason, count: usize) {
        self.drops.count(reason, count);
    }

    /// Says that the pull secrets of a namespace may be gone, or have never been there.
    pub fn forget_namespace(&self, namespace: &str) {
        self.demanded.forget_namespace(namespace);
    }

    /// Says so of those of a registry.
    pub fn forget_registry(&self, registry: &str) {
        self.demanded.forget_registry(registry);
    }

    /// Says so of one of them.
    pub fn forget_pull_secret(&self, namespace: &str, registry: &str) {
        self.demanded.forget_pull_secret(namespace, registry);
    }

    /// Says so of all.
    pub fn forget_all(&self) {
        self.demanded.forget_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(metrics: &Metrics, reason: &str) -> bool {
        let counted = format!("pullpass_queue_dropped_total{{queue=\"demand\",reason=\"{reason}\"}} 2\n");
        metrics.encode().unwrap().contains(&counted)
    }

    #[test]
    fn demands_beyond_the_backlog_are_counted() {
        let metrics = Arc::new(Metrics::new(|| 0));
        let (sender, receiver) = channel(Arc::clone(&metrics));
        assert!(receiver.is_empty());
        for _ in 0..BACKLOG - 1 {
            sender.send("apps", &["mine"]);
        }
        sender.send("apps", &["mine", "yours", "theirs"]);
        assert_eq!(receiver.len(), BACKLOG);
        assert!(!receiver.is_empty());
        assert!(dropped(&metrics, "full"), "{:?}", metrics.encode());
    }

    #[test]
    fn drops_before_and_after_the_channel_are_counted() {
        let metrics = Arc::new(Metrics::new(|| 0));
        let (sender, receiver) = channel(Arc::clone(&metrics));
        sender.dropped(DropReason::NamespaceUnknown, 2);
        assert!(dropped(&metrics, "namespace-unknown"));
        receiver.dropped(DropReason::Expired, 2);
        assert!(dropped(&metrics, "expired"));
    }

    #[test]
    fn a_demand_tells_a_failed_pull_from_an_admission() {
        let (sender, mut receiver) = channel(Arc::new(Metrics::new(|| 0)));
        sender.send("apps", &["mine"]);
        sender.send_again("apps", "mine");
        let demands = [
            receiver.demands.try_recv().unwrap(),
            receiver.demands.try_recv().unwrap(),
        ];
        assert_eq!(demands.each_ref().map(|demand| demand.failed), [false, true]);
        for demand in demands {
            assert_eq!(
                (demand.namespace.as_str(), demand.registry.as_str()),
                ("apps", "mine")
            );
        }
    }

    #[test]
    fn pull_secrets_that_are_forgotten_are_demanded_again() {
        let (sender, mut receiver) = channel(Arc::new(Metrics::new(|| 0)));
        // For how many pull secrets a review is to be told that they are written.
        let awaited = |receiver: &mut DemandReceiver| {
            sender.send("apps", &["mine", "yours"]);
            sender.send("other", &["mine"]);
            let demands = std::iter::from_fn(|| receiver.demands.try_recv().ok());
            demands.filter(|demand| demand.review.is_some()).count()
        };
        assert_eq!(awaited(&mut receiver), 3);
        assert_eq!(awaited(&mut receiver), 0);
        receiver.forget_pull_secret("apps", "mine");
        assert_eq!(awaited(&mut receiver), 1);
        receiver.forget_namespace("apps");
        assert_eq!(awaited(&mut receiver), 2);
        receiver.forget_registry("mine");
        assert_eq!(awaited(&mut receiver), 2);
        receiver.forget_all();
        assert_eq!(awaited(&mut receiver), 3);
    }
}

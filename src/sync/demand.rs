//! The demand writer: a Pod that was just admitted here gets its pull secret before its kubelet asks for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube::Client;
use tokio::sync::broadcast::error::RecvError;

use crate::admission::demand::{Demand, DemandReceiver};
use crate::metrics::Metrics;
use crate::policy::scope::{Membership, Scope};
use crate::sync::pull_secret;
use crate::sync::watches::{Change, Watches};

/// How many writes are under way at once.
const CONCURRENCY: usize = 16;
/// A pull secret that was written so recently is there.
const RECENT: Duration = Duration::from_secs(5);
/// How long a demand is kept that can't be met yet. The leader goes on after that.
const PATIENCE: Duration = Duration::from_mins(2);
/// How soon a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Writes pull secrets on demand.
pub struct DemandWriter {
    /// Where they are written.
    pub client: Client,
    /// What they are written from.
    pub watches: Arc<Watches>,
    /// Which namespaces may have any.
    pub scope: Scope,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

type Pair = (String, String);

/// Whether a demand can be met now.
enum Standing {
    Met,
    /// Not yet: the namespace or the credential is not known here.
    Open,
    /// Never: the namespace may not have it.
    Refused,
}

impl DemandWriter {
    /// Writes what is demanded, for as long as it is polled.
    pub async fn run(&self, mut demands: DemandReceiver) {
        let mut changes = self.watches.changes();
        let mut waiting: HashMap<Pair, Instant> = HashMap::new();
        let mut recent: HashMap<Pair, (jiff::Timestamp, Instant)> = HashMap::new();
        let mut writes = FuturesUnordered::new();
        let mut retry = tokio::time::interval(RETRY);
        loop {
            let retry_all = tokio::select! {
                Some(demand) = demands.recv(), if writes.len() < CONCURRENCY => {
                    let Demand { namespace, registry, since } = demand;
                    let pair = (namespace, registry);
                    if self.is_recent(&pair, &recent) {
                        continue;
                    }
                    writes.push(self.write(pair, since));
                    false
                }
                Some((pair, since, standing)) = writes.next() => {
                    match standing {
                        Standing::Met => {
                            waiting.remove(&pair);
                            if let Some(credential) = self.watches.credentials.of(&pair.1) {
                                recent.insert(pair, (credential.refreshed_at, Instant::now()));
                            }
                        }
                        Standing::Open => {
                            waiting.entry(pair).or_insert(since);
                        }
                        Standing::Refused => {
                            waiting.remove(&pair);
                        }
                    }
                    false
                }
                change = changes.recv() => match change {
                    Ok(Change::Registries) => false,
                    Ok(Change::Namespace(_) | Change::Credential(_)) | Err(RecvError::Lagged(_)) => true,
                    Err(RecvError::Closed) => return,
                },
                _ = retry.tick() => {
                    recent.retain(|_, (_, written)| written.elapsed() < RECENT);
                    waiting.retain(|_, since| since.elapsed() < PATIENCE);
                    true
                }
            };
            if retry_all {
                // What does not fit now is there at the next tick.
                let room = CONCURRENCY.saturating_sub(writes.len());
                let ready: Vec<Pair> = waiting
                    .keys()
                    .filter(|pair| self.can_try(pair))
                    .take(room)
                    .cloned()
                    .collect();
                for pair in ready {
                    if let Some(since) = waiting.remove(&pair) {
                        writes.push(self.write(pair, since));
                    }
                }
            }
        }
    }

    fn is_recent(&self, pair: &Pair, recent: &HashMap<Pair, (jiff::Timestamp, Instant)>) -> bool {
        let credential = self.watches.credentials.of(&pair.1);
        recent.get(pair).is_some_and(|(version, written)| {
            written.elapsed() < RECENT
                && credential.is_some_and(|credential| credential.refreshed_at == *version)
        })
    }

    fn can_try(&self, (namespace, registry): &Pair) -> bool {
        self.watches.credentials.of(registry).is_some() && self.watches.view.knows(namespace)
    }

    async fn write(&self, pair: Pair, since: Instant) -> (Pair, Instant, Standing) {
        let standing = self.try_write(&pair, since).await;
        (pair, since, standing)
    }

    async fn try_write(&self, (namespace, registry): &Pair, since: Instant) -> Standing {
        let registries = self.watches.view.registries();
        let labels = self.watches.view.labels(namespace);
        let (Some(registry), Some(labels)) = (registries.by_name(registry), labels) else {
            return Standing::Open;
        };
        let injected = matches!(
            self.scope.membership(namespace, Some(&labels)),
            Membership::Injected { .. }
        );
        if !injected || !registry.allows(Some(&labels)) {
            return Standing::Refused;
        }
        let Some(credential) = self.watches.credentials.of(registry.name()) else {
            return Standing::Open;
        };
        let begun = Instant::now();
        let name = registry.pull_secret();
        match pull_secret::write(&self.client, namespace, registry.name(), name, &credential).await {
            Ok(()) => {
                self.metrics.secret_written(begun.elapsed());
                self.metrics.secret_ready(since.elapsed());
                Standing::Met
            }
            Err(pull_secret::WriteError::Foreign | pull_secret::WriteError::NamespaceGone) => {
                Standing::Refused
            }
            Err(error) => {
                tracing::warn!(namespace, registry = registry.name(), %error, "a pull secret was not written");
                Standing::Open
            }
        }
    }
}

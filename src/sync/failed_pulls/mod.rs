//! Pull secrets that somebody deleted or broke: kubelets report them, and they are written again within seconds.
//!
//! pullpass can't read pull secrets, so it relies on what follows from them. If a kubelet does not find a pull secret,
//! it reports that in an Event; if it can't pull, it reports that in another Event and in the status of the Pod.
//! Neither is proof. So the only consequence is that pullpass writes a Secret that the namespace may have and that a
//! Pod there names, and it does so rarely (see `gate.rs`).

mod gate;
mod signs;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Event;
use kube::{Api, Client, ResourceExt};

use self::gate::{Gate, Permit};
use self::signs::{claim, failing, pulls_with};
use crate::admission::demand::DemandSender;
use crate::base::clock::monotonic as now;
use crate::kubernetes::call::call;
use crate::kubernetes::pods;
use crate::kubernetes::tail::tail;
use crate::metrics::{DropReason, Metrics, PullFailure};
use crate::policy::pod::{Pod, PodNames};
use crate::policy::scope::Scope;
use crate::sync::pair::Pair;
use crate::sync::spellings::{Noted, needing_every_key};
use crate::sync::watches::Watches;

/// Which Events say that a kubelet found no pull secret, and which that it could not pull; and other failures of containers.
const SECRET_MISSING: &str = "involvedObject.kind=Pod,reason=FailedToRetrieveImagePullSecret";
const PULL_FAILED: &str = "involvedObject.kind=Pod,reason=Failed";
/// How many Pods that Events of one reason name are read concurrently.
const CONCURRENCY: usize = 8;

/// Has pull secrets written again with which kubelets can't pull. One runs in the cluster: the leader's.
pub struct FailedPulls {
    client: Client,
    watches: Arc<Watches>,
    scope: Scope,
    metrics: Arc<Metrics>,
    demands: DemandSender,
    gate: Mutex<Gate>,
}

impl FailedPulls {
    /// The state before any failure. The demand writer learns what to write.
    pub fn new(
        client: Client,
        watches: Arc<Watches>,
        scope: Scope,
        metrics: Arc<Metrics>,
        demands: DemandSender,
    ) -> Self {
        Self {
            client,
            watches,
            scope,
            metrics,
            demands,
            gate: Mutex::default(),
        }
    }

    /// Follows the Events of kubelets from now on. What happened before is of no interest: who begins to lead writes every
    /// pull secret.
    pub async fn follow_events(&self) {
        let events = |fields: &str| tail(Api::<Event>::all(self.client.clone()), fields);
        // Each has its own room: pulls fail much more often than pull secrets are missing.
        let take_all = async |fields: &str, failure: PullFailure| {
            let events = Box::pin(events(fields));
            let take = |event| async move { self.take(failure, &event).await };
            events.for_each_concurrent(CONCURRENCY, take).await;
        };
        tokio::join!(
            take_all(SECRET_MISSING, PullFailure::SecretMissing),
            take_all(PULL_FAILED, PullFailure::PullFailed),
        );
    }

    /// Has the pull secret that a Pod names written with every key where the Pod needs that, the first time that one does.
    pub fn look_at_hosts(&self, pod: &PodNames<'_>) {
        for registry in needing_every_key(pod, &self.watches.view.registries_in(pod.namespace)) {
            let pair = (pod.namespace.to_owned(), registry);
            if !self.may_have(&pair) {
                continue;
            }
            match self.watches.spellings.note(&pair, true, now()) {
                Noted::Known => {}
                Noted::New => self.demands.send_again(&pair.0, &pair.1),
                Noted::Full => self.demands.dropped(DropReason::Full, 1),
            }
        }
    }

    /// Looks whether a Pod waits for an image of a registry whose pull secret it names.
    pub fn look_at(&self, pod: &Pod) {
        let Some(namespace) = pod.namespace() else {
            return;
        };
        for registry in failing(pod, &self.watches.view.registries_in(&namespace)) {
            let pair = (namespace.clone(), registry);
            if self.may_have(&pair) {
                self.demand(pair, PullFailure::PullFailed, &pod.name_any());
            }
        }
    }

    async fn take(&self, failure: PullFailure, event: &Event) {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let registries = self.watches.view.registries_in(namespace);
        let Some(claim) = claim(event, failure, &registries) else {
            return;
        };
        let pairs = claim.registries.into_iter();
        let pairs: Vec<Pair> = pairs
            .map(|registry| (claim.namespace.clone(), registry))
            .filter(|pair| self.may_have(pair) && self.is_to(|gate| gate.look(pair, failure, now())))
            .collect();
        if pairs.is_empty() {
            return;
        }
        let pods = pods::api(self.client.clone(), Some(&claim.namespace));
        // Without an answer the kubelet's next Event is one more reason.
        let Ok(Some(pod)) = call(pods.get_opt(&claim.pod)).await else {
            return;
        };
        let secrets = pulls_with(&pod);
        for pair in pairs {
            let registry = registries.by_name(&pair.1);
            if registry.is_some_and(|registry| secrets.contains(registry.pull_secret())) {
                self.demand(pair, failure, &pod.name_any());
            }
        }
    }

    /// Whether the namespace may have the pull secret of the registry, and there is something to write into it.
    fn may_have(&self, pair: &Pair) -> bool {
        self.watches.may_have(&self.scope, pair) && self.watches.has_credential(&pair.1)
    }

    fn demand(&self, pair: Pair, failure: PullFailure, pod: &str) {
        if !self.is_to(|gate| gate.write(&pair, failure, now())) {
            return;
        }
        let (namespace, registry) = pair;
        match failure {
            PullFailure::SecretMissing => tracing::info!(
                namespace,
                registry,
                pod,
                "a kubelet did not find a pull secret; it is written again"
            ),
            PullFailure::PullFailed => tracing::debug!(
                namespace,
                registry,
                pod,
                "a kubelet could not pull; the pull secret is written again in case it is broken"
            ),
        }
        self.metrics.registries.count_rewrite(failure);
        self.demands.send_again(&namespace, &registry);
    }

    fn is_to(&self, ask: impl FnOnce(&mut Gate) -> Permit) -> bool {
        let answer = ask(&mut self.gate());
        if answer == Permit::Full {
            self.demands.dropped(DropReason::Full, 1);
        }
        answer == Permit::Act
    }

    /// No code panics while it holds the lock.
    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

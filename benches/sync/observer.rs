//! What an administrator sees of the Secrets of one registry or of all: one watch, so that all that is seen has one clock and
//! one order.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt};
use pullpass::api::names::{OWN_NAMESPACE, REFRESHED_AT_ANNOTATION, REGISTRY_LABEL};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::support::Result;

/// How long nothing may be seen. It only bounds how long a broken run takes.
const WRITE_TIMEOUT: Duration = Duration::from_mins(2);

/// A Secret that was written or deleted.
pub(crate) struct Sight {
    /// Where it is.
    pub(crate) namespace: String,
    /// Of which registry.
    registry: String,
    /// Which credential it has: when that was minted.
    pub(crate) version: String,
    /// When its event came.
    pub(crate) at: Instant,
    /// Whether it was deleted, and not written.
    is_deleted: bool,
}

/// From when until when something was done.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
}

impl Span {
    /// How long it took.
    pub(crate) fn took(&self) -> Duration {
        self.ended.saturating_duration_since(self.begun)
    }

    /// Whether this was in it.
    pub(crate) fn holds(&self, begun: Instant, ended: Instant) -> bool {
        self.begun <= begun && ended <= self.ended
    }
}

/// The watch.
pub(crate) struct Observer {
    sights: mpsc::UnboundedReceiver<Sight>,
    task: JoinHandle<()>,
}

impl Observer {
    /// Begins to watch the Secrets of a registry.
    pub(crate) fn start(client: Client, registry: &str) -> Self {
        Self::watch(client, &format!("{REGISTRY_LABEL}={registry}"))
    }

    /// Begins to watch those of all registries.
    pub(crate) fn of_all(client: Client) -> Self {
        Self::watch(client, REGISTRY_LABEL)
    }

    fn watch(client: Client, selector: &str) -> Self {
        let secrets: Api<PartialObjectMeta<Secret>> = Api::all(client);
        let config = watcher::Config::default().labels(selector);
        let (sender, sights) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(secrets, config).default_backoff());
            while let Some(event) = events.next().await {
                let at = Instant::now();
                let is_deleted = matches!(event, Ok(watcher::Event::Delete(_)));
                match event {
                    Ok(
                        watcher::Event::Apply(secret)
                        | watcher::Event::InitApply(secret)
                        | watcher::Event::Delete(secret),
                    ) => {
                        let version = secret.annotations().get(REFRESHED_AT_ANNOTATION);
                        let registry = secret.labels().get(REGISTRY_LABEL);
                        let sight = Sight {
                            namespace: secret.namespace().unwrap_or_default(),
                            registry: registry.cloned().unwrap_or_default(),
                            version: version.cloned().unwrap_or_default(),
                            at,
                            is_deleted,
                        };
                        if sender.send(sight).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(error) => eprintln!("the watch is restarted: {error}"),
                }
            }
        });
        Self { sights, task }
    }

    /// Forgets what was seen so far.
    pub(crate) fn forget(&mut self) {
        while self.sights.try_recv().is_ok() {}
    }

    /// The next Secret that is written.
    async fn next(&mut self) -> Result<Sight> {
        loop {
            let sight = self.next_of_any().await?;
            if !sight.is_deleted {
                return Ok(sight);
            }
        }
    }

    /// Waits until the pull secrets of a registry were written to some namespaces and deleted from others, and returns when the
    /// last of them was.
    pub(crate) async fn moved(&mut self, registry: &str, to: &[String], from: &[String]) -> Result<Instant> {
        let mut left: HashSet<_> = to.iter().map(|namespace| (namespace.clone(), false)).collect();
        left.extend(from.iter().map(|namespace| (namespace.clone(), true)));
        loop {
            let sight = self.next_of_any().await?;
            let is_left = sight.registry == registry && left.remove(&(sight.namespace, sight.is_deleted));
            if is_left && left.is_empty() {
                return Ok(sight.at);
            }
        }
    }

    async fn next_of_any(&mut self) -> Result<Sight> {
        let next = tokio::time::timeout(WRITE_TIMEOUT, self.sights.recv());
        next.await
            .map_err(|_| format!("no Secret was written for {WRITE_TIMEOUT:?}"))?
            .ok_or_else(|| "the watch has ended".into())
    }

    /// The next Secret in that namespace.
    pub(crate) async fn written_in(&mut self, namespace: &str) -> Result<Sight> {
        loop {
            let sight = self.next().await?;
            if sight.namespace == namespace {
                return Ok(sight);
            }
        }
    }

    /// Waits until so many namespaces have this version, and returns when the last one got it.
    pub(crate) async fn written_everywhere(&mut self, count: usize, version: &str) -> Result<Instant> {
        let mut written = HashSet::new();
        loop {
            let sight = self.next().await?;
            if sight.namespace != OWN_NAMESPACE && sight.version == version {
                written.insert(sight.namespace);
                if written.len() == count {
                    return Ok(sight.at);
                }
            }
        }
    }
}

/// Registries by the version of their credential.
pub(crate) type Credentials = HashMap<String, String>;

impl Observer {
    /// Waits until so many pull secrets are of these credentials, or of those that are minted meanwhile. It begins when the
    /// first of those is.
    pub(crate) async fn refreshed(
        &mut self,
        mut credentials: Credentials,
        pull_secrets: usize,
    ) -> Result<Span> {
        let mut begun = None;
        let mut written = HashSet::new();
        loop {
            let sight = self.next().await?;
            if sight.namespace == OWN_NAMESPACE {
                begun.get_or_insert(sight.at);
                credentials.insert(sight.registry, sight.version);
            } else if credentials.get(&sight.registry) == Some(&sight.version) {
                written.insert((sight.namespace, sight.registry));
                if written.len() == pull_secrets {
                    return Ok(Span {
                        begun: begun.unwrap_or(sight.at),
                        ended: sight.at,
                    });
                }
            }
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

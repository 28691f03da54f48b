//! What the API server is asked for if the caches may be behind it: the attached registries, one namespace's bindings and
//! labels, and a ServiceAccount.
//!
//! A watch does not report how far behind it is: the version of a list is that of everything that is stored, and an
//! idle watch reaches it a minute later. So the API server is asked for the objects themselves, which also helps if a
//! watch is stuck.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::OptionFuture;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

use crate::admission::turns::Turns;
use crate::base::clock::monotonic;
use crate::base::occasional::Occasional;
use crate::kubernetes::call::{CallError, call_within};
use crate::kubernetes::client::with_short_answers;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::listed::{UnreadBinding, UnreadRegistry, read_all, read_bindings};
use crate::policy::mountable::Mountable;
use crate::policy::scope::Labels;
use crate::view::View;

/// How long a review waits at most, from its arrival.
pub(super) const WAIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Which part of the time that the API server waits for an answer may be used up.
pub(super) const PART_OF_TIMEOUT: u32 = 4;
/// How far apart lists of the registries begin at least.
pub(super) const LIST_INTERVAL: Duration = Duration::from_millis(25);
/// The same, as a multiple of how long the last one took: a replica has the API server list a quarter of the time at most,
/// and many registries less often than few.
const INTERVAL_PER_LIST: u64 = 4;
/// How far apart they begin at most: a review has to have its turn within its wait.
const MAX_LIST_INTERVAL: Duration = Duration::from_millis(750);
/// The shortest time between the starts of two reads of namespaces, of two reads of `ServiceAccounts`, and of two lists of
/// bindings.
pub(super) const READ_INTERVAL: Duration = Duration::from_millis(10);
/// How many bindings of a namespace are read at most. Where there are more, a review is answered from the caches.
const MAX_LISTED_BINDINGS: u32 = 256;
/// How long a list of them may be: their owner fills their annotations. It is 16 KiB for each of as many as are read.
const MAX_BINDINGS_BYTES: usize = 4 << 20;
/// How many lists of bindings are under way concurrently: what they hold together is bounded also where each takes long.
const MAX_BINDINGS_LISTS: usize = 4;
/// The largest ServiceAccount that is read: its owner fills the annotations, and pullpass needs a few hundred bytes of it.
const MAX_ACCOUNT_BYTES: usize = 64 << 10;
/// How much the bodies of reviews that wait may take, so that they leave room for those that do not.
const WAITING_BYTES: usize = 8 << 20;
/// What a small body counts as.
const LEAST_BYTES: usize = 16 << 10;
/// How long the log says nothing more after a failure.
const LOG_INTERVAL: Duration = Duration::from_mins(5);

/// Asks the API server, for all reviews together.
pub(super) struct Lookups {
    client: Client,
    /// What bindings are listed with; none if there are no bindings.
    binding_lists: Option<BindingLists>,
    registries: Turns<(), Arc<AttachedRegistries>>,
    bindings: Turns<String, Arc<[Arc<AttachedRegistry>]>>,
    namespaces: Turns<String, FoundNamespace>,
    /// Reads no answer that is too long.
    accounts_client: Client,
    accounts: Turns<(String, String), FoundAccount>,
    room: Semaphore,
    /// The same for reviews that wait only for pull secrets: they use no room of those that ask.
    room_for_pull_secrets: Semaphore,
    pace: Arc<Pace>,
    failures: Arc<Occasional>,
}

/// What lists bindings.
struct BindingLists {
    /// Reads no answer that is too long.
    client: Client,
    pace: Arc<Pace>,
    under_way: Arc<Semaphore>,
}

/// How far apart lists begin: the API server is busy with them a part of the time, however long one takes.
#[derive(Debug, Default)]
struct Pace {
    /// How long the last one took, in milliseconds.
    took: AtomicU64,
}

impl Pace {
    /// How long after the last one began the next one may, and this at least.
    fn spacing(&self, least: Duration) -> Duration {
        let took = self.took.load(Ordering::Relaxed);
        Duration::from_millis(took.saturating_mul(INTERVAL_PER_LIST)).clamp(least, MAX_LIST_INTERVAL)
    }

    /// Makes a list, and notes how long it took.
    async fn measured<T>(&self, list: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let listed = list.await;
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.took.store(took, Ordering::Relaxed);
        listed
    }
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups").finish_non_exhaustive()
    }
}

/// What the API server says of a namespace: its labels; none if it is not there.
#[derive(Debug, Clone)]
pub(super) struct FoundNamespace(pub(super) Option<Labels>);

/// The pull secrets that a ServiceAccount lets its Pods name; none if it allows all.
#[derive(Debug, Clone)]
pub(super) struct FoundAccount(pub(super) Option<Arc<Mountable>>);

/// When a review arrived, and until when it may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    pub(super) since: Instant,
    pub(super) deadline: Instant,
}

impl Wait {
    /// The wait of a review that arrived then, where the API server waits for its answer so long, if that is known.
    pub(super) fn new(arrived: std::time::Instant, timeout: Option<Duration>) -> Self {
        let since = Instant::from_std(arrived);
        let bound = timeout.map_or(WAIT_TIMEOUT, |timeout| {
            WAIT_TIMEOUT.min(timeout / PART_OF_TIMEOUT)
        });
        Self {
            since,
            deadline: since + bound,
        }
    }
}

impl Lookups {
    pub(super) fn new(client: Client, has_bindings: bool) -> Self {
        let binding_lists = has_bindings.then(|| BindingLists {
            client: with_short_answers(client.clone(), MAX_BINDINGS_BYTES),
            pace: Arc::default(),
            under_way: Arc::new(Semaphore::new(MAX_BINDINGS_LISTS)),
        });
        Self {
            accounts_client: with_short_answers(client.clone(), MAX_ACCOUNT_BYTES),
            client,
            binding_lists,
            registries: Turns::default(),
            bindings: Turns::default(),
            namespaces: Turns::default(),
            accounts: Turns::default(),
            room: Semaphore::new(WAITING_BYTES),
            room_for_pull_secrets: Semaphore::new(WAITING_BYTES),
            pace: Arc::default(),
            failures: Arc::new(Occasional::new(LOG_INTERVAL)),
        }
    }

    /// Room for a review that waits; none if too many do.
    pub(super) fn enter(&self, body: usize) -> Option<SemaphorePermit<'_>> {
        enter(&self.room, body)
    }

    /// Room for a review that waits for pull secrets; none if too many do.
    pub(super) fn enter_for_pull_secrets(&self, body: usize) -> Option<SemaphorePermit<'_>> {
        enter(&self.room_for_pull_secrets, body)
    }

    /// The registries that are attached now; nothing if the API server does not say in time. One that can't be acted on
    /// is what it was in the view.
    pub(super) async fn registries(&self, wait: Wait, view: &Arc<View>) -> Option<Arc<AttachedRegistries>> {
        let spacing = self.pace.spacing(LIST_INTERVAL);
        let answer = self
            .registries
            .join(&(), wait.since, wait.deadline, spacing, || {
                let (api, view) = (Api::<UnreadRegistry>::all(self.client.clone()), Arc::clone(view));
                let (pace, failures) = (Arc::clone(&self.pace), Arc::clone(&self.failures));
                async move {
                    let all = ListParams::default();
                    let listed = pace.measured(call_within(WAIT_TIMEOUT, api.list(&all))).await;
                    let listed = told(&failures, listed)?;
                    Some(Arc::new(read_all(
                        listed.items,
                        &view.registries(),
                        view.other_cloud(),
                    )))
                }
            })?;
        timeout_at(wait.deadline, answer).await.ok().flatten()
    }

    /// The bindings that a namespace has now; nothing if the API server does not say in time, or there is too much of
    /// them. One that can't be acted on is what it was in the view.
    pub(super) async fn bindings(
        &self,
        wait: Wait,
        namespace: &str,
        view: &Arc<View>,
    ) -> Option<Arc<[Arc<AttachedRegistry>]>> {
        let Some(lists) = &self.binding_lists else {
            return Some(Arc::default());
        };
        let (key, spacing) = (namespace.to_owned(), lists.pace.spacing(READ_INTERVAL));
        let answer = self.bindings.join(&key, wait.since, wait.deadline, spacing, || {
            let api = Api::<UnreadBinding>::namespaced(lists.client.clone(), namespace);
            let (pace, under_way) = (Arc::clone(&lists.pace), Arc::clone(&lists.under_way));
            let (key, view, failures) = (key.clone(), Arc::clone(view), Arc::clone(&self.failures));
            async move {
                let limited = ListParams::default().limit(MAX_LISTED_BINDINGS);
                let turn = timeout(WAIT_TIMEOUT, under_way.acquire()).await;
                let _under_way = turn.ok()?.ok()?;
                let listed = pace.measured(call_within(WAIT_TIMEOUT, api.list(&limited))).await;
                let listed = told(&failures, listed)?;
                let is_whole = listed.metadata.continue_.is_none_or(|rest| rest.is_empty());
                let before = view.bindings_in(&key).unwrap_or_default();
                let read = read_bindings(listed.items, &before, view.other_cloud());
                is_whole.then(|| read.into())
            }
        })?;
        timeout_at(wait.deadline, answer).await.ok().flatten()
    }

    /// The labels that a namespace has now; nothing if the API server does not say in time.
    pub(super) async fn labels(&self, wait: Wait, namespace: &str) -> Option<FoundNamespace> {
        let key = namespace.to_owned();
        let answer = self
            .namespaces
            .join(&key, wait.since, wait.deadline, READ_INTERVAL, || {
                let (api, key) = (Api::<Namespace>::all(self.client.clone()), key.clone());
                let failures = Arc::clone(&self.failures);
                async move {
                    let read = call_within(WAIT_TIMEOUT, api.get_metadata_opt(&key)).await;
                    let namespace = told(&failures, read)?;
                    let labels = namespace.map(|namespace| namespace.metadata.labels.unwrap_or_default());
                    Some(FoundNamespace(labels))
                }
            })?;
        timeout_at(wait.deadline, answer).await.ok().flatten()
    }

    /// The pull secrets that a ServiceAccount lets its Pods name, from the API server or from the watch, whichever has the
    /// ServiceAccount first; none if neither has it in time. The watch is first unless it is stuck, and alone where there is
    /// no turn for a call, or the call fails.
    pub(super) async fn account(
        &self,
        wait: Wait,
        namespace: &str,
        account: &str,
        view: &Arc<View>,
    ) -> Option<FoundAccount> {
        let key = (namespace.to_owned(), account.to_owned());
        let answer = self
            .accounts
            .join(&key, wait.since, wait.deadline, READ_INTERVAL, || {
                let api = Api::<ServiceAccount>::namespaced(self.accounts_client.clone(), namespace);
                let (account, view) = (account.to_owned(), Arc::clone(view));
                let (namespace, failures) = (namespace.to_owned(), Arc::clone(&self.failures));
                async move {
                    // The watch may have delivered it while other reviews had their turns.
                    if view.knows_account(&namespace, Some(&account)) {
                        return Some(FoundAccount(view.mountable(&namespace, Some(&account))));
                    }
                    let read = call_within(WAIT_TIMEOUT, api.get_opt(&account)).await;
                    let account = told(&failures, read)?;
                    Some(FoundAccount(
                        account.as_ref().and_then(Mountable::of).map(Arc::new),
                    ))
                }
            });
        let asked = OptionFuture::from(answer);
        let first = async {
            tokio::select! {
                found = view.account_told(namespace, account) => FoundAccount(found),
                Some(Some(answer)) = asked => answer,
            }
        };
        timeout_at(wait.deadline, first).await.ok()
    }
}

/// Room for a review with a body of so many bytes.
fn enter(room: &Semaphore, body: usize) -> Option<SemaphorePermit<'_>> {
    let bytes = u32::try_from(body.max(LEAST_BYTES)).ok()?;
    room.try_acquire_many(bytes).ok()
}

/// What a call brought; a failure is told to the log now and then.
fn told<T>(failures: &Occasional, called: Result<T, CallError>) -> Option<T> {
    match called {
        Ok(value) => Some(value),
        Err(error) => {
            if let Some(failed) = failures.take(1, monotonic()) {
                tracing::warn!(
                    %error,
                    failed,
                    "the API server could not be asked for what a review depends on; it was answered from the caches"
                );
            }
            None
        }
    }
}

#[cfg(test)]
mod tests;

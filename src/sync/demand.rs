//! The demand writer: a Pod that was just admitted here gets its pull secret before its kubelet asks for it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use kube::Client;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::sleep_until;

use crate::admission::demand::{Demand, DemandReceiver};
use crate::api::pull_secret_metadata::PullSecretMetadata;
use crate::base::clock::monotonic as now;
use crate::metrics::{DropReason, Metrics};
use crate::policy::scope::Scope;
use crate::registry::docker_config::Keys;
use crate::sync::counted_write::CountedWrites;
use crate::sync::credentials::Version;
use crate::sync::failures::Failures;
use crate::sync::pair::Pair;
use crate::sync::pull_secret::WriteError;
use crate::sync::recent_writes::Newest;
use crate::sync::spellings::Noted;
use crate::sync::waiting::{For, WAIT_TIMEOUT, Waiting};
use crate::sync::waiting_reviews::WaitingReviews;
use crate::sync::watches::{Change, Watches};

/// How many writes are under way concurrently.
const CONCURRENCY: usize = 16;
/// How many of them are kept for Pods that are admitted now: what waits, and fails again and again, must not delay those.
const FOR_NEW_DEMANDS: usize = 4;
/// How often demands that wait are looked at.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a write that failed waits first.
const RETRY_BACKOFF: Duration = Duration::from_secs(1);

/// Writes pull secrets on demand.
pub struct DemandWriter {
    /// Where they are written.
    pub client: Client,
    /// What they are written from.
    pub watches: Arc<Watches>,
    /// Which namespaces may have any.
    pub scope: Scope,
    /// What every pull secret has besides what pullpass itself writes there.
    pub chosen: Arc<PullSecretMetadata>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Whether a demand can be met now.
enum DemandState {
    /// By this version of the credential, in this version of the Secret, which has these keys.
    Met(Timestamp, Option<Version>, Keys),
    /// Not yet.
    Open(For),
    /// Not yet: the write failed.
    Failed(WriteError),
    /// Never: the namespace may not have it.
    Refused,
    /// Not any more.
    Expired,
}

/// The demands that are not met.
struct OpenDemands {
    waiting: Waiting,
    reviews: WaitingReviews,
    failures: Failures<Pair>,
}

impl OpenDemands {
    /// None yet.
    fn new() -> Self {
        Self {
            waiting: Waiting::default(),
            reviews: WaitingReviews::default(),
            failures: Failures::new(RETRY_BACKOFF),
        }
    }

    /// Has a demand wait. One for which there is no room is counted as dropped, and no review waits for it.
    fn put_off(&mut self, demands: &DemandReceiver, pair: &Pair, since: Instant, reason: For) {
        if let Err(reason) = self.waiting.add(pair.clone(), since, reason) {
            self.reviews.give_up(pair);
            demands.dropped(reason, 1);
        }
    }
}

impl DemandWriter {
    /// Writes the demanded pull secrets, until it is dropped.
    pub async fn run(&self, mut demands: DemandReceiver) {
        let mut changes = self.watches.changes();
        let mut open = OpenDemands::new();
        let mut writes = FuturesUnordered::new();
        let mut under_way = HashSet::new();
        let mut retry = tokio::time::interval(RETRY_INTERVAL);
        // Whether demands may wait for nothing but a write that ends.
        let mut wants_room = false;
        loop {
            let retry_all = tokio::select! {
                Some(demand) = demands.recv(), if writes.len() < CONCURRENCY => {
                    let Demand { namespace, registry, since, failed, needs_every_key, review } = demand;
                    let pair = (namespace, registry);
                    if failed {
                        demands.forget_pull_secret(&pair.0, &pair.1);
                    }
                    let noted = needs_every_key.then(|| self.watches.spellings.note(&pair, self.watches.may_have(&self.scope, &pair), now()));
                    if noted == Some(Noted::Full) {
                        demands.dropped(DropReason::Full, 1);
                    }
                    // Somebody may have deleted it since.
                    if !failed && noted != Some(Noted::New) && self.is_recent(&pair) {
                        if let Some(review) = review {
                            // Nobody waiting any more is fine.
                            let _ = review.send(());
                        }
                        continue;
                    }
                    let fails = open.failures.waits(&pair, now());
                    // Nobody waits for what fails, nor for keys that are not going to be in it.
                    if let Some(review) = review.filter(|_| !fails && noted != Some(Noted::Full)) {
                        open.reviews.add(&pair, review, now());
                    }
                    // Another Pod shortens no wait, and leads to no second write beside the first.
                    if fails || under_way.contains(&pair) {
                        let reason = if self.watches.view.knows(&pair.0) { For::Credential } else { For::Namespace };
                        open.put_off(&demands, &pair, since, reason);
                        continue;
                    }
                    under_way.insert(pair.clone());
                    writes.push(self.write(pair, since));
                    false
                }
                Some((pair, since, outcome)) = writes.next() => {
                    under_way.remove(&pair);
                    let is_overtaken = self.settle(&mut open, &demands, (pair, since), outcome);
                    is_overtaken || wants_room
                }
                change = changes.recv() => {
                    let Some(retry_all) = self.take_change(&mut open, &demands, change) else { return };
                    retry_all
                }
                _ = retry.tick() => {
                    let now = now();
                    self.watches.recent_writes.expire(now);
                    open.failures.expire(now);
                    open.reviews.expire(now);
                    for (reason, dropped) in open.waiting.expire(now) {
                        demands.dropped(reason, dropped);
                    }
                    true
                }
            };
            if retry_all {
                // What does not fit now is tried when a write ends.
                let room = (CONCURRENCY - FOR_NEW_DEMANDS).saturating_sub(writes.len());
                let now = now();
                let can_try = |pair: &Pair| {
                    !open.failures.waits(pair, now) && !under_way.contains(pair) && self.can_try(pair)
                };
                let ready = open.waiting.take(room, can_try);
                wants_room = ready.len() == room;
                for (pair, since) in ready {
                    under_way.insert(pair.clone());
                    writes.push(self.write(pair, since));
                }
            }
        }
    }

    /// Takes a change; says whether what waits is to be looked at for it, and nothing if no more will come.
    fn take_change(
        &self,
        open: &mut OpenDemands,
        demands: &DemandReceiver,
        change: Result<Change, RecvError>,
    ) -> Option<bool> {
        let recent = &self.watches.recent_writes;
        match change {
            Ok(Change::Registry(registry) | Change::Binding(registry)) => {
                demands.forget_registry(&registry);
                recent.doubt_registry(&registry);
                // Under the former spec, the newest credential may not have been the one to be written.
                Some(self.write_overtaken(open, demands, &registry))
            }
            Ok(Change::NamespaceGone(namespace)) => {
                demands.forget_namespace(&namespace);
                recent.doubt_namespace(&namespace);
                Some(false)
            }
            Ok(Change::Namespace(namespace)) => {
                demands.forget_namespace(&namespace.name);
                recent.doubt_namespace(&namespace.name);
                Some(true)
            }
            Ok(Change::Credential(registry) | Change::Noted(registry)) => {
                self.write_overtaken(open, demands, &registry);
                Some(true)
            }
            Ok(Change::ServiceAccounts(_)) => Some(false),
            Ok(Change::Everything | Change::Bindings) | Err(RecvError::Lagged(_)) => {
                demands.forget_all();
                recent.doubt_all();
                for registry in recent.registries() {
                    self.write_overtaken(open, demands, &registry);
                }
                Some(true)
            }
            Err(RecvError::Closed) => None,
        }
    }

    /// Takes how a write ended; says whether it is to be repeated immediately.
    fn settle(
        &self,
        open: &mut OpenDemands,
        demands: &DemandReceiver,
        (pair, since): (Pair, Instant),
        outcome: DemandState,
    ) -> bool {
        let mut is_overtaken = false;
        match outcome {
            DemandState::Met(credential, version, keys) => {
                open.waiting.remove(&pair);
                open.failures.forget(&pair);
                // A Pod that needs more keys may have come during the write too.
                is_overtaken = self.is_overtaken(&pair.1, credential, version)
                    || (keys == Keys::Hosts && self.watches.spellings.keys(&pair, now()) == Keys::Every);
                if is_overtaken {
                    open.put_off(demands, &pair, since, For::Credential);
                } else {
                    open.reviews.written(&pair);
                    self.watches.recent_writes.add(&pair, credential, version, now());
                }
            }
            // The watch may bring it while the review waits.
            DemandState::Open(For::Namespace) => {
                open.put_off(demands, &pair, since, For::Namespace);
            }
            // A credential takes longer to mint than a review waits.
            DemandState::Open(For::Credential) => {
                open.reviews.give_up(&pair);
                open.put_off(demands, &pair, since, For::Credential);
            }
            DemandState::Failed(error) => {
                note_failure(&mut open.failures, &pair, &error);
                open.reviews.give_up(&pair);
                open.put_off(demands, &pair, since, For::Credential);
            }
            DemandState::Refused => {
                open.reviews.give_up(&pair);
                open.waiting.remove(&pair);
                open.failures.forget(&pair);
            }
            // That of a newer Pod may wait.
            DemandState::Expired => demands.dropped(DropReason::Expired, 1),
        }
        is_overtaken
    }

    /// Has the pull secrets of a registry written again that hold a former credential, since a refresh overtook their write.
    /// The leader, which wrote the newest one, does not know of that. Says whether there are any.
    fn write_overtaken(&self, open: &mut OpenDemands, demands: &DemandReceiver, registry: &str) -> bool {
        let Some(newest) = self.newest(registry) else {
            return false;
        };
        let overtaken = self.watches.recent_writes.take_overtaken(registry, newest);
        for pair in &overtaken {
            open.put_off(demands, pair, now(), For::Credential);
        }
        !overtaken.is_empty()
    }

    /// Whether the credential that was written is a former one: it may have been refreshed during the write.
    fn is_overtaken(&self, registry: &str, credential: Timestamp, version: Option<Version>) -> bool {
        let newest = self.newest(registry);
        newest.is_some_and(|newest| newest.overtakes(credential, version))
    }

    fn newest(&self, registry: &str) -> Option<Newest> {
        let registries = self.watches.view.registries_with(registry);
        let held = self.watches.credential(registries.by_name(registry)?)?;
        Some(Newest {
            credential: held.refreshed_at,
            stored_in: self.watches.credentials.stored_in(registry),
        })
    }

    fn is_recent(&self, pair: &Pair) -> bool {
        let credential = self.watches.credentials.of(&pair.1);
        credential.is_some_and(|held| self.watches.recent_writes.has(pair, held.refreshed_at, now()))
    }

    fn can_try(&self, (namespace, registry): &Pair) -> bool {
        self.watches.has_credential(registry) && self.watches.view.knows(namespace)
    }

    async fn write(&self, pair: Pair, since: Instant) -> (Pair, Instant, DemandState) {
        // A process that was paused would go on with what it was about to do, by what it knew then.
        let expires_at = since + WAIT_TIMEOUT;
        if now() >= expires_at {
            return (pair, since, DemandState::Expired);
        }
        let outcome = tokio::select! {
            biased;
            () = sleep_until(expires_at.into()) => DemandState::Expired,
            outcome = self.try_write(&pair, since) => outcome,
        };
        (pair, since, outcome)
    }

    async fn try_write(&self, pair: &Pair, since: Instant) -> DemandState {
        let (namespace, registry) = pair;
        let registries = self.watches.view.registries_with(registry);
        let labels = self.watches.view.labels(namespace);
        let Some(labels) = labels else {
            return DemandState::Open(For::Namespace);
        };
        let Some(registry) = registries.by_name(registry) else {
            return DemandState::Open(For::Credential);
        };
        if !registry.gives_secret_in(&self.scope, namespace, Some(&labels)) {
            return DemandState::Refused;
        }
        let Some(credential) = self.watches.credential(registry) else {
            return DemandState::Open(For::Credential);
        };
        let writes = CountedWrites {
            client: &self.client,
            chosen: &self.chosen,
            metrics: &self.metrics,
        };
        let keys = self.watches.spellings.keys(pair, now());
        let written = writes
            .write(namespace, registry, &registries, &credential, keys)
            .await;
        match written {
            Ok(version) => {
                self.metrics
                    .registries
                    .secret_ready(now().saturating_duration_since(since));
                DemandState::Met(credential.refreshed_at, version, keys)
            }
            Err(WriteError::NamespaceGone) => DemandState::Refused,
            Err(error) => DemandState::Failed(error),
        }
    }
}

fn note_failure(failures: &mut Failures<Pair>, pair: &Pair, error: &WriteError) {
    let now = now();
    if failures.is_news(&pair.1, error, now) {
        tracing::warn!(
            namespace = pair.0,
            registry = pair.1,
            %error,
            "could not apply the pull secret of a Pod that was admitted; will retry"
        );
    }
    failures.failed(pair.clone(), error, now);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::demand::{BACKLOG, DemandSender, channel};
    use crate::policy::attached::AttachedRegistry;
    use crate::policy::scope::Mode;
    use crate::sync::credentials::Seen;
    use crate::sync::held_credential::HeldCredential;
    use crate::sync::waiting::MAX_UNKNOWN;
    use crate::view::View;
    use http::{Request, Response};
    use kube::client::Body;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Semaphore;

    /// Bounds how long a broken test takes.
    const SOON: Duration = Duration::from_mins(1);

    async fn until_counted(metrics: &Metrics, line: &str) {
        while !metrics.encode().unwrap().contains(line) {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_full_channel_says_what_it_drops() {
        let metrics = Arc::new(Metrics::new(|| 0));
        let (sender, receiver) = channel(Arc::clone(&metrics));
        for _ in 0..BACKLOG {
            sender.send("apps", &["a", "b"]);
        }
        assert_eq!(receiver.len(), BACKLOG);
        let counted = format!("pullpass_queue_dropped_total{{queue=\"demand\",reason=\"full\"}} {BACKLOG}\n");
        assert!(metrics.encode().unwrap().contains(&counted));
    }

    #[tokio::test]
    async fn made_up_namespaces_are_dropped_without_a_call() {
        let unreachable = tower::service_fn(async |_: Request<Body>| {
            Err::<Response<Body>, _>(std::io::Error::other("no call is expected"))
        });
        let metrics = Arc::new(Metrics::new(|| 0));
        let (sender, receiver) = channel(Arc::clone(&metrics));
        let writer = DemandWriter {
            client: Client::new(unreachable, "default"),
            watches: Arc::new(Watches::new(Arc::new(View::default()))),
            scope: Scope::new(Mode::ClusterWide, "own", []),
            chosen: Arc::default(),
            metrics: Arc::clone(&metrics),
        };
        for number in 0..MAX_UNKNOWN + 88 {
            sender.send(&format!("made-up-{number}"), &["mine"]);
            // Another Pod of the first ones takes no room that is for namespaces that are there.
            sender.send(&format!("made-up-{}", number % 4), &["mine"]);
        }
        let counted = "pullpass_queue_dropped_total{queue=\"demand\",reason=\"namespace-unknown\"} 88\n";
        let dropped = until_counted(&metrics, counted);
        tokio::select! {
            () = writer.run(receiver) => panic!("it ended"),
            dropped = tokio::time::timeout(SOON, dropped) => dropped.unwrap(),
        }
        let text = metrics.encode().unwrap();
        assert!(
            text.contains("pullpass_secret_write_duration_seconds_count 0\n"),
            "{text}"
        );
    }

    /// A writer that knows a registry, its credential and a namespace, and what it is told by.
    fn writer_of(client: Client) -> (DemandWriter, DemandSender, DemandReceiver) {
        let view = Arc::new(View::default());
        let watches = Arc::new(Watches::new(Arc::clone(&view)));
        let registry = crate::sync::secrets::tests::registry(&serde_json::json!({}));
        watches.learn("mine", credential(&registry), None, Seen::new());
        view.set_registries(std::iter::once(registry).collect());
        view.set_namespace("apps", &[].into());
        let metrics = Arc::new(Metrics::new(|| 0));
        let (sender, receiver) = channel(Arc::clone(&metrics));
        let writer = DemandWriter {
            client,
            watches,
            scope: Scope::new(Mode::ClusterWide, "own", []),
            chosen: Arc::default(),
            metrics,
        };
        (writer, sender, receiver)
    }

    fn credential(registry: &AttachedRegistry) -> HeldCredential {
        HeldCredential {
            docker_config: k8s_openapi::ByteString(Vec::new()),
            audience: None,
            refreshed_at: jiff::Timestamp::UNIX_EPOCH,
            expires_at: None,
            inputs: String::new(),
            fingerprint: Some(registry.fingerprint().to_owned()),
            namespaces: None,
        }
    }

    /// A writer that knows a registry, its credential and a namespace; what it is told by; and how often it has called the
    /// API server, which answers so.
    fn writer(
        code: u16,
        answer: &serde_json::Value,
    ) -> (DemandWriter, DemandSender, DemandReceiver, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let answer = answer.to_string();
        let answering = tower::service_fn(move |_: Request<Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            let body = Body::from(answer.clone().into_bytes());
            std::future::ready(Ok::<_, std::io::Error>(
                Response::builder().status(code).body(body).unwrap(),
            ))
        });
        let (writer, sender, receiver) = writer_of(Client::new(answering, "default"));
        (writer, sender, receiver, asked)
    }

    /// A refresh of the credential, stored in this version, during the first write or after it; the answer to that write has
    /// the version 20. What is written until all is quiet, by the credentials' times.
    async fn written_beside_a_refresh(stored_in: &str, is_during: bool) -> Vec<String> {
        let written = Arc::new(std::sync::Mutex::new(Vec::new()));
        let log = Arc::clone(&written);
        let takes_a_second = tower::service_fn(move |request: Request<Body>| {
            let log = Arc::clone(&log);
            async move {
                let body = request.into_body().collect_bytes().await.unwrap();
                let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                let time = &body["metadata"]["annotations"][crate::api::names::REFRESHED_AT_ANNOTATION];
                log.lock().unwrap().push(time.as_str().unwrap().to_owned());
                tokio::time::sleep(Duration::from_secs(1)).await;
                let answer = serde_json::json!({
                    "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                    "metadata": {"name": "pullpass-mine", "resourceVersion": "20"},
                });
                let body = Body::from(answer.to_string().into_bytes());
                Ok::<_, std::io::Error>(Response::new(body))
            }
        });
        let (writer, sender, receiver) = writer_of(Client::new(takes_a_second, "default"));
        let happens = async {
            sender.send("apps", &["mine"]);
            tokio::time::sleep(Duration::from_millis(if is_during { 500 } else { 30_000 })).await;
            let refreshed = HeldCredential {
                refreshed_at: jiff::Timestamp::from_second(60).unwrap(),
                ..(*writer.watches.credentials.of("mine").unwrap()).clone()
            };
            let stored_in = Version::parse(Some(stored_in));
            writer.watches.learn("mine", refreshed, stored_in, Seen::new());
            tokio::time::sleep(Duration::from_secs(5)).await;
        };
        tokio::select! {
            () = writer.run(receiver) => panic!("it ended"),
            () = happens => {}
        }
        written.lock().unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_a_refresh_overtook_is_repeated() {
        let (former, newest) = ("1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z");
        for is_during in [true, false] {
            assert_eq!(
                written_beside_a_refresh("10", is_during).await,
                [former, newest],
                "{is_during}"
            );
            // The leader writes that one: it sees the Pod too.
            assert_eq!(written_beside_a_refresh("30", is_during).await, [former]);
        }
    }

    #[tokio::test]
    async fn a_write_is_overtaken_once_the_newest_spec_is_known() {
        let (writer, _, receiver, _) = writer(200, &serde_json::Value::Null);
        let (watches, mut open) = (&writer.watches, OpenDemands::new());
        let pair = ("apps".to_owned(), "mine".to_owned());
        let version = |number: &str| Version::parse(Some(number));
        watches
            .recent_writes
            .add(&pair, jiff::Timestamp::UNIX_EPOCH, version("20"), now());
        let spec = serde_json::json!({"loginServer": "other1.azurecr.io"});
        let registry = crate::sync::secrets::tests::registry(&spec);
        let newest = HeldCredential {
            refreshed_at: jiff::Timestamp::from_second(60).unwrap(),
            ..credential(&registry)
        };
        watches.learn("mine", newest, version("10"), Seen::new());
        let mut take = |change| {
            let is_ready = writer.take_change(&mut open, &receiver, Ok(change));
            let ready = open.waiting.take(8, |_| true).into_iter();
            (is_ready, ready.map(|(pair, _)| pair).collect::<Vec<_>>())
        };
        let credential = || Change::Credential("mine".to_owned());
        assert_eq!(take(credential()), (Some(true), vec![]));
        watches.view.set_registries(std::iter::once(registry).collect());
        let registry = || Change::Registry("mine".to_owned());
        assert_eq!(take(registry()), (Some(true), vec![pair]));
        assert_eq!(take(registry()), (Some(false), vec![]), "once");
    }

    /// How often it writes within two minutes in which a Pod is admitted each second and the API server refuses with this
    /// message.
    async fn writes_refused_with(message: &str) -> usize {
        let status =
            serde_json::json!({"status": "Failure", "message": message, "reason": "Forbidden", "code": 403});
        let (writer, sender, receiver, asked) = writer(403, &status);
        let pods = async {
            for _ in 0..120 {
                sender.send("apps", &["mine"]);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = writer.run(receiver) => panic!("it ended"),
            () = pods => {}
        }
        asked.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn refused_writes_back_off_whatever_is_admitted() {
        // 0, 1, 3, 7, 15, 31 and 63 s, or somewhat earlier each.
        let refused = writes_refused_with("denied by a policy of the cluster").await;
        assert!((7..=8).contains(&refused), "{refused}");
        let foreign = writes_refused_with(crate::api::names::FENCE).await;
        assert!((3..=4).contains(&foreign), "{foreign}");
    }

    /// A burst of new namespaces: the watch brings all of them while as many writes are under way as there may be.
    #[tokio::test(start_paused = true)]
    async fn demands_beyond_the_concurrency_wait_for_no_tick() {
        const DEMANDS: usize = 3 * CONCURRENCY;
        let (asked, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (counted, held) = (Arc::clone(&asked), Arc::clone(&answers));
        let answering = tower::service_fn(move |_: Request<Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            let held = Arc::clone(&held);
            async move {
                held.acquire_owned().await.unwrap().forget();
                let written = serde_json::json!({
                    "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "pullpass-mine"},
                });
                Ok::<_, std::io::Error>(Response::new(Body::from(written.to_string().into_bytes())))
            }
        });
        let (writer, sender, receiver) = writer_of(Client::new(answering, "default"));
        let until_asked = async |count| {
            for _ in 0..10_000 {
                if asked.load(Ordering::Relaxed) == count {
                    return;
                }
                tokio::task::yield_now().await;
            }
            panic!("{} of {count} writes", asked.load(Ordering::Relaxed));
        };
        let watches = Arc::clone(&writer.watches);
        let burst = async {
            for number in 0..DEMANDS {
                sender.send(&format!("team-{number}"), &["mine"]);
            }
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            for number in 0..DEMANDS {
                watches.view.set_namespace(&format!("team-{number}"), &[].into());
            }
            // Any change has what waits looked at.
            let registry = crate::sync::secrets::tests::registry(&serde_json::json!({}));
            let next = HeldCredential {
                refreshed_at: Timestamp::from_second(1).unwrap(),
                ..credential(&registry)
            };
            watches.learn("mine", next, None, Seen::new());
            until_asked(CONCURRENCY - FOR_NEW_DEMANDS).await;
            answers.add_permits(DEMANDS);
            until_asked(DEMANDS).await;
        };
        tokio::select! {
            () = writer.run(receiver) => panic!("it ended"),
            () = burst => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_a_pod_needs_during_a_write_follow_it() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let takes_a_second = tower::service_fn(move |_: Request<Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let written = serde_json::json!({
                    "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "pullpass-mine"},
                });
                Ok::<_, std::io::Error>(Response::new(Body::from(written.to_string().into_bytes())))
            }
        });
        let (writer, sender, receiver) = writer_of(Client::new(takes_a_second, "default"));
        let pods = async {
            sender.send("apps", &["mine"]);
            tokio::time::sleep(Duration::from_millis(500)).await;
            sender.send_every_key("apps", &["mine"]);
            tokio::time::sleep(Duration::from_secs(10)).await;
            asked.load(Ordering::Relaxed)
        };
        tokio::select! {
            () = writer.run(receiver) => panic!("it ended"),
            count = pods => assert_eq!(count, 2),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_of_this_moment_is_written_again_with_every_key() {
        let written = serde_json::json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "pullpass-mine"},
        });
        let (writer, sender, receiver, asked) = writer(200, &written);
        let pods = async {
            let mut counts = Vec::new();
            for every_key in [false, false, true, true, false] {
                if every_key {
                    sender.send_every_key("apps", &["mine"]);
                } else {
                    sender.send("apps", &["mine"]);
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
                counts.push(asked.load(Ordering::Relaxed));
            }
            counts
        };
        tokio::select! {
            () = writer.run(receiver) => panic!("it ended"),
            counts = pods => assert_eq!(counts, [1, 1, 2, 2, 2]),
        }
        let pair = ("apps".to_owned(), "mine".to_owned());
        assert_eq!(writer.watches.spellings.keys(&pair, now()), Keys::Every);
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_process_writes_no_old_demand() {
        let written = serde_json::json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "pullpass-mine"},
        });
        for (paused_for, writes) in [(WAIT_TIMEOUT * 9 / 10, 1), (WAIT_TIMEOUT, 0)] {
            let (writer, sender, receiver, asked) = writer(200, &written);
            sender.send("apps", &["mine"]);
            tokio::time::advance(paused_for).await;
            tokio::select! {
                () = writer.run(receiver) => panic!("it ended"),
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
            assert_eq!(asked.load(Ordering::Relaxed), writes, "{paused_for:?}");
            let dropped = "pullpass_queue_dropped_total{queue=\"demand\",reason=\"expired\"} 1\n";
            let is_dropped = writer.metrics.encode().unwrap().contains(dropped);
            assert_eq!(is_dropped, writes == 0, "{paused_for:?}");
        }
    }

    /// The process is paused before the request is on its way.
    #[tokio::test(start_paused = true)]
    async fn a_paused_process_sends_no_write_that_was_begun() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let slow = tower::service_fn(move |_: Request<Body>| {
            let counted = Arc::clone(&counted);
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                counted.fetch_add(1, Ordering::Relaxed);
                Err::<Response<Body>, _>(std::io::Error::other("gone"))
            }
        });
        let (writer, sender, receiver) = writer_of(Client::new(slow, "default"));
        let mut running = std::pin::pin!(writer.run(receiver));
        sender.send("apps", &["mine"]);
        assert!(futures::poll!(running.as_mut()).is_pending());
        tokio::time::advance(WAIT_TIMEOUT).await;
        tokio::select! {
            () = running => panic!("it ended"),
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_of_this_moment_is_written_again_if_pulls_fail() {
        let written = serde_json::json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "pullpass-mine"},
        });
        let (writer, sender, receiver, asked) = writer(200, &written);
        let pods = async {
            let mut counts = Vec::new();
            for failed in [false, false, true, false] {
                if failed {
                    sender.send_again("apps", "mine");
                } else {
                    sender.send("apps", &["mine"]);
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                counts.push(asked.load(Ordering::Relaxed));
            }
            counts
        };
        tokio::select! {
            () = writer.run(receiver) => panic!("it ended"),
            counts = pods => assert_eq!(counts, [1, 1, 2, 2]),
        }
    }

    /// How the wait for a pull secret ends; nothing while it does not.
    async fn wait_ends(sender: &DemandSender, namespace: &str, registry: &str) -> Option<bool> {
        let unwritten = futures::future::try_join_all(sender.send(namespace, &[registry]));
        let ended = tokio::time::timeout(Duration::from_millis(900), unwritten).await;
        ended.ok().map(|written| written.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn a_review_hears_that_its_pull_secret_is_written() {
        let written = serde_json::json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "pullpass-mine"},
        });
        let (writer, sender, receiver, asked) = writer(200, &written);
        let reviews = async {
            assert_eq!(wait_ends(&sender, "apps", "mine").await, Some(true));
            // Nobody waits for what has no credential.
            assert_eq!(wait_ends(&sender, "apps", "theirs").await, Some(false));
            let (ended, ()) = tokio::join!(wait_ends(&sender, "new", "mine"), async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                writer.watches.view.set_namespace("new", &[].into());
                // Any change has what waits looked at.
                let registry = crate::sync::secrets::tests::registry(&serde_json::json!({}));
                let next = HeldCredential {
                    refreshed_at: Timestamp::from_second(1).unwrap(),
                    ..credential(&registry)
                };
                writer.watches.learn("mine", next, None, Seen::new());
            });
            assert_eq!(ended, Some(true), "the watch brought it in time");
            assert_eq!(wait_ends(&sender, "made-up", "mine").await, None);
            // One of them again, with the new credential.
            assert_eq!(asked.load(Ordering::Relaxed), 3);
        };
        tokio::select! {
            () = writer.run(receiver) => panic!("it ended"),
            () = reviews => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_pull_secret_that_is_refused() {
        let status =
            serde_json::json!({"status": "Failure", "message": "no", "reason": "Forbidden", "code": 403});
        let (writer, sender, receiver, asked) = writer(403, &status);
        let reviews = async {
            // Each time when the failure is forgotten, whether or not the write waits for its own backoff.
            for _ in 0..3 {
                assert_eq!(wait_ends(&sender, "apps", "mine").await, Some(false));
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            asked.load(Ordering::Relaxed)
        };
        tokio::select! {
            () = writer.run(receiver) => panic!("it ended"),
            // 0, 1, 3, 7 and 15 s, or somewhat earlier each.
            count = reviews => assert!(count <= 5, "{count}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_secret_that_may_be_gone_is_waited_for_again() {
        let written = serde_json::json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "pullpass-mine"},
        });
        let (writer, sender, receiver, asked) = writer(200, &written);
        let relabelled = crate::view::NamespaceChange {
            name: "apps".to_owned(),
            before: None,
        };
        let changes = [
            (Some(Change::NamespaceGone("apps".to_owned())), true),
            (Some(Change::NamespaceGone("other".to_owned())), false),
            (Some(Change::Namespace(relabelled)), true),
            (Some(Change::Registry("mine".to_owned())), true),
            (Some(Change::Registry("theirs".to_owned())), false),
            (Some(Change::Everything), true),
            (None, true),
        ];
        let reviews = async {
            wait_ends(&sender, "apps", "mine").await;
            for (change, is_waited_for) in changes {
                match &change {
                    Some(change) => writer.watches.tell(change.clone()),
                    // A kubelet can't pull with it.
                    None => sender.send_again("apps", "mine"),
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
                let before = asked.load(Ordering::Relaxed);
                let unwritten = sender.send("apps", &["mine"]);
                assert_eq!(!unwritten.is_empty(), is_waited_for, "{change:?}");
                tokio::time::sleep(Duration::from_millis(1)).await;
                // What a kubelet can't pull with was written already.
                let is_written = is_waited_for && change.is_some();
                let written = asked.load(Ordering::Relaxed) - before;
                assert_eq!(written, usize::from(is_written), "{change:?}");
            }
        };
        tokio::select! {
            () = writer.run(receiver) => panic!("it ended"),
            () = reviews => {}
        }
    }
}

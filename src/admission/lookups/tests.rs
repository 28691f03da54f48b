use std::io;
use std::sync::Mutex;

use futures::FutureExt;
use futures::future::join_all;
use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::*;
use crate::admission::demand::{self, DemandReceiver};
use crate::admission::{Admission, ClusterSenders, ReviewStep, notices};
use crate::audit::{AuditLog, Destination};
use crate::metrics::Metrics;
use crate::policy::decision::{Settings, WaitOutcome};
use crate::policy::scope::Picked;
use crate::registry::other_cloud::OtherCloud;

const IMAGE: &str = "mineregistry.azurecr.io/app";
/// How long the API server of a test takes to answer.
const CALL: Duration = Duration::from_millis(20);

/// What an API server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    /// It has the AcrRegistry mine, for the team a, and the namespace apps of that team, with the `ServiceAccounts` plain, strict
    /// and filled.
    Answers,
    /// It has neither.
    IsEmpty,
    IsStuck,
    Refuses,
    /// It has a binding only in the namespace apps.
    HasBinding,
    /// It has more of them than it says in one answer.
    HasTooMany,
    /// It has one that somebody filled, in an answer that is too long.
    HasTooLong,
    /// It has bindings, and does not say which.
    IsStuckWithBindings,
}

impl Server {
    fn has_bindings(self) -> bool {
        matches!(
            self,
            Self::HasBinding | Self::HasTooMany | Self::HasTooLong | Self::IsStuckWithBindings
        )
    }

    fn is_stuck(self) -> bool {
        matches!(self, Self::IsStuck | Self::IsStuckWithBindings)
    }
}

/// What receives nothing.
fn no_demands() -> DemandReceiver {
    demand::channel(Arc::new(Metrics::new(|| 0))).1
}

fn attached(selector: &Value) -> Value {
    json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": "mine"},
        "spec": {
            "loginServer": "mineregistry.azurecr.io", "identity": {"managedIdentity": {}}, "namespaces": selector,
        },
    })
}

/// A ServiceAccount of the namespace apps; that which somebody filled makes an answer that is too long.
fn account(name: &str) -> Option<Value> {
    let annotations = match name {
        "plain" => json!({}),
        "strict" => json!({"kubernetes.io/enforce-mountable-secrets": "true"}),
        "filled" => json!({"filled": "a".repeat(MAX_ACCOUNT_BYTES)}),
        _ => return None,
    };
    Some(json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": "apps", "annotations": annotations},
    }))
}

fn answer_of(server: Server, path: &str) -> (u16, Value) {
    let asked_account = path.strip_prefix("/api/v1/namespaces/apps/serviceaccounts/");
    if let Some(found) = asked_account
        .and_then(account)
        .filter(|_| server == Server::Answers)
    {
        return (200, found);
    }
    let is_list = path.ends_with("/acrregistries");
    let list = |items: Vec<Value>| json!({"apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistryList", "metadata": {"resourceVersion": "9"}, "items": items});
    let binding = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding",
        "metadata": {"name": "app", "namespace": "apps", "uid": "u"},
        "spec": {"loginServer": "mineregistry.azurecr.io", "serviceAccountName": "puller"},
    });
    match server {
        Server::HasBinding | Server::HasTooMany | Server::HasTooLong
            if path.ends_with("/namespaces/apps/acrpullbindings") =>
        {
            let mut bindings = list(vec![binding]);
            if server == Server::HasTooMany {
                bindings["metadata"]["continue"] = json!("more");
            }
            if server == Server::HasTooLong {
                let filled = "a".repeat(MAX_BINDINGS_BYTES);
                bindings["items"][0]["metadata"]["annotations"] = json!({"filled": filled});
            }
            (200, bindings)
        }
        Server::Answers if is_list => (200, list(vec![attached(&json!({"matchLabels": {"team": "a"}}))])),
        Server::Answers if path.ends_with("/namespaces/apps") => (
            200,
            json!({"apiVersion": "v1", "kind": "PartialObjectMetadata", "metadata": {"name": "apps", "labels": {"team": "a"}}}),
        ),
        Server::IsEmpty | Server::HasBinding | Server::HasTooMany | Server::HasTooLong
            if is_list || path.ends_with("/acrpullbindings") =>
        {
            (200, list(Vec::new()))
        }
        Server::Answers | Server::IsEmpty | Server::HasBinding | Server::HasTooMany | Server::HasTooLong => (
            404,
            json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "not found", "code": 404}),
        ),
        Server::IsStuck | Server::IsStuckWithBindings | Server::Refuses => (
            403,
            json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": "no", "code": 403}),
        ),
    }
}

/// Admission beside an API server, and what that was asked.
struct World {
    admission: Admission,
    view: Arc<View>,
    metrics: Arc<Metrics>,
    demands: DemandReceiver,
    /// Whether reviews wait for what is demanded; else it is written immediately.
    waits_for_pull_secrets: bool,
    asked: Arc<Mutex<Vec<String>>>,
    directory: tempfile::TempDir,
}

impl World {
    fn new(server: Server) -> Self {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let path = request.uri().path().to_owned();
            log.lock().unwrap().push(path.clone());
            async move {
                sleep(CALL).await;
                if server.is_stuck() {
                    std::future::pending::<()>().await;
                }
                let (code, body) = answer_of(server, &path);
                let body = Body::from(body.to_string().into_bytes());
                Ok::<_, io::Error>(Response::builder().status(code).body(body).unwrap())
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let audit = AuditLog::open(&Destination::File(directory.path().join("audit"))).unwrap();
        let (view, metrics) = (Arc::new(View::default()), Arc::new(Metrics::new(|| 0)));
        view.change_known_accounts(|known| known.insert("apps", "default"));
        let (demand, demands) = demand::channel(Arc::clone(&metrics));
        let (notices, _denied) = notices::channel(Arc::clone(&metrics));
        let admission = Admission::new(
            Arc::clone(&view),
            Settings::default(),
            Arc::new(audit),
            Arc::clone(&metrics),
        )
        .in_cluster(ClusterSenders { demand, notices })
        .asking(Client::new(service, "default"), server.has_bindings());
        Self {
            admission,
            view,
            metrics,
            demands,
            waits_for_pull_secrets: false,
            asked,
            directory,
        }
    }

    /// The decision on a Pod with an image, which the API server waits for so long, and how long it took.
    async fn decide(&self, namespace: &str, image: &str, timeout: Option<Duration>) -> (String, Duration) {
        let spec = json!({"containers": [{"name": "main", "image": image}]});
        self.decide_on(namespace, &spec, timeout).await
    }

    /// The same of a Pod of the namespace apps with this ServiceAccount.
    async fn decide_as(&self, account: &str) -> (String, Duration) {
        let spec = json!({"serviceAccountName": account, "containers": [{"name": "main", "image": IMAGE}]});
        self.decide_on("apps", &spec, None).await
    }

    async fn decide_on(
        &self,
        namespace: &str,
        spec: &Value,
        timeout: Option<Duration>,
    ) -> (String, Duration) {
        let arrived = Instant::now();
        let body = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
            "namespace": namespace, "object": {"spec": spec},
        }})
        .to_string();
        let mut review = self.admission.read(body.as_bytes(), Picked::ByMode).unwrap();
        loop {
            match self
                .admission
                .answer(&review, "peer", arrived.into_std())
                .unwrap()
            {
                ReviewStep::Answered(answer) => {
                    let answer: Value = serde_json::from_slice(&answer).unwrap();
                    let decision = &answer["response"]["auditAnnotations"]["decision"];
                    return (decision.as_str().unwrap().to_owned(), arrived.elapsed());
                }
                ReviewStep::Behind(wanted) => {
                    self.admission
                        .catch_up(&mut review, wanted, arrived.into_std(), timeout, ())
                        .await;
                }
                ReviewStep::Unwritten(_) if !self.waits_for_pull_secrets => {
                    review.pull_secret = Some(WaitOutcome::Written);
                }
                ReviewStep::Unwritten(unwritten) => {
                    self.admission
                        .wait_for_pull_secrets(&mut review, unwritten, arrived.into_std(), timeout, ())
                        .await;
                }
            }
        }
    }

    async fn outcome(&self, namespace: &str, image: &str) -> String {
        self.decide(namespace, image, None).await.0
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn counts(&self, what: &str, result: &str, count: usize) -> bool {
        let line = format!("pullpass_admission_waited_total{{for=\"{what}\",result=\"{result}\"}} {count}\n");
        self.metrics.encode().unwrap().contains(&line)
    }

    fn know(&self, selector: &Value, labels: &[(&str, &str)]) {
        let object = serde_json::from_value(attached(selector)).unwrap();
        self.view.set_registries(read_all(
            [object],
            &AttachedRegistries::default(),
            &OtherCloud::default(),
        ));
        let labels = labels.iter();
        let labels = labels.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.view.set_namespace("apps", &labels);
    }

    /// What the only record of the audit log says of a wait.
    async fn recorded(&self) -> Value {
        loop {
            let text = std::fs::read_to_string(self.directory.path().join("audit")).unwrap();
            if let Some(line) = text.lines().next() {
                let record: Value = serde_json::from_str(line).unwrap();
                return record["waited"].clone();
            }
            sleep(CALL).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn facts_that_the_caches_lack_are_asked_for_before_the_answer() {
    let mut world = World::new(Server::Answers);
    assert_eq!(world.outcome("apps", IMAGE).await, "injected");
    assert_eq!(
        world.asked(),
        [
            "/apis/pullpass.dev/v1alpha1/acrregistries",
            "/api/v1/namespaces/apps"
        ]
    );
    assert!(world.counts("registry", "changed", 1) && world.counts("namespace", "changed", 1));
    // The Secret is written once the watches have it.
    assert_eq!(world.demands.recv().await.unwrap().registry, "mine");
    assert_eq!(
        world.recorded().await,
        json!({"registry": "changed", "namespace": "changed", "pullSecret": "written"})
    );
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_the_caches_lack_is_asked_for() {
    for (server, namespace, expected, result) in [
        (Server::HasBinding, "apps", "injected", "changed"),
        (Server::HasBinding, "other", "uncovered", "unchanged"),
        (Server::HasTooMany, "apps", "uncovered", "failed"),
        (Server::HasTooLong, "apps", "uncovered", "failed"),
    ] {
        let world = World::new(server);
        world.view.set_namespace(namespace, &Labels::new());
        assert_eq!(world.outcome(namespace, IMAGE).await, expected, "{server:?}");
        let bindings = format!("/apis/pullpass.dev/v1alpha1/namespaces/{namespace}/acrpullbindings");
        let asked = world.asked();
        assert_eq!(asked, ["/apis/pullpass.dev/v1alpha1/acrregistries", &bindings]);
        assert!(world.counts("registry", result, 1), "{server:?} {namespace}");
    }
}

/// How many lists of bindings reviews lead to that come so far apart, each in another namespace, and how long they took.
async fn lists_of_bindings(server: Server, apart: Duration) -> (usize, Duration) {
    let world = World::new(server);
    let names: Vec<_> = (0..1_000).map(|number| format!("new-{number}")).collect();
    for name in &names {
        world.view.set_namespace(name, &Labels::new());
    }
    let begun = Instant::now();
    let reviews = names.iter().zip(0_u32..).map(|(name, number)| {
        let world = &world;
        async move {
            sleep(apart * number).await;
            world.outcome(name, IMAGE).await
        }
    });
    join_all(reviews).await;
    let lists = world.asked().into_iter();
    let lists = lists.filter(|path| path.ends_with("/acrpullbindings"));
    (lists.count(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn bindings_of_many_namespaces_are_listed_at_a_bounded_rate() {
    let (lists, _) = lists_of_bindings(Server::HasBinding, Duration::ZERO).await;
    let most = WAIT_TIMEOUT.as_millis() / READ_INTERVAL.as_millis() + 1;
    assert!(lists > 1 && lists <= usize::try_from(most).unwrap(), "{lists}");
}

#[tokio::test(start_paused = true)]
async fn bindings_are_listed_a_part_of_the_time() {
    let (lists, took) = lists_of_bindings(Server::HasBinding, Duration::from_millis(2)).await;
    let spacing = CALL.as_millis() * u128::from(INTERVAL_PER_LIST);
    // The first ones have their turns before it is known how long one takes.
    let most = 2 * took.as_millis() / spacing;
    assert!(lists > 1 && lists <= usize::try_from(most).unwrap(), "{lists}");
}

#[tokio::test(start_paused = true)]
async fn few_lists_of_bindings_are_under_way() {
    let (lists, took) = lists_of_bindings(Server::IsStuckWithBindings, Duration::ZERO).await;
    assert_eq!(took, WAIT_TIMEOUT);
    // Some of the next ones begin where the first ones end.
    assert!(
        (MAX_BINDINGS_LISTS..=2 * MAX_BINDINGS_LISTS).contains(&lists),
        "{lists}"
    );
}

#[tokio::test(start_paused = true)]
async fn labels_that_were_changed_just_now_are_read() {
    let world = World::new(Server::Answers);
    let selector = json!({"matchLabels": {"team": "a"}});
    // Another team's, until a moment ago.
    world.know(&selector, &[("team", "b")]);
    assert_eq!(world.outcome("apps", IMAGE).await, "injected");
    // Opted out, until a moment ago.
    world.know(&selector, &[("pullpass.dev/inject", "disabled")]);
    assert_eq!(world.outcome("apps", IMAGE).await, "injected");
    assert!(world.counts("namespace", "changed", 2));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_about_what_is_known() {
    let world = World::new(Server::IsStuck);
    world.know(&json!({"matchLabels": {"team": "a"}}), &[("team", "a")]);
    for (image, expected) in [(IMAGE, "injected"), ("nginx", "not-applicable")] {
        let (outcome, took) = world.decide("apps", image, None).await;
        assert_eq!((outcome.as_str(), took), (expected, Duration::ZERO), "{image}");
    }
    assert_eq!(world.asked(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_stuck_api_server_costs_the_bound_alone() {
    for (timeout, bound) in [
        (None, WAIT_TIMEOUT),
        (Some(30), WAIT_TIMEOUT),
        (Some(5), WAIT_TIMEOUT),
        (Some(1), Duration::from_millis(250)),
    ] {
        let world = World::new(Server::IsStuck);
        let (outcome, took) = world
            .decide("apps", IMAGE, timeout.map(Duration::from_secs))
            .await;
        assert_eq!(outcome, "uncovered");
        assert!(took >= bound && took <= bound + CALL, "{timeout:?}: {took:?}");
        assert!(world.counts("registry", "failed", 1));
        assert_eq!(world.recorded().await, json!({"registry": "failed"}));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_leaves_the_newest_of_the_caches() {
    let world = World::new(Server::Refuses);
    let (outcome, ()) = tokio::join!(world.outcome("apps", IMAGE), async {
        sleep(CALL / 2).await;
        world.know(&json!({}), &[]);
    });
    assert_eq!(outcome, "injected");
    assert!(world.counts("registry", "failed", 1));
}

#[tokio::test(start_paused = true)]
async fn many_strangers_share_few_calls() {
    let world = World::new(Server::IsEmpty);
    world.view.set_namespace("apps", &Labels::new());
    let begun = Instant::now();
    let pods = (0..1_000_u32).map(|number| {
        let world = &world;
        async move {
            sleep(Duration::from_millis(2) * number).await;
            world
                .outcome("apps", &format!("stranger{number}.azurecr.io/app"))
                .await
        }
    });
    let outcomes = join_all(pods).await;
    assert!(outcomes.iter().all(|outcome| outcome == "uncovered"));
    // Each takes that long.
    let spacing = CALL.as_millis() * u128::from(INTERVAL_PER_LIST);
    // The first ones begin before any took as long.
    let most = begun.elapsed().as_millis() / spacing + 4;
    assert!(world.asked().len() <= usize::try_from(most).unwrap(), "{most}");
    assert!(world.counts("registry", "unchanged", 1_000));
}

#[tokio::test(start_paused = true)]
async fn strangers_namespaces_are_read_at_a_bounded_rate() {
    let world = World::new(Server::IsEmpty);
    world.know(&json!({"matchLabels": {"team": "a"}}), &[]);
    let names: Vec<_> = (0..1_000).map(|number| format!("new-{number}")).collect();
    for name in &names {
        world
            .view
            .change_known_accounts(|known| known.insert(name, "default"));
    }
    let outcomes = join_all(names.iter().map(|name| world.outcome(name, IMAGE))).await;
    // What is not known in time is trusted to the selector, as before.
    assert!(outcomes.iter().all(|outcome| outcome == "injected"));
    let most = WAIT_TIMEOUT.as_millis() / READ_INTERVAL.as_millis() + 1;
    assert!(world.asked().len() <= usize::try_from(most).unwrap(), "{most}");
}

#[tokio::test(start_paused = true)]
async fn an_account_that_the_cache_lacks_is_asked_for() {
    for (name, expected, result, wait) in [
        ("strict", "uncovered", "changed", CALL),
        ("plain", "injected", "unchanged", CALL),
        ("absent", "injected", "unchanged", CALL),
        // The watch may have it still; after that, as without the question.
        ("filled", "injected", "failed", WAIT_TIMEOUT),
    ] {
        let world = World::new(Server::Answers);
        world.know(&json!({}), &[]);
        let (outcome, took) = world.decide_as(name).await;
        assert_eq!((outcome.as_str(), took), (expected, wait), "{name}");
        assert_eq!(
            world.asked(),
            [format!("/api/v1/namespaces/apps/serviceaccounts/{name}")]
        );
        assert!(world.counts("service-account", result, 1), "{name}");
        let waited = world.recorded().await;
        assert_eq!(waited["serviceAccount"], json!(result), "{waited}");
    }
}

/// Has the watch deliver the strict ServiceAccount under this name.
fn deliver_strict(view: &View, namespace: &str, name: &str) {
    let object = serde_json::from_value(account("strict").unwrap()).unwrap();
    let strict = Mountable::of(&object);
    view.strict_accounts().take(namespace, name, strict);
    view.change_known_accounts(|known| known.insert(namespace, name));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_tells_of_an_account_ends_the_wait() {
    // Also after a call that failed.
    for server in [Server::IsStuck, Server::Refuses] {
        let world = World::new(server);
        world.know(&json!({}), &[]);
        let ((outcome, took), ()) = tokio::join!(world.decide_as("strict"), async {
            sleep(CALL * 2).await;
            deliver_strict(&world.view, "apps", "strict");
        });
        assert_eq!((outcome.as_str(), took), ("uncovered", CALL * 2), "{server:?}");
        // From now on it is known.
        assert_eq!(world.decide_as("strict").await, (outcome, Duration::ZERO));
        assert_eq!(world.asked().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn accounts_without_a_turn_wait_for_the_watch() {
    let world = World::new(Server::IsStuck);
    world.know(&json!({}), &[]);
    let turns = WAIT_TIMEOUT.as_millis() / READ_INTERVAL.as_millis();
    let names: Vec<_> = (0..turns + 50).map(|number| format!("new-{number}")).collect();
    for name in &names {
        world.view.set_namespace(name, &Labels::new());
    }
    let (outcomes, ()) = tokio::join!(
        join_all(names.iter().map(|name| world.outcome(name, IMAGE))),
        async {
            sleep(CALL).await;
            for name in &names {
                deliver_strict(&world.view, name, "default");
            }
        }
    );
    assert!(
        outcomes.iter().all(|outcome| outcome == "uncovered"),
        "{outcomes:?}"
    );
    assert!(world.counts("service-account", "changed", names.len()));
}

/// How many `ServiceAccounts` are read for the first Pods of as many new namespaces, where the watch is so far behind.
async fn accounts_read(server: Server, namespaces: usize, behind: Duration) -> (usize, Duration) {
    let world = World::new(server);
    world.know(&json!({}), &[]);
    let names: Vec<_> = (0..namespaces).map(|number| format!("new-{number}")).collect();
    for name in &names {
        world.view.set_namespace(name, &Labels::new());
    }
    let begun = Instant::now();
    let (outcomes, ()) = tokio::join!(
        join_all(names.iter().map(|name| world.outcome(name, IMAGE))),
        async {
            sleep(behind).await;
            for name in &names {
                world
                    .view
                    .change_known_accounts(|known| known.insert(name, "default"));
            }
        }
    );
    assert!(outcomes.iter().all(|outcome| outcome == "injected"));
    (world.asked().len(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn new_namespaces_wait_for_the_watch_of_accounts_alone() {
    let behind = READ_INTERVAL * 3;
    let (reads, took) = accounts_read(Server::IsStuck, 50, behind).await;
    // Only those that had their turn before the watch delivered the others.
    assert!((3..=4).contains(&reads), "{reads}");
    assert_eq!(took, behind);
}

#[tokio::test(start_paused = true)]
async fn accounts_are_read_at_a_bounded_rate() {
    let (reads, took) = accounts_read(Server::IsEmpty, 1_000, WAIT_TIMEOUT * 2).await;
    let most = WAIT_TIMEOUT.as_millis() / READ_INTERVAL.as_millis() + 1;
    assert!(reads > 1 && reads <= usize::try_from(most).unwrap(), "{reads}");
    assert_eq!(took, WAIT_TIMEOUT * 2, "the Pods wait no longer than the watch");
}

#[tokio::test(start_paused = true)]
async fn reviews_that_wait_leave_room_for_others() {
    let world = World::new(Server::Answers);
    let lookups = Lookups::new(world.admission.lookups.as_ref().unwrap().client.clone(), true);
    let held: Vec<_> = std::iter::from_fn(|| lookups.enter(1)).collect();
    assert_eq!(held.len(), WAITING_BYTES / LEAST_BYTES);
    drop(held);
    assert!(lookups.enter(WAITING_BYTES + 1).is_none());
    assert!(lookups.enter(WAITING_BYTES).is_some());
}

/// A world of known things, in which reviews wait for pull secrets.
fn world_that_waits() -> World {
    let mut world = World::new(Server::IsStuck);
    world.waits_for_pull_secrets = true;
    world.know(&json!({}), &[]);
    world
}

#[tokio::test(start_paused = true)]
async fn a_review_waits_until_its_pull_secret_is_written() {
    let mut world = world_that_waits();
    let mut demands = std::mem::replace(&mut world.demands, no_demands());
    let write = async {
        let review = demands.recv().await.unwrap().review.unwrap();
        sleep(CALL).await;
        review.send(()).unwrap();
    };
    let pods = async {
        tokio::join!(
            world.decide("apps", IMAGE, None),
            world.decide("apps", IMAGE, None)
        )
    };
    let (((outcome, took), (_, second)), ()) = tokio::join!(pods, write);
    assert_eq!((outcome.as_str(), took, second), ("injected", CALL, CALL));
    assert_eq!(
        world.decide("apps", IMAGE, None).await.1,
        Duration::ZERO,
        "it is there"
    );
    assert!(world.counts("pull-secret", "written", 2));
    assert_eq!(world.recorded().await, json!({"pullSecret": "written"}));
    assert_eq!(world.asked(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_unwritten_pull_secret_costs_the_bound_alone() {
    let mut world = world_that_waits();
    let mut demands = std::mem::replace(&mut world.demands, no_demands());
    let (outcome, took) = world.decide("apps", IMAGE, None).await;
    assert_eq!((outcome.as_str(), took), ("injected", WAIT_TIMEOUT));
    let counted = format!(
        "\npullpass_admission_duration_seconds_sum {:?}\n",
        took.as_secs_f64()
    );
    assert!(
        world.metrics.encode().unwrap().contains(&counted),
        "the wait counts"
    );
    // Nobody is going to write it soon.
    drop(demands.recv().await.unwrap());
    assert_eq!(world.decide("apps", IMAGE, None).await.1, Duration::ZERO);
    assert!(world.counts("pull-secret", "failed", 1));
    assert_eq!(world.recorded().await, json!({"pullSecret": "failed"}));
}

#[tokio::test(start_paused = true)]
async fn a_pull_secret_that_fails_ends_no_wait_for_another() {
    let world = world_that_waits();
    let body = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
        "namespace": "apps", "object": {"spec": {"containers": [{"name": "main", "image": IMAGE}]}},
    }})
    .to_string();
    for (fails, expected) in [(true, WaitOutcome::Failed), (false, WaitOutcome::Written)] {
        let mut review = world.admission.read(body.as_bytes(), Picked::ByMode).unwrap();
        let ((first, one), (second, other)) = (oneshot::channel(), oneshot::channel());
        let arrived = Instant::now();
        let unwritten = vec![one.shared(), other.shared()];
        let wait =
            world
                .admission
                .wait_for_pull_secrets(&mut review, unwritten, arrived.into_std(), None, ());
        tokio::join!(wait, async {
            if fails {
                drop(first);
            } else {
                first.send(()).unwrap();
            }
            sleep(CALL).await;
            second.send(()).unwrap();
        });
        assert_eq!((arrived.elapsed(), review.pull_secret), (CALL, Some(expected)));
    }
}

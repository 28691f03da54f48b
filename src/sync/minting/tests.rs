//! Leaders whose clocks are wrong, and are set at any time.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use kube::client::Body;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Api, Client, ResourceExt};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::credential_state::CredentialState;
use super::domains::Domains;
use super::pull_right::PullRight;
use super::refresh::{DEFAULT_FRACTION, LastAttempt, RefreshPlan, interval_left, plan};
use super::status::StatusFacts;
use super::{Parts, RegistryController, WorkloadIdentityEnv, follow, stored_objects};
use crate::api::acr_registry::AcrRegistry;
use crate::azure::entra::Entra;
use crate::azure::mint::Minter;
use crate::base::clock::{Clock, Instants};
use crate::http::{HttpClient, HttpOptions};
use crate::metrics::Metrics;
use crate::policy::attached::AttachedRegistry;
use crate::sync::credentials::{Credentials, Seen, Version, Written};
use crate::sync::held_credential::HeldCredential;
use crate::sync::secrets::Tally;
use crate::sync::watches::Watches;
use crate::view::View;

const LIFE: i64 = 3 * 3600;
const DAYS: i64 = 3 * 24 * 3600;
const REPLICAS: usize = 3;

#[derive(Debug, Clone)]
enum Event {
    /// So many minutes pass.
    Advance(u8),
    /// A replica's clock is so many seconds ahead from now on, or behind.
    SetClock(usize, i64),
    Lead(usize),
    /// The Secret that the spec names changes.
    Rotate,
    /// A replica, which is not the leader, hears of nothing until it has to.
    Lag(usize),
    /// A replica starts again, with a clock that is right.
    Restart(usize),
}

#[derive(Default)]
struct Replica {
    credentials: Credentials,
    ahead: i64,
    last_attempt: Option<LastAttempt>,
    lags: bool,
    pending: VecDeque<(HeldCredential, u128)>,
}

struct Cluster {
    begin: Instant,
    /// Seconds since then.
    now: i64,
    replicas: Vec<Replica>,
    leader: usize,
    inputs: u32,
    /// What is in the cluster, its version, and when it was really minted.
    stored: Option<(HeldCredential, u128, i64)>,
    mints: usize,
    /// When a leader minted last, and of what; none if another one leads since.
    last_mint: Option<(i64, u32)>,
}

impl Cluster {
    fn new() -> Self {
        Self {
            begin: Instant::now(),
            now: 0,
            replicas: (0..REPLICAS).map(|_| Replica::default()).collect(),
            leader: 0,
            inputs: 0,
            stored: None,
            mints: 0,
            last_mint: None,
        }
    }

    fn true_time(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn clocks(&self, replica: usize) -> Instants {
        Instants {
            wall: Self::true_time(self.now + self.replicas[replica].ahead),
            steady: self.begin + Duration::from_secs(self.now.unsigned_abs()),
        }
    }

    fn set(
        &self,
        replica: usize,
        credential: HeldCredential,
        version: Option<u128>,
        written_at: Option<Written>,
    ) {
        let at = self.clocks(replica);
        let version = version.and_then(|version| Version::parse(Some(&version.to_string())));
        let credentials = &self.replicas[replica].credentials;
        credentials.set("mine", credential, version, Seen { at, written_at });
    }

    fn deliver(&mut self, replica: usize) {
        while let Some((credential, version)) = self.replicas[replica].pending.pop_front() {
            self.set(replica, credential, Some(version), None);
        }
    }

    /// The leader does all that it would do now.
    fn work(&mut self) {
        for _ in 0..10 {
            let clocks = self.clocks(self.leader);
            let replica = &self.replicas[self.leader];
            let seen = replica.credentials.seen("mine");
            let held = seen.as_ref().map(|(held, seen)| (&**held, *seen));
            let inputs = self.inputs.to_string();
            let planned = plan(clocks, &inputs, held, DEFAULT_FRACTION, None);
            let left = interval_left(replica.last_attempt.as_ref(), clocks.steady, &inputs);
            if planned.not_before(left) != RefreshPlan::Mint {
                return;
            }
            self.mint(clocks, &inputs);
        }
        panic!("the leader mints over and over");
    }

    fn mint(&mut self, clocks: Instants, inputs: &str) {
        self.mints += 1;
        if let Some((at, inputs)) = self.last_mint {
            let is_apart = self.now - at >= 30 || inputs != self.inputs;
            assert!(is_apart, "{} s after the last", self.now - at);
        }
        self.last_mint = Some((self.now, self.inputs));
        let version = self.stored.as_ref().map_or(1, |(_, version, _)| version + 1);
        let minted = HeldCredential {
            docker_config: ByteString(format!("{inputs} {version}").into_bytes()),
            audience: None,
            refreshed_at: clocks.wall,
            expires_at: Some(clocks.wall + SignedDuration::from_secs(LIFE)),
            inputs: inputs.to_owned(),
            fingerprint: None,
            namespaces: None,
        };
        self.stored = Some((minted.clone(), version, self.now));
        let leader = &mut self.replicas[self.leader];
        let before = leader.last_attempt.as_ref();
        leader.last_attempt = Some(LastAttempt::next(before, clocks.steady, inputs, true));
        self.set(self.leader, minted.clone(), Some(version), None);
        for replica in 0..REPLICAS {
            self.replicas[replica]
                .pending
                .push_back((minted.clone(), version));
            if !self.replicas[replica].lags {
                self.deliver(replica);
            }
        }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Advance(minutes) => {
                for _ in 0..minutes {
                    self.now += 60;
                    let (_, _, minted) = self.stored.as_ref().unwrap();
                    assert!(self.now - minted < LIFE, "it is refreshed after its end");
                    self.work();
                }
            }
            Event::SetClock(replica, ahead) => self.replicas[replica].ahead = ahead,
            Event::Lead(replica) => {
                self.leader = replica;
                self.last_mint = None;
                // It begins with what it knows, and hears of the rest while it works.
                self.work();
                self.replicas[replica].lags = false;
                self.deliver(replica);
            }
            Event::Rotate => self.inputs += 1,
            Event::Lag(replica) => self.replicas[replica].lags = replica != self.leader,
            Event::Restart(replica) => {
                self.replicas[replica] = Replica::default();
                self.last_mint = None;
                if let Some((credential, _, minted)) = self.stored.clone() {
                    let written_at = Written(Some(Self::true_time(minted)));
                    self.set(replica, credential, None, Some(written_at));
                }
            }
        }
        self.work();
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let ahead = prop_oneof![-DAYS..DAYS, -20_000..20_000_i64, -40..40_i64];
    let event = prop_oneof![
        4 => (1..120_u8).prop_map(Event::Advance),
        3 => (0..REPLICAS, ahead).prop_map(|(replica, ahead)| Event::SetClock(replica, ahead)),
        3 => (0..REPLICAS).prop_map(Event::Lead),
        2 => Just(Event::Rotate),
        1 => (0..REPLICAS).prop_map(Event::Lag),
        1 => (0..REPLICAS).prop_map(Event::Restart),
    ];
    prop::collection::vec(event, 1..60)
}

proptest! {
    #[test]
    fn wrong_clocks_lead_to_no_loop_and_no_gap(events in events()) {
        let mut cluster = Cluster::new();
        cluster.work();
        for event in &events {
            cluster.happen(event);
        }
        cluster.happen(&Event::Advance(1));
        for replica in 0..REPLICAS {
            cluster.deliver(replica);
        }
        // Everybody hands out what was minted last, of the Secret as it is.
        let (stored, _, _) = cluster.stored.clone().unwrap();
        prop_assert_eq!(&stored.inputs, &cluster.inputs.to_string());
        for replica in &cluster.replicas {
            prop_assert!(*replica.credentials.of("mine").unwrap() == stored);
        }
        let refreshes = cluster.now / (LIFE * 2 / 5) + 1;
        let most = usize::try_from(refreshes).unwrap() + events.len() + 1;
        prop_assert!(cluster.mints <= most, "{} mints, {} events", cluster.mints, events.len());
    }
}

/// A controller of one registry, whose API server gives every call this answer, and whose Azure is never asked.
pub(super) fn controller(registry: &AttachedRegistry, code: u16, answer: &Value) -> RegistryController {
    let answer = answer.to_string();
    controller_of(registry, move |_| (code, answer.clone()))
}

/// The same, where the answer depends on the call.
pub(super) fn controller_of(
    registry: &AttachedRegistry,
    answer: impl Fn(&http::Request<Vec<u8>>) -> (u16, String) + Send + Sync + 'static,
) -> RegistryController {
    let answer = Arc::new(answer);
    let server = tower::service_fn(move |request: http::Request<Body>| {
        let answer = Arc::clone(&answer);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?.to_vec();
            let (code, body) = answer(&http::Request::from_parts(parts, body));
            let response = http::Response::builder()
                .status(code)
                .body(Body::from(body.into_bytes()));
            Ok::<_, kube::Error>(response.unwrap())
        }
    });
    controller_with(registry, Client::new(server, "own"))
}

/// The same, with a client.
pub(super) fn controller_with(registry: &AttachedRegistry, client: Client) -> RegistryController {
    let authority = rcgen::generate_simple_self_signed(["authority".to_owned()]).unwrap();
    let http = HttpClient::new(HttpOptions {
        extra_ca: vec![authority.cert.der().clone()],
        ..HttpOptions::default()
    })
    .unwrap();
    let clock: Clock = Arc::new(Timestamp::now);
    let view = Arc::new(View::default());
    view.set_registries(std::iter::once(registry.clone()).collect());
    RegistryController::new(Parts {
        client,
        own_namespace: "own".to_owned(),
        watches: Arc::new(Watches::new(view)),
        minter: Minter::new(http.clone(), Entra::new(http, None, None), Arc::clone(&clock)),
        clock,
        workload_identity: WorkloadIdentityEnv::default(),
        tallies: Arc::default(),
        metrics: Arc::new(Metrics::new(|| 0)),
    })
}

/// What was missed may have been about any object.
#[tokio::test]
async fn messages_that_were_missed_are_about_all_objects() {
    let (reader, mut writer) = reflector::store();
    for name in ["mine", "yours"] {
        let object: AcrRegistry = serde_json::from_value(json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
            "spec": {"loginServer": format!("{name}.azurecr.io"), "identity": {"anonymous": {}}},
        }))
        .unwrap();
        writer.apply_watcher_event(&watcher::Event::Apply(object));
    }
    let (sender, receiver) = broadcast::channel(2);
    let about = |name: &'static str| (!name.is_empty()).then(|| ObjectRef::new(name));
    let mut objects = pin!(follow(receiver, reader, about));
    let mut next = async |count: usize| -> Vec<String> {
        let next: Vec<ObjectRef<AcrRegistry>> = objects.by_ref().take(count).collect().await;
        let mut names: Vec<_> = next.into_iter().map(|object| object.name).collect();
        names.sort();
        names
    };
    for name in ["", "yours"] {
        sender.send(name).unwrap();
    }
    assert_eq!(next(1).await, ["yours"]);
    for name in ["yours", "mine", "mine"] {
        sender.send(name).unwrap();
    }
    assert_eq!(next(4).await, ["mine", "mine", "mine", "yours"]);
    drop(sender);
    assert_eq!(next(1).await, [""; 0]);
}

/// One that was deleted and created again under its name has a look of its own.
#[tokio::test]
async fn a_status_is_written_on_the_object_that_was_looked_at() {
    let object = |uid: &str| -> AcrRegistry {
        serde_json::from_value(json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry",
            "metadata": {"name": "mine", "uid": uid, "resourceVersion": "7", "generation": 1},
            "spec": {"loginServer": "myregistry.azurecr.io", "identity": {"anonymous": {}}},
        }))
        .unwrap()
    };
    let mine = AttachedRegistry::parse(&object("a")).unwrap();
    for (live, expected) in [("a", vec![json!("7")]), ("b", vec![])] {
        let (patches, known) = (Arc::<Mutex<Vec<Value>>>::default(), json!(object(live)));
        let seen = Arc::clone(&patches);
        let controller = controller_of(&mine, move |request| {
            if *request.method() == http::Method::PATCH {
                let patch: Value = serde_json::from_slice(request.body()).unwrap();
                seen.lock()
                    .unwrap()
                    .push(patch["metadata"]["resourceVersion"].clone());
            }
            (200, known.to_string())
        });
        let facts = StatusFacts {
            registry: "mine",
            pull_secret: "pullpass-mine",
            own_namespace: "own",
            credential: &CredentialState::anonymous(&mine),
            tally: &Tally::default(),
            pull_right: &PullRight::NotNeeded,
            domains: &Domains::None,
        };
        let api: Api<AcrRegistry> = Api::all(controller.parts.client.clone());
        let looked_at = object("a");
        let written = controller.write_status_of(&api, &looked_at, &facts, Timestamp::now());
        written.await.unwrap();
        assert_eq!(*patches.lock().unwrap(), expected, "{live}");
    }
}

/// A list may come in pages, or object by object, and a controller works meanwhile.
#[tokio::test]
async fn objects_of_a_list_are_told_of_when_the_store_has_them() {
    let object = |name: &str, generation: i64| -> AcrRegistry {
        serde_json::from_value(json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry",
            "metadata": {"name": name, "generation": generation},
            "spec": {"loginServer": "myregistry.azurecr.io", "identity": {"anonymous": {}}},
        }))
        .unwrap()
    };
    let (reader, writer) = reflector::store();
    let events = [
        watcher::Event::Init,
        watcher::Event::InitApply(object("a", 1)),
        watcher::Event::InitApply(object("b", 1)),
        watcher::Event::InitDone,
        watcher::Event::Apply(object("c", 1)),
        watcher::Event::Init,
        watcher::Event::InitApply(object("a", 1)),
        watcher::Event::InitApply(object("b", 2)),
        watcher::Event::InitApply(object("d", 1)),
        watcher::Event::InitDone,
    ];
    let events = futures::stream::iter(events.map(Ok)).reflect(writer);
    let told = stored_objects(events, reader.clone())
        .predicate_filter(predicates::generation, PredicateConfig::default());
    let mut told = pin!(told);
    let mut seen = Vec::new();
    while let Some(Ok(object)) = told.next().await {
        let stored = reader.get(&ObjectRef::from_obj(&object));
        let stored = stored.map(|stored| stored.metadata.generation);
        assert_eq!(stored, Some(object.metadata.generation), "{object:?}");
        seen.push(format!(
            "{} {}",
            object.name_any(),
            object.metadata.generation.unwrap_or_default()
        ));
    }
    // Each list has its objects in any order.
    seen[..2].sort();
    seen[3..].sort();
    assert_eq!(seen, ["a 1", "b 1", "c 1", "b 2", "d 1"]);
}

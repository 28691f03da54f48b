//! The registry controller: an AcrRegistry becomes a minted credential, which is kept fresh, and a status that says so.

mod acceptance;
mod account;
mod attempt;
pub mod bindings;
mod credential_state;
mod domains;
mod identity;
mod notes;
mod pull_right;
pub mod refresh;
mod rewrites;
mod secret_users;
mod series;
mod shares;
mod status;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, future, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::broadcast;

use self::acceptance::Acceptances;
use self::attempt::Memories;
use self::credential_state::CredentialState;
use self::domains::{Domains, ReadConfiguration};
pub use self::identity::WorkloadIdentityEnv;
pub(crate) use self::identity::{CredentialSource, request_as, resolve, secret_version};
use self::notes::RefusedNotes;
use self::pull_right::{PullRight, PullRights};
use self::refresh::{LastAttempt, fraction};
use self::rewrites::ReadValues;
use self::secret_users::SecretUsers;
use self::shares::Shares;
use self::status::{StatusFacts, next_status};
use crate::api::acr_registry::{AcrRegistry, AcrRegistryStatus};
use crate::api::condition::{PULL_AUTHORIZED, READY, RECONCILING, STALLED};
use crate::api::names::{MANAGER, binding_of_key, pull_secret};
use crate::api::reason::Reason;
use crate::azure::mint::Minter;
use crate::base::clock::Clock;
use crate::base::pruned_map::PrunedMap;
use crate::kubernetes::call::{CallError, call};
use crate::kubernetes::events::note;
use crate::kubernetes::watch::with_backoff;
use crate::metrics::Metrics;
use crate::policy::attached::AttachedRegistry;
use crate::policy::invalid_spec::InvalidSpec;
use crate::sync::registries::{UnreadRegistry, Unreadable, nothing_of, read};
use crate::sync::secrets::Tallies;
use crate::sync::watches::{Change, Watches};

/// How soon something is tried again that the API server did not take.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// The soonest that a registry is looked at again, whatever a credential says of its life.
const MIN_REQUEUE_INTERVAL: Duration = Duration::from_millis(200);

/// Why there is no credential, or no new one: the condition's reason, and what is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MintFailure {
    pub(crate) reason: Reason,
    pub(crate) message: String,
    retry_after: Option<Duration>,
}

/// What an AcrRegistry says, read once for each look at it.
type Parsed = Result<AttachedRegistry, InvalidSpec>;

/// An object whose status shows the state of a credential.
trait StatusOwner: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug {
    fn status(&self) -> Option<&AcrRegistryStatus>;
}

impl StatusOwner for AcrRegistry {
    fn status(&self) -> Option<&AcrRegistryStatus> {
        self.status.as_ref()
    }
}

/// The controller. One runs in the cluster: the leader's.
pub struct RegistryController {
    parts: Parts,
    memory: Mutex<PrunedMap<String, Memories>>,
    last_attempts: Mutex<PrunedMap<String, LastAttempt>>,
    acceptances: Mutex<Acceptances>,
    pull_rights: Mutex<PullRights>,
    read_values: Mutex<ReadValues>,
    refused_notes: RefusedNotes,
    configuration: ReadConfiguration,
    shares: Shares,
}

/// What the controller works with.
pub struct Parts {
    /// Where registries and Secrets are.
    pub client: Client,
    /// pullpass' own namespace.
    pub own_namespace: String,
    /// What is minted, and already held.
    pub watches: Arc<Watches>,
    /// What mints.
    pub minter: Minter,
    /// The time.
    pub clock: Clock,
    /// What the process' environment says of workload identity.
    pub workload_identity: WorkloadIdentityEnv,
    /// The state of the pull secrets.
    pub tallies: Arc<Tallies>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl RegistryController {
    /// A controller that remembers nothing yet.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            memory: Mutex::default(),
            last_attempts: Mutex::default(),
            acceptances: Mutex::default(),
            pull_rights: Mutex::default(),
            read_values: Mutex::default(),
            refused_notes: RefusedNotes::default(),
            configuration: ReadConfiguration::default(),
            shares: Shares::default(),
        }
    }

    /// Runs until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let config = watcher::Config::default();
        let registries: Api<UnreadRegistry> = Api::all(self.parts.client.clone());
        let own_secrets: Api<Secret> = Api::namespaced(self.parts.client.clone(), &self.parts.own_namespace);
        let (reader, writer) = kube::runtime::reflector::store();
        // Our own status writes change no generation, and must not lead back here.
        let metrics = Arc::clone(&self.parts.metrics);
        let readable = move |event| {
            // The watch for admission says why it can't be read.
            let read = read(event, nothing_of)
                .inspect_err(|Unreadable(name)| metrics.registries.credential_fails(name, true));
            future::ready(read.ok())
        };
        let users = Arc::new(Mutex::new(SecretUsers::default()));
        let known = Arc::clone(&users);
        let events = with_backoff(watcher(registries, config.clone()))
            .filter_map(readable)
            .reflect(writer)
            .inspect_ok(move |event| known.lock().unwrap_or_else(PoisonError::into_inner).take(event));
        let changed = stored_objects(events, reader.clone())
            .predicate_filter(predicates::generation, PredicateConfig::default());
        let users_of = move |secret: Secret| -> Vec<ObjectRef<AcrRegistry>> {
            let users = users.lock().unwrap_or_else(PoisonError::into_inner);
            let users = users.of(&secret.name_any());
            users.iter().map(|name| ObjectRef::new(name)).collect()
        };
        let own = |name: String| binding_of_key(&name).is_none().then(|| ObjectRef::new(&name));
        let tallied = follow(self.parts.tallies.changes(), reader.clone(), |name: String| {
            Some(ObjectRef::new(&name))
        });
        let seen = follow(self.parts.watches.repositories.changes(), reader.clone(), own);
        let minted = follow(
            self.parts.watches.changes(),
            reader.clone(),
            move |change| match change {
                Change::Credential(name) => own(name),
                Change::Everything
                | Change::Registry(_)
                | Change::Binding(_)
                | Change::Bindings
                | Change::Namespace(_)
                | Change::NamespaceGone(_)
                | Change::Noted(_)
                | Change::ServiceAccounts(_) => None,
            },
        );
        Controller::for_stream(changed, reader)
            .watches(own_secrets, config, users_of)
            .reconcile_on(tallied)
            .reconcile_on(minted)
            .reconcile_on(seen)
            .run(
                async |object, controller: Arc<Self>| {
                    Ok::<_, Infallible>(controller.reconcile(&object).await)
                },
                |_, _, _| Action::requeue(RETRY_INTERVAL),
                self,
            )
            .for_each(async |_| {})
            .await;
    }

    async fn reconcile(&self, object: &AcrRegistry) -> Action {
        let name = object.name_any();
        let parsed = AttachedRegistry::parse_for(object, self.parts.watches.view.other_cloud());
        if !self.is_known_to_admission(&parsed) {
            return Action::requeue(MIN_REQUEUE_INTERVAL);
        }
        let now = (self.parts.clock)();
        let fraction = fraction(object.spec.credential.as_ref());
        let (credential, next) = self.reconcile_credential(&name, fraction, &parsed, now).await;
        self.measure(&name, &credential);
        let domains = self.domains(&parsed).await;
        let facts = StatusFacts {
            registry: &name,
            pull_secret: &pull_secret(&name),
            own_namespace: &self.parts.own_namespace,
            credential: &credential,
            tally: &self.parts.tallies.of(&name),
            pull_right: &PullRight::Untold,
            domains: &domains,
        };
        let registries: Api<AcrRegistry> = Api::all(self.parts.client.clone());
        let (written, asked_in) = self.tell(&registries, object, &parsed, facts, now).await;
        let next = match written {
            Ok(()) => next.into_iter().chain(asked_in).chain(domains.interval()).min(),
            Err(error) => {
                tracing::warn!(registry = name, %error, "could not write the status");
                Some(RETRY_INTERVAL)
            }
        };
        match next {
            None => Action::await_change(),
            Some(wait) => Action::requeue(wait.max(MIN_REQUEUE_INTERVAL)),
        }
    }

    /// Has the metrics show the state of a credential.
    fn measure(&self, name: &str, credential: &CredentialState) {
        let metrics = &self.parts.metrics.registries;
        metrics.credential_expires(name, credential.held.as_ref().and_then(|held| held.expires_at));
        if !credential.is_undecided {
            metrics.credential_fails(name, credential.failure.is_some());
        }
    }

    /// What is known of the custom domains of an AcrRegistry.
    async fn domains(&self, parsed: &Parsed) -> Domains {
        let registries = self.parts.watches.view.registries();
        match parsed {
            Ok(registry) => {
                Domains::look(&self.parts.client, &self.configuration, &registries, registry).await
            }
            Err(_) => Domains::None,
        }
    }

    /// Whether admission in this process acts on the spec as it is now. Its watch is another one and may be behind, most
    /// of all after an outage of the API server; nobody is to be told that a registry is ready which Pods don't get yet.
    fn is_known_to_admission(&self, parsed: &Parsed) -> bool {
        parsed.as_ref().map_or(true, |registry| {
            let view = &self.parts.watches.view;
            view.registries_with(registry.name()).by_name(registry.name()) == Some(registry)
        })
    }

    /// Writes the status, with what the credential may pull: its registry is asked where it is time to. Says also when the next
    /// question is due.
    async fn tell<K: StatusOwner>(
        &self,
        api: &Api<K>,
        object: &K,
        parsed: &Parsed,
        facts: StatusFacts<'_>,
        now: Timestamp,
    ) -> (Result<(), CallError>, Option<Duration>) {
        let named = (facts.registry, object.meta().generation);
        let (right, question) = self.pull_right(named, parsed, facts.credential);
        let with = |pull_right| StatusFacts { pull_right, ..facts };
        let mut written = self.write_status_of(api, object, &with(&right), now).await;
        let Some(question) = question else {
            return (written, None);
        };
        if self.question_waits(&question).is_none() {
            self.ask(&question).await;
            let (answer, _) = self.pull_right(named, parsed, facts.credential);
            if written.is_ok() && answer != right {
                written = self.write_status_of(api, object, &with(&answer), now).await;
            }
        }
        (written, self.question_waits(&question))
    }

    /// Writes the status of an object where it changed, and an Event where a condition did.
    async fn write_status_of<K: StatusOwner>(
        &self,
        api: &Api<K>,
        object: &K,
        facts: &StatusFacts<'_>,
        now: Timestamp,
    ) -> Result<(), CallError> {
        let name = object.name_any();
        // Nothing else of the object is kept while the next calls are under way: its owner chooses how long it is.
        let (before, version) = match call(api.get_opt(&name)).await? {
            Some(live) if live.meta().uid == object.meta().uid => (
                live.status().cloned().unwrap_or_default(),
                live.resource_version(),
            ),
            // One that was created since under its name has a look of its own, and none of these facts.
            Some(_) | None => return Ok(()),
        };
        let status = next_status(&before, object.meta().generation, facts, now);
        let metrics = &self.parts.metrics.registries;
        metrics.conditions(facts.registry, &status.conditions);
        if status == before {
            return Ok(());
        }
        // It may be deleted and created again before the patch arrives, too.
        let patch = json!({"metadata": {"resourceVersion": version}, "status": status::as_patch(&status)});
        let patch = Patch::Merge(patch);
        call(api.patch_status(&name, &PatchParams::default(), &patch)).await?;
        for condition in &status.conditions {
            let mut known = before.conditions.iter();
            let known = known.find(|known| known.type_ == condition.type_);
            if is_news(known, condition) {
                let (reason, message) = (condition.reason.clone(), condition.message.clone());
                self.publish(object, condition.status == "True", reason, message)
                    .await;
            }
        }
        Ok(())
    }

    async fn publish<K: StatusOwner>(&self, object: &K, ready: bool, reason: String, message: String) {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: None,
        };
        let event = Event {
            type_: if ready {
                EventType::Normal
            } else {
                EventType::Warning
            },
            reason,
            note: Some(note(&message).to_owned()),
            action: "Mint".to_owned(),
            secondary: None,
        };
        let recorder = Recorder::new(self.parts.client.clone(), reporter);
        if let Err(error) = call(recorder.publish(&event, &object.object_ref(&()))).await {
            tracing::warn!(%error, "could not write an Event");
        }
    }
}

/// Whether an Event is to tell of a condition that was another one before, or was not there.
fn is_news(before: Option<&Condition>, condition: &Condition) -> bool {
    let is_good = condition.status == "True";
    match before {
        // That nobody knows yet is no news, and neither is one more repository from which it may be pulled.
        _ if condition.status == "Unknown" => false,
        // They say what `Ready` says.
        _ if matches!(&*condition.type_, STALLED | RECONCILING) => false,
        Some(before) if condition.type_ == PULL_AUTHORIZED && is_good => {
            !matches!(&*before.status, "True" | "Unknown")
        }
        Some(before) => {
            (&before.status, &before.reason, &before.message)
                != (&condition.status, &condition.reason, &condition.message)
        }
        // That all is well with the namespaces of a new registry is no news.
        None => condition.type_ == READY || !is_good,
    }
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// The objects that the messages of a broadcast are about. Messages that were missed may have been about any object: all of
/// the store are returned then.
fn follow<T, K, R>(
    receiver: broadcast::Receiver<T>,
    store: Store<K>,
    about: impl Fn(T) -> R + Send,
) -> impl stream::Stream<Item = ObjectRef<K>> + Send
where
    T: Clone + Send + 'static,
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    R: IntoIterator<Item = ObjectRef<K>>,
{
    let messages = stream::unfold(receiver, async |mut receiver| match receiver.recv().await {
        Ok(message) => Some((Some(message), receiver)),
        Err(broadcast::error::RecvError::Lagged(_)) => Some((None, receiver)),
        Err(broadcast::error::RecvError::Closed) => None,
    });
    messages.flat_map(move |message| {
        let objects: Vec<_> = match message {
            Some(message) => about(message).into_iter().collect(),
            None => all_of(&store),
        };
        stream::iter(objects)
    })
}

/// The objects that a watch brings, once the store has them. It takes those of a list when the list is complete, and one that is
/// looked for before is not found, and forgotten.
fn stored_objects<K, S>(events: S, store: Store<K>) -> impl stream::Stream<Item = watcher::Result<K>> + Send
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    S: stream::Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
{
    events.flat_map(move |event| {
        let (one, listed) = match event {
            Ok(watcher::Event::Apply(object)) => (Some(Ok(object)), Vec::new()),
            Ok(watcher::Event::InitDone) => (None, store.state()),
            Ok(watcher::Event::Init | watcher::Event::InitApply(_) | watcher::Event::Delete(_)) => {
                (None, Vec::new())
            }
            Err(error) => (Some(Err(error)), Vec::new()),
        };
        let listed = listed.into_iter().map(|object| Ok(K::clone(&object)));
        stream::iter(one.into_iter().chain(listed))
    })
}

/// All objects of a store.
fn all_of<K: Resource<DynamicType = ()> + Clone + 'static>(store: &Store<K>) -> Vec<ObjectRef<K>> {
    let objects = store.state();
    objects
        .iter()
        .map(|object| ObjectRef::from_obj(&**object))
        .collect()
}

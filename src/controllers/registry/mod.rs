//! The registry controller: an AcrRegistry becomes a minted credential, which is kept fresh, and a status that says so.

mod identity;
mod status;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::broadcast;

pub use self::identity::Surroundings;
use self::identity::{Resolved, resolve};
use self::status::{Standing, next_status};
use super::credentials::HeldCredential;
use super::refresh::{self, DEFAULT_FRACTION, Failures, Plan, plan};
use super::secrets::Tallies;
use super::watches::{Change, Watches};
use crate::acr_registry::AcrRegistry;
use crate::azure::mint::{Clock, Credential, Minter};
use crate::metrics::Metrics;
use crate::names::{MANAGER, minted_credential};
use crate::reason::Reason;
use crate::registry::Registry;

/// How long a write of pullpass' own objects may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon something is tried again that the API server did not take.
const RETRY: Duration = Duration::from_secs(5);
/// The soonest that a registry is looked at again, whatever a credential says of its life.
const SOONEST: Duration = Duration::from_millis(200);

/// Why there is no credential, or no new one: the condition's reason, and what is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    reason: Reason,
    message: String,
    retry_after: Option<Duration>,
}

/// What the controller works with.
pub struct RegistryController {
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
    /// What the process' surroundings say of workload identity.
    pub surroundings: Surroundings,
    /// How the pull secrets stand.
    pub tallies: Arc<Tallies>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    memory: Mutex<HashMap<String, Memory>>,
}

/// What the leader remembers of a registry that fails. Losing it costs one attempt, and nothing else.
#[derive(Debug, Clone)]
struct Memory {
    failures: Failures,
    failure: Failure,
}

/// The parts of [`RegistryController`], by name.
pub struct Parts {
    /// Where registries and Secrets are.
    pub client: Client,
    /// pullpass' own namespace.
    pub own_namespace: String,
    /// What is minted, and already held.
    pub watches: Arc<Watches>,
    /// What mints.
    pub minter: Minter,
    /// What the process' surroundings say of workload identity.
    pub surroundings: Surroundings,
    /// How the pull secrets stand.
    pub tallies: Arc<Tallies>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl RegistryController {
    /// A controller that remembers nothing yet.
    pub fn new(parts: Parts, clock: Clock) -> Self {
        let Parts {
            client,
            own_namespace,
            watches,
            minter,
            surroundings,
            tallies,
            metrics,
        } = parts;
        Self {
            client,
            own_namespace,
            watches,
            minter,
            clock,
            surroundings,
            tallies,
            metrics,
            memory: Mutex::default(),
        }
    }

    /// Works for as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        let config = watcher::Config::default();
        let registries: Api<AcrRegistry> = Api::all(self.client.clone());
        let own_secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.own_namespace);
        let (reader, writer) = kube::runtime::reflector::store();
        // Our own status writes change no generation, and must not lead back here.
        let changed = watcher(registries, config.clone())
            .default_backoff()
            .reflect(writer)
            .applied_objects()
            .predicate_filter(predicates::generation, PredicateConfig::default());
        let by_secret = reader.clone();
        let users_of = move |secret: Secret| -> Vec<ObjectRef<AcrRegistry>> {
            let name = secret.name_any();
            let uses = |object: &Arc<AcrRegistry>| {
                minted_credential(&object.name_any()) == name
                    || identity::names_secret(&object.spec.identity, &name)
            };
            by_secret
                .state()
                .iter()
                .filter(|object| uses(object))
                .map(|object| ObjectRef::from_obj(&**object))
                .collect()
        };
        let tallied = follow(self.tallies.changes()).map(|name| ObjectRef::new(&name));
        let minted = follow(self.watches.changes()).filter_map(async |change| match change {
            Change::Credential(name) => Some(ObjectRef::new(&name)),
            Change::Registries | Change::Namespace(_) => None,
        });
        Controller::for_stream(changed, reader)
            .watches(own_secrets, config, users_of)
            .reconcile_on(tallied)
            .reconcile_on(minted)
            .run(
                async |object, controller: Arc<Self>| {
                    Ok::<_, Infallible>(controller.reconcile(&object).await)
                },
                |_, _, _| Action::requeue(RETRY),
                self,
            )
            .for_each(async |_| {})
            .await;
    }

    async fn reconcile(&self, object: &AcrRegistry) -> Action {
        let name = object.name_any();
        if !self.is_known_to_admission(object) {
            return Action::requeue(SOONEST);
        }
        let now = (self.clock)();
        let (standing, next) = self.bring_about(object, now).await;
        self.metrics
            .credential_expires(&name, standing.held.as_ref().and_then(|held| held.expires_at));
        let next = match self.tell(object, &standing, now).await {
            Ok(()) => next,
            Err(error) => {
                tracing::warn!(registry = name, %error, "the status was not written");
                Some(soon(now))
            }
        };
        match next {
            None => Action::await_change(),
            Some(next) => {
                let wait = next.duration_since((self.clock)());
                Action::requeue(Duration::try_from(wait).unwrap_or_default().max(SOONEST))
            }
        }
    }

    /// Whether admission in this process acts on the spec as it is now. Its watch is another one and may be behind, most
    /// of all after an outage of the API server; nobody is to be told that a registry is ready which Pods don't get yet.
    fn is_known_to_admission(&self, object: &AcrRegistry) -> bool {
        Registry::parse(object).map_or(true, |registry| {
            self.watches.view.registries().by_name(registry.name()) == Some(&registry)
        })
    }

    /// Mints if it is time to; says how it stands, and when to look again.
    async fn bring_about(&self, object: &AcrRegistry, now: Timestamp) -> (Standing, Option<Timestamp>) {
        let name = object.name_any();
        let held = self.watches.credentials.of(&name);
        match self.identify(object).await {
            Ok((registry, resolved)) => self.keep_fresh(object, &registry, &resolved, held, now).await,
            Err(failure) => {
                self.metrics.refreshed(&name, false);
                // A Secret or a spec that changes leads here again by itself; an API server that did not answer does not.
                let retry = (failure.reason == Reason::Unreachable).then(|| soon(now));
                let standing = Standing {
                    login_server: None,
                    held,
                    failure: Some(failure),
                    next_refresh: retry,
                };
                (standing, retry)
            }
        }
    }

    /// What the spec means, with what the Secrets that it names hold.
    async fn identify(&self, object: &AcrRegistry) -> Result<(Registry, Resolved), Failure> {
        let registry = Registry::parse(object).map_err(|error| Failure {
            reason: Reason::InvalidSpec,
            message: error.to_string(),
            retry_after: None,
        })?;
        let resolved = resolve(
            &self.client,
            &self.own_namespace,
            object,
            &registry,
            &self.surroundings,
        )
        .await?;
        Ok((registry, resolved))
    }

    async fn keep_fresh(
        &self,
        object: &AcrRegistry,
        registry: &Registry,
        resolved: &Resolved,
        held: Option<Arc<HeldCredential>>,
        now: Timestamp,
    ) -> (Standing, Option<Timestamp>) {
        let credential = object.spec.credential.as_ref();
        let fraction = credential
            .and_then(|credential| credential.refresh_fraction)
            .unwrap_or(DEFAULT_FRACTION);
        // What failed with other inputs says nothing about these.
        let memory = self
            .recall(registry.name())
            .filter(|memory| memory.failures.inputs == resolved.inputs);
        let failures = memory.as_ref().map(|memory| &memory.failures);
        let login_server = Some(registry.login_server().to_string());
        if let Plan::Wait(next) = plan(now, &resolved.inputs, held.as_deref(), fraction, failures) {
            let failure = memory.map(|memory| memory.failure);
            return (
                Standing {
                    login_server,
                    held,
                    failure,
                    next_refresh: next,
                },
                next,
            );
        }
        let minted = self.mint(registry, resolved, held.as_deref(), now).await;
        self.metrics.refreshed(registry.name(), minted.is_ok());
        let (held, failure, next) = match minted {
            Ok(minted) => {
                self.forget(registry.name());
                let next = refresh::due(&minted, fraction);
                (Some(minted), None, next)
            }
            Err(failure) => {
                tracing::warn!(
                    registry = registry.name(),
                    reason = %failure.reason,
                    message = failure.message,
                    "no credential was minted"
                );
                let failures =
                    refresh::failed((self.clock)(), &resolved.inputs, failures, failure.retry_after);
                let next = failures.retry_at;
                self.remember(
                    registry.name(),
                    Memory {
                        failures,
                        failure: failure.clone(),
                    },
                );
                (held, Some(failure), Some(next))
            }
        };
        (
            Standing {
                login_server,
                held,
                failure,
                next_refresh: next,
            },
            next,
        )
    }

    async fn mint(
        &self,
        registry: &Registry,
        resolved: &Resolved,
        held: Option<&HeldCredential>,
        now: Timestamp,
    ) -> Result<Arc<HeldCredential>, Failure> {
        let remembered = held.and_then(|held| held.audience.clone());
        let minted = match &resolved.source {
            identity::Source::Mint(request) => {
                let mut request = (**request).clone();
                request.remembered_audience = remembered;
                self.minter.mint(&request).await
            }
            identity::Source::Basic { username, password } => Credential::basic(username, password, now),
            identity::Source::ServicePrincipalPassword { client_id, secret } => {
                Credential::service_principal_password(client_id, secret, now)
            }
        };
        let credential = minted.map_err(|error| Failure {
            reason: error.reason(),
            message: error.to_string(),
            retry_after: error.retry_after(),
        })?;
        let minted = HeldCredential::of(&credential, registry.login_server(), resolved.inputs.clone());
        self.store(registry.name(), &minted).await?;
        tracing::info!(
            registry = registry.name(),
            expires_at = minted.expires_at.map(tracing::field::display),
            "a credential was minted"
        );
        // Known here at once, so that nothing is minted twice until the watch brings it.
        Ok(self.watches.learn(registry.name(), minted))
    }

    async fn store(&self, registry: &str, minted: &HeldCredential) -> Result<(), Failure> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.own_namespace);
        let manifest = Patch::Apply(minted.manifest(registry, &self.own_namespace));
        let parameters = PatchParams::apply(MANAGER).force();
        let name = minted_credential(registry);
        let write = secrets.patch_metadata(&name, &parameters, &manifest);
        let problem = match tokio::time::timeout(WRITE_TIMEOUT, write).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(kube::Error::Api(status))) => status.message,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the API server did not answer in time".to_owned(),
        };
        Err(Failure {
            reason: Reason::Unreachable,
            message: format!(
                "the minted credential could not be stored in namespace {}: {problem}",
                self.own_namespace
            ),
            retry_after: None,
        })
    }

    /// Writes the status where it changed, and an Event where the condition did.
    async fn tell(&self, object: &AcrRegistry, standing: &Standing, now: Timestamp) -> kube::Result<()> {
        let tally = self.tallies.of(&object.name_any());
        let registries: Api<AcrRegistry> = Api::all(self.client.clone());
        let Some(live) = registries.get_opt(&object.name_any()).await? else {
            return Ok(());
        };
        let before = live.status.clone().unwrap_or_default();
        let status = next_status(&before, object.metadata.generation, standing, &tally, now);
        if status == before {
            return Ok(());
        }
        let patch = Patch::Merge(json!({"status": status::as_patch(&status)}));
        registries
            .patch_status(&object.name_any(), &PatchParams::default(), &patch)
            .await?;
        let condition = |conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]| {
            conditions.first().map(|condition| {
                (
                    condition.status.clone(),
                    condition.reason.clone(),
                    condition.message.clone(),
                )
            })
        };
        let (old, new) = (condition(&before.conditions), condition(&status.conditions));
        if let Some((ready, reason, message)) = new.filter(|new| old.as_ref() != Some(new)) {
            self.publish(object, ready == "True", reason, message).await;
        }
        Ok(())
    }

    async fn publish(&self, object: &AcrRegistry, ready: bool, reason: String, message: String) {
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
            note: Some(message),
            action: "Mint".to_owned(),
            secondary: None,
        };
        let recorder = Recorder::new(self.client.clone(), reporter);
        if let Err(error) = recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(%error, "an Event was not written");
        }
    }

    fn recall(&self, name: &str) -> Option<Memory> {
        self.memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    fn remember(&self, name: &str, memory: Memory) {
        self.memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), memory);
    }

    fn forget(&self, name: &str) {
        self.memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }
}

/// When to try again what the API server did not take.
fn soon(now: Timestamp) -> Timestamp {
    now.saturating_add(RETRY).unwrap_or(Timestamp::MAX)
}

/// The messages of a broadcast; what was missed is skipped, since each leads to a look at the whole.
fn follow<T: Clone + Send + 'static>(
    receiver: broadcast::Receiver<T>,
) -> impl stream::Stream<Item = T> + Send {
    stream::unfold(receiver, async |mut receiver| {
        loop {
            match receiver.recv().await {
                Ok(message) => return Some((message, receiver)),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    })
}

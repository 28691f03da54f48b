//! The controller of bindings: an AcrPullBinding becomes a minted credential, which is kept fresh as an AcrRegistry's is, the
//! pull secret in its namespace, and a status that says so.

mod gone;
mod obstacles;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, future};
use kube::core::ObjectMeta;
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{PredicateConfig, WatchStreamExt, predicates};
use kube::{Api, ResourceExt};

use self::obstacles::{is_told, obstacle};
use super::credential_state::CredentialState;
use super::pull_right::PullRight;
use super::refresh::fraction;
use super::series::Series;
use super::status::StatusFacts;
use super::{
    MIN_REQUEUE_INTERVAL, MintFailure, Parsed, RETRY_INTERVAL, RegistryController, StatusOwner, all_of,
    follow, stored_objects,
};
use crate::api::acr_pull_binding::{AcrPullBinding, AcrPullBindingSpec};
use crate::api::acr_registry::AcrRegistryStatus;
use crate::api::names::{binding_key, binding_of_key, namesake_of_binding, pull_secret};
use crate::api::pull_secret_metadata::PullSecretMetadata;
use crate::api::reason::Reason;
use crate::base::backoff::Jitter;
use crate::base::clock::monotonic;
use crate::kubernetes::call::call;
use crate::kubernetes::follow::follow_long;
use crate::kubernetes::watch::with_backoff;
use crate::policy::attached::AttachedRegistry;
use crate::policy::scope::Scope;
use crate::sync::bindings::UnreadBinding;
use crate::sync::pull_secret::{self as secrets, WriteError};
use crate::sync::registries::{Unreadable, read};
use crate::sync::secrets::Tally;
use crate::sync::watches::Change;

/// How many bindings are worked on concurrently: nothing bounds how many there are, and after a start all of them are due. How
/// many of them are of one namespace, [`super::shares`] says.
const CONCURRENT_BINDINGS: u16 = 32;
/// How soon what a namespace's owner may have put right is looked at again, and a write that failed is repeated.
const LOOK_AGAIN_INTERVAL: Duration = Duration::from_secs(30);

/// How soon a binding that gets no pull secret is looked at again, where others of its namespace are told that first.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(2);

impl StatusOwner for AcrPullBinding {
    fn status(&self) -> Option<&AcrRegistryStatus> {
        self.status.as_ref()
    }
}

/// The controller. One runs in the cluster: the leader's.
pub struct BindingController {
    /// What mints, as for an AcrRegistry.
    mints: Arc<RegistryController>,
    /// Which namespaces may have pull secrets.
    scope: Scope,
    /// What every pull secret has besides what pullpass itself writes there.
    chosen: Arc<PullSecretMetadata>,
    /// How often every pull secret is written again.
    resync_interval: Duration,
    series: Arc<Series>,
}

impl BindingController {
    /// A controller that mints by this; every pull secret that it writes has these labels and annotations besides its own.
    pub fn new(
        mints: Arc<RegistryController>,
        scope: Scope,
        chosen: Arc<PullSecretMetadata>,
        resync_interval: Duration,
    ) -> Self {
        Self {
            mints,
            scope,
            chosen,
            resync_interval,
            series: Arc::default(),
        }
    }

    /// Runs until it is dropped.
    pub async fn run(self) {
        let controller = Arc::new(self);
        tokio::join!(
            controller.delete_of_gone(),
            Arc::clone(&controller).reconcile_all()
        );
    }

    async fn reconcile_all(self: Arc<Self>) {
        let parts = &self.mints.parts;
        let bindings: Api<UnreadBinding> = Api::all(parts.client.clone());
        let (reader, writer) = kube::runtime::reflector::store();
        let (metrics, series) = (Arc::clone(&parts.metrics), Arc::clone(&self.series));
        let readable = move |event| {
            // The watch for admission says why it can't be read.
            let read = read(event, nothing_of).inspect_err(|Unreadable(key)| {
                if series.admit(key, false) {
                    metrics.registries.credential_fails(key, true);
                }
            });
            future::ready(read.ok())
        };
        let events = with_backoff(follow_long(bindings))
            .filter_map(readable)
            .reflect(writer);
        let changed = stored_objects(events, reader.clone())
            .predicate_filter(predicates::generation, PredicateConfig::default());
        let watches = Arc::clone(&parts.watches);
        let seen = follow(watches.repositories.changes(), reader.clone(), |key: String| {
            reference(&key)
        });
        let all = reader.clone();
        let concerned = follow(watches.changes(), reader.clone(), move |change| {
            let keys: Vec<String> = match change {
                Change::Everything | Change::Bindings => return all_of(&all),
                Change::Credential(key) | Change::Binding(key) => vec![key],
                Change::Namespace(change) => {
                    let here = watches.view.bindings_in(&change.name);
                    here.iter().flat_map(|here| here.keys().cloned()).collect()
                }
                Change::Registry(_)
                | Change::NamespaceGone(_)
                | Change::Noted(_)
                | Change::ServiceAccounts(_) => Vec::new(),
            };
            keys.iter().filter_map(|key| reference(key)).collect::<Vec<_>>()
        });
        Controller::for_stream(changed, reader)
            .with_config(controller::Config::default().concurrency(CONCURRENT_BINDINGS))
            .reconcile_on(concerned)
            .reconcile_on(seen)
            .run(
                async |object, controller: Arc<Self>| {
                    Ok::<_, Infallible>(controller.reconcile(&object).await)
                },
                |_, _, _| Action::requeue(RETRY_INTERVAL),
                Arc::clone(&self),
            )
            .for_each(async |_| {})
            .await;
    }

    async fn reconcile(&self, object: &AcrPullBinding) -> Action {
        let parts = &self.mints.parts;
        let view = &parts.watches.view;
        let namespace = object.namespace().unwrap_or_default();
        let key = binding_key(&namespace, &object.name_any());
        let parsed: Parsed = AttachedRegistry::parse_binding(object, view.other_cloud());
        let obstacle = obstacle(view, &self.scope, object, &parsed);
        let was_served = || parts.watches.credentials.of(&key).is_some();
        if obstacle.as_ref().is_some_and(|failure| is_told(object, failure)) && !was_served() {
            // However many there are, they cost no call and no turn. One that was served may have left its pull secret, which is
            // to be deleted until that succeeds.
            return Action::requeue(Jitter::of(&key).spread(self.resync_interval));
        }
        let Some(_share) = self.mints.shares.enter(&namespace) else {
            // Nothing bounds how many there are that are to be told why they get none.
            return Action::requeue(match (&obstacle, &parsed) {
                (None, Ok(_)) => MIN_REQUEUE_INTERVAL,
                (Some(_), _) | (_, Err(_)) => Jitter::of(&key).spread(REFUSAL_INTERVAL),
            });
        };
        let now = (parts.clock)();
        let (credential, tally, next) = if let Some(failure) = obstacle {
            let gone = self.withdraw(object, &namespace, &failure).await;
            (refused(&parsed, failure), Tally::default(), gone)
        } else {
            if !self.mints.is_known_to_admission(&parsed) || !view.knows(&namespace) {
                return Action::requeue(MIN_REQUEUE_INTERVAL);
            }
            let fraction = fraction(object.spec.credential.as_ref());
            let (credential, next) = self
                .mints
                .reconcile_credential(&key, fraction, &parsed, now)
                .await;
            let (tally, again) = self.write(&namespace, &parsed).await;
            let awaits_owner = credential
                .failure
                .as_ref()
                .is_some_and(|failure| failure.reason == Reason::ServiceAccountMissing);
            let looked = awaits_owner.then_some(LOOK_AGAIN_INTERVAL);
            (
                credential,
                tally,
                next.into_iter().chain(again).chain(looked).min(),
            )
        };
        self.mints.measure(&key, &credential);
        let domains = self.mints.domains(&parsed).await;
        let facts = StatusFacts {
            registry: &key,
            pull_secret: &pull_secret(&namesake_of_binding(&object.name_any())),
            own_namespace: &parts.own_namespace,
            credential: &credential,
            tally: &tally,
            pull_right: &PullRight::Untold,
            domains: &domains,
        };
        let api: Api<AcrPullBinding> = Api::namespaced(parts.client.clone(), &namespace);
        let (written, asked_in) = self.mints.tell(&api, object, &parsed, facts, now).await;
        let next = match written {
            Ok(()) => next.into_iter().chain(asked_in).chain(domains.interval()).min(),
            Err(error) => {
                tracing::warn!(binding = key, %error, "could not write the status");
                Some(RETRY_INTERVAL)
            }
        };
        let is_crowded_out =
            (credential.failure.as_ref()).is_some_and(|failure| failure.reason == Reason::TooManyBindings);
        // One that can't be acted on, or came just now, is not in the view either.
        let is_gone = || async {
            !view.is_attached(&key)
                && matches!(call(api.get_metadata_opt(&object.name_any())).await, Ok(None))
        };
        let is_served = || {
            let here = view.bindings_in(&namespace);
            here.is_some_and(|here| here.contains_key(&key))
        };
        if is_crowded_out || !self.series.admit(&key, is_served()) || is_gone().await {
            // An attempt to mint that was under way when it was deleted brings its series back, and those that are not served
            // are without a bound.
            parts.metrics.registries.detached(&key);
            self.series.remove(&key);
        }
        // Not for all bindings together: a new one would wait for them.
        let resync = Jitter::of(&key).spread(self.resync_interval);
        let next = next.unwrap_or(resync).min(resync);
        Action::requeue(next.max(MIN_REQUEUE_INTERVAL))
    }

    /// Deletes the pull secret that must not be there; says when to try again if that failed.
    async fn withdraw(
        &self,
        object: &AcrPullBinding,
        namespace: &str,
        failure: &MintFailure,
    ) -> Option<Duration> {
        if !matches!(
            failure.reason,
            Reason::NamespaceNotInjected | Reason::TooManyBindings
        ) {
            return None;
        }
        let secret = pull_secret(&namesake_of_binding(&object.name_any()));
        let deleted = secrets::delete(&self.mints.parts.client, namespace, &secret).await;
        match deleted {
            Ok(()) | Err(WriteError::Foreign | WriteError::NamespaceGone) => None,
            Err(WriteError::Api(_) | WriteError::Unreachable(_) | WriteError::Timeout) => {
                Some(LOOK_AGAIN_INTERVAL)
            }
        }
    }

    /// Writes the pull secret from the credential that is held; says how that went, and when to try again where it failed.
    async fn write(&self, namespace: &str, parsed: &Parsed) -> (Tally, Option<Duration>) {
        let parts = &self.mints.parts;
        let mut tally = Tally {
            is_settled: true,
            ..Tally::default()
        };
        let Ok(registry) = parsed else {
            return (tally, None);
        };
        let Some(credential) = parts.watches.credential(registry) else {
            return (tally, None);
        };
        let pair = (namespace.to_owned(), registry.name().to_owned());
        let keys = parts.watches.spellings.keys(&pair, monotonic());
        let begun = monotonic();
        let (client, chosen) = (&parts.client, &self.chosen);
        let written = secrets::write(client, namespace, registry, &[], &credential, keys, chosen).await;
        parts.metrics.registries.secret_written(
            secrets::outcome(&written),
            monotonic().saturating_duration_since(begun),
        );
        let again = match written {
            Ok(_) => {
                tally.served = 1;
                None
            }
            Err(WriteError::NamespaceGone) => None,
            Err(WriteError::Foreign) => {
                tally.failed = 1;
                tally.conflicts = Arc::new([namespace.to_owned()].into());
                Some(LOOK_AGAIN_INTERVAL)
            }
            Err(error @ (WriteError::Api(_) | WriteError::Unreachable(_) | WriteError::Timeout)) => {
                tally.failed = 1;
                tally.refusal = Some((namespace.to_owned(), error.to_string()));
                Some(LOOK_AGAIN_INTERVAL)
            }
        };
        parts
            .metrics
            .registries
            .namespaces(registry.name(), tally.served, tally.failed);
        (tally, again)
    }
}

/// The state of a binding that gets no pull secret.
fn refused(parsed: &Parsed, failure: MintFailure) -> CredentialState {
    CredentialState {
        is_needed: true,
        login_server: parsed
            .as_ref()
            .ok()
            .map(|registry| registry.login_server().to_string()),
        held: None,
        failure: Some(failure),
        next_refresh: None,
        is_undecided: false,
    }
}

fn reference(key: &str) -> Option<ObjectRef<AcrPullBinding>> {
    let (namespace, name) = binding_of_key(key)?;
    Some(ObjectRef::new(name).within(namespace))
}

/// A binding of which nothing else is known.
fn nothing_of(metadata: ObjectMeta) -> AcrPullBinding {
    AcrPullBinding {
        metadata,
        spec: AcrPullBindingSpec::default(),
        status: None,
    }
}

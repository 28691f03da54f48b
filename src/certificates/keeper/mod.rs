//! The webhook's own certificate in a cluster: every replica serves what the Secret holds, and the leader manages the
//! Secret and what the API server trusts (`docs/certificates.md`).

mod configuration;
mod secret;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::core::Status;
use thiserror::Error;
use tokio::sync::watch;

use crate::api::names::{SERVICE, WEBHOOK_CERTIFICATE};
use crate::base::backoff::{Backoff, Jitter};
use crate::base::clock::Clock;
use crate::certificates::{CertificateAction, CertificateState, Flaw, Held, Live, host, plan};
use crate::kubernetes::{self, call::CallError};
use crate::server::{ServedTls, TlsMaker};
use secret::{KnownSecret, Written};

/// The longest wait until the clock is looked at again: a clock may be set, and a machine may sleep.
const MAX_CLOCK_INTERVAL: Duration = Duration::from_mins(1);
/// The shortest.
const MIN_CLOCK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a write may take to be seen in the watch before it is tried again.
const WRITE_SEEN_TIMEOUT: Duration = Duration::from_secs(5);
/// The wait after failures in a row.
const STEP_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Why a step failed. It is tried again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeeperError {
    /// A key or certificate could not be made.
    #[error("a certificate could not be created: {0}")]
    Make(#[from] rcgen::Error),
    /// The API server refused, did not answer, or could not be reached.
    #[error("{what}: {error}")]
    Call {
        /// What was asked.
        what: &'static str,
        /// What came back.
        error: CallError,
    },
}

/// The certificate of this cluster's webhook.
pub struct OwnCertificate {
    client: Client,
    namespace: String,
    host: String,
    configuration: String,
    overlap: SignedDuration,
    clock: Clock,
    seen: watch::Sender<KnownSecret>,
    /// What the Secret held when it was good last.
    good: ArcSwapOption<CertificateState>,
}

impl OwnCertificate {
    /// For the webhook in this namespace and the configuration of this name.
    pub fn new(
        client: Client,
        namespace: &str,
        configuration: &str,
        overlap: SignedDuration,
        clock: Clock,
    ) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            host: host(SERVICE, namespace),
            configuration: configuration.to_owned(),
            overlap,
            clock,
            seen: watch::Sender::new(KnownSecret::Unknown),
            good: ArcSwapOption::empty(),
        }
    }

    /// Serves what the Secret holds, until it is dropped. While it is unusable, the previous certificate is served.
    /// The client authorities are looked at in intervals.
    pub async fn follow(&self, served: &ServedTls, maker: TlsMaker, interval: Duration) {
        tokio::join!(
            secret::follow(&self.client, &self.namespace, &self.seen),
            self.serve(served, maker, interval)
        );
    }

    async fn serve(&self, served: &ServedTls, mut maker: TlsMaker, interval: Duration) {
        let mut seen = self.seen.subscribe();
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut flaw = None;
        loop {
            let secret = seen.borrow_and_update().clone();
            flaw = self.take(&secret, flaw.as_ref());
            self.hand_over(served, &mut maker);
            loop {
                tokio::select! {
                    changed = seen.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    _ = ticks.tick() => {
                        // It may have been read under a clock that was wrong, and nothing else tells of its being set.
                        let was_broken = flaw.is_some();
                        if was_broken {
                            flaw = self.take(&secret, flaw.as_ref());
                        }
                        if (was_broken && flaw.is_none()) || maker.has_client_ca() {
                            self.hand_over(served, &mut maker);
                        }
                    }
                }
            }
        }
    }

    fn hand_over(&self, served: &ServedTls, maker: &mut TlsMaker) {
        let Some(state) = self.good.load_full() else {
            return;
        };
        match maker.make(state.leaf.pem(), state.leaf.key()) {
            Ok(None) => {}
            Ok(Some(certificate)) => {
                served.swap(&certificate);
                tracing::info!(expires = %state.leaf.validity().until, "a new serving certificate is served");
            }
            Err(error) => {
                tracing::error!(%error, "the serving certificate is unusable; still serving the previous one");
            }
        }
    }

    /// Remembers what the Secret holds, or says why it can't be used, unless that was said before.
    fn take(&self, seen: &KnownSecret, said: Option<&Flaw>) -> Option<Flaw> {
        let secret = match seen {
            KnownSecret::Unknown => return None,
            KnownSecret::Absent => None,
            KnownSecret::There(secret) => Some(&**secret),
        };
        match Held::of(secret, &self.host, (self.clock)()) {
            Held::Whole(state) => {
                self.good.store(Some(Arc::from(state)));
                None
            }
            Held::Absent => {
                if self.good.load().is_some() {
                    tracing::warn!(
                        secret = WEBHOOK_CERTIFICATE,
                        "the Secret was deleted; the previous certificate is still served"
                    );
                }
                None
            }
            Held::Broken { flaw, .. } => {
                if said != Some(&flaw) {
                    tracing::error!(secret = WEBHOOK_CERTIFICATE, %flaw, "the Secret is unusable; the previous certificate is still served");
                }
                Some(flaw)
            }
        }
    }

    /// Manages the Secret and the configuration, until it is dropped. One replica at a time should; two do
    /// no harm.
    pub async fn run(&self) {
        let live = watch::Sender::new(None);
        tokio::join!(
            configuration::follow(&self.client, &self.configuration, &live),
            Box::pin(self.steps(&live))
        );
    }

    async fn steps(&self, live: &watch::Sender<Option<Live>>) {
        let mut seen = self.seen.subscribe();
        let mut published = live.subscribe();
        let mut failures: u32 = 0;
        loop {
            let secret = seen.borrow_and_update().clone();
            let known = published.borrow_and_update().clone();
            let wait = match self.step(&secret, known.as_ref(), live).await {
                Ok(wait) => {
                    failures = 0;
                    wait
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let wait = STEP_BACKOFF.delay(failures, None, Jitter::random());
                    tracing::warn!(%error, again = ?wait, "could not manage the webhook's certificate; trying again");
                    // Nothing is asked for more often, whatever changes.
                    tokio::time::sleep(wait).await;
                    Duration::ZERO
                }
            };
            tokio::select! {
                changed = seen.changed() => if changed.is_err() { return },
                changed = published.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Does what is due, and says how long to wait for a change.
    async fn step(
        &self,
        seen: &KnownSecret,
        published: Option<&Live>,
        live: &watch::Sender<Option<Live>>,
    ) -> Result<Duration, KeeperError> {
        let secret = match seen {
            KnownSecret::Unknown => return Ok(MAX_CLOCK_INTERVAL),
            KnownSecret::Absent => None,
            KnownSecret::There(secret) => Some(&**secret),
        };
        let now = (self.clock)();
        let held = Held::of(secret, &self.host, now);
        let good = self.good.load_full();
        let plan = plan(&held, published, good.as_deref(), &self.host, self.overlap, now);
        match (&plan.action, published) {
            (CertificateAction::Nothing, _) => return Ok(until(plan.again, now)),
            (CertificateAction::Publish(bundle), Some(known)) => {
                configuration::publish(&self.client, &self.configuration, live, known, bundle).await?;
                tracing::info!(configuration = self.configuration, "{}", plan.action);
                return Ok(WRITE_SEEN_TIMEOUT);
            }
            (
                CertificateAction::Create
                | CertificateAction::Restore(..)
                | CertificateAction::Repair(_)
                | CertificateAction::Change(..)
                | CertificateAction::Publish(_),
                _,
            ) => {}
        }
        let did = plan.action.to_string();
        let Some(state) = plan.action.state(&self.host, now)? else {
            return Ok(MAX_CLOCK_INTERVAL);
        };
        let known = match secret::write(&self.client, &self.namespace, secret, &state).await? {
            Written::Ours(secret) => {
                if let Held::Broken { flaw, .. } = &held {
                    tracing::warn!(secret = WEBHOOK_CERTIFICATE, %flaw, "the Secret was repaired: {did}");
                } else {
                    tracing::info!(secret = WEBHOOK_CERTIFICATE, expires = %state.leaf.validity().until, "{did}");
                }
                KnownSecret::There(Arc::new(secret))
            }
            Written::Theirs(secret) => {
                secret.map_or(KnownSecret::Absent, |secret| KnownSecret::There(Arc::new(secret)))
            }
        };
        // Anything else that the watch told meanwhile may be newer than the answer, and is not told again.
        self.seen.send_if_modified(|current| {
            let is_decided_on = current.is_same(seen);
            if is_decided_on {
                *current = known;
            }
            is_decided_on
        });
        Ok(Duration::ZERO)
    }
}

fn until(again: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(again.duration_since(now))
        .unwrap_or_default()
        .clamp(MIN_CLOCK_INTERVAL, MAX_CLOCK_INTERVAL)
}

/// Makes a call, and says what it was for where it fails.
async fn call<T>(
    what: &'static str,
    asked: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, KeeperError> {
    let answer = kubernetes::call::call(asked).await;
    answer.map_err(|error| KeeperError::Call { what, error })
}

/// What the API server says of a refusal.
fn status(error: &KeeperError) -> Option<&Status> {
    match error {
        KeeperError::Call { error, .. } => error.status(),
        KeeperError::Make(_) => None,
    }
}

#[cfg(test)]
mod tests;

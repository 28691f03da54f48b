//! One replica at a time mints, fans out and takes away: the one that holds the Lease.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

use crate::names::MANAGER;

/// How long a Lease is good without being renewed, in seconds.
const DURATION: u64 = 15;
/// How long before its end it is renewed, in seconds.
const GRACE: u64 = 5;

/// Why nobody can lead here any more. The process should end: another one takes over.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LeaderError {
    /// The Lease can't be used.
    #[error("the Lease can't be used: {0}")]
    Lease(#[from] LeaseManagerError),
    /// What renews the Lease has ended.
    #[error("what renews the Lease has ended: {0}")]
    Task(#[from] JoinError),
    /// What renews the Lease has ended without an error.
    #[error("what renews the Lease has ended")]
    Ended,
}

/// A candidate for the Lease.
pub struct Candidate {
    client: Client,
    own_namespace: String,
    identity: String,
    candidacy: Candidacy,
}

/// What runs for the Lease, and renews it once it is held.
struct Candidacy {
    leads: watch::Receiver<bool>,
    renewal: JoinHandle<Result<LeaseManager, LeaseManagerError>>,
}

impl Candidacy {
    async fn begin(client: &Client, own_namespace: &str, identity: &str) -> Result<Self, LeaseManagerError> {
        let manager = LeaseManagerBuilder::new(client.clone(), MANAGER)
            .with_namespace(own_namespace)
            .with_identity(identity)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await?;
        let (leads, renewal) = manager.watch().await;
        Ok(Self { leads, renewal })
    }
}

impl Candidate {
    /// Runs for the Lease under a name that no other process has.
    pub async fn stand(client: &Client, own_namespace: &str, identity: &str) -> Result<Self, LeaderError> {
        Ok(Self {
            client: client.clone(),
            own_namespace: own_namespace.to_owned(),
            identity: identity.to_owned(),
            candidacy: Candidacy::begin(client, own_namespace, identity).await?,
        })
    }

    /// Runs `work` whenever this one leads, and drops it when it does not; `told` hears of each change. Ends only with
    /// an error.
    pub async fn lead<F: Future<Output = ()>>(
        &mut self,
        mut work: impl FnMut() -> F,
        told: impl Fn(bool),
    ) -> LeaderError {
        let mut last_told = None;
        loop {
            let leads = *self.candidacy.leads.borrow_and_update();
            if last_told.replace(leads) != Some(leads) {
                told(leads);
            }
            let working = async {
                if leads {
                    work().await;
                }
                std::future::pending::<()>().await;
            };
            let given_back = given_back(&self.client, &self.own_namespace);
            tokio::select! {
                changed = self.candidacy.leads.changed() => if changed.is_err() { return LeaderError::Ended },
                ended = &mut self.candidacy.renewal => return match ended {
                    Ok(Ok(_)) => LeaderError::Ended,
                    Ok(Err(error)) => error.into(),
                    Err(error) => error.into(),
                },
                () = given_back, if !leads => self.begin_anew().await,
                () = working => {}
            }
        }
    }

    /// The candidacy sleeps until the Lease that it last saw ends; a new one looks at once. It has the same identity, so
    /// nothing is lost where the old one has just got the Lease.
    async fn begin_anew(&mut self) {
        match Candidacy::begin(&self.client, &self.own_namespace, &self.identity).await {
            Ok(candidacy) => {
                let old = std::mem::replace(&mut self.candidacy, candidacy);
                old.renewal.abort();
            }
            Err(error) => tracing::warn!(%error, "the Lease was given back, and is tried for when it ends"),
        }
    }

    /// Gives the Lease back, so that the next one need not wait for its end.
    pub async fn release(self) {
        let Candidacy { leads, renewal } = self.candidacy;
        drop(leads);
        // An error here means that the Lease ends by itself.
        let _ = renewal.await;
    }
}

/// Waits until somebody who held the Lease has given it back.
async fn given_back(client: &Client, own_namespace: &str) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), own_namespace);
    let mut is_held = false;
    let mut states =
        std::pin::pin!(watch_object(leases, MANAGER).default_backoff().inspect_err(
            |error| tracing::debug!(%error, "the watch on the Lease broke off and is begun anew")
        ));
    while let Some(state) = states.next().await {
        let Ok(lease) = state else { continue };
        let spec = lease.and_then(|lease| lease.spec);
        let holder = spec.and_then(|spec| spec.holder_identity);
        if is_held && holder.is_none() {
            return;
        }
        is_held = holder.is_some();
    }
}

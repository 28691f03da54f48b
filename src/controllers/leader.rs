//! One replica at a time mints, fans out and takes away: the one that holds the Lease.

use kube::Client;
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
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
#[derive(Debug)]
pub struct Candidate {
    leads: watch::Receiver<bool>,
    renewal: JoinHandle<Result<kube_lease_manager::LeaseManager, LeaseManagerError>>,
}

impl Candidate {
    /// Runs for the Lease under a name that no other process has.
    pub async fn stand(client: &Client, own_namespace: &str, identity: &str) -> Result<Self, LeaderError> {
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

    /// Runs `work` whenever this one leads, and drops it when it does not; `told` hears of each change. Ends only with
    /// an error.
    pub async fn lead<F: Future<Output = ()>>(
        &mut self,
        mut work: impl FnMut() -> F,
        told: impl Fn(bool),
    ) -> LeaderError {
        loop {
            let leads = *self.leads.borrow_and_update();
            told(leads);
            let working = async {
                if leads {
                    work().await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                changed = self.leads.changed() => if changed.is_err() { return LeaderError::Ended },
                ended = &mut self.renewal => return match ended {
                    Ok(Ok(_)) => LeaderError::Ended,
                    Ok(Err(error)) => error.into(),
                    Err(error) => error.into(),
                },
                () = working => {}
            }
        }
    }

    /// Gives the Lease back, so that the next one need not wait for its end.
    pub async fn release(self) {
        let Self { leads, renewal } = self;
        drop(leads);
        // An error here means that the Lease ends by itself.
        let _ = renewal.await;
    }
}

//! The one Secret: watching and writing it.

use std::fmt;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use tokio::sync::watch;

use super::{KeeperError, call, status};
use crate::api::names::{MANAGER, WEBHOOK_CERTIFICATE};
use crate::certificates::CertificateState;
use crate::kubernetes::refusal::is_of_a_fixed_field;
use crate::kubernetes::watch::followed;

/// What is known of the Secret.
#[derive(Clone)]
pub(super) enum KnownSecret {
    /// Nothing yet.
    Unknown,
    /// There is none.
    Absent,
    /// It is there.
    There(Arc<Secret>),
}

impl KnownSecret {
    /// Whether both are the same version of the Secret, or that there is none.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Absent, Self::Absent) => true,
            (Self::There(known), Self::There(other)) => {
                known.metadata.resource_version == other.metadata.resource_version
            }
            (Self::Unknown | Self::Absent | Self::There(_), _) => false,
        }
    }
}

impl fmt::Debug for KnownSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "Unknown",
            Self::Absent => "Absent",
            Self::There(_) => "There",
        })
    }
}

/// What is there after an attempt to write.
pub(super) enum Written {
    /// What was to be written.
    Ours(Secret),
    /// Somebody else was first.
    Theirs(Option<Secret>),
}

/// Publishes each state of the Secret. Runs until it is dropped.
pub(super) async fn follow(client: &Client, namespace: &str, seen: &watch::Sender<KnownSecret>) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut changes = std::pin::pin!(followed(watch_object(secrets, WEBHOOK_CERTIFICATE)));
    while let Some(secret) = changes.next().await {
        let now = secret.map_or(KnownSecret::Absent, |secret| KnownSecret::There(Arc::new(secret)));
        seen.send_if_modified(|known| {
            let is_known = known.is_same(&now);
            *known = now;
            !is_known
        });
    }
}

/// Writes the Secret over the one that is known, and over no later one.
pub(super) async fn write(
    client: &Client,
    namespace: &str,
    known: Option<&Secret>,
    state: &CertificateState,
) -> Result<Written, KeeperError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let Some(known) = known else {
        return create(&secrets, namespace, state).await;
    };
    let parameters = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(state.patch(known));
    let patched = secrets.patch(WEBHOOK_CERTIFICATE, &parameters, &patch);
    match call("the Secret can't be written", patched).await {
        Ok(secret) => Ok(Written::Ours(secret)),
        Err(error) => match status(&error) {
            Some(status) if [404, 409].contains(&status.code) => theirs(&secrets).await,
            Some(status) if is_in_the_way(status) => {
                if remove(&secrets, known).await? {
                    // Immediately, since what it holds is nowhere else now.
                    create(&secrets, namespace, state).await
                } else {
                    theirs(&secrets).await
                }
            }
            _ => Err(error),
        },
    }
}

async fn create(
    secrets: &Api<Secret>,
    namespace: &str,
    state: &CertificateState,
) -> Result<Written, KeeperError> {
    let parameters = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    let secret = state.secret(namespace);
    let created = secrets.create(&parameters, &secret);
    match call("the Secret can't be created", created).await {
        Ok(secret) => Ok(Written::Ours(secret)),
        Err(error) if status(&error).is_some_and(|status| status.code == 409) => theirs(secrets).await,
        Err(error) => Err(error),
    }
}

/// Whether the Secret that is there has to go first: it can't be changed, or its type asks for other entries. What
/// anything else refuses, a policy of the cluster for instance, is no reason to lose what it holds.
fn is_in_the_way(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    is_of_a_fixed_field(status)
        || (status.code == 422 && causes.any(|cause| cause.field.starts_with("data[")))
}

async fn theirs(secrets: &Api<Secret>) -> Result<Written, KeeperError> {
    let there = call("the Secret can't be read", secrets.get_opt(WEBHOOK_CERTIFICATE)).await?;
    Ok(Written::Theirs(there))
}

/// Says whether it is gone; one that changed meanwhile is not.
async fn remove(secrets: &Api<Secret>, known: &Secret) -> Result<bool, KeeperError> {
    let parameters = DeleteParams::default().preconditions(Preconditions {
        resource_version: known.metadata.resource_version.clone(),
        uid: known.metadata.uid.clone(),
    });
    let removed = secrets.delete(WEBHOOK_CERTIFICATE, &parameters);
    match call("the Secret can't be deleted", removed).await {
        Ok(_) => Ok(true),
        Err(error) if status(&error).is_some_and(|status| [404, 409].contains(&status.code)) => Ok(false),
        Err(error) => Err(error),
    }
}

//! The one Secret: watching and writing it.

use std::fmt;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use tokio::sync::watch;

use super::{CertificateError, call, status};
use crate::certificates::State;
use crate::names::{MANAGER, WEBHOOK_CERTIFICATE};

/// What is known of the Secret.
#[derive(Clone)]
pub(super) enum Seen {
    /// Nothing yet.
    Unknown,
    /// There is none.
    Absent,
    /// It is there.
    There(Arc<Secret>),
}

impl fmt::Debug for Seen {
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

/// Says what becomes of the Secret, for as long as it is polled.
pub(super) async fn follow(client: &Client, namespace: &str, seen: &watch::Sender<Seen>) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut changes = std::pin::pin!(watch_object(secrets, WEBHOOK_CERTIFICATE).default_backoff());
    while let Some(change) = changes.next().await {
        match change {
            Ok(secret) => {
                let now = secret.map_or(Seen::Absent, |secret| Seen::There(Arc::new(secret)));
                seen.send_if_modified(|known| {
                    let is_known = match (&*known, &now) {
                        (Seen::Absent, Seen::Absent) => true,
                        (Seen::There(known), Seen::There(now)) => {
                            known.metadata.resource_version == now.metadata.resource_version
                        }
                        _ => false,
                    };
                    *known = now;
                    !is_known
                });
            }
            Err(error) => tracing::warn!(%error, "a watch broke off and is begun anew"),
        }
    }
}

/// Writes the Secret over the one that is known, and over no later one.
pub(super) async fn write(
    client: &Client,
    namespace: &str,
    known: Option<&Secret>,
    state: &State,
) -> Result<Written, CertificateError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let written = match known {
        None => {
            let parameters = PostParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PostParams::default()
            };
            let secret = state.secret(namespace);
            call(
                "the Secret can't be created",
                secrets.create(&parameters, &secret),
            )
            .await
        }
        Some(known) => {
            let parameters = PatchParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            };
            let patch = Patch::Merge(state.patch(known));
            let patched = secrets.patch(WEBHOOK_CERTIFICATE, &parameters, &patch);
            call("the Secret can't be written", patched).await
        }
    };
    match written {
        Ok(secret) => Ok(Written::Ours(secret)),
        Err(error) => match (status(&error), known) {
            (Some(404), Some(_)) | (Some(409), _) => current(&secrets).await.map(Written::Theirs),
            // Its type is another, or it is immutable: it has to go first.
            (Some(422), Some(known)) => {
                remove(&secrets, known).await?;
                current(&secrets).await.map(Written::Theirs)
            }
            _ => Err(error),
        },
    }
}

async fn current(secrets: &Api<Secret>) -> Result<Option<Secret>, CertificateError> {
    call("the Secret can't be read", secrets.get_opt(WEBHOOK_CERTIFICATE)).await
}

async fn remove(secrets: &Api<Secret>, known: &Secret) -> Result<(), CertificateError> {
    let parameters = DeleteParams::default().preconditions(Preconditions {
        resource_version: known.metadata.resource_version.clone(),
        uid: known.metadata.uid.clone(),
    });
    let removed = secrets.delete(WEBHOOK_CERTIFICATE, &parameters);
    match call("the Secret can't be deleted", removed).await {
        Err(error) if !matches!(status(&error), Some(404 | 409)) => Err(error),
        _ => Ok(()),
    }
}

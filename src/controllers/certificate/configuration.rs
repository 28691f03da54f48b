//! The live `MutatingWebhookConfiguration`: watching it and writing `caBundle` into it.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use tokio::sync::watch;

use super::{CertificateError, call};
use crate::certificates::Live;
use crate::names::MANAGER;

/// How long to wait before the object is asked for again, after the watch on it has ended.
const PAUSE: Duration = Duration::from_secs(1);
/// The same after a failure.
const BACKOFF: Duration = Duration::from_secs(15);
/// How long a watch goes on, in seconds. Then it is begun anew, which finds out about lost connections.
const WATCH: u32 = 240;

/// Says what is published, for as long as it is polled.
///
/// It gets the object and watches it by its name, so that no right to list is needed: that would be the right to list
/// all of them, or else one that `resourceNames` narrows in a way that few people know.
pub(super) async fn follow(client: &Client, name: &str, live: &watch::Sender<Option<Live>>) {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    loop {
        let pause = match follow_once(&configurations, name, live).await {
            Ok(()) => PAUSE,
            Err(error) => {
                tracing::warn!(%error, configuration = name, "the configuration can't be watched; it is tried again");
                BACKOFF
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn follow_once(
    configurations: &Api<MutatingWebhookConfiguration>,
    name: &str,
    live: &watch::Sender<Option<Live>>,
) -> Result<(), CertificateError> {
    let object = call("it can't be read", configurations.get_opt(name)).await?;
    if object.is_none() {
        tracing::warn!(
            configuration = name,
            "there is no such MutatingWebhookConfiguration, so nobody calls this webhook"
        );
    }
    // Without an object, the watch begins with those that come.
    let version = object
        .as_ref()
        .and_then(|object| object.metadata.resource_version.clone())
        .unwrap_or_else(|| "0".to_owned());
    set(live, object);
    let parameters = WatchParams::default()
        .fields(&format!("metadata.name={name}"))
        .timeout(WATCH);
    let watched = call("it can't be watched", configurations.watch(&parameters, &version)).await?;
    let mut events = std::pin::pin!(watched);
    while let Some(event) = events.next().await {
        match event {
            Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => set(live, Some(object)),
            Ok(WatchEvent::Deleted(_)) => set(live, None),
            Ok(WatchEvent::Bookmark(_)) => {}
            // The version is too old, or the connection broke.
            Ok(WatchEvent::Error(_)) | Err(_) => break,
        }
    }
    Ok(())
}

fn set(live: &watch::Sender<Option<Live>>, object: Option<MutatingWebhookConfiguration>) {
    let now = object.and_then(Live::of);
    live.send_if_modified(|known| {
        let changed = *known != now;
        *known = now;
        changed
    });
}

/// Writes the bundle into every webhook that the configuration had when it was looked at.
pub(super) async fn publish(
    client: &Client,
    name: &str,
    live: &Live,
    bundle: &str,
) -> Result<(), CertificateError> {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let patch = Patch::Apply(live.patch(name, bundle));
    let parameters = PatchParams::apply(MANAGER).force();
    let patched = configurations.patch(name, &parameters, &patch);
    call("caBundle can't be written", patched).await.map(drop)
}

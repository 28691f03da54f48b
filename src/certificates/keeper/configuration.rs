//! The live `MutatingWebhookConfiguration`: watching it and writing `caBundle` into it.

use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use tokio::sync::watch;

use super::{KeeperError, call};
use crate::api::names::MANAGER;
use crate::base::backoff::{Backoff, Jitter};
use crate::certificates::Live;

/// How long to wait before the object is asked for again, after the watch on it has ended.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// The same after failures in a row.
const WATCH_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15));
/// How long the API server keeps a watch, in seconds. Then it is restarted.
const SERVER_WATCH_TIMEOUT_SECONDS: u32 = 240;
/// How long a watch may last. If the API server has not ended it by then, the connection was cut without a FIN or RST.
const WATCH_TIMEOUT: Duration = Duration::from_secs(SERVER_WATCH_TIMEOUT_SECONDS as u64 + 10);

/// Publishes each state of the configuration. Runs until it is dropped.
///
/// It gets the object and watches it by its name, so that no right to list is needed: that would be the right to list
/// all of them, or else one that `resourceNames` narrows in a way that few people know.
pub(super) async fn follow(client: &Client, name: &str, live: &watch::Sender<Option<Live>>) {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let mut failures: u32 = 0;
    loop {
        let wait = match follow_once(&configurations, name, live, WATCH_TIMEOUT).await {
            Ok(()) => {
                failures = 0;
                WATCH_INTERVAL
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                let wait = WATCH_BACKOFF.delay(failures, None, Jitter::random());
                tracing::warn!(%error, again = ?wait, configuration = name, "the configuration can't be watched; it is tried again");
                wait
            }
        };
        tokio::time::sleep(wait).await;
    }
}

pub(super) async fn follow_once(
    configurations: &Api<MutatingWebhookConfiguration>,
    name: &str,
    live: &watch::Sender<Option<Live>>,
    watch_timeout: Duration,
) -> Result<(), KeeperError> {
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
        .timeout(SERVER_WATCH_TIMEOUT_SECONDS);
    let watched = call("it can't be watched", configurations.watch(&parameters, &version)).await?;
    if tokio::time::timeout(watch_timeout, take(watched, live))
        .await
        .is_err()
    {
        tracing::warn!(
            configuration = name,
            "the connection of a watch was lost without notice; restarting the watch"
        );
    }
    Ok(())
}

/// Takes what a watch tells, until it ends.
async fn take(
    watched: impl Stream<Item = kube::Result<WatchEvent<MutatingWebhookConfiguration>>>,
    live: &watch::Sender<Option<Live>>,
) {
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
}

fn set(live: &watch::Sender<Option<Live>>, object: Option<MutatingWebhookConfiguration>) {
    let now = object.and_then(Live::of);
    live.send_if_modified(|known| replace(known, now));
}

/// Replaces what is known; says whether that changes what is published.
fn replace(known: &mut Option<Live>, now: Option<Live>) -> bool {
    let is_same = match (&*known, &now) {
        (Some(known), Some(now)) => known.says_the_same(now),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    *known = now;
    !is_same
}

/// Writes the bundle into every webhook that the configuration had when it was read. The result is known immediately,
/// whatever becomes of the watch, unless that told about something else meanwhile: it may be newer than the result, and
/// is not told again.
pub(super) async fn publish(
    client: &Client,
    name: &str,
    live: &watch::Sender<Option<Live>>,
    known: &Live,
    bundle: &str,
) -> Result<(), KeeperError> {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let patch = Patch::Apply(known.patch(name, bundle));
    let parameters = PatchParams::apply(MANAGER).force();
    let patched = configurations.patch(name, &parameters, &patch);
    let now = Live::of(call("caBundle can't be written", patched).await?);
    live.send_if_modified(|current| {
        let is_known = |current: &Live| current.version == known.version;
        current.as_ref().is_some_and(is_known) && replace(current, now)
    });
    Ok(())
}

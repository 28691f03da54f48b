//! Where the API server has the Pods from that it tells, by its own count, and how long it takes to be told them all.

use std::time::{Duration, Instant};

use futures::{AsyncBufReadExt, StreamExt};
use http::Request;
use kube::Client;
use serde::Serialize;

use crate::support::Result;

/// What the leader asks for: every Pod that has not ended, and then changes.
const ALL_PODS: &str = "/api/v1/pods?watch=true&allowWatchBookmarks=true&sendInitialEvents=true\
    &resourceVersionMatch=NotOlderThan&fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed";
/// What the last event of those that were there has.
const END: &str = "\"k8s.io/initial-events-end\":\"true\"";

/// Reads every Pod and does nothing with it; gives how many there are, and how long it took.
pub(crate) async fn read_all_pods(client: &Client) -> Result<(usize, Duration)> {
    let begun = Instant::now();
    let request = Request::get(ALL_PODS).body(Vec::new())?;
    let mut lines = std::pin::pin!(client.request_stream(request).await?.lines());
    let mut count = 0;
    while let Some(line) = lines.next().await {
        if line?.contains(END) {
            return Ok((count, begun.elapsed()));
        }
        count += 1;
    }
    Err("the watch ended before it had told all Pods".into())
}

/// Pods, and lists of them, by where the API server had them from.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Served {
    /// Pods that a watch began with, from the API server's cache.
    pub(crate) initial_events: f64,
    pub(crate) lists_from_cache: f64,
    pub(crate) lists_from_etcd: f64,
    pub(crate) pods_from_etcd: f64,
}

impl Served {
    /// Since the API server was started.
    pub(crate) async fn read(admin: &Client) -> Result<Self> {
        let metrics = admin
            .request_text(Request::get("/metrics").body(Vec::new())?)
            .await?;
        let of = |name: &str| {
            let of_pods = |line: &&str| line.starts_with(name) && line.contains("resource=\"pods\"");
            let values = metrics.lines().filter(of_pods);
            let values = values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            values.fold(0.0, |sum, value| sum + value)
        };
        Ok(Self {
            initial_events: of("apiserver_init_events_total{"),
            lists_from_cache: of("apiserver_cache_list_total{"),
            lists_from_etcd: of("apiserver_storage_list_total{"),
            pods_from_etcd: of("apiserver_storage_list_fetched_objects_total{"),
        })
    }

    /// What came after another reading.
    pub(crate) fn since(self, before: &Self) -> Self {
        Self {
            initial_events: self.initial_events - before.initial_events,
            lists_from_cache: self.lists_from_cache - before.lists_from_cache,
            lists_from_etcd: self.lists_from_etcd - before.lists_from_etcd,
            pods_from_etcd: self.pods_from_etcd - before.pods_from_etcd,
        }
    }
}

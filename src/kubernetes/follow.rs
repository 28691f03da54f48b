//! All objects that there are, and what becomes of them: for what there is so much of that no list may be held whole.

use std::fmt::Debug;
use std::future::ready;

use futures::{Stream, StreamExt};
use kube::Api;
use kube::runtime::watcher::{self, Config, Event, watcher};
use serde::de::DeserializeOwned;

/// How many objects a page has, where the list comes in pages.
const PAGE: u32 = 250;
/// The same, of objects that there are few of, or that are as a rule short, and that somebody can fill up to the 1.5 MiB that
/// the API server takes.
const PAGE_OF_LONG: u32 = 8;

/// All objects that the field selector matches, and then their changes.
///
/// The objects come one by one from the API server's own cache (`sendInitialEvents`), without a cost for etcd. An API
/// server that can't do that refuses it, and is asked for pages from then on: a list with `resourceVersion=0` would
/// come from its cache too, but as a whole, because the limit is ignored there.
pub fn follow<K>(api: Api<K>, fields: &str) -> impl Stream<Item = watcher::Result<Event<K>>> + use<K>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    follow_with(api, Config::default().fields(fields).page_size(PAGE))
}

/// The same, of all objects. However long somebody makes them, only one is in memory at a time, or a small page of them
/// if the API server can't send them one by one.
pub fn follow_long<K>(api: Api<K>) -> impl Stream<Item = watcher::Result<Event<K>>> + use<K>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    follow_with(api, Config::default().page_size(PAGE_OF_LONG))
}

fn follow_with<K>(api: Api<K>, config: Config) -> impl Stream<Item = watcher::Result<Event<K>>> + use<K>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let streamed = watcher(api.clone(), config.clone().streaming_lists());
    let listed = watcher(api, config);
    streamed
        .take_while(|event| ready(!is_refused(event)))
        .chain(listed)
}

/// Whether the API server does not know how to begin a watch with what there is. It says that the request is invalid.
fn is_refused<K>(event: &watcher::Result<Event<K>>) -> bool {
    let Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) = event else {
        return false;
    };
    let is_refused = status.code == 422;
    if is_refused {
        tracing::debug!(error = status.message, "a list is read in pages");
    }
    is_refused
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::{Arc, Mutex};

    use http::{Request, Response, StatusCode};
    use kube::Client;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;
    use crate::kubernetes::pods;
    use crate::policy::pod::Pod;

    /// An API server that answers by the query that it is asked with, and what it was asked.
    fn server(answer: fn(&str) -> (u16, Value)) -> (Api<Pod>, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let (status, body) = answer(&query);
            log.lock().unwrap().push(query);
            // A watch is answered in lines.
            let lines = body.as_array().cloned().unwrap_or_else(|| vec![body]);
            let lines: Vec<_> = lines.iter().map(Value::to_string).collect();
            let mut response = Response::new(Body::from(lines.join("\n").into_bytes()));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            ready(Ok::<_, kube::Error>(response))
        });
        (pods::api(Client::new(service, "default"), None), asked)
    }

    fn pod(name: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "spec": {},
            "metadata": {"name": name, "namespace": "apps", "resourceVersion": "7"},
        })
    }

    fn failure(code: u16) -> (u16, Value) {
        let status = json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "no", "reason": "no", "code": code,
        });
        (code, status)
    }

    /// The events up to the end of the first list.
    async fn first_list(api: Api<Pod>) -> Vec<String> {
        first_list_of(follow(api, "status.phase!=Failed")).await
    }

    async fn first_list_of(events: impl Stream<Item = watcher::Result<Event<Pod>>>) -> Vec<String> {
        let mut events = pin!(events);
        let mut seen = Vec::new();
        while let Some(event) = events.next().await {
            seen.push(match event {
                Ok(event) => event.to_string(),
                Err(_) => "error".to_owned(),
            });
            if seen.last().is_some_and(|last| last == "InitDone") || seen.len() > 8 {
                break;
            }
        }
        seen
    }

    #[tokio::test]
    async fn objects_come_one_by_one_without_a_list() {
        let (api, asked) = server(|_| {
            let end = json!({"type": "BOOKMARK", "object": {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}},
            }});
            (200, json!([{"type": "ADDED", "object": pod("a")}, end]))
        });
        assert_eq!(first_list(api).await, ["Init", "InitApply(a)", "InitDone"]);
        let asked = asked.lock().unwrap().clone();
        let [query] = &asked[..] else { panic!("{asked:?}") };
        for part in [
            "watch=true",
            "sendInitialEvents=true",
            "fieldSelector=status.phase",
        ] {
            assert!(query.contains(part), "{query}");
        }
    }

    /// An API server that has no watch which begins with what there is, and two pages.
    fn old_server() -> (Api<Pod>, Arc<Mutex<Vec<String>>>) {
        server(|query| {
            if query.contains("sendInitialEvents") {
                return failure(422);
            }
            let next = if query.contains("continue=") { "" } else { "more" };
            let name = if next.is_empty() { "b" } else { "a" };
            let list = json!({
                "apiVersion": "v1", "kind": "PodList", "items": [pod(name)],
                "metadata": {"resourceVersion": "9", "continue": next},
            });
            (200, list)
        })
    }

    #[tokio::test]
    async fn an_api_server_that_refuses_is_asked_for_pages() {
        let expected = ["Init", "InitApply(a)", "InitApply(b)", "InitDone"];
        for (is_long, limit) in [(false, "limit=250"), (true, "limit=8")] {
            let (api, asked) = old_server();
            let seen = if is_long {
                first_list_of(follow_long(api)).await
            } else {
                first_list(api).await
            };
            assert_eq!(seen, expected);
            let asked = asked.lock().unwrap().clone();
            let [of_watch, of_pages @ ..] = &asked[..] else {
                panic!("{asked:?}")
            };
            assert!(of_watch.contains("sendInitialEvents=true"), "{asked:?}");
            let is_page = |query: &String| query.split('&').any(|part| part == limit);
            assert!(of_pages.len() == 2 && of_pages.iter().all(is_page), "{asked:?}");
            assert!(
                !of_pages.iter().any(|query| query.contains("resourceVersion=0")),
                "{asked:?}"
            );
        }
    }

    #[tokio::test]
    async fn other_failures_are_errors_and_lead_to_no_list() {
        let (api, asked) = server(|_| failure(503));
        let seen = first_list(api).await;
        assert!(seen.iter().all(|event| event == "error"), "{seen:?}");
        let asked = asked.lock().unwrap().clone();
        assert!(
            asked.iter().all(|query| query.contains("sendInitialEvents")),
            "{asked:?}"
        );
    }
}

//! Objects that change from now on, without a list of those that there are: for what there is much of and nobody keeps,
//! as Events.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use futures::stream::unfold;
use futures::{Stream, StreamExt};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::call::{CallError, call};
use super::watch::{WatchBackoff, is_unreachable};
use super::words::Words;
use crate::base::clock::monotonic as now;
use crate::base::occasional::Occasional;

/// How long a watch waits that the API server ended, or of a version that it does not have any more.
const AGAIN_INTERVAL: Duration = Duration::from_secs(1);
/// How long the log says nothing more after a failure.
const LOG_INTERVAL: Duration = Duration::from_mins(5);

type Watch<K> = Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<K>>> + Send>>;

/// Every object that is created or changed from now on and that the field selector matches. It never ends. After an error
/// that the API server can't resume from, what changed meanwhile is left out.
pub fn tail<K>(api: Api<K>, fields: &str) -> impl Stream<Item = K> + use<K>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let tail = Tail {
        api,
        fields: fields.to_owned(),
        version: None,
        watch: None,
        waits: WatchBackoff::default(),
        logged: Occasional::new(LOG_INTERVAL),
    };
    unfold(tail, async |mut tail| {
        let object = tail.next().await;
        Some((object, tail))
    })
}

struct Tail<K> {
    api: Api<K>,
    fields: String,
    /// From where the watch goes on; none for now.
    version: Option<String>,
    watch: Option<Watch<K>>,
    /// After failures. An object ends them as little as a watch that begins: in a quiet cluster neither says much.
    waits: WatchBackoff,
    logged: Occasional,
}

impl<K> Tail<K>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    async fn next(&mut self) -> K {
        loop {
            let watch = match self.watch.take() {
                Some(watch) => watch,
                None => match self.begin().await {
                    Ok(watch) => watch,
                    Err(error) => {
                        self.failed(&error).await;
                        continue;
                    }
                },
            };
            if let Some(object) = self.follow(watch).await {
                return object;
            }
        }
    }

    /// A page of one object tells the version of all; without the selector, since the API server would search all of them
    /// for one that matches.
    async fn begin(&mut self) -> Result<Watch<K>, CallError> {
        let version = match &self.version {
            Some(version) => version.clone(),
            None => {
                let page = call(self.api.list_metadata(&ListParams::default().limit(1))).await?;
                page.metadata.resource_version.unwrap_or_default()
            }
        };
        let parameters = WatchParams::default().fields(&self.fields);
        let watch = call(self.api.watch(&parameters, &version)).await?;
        self.version = Some(version);
        Ok(Box::pin(watch))
    }

    /// The next object of a watch; none if the watch has to be started again.
    async fn follow(&mut self, mut watch: Watch<K>) -> Option<K> {
        loop {
            match watch.next().await {
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    self.version = object.resource_version();
                    self.watch = Some(watch);
                    return Some(object);
                }
                Some(Ok(WatchEvent::Deleted(object))) => self.version = object.resource_version(),
                Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                    self.version = Some(bookmark.metadata.resource_version);
                }
                Some(Ok(WatchEvent::Error(status))) => {
                    self.failed(&kube::Error::Api(status)).await;
                    return None;
                }
                Some(Err(error)) => {
                    self.failed(&error).await;
                    return None;
                }
                // The API server ends every watch after some minutes.
                None => {
                    sleep(AGAIN_INTERVAL).await;
                    return None;
                }
            }
        }
    }

    /// Waits after a failure. A version that the API server does not have any more is none: a quiet watch has only old ones.
    async fn failed(&mut self, error: &(impl Words + MaybeStatus)) {
        if error.is_expired() {
            self.version = None;
            return sleep(AGAIN_INTERVAL).await;
        }
        if let Some(failed) = self.logged.take(1, now()) {
            tracing::warn!(
                error = error.words(),
                fields = self.fields,
                failed,
                "a watch failed and is started again"
            );
        }
        // They never end.
        let wait = self.waits.after(error.is_unreachable());
        sleep(wait.unwrap_or(AGAIN_INTERVAL)).await;
    }
}

/// An error that may be the API server's.
trait MaybeStatus {
    fn is_expired(&self) -> bool;

    /// Whether it is the client's: the API server did not answer.
    fn is_unreachable(&self) -> bool;
}

impl MaybeStatus for kube::Error {
    fn is_expired(&self) -> bool {
        matches!(self, Self::Api(status) if status.code == 410)
    }

    fn is_unreachable(&self) -> bool {
        is_unreachable(self)
    }
}

impl MaybeStatus for CallError {
    fn is_expired(&self) -> bool {
        self.status().is_some_and(|status| status.code == 410)
    }

    fn is_unreachable(&self) -> bool {
        match self {
            Self::TimedOut(_) => true,
            Self::Kube(error) => is_unreachable(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::{Arc, Mutex};

    use http_body_util::combinators::UnsyncBoxBody;
    use http_body_util::{BodyExt, Full, StreamBody};
    use hyper::body::{Bytes, Frame};
    use k8s_openapi::api::core::v1::Event;
    use kube::Client;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// An API server that gives these watches one after the other, and what it was asked.
    fn server(watches: Vec<Vec<Value>>) -> (Api<Event>, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, watches) = (Arc::clone(&asked), Arc::new(Mutex::new(watches.into_iter())));
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let text = if query.contains("watch=true") {
                let next = watches.lock().unwrap().next();
                let lines =
                    next.map(|watch| watch.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"));
                lines.unwrap_or_default()
            } else {
                json!({"apiVersion": "v1", "kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "7"}, "items": []})
                    .to_string()
            };
            log.lock().unwrap().push(query);
            std::future::ready(Ok::<_, kube::Error>(http::Response::new(Body::from(
                text.into_bytes(),
            ))))
        });
        (Api::all(Client::new(service, "default")), asked)
    }

    fn event(kind: &str, name: &str, version: &str) -> Value {
        json!({"type": kind, "object": {
            "apiVersion": "v1", "kind": "Event", "involvedObject": {},
            "metadata": {"name": name, "namespace": "apps", "resourceVersion": version},
        }})
    }

    fn versions(asked: &Mutex<Vec<String>>) -> Vec<String> {
        let asked = asked.lock().unwrap();
        let version = |query: &String| {
            let mut parts = query
                .split('&')
                .filter_map(|part| part.strip_prefix("resourceVersion="));
            parts.next().unwrap_or("listed").to_owned()
        };
        asked.iter().map(version).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_ends_goes_on_from_where_it_was() {
        let (api, asked) = server(vec![
            vec![event("ADDED", "a", "8"), event("DELETED", "old", "9")],
            vec![event("MODIFIED", "a", "10")],
        ]);
        let names: Vec<_> = pin!(tail(api, "reason=Failed"))
            .take(2)
            .map(|event| event.name_any())
            .collect()
            .await;
        assert_eq!(names, ["a", "a"]);
        assert_eq!(versions(&asked), ["listed", "7", "9"]);
        let asked = asked.lock().unwrap();
        assert!(
            !asked[0].contains("fieldSelector") && asked[0].contains("limit=1"),
            "{asked:?}"
        );
        assert!(asked[1].contains("fieldSelector=reason%3DFailed"), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_version_is_replaced_by_the_present_one() {
        let gone = json!({"type": "ERROR", "object": {
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old",
        }});
        let (api, asked) = server(vec![vec![gone], vec![event("ADDED", "a", "8")]]);
        assert_eq!(
            pin!(tail(api, ""))
                .next()
                .await
                .map(|event| event.name_any())
                .as_deref(),
            Some("a")
        );
        assert_eq!(versions(&asked), ["listed", "7", "listed", "7"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_watch_is_asked_for_ever_more_rarely() {
        let refused = Arc::new(Mutex::new(0));
        let count = Arc::clone(&refused);
        let service = tower::service_fn(move |_: http::Request<Body>| {
            *count.lock().unwrap() += 1;
            let status = json!({"kind": "Status", "status": "Failure", "code": 403, "message": "no", "reason": "Forbidden"});
            let response = http::Response::builder()
                .status(403)
                .body(Body::from(status.to_string().into_bytes()));
            std::future::ready(Ok::<_, kube::Error>(response.unwrap()))
        });
        let api: Api<Event> = Api::all(Client::new(service, "default"));
        let mut events = pin!(tail(api, ""));
        assert!(
            tokio::time::timeout(Duration::from_mins(10), events.next())
                .await
                .is_err()
        );
        // After 0.8, 1.6, … 25.6 seconds, and then every half minute, each up to a quarter sooner.
        let asked = *refused.lock().unwrap();
        assert!((22..=34).contains(&asked), "{asked}");
    }

    type AnswerBody = UnsyncBoxBody<Bytes, std::io::Error>;

    fn whole(text: &Value) -> AnswerBody {
        let body = Full::new(Bytes::from(text.to_string()));
        body.map_err(|never| match never {}).boxed_unsync()
    }

    /// A tail of which nothing comes, with an API server that answers so to each watch.
    fn quiet(answer: impl Fn() -> AnswerBody + Clone + Send + 'static) -> (Tail<Event>, Arc<Mutex<usize>>) {
        let asked = Arc::new(Mutex::new(0));
        let count = Arc::clone(&asked);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let is_watch = request.uri().query().unwrap_or_default().contains("watch=true");
            let body = if is_watch {
                *count.lock().unwrap() += 1;
                answer()
            } else {
                let list = json!({"apiVersion": "v1", "kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "7"}, "items": []});
                whole(&list)
            };
            std::future::ready(Ok::<_, kube::Error>(http::Response::new(body)))
        });
        let tail = Tail {
            api: Api::all(Client::new(service, "default")),
            fields: String::new(),
            version: None,
            watch: None,
            waits: WatchBackoff::default(),
            logged: Occasional::new(LOG_INTERVAL),
        };
        (tail, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connections_that_are_cut_let_no_wait_grow() {
        const IDLE: Duration = Duration::from_mins(4);
        // A balancer cuts each watch, of which nothing comes, after four minutes.
        let cut = || {
            let frames = futures::stream::once(async {
                sleep(IDLE).await;
                Err::<Frame<Bytes>, _>(std::io::Error::other("connection reset"))
            });
            StreamBody::new(frames).boxed_unsync()
        };
        let (mut tail, asked) = quiet(cut);
        let day = tokio::time::timeout(IDLE * 100, tail.next()).await;
        assert!(day.is_err());
        let asked = *asked.lock().unwrap();
        assert!((99..=101).contains(&asked), "{asked}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_version_is_no_failure() {
        let gone = || {
            let gone = json!({"type": "ERROR", "object": {
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old",
            }});
            whole(&gone)
        };
        let (mut tail, asked) = quiet(gone);
        assert!(
            tokio::time::timeout(Duration::from_mins(1), tail.next())
                .await
                .is_err()
        );
        assert!((58..=61).contains(&*asked.lock().unwrap()), "no wait grew");
        assert_eq!(
            tail.logged.take(1, now()),
            Some(1),
            "the first failure is logged still"
        );
    }
}

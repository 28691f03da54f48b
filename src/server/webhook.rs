//! `POST /mutate`, and `POST /mutate/always`: the path says which selector picked the Pod.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::body::read;
use super::budget::{BodyLimits, Budget};
use super::connection::Caller;
use super::refusals::Refusals;
use super::{RequestId, error};
use crate::admission::{Admission, AdmissionError, Place, ReviewStep};
use crate::api::names::{ALWAYS_PATH, PODS_PATH};
use crate::base::readiness::Readiness;
use crate::metrics::port::Refusal;
use crate::policy::scope::Picked;

/// The size from which on a body counts as large, in bytes: some hundred images, each of which takes more memory while it is
/// judged than in the body.
const LARGE_BODY: usize = 64 << 10;
/// How many bytes of large bodies are judged concurrently. What is judged takes up to 20 times as much.
const LARGE_BODIES: u32 = 4 << 20;
/// When a client that was refused because memory is used up tries again, in seconds. The API server does,
/// within its timeout.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// The type of reviews and of answers.
const JSON: &str = "application/json";

/// The webhook's state.
#[derive(Debug)]
pub struct Webhook {
    admission: Admission,
    /// Bounds the bodies that are in memory.
    budget: Arc<Budget>,
    /// Bounds the reviews that are worked on concurrently; further ones wait, with their bodies read.
    permits: Semaphore,
    /// Bounds the bytes of large bodies among them.
    large: Semaphore,
    refusals: Refusals,
    /// Tells when the process shuts down.
    readiness: Arc<Readiness>,
}

impl Webhook {
    /// A webhook that works on at most so many reviews concurrently.
    pub fn new(admission: Admission, max_concurrent: usize, readiness: Arc<Readiness>) -> Self {
        Self {
            refusals: Refusals::new(admission.metrics()),
            admission,
            budget: Arc::new(Budget::new(BodyLimits::default())),
            permits: Semaphore::new(max_concurrent),
            large: Semaphore::new(LARGE_BODIES as usize),
            readiness,
        }
    }

    /// The same, with other limits of bodies.
    #[must_use]
    pub fn with_bodies(self, limits: BodyLimits) -> Self {
        Self {
            budget: Arc::new(Budget::new(limits)),
            ..self
        }
    }
}

/// The routes of the webhook's port.
pub fn webhook_router(webhook: Webhook) -> Router {
    Router::new()
        .route(PODS_PATH, post(mutate).fallback(method_not_allowed))
        .route(ALWAYS_PATH, post(mutate).fallback(method_not_allowed))
        .fallback(async || {
            error(
                StatusCode::NOT_FOUND,
                "not found: this port serves POST /mutate and POST /mutate/always",
            )
        })
        .with_state(Arc::new(webhook))
}

async fn method_not_allowed() -> Response {
    let answer = error(StatusCode::METHOD_NOT_ALLOWED, "reviews are sent by POST");
    ([(header::ALLOW, "POST")], answer).into_response()
}

/// Answers, and while the process shuts down, asks the caller to take another connection next time: one that is
/// kept is closed in the end, maybe while a review is on its way. HTTP/2 says so by itself when it closes the
/// connection, and nothing is lost. Not a layer, since that would cost every review an
/// allocation and a clone of the routes.
async fn mutate(
    State(webhook): State<Arc<Webhook>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let arrived = Instant::now();
    // Taken apart here: an extractor for the headers would copy them.
    let (
        Parts {
            version,
            headers,
            uri,
            ..
        },
        body,
    ) = request.into_parts();
    let timeout = uri.query().and_then(timeout_of);
    let picked = if uri.path() == ALWAYS_PATH {
        Picked::Always
    } else {
        Picked::ByMode
    };
    let mut response = match expect(&headers) {
        Ok(length) => {
            // Nobody holds them while the body arrives.
            drop((headers, uri));
            let asked = Asked {
                picked,
                arrived,
                timeout,
            };
            answer(&webhook, &caller, asked, length, body).await
        }
        Err(reason) => webhook.refuse(reason, &caller),
    };
    if version <= Version::HTTP_11 && webhook.readiness.ending.load(Ordering::Acquire) {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What the headers say of the body: its length, if they name one.
fn expect(headers: &HeaderMap) -> Result<Option<usize>, Refusal> {
    if !is_json(headers) {
        return Err(Refusal::NotJson);
    }
    let length = headers.get(header::CONTENT_LENGTH);
    Ok(length.and_then(|length| length.to_str().ok()?.parse().ok()))
}

/// How long the API server waits for the answer: it says so with each review.
fn timeout_of(query: &str) -> Option<Duration> {
    let timeout = query.split('&').find_map(|pair| pair.strip_prefix("timeout="))?;
    timeout.strip_suffix('s')?.parse().ok().map(Duration::from_secs)
}

/// What is known of a review before it is read.
#[derive(Debug, Clone, Copy)]
struct Asked {
    picked: Picked,
    arrived: Instant,
    timeout: Option<Duration>,
}

async fn answer(
    webhook: &Webhook,
    caller: &Caller,
    asked: Asked,
    length: Option<usize>,
    body: Body,
) -> Response {
    let body = match read(&webhook.budget, caller.connection.peer, length, body).await {
        Ok(body) => body,
        Err(reason) => return webhook.refuse(reason, caller),
    };
    match webhook.review(&body.bytes, &caller.peer, asked).await {
        Ok(Some(answer)) => {
            caller.connection.answered();
            json(answer)
        }
        Ok(None) => error(StatusCode::SERVICE_UNAVAILABLE, "the server is ending"),
        Err(problem) => webhook.fail(&problem, caller),
    }
}

/// An answer in JSON. Built directly: a tuple would first take the type that bytes have, and then replace it.
fn json(answer: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(answer));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

impl Webhook {
    /// Answers the review in a body; nothing if the server shuts down. A review that waits for the API server holds no
    /// permit.
    async fn review(&self, body: &[u8], peer: &str, asked: Asked) -> Result<Option<Vec<u8>>, AdmissionError> {
        let Asked {
            picked,
            arrived,
            timeout,
        } = asked;
        let Some(mut turn) = self.turn(body.len()).await else {
            return Ok(None);
        };
        self.refusals.metrics().port.queued(arrived.elapsed());
        let mut review = self.admission.read(body, picked)?;
        loop {
            let step = self.admission.answer(&review, peer, arrived)?;
            let place = match step {
                ReviewStep::Answered(answer) => return Ok(Some(answer)),
                ReviewStep::Behind(wanted) => {
                    self.admission
                        .catch_up(&mut review, wanted, arrived, timeout, turn)
                        .await
                }
                ReviewStep::Unwritten(unwritten) => {
                    self.admission
                        .wait_for_pull_secrets(&mut review, unwritten, arrived, timeout, turn)
                        .await
                }
            };
            turn = match place {
                Place::Turn(turn) => turn,
                // Kept while it waits for its next turn.
                Place::Room(_room) => match self.turn(body.len()).await {
                    Some(turn) => turn,
                    None => return Ok(None),
                },
            };
        }
    }

    /// Waits until a body of this length may be judged; nothing if the server shuts down.
    async fn turn(&self, length: usize) -> Option<(SemaphorePermit<'_>, Option<SemaphorePermit<'_>>)> {
        let large = if length > LARGE_BODY {
            let bytes = u32::try_from(length).map_or(LARGE_BODIES, |bytes| bytes.min(LARGE_BODIES));
            Some(self.large.acquire_many(bytes).await.ok()?)
        } else {
            None
        };
        let permit = self.permits.acquire().await.ok()?;
        Some((permit, large))
    }

    /// Refuses a request that did not get as far as a decision.
    fn refuse(&self, reason: Refusal, caller: &Caller) -> Response {
        self.refusals.count(reason, &caller.peer);
        let (status, text) = match reason {
            Refusal::NotJson => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body must be of type application/json".to_owned(),
            ),
            Refusal::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is larger than {} bytes", self.budget.limits.largest),
            ),
            Refusal::SlowBody => (
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in time".to_owned(),
            ),
            Refusal::Memory => (
                StatusCode::TOO_MANY_REQUESTS,
                "the memory for request bodies is in use; try again".to_owned(),
            ),
            Refusal::Incomplete => (StatusCode::BAD_REQUEST, "the body ended early".to_owned()),
            // None of these is a reason to refuse a body.
            Refusal::Connections | Refusal::Handshake | Refusal::NotAReview | Refusal::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the request was refused".to_owned(),
            ),
        };
        let mut response = error(status, &text);
        if reason == Refusal::Memory {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }

    /// Tells the caller why there is no answer, and the log if it is time to; both have the request's id.
    fn fail(&self, problem: &AdmissionError, caller: &Caller) -> Response {
        let (request, peer) = (RequestId::next(), &*caller.peer);
        let (reason, status) = if matches!(problem, AdmissionError::Review(_)) {
            (Refusal::NotAReview, StatusCode::BAD_REQUEST)
        } else {
            (Refusal::Internal, StatusCode::INTERNAL_SERVER_ERROR)
        };
        self.refusals.count_failed(reason, request, peer, problem);
        let id = [("x-request-id", request.to_string())];
        (id, error(status, &problem.to_string())).into_response()
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    // As API servers write it; others may write it in another way.
    value == JSON
        || value
            .to_str()
            .ok()
            .and_then(|value| value.split(';').next())
            .is_some_and(|essence| essence.trim().eq_ignore_ascii_case(JSON))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Mutex;
    use std::time::Duration;

    use axum::body::Bytes;
    use futures::{FutureExt, stream};
    use tower::ServiceExt;

    use super::super::connections::Connections;
    use super::*;
    use crate::admission::{ClusterSenders, demand, notices};
    use crate::audit::{AuditLog, Destination};
    use crate::metrics::Metrics;
    use crate::policy::decision::Settings;
    use crate::view::View;

    /// What is logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn webhook(limits: BodyLimits) -> Webhook {
        let metrics = Arc::new(Metrics::new(|| 0));
        let audit = Arc::new(AuditLog::open(&Destination::File("/dev/null".into())).unwrap());
        let view = Arc::new(View::default());
        let admission = Admission::new(view, Settings::default(), audit, metrics);
        Webhook::new(admission, 8, Arc::default()).with_bodies(limits)
    }

    /// Routes of a webhook that works on one review at a time, and whose API server does not answer.
    fn routes_beside_a_stuck_api_server() -> Router {
        let metrics = Arc::new(Metrics::new(|| 0));
        let audit = Arc::new(AuditLog::open(&Destination::File("/dev/null".into())).unwrap());
        let (demand, _) = demand::channel(Arc::clone(&metrics));
        let (notices, _) = notices::channel(Arc::clone(&metrics));
        let stuck = tower::service_fn(async |_: http::Request<kube::client::Body>| {
            std::future::pending::<Result<http::Response<kube::client::Body>, io::Error>>().await
        });
        let view = Arc::new(View::default());
        let admission = Admission::new(view, Settings::default(), audit, metrics)
            .in_cluster(ClusterSenders { demand, notices })
            .asking(kube::Client::new(stuck, "default"), true);
        let connections = Connections::new(1, None);
        let place = connections.admit(IpAddr::from(Ipv4Addr::LOCALHOST)).place;
        let caller = Caller {
            peer: "a peer".into(),
            connection: Arc::clone(&place.connection),
        };
        webhook_router(Webhook::new(admission, 1, Arc::default())).layer(Extension(caller))
    }

    /// How long the answer to a review of a Pod with this image takes.
    async fn time_to_answer(routes: &Router, path: &str, image: &str) -> Duration {
        let begun = tokio::time::Instant::now();
        let body = serde_json::json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
            "namespace": "apps", "object": {"spec": {"containers": [{"name": "main", "image": image}]}},
        }});
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(body.to_string())).unwrap();
        let answer = routes.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        begun.elapsed()
    }

    #[test]
    fn json_is_known_however_it_is_written() {
        for (content_type, expected) in [
            (&b"application/json"[..], true),
            (b"Application/JSON", true),
            (b"application/json; charset=utf-8", true),
            (b" application/json ;", true),
            (b"application/jsonp", false),
            (b"application/json\xff", false),
            (b"text/plain; application/json", false),
            (b"", false),
        ] {
            let value = HeaderValue::from_bytes(content_type).unwrap();
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, value)]);
            assert_eq!(is_json(&headers), expected, "{content_type:?}");
        }
        assert!(!is_json(&HeaderMap::new()));
        let [json, text] = ["application/json", "text/plain"].map(HeaderValue::from_static);
        for (first, second) in [(&json, &text), (&text, &json)] {
            let both = [first, second].map(|value| (header::CONTENT_TYPE, value.clone()));
            let mut headers = HeaderMap::new();
            for (name, value) in both {
                headers.append(name, value);
            }
            assert_eq!(is_json(&headers), first == json, "the first one counts");
        }
    }

    #[test]
    fn an_answer_has_one_content_type() {
        let answer = json(b"{}".to_vec());
        let types: Vec<_> = answer.headers().iter().collect();
        assert_eq!(types, [(&header::CONTENT_TYPE, &HeaderValue::from_static(JSON))]);
    }

    #[tokio::test]
    async fn a_review_that_waits_blocks_no_other() {
        let routes = routes_beside_a_stuck_api_server();
        let stranger = "stranger.azurecr.io/app";
        let (waited, other) = tokio::join!(time_to_answer(&routes, PODS_PATH, stranger), async {
            tokio::task::yield_now().await;
            time_to_answer(&routes, PODS_PATH, "nginx").await
        });
        assert!(waited >= Duration::from_secs(1), "{waited:?}");
        assert!(other < waited, "{other:?}");
    }

    #[tokio::test]
    async fn a_review_waits_a_part_of_what_the_api_server_does() {
        let routes = routes_beside_a_stuck_api_server();
        let stranger = "stranger.azurecr.io/app";
        let (short, long) = tokio::join!(
            time_to_answer(&routes, "/mutate?timeout=1s", stranger),
            time_to_answer(&routes, "/mutate?timeout=30s", stranger),
        );
        assert!(short < long, "{short:?} {long:?}");
        for (query, expected) in [
            ("timeout=5s", Some(5)),
            ("a=b&timeout=30s", Some(30)),
            ("timeout=5m", None),
            ("timeout=-1s", None),
            ("", None),
        ] {
            assert_eq!(timeout_of(query), expected.map(Duration::from_secs), "{query}");
        }
    }

    /// Requests that are refused, each for another reason.
    fn refused(kind: usize) -> Request {
        let (content_type, body) = match kind {
            0 => ("text/plain", Body::empty()),
            1 => ("application/json", Body::from(vec![b' '; 2 << 10])),
            2 => ("application/json", Body::from("{}")),
            3 => {
                let broken = Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset));
                ("application/json", Body::from_stream(stream::iter([broken])))
            }
            _ => {
                let silent = stream::pending::<Result<Bytes, io::Error>>();
                ("application/json", Body::from_stream(silent))
            }
        };
        let request = Request::post("/mutate").header(header::CONTENT_TYPE, content_type);
        request.body(body).unwrap()
    }

    /// Sends each kind of refused request so often, and gives what the log says.
    fn log_of(times: usize, limits: BodyLimits) -> String {
        let lines = Lines::default();
        let written = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || lines.clone())
            .finish();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        tracing::subscriber::with_default(subscriber, || {
            runtime.block_on(async {
                let connections = Connections::new(1, None);
                let place = connections.admit(IpAddr::from(Ipv4Addr::LOCALHOST)).place;
                let caller = Caller {
                    peer: "a peer".into(),
                    connection: Arc::clone(&place.connection),
                };
                let routes = webhook_router(webhook(limits)).layer(Extension(caller));
                for kind in (0..5).cycle().take(5 * times) {
                    let answer = routes.clone().oneshot(refused(kind)).await.unwrap();
                    assert!(answer.status().is_client_error(), "{kind}");
                }
            });
        });
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn refused_requests_fill_no_log() {
        let limits = BodyLimits {
            largest: 1 << 10,
            idle_timeout: Duration::from_millis(1),
            ..BodyLimits::default()
        };
        let log = log_of(50, limits);
        let lines: Vec<_> = log.lines().collect();
        for reason in [
            "not-json",
            "too-large",
            "incomplete",
            "slow-body",
            "AdmissionReview",
        ] {
            let count = lines.iter().filter(|line| line.contains(reason)).count();
            assert_eq!(count, 1, "{reason}: {log}");
        }
        assert_eq!(lines.len(), 5, "{log}");
        // Without room for a body, both kinds of bodies are refused because the memory is in use.
        let none = BodyLimits {
            all_small: 0,
            ..limits
        };
        let log = log_of(50, none);
        assert_eq!(
            log.lines().filter(|line| line.contains("memory")).count(),
            1,
            "{log}"
        );
    }

    #[test]
    fn large_bodies_are_judged_a_few_at_a_time() {
        let webhook = webhook(BodyLimits::default());
        let turn = |length| webhook.turn(length).now_or_never().flatten();
        let most = LARGE_BODIES as usize;
        let (one, other) = (turn(most / 2).unwrap(), turn(most / 2).unwrap());
        assert!(turn(LARGE_BODY + 1).is_none());
        // Small ones pass by.
        assert!(turn(LARGE_BODY).is_some());
        drop((one, other));
        // One that is larger than all of it is judged by itself.
        let all = turn(8 * most).unwrap();
        assert!(turn(LARGE_BODY + 1).is_none());
        drop(all);
        assert!(turn(LARGE_BODY + 1).is_some());
    }
}

//! Which handler a request goes to: by its host, then by its path. Counting and failing happen here, for all alike.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, DATE, HOST};
use http::uri::Authority;
use http::{HeaderName, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::acr::{self, Credentials};
use crate::cloud::Cloud;
use crate::failure::Fault;
use crate::jwt::guid;
use crate::reply::{Form, Reply, registry_error, set};
use crate::serve::Connection;
use crate::shared::Shared;
use crate::step::{Call, Step};
use crate::{content, entra, fault, imds, storage};

/// No token is longer.
const FORM_LIMIT: usize = 1 << 20;

/// Answers what comes in over TLS: Entra's authorities and the registries.
pub(crate) async fn tls(shared: Arc<Shared>, request: Request<Incoming>, connection: Connection) -> Reply {
    let host = shared.directory().login_server(host_of(&request));
    let cloud = Cloud::by_authority(&host);
    let served = cloud.is_some() || host == storage::HOST || shared.directory().registry(&host).is_some();
    let call = served.then(|| classify(cloud, &host, &request)).flatten();
    let Some(call) = call else {
        return dated(&shared, not_found("no such host or path"));
    };
    let answer = async {
        match (cloud, &call.target) {
            (Some(cloud), Some(tenant)) => {
                let form = form(request).await;
                entra::token(&shared, cloud, tenant, &form)
            }
            _ if call.step == Step::Storage => storage::answer(&shared, request).await,
            _ => registry(&shared, &host, call.step, request).await,
        }
    };
    let mut reply = with_faults(&shared, &call, &host, &connection, answer).await;
    if cloud.is_none() && call.step != Step::Storage {
        let version = HeaderName::from_static("docker-distribution-api-version");
        set(&mut reply, version, "registry/2.0");
        let correlation = HeaderName::from_static("x-ms-correlation-request-id");
        set(&mut reply, correlation, &guid());
    }
    dated(&shared, reply)
}

/// Answers what comes in at the managed identity endpoint.
pub(crate) async fn metadata(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    connection: Connection,
) -> Reply {
    if request.uri().path() != imds::PATH || request.method() != Method::GET {
        return dated(&shared, not_found("no such path"));
    }
    let call = Call {
        step: Step::Imds,
        target: None,
    };
    let query = Form::parse(request.uri().query().unwrap_or_default().as_bytes());
    let answer = async { imds::token(&shared, request.headers(), &query) };
    let reply = with_faults(&shared, &call, "", &connection, answer).await;
    dated(&shared, reply)
}

/// Reads a form; one that can't be read, or that is not said to be one, is empty.
pub(crate) async fn form(request: Request<Incoming>) -> Form {
    let media_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = media_type
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    if !essence
        .trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    {
        return Form::default();
    }
    let body = Limited::new(request.into_body(), FORM_LIMIT).collect().await;
    body.map(|body| Form::parse(&body.to_bytes())).unwrap_or_default()
}

async fn registry(shared: &Shared, host: &str, step: Step, request: Request<Incoming>) -> Reply {
    if let Some(refused) = acr::front_end(request.headers()) {
        return refused;
    }
    match step {
        Step::Exchange => acr::exchange(shared, host, &form(request).await),
        Step::Token if request.method() == Method::POST => {
            let form = form(request).await;
            acr::token(shared, host, Credentials::from_form(&form).as_ref(), &form)
        }
        Step::Token => {
            let credentials = Credentials::from_headers(request.headers());
            let query = Form::parse(request.uri().query().unwrap_or_default().as_bytes());
            acr::token(shared, host, credentials.as_ref(), &query)
        }
        Step::Challenge => match content::bearer(shared, host, request.headers()) {
            Ok(_) => crate::reply::json_reply(StatusCode::OK, &serde_json::json!({})),
            Err(reason) => acr::challenge(host, host, "", &reason),
        },
        Step::Manifest | Step::Blob | Step::Storage | Step::EntraToken | Step::Imds => {
            let path = request.uri().path().to_owned();
            match content::repository(&path) {
                Some((name, _)) => content::answer(shared, host, name, request).await,
                None => not_found("no repository"),
            }
        }
    }
}

fn classify(cloud: Option<Cloud>, host: &str, request: &Request<Incoming>) -> Option<Call> {
    let path = request.uri().path();
    let post = request.method() == Method::POST;
    if cloud.is_some() {
        let tenant = path.strip_prefix('/')?.strip_suffix("/oauth2/v2.0/token")?;
        let target = Some(tenant.to_ascii_lowercase());
        return (post && !tenant.contains('/')).then_some(Call {
            step: Step::EntraToken,
            target,
        });
    }
    let step = match path {
        _ if host == storage::HOST => Step::Storage,
        "/v2" | "/v2/" => Step::Challenge,
        "/oauth2/exchange" if post => Step::Exchange,
        "/oauth2/token" if post || request.method() == Method::GET => Step::Token,
        _ => content::repository(path)?.1,
    };
    Some(Call {
        step,
        target: Some(host.to_owned()),
    })
}

async fn with_faults(
    shared: &Shared,
    call: &Call,
    host: &str,
    connection: &Connection,
    answer: impl Future<Output = Reply>,
) -> Reply {
    shared.counters.arrived(call);
    let reply = match shared.failures.take(call) {
        None => answer.await,
        Some(Fault::Hang) => pending().await,
        Some(Fault::Reset) => {
            connection.reset();
            pending().await
        }
        Some(Fault::Delay { millis }) => {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            answer.await
        }
        Some(Fault::SlowBody { millis_per_byte }) => {
            fault::slow(answer.await, Duration::from_millis(millis_per_byte))
        }
        Some(other) => match fault::replace(shared, call, host, &other) {
            Some(reply) => reply,
            None => answer.await,
        },
    };
    shared.counters.answered(call, reply.status());
    reply
}

/// The host that a request is for, in lower case and without a port.
fn host_of<B>(request: &Request<B>) -> String {
    let header = || {
        let value = request.headers().get(HOST)?.to_str().ok()?;
        value.parse::<Authority>().ok()
    };
    let authority = request.uri().authority().cloned().or_else(header);
    authority
        .map(|authority| authority.host().to_ascii_lowercase())
        .unwrap_or_default()
}

/// Dates an answer by the emulator's clock, from which a client can tell that clocks differ.
fn dated(shared: &Shared, mut reply: Reply) -> Reply {
    if let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&shared.clock.now()) {
        set(&mut reply, DATE, &date);
    }
    reply
}

fn not_found(reason: &str) -> Reply {
    registry_error(StatusCode::NOT_FOUND, "NOT_FOUND", "not found", reason)
}

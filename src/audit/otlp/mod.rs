//! The audit records as OTLP logs, sent to a collector over HTTP (protobuf).
//!
//! Only the messages of OpenTelemetry's crates are used: the audit log has a queue and a thread of its own, which
//! count what they lose, and the project has an HTTP client. Delivery is at least once: if a collector accepts a batch
//! and its answer is lost, it gets the batch again, with the same `log.record.uid`s.

mod encode;
mod endpoint;
mod retry;

use std::io;
use std::time::{Duration, Instant};

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Bytes;
use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;
use tokio::runtime::{Builder, Runtime};

pub use self::endpoint::{Endpoint, HeaderFile, HeaderFileError, OtlpEndpointError};
use self::retry::Retries;
use super::sink::{Lost, Sink, count};
use crate::api::advice::with_advice;
use crate::base::backoff::Jitter;
use crate::base::remedy::joined;
use crate::http::HttpClient;
use crate::http::headers::retry_after;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// Sends lines of the audit log to a collector.
#[derive(Debug)]
pub struct OtlpSink {
    collector: Collector,
    /// Its own, so that a collector that hangs takes nothing from the threads that answer.
    runtime: Runtime,
}

#[derive(Debug)]
struct Collector {
    endpoint: Endpoint,
    headers: Vec<HeaderFile>,
    http: HttpClient,
}

/// An attempt that did not succeed.
struct ExportFailure {
    why: String,
    /// How many records are lost if there is no other attempt; nothing means all.
    rejected: Option<u64>,
    again: Again,
}

/// Whether another attempt may succeed.
enum Again {
    Never,
    /// And not before so long, if the collector said so.
    After(Option<Duration>),
}

impl OtlpSink {
    /// A sink for a collector, with a client that nobody else uses.
    pub fn new(endpoint: Endpoint, headers: Vec<HeaderFile>, http: HttpClient) -> io::Result<Self> {
        Ok(Self {
            collector: Collector {
                endpoint,
                headers,
                http,
            },
            runtime: Builder::new_current_thread().enable_all().build()?,
        })
    }
}

impl Sink for OtlpSink {
    fn deliver(&mut self, lines: &[u8]) -> Result<(), Lost> {
        let body = Bytes::from(encode::request(lines).encode_to_vec());
        let records = count(lines);
        self.runtime
            .block_on(self.collector.export(body))
            .map_err(|failure| Lost {
                lines: failure.rejected.map_or(records, |rejected| rejected.min(records)),
                why: failure.why,
            })
    }
}

impl Collector {
    async fn export(&self, body: Bytes) -> Result<(), ExportFailure> {
        let begun = Instant::now();
        let mut retries = Retries::default();
        loop {
            let Err(failure) = self.attempt(body.clone()).await else {
                return Ok(());
            };
            let Again::After(asked) = failure.again else {
                return Err(failure);
            };
            let first = retries.is_first();
            let Some(wait) = retries.next(begun.elapsed(), asked, Jitter::random()) else {
                return Err(failure);
            };
            if first {
                tracing::warn!(
                    error = failure.why,
                    "the audit records wait for the OTLP collector"
                );
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, body: Bytes) -> Result<(), ExportFailure> {
        let request = self.request(body).map_err(ExportFailure::passing)?;
        let answer = self.http.send(request).await;
        let answer = answer.map_err(|error| {
            let advice = joined(error.remedies());
            ExportFailure::passing(with_advice(&error.to_string(), advice.as_deref()))
        })?;
        match answer.status {
            StatusCode::OK => taken(&answer.body),
            // The ones that OTLP/HTTP says to try again after.
            status @ (StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT) => Err(ExportFailure {
                again: Again::After(retry_after(&answer.headers, Timestamp::now())),
                ..self.refused(status)
            }),
            status => Err(self.refused(status)),
        }
    }

    fn request(&self, body: Bytes) -> Result<Request<Bytes>, String> {
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.endpoint.uri().clone();
        for header in &self.headers {
            // Read each time: a token in a mounted Secret changes.
            let value = header.read().map_err(|error| error.to_string())?;
            request.headers_mut().insert(header.name().clone(), value);
        }
        request.headers_mut().insert(CONTENT_TYPE, PROTOBUF);
        Ok(request)
    }

    fn refused(&self, status: StatusCode) -> ExportFailure {
        ExportFailure {
            why: format!("{} answers {status}", self.endpoint),
            rejected: None,
            again: Again::Never,
        }
    }
}

impl ExportFailure {
    fn passing(why: String) -> Self {
        Self {
            why,
            rejected: None,
            again: Again::After(None),
        }
    }
}

/// Whether the collector took every record. What it rejects is not to be sent again.
fn taken(body: &Bytes) -> Result<(), ExportFailure> {
    // Its status says that it took them; only what can be read says otherwise.
    let partial = ExportLogsServiceResponse::decode(body.clone())
        .ok()
        .and_then(|answer| answer.partial_success);
    match partial.map(|partial| u64::try_from(partial.rejected_log_records)) {
        None | Some(Ok(0) | Err(_)) => Ok(()),
        Some(Ok(rejected)) => Err(ExportFailure {
            why: format!("the collector rejected {rejected} records; its own log says why"),
            rejected: Some(rejected),
            again: Again::Never,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;

    #[test]
    fn an_answer_says_how_many_records_were_rejected() {
        let rejected = |rejected_log_records| {
            let answer = ExportLogsServiceResponse {
                partial_success: Some(ExportLogsPartialSuccess {
                    rejected_log_records,
                    error_message: String::new(),
                }),
            };
            taken(&answer.encode_to_vec().into()).map_err(|failure| failure.rejected)
        };
        assert_eq!(rejected(0), Ok(()));
        assert_eq!(rejected(-1), Ok(()));
        assert_eq!(rejected(3), Err(Some(3)));
        assert!(taken(&Bytes::new()).is_ok());
        assert!(taken(&Bytes::from_static(b"{}")).is_ok());
    }
}

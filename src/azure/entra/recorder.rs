//! The transport under `azure_identity`: our client, and a memory of what it saw.

use std::sync::{Mutex, PoisonError};

use azure_core::Bytes;
use azure_core::error::ErrorKind;
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, Request};
use http::Uri;

use crate::azure::endpoint::ImdsEndpoint;
use crate::http::{HttpClient, HttpError, Response, Service};

/// The host of Azure's managed identity endpoint, which the library has no setting for.
const IMDS_HOST: &str = "169.254.169.254";

type Recorded = Result<Response, HttpError>;

/// Sends a request by our client and keeps the result.
#[derive(Debug)]
pub(super) struct Recorder {
    http: HttpClient,
    imds_endpoint: Option<ImdsEndpoint>,
    outcome: Mutex<Option<Recorded>>,
}

impl Recorder {
    pub(super) fn new(http: HttpClient, imds_endpoint: Option<ImdsEndpoint>) -> Self {
        Self {
            http,
            imds_endpoint,
            outcome: Mutex::new(None),
        }
    }

    /// The result of the last request, if one was made.
    pub(super) fn take(&self) -> Option<Recorded> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn request(&self, request: &Request) -> Result<http::Request<Bytes>, http::Error> {
        let mut url: Uri = request.url().as_str().parse()?;
        let service = if url.host() == Some(IMDS_HOST) {
            Service::ManagedIdentity
        } else {
            Service::Entra
        };
        if let Some(endpoint) = &self.imds_endpoint
            && service == Service::ManagedIdentity
        {
            url = endpoint.rebase(&url)?;
        }
        let body = match request.body() {
            Body::Bytes(bytes) => bytes.clone(),
            // No credential here streams.
            Body::SeekableStream(_) => Bytes::new(),
        };
        let headers = request.headers().iter();
        headers
            .fold(
                http::Request::builder()
                    .method(request.method().as_str())
                    .uri(url)
                    .extension(service),
                |builder, (name, value)| builder.header(name.as_str(), value.as_str()),
            )
            .body(body)
    }
}

#[async_trait::async_trait]
impl azure_core::http::HttpClient for Recorder {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let request = self
            .request(request)
            .map_err(|error| azure_core::Error::new(ErrorKind::DataConversion, error))?;
        let outcome = self.http.send(request).await;
        let answer = match &outcome {
            Ok(response) if response.status.is_success() => Ok(AsyncRawResponse::from_bytes(
                response.status.as_u16().into(),
                Headers::default(),
                response.body.clone(),
            )),
            // The managed identity credential puts retries of its own in place of ours, for over a minute; an error
            // of this kind is the one thing that it does not retry.
            Ok(_) | Err(_) => Err(azure_core::Error::with_message(ErrorKind::Other, "recorded")),
        };
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        answer
    }
}

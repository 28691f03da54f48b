//! Failures that say nothing about the credential: the same call may succeed later.

use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use thiserror::Error;

use crate::http::headers::retry_after;
use crate::http::{HttpError, Response};

/// A service that gave no sound answer. The same error always reads the same.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// No whole answer.
    #[error("{0}")]
    NoAnswer(HttpError),
    /// Called too often.
    #[error("too many calls (HTTP 429)")]
    Throttled {
        /// For how long to stay away, if it was said.
        retry_after: Option<Duration>,
    },
    /// Out of order.
    #[error("the service failed (HTTP {status})")]
    Unavailable {
        /// The status.
        status: u16,
        /// For how long to stay away, if it was said.
        retry_after: Option<Duration>,
    },
    /// Sent elsewhere, which is not followed.
    #[error("the answer was a redirect (HTTP {status}), which is not followed with credentials in hand")]
    Redirected {
        /// The status.
        status: u16,
    },
    /// A success without what was asked for.
    #[error("the answer was not what this service gives (HTTP {status}, {what})")]
    Garbled {
        /// The status.
        status: u16,
        /// What was missing.
        what: &'static str,
    },
}

impl ServiceError {
    /// The error that an answer's status tells of. None for a success, and for a refusal (400 to 499 except for 408
    /// and 429), which its own service has to explain.
    pub(super) fn of(response: &Response, now: Timestamp) -> Option<Self> {
        let retry_after = retry_after(&response.headers, now);
        let status = response.status.as_u16();
        match response.status {
            StatusCode::TOO_MANY_REQUESTS => Some(Self::Throttled { retry_after }),
            StatusCode::REQUEST_TIMEOUT => Some(Self::Unavailable { status, retry_after }),
            code if code.is_server_error() => Some(Self::Unavailable { status, retry_after }),
            code if code.is_success() || code.is_client_error() => None,
            _ => Some(Self::Redirected { status }),
        }
    }

    /// For how long the service asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } | Self::Unavailable { retry_after, .. } => *retry_after,
            Self::NoAnswer(_) | Self::Redirected { .. } | Self::Garbled { .. } => None,
        }
    }
}

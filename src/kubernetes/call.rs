//! One call to the API server, with a limit in time. Without one, a call waits for as long as the connection seems to be
//! alive, and the client's own retries can take minutes.

use std::time::Duration;

use kube::core::Status;
use thiserror::Error;

use super::words::Words;

/// How long a call may take that nothing else sets a limit to.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a call to the API server brought nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CallError {
    /// There was no answer in time. A write may have been done all the same.
    #[error("the API server did not answer within {0:?}")]
    TimedOut(Duration),
    /// The API server refused, or could not be reached.
    #[error("{}", .0.words())]
    Kube(#[source] Box<kube::Error>),
}

impl From<kube::Error> for CallError {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

impl CallError {
    /// The API server's message about a refusal; empty if there is none.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Kube(error) => match &**error {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::TimedOut(_) => None,
        }
    }

    /// The HTTP status of a refusal; nothing if there was no answer.
    pub fn code(&self) -> Option<u16> {
        self.status().map(|status| status.code)
    }
}

impl Words for CallError {
    fn words(&self) -> String {
        self.to_string()
    }
}

/// Makes a call, which may take [`CALL_TIMEOUT`].
pub async fn call<T>(asked: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    call_within(CALL_TIMEOUT, asked).await
}

/// Makes a call with a limit of its own.
pub async fn call_within<T>(
    limit: Duration,
    asked: impl Future<Output = kube::Result<T>>,
) -> Result<T, CallError> {
    Ok(within(limit, asked).await??)
}

/// Does what consists of several calls within one limit.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, CallError> {
    let done = tokio::time::timeout(limit, Box::pin(work)).await;
    done.map_err(|_| CallError::TimedOut(limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::io;
    use tokio::time::Instant;

    fn refusal(message: &str) -> kube::Error {
        let status = serde_json::json!({"status": "Failure", "message": message, "code": 403});
        kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_ends_at_its_limit() {
        let begin = Instant::now();
        let error = call(pending::<kube::Result<()>>()).await.unwrap_err();
        assert_eq!(begin.elapsed(), CALL_TIMEOUT);
        assert_eq!(error.to_string(), "the API server did not answer within 10s");
        assert!(error.status().is_none());
        let limit = Duration::from_secs(3);
        let begin = Instant::now();
        assert!(call_within(limit, pending::<kube::Result<()>>()).await.is_err());
        assert_eq!(begin.elapsed(), limit);
    }

    #[tokio::test]
    async fn an_answer_is_passed_on() {
        assert_eq!(call(ready(Ok(1))).await.unwrap(), 1);
        let error = call(ready(Err::<(), _>(refusal("no such right"))))
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "no such right");
        assert_eq!(error.status().map(|status| status.code), Some(403));
    }

    #[test]
    fn a_failed_connection_is_told_with_its_causes() {
        let error = kube::Error::Service(Box::new(io::Error::other("connection refused")));
        let words = CallError::from(error).to_string();
        assert!(words.contains("connection refused"), "{words}");
        assert_eq!(words.matches("connection refused").count(), 1, "{words}");
    }
}

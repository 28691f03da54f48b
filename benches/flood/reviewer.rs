//! An API server that sends a review now and then, over a connection that it keeps and over new ones.

use std::time::{Duration, Instant};

use axum::body::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::review::{Size, review};
use crate::support::Result;
use crate::tls::Target;

/// Between two reviews.
const INTERVAL: Duration = Duration::from_millis(4);
/// A new connection is used for one of so many reviews.
const NEW_ONE: u32 = 16;
/// As long as the API server waits.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);

/// What reviews took.
#[derive(Clone, Default)]
pub(crate) struct Latencies {
    /// Over the connection that is kept.
    pub(crate) kept: Vec<Duration>,
    /// Over a new connection, with what it takes to connect.
    pub(crate) new: Vec<Duration>,
    /// How many were not answered.
    pub(crate) lost: u64,
}

/// Sends reviews, on a thread of its own: what the flood's clients take is not to be measured.
pub(crate) struct Reviewer {
    runtime: Runtime,
    target: Target,
    kept: Client,
}

struct Client {
    sender: SendRequest<Full<Bytes>>,
    uri: String,
    body: Bytes,
}

impl Reviewer {
    /// Connects, and sends a first review.
    pub(crate) fn start(target: &Target) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let kept = runtime.block_on(async {
            let mut client = Client::connect(target).await?;
            client.review().await?;
            Result::Ok(client)
        })?;
        Ok(Self {
            runtime,
            target: target.clone(),
            kept,
        })
    }

    /// Sends reviews for that long.
    pub(crate) fn measure(&self, duration: Duration) -> Result<Latencies> {
        self.runtime.block_on(self.send(duration))
    }

    async fn send(&self, duration: Duration) -> Result<Latencies> {
        let mut latencies = Latencies::default();
        let end = Instant::now() + duration;
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut kept = self.kept.again();
        let mut count = 0_u32;
        while Instant::now() < end {
            ticks.tick().await;
            count += 1;
            let begin = Instant::now();
            if count.is_multiple_of(NEW_ONE) {
                let new = async { Client::connect(&self.target).await?.review().await };
                match timeout(REVIEW_TIMEOUT, new).await {
                    Ok(Ok(())) => latencies.new.push(begin.elapsed()),
                    _ => latencies.lost += 1,
                }
            } else if let Ok(Ok(())) = timeout(REVIEW_TIMEOUT, kept.review()).await {
                latencies.kept.push(begin.elapsed());
            } else {
                latencies.lost += 1;
                // As the API server, which connects again.
                kept = Client::connect(&self.target).await?;
            }
        }
        Ok(latencies)
    }
}

impl Client {
    async fn connect(target: &Target) -> Result<Self> {
        let stream = TokioIo::new(target.http2().await?);
        let (sender, connection) = handshake(TokioExecutor::new(), stream).await?;
        // What is wrong with a connection, its requests say too.
        tokio::spawn(connection);
        Ok(Self {
            sender,
            uri: target.uri(),
            body: Bytes::from(review(Size::Small)),
        })
    }

    fn again(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            uri: self.uri.clone(),
            body: self.body.clone(),
        }
    }

    async fn review(&mut self) -> Result<()> {
        self.sender.ready().await?;
        let request = Request::post(&self.uri)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(self.body.clone()))?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        if status == StatusCode::OK {
            Ok(())
        } else {
            Err(format!("status {status}").into())
        }
    }
}

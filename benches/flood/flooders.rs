//! Clients that mean no good. Each waits for what the server does, and begins again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use clap::ValueEnum;
use http::{Request, header};
use http_body_util::{BodyExt, Channel};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::support::Result;
use crate::tls::Target;

/// Connections that send headers.
const CONNECTIONS: usize = 400;
/// More connections than the server takes.
const TOO_MANY: usize = 700;
/// Uploads, and what each is to have.
const UPLOADS: usize = 60;
const UPLOAD: usize = 7 << 20;
/// What is sent in one piece.
const PIECE: usize = 64 << 10;
/// Over HTTP/2 all come from so many connections.
const HTTP2_CONNECTIONS: usize = 2;
/// How long a client that was answered, or hung up on, waits before it begins again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// What is done to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flood {
    /// 400 connections that send headers, and no body
    Headers,
    /// The same number of requests over HTTP/2, from two connections
    HeadersHttp2,
    /// 60 uploads of 7 MiB that stop one byte short
    Uploads,
    /// The same over HTTP/2, from two connections
    UploadsHttp2,
    /// 700 connections that send nothing
    Connections,
}

/// A flood that goes on.
pub(crate) struct Flooding(JoinSet<()>);

impl Flooding {
    /// Ends it.
    pub(crate) async fn stop(mut self) {
        self.0.shutdown().await;
    }
}

impl Flood {
    /// The name that the command line and the report have.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// Begins it; to be called in a runtime.
    pub(crate) fn start(self, target: &Target) -> Flooding {
        let mut clients = JoinSet::new();
        let body = vec![b' '; UPLOAD - 1];
        let mut over_http1 = |count: usize, announced: usize, body: &Arc<[u8]>| {
            for _ in 0..count {
                let body = Arc::clone(body);
                clients.spawn(again_and_again(target.clone(), move |target| {
                    http1(target, announced, Arc::clone(&body))
                }));
            }
        };
        match self {
            Self::Headers => over_http1(CONNECTIONS, 10, &Arc::default()),
            Self::Uploads => over_http1(UPLOADS, UPLOAD, &body.into()),
            Self::HeadersHttp2 | Self::UploadsHttp2 => {
                let (requests, announced, body) = if self == Self::HeadersHttp2 {
                    (CONNECTIONS, 10, Vec::new())
                } else {
                    (UPLOADS, UPLOAD, body)
                };
                let body = Bytes::from(body);
                for _ in 0..HTTP2_CONNECTIONS {
                    let body = body.clone();
                    clients.spawn(again_and_again(target.clone(), move |target| {
                        http2(target, requests / HTTP2_CONNECTIONS, announced, body.clone())
                    }));
                }
            }
            Self::Connections => {
                for _ in 0..TOO_MANY {
                    clients.spawn(again_and_again(target.clone(), silent));
                }
            }
        }
        Flooding(clients)
    }
}

async fn again_and_again<F>(target: Target, act: impl Fn(Target) -> F)
where
    F: Future<Output = Result<()>>,
{
    loop {
        // Whatever the server did about it.
        let _ = act(target.clone()).await;
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Connects, and waits until the server hangs up.
async fn silent(target: Target) -> Result<()> {
    let mut stream = target.http1().await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// One request whose body is shorter than it announces, until the server answers.
async fn http1(target: Target, announced: usize, body: Arc<[u8]>) -> Result<()> {
    let mut stream = target.http1().await?;
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {announced}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.flush().await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

type Body = Channel<Bytes, Infallible>;

/// So many requests over one connection, each again and again, until the connection ends.
async fn http2(target: Target, requests: usize, announced: usize, body: Bytes) -> Result<()> {
    let stream = TokioIo::new(target.http2().await?);
    let (sender, connection) = handshake(TokioExecutor::new(), stream).await?;
    let mut streams = JoinSet::new();
    for _ in 0..requests {
        let (sender, uri, body) = (sender.clone(), target.uri(), body.clone());
        streams.spawn(async move {
            loop {
                if request(sender.clone(), &uri, announced, &body).await.is_err() {
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        });
    }
    connection.await?;
    Ok(())
}

async fn request(mut sender: SendRequest<Body>, uri: &str, announced: usize, body: &Bytes) -> Result<()> {
    sender.ready().await?;
    let (mut pieces, channel) = Body::new(1);
    let request = Request::post(uri)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_LENGTH, announced)
        .body(channel)?;
    let answer = sender.send_request(request);
    let upload = async {
        let mut rest = body.clone();
        while !rest.is_empty() {
            if pieces
                .send_data(rest.split_to(PIECE.min(rest.len())))
                .await
                .is_err()
            {
                break;
            }
        }
        // The end is never said.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = answer => { answer?.into_body().collect().await?; }
        () = upload => {}
    }
    Ok(())
}

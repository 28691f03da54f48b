//! The load: what kube-apiserver's client does, as fast as the answers come.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::support::Result;

/// How much a load asks for concurrently.
#[derive(Clone, Copy)]
pub(crate) struct Width {
    /// Connections to a server. kube-apiserver opens another one when its streams are taken.
    pub(crate) connections: usize,
    /// Requests that are on the way concurrently on each of them.
    pub(crate) streams: usize,
}

impl Width {
    /// As much as an API server asks for when it has a lot to do.
    pub(crate) const MANY: Self = Self {
        connections: 4,
        streams: 16,
    };
}

/// Connections to one server, and what is sent over them.
pub(crate) struct Load {
    connections: Vec<SendRequest<Full<Bytes>>>,
    streams: usize,
    uri: String,
    body: Bytes,
}

/// The result of a round.
#[derive(Default)]
pub(crate) struct Round {
    /// How long it took.
    pub(crate) elapsed: Duration,
    /// What each request took.
    pub(crate) latencies: Vec<Duration>,
}

impl Round {
    /// Answers in a second.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a round has far fewer than 2^52 requests"
    )]
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }
}

impl Load {
    /// Connects over TLS, trusting that certificate.
    pub(crate) async fn connect(
        address: SocketAddr,
        certificate: &CertificateDer<'static>,
        body: Bytes,
        width: Width,
    ) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone())?;
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsConnector::from(Arc::new(config));
        let mut connections = Vec::with_capacity(width.connections);
        for _ in 0..width.connections {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let stream = tls.connect(ServerName::from(address.ip()), stream).await?;
            let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            // What is wrong with a connection, its requests say too.
            tokio::spawn(connection);
            connections.push(sender);
        }
        Ok(Self {
            connections,
            streams: width.streams,
            uri: format!("https://{address}/mutate?timeout=5s"),
            body,
        })
    }

    /// One request, for its answer.
    pub(crate) async fn answer(&self) -> Result<Bytes> {
        let connection = self.connections.first().ok_or("there is no connection")?;
        self.client(connection).send().await
    }

    /// Sends for that long; every answer must be `expected`.
    pub(crate) async fn run(&self, duration: Duration, expected: &Bytes) -> Result<Round> {
        let begin = Instant::now();
        let mut clients = JoinSet::new();
        for connection in &self.connections {
            for _ in 0..self.streams {
                clients.spawn(
                    self.client(connection)
                        .send_until(begin + duration, expected.clone()),
                );
            }
        }
        let mut latencies = Vec::new();
        while let Some(done) = clients.join_next().await {
            latencies.append(&mut done??);
        }
        Ok(Round {
            elapsed: begin.elapsed(),
            latencies,
        })
    }

    fn client(&self, connection: &SendRequest<Full<Bytes>>) -> Client {
        Client {
            connection: connection.clone(),
            uri: self.uri.clone(),
            body: self.body.clone(),
        }
    }
}

struct Client {
    connection: SendRequest<Full<Bytes>>,
    uri: String,
    body: Bytes,
}

impl Client {
    async fn send_until(mut self, end: Instant, expected: Bytes) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        let mut begin = Instant::now();
        while begin < end {
            let answer = self.send().await?;
            if answer != expected {
                return Err(format!("a wrong answer: {}", String::from_utf8_lossy(&answer)).into());
            }
            let now = Instant::now();
            latencies.push(now - begin);
            begin = now;
        }
        Ok(latencies)
    }

    async fn send(&mut self) -> Result<Bytes> {
        self.connection.ready().await?;
        let request = Request::post(&self.uri)
            .header(header::ACCEPT, "application/json, */*")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(self.body.clone()))?;
        let response = self.connection.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if status == StatusCode::OK {
            Ok(body)
        } else {
            Err(format!("status {status}: {}", String::from_utf8_lossy(&body)).into())
        }
    }
}

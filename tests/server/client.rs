//! A client of the webhook that trusts it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Channel, Full, combinators::BoxBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::authority::Pair;
use crate::fixture::Fixture;

pub async fn connect(
    fixture: &Fixture,
    protocol: &[u8],
    identity: Option<Pair>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(fixture.authority.certificate.as_bytes()).unwrap())
        .unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(pair) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(fixture.address).await?;
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
}

/// How many requests the server lets a connection have at the same time.
pub async fn streams(fixture: &Fixture) -> usize {
    let stream = TokioIo::new(connect(fixture, b"h2", None).await.unwrap());
    let (mut sender, mut connection) =
        hyper::client::conn::http2::handshake::<_, _, Body>(TokioExecutor::new(), stream)
            .await
            .unwrap();
    let probe = Request::get("https://localhost/probe")
        .body(full(Vec::new()))
        .unwrap();
    tokio::select! {
        ended = &mut connection => panic!("the connection ended: {ended:?}"),
        answer = sender.send_request(probe) => answer.unwrap(),
    };
    connection.current_max_send_streams()
}

type Body = BoxBody<Bytes, std::io::Error>;

pub enum Client {
    Http1(tokio::sync::Mutex<hyper::client::conn::http1::SendRequest<Body>>),
    H2(hyper::client::conn::http2::SendRequest<Body>),
}

impl Client {
    pub async fn http1(fixture: &Fixture) -> Self {
        let stream = TokioIo::new(connect(fixture, b"http/1.1", None).await.unwrap());
        let (sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self::Http1(tokio::sync::Mutex::new(sender))
    }

    pub async fn h2(fixture: &Fixture) -> Self {
        Self::try_h2(fixture, None).await.unwrap()
    }

    /// With TLS 1.3 a refused client certificate shows only when the client reads: so a request is sent.
    pub async fn try_h2(fixture: &Fixture, identity: Option<Pair>) -> Result<Self, String> {
        let stream = connect(fixture, b"h2", identity)
            .await
            .map_err(|error| error.to_string())?;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let client = Self::H2(sender);
        let probe = Request::get("https://localhost/probe")
            .body(full(Vec::new()))
            .unwrap();
        client
            .request(probe)
            .await
            .map(|_| client)
            .map_err(|error| error.to_string())
    }

    /// Waits until the server ends the connection.
    pub async fn closed(&self) {
        let poll = async {
            loop {
                let is_closed = match self {
                    Self::Http1(sender) => sender.lock().await.is_closed(),
                    Self::H2(sender) => sender.is_closed(),
                };
                if is_closed {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), poll)
            .await
            .expect("the server ends the connection");
    }

    async fn request(&self, request: Request<Body>) -> hyper::Result<(StatusCode, Bytes)> {
        let answer = match self {
            Self::Http1(sender) => sender.lock().await.send_request(request).await?,
            Self::H2(sender) => sender.clone().send_request(request).await?,
        };
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    pub async fn send(&self, method: &Method, path: &str, kind: &str, body: Vec<u8>) -> (StatusCode, String) {
        let uri = match self {
            Self::Http1(_) => path.to_owned(),
            Self::H2(_) => format!("https://localhost{path}"),
        };
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "localhost")
            .header("content-type", kind)
            .body(full(body))
            .unwrap();
        let (status, body) = self.request(request).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    pub async fn review(&self, body: &[u8]) -> Value {
        let (status, text) = self
            .send(&Method::POST, "/mutate", "application/json", body.to_vec())
            .await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Announces a body and sends none of it; gives the answer's status.
    pub async fn begin_with_length(&self, length: usize) -> StatusCode {
        let Self::H2(sender) = self else {
            panic!("an upload goes over h2")
        };
        let (bytes, channel) = Channel::<Bytes, std::io::Error>::new(1);
        let request = Request::post("https://localhost/mutate")
            .header("content-type", "application/json")
            .header("content-length", length)
            .body(BodyExt::boxed(channel))
            .unwrap();
        let answer = sender.clone().send_request(request).await.unwrap();
        drop(bytes);
        answer.status()
    }

    /// Sends half of a review.
    pub async fn begin(&self, body: &[u8]) -> Upload {
        let Self::H2(sender) = self else {
            panic!("an upload goes over h2")
        };
        let (mut bytes, channel) = Channel::<Bytes, std::io::Error>::new(4);
        let (first, second) = body.split_at(body.len() / 2);
        bytes.send_data(Bytes::copy_from_slice(first)).await.unwrap();
        let request = Request::post("https://localhost/mutate")
            .header("content-type", "application/json")
            .body(BodyExt::boxed(channel))
            .unwrap();
        let mut sender = sender.clone();
        let answer = tokio::spawn(async move {
            let answer = sender.send_request(request).await.unwrap();
            answer.into_body().collect().await.unwrap().to_bytes()
        });
        // The server must have the request before its shutdown is requested: a second stream's answer proves it.
        self.send(&Method::GET, "/probe", "text/plain", Vec::new()).await;
        Upload {
            bytes,
            rest: Bytes::copy_from_slice(second),
            answer,
        }
    }
}

pub struct Upload {
    bytes: http_body_util::channel::Sender<Bytes, std::io::Error>,
    rest: Bytes,
    answer: JoinHandle<Bytes>,
}

impl Upload {
    pub async fn finish(mut self) -> Value {
        self.bytes.send_data(self.rest).await.unwrap();
        drop(self.bytes);
        serde_json::from_slice(&self.answer.await.unwrap()).unwrap()
    }
}

fn full(body: Vec<u8>) -> Body {
    Full::new(Bytes::from(body))
        .map_err(|never| match never {})
        .boxed()
}

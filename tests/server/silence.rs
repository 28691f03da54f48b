//! Connections and requests that stop in the middle.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::client::connect;
use crate::fixture::Fixture;

pub struct Idle<S>(S);

impl<S: tokio::io::AsyncRead + Unpin> Idle<S> {
    /// Whether the server ends the connection by itself; HTTP/2 servers may say goodbye first.
    pub async fn closed_by_server(mut self) -> bool {
        let mut said = Vec::new();
        tokio::time::timeout(Duration::from_secs(20), self.0.read_to_end(&mut said))
            .await
            .is_ok()
    }
}

/// A request over HTTP/1.1 whose body does not come, and which the server waits for.
pub struct Pending(TlsStream<TcpStream>);

impl Pending {
    /// Announces a body, and sends the beginning of it, which may be nothing.
    pub async fn start(fixture: &Fixture, length: usize, beginning: &[u8]) -> Self {
        let mut stream = connect(fixture, b"http/1.1", None).await.unwrap();
        let head = format!(
            "POST /mutate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nexpect: 100-continue\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // This is what the server says when it begins to wait for the body.
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(beginning).await.unwrap();
        stream.flush().await.unwrap();
        Self(stream)
    }

    /// What the server says in the end, without being sent more.
    pub async fn answer(mut self) -> String {
        let mut answer = Vec::new();
        let reading = self.0.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_secs(20), reading)
            .await
            .expect("the server ends the request")
            .ok();
        String::from_utf8(answer).unwrap()
    }
}

pub async fn silent_connection(fixture: &Fixture) -> Idle<TcpStream> {
    Idle(TcpStream::connect(fixture.address).await.unwrap())
}

pub async fn tls_without_request(fixture: &Fixture) -> Idle<TlsStream<TcpStream>> {
    Idle(connect(fixture, b"http/1.1", None).await.unwrap())
}

//! The CONNECT proxy.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::*;

async fn ask(addr: std::net::SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream
        .write_all(format!("{head} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = [0; 256];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn only_served_hosts_at_port_443_are_connected() {
    let (emulator, _client) = start().await;
    let addr = emulator.proxy_addr();
    for (head, status) in [
        ("CONNECT myregistry.azurecr.io:443", "200"),
        ("CONNECT login.microsoftonline.com:443", "200"),
        ("CONNECT myregistry.azurecr.io:80", "403"),
        ("CONNECT example.com:443", "403"),
        ("GET http://myregistry.azurecr.io/", "405"),
    ] {
        let answer = ask(addr, head).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{head}: {answer}"
        );
    }
}

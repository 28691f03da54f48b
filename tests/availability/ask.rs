//! Asks a replica directly, over TLS and with the trust of the API server.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pullpass_test_support::{Login, trusting};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::{Value, json};

use crate::world::{Replica, pod};

/// As long as the API server waits.
const TIMEOUT: Duration = Duration::from_secs(5);
const HOST: &str = "pullpass.pullpass-system.svc";

/// A connection that is kept, as the API server keeps it.
pub struct Connection(BufReader<StreamOwned<ClientConnection, TcpStream>>);

/// An answer over HTTP/1.1.
pub struct Answer {
    pub head: String,
    pub body: Vec<u8>,
}

impl Connection {
    /// Connects by the node's link, to a server with a certificate of this bundle.
    pub fn open(replica: &Replica, bundle: &str) -> Result<Self, Box<dyn Error>> {
        let connection = ClientConnection::new(trusting(bundle)?, ServerName::try_from(HOST)?)?;
        let socket = TcpStream::connect_timeout(&replica.webhook.address(), TIMEOUT)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self(BufReader::new(StreamOwned::new(connection, socket))))
    }

    /// Sends the review of a Pod that is created.
    pub fn ask(&mut self, namespace: &str, login: &Login) -> Result<Answer, Box<dyn Error>> {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "f0b8d7a4-2f8c-4a5e-9d36-6f1f7a0c1d2e",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "namespace": namespace,
                "operation": "CREATE",
                "dryRun": true,
                "userInfo": {"username": "test"},
                "object": pod(namespace, login),
                "oldObject": null,
            },
        })
        .to_string();
        let request = format!(
            "POST /mutate?timeout=5s HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{review}",
            review.len()
        );
        self.0.get_mut().write_all(request.as_bytes())?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err(format!("the connection ended: {head}").into());
            }
        }
        let length = head
            .to_ascii_lowercase()
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
            .ok_or_else(|| head.clone())?;
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(Answer { head, body })
    }
}

impl Answer {
    /// The JSON Patch of the review.
    pub fn patch(&self) -> Result<Value, Box<dyn Error>> {
        let review: Value = serde_json::from_slice(&self.body)?;
        let patch = review.pointer("/response/patch").and_then(Value::as_str);
        match patch {
            Some(patch) => Ok(serde_json::from_slice(&STANDARD.decode(patch)?)?),
            None => Ok(json!([])),
        }
    }
}

/// Asks once, and says whether the answer injects the registry's pull secret.
pub fn injects(
    replica: &Replica,
    bundle: &str,
    namespace: &str,
    login: &Login,
) -> Result<bool, Box<dyn Error>> {
    let patch = Connection::open(replica, bundle)?
        .ask(namespace, login)?
        .patch()?;
    Ok(patch
        .to_string()
        .contains(&format!("\"pullpass-{}\"", login.name)))
}

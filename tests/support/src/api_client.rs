use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

use crate::error::Error;
use crate::http;
use crate::loopback;
use crate::pki::Identity;
use crate::trust::trusting_as;

/// Calls an API server on loopback as an administrator, where a process of kubectl would take most of the time: to check whether
/// something is there yet, and for what each test does several times.
#[derive(Debug)]
pub(crate) struct ApiClient {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl ApiClient {
    /// Of the API server on this port, as somebody whom it knows.
    pub(crate) fn new(port: u16, authority_pem: &str, identity: &Identity) -> Result<Self, Error> {
        Ok(Self {
            address: loopback::at(port),
            tls: trusting_as(identity, authority_pem)?,
        })
    }

    /// What is at a path.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Error> {
        self.answer("GET", path, "")
    }

    /// Fails unless something is at a path.
    pub(crate) fn look(&self, path: &str) -> Result<(), Error> {
        self.call("GET", path, "").map(drop)
    }

    /// Deletes what is at a path.
    pub(crate) fn delete(&self, path: &str) -> Result<(), Error> {
        self.call("DELETE", path, "").map(drop)
    }

    /// Sends an object to a path, and gives the answer.
    pub(crate) fn post(&self, path: &str, object: &Value) -> Result<Value, Error> {
        self.answer("POST", path, &object.to_string())
    }

    fn answer(&self, method: &str, path: &str, body: &str) -> Result<Value, Error> {
        let answer = self.call(method, path, body)?;
        serde_json::from_str(&answer)
            .map_err(io::Error::other)
            .map_err(Error::io(format!("the answer to {method} {path}")))
    }

    fn call(&self, method: &str, path: &str, body: &str) -> Result<String, Error> {
        let Self { address, tls } = self;
        let what = || format!("{method} https://{address}{path}");
        let name = ServerName::from(address.ip());
        let connection =
            ClientConnection::new(Arc::clone(tls), name).map_err(|error| Error::Tls(error.to_string()))?;
        let socket = http::connect(*address).map_err(Error::io(what()))?;
        let stream = StreamOwned::new(connection, socket);
        http::say(stream, *address, method, path, body).map_err(Error::io(what()))
    }
}

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::error::Error;
use crate::http;
use crate::pki::Identity;
use crate::trust::trusting_as;

/// Asks an API server on loopback whether something is there yet. That is asked again and again while a control plane
/// starts, and a kubectl for each time would take a third of what the API server itself does until then.
#[derive(Debug)]
pub(crate) struct Probe {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Probe {
    /// Of the API server on this port, as somebody whom it knows.
    pub(crate) fn new(port: u16, authority_pem: &str, identity: &Identity) -> Result<Self, Error> {
        Ok(Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            tls: trusting_as(identity, authority_pem)?,
        })
    }

    /// Fails unless the API server answers a path with 200.
    pub(crate) fn look(&self, path: &str) -> Result<(), Error> {
        let Self { address, tls } = self;
        let what = || format!("GET https://{address}{path}");
        let name = ServerName::from(address.ip());
        let connection =
            ClientConnection::new(Arc::clone(tls), name).map_err(|error| Error::Tls(error.to_string()))?;
        let socket = http::connect(*address).map_err(Error::io(what()))?;
        let stream = StreamOwned::new(connection, socket);
        http::say(stream, *address, "GET", path, "")
            .map(drop)
            .map_err(Error::io(what()))
    }
}

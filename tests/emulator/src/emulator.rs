//! A running emulator and what a test does with it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::config::{Config, ConfigPatch, Principal, Registry, RoleAssignment, Secret, Tenant};
use crate::counts::Counts;
use crate::error::EmulatorError;
use crate::failure::Failure;
use crate::shared::Shared;
use crate::{backend, connect_proxy, control, dispatch, serve};

/// A running emulator; dropping it ends it and every connection to it.
pub struct Emulator {
    shared: Arc<Shared>,
    addr: SocketAddr,
    proxy_addr: SocketAddr,
    imds_addr: SocketAddr,
    control_addr: Option<SocketAddr>,
    listeners: Vec<JoinHandle<()>>,
}

impl Emulator {
    /// Starts an emulator on the current tokio runtime.
    pub async fn start(config: Config) -> Result<Self, EmulatorError> {
        let listen = config.listen;
        let shared = Arc::new(Shared::new(config)?);
        let mut listeners = Vec::new();

        let listener = TcpListener::bind(listen.tls).await?;
        let addr = listener.local_addr()?;
        let state = Arc::clone(&shared);
        listeners.push(tokio::spawn(serve::accept(listener, move |stream| {
            let handler = Arc::clone(&state);
            serve::tls(stream, Arc::clone(&state), move |request, connection| {
                dispatch::tls(Arc::clone(&handler), request, connection)
            })
        })));

        let listener = TcpListener::bind(listen.proxy).await?;
        let proxy_addr = listener.local_addr()?;
        let state = Arc::clone(&shared);
        listeners.push(tokio::spawn(serve::accept(listener, move |stream| {
            connect_proxy::serve(stream, Arc::clone(&state), addr)
        })));

        let listener = TcpListener::bind(listen.imds).await?;
        let imds_addr = listener.local_addr()?;
        let state = Arc::clone(&shared);
        listeners.push(tokio::spawn(serve::accept(listener, move |stream| {
            let handler = Arc::clone(&state);
            serve::plain(stream, move |request, connection| {
                dispatch::metadata(Arc::clone(&handler), request, connection)
            })
        })));

        let mut control_addr = None;
        if let Some(control) = listen.control {
            let listener = TcpListener::bind(control).await?;
            control_addr = Some(listener.local_addr()?);
            let state = Arc::clone(&shared);
            listeners.push(tokio::spawn(serve::accept(listener, move |stream| {
                let handler = Arc::clone(&state);
                serve::plain(stream, move |request, connection| {
                    control::answer(Arc::clone(&handler), request, connection)
                })
            })));
        }
        Ok(Self {
            shared,
            addr,
            proxy_addr,
            imds_addr,
            control_addr,
            listeners,
        })
    }

    /// The TLS listener: the Entra authorities and the registries.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The CONNECT proxy.
    pub fn proxy_addr(&self) -> SocketAddr {
        self.proxy_addr
    }

    /// The managed identity endpoint.
    pub fn imds_addr(&self) -> SocketAddr {
        self.imds_addr
    }

    /// The control API, if it was asked for.
    pub fn control_addr(&self) -> Option<SocketAddr> {
        self.control_addr
    }

    /// The certificate authority of the TLS listener, in PEM.
    pub fn ca_pem(&self) -> String {
        self.shared.keys.ca_pem()
    }

    /// Every host that is served.
    pub fn hosts(&self) -> Vec<String> {
        self.shared.directory().hosts()
    }

    /// `HOST:443:ADDR:PORT` for every host, in the form of pullpass' `--resolve`.
    pub fn resolve(&self) -> Vec<String> {
        self.hosts()
            .into_iter()
            .map(|host| format!("{host}:443:{}", self.addr))
            .collect()
    }

    /// The time here.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Moves the clock on: tokens expire, roles begin to act.
    pub fn advance(&self, by: Duration) {
        self.shared.clock.advance(by);
    }

    /// Sets how far the clock is ahead of the real one; negative: behind.
    pub fn set_clock_offset(&self, offset: SignedDuration) {
        self.shared.clock.set_offset(offset);
    }

    /// Replaces the parts that a patch has.
    pub fn configure(&self, patch: ConfigPatch) -> Result<(), EmulatorError> {
        self.shared.change(|directory, now| directory.patch(patch, now))
    }

    /// Adds a tenant, in place of one with the same ID.
    pub fn put_tenant(&self, tenant: Tenant) -> Result<(), EmulatorError> {
        self.shared.change(|directory, _| directory.put_tenant(tenant))
    }

    /// Adds a principal, in place of one with the same client ID.
    pub fn put_principal(&self, principal: Principal) -> Result<(), EmulatorError> {
        self.shared
            .change(|directory, _| directory.put_principal(principal))
    }

    /// Adds a registry, in place of one with the same host.
    pub fn put_registry(&self, registry: Registry) -> Result<(), EmulatorError> {
        self.shared
            .change(|directory, _| directory.put_registry(registry))
    }

    /// Gives a role.
    pub fn grant(&self, assignment: RoleAssignment) -> Result<(), EmulatorError> {
        self.shared
            .change(|directory, now| directory.grant(assignment, now))
    }

    /// Takes all roles of a principal on a registry away.
    pub fn revoke(&self, client_id: &str, registry: &str) -> Result<(), EmulatorError> {
        self.shared
            .change(|directory, _| directory.revoke(client_id, registry))
    }

    /// Replaces all passwords of a principal by one; whether there is such a principal.
    pub fn rotate_secret(&self, client_id: &str, value: &str) -> Result<bool, EmulatorError> {
        let Some(mut principal) = self.shared.directory().principal(client_id).cloned() else {
            return Ok(false);
        };
        principal.secrets = vec![Secret {
            value: value.to_owned(),
            expires_at: None,
        }];
        self.put_principal(principal)?;
        Ok(true)
    }

    /// Injects a failure; of several that a call meets, the oldest acts.
    pub fn inject(&self, failure: Failure) {
        self.shared.failures.inject(failure);
    }

    /// Ends all injected failures.
    pub fn clear_failures(&self) {
        self.shared.failures.clear();
    }

    /// What was called how often.
    pub fn counts(&self) -> Counts {
        self.shared.counters.snapshot()
    }

    /// How often a token was sent to the storage account, which is not to see one.
    pub fn leaked_tokens(&self) -> u64 {
        self.shared.storage.leaked_tokens()
    }

    /// Counts from zero again.
    pub fn reset_counts(&self) {
        self.shared.counters.reset();
    }

    /// Writes `config.yml` and `token-roots.pem` for a docker-registry that will listen at `addr` and keep its data
    /// under `directory`, and takes it for the backend; gives the path for `docker-registry serve` back.
    pub fn use_docker_registry(&self, addr: SocketAddr, directory: &Path) -> Result<PathBuf, EmulatorError> {
        let config = backend::write_config(&self.shared, addr, directory)?;
        let backend = Some(format!("http://{addr}"));
        self.configure(ConfigPatch {
            backend,
            ..ConfigPatch::default()
        })?;
        Ok(config)
    }

    /// The text of such a configuration, for callers that keep the files elsewhere.
    pub fn docker_registry_config(addr: SocketAddr, storage: &Path, root_certificates: &Path) -> String {
        backend::config_text(addr, storage, root_certificates)
    }

    /// The certificate that docker-registry must trust, in PEM.
    pub fn token_root_pem(&self) -> &str {
        &self.shared.keys.registry_certificate.1
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        for listener in &self.listeners {
            listener.abort();
        }
    }
}

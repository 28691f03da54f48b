//! Sockets: limits, and an end that loses nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connection::{Serving, ended, protocols, serve_plain, serve_tls};
use super::connections::{Connections, Place};
use super::limits::Limits;
use super::listener::listen;
use super::refusals::Refusals;
use super::tls::TlsConfig;
use crate::metrics::Metrics;
use crate::metrics::port::Refusal;

/// How long the listener waits when the system has no socket for a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Why a server ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The address can't be listened on.
    #[error("{address} can't be listened on: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The listener failed.
    #[error("the listener failed: {0}")]
    Listen(#[from] io::Error),
}

/// A server that listens. Its address is known before it serves.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    ending: Arc<watch::Sender<bool>>,
    limits: Limits,
    metrics: Option<Arc<Metrics>>,
}

impl Server {
    /// Listens on an address, which for `[::]` is every address of both families; port 0 means a free one.
    pub fn bind(address: SocketAddr, limits: Limits) -> Result<Self, ListenError> {
        let bound = listen(address).and_then(|listener| {
            let address = listener.local_addr()?;
            Ok((listener, address))
        });
        let (listener, address) = bound.map_err(|error| ListenError::Bind { address, error })?;
        Ok(Self {
            listener,
            address,
            ending: Arc::new(watch::Sender::new(false)),
            limits,
            metrics: None,
        })
    }

    /// The same, with its connections counted.
    #[must_use]
    pub fn counted(self, metrics: Arc<Metrics>) -> Self {
        Self {
            metrics: Some(metrics),
            ..self
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A switch that ends it after the requests in flight are answered.
    pub fn shutdown_handle(&self) -> impl FnOnce() + Send + 'static {
        let ending = Arc::clone(&self.ending);
        move || {
            ending.send_replace(true);
        }
    }

    /// Serves over TLS until it is ended.
    pub async fn serve_tls(self, config: TlsConfig, routes: Router) -> Result<(), ListenError> {
        let refusals = self.refusals();
        self.serve(routes, move |stream, address, place, serving| {
            let (config, refusals) = (config.current(), refusals.clone());
            async move {
                if serve_tls(stream, address, config, place, serving).await.is_err()
                    && let Some(refusals) = refusals
                {
                    refusals.count_quietly(Refusal::Handshake);
                }
            }
        })
        .await
    }

    /// Serves without TLS until it is ended.
    pub async fn serve_plain(self, routes: Router) -> Result<(), ListenError> {
        self.serve(routes, serve_plain).await
    }

    fn refusals(&self) -> Option<Arc<Refusals>> {
        let metrics = self.metrics.as_ref()?;
        Some(Arc::new(Refusals::new(Arc::clone(metrics))))
    }

    async fn serve<F>(
        self,
        routes: Router,
        serve: impl Fn(TcpStream, SocketAddr, Place, Serving) -> F,
    ) -> Result<(), ListenError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let refusals = self.refusals();
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let connections = Connections::new(self.limits.connections, self.metrics);
        let mut ending = self.ending.subscribe();
        let serving = Serving {
            routes,
            limits: self.limits,
            protocols: Arc::new(protocols(&self.limits)),
            ending: ending.clone(),
        };
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = ended(&mut ending) => break,
                // Those that are done make room for what is known of the next ones.
                Some(_) = tasks.join_next() => {}
                accepted = listener.accept() => {
                    let Ok((stream, address)) = accepted else {
                        tokio::time::sleep(ACCEPT_BACKOFF).await;
                        continue;
                    };
                    // A socket of both families has IPv4 addresses in IPv6 form.
                    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                    let admitted = connections.admit(address.ip());
                    if let (Some(peer), Some(refusals)) = (admitted.refused, &refusals) {
                        refusals.count(Refusal::Connections, &peer);
                    }
                    tasks.spawn(serve(stream, address, admitted.place, serving.clone()));
                }
            }
        }
        // A client that connects from now on is refused, and need not wait.
        drop(listener);
        let drained = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.limits.drain_timeout, drained)
            .await
            .is_err()
        {
            tasks.shutdown().await;
        }
        Ok(())
    }
}

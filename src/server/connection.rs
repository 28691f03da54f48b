//! One connection, from its acceptance to its end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;
use x509_parser::parse_x509_certificate;

use super::connections::{Connection, Place};
use super::limits::Limits;

/// How often an HTTP/2 peer is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a client may take to go, once it was asked to.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// What is read ahead of a request's consumer: over HTTP/1 its headers have to fit into that, over HTTP/2 it
/// is what a client may send before it is taken.
const HTTP1_BUFFER: usize = 32 << 10;
const HTTP2_WINDOW: u32 = 128 << 10;

/// Who sent a request: worked out once for a connection.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The text that an audit record has: the caller's address, or the subject of the client certificate that
    /// it presented.
    pub(super) peer: Arc<str>,
    pub(super) connection: Arc<Connection>,
}

/// What every connection of a port is served with.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) routes: Router,
    pub(super) limits: Limits,
    pub(super) protocols: Arc<Builder<TokioExecutor>>,
    /// Becomes true when the server shuts down.
    pub(super) ending: watch::Receiver<bool>,
}

/// Waits until a server is to shut down.
pub(super) async fn ended(ending: &mut watch::Receiver<bool>) {
    // Nobody who could tell any more is an end, too.
    drop(ending.wait_for(|ending| *ending).await);
}

/// The versions of HTTP, with their limits.
pub(super) fn protocols(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // Connections that are idle, or whose headers take too long, end by this module's own clock.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(HTTP1_BUFFER);
    // A peer that is gone without a word is found out; its streams would be held for ever.
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .max_concurrent_streams(limits.streams)
        .initial_stream_window_size(HTTP2_WINDOW)
        .initial_connection_window_size(HTTP2_WINDOW);
    builder
}

/// Serves a connection without TLS.
pub(super) async fn serve_plain(stream: TcpStream, address: SocketAddr, place: Place, serving: Serving) {
    serve(stream, address.to_string(), place, serving).await;
}

/// Serves a connection over TLS; the error is that of the handshake.
pub(super) async fn serve_tls(
    stream: TcpStream,
    address: SocketAddr,
    config: Arc<ServerConfig>,
    place: Place,
    mut serving: Serving,
) -> io::Result<()> {
    // The answer to a review is one small write: waiting for more to send only delays it.
    stream.set_nodelay(true)?;
    let handshake = TlsAcceptor::from(config).accept(stream);
    let stream = tokio::select! {
        biased;
        accepted = timeout(serving.limits.header_timeout, handshake) => accepted??,
        () = place.connection.ended() => return Ok(()),
        () = ended(&mut serving.ending) => return Ok(()),
    };
    let peer = subject(&stream).unwrap_or_else(|| address.to_string());
    serve(stream, peer, place, serving).await;
    Ok(())
}

/// The subject of the client's certificate, if it presented one.
fn subject(stream: &TlsStream<TcpStream>) -> Option<String> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    Some(certificate.subject().to_string())
}

async fn serve<S>(stream: S, peer: String, place: Place, serving: Serving)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Serving {
        routes,
        limits,
        protocols,
        mut ending,
    } = serving;
    let caller = Caller {
        peer: peer.into(),
        connection: Arc::clone(&place.connection),
    };
    let served = protocols.serve_connection(TokioIo::new(stream), service(routes, caller));
    let mut served = pin!(served);
    let opened = Instant::now();
    let (mut is_ending, mut gone) = (false, None);
    loop {
        // Once the server shuts down, it is the server that says how long the last requests may take.
        let deadline = gone.or_else(|| (!is_ending).then(|| useless_at(&place.connection, opened, &limits)));
        tokio::select! {
            biased;
            // An error is the client's, or the connection's: nobody is there to hear of it.
            _ = served.as_mut() => return,
            () = place.connection.ended() => return,
            () = ended(&mut ending), if !is_ending => {
                is_ending = true;
                served.as_mut().graceful_shutdown();
            }
            () = until(deadline) => {
                if gone.is_some() {
                    return;
                }
                if useless_at(&place.connection, opened, &limits) <= Instant::now() {
                    gone = Some(Instant::now() + CLOSE_TIMEOUT);
                    served.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Answers requests by the routes, and records when there are any.
fn service(
    routes: Router,
    caller: Caller,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Body>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
> {
    service_fn(move |mut request: Request<Incoming>| {
        let in_flight = caller.connection.begin();
        request.extensions_mut().insert(caller.clone());
        let answer = routes.clone().oneshot(request);
        async move {
            let answer = answer.await;
            drop(in_flight);
            answer
        }
    })
}

/// When a connection is of no use any more, unless a request begins before.
fn useless_at(connection: &Connection, opened: Instant, limits: &Limits) -> Instant {
    match connection.last_active() {
        None => opened + limits.header_timeout,
        // No request takes as long as that: one that seems to is an answer that nobody reads.
        Some(active) => active + limits.idle_timeout,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use axum::body::Bytes;
    use http_body_util::{BodyExt, Full};
    use hyper::client::conn::{http1, http2};
    use tokio::io::duplex;
    use tokio::time::sleep;

    use super::super::connections::Connections;
    use super::*;

    /// How long an API server keeps a connection that it does not use.
    const API_SERVER: Duration = Duration::from_secs(90);

    /// A client, over one version of HTTP.
    enum Sender {
        Http1(http1::SendRequest<Full<Bytes>>),
        Http2(http2::SendRequest<Full<Bytes>>),
    }

    impl Sender {
        async fn connect(
            stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
            is_http2: bool,
        ) -> Self {
            let stream = TokioIo::new(stream);
            if is_http2 {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
                tokio::spawn(connection);
                Self::Http2(sender)
            } else {
                let (sender, connection) = http1::handshake(stream).await.unwrap();
                tokio::spawn(connection);
                Self::Http1(sender)
            }
        }

        async fn send(&mut self) {
            let request = Request::get("http://a.example/").body(Full::default()).unwrap();
            let answer = match self {
                Self::Http1(sender) => sender.send_request(request).await,
                Self::Http2(sender) => sender.send_request(request).await,
            };
            let body = answer.unwrap().into_body().collect().await.unwrap();
            assert_eq!(body.to_bytes(), "answered");
        }
    }

    /// A clock that the test moves: it stands while there is something to do, and otherwise moves to the next timer.
    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_kept_for_longer_than_by_api_servers() {
        for is_http2 in [false, true] {
            let (near, far) = duplex(64 << 10);
            let connections = Connections::new(1, None);
            let place = connections.admit(IpAddr::from(Ipv4Addr::LOCALHOST)).place;
            let limits = Limits::default();
            let (_end, ending) = watch::channel(false);
            let serving = Serving {
                routes: Router::new().fallback(async || "answered"),
                limits,
                protocols: Arc::new(protocols(&limits)),
                ending,
            };
            let served = tokio::spawn(serve(far, "a peer".to_owned(), place, serving));
            let mut sender = Sender::connect(near, is_http2).await;
            sender.send().await;
            sleep(API_SERVER + Duration::from_secs(20)).await;
            sender.send().await;
            let idle_since = Instant::now();
            served.await.unwrap();
            let idle = idle_since.elapsed();
            let end = limits.idle_timeout..=limits.idle_timeout + CLOSE_TIMEOUT;
            assert!(end.contains(&idle), "{idle:?}, HTTP/2: {is_http2}");
        }
    }
}

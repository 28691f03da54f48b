//! Accepting connections, with and without TLS.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::reply::Reply;
use crate::shared::Shared;

/// How long a refused `accept`, for example because there are no file descriptors, is waited out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Runs one task for each connection; dropping the future ends them all.
pub(crate) async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(serve(stream));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Serves HTTP/1.1 and HTTP/2 over TLS.
pub(crate) async fn tls<A, F>(stream: TcpStream, shared: Arc<Shared>, answer: A)
where
    A: Fn(Request<Incoming>, Connection) -> F,
    F: Future<Output = Reply> + Send + 'static,
{
    let connection = Connection::default();
    let stream = Resettable {
        stream,
        connection: connection.clone(),
    };
    if let Ok(stream) = TlsAcceptor::from(shared.tls()).accept(stream).await {
        http(stream, connection, answer).await;
    }
}

/// Serves HTTP without TLS.
pub(crate) async fn plain<A, F>(stream: TcpStream, answer: A)
where
    A: Fn(Request<Incoming>, Connection) -> F,
    F: Future<Output = Reply> + Send + 'static,
{
    let connection = Connection::default();
    http(
        Resettable {
            stream,
            connection: connection.clone(),
        },
        connection,
        answer,
    )
    .await;
}

async fn http<S, A, F>(stream: S, connection: Connection, answer: A)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>, Connection) -> F,
    F: Future<Output = Reply> + Send + 'static,
{
    let service = service_fn(|request| {
        let reply = answer(request, connection.clone());
        async { Ok::<_, Infallible>(reply.await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A connection that the client breaks off is the client's business.
        _ = served => {}
        () = connection.closing.notified() => {}
    }
}

/// A handle with which a handler can break its own connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connection {
    closing: Arc<Notify>,
    reset: Arc<AtomicBool>,
}

impl Connection {
    /// Resets the TCP connection. The handler that calls this is dropped at its next `await`.
    pub(crate) fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
        self.closing.notify_one();
    }
}

/// A TCP stream that ends in a reset, and not in an orderly close, when its connection says so.
struct Resettable {
    stream: TcpStream,
    connection: Connection,
}

impl Drop for Resettable {
    fn drop(&mut self) {
        if self.connection.reset.load(Ordering::Relaxed) {
            // When even this fails, the client sees an end without TLS' close_notify instead.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Resettable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Resettable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

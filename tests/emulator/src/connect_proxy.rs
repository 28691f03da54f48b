//! An HTTP CONNECT proxy by which clients reach the emulator's hosts under their real names.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::shared::Shared;

/// Serves one client. Every served host leads, at port 443, to the TLS listener; nothing else leads anywhere.
pub(crate) async fn serve(stream: TcpStream, shared: Arc<Shared>, tls: SocketAddr) {
    let service = service_fn(|request| {
        let status = connect(request, &shared, tls);
        async move {
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A client that breaks off is its own business.
    let _ = connection.with_upgrades().await;
}

fn connect(request: Request<Incoming>, shared: &Shared, tls: SocketAddr) -> StatusCode {
    if request.method() != Method::CONNECT {
        return StatusCode::METHOD_NOT_ALLOWED;
    }
    let target = request
        .uri()
        .authority()
        .filter(|target| target.port_u16() == Some(443));
    let host = target
        .map(|target| target.host().to_ascii_lowercase())
        .unwrap_or_default();
    if !shared.directory().hosts().contains(&host) {
        return StatusCode::FORBIDDEN;
    }
    tokio::spawn(async move {
        if let Ok(client) = hyper::upgrade::on(request).await
            && let Ok(mut server) = TcpStream::connect(tls).await
        {
            let mut client = TokioIo::new(client);
            // Either side may end the tunnel in any way it likes.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    });
    StatusCode::OK
}

//! The HTTP side: the webhook over TLS, and the plain port with health and metrics (design, section 6).

mod health;
mod listen;
mod peer;
mod tls;
mod webhook;

pub use health::{Readiness, admin_router};
pub use listen::{Limits, ServeError, Server};
pub use peer::Peer;
pub use tls::{Certificate, TlsError, TlsFiles, TlsReloader};
pub use webhook::{Webhook, webhook_router};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// An error as a line of JSON.
fn error(status: StatusCode, message: &str) -> Response {
    let body = format!("{}\n", serde_json::json!({"error": message}));
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

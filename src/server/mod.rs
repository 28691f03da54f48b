//! The HTTP side: the webhook over TLS, and the plain port with health and metrics (`docs/design.md`, "HTTP").

mod body;
mod budget;
mod connection;
mod connections;
mod health;
mod limits;
mod listen;
mod listener;
mod refusals;
mod served;
mod tls;
mod webhook;

pub use budget::BodyLimits;
pub use health::admin_router;
pub use limits::Limits;
pub use listen::{ListenError, Server};
pub use served::{ServedTls, TlsMaker};
pub use tls::{Certificate, TlsConfig, TlsError, TlsFiles, TlsReloader};
pub use webhook::{Webhook, webhook_router};

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The name of a request that is not a review: a review has a `uid`. The log and the answer have it.
#[derive(Debug, Clone, Copy)]
struct RequestId(u64);

impl RequestId {
    /// One that no other request has, here; and that is unlikely to be another process'.
    fn next() -> Self {
        static BASE: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one("request"));
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self(BASE.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed)))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// An error as a line of JSON.
fn error(status: StatusCode, message: &str) -> Response {
    let body = format!("{}\n", serde_json::json!({"error": message}));
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

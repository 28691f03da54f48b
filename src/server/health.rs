//! `/healthz`, `/readyz` and `/metrics`, on a port of their own and without TLS.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::error;
use crate::metrics::Metrics;

/// What must hold before reviews are sent here. Azure is none of it: what is known is served during an outage.
#[derive(Debug, Default)]
pub struct Readiness {
    /// The certificate was read.
    pub certificate: AtomicBool,
    /// The registries were read once.
    pub registries: AtomicBool,
    /// The namespaces were read once.
    pub namespaces: AtomicBool,
    /// The process was told to end.
    pub ending: AtomicBool,
}

impl Readiness {
    /// Each check by name, and whether it holds.
    pub fn checks(&self) -> [(&'static str, bool); 4] {
        let Self {
            certificate,
            registries,
            namespaces,
            ending,
        } = self;
        [
            ("certificate", certificate.load(Ordering::Acquire)),
            ("registries", registries.load(Ordering::Acquire)),
            ("namespaces", namespaces.load(Ordering::Acquire)),
            ("not-ending", !ending.load(Ordering::Acquire)),
        ]
    }

    /// Whether registries and namespaces were read once.
    pub fn caches_filled(&self) -> bool {
        self.registries.load(Ordering::Acquire) && self.namespaces.load(Ordering::Acquire)
    }

    /// Whether every check holds.
    pub fn is_ready(&self) -> bool {
        self.checks().iter().all(|(_, holds)| *holds)
    }
}

/// The routes of the plain port.
pub fn admin_router(readiness: Arc<Readiness>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/healthz", get("ok\n"))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(read_metrics).with_state(metrics))
        .fallback(async || {
            error(
                StatusCode::NOT_FOUND,
                "there are only /healthz, /readyz and /metrics here",
            )
        })
}

async fn readyz(State(readiness): State<Arc<Readiness>>, RawQuery(query): RawQuery) -> Response {
    let ready = readiness.is_ready();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let verbose = query.is_some_and(|query| {
        query
            .split('&')
            .any(|pair| pair.split('=').next() == Some("verbose"))
    });
    let mut text = String::new();
    if verbose || !ready {
        for (name, holds) in readiness.checks() {
            // Writing into a `String` can't fail.
            let _ = writeln!(text, "[{}] {name}", if holds { '+' } else { '-' });
        }
    }
    text.push_str(if ready { "ok\n" } else { "not ready\n" });
    (status, text).into_response()
}

async fn read_metrics(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.encode() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics could not be written",
        ),
    }
}

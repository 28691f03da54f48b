//! Answers one review: reads it, decides, records, encodes. Everything between a body and an answer, without the
//! transport.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use thiserror::Error;

use crate::audit::{AuditLog, Record, annotations};
use crate::controllers::demand::DemandSender;
use crate::decision::{Decision, Settings, decide, pull_secrets_patch};
use crate::metrics::Metrics;
use crate::review::{AuditAnnotations, ReviewError, ReviewRequest, ReviewResponse};
use crate::view::View;

/// What every answer depends on.
#[derive(Debug)]
pub struct Admission {
    view: Arc<View>,
    settings: Settings,
    audit: Arc<AuditLog>,
    metrics: Arc<Metrics>,
    demand: Option<DemandSender>,
}

/// Why a review could not be answered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AdmissionError {
    /// The body is not a review.
    #[error(transparent)]
    Review(#[from] ReviewError),
    /// The answer could not be written as JSON.
    #[error("the answer could not be encoded: {0}")]
    Encode(#[from] serde_json::Error),
}

impl Admission {
    /// Admission with these settings, on what the view knows.
    pub fn new(view: Arc<View>, settings: Settings, audit: Arc<AuditLog>, metrics: Arc<Metrics>) -> Self {
        Self {
            view,
            settings,
            audit,
            metrics,
            demand: None,
        }
    }

    /// The same, and what a Pod needs is told to whoever writes pull secrets.
    #[must_use]
    pub fn with_demand(self, demand: DemandSender) -> Self {
        Self {
            demand: Some(demand),
            ..self
        }
    }

    /// Answers the review in `body`; `peer` is who sent it.
    pub fn answer(&self, body: &[u8], peer: &str) -> Result<Vec<u8>, AdmissionError> {
        let arrived = Instant::now();
        let request = ReviewRequest::decode(body)?;
        let registries = self.view.registries();
        let labels = self.view.labels(&request.namespace);
        let decision = decide(&request, &registries, labels.as_deref(), &self.settings);
        let answer = encode(&request, &decision)?;
        if let Some(demand) = self.demand.as_ref().filter(|_| !request.dry_run) {
            demand.send(&request.namespace, &decision.demanded);
        }
        self.record(&request, &decision, peer, arrived.elapsed());
        Ok(answer)
    }

    fn record(&self, request: &ReviewRequest<'_>, decision: &Decision<'_>, peer: &str, took: Duration) {
        self.audit.write(&Record {
            time: Timestamp::now(),
            request,
            decision,
            mode: self.settings.scope.mode(),
            peer,
            duration_micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        });
        self.metrics.admission(request.operation, decision.outcome, took);
        for violation in &decision.violations {
            self.metrics.violation(violation.rule, violation.action);
        }
    }
}

/// The answer that a decision leads to, as an `AdmissionReview` in JSON.
pub fn encode(request: &ReviewRequest<'_>, decision: &Decision<'_>) -> Result<Vec<u8>, serde_json::Error> {
    let patch = if decision.secrets.is_empty() {
        None
    } else {
        let patch = pull_secrets_patch(&decision.secrets, request.pod.pull_secrets.is_some());
        Some(serde_json::to_vec(&patch)?)
    };
    let (injected, violations) = annotations(decision);
    ReviewResponse {
        uid: &request.uid,
        allowed: decision.denial.is_none(),
        denial: decision.denial.as_deref(),
        patch: patch.as_deref(),
        warnings: &decision.warnings,
        audit_annotations: AuditAnnotations {
            decision: decision.outcome.as_str(),
            injected: &injected,
            violations: &violations,
        },
    }
    .encode()
}

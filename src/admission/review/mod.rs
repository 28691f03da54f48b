//! `AdmissionReview` of `admission.k8s.io/v1`: the part of a request that a decision needs, and the answer.

mod request;
mod response;

pub use request::ReviewError;
pub use response::{AuditAnnotations, ReviewResponse};

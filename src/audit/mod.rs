//! The policy audit log: one JSON object a line for every decision (design, section 5; `docs/audit.schema.json`).

mod record;
mod sink;

pub use record::{Record, annotations};
pub use sink::{AuditLog, Destination};

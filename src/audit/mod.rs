//! The policy audit log: one JSON object a line for every decision (`docs/audit.md`; `docs/audit.schema.json`).
//!
//! A record is made into a line once and queued for each destination, which has a buffer and a thread of its own: none
//! of them delays an answer, or another destination.

mod channel;
mod log;
pub mod otlp;
mod record;
mod sink;
mod stream;

pub use log::AuditLog;
pub use record::Record;
pub use stream::Destination;

//! Reading a few fields out of a large JSON document without building it.
//!
//! An `AdmissionReview` is mostly environment variables and `managedFields`, which no decision needs. What is not
//! asked for is skipped 64 bytes at a time by counting brackets outside strings; it is not checked beyond that.
//! What is asked for is read by the grammar (RFC 8259), borrowed from the input where it has no escapes.

mod reader;
mod skip;

pub use reader::{JsonError, Reader};
